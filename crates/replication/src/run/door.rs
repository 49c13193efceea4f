//! The way into a front or reader: a bounded queue, and a bell. Who waits for
//! company sleeps until enough has gathered in the queue: waking for each
//! command would cost more than the command.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, mpsc};

/// Nobody waits for the bell.
const SILENT: usize = usize::MAX;

/// What enters by a [`Door`].
pub(crate) trait Arrival {
    /// Whether this is a single command. Other arrivals ring at once: they may
    /// bring many, and whoever takes them counts.
    fn is_single(&self) -> bool;
}

struct Bell {
    /// Rings when the queue holds this many events.
    at: AtomicUsize,
    rings: Notify,
}

/// Where events enter. One side of [`door`].
pub(crate) struct Door<A> {
    queue: mpsc::Sender<A>,
    bell: Arc<Bell>,
}

/// What came of waiting at an inbox.
pub(crate) enum Came {
    /// Something.
    Arrivals,
    /// Enough may have gathered.
    Bell,
    /// Nobody will send any more.
    End,
}

/// Where they are taken. The other side of [`door`].
pub(crate) struct Inbox<A> {
    queue: mpsc::Receiver<A>,
    bell: Arc<Bell>,
}

/// A queue of at most `capacity` arrivals.
pub(crate) fn door<A: Arrival>(capacity: usize) -> (Door<A>, Inbox<A>) {
    let (sender, receiver) = mpsc::channel(capacity);
    let bell = Arc::new(Bell { at: AtomicUsize::new(SILENT), rings: Notify::new() });
    (Door { queue: sender, bell: bell.clone() }, Inbox { queue: receiver, bell })
}

impl<A: Arrival> Door<A> {
    /// Queues an arrival; `false`: the queue is full, or nobody takes any more.
    pub(crate) fn try_send(&self, arrival: A) -> bool {
        let single = arrival.is_single();
        let taken = self.queue.try_send(arrival).is_ok();
        self.ring(single);
        taken
    }

    /// The same, but waits for room.
    pub(crate) async fn send(&self, arrival: A) -> bool {
        let taken = self.queue.send(arrival).await.is_ok();
        self.ring(false);
        taken
    }

    fn ring(&self, single: bool) {
        let at = self.bell.at.load(Ordering::SeqCst);
        if at != SILENT && (!single || self.queue.max_capacity() - self.queue.capacity() >= at) {
            self.bell.rings.notify_one();
        }
    }
}

impl<A: Arrival> Inbox<A> {
    /// Takes the next arrivals, at most `limit`; if `resting`, waits for the
    /// bell instead, which may ring for nothing. Cancel safe.
    pub(crate) async fn next(&mut self, resting: bool, arrivals: &mut Vec<A>, limit: usize) -> Came {
        if resting {
            self.bell.rings.notified().await;
            return Came::Bell;
        }
        match self.queue.recv_many(arrivals, limit).await {
            0 => Came::End,
            _ => Came::Arrivals,
        }
    }

    /// The next arrival, if there is one.
    pub(crate) fn try_recv(&mut self) -> Option<A> {
        self.queue.try_recv().ok()
    }

    /// Lets the bell ring when this many have gathered; `None`: never.
    pub(crate) fn ring_at(&self, gathered: Option<usize>) {
        self.bell.at.store(gathered.unwrap_or(SILENT), Ordering::SeqCst);
        if gathered.is_some_and(|gathered| self.queue.len() >= gathered) {
            self.bell.rings.notify_one();
        }
    }
}
