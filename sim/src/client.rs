//! Clients: tasks on a runtime of their own that never crashes. A client asks
//! a node through its door, on that node's runtime, as if it were connected to
//! it: when the node dies, so does the request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use trine_types::NodeNumber;

use crate::clock::WorldTime;
use crate::door::{Answer, Door, Request};
use crate::history::History;
use crate::random::Rng;

/// The entry of one node that is up.
#[derive(Debug, Clone)]
struct Entry<D> {
    handle: Handle,
    door: D,
    /// Told when the node dies. A runtime drops its tasks in an order that
    /// depends on what else the process has run; this wakes who waits in the
    /// order in which they began to.
    died: Arc<Notify>,
}

/// The doors of all nodes that are up right now.
#[derive(Debug)]
pub struct Doors<D> {
    // A lock because the world writes and client tasks read; one thread only.
    open: Arc<Mutex<BTreeMap<NodeNumber, Entry<D>>>>,
}

impl<D> Clone for Doors<D> {
    fn clone(&self) -> Self {
        Self { open: Arc::clone(&self.open) }
    }
}

impl<D> Default for Doors<D> {
    fn default() -> Self {
        Self { open: Arc::default() }
    }
}

impl<D: Door> Doors<D> {
    fn with<T>(&self, run: impl FnOnce(&mut BTreeMap<NodeNumber, Entry<D>>) -> T) -> T {
        run(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Opens the door of a node, or closes it before the node is dropped.
    pub(crate) fn set(&self, node: NodeNumber, entry: Option<(Handle, D)>) {
        self.with(|open| match entry {
            Some((handle, door)) => {
                open.insert(node, Entry { handle, door, died: Arc::default() });
            }
            None => {
                if let Some(entry) = open.remove(&node) {
                    entry.died.notify_waiters();
                }
            }
        });
    }

    /// The nodes that can be asked.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeNumber> {
        self.with(|open| open.keys().copied().collect())
    }

    /// Runs `work` with the node's door on the node's runtime. `None` if the
    /// node is down or dies before the end.
    pub async fn visit<T, F>(&self, node: NodeNumber, work: impl FnOnce(D) -> F) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let Entry { handle, door, died } = self.with(|open| open.get(&node).cloned())?;
        let answer = handle.spawn(work(door));
        tokio::select! {
            biased;
            () = died.notified() => None,
            answer = answer => answer.ok(),
        }
    }
}

/// One client.
#[derive(Debug)]
pub struct Client<D> {
    /// Its number.
    pub index: usize,
    /// Its choices.
    pub rng: Rng,
    /// The nodes.
    pub doors: Doors<D>,
    /// What all clients saw.
    pub history: History,
    /// The world's time.
    pub time: WorldTime,
    /// How long it waits for an answer.
    pub patience: Duration,
}

impl<D: Door> Client<D> {
    /// Any node that is up; waits while there is none.
    pub async fn any_node(&mut self) -> NodeNumber {
        loop {
            if let Some(node) = self.rng.pick(&self.doors.nodes()) {
                return *node;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Asks `node` and records both the call and the answer.
    pub async fn ask(&mut self, node: NodeNumber, request: Request) -> Answer {
        let at = self.history.called(self.index, self.time.now_ms(), &request);
        let visit = self.doors.visit(node, move |door| async move { door.execute(request).await });
        let answer = match tokio::time::timeout(self.patience, visit).await {
            Ok(Some(answer)) => answer,
            Ok(None) => Answer::Unknown("the node died".to_owned()),
            Err(_) => Answer::Unknown("no answer in time".to_owned()),
        };
        self.history.answered(at, self.time.now_ms(), answer.clone());
        answer
    }

    /// Sleeps for a random time up to `most_ms`.
    pub async fn think(&mut self, most_ms: u64) {
        let pause = Duration::from_millis(self.rng.between(0, most_ms));
        tokio::time::sleep(pause).await;
    }
}
