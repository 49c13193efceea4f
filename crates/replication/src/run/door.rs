//! The way into a front: a bounded queue, and a bell. A front that waits for
//! company sleeps until enough has gathered in its queue: waking it for each
//! command would cost more than the command.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, mpsc};

use super::front::FrontEvent;

/// Nobody waits for the bell.
const SILENT: usize = usize::MAX;

struct Bell {
    /// Rings when the queue holds this many events.
    at: AtomicUsize,
    rings: Notify,
}

/// Where events enter. One side of [`door`].
pub(crate) struct Door {
    queue: mpsc::Sender<FrontEvent>,
    bell: Arc<Bell>,
}

/// What came of waiting at an inbox.
pub(crate) enum Came {
    /// Events.
    Events,
    /// Enough may have gathered.
    Bell,
    /// Nobody will send any more.
    End,
}

/// Where the front takes them. The other side of [`door`].
pub(crate) struct Inbox {
    queue: mpsc::Receiver<FrontEvent>,
    bell: Arc<Bell>,
}

/// A queue of at most `capacity` events.
pub(crate) fn door(capacity: usize) -> (Door, Inbox) {
    let (sender, receiver) = mpsc::channel(capacity);
    let bell = Arc::new(Bell { at: AtomicUsize::new(SILENT), rings: Notify::new() });
    (Door { queue: sender, bell: bell.clone() }, Inbox { queue: receiver, bell })
}

impl Door {
    /// Queues an event; `false`: the queue is full, or the front has ended.
    pub(crate) fn try_send(&self, event: FrontEvent) -> bool {
        let one = matches!(event, FrontEvent::Propose { .. });
        let taken = self.queue.try_send(event).is_ok();
        self.ring(one);
        taken
    }

    /// The same, but waits for room.
    pub(crate) async fn send(&self, event: FrontEvent) -> bool {
        let taken = self.queue.send(event).await.is_ok();
        self.ring(false);
        taken
    }

    /// A part of another node brings many commands: the front counts them.
    fn ring(&self, one: bool) {
        let at = self.bell.at.load(Ordering::SeqCst);
        if at != SILENT && (!one || self.queue.max_capacity() - self.queue.capacity() >= at) {
            self.bell.rings.notify_one();
        }
    }
}

impl Inbox {
    /// Takes the next events, at most `limit`; if `resting`, waits for the bell
    /// instead, which may ring for nothing. Cancel safe.
    pub(crate) async fn next(&mut self, resting: bool, events: &mut Vec<FrontEvent>, limit: usize) -> Came {
        if resting {
            self.bell.rings.notified().await;
            return Came::Bell;
        }
        match self.queue.recv_many(events, limit).await {
            0 => Came::End,
            _ => Came::Events,
        }
    }

    /// The next event, if there is one.
    pub(crate) fn try_recv(&mut self) -> Option<FrontEvent> {
        self.queue.try_recv().ok()
    }

    /// Lets the bell ring when `events` have gathered; `None`: never.
    pub(crate) fn ring_at(&self, events: Option<usize>) {
        self.bell.at.store(events.unwrap_or(SILENT), Ordering::SeqCst);
        if events.is_some_and(|events| self.queue.len() >= events) {
            self.bell.rings.notify_one();
        }
    }
}
