//! The bus: brings each published message to the subscriptions that match it.
//!
//! Delivery runs on the publisher's task from a cache of its own; the table of
//! subscriptions is locked only when something is subscribed, or published to
//! for the first time since. What is full makes its publishers wait.
//!
//! | file | what |
//! |---|---|
//! | [`receiver`] | what the bus delivers to; where publishers wait |
//! | [`outbox`] | bytes that wait for one receiver |
//! | `leeway` | how many that take nothing need not be waited for |
//! | `table` | who subscribed to what |
//! | `routes` | where the messages of one subject go |
//! | `cache` | which of them a publisher remembers |
//! | [`publisher`] | the sending side |
//! | [`subscriber`] | receiving within this process |

mod cache;
mod leeway;
pub mod outbox;
pub mod publisher;
pub mod receiver;
mod routes;
#[cfg(test)]
mod stories;
pub mod subscriber;
mod table;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use trine_types::NodeId;
use trine_types::subject::is_valid_filter;

use self::cache::Versions;
use self::leeway::Leeway;
use self::publisher::Publisher;
use self::receiver::{Carrier, Interest, Receiver};
use self::routes::Local;
use self::subscriber::Subscriber;
use self::table::Table;

/// Most subscriptions of one node, those that it knows of other nodes
/// included: about 300 MB of memory.
pub const MAX_SUBSCRIPTIONS: usize = 1_000_000;

/// Longest name of a queue group, in bytes.
pub const MAX_QUEUE_BYTES: usize = 1024;

/// What everyone at one bus shares.
struct Shared {
    // A task could own it, but every publish to a new subject would then wait
    // for two wake-ups; readers of a lock wait for a lookup at most.
    table: RwLock<Table>,
    versions: Versions,
    leeway: Leeway,
    seed: u64,
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a subscription was refused. Nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// Correct the filter: see [`trine_types::subject`].
    #[error("not a valid filter: tokens must not be empty or hold whitespace, and > must be the last one")]
    InvalidFilter,
    /// Correct the queue group's name.
    #[error("not a valid queue group: 1 to {MAX_QUEUE_BYTES} bytes without whitespace")]
    InvalidQueue,
    /// The node has as many as it can bear: unsubscribe from something, or
    /// subscribe at another node.
    #[error("this node has its most subscriptions already ({MAX_SUBSCRIPTIONS})")]
    TooMany,
}

/// Names one subscription of an [`Attachment`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SubId(u64);

/// One node's bus. Cheap to clone.
#[derive(Clone)]
pub struct Bus {
    shared: Arc<Shared>,
}

impl Bus {
    /// An empty bus. Members of queue groups are chosen by `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let (versions, leeway) = (Versions::default(), Leeway::default());
        let shared = Shared { table: RwLock::default(), versions, leeway, seed };
        Self { shared: Arc::new(shared) }
    }

    /// Lets `receiver` subscribe. The receiver must not own the attachment:
    /// neither would ever be dropped.
    #[must_use]
    pub fn attach(&self, receiver: Arc<dyn Receiver>) -> Attachment {
        let id = self.shared.write().next_id();
        Attachment { bus: self.clone(), id, receiver, subscriptions: BTreeMap::new() }
    }

    /// A publisher that subscribes to nothing itself; see
    /// [`Attachment::publisher`] for one that does.
    #[must_use]
    pub fn publisher(&self) -> Publisher {
        self.publisher_of(None)
    }

    fn publisher_of(&self, owner: Option<u64>) -> Publisher {
        let number = owner.unwrap_or_else(|| self.shared.write().next_id());
        let seed = self.shared.seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Publisher::new(self.shared.clone(), owner, seed)
    }

    /// A subscriber in this process.
    #[must_use]
    pub fn subscriber(&self) -> Subscriber {
        Subscriber::new(self)
    }

    /// How many subscriptions there are, those of other nodes included.
    #[must_use]
    pub fn subscriptions(&self) -> usize {
        self.shared.read().len()
    }
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bus").field("subscriptions", &self.subscriptions()).finish_non_exhaustive()
    }
}

/// For links to other nodes.
impl Bus {
    /// Adds the link to `peer`, whose carrier is told of changes from now on.
    pub fn link(&self, peer: NodeId, carrier: Arc<dyn Carrier>) {
        self.shared.write().link(peer, carrier);
        self.shared.versions.changed_all();
    }

    /// Gives `start` what this node wants, as of now: no change comes between
    /// this and what the carriers are told.
    pub fn wanted(&self, start: impl FnOnce(&mut dyn Iterator<Item = Interest>)) {
        start(&mut self.shared.write().wanted());
    }

    /// Removes the link to `peer` and everything that it wanted.
    pub fn unlink(&self, peer: NodeId) {
        self.shared.write().unlink(peer);
        self.shared.versions.changed_all();
    }

    /// Forgets what `peer` wants.
    pub fn forget(&self, peer: NodeId) {
        self.shared.write().forget(peer);
        self.shared.versions.changed_all();
    }

    /// Notes what `peer` wants now; false if it cannot be noted, because the
    /// filter is invalid or there is too much of it.
    pub fn want(&self, peer: NodeId, interest: Interest) -> bool {
        let filter = interest.filter.clone();
        if !is_valid_filter(&filter) || interest.queue.as_ref().is_some_and(|queue| !is_valid_queue(queue)) {
            return false;
        }
        let mut table = self.shared.write();
        if interest.members > 0 && table.len() >= MAX_SUBSCRIPTIONS {
            return false;
        }
        table.want(peer, interest);
        self.shared.versions.changed(&filter);
        true
    }

    /// How many filters `peer` wants.
    pub fn wants_of(&self, peer: NodeId) -> usize {
        self.shared.read().wants(peer)
    }
}

fn is_valid_queue(queue: &[u8]) -> bool {
    (1..=MAX_QUEUE_BYTES).contains(&queue.len()) && !queue.iter().any(u8::is_ascii_whitespace)
}

/// A receiver's subscriptions; dropping it ends them all.
pub struct Attachment {
    bus: Bus,
    id: u64,
    receiver: Arc<dyn Receiver>,
    subscriptions: BTreeMap<SubId, (Bytes, Option<Bytes>)>,
}

impl Attachment {
    /// Subscribes to `filter`, as a member of the group `queue` if that is
    /// given. `sid` is handed to [`Receiver::deliver`] with each message.
    /// Holds for every message published after this returns.
    ///
    /// # Errors
    /// [`SubscribeError`]; nothing was subscribed to.
    pub fn subscribe(
        &mut self,
        filter: Bytes,
        queue: Option<Bytes>,
        sid: Bytes,
    ) -> Result<SubId, SubscribeError> {
        if !is_valid_filter(&filter) {
            return Err(SubscribeError::InvalidFilter);
        }
        if queue.as_ref().is_some_and(|queue| !is_valid_queue(queue)) {
            return Err(SubscribeError::InvalidQueue);
        }
        let shared = &self.bus.shared;
        let mut table = shared.write();
        if table.len() >= MAX_SUBSCRIPTIONS {
            return Err(SubscribeError::TooMany);
        }
        let local = Local { receiver: self.receiver.clone(), sid, owner: self.id };
        let id = SubId(table.subscribe(&filter, queue.as_ref(), local));
        shared.versions.changed(&filter);
        drop(table);
        self.subscriptions.insert(id, (filter, queue));
        Ok(id)
    }

    /// Ends one subscription; nothing published after this returns reaches it.
    pub fn unsubscribe(&mut self, id: SubId) {
        let Some((filter, queue)) = self.subscriptions.remove(&id) else { return };
        let shared = &self.bus.shared;
        let mut table = shared.write();
        table.unsubscribe(&filter, queue.as_ref(), id.0);
        shared.versions.changed(&filter);
    }

    /// A publisher of the same client: see [`Publisher::set_echo`].
    #[must_use]
    pub fn publisher(&self) -> Publisher {
        self.bus.publisher_of(Some(self.id))
    }

    /// How many subscriptions it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.subscriptions.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.subscriptions.is_empty()
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let shared = &self.bus.shared;
        let mut table = shared.write();
        for (id, (filter, queue)) in &self.subscriptions {
            table.unsubscribe(filter, queue.as_ref(), id.0);
            shared.versions.changed(filter);
        }
    }
}

impl std::fmt::Debug for Attachment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attachment").field("subscriptions", &self.len()).finish_non_exhaustive()
    }
}
