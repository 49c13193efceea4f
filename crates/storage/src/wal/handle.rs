//! What other rooms hold: [`Wal`] for the node, [`GroupLog`] for a group.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use trine_types::GroupId;

use super::config::{Driver, WalConfig};
use super::queue::{Change, Group, Operation, Queue};
use super::{Done, LogBounds, LogEntry, LogPosition, Pin, Space, WalError, WalStats, run};
use crate::disk::Disk;

/// Largest payload of an entry, in bytes: one frame between nodes, twice over.
pub const MAX_PAYLOAD_BYTES: usize = 2 * trine_types::limits::MAX_FRAME_BYTES;

/// The node's log. Clones are handles to the same log; the writer stops when
/// the last handle (including every [`GroupLog`]) is gone or after
/// [`Wal::close`].
#[derive(Clone)]
pub struct Wal {
    inner: Arc<Inner>,
}

/// Closes the queue when the last handle goes, so that the writer stops.
struct Inner {
    shared: Arc<Shared>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

/// What handles and writer share.
pub(super) struct Shared {
    pub(super) queue: Queue,
    // Opened from any task, looked up by the writer; memory work only.
    groups: Mutex<BTreeMap<GroupId, Arc<Group>>>,
}

impl Shared {
    fn groups(&self) -> MutexGuard<'_, BTreeMap<GroupId, Arc<Group>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wal {
    /// Recovers the log in `disk`'s directory `wal`, or makes it. Blocking.
    /// `driver` says who runs the writer; [`Driver::Task`] needs a runtime.
    ///
    /// # Errors
    /// [`WalError::Corrupt`] when something does not verify,
    /// [`WalError::Missing`], [`WalError::Open`], [`WalError::Config`].
    pub fn open(disk: Arc<dyn Disk>, config: WalConfig, driver: Driver) -> Result<Self, WalError> {
        config.check()?;
        let shared = Arc::new(Shared { queue: Queue::new(config.queue_bytes), groups: Mutex::default() });
        run::start(disk, config, driver, shared.clone())?;
        Ok(Self { inner: Arc::new(Inner { shared }) })
    }

    /// The log of `group`, which is empty if the group is new.
    pub fn group(&self, group: GroupId) -> GroupLog {
        let shared = &self.inner.shared;
        let group = shared.groups().entry(group).or_insert_with(|| Arc::new(Group::new(group))).clone();
        GroupLog { wal: self.clone(), group }
    }

    /// The groups that have entries, a vote or a purged position.
    pub fn groups(&self) -> Vec<GroupId> {
        let groups = self.inner.shared.groups();
        groups
            .values()
            .filter(|group| group.index().bounds() != LogBounds::default())
            .map(|group| group.id)
            .collect()
    }

    /// Resolves, with the reason, once a write or sync has failed: the node
    /// must stop. Never resolves otherwise.
    pub fn failed(&self) -> impl Future<Output = WalError> + Send + 'static {
        self.inner.shared.queue.failed()
    }

    /// Whether the disk has room for growing writes. Cheap enough to be asked
    /// for each write.
    pub fn space(&self) -> Space {
        Space::Ok
    }

    /// The groups whose oldest entries keep the oldest segments in use, most
    /// pinning first; empty while the log is short. Snapshot and purge them.
    pub fn pinning_groups(&self) -> Vec<Pin> {
        Vec::new()
    }

    /// Figures since the log was opened.
    pub fn stats(&self) -> WalStats {
        WalStats::default()
    }

    /// Accepts nothing more, writes what is queued, calls its callbacks, and
    /// returns when the writer has stopped.
    pub async fn close(self) {
        self.inner.shared.queue.close();
        tokio::task::yield_now().await;
    }
}

/// One group's log. Clones are handles to the same log.
///
/// Every change is visible to [`GroupLog::read`] and [`GroupLog::bounds`] at
/// once, durable when its callback is called. Changes of one group take
/// effect in the order of the calls.
#[derive(Clone)]
pub struct GroupLog {
    wal: Wal,
    group: Arc<Group>,
}

impl GroupLog {
    /// The group.
    pub fn id(&self) -> GroupId {
        self.group.id
    }

    /// Waits until the writer's queue has room. Call it before
    /// [`GroupLog::append`]: this is the back-pressure of the log, and with
    /// it the queue never exceeds its limit by more than one append a group.
    pub async fn ready(&self) {
        self.wal.inner.shared.queue.room().await;
    }

    /// Appends `entries`, which must follow the last one without a gap.
    pub fn append(&self, entries: Vec<LogEntry>, done: Done) {
        let group = self.group.id;
        let large = entries.iter().map(|entry| entry.payload.len()).find(|size| *size > MAX_PAYLOAD_BYTES);
        if let Some(bytes) = large {
            return done(Err(WalError::TooLarge { group, bytes }));
        }
        self.submit(Change::Append(entries), done);
    }

    /// Saves the vote, an opaque value that replaces the last one.
    pub fn save_vote(&self, vote: Bytes, done: Done) {
        self.submit(Change::Vote(vote), done);
    }

    /// Removes all entries after `last_kept`; all entries if `None`.
    pub fn truncate_after(&self, last_kept: Option<u64>, done: Done) {
        self.submit(Change::TruncateAfter(last_kept), done);
    }

    /// Removes all entries up to and including `upto`, which may lie beyond
    /// the last one (after a snapshot).
    pub fn purge(&self, upto: LogPosition, done: Done) {
        self.submit(Change::Purge(upto), done);
    }

    /// Forgets entries, vote and purged position: the replica was removed.
    /// The handle then stands for a new, empty log.
    pub fn destroy(&self, done: Done) {
        self.submit(Change::Destroy, done);
    }

    fn submit(&self, change: Change, done: Done) {
        let shared = &self.wal.inner.shared;
        if let Some(error) = shared.queue.refusal() {
            return done(Err(error));
        }
        let mut index = self.group.index();
        if let Err(error) = apply(&mut index, &change) {
            drop(index);
            return done(Err(error));
        }
        let operation = Operation { group: self.group.clone(), epoch: index.epoch(), change, done };
        let pushed = shared.queue.push(operation);
        drop(index);
        if let Err((operation, error)) = pushed {
            (operation.done)(Err(error));
        }
    }

    /// The entries from index `from` to before `to`, without gaps, starting
    /// at the first that is left; as many as fit `max_bytes` of payload, but
    /// at least one if there is any. Recent entries come from memory; older
    /// ones are read from disk (blocking).
    ///
    /// # Errors
    /// [`WalError::Corrupt`] when an entry on disk does not verify,
    /// [`WalError::Failed`] when it cannot be read.
    pub fn read(&self, from: u64, to: u64, max_bytes: usize) -> Result<Vec<LogEntry>, WalError> {
        let found = self.group.index().find(from, to, max_bytes);
        Ok(found
            .into_iter()
            .filter_map(|found| match found {
                super::index::Found::Cached(entry) => Some(entry),
                super::index::Found::OnDisk(..) => None,
            })
            .collect())
    }

    /// The term of the entry `index`, if it is in the log; never reads the
    /// disk.
    pub fn term_of(&self, index: u64) -> Option<u64> {
        self.group.index().term_of(index)
    }

    /// What the log holds.
    pub fn bounds(&self) -> LogBounds {
        self.group.index().bounds()
    }

    /// The index of the first entry, if there is any.
    pub fn first(&self) -> Option<u64> {
        self.group.index().first_entry()
    }
}

fn apply(index: &mut super::index::GroupIndex, change: &Change) -> Result<(), WalError> {
    match change {
        Change::Append(entries) => index.append(entries).map(drop),
        Change::Vote(vote) => {
            index.set_vote(vote.clone());
            Ok(())
        }
        Change::TruncateAfter(last_kept) => {
            index.truncate_after(*last_kept);
            Ok(())
        }
        Change::Purge(upto) => {
            index.purge(*upto);
            Ok(())
        }
        Change::Destroy => {
            index.destroy();
            Ok(())
        }
    }
}
