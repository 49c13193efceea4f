//! What other rooms hold: [`Wal`] for the node, [`GroupLog`] for a group.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;
use trine_types::GroupId;

use super::config::{Driver, WalConfig};
use super::index::{Found, GroupIndex, Place};
use super::pace::Pace;
use super::queue::{Change, Group, Operation, Queue};
use super::reader::{ReadBack, read_entry};
use super::space::SpaceWatch;
use super::{Done, LogBounds, LogEntry, LogPosition, Pin, Space, SyncPace, WalError, WalStats, open};
use crate::disk::{Disk, DiskFile};

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
///
/// The locks are here because handles answer synchronously, from any task,
/// while the writer works; each is held for memory work only.
pub(super) struct Shared {
    pub(super) queue: Queue,
    pub(super) space: Arc<SpaceWatch>,
    /// Turns true when the writer has stopped.
    pub(super) stopped: watch::Sender<bool>,
    groups: Mutex<BTreeMap<GroupId, Arc<Group>>>,
    files: Mutex<BTreeMap<u32, Arc<dyn DiskFile>>>,
    pins: Mutex<Vec<Pin>>,
    stats: Mutex<WalStats>,
    pace: Mutex<Pace>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(
        config: &WalConfig,
        space: Arc<SpaceWatch>,
        indexes: BTreeMap<GroupId, GroupIndex>,
    ) -> Self {
        let group = |(id, index)| (id, Arc::new(Group::with_index(id, index)));
        Self {
            queue: Queue::new(config.queue_bytes),
            space,
            stopped: watch::Sender::new(false),
            groups: Mutex::new(indexes.into_iter().map(group).collect()),
            files: Mutex::default(),
            pins: Mutex::default(),
            stats: Mutex::default(),
            pace: Mutex::default(),
        }
    }

    fn groups(&self) -> MutexGuard<'_, BTreeMap<GroupId, Arc<Group>>> {
        lock(&self.groups)
    }

    pub(super) fn group(&self, group: GroupId) -> Arc<Group> {
        self.groups().entry(group).or_insert_with(|| Arc::new(Group::new(group))).clone()
    }

    /// What each group's log holds.
    pub(super) fn bounds(&self) -> Vec<(GroupId, LogBounds)> {
        self.groups().values().map(|group| (group.id, group.index().bounds())).collect()
    }

    /// The files of the segments in use, by number.
    pub(super) fn files(&self) -> MutexGuard<'_, BTreeMap<u32, Arc<dyn DiskFile>>> {
        lock(&self.files)
    }

    pub(super) fn pins(&self) -> MutexGuard<'_, Vec<Pin>> {
        lock(&self.pins)
    }

    pub(super) fn stats(&self) -> MutexGuard<'_, WalStats> {
        lock(&self.stats)
    }

    pub(super) fn pace(&self) -> MutexGuard<'_, Pace> {
        lock(&self.pace)
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
        let found = open::open(&disk, &config)?;
        open::start(disk, config, driver, found)
    }

    pub(super) fn from_shared(shared: Arc<Shared>) -> Self {
        Self { inner: Arc::new(Inner { shared }) }
    }

    /// The log of `group`, which is empty if the group is new.
    pub fn group(&self, group: GroupId) -> GroupLog {
        GroupLog { wal: self.clone(), group: self.inner.shared.group(group) }
    }

    /// The groups that have entries, a vote or a purged position.
    pub fn groups(&self) -> Vec<GroupId> {
        let bounds = self.inner.shared.bounds().into_iter();
        bounds.filter(|(_, bounds)| *bounds != LogBounds::default()).map(|(group, _)| group).collect()
    }

    /// Resolves, with the reason, once a write or sync has failed: the node
    /// must stop. Never resolves otherwise.
    pub fn failed(&self) -> impl Future<Output = WalError> + Send + 'static {
        self.inner.shared.queue.failed()
    }

    /// Whether the disk has room for growing writes. Cheap enough to be asked
    /// for each write.
    pub fn space(&self) -> Space {
        self.inner.shared.space.space()
    }

    /// The groups whose oldest entries keep the oldest segments in use, most
    /// pinning first; empty while the log is short. Snapshot and purge them.
    pub fn pinning_groups(&self) -> Vec<Pin> {
        self.inner.shared.pins().clone()
    }

    /// Figures since the log was opened.
    pub fn stats(&self) -> WalStats {
        *self.inner.shared.stats()
    }

    /// How long syncs take lately, once there were enough to tell.
    pub fn sync_pace(&self) -> Option<SyncPace> {
        self.inner.shared.pace().look(Instant::now())
    }

    /// Accepts nothing more, writes what is queued, calls its callbacks, and
    /// returns when the writer has stopped.
    pub async fn close(self) {
        let shared = self.inner.shared.clone();
        shared.queue.close();
        // The sender is in `shared`, so this ends only by the value.
        let _ = shared.stopped.subscribe().wait_for(|stopped| *stopped).await;
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

    /// Appends `entries`, which must follow the last one without a gap; from
    /// then on they can be read, and `done` tells when they are on disk.
    ///
    /// # Errors
    /// They were refused and cannot be read, because the log has failed or is
    /// closed, or they are too large or leave a gap. `done` is told the same.
    pub fn append(&self, entries: Vec<LogEntry>, done: Done) -> Result<(), WalError> {
        let group = self.group.id;
        let large = entries.iter().map(|entry| entry.payload.len()).find(|size| *size > MAX_PAYLOAD_BYTES);
        if let Some(bytes) = large {
            let error = WalError::TooLarge { group, bytes };
            done(Err(error.clone()));
            return Err(error);
        }
        self.submit(Change::Append(entries), done)
    }

    /// Saves the vote, an opaque value that replaces the last one.
    pub fn save_vote(&self, vote: Bytes, done: Done) {
        let _ = self.submit(Change::Vote(vote), done);
    }

    /// Removes all entries after `last_kept`; all entries if `None`.
    pub fn truncate_after(&self, last_kept: Option<u64>, done: Done) {
        let _ = self.submit(Change::TruncateAfter(last_kept), done);
    }

    /// Removes all entries up to and including `upto`, which may lie beyond
    /// the last one (after a snapshot).
    pub fn purge(&self, upto: LogPosition, done: Done) {
        let _ = self.submit(Change::Purge(upto), done);
    }

    /// Forgets entries, vote and purged position: the replica was removed.
    /// The handle then stands for a new, empty log.
    pub fn destroy(&self, done: Done) {
        let _ = self.submit(Change::Destroy, done);
    }

    /// An error, of which `done` is told too: the change was not taken in.
    fn submit(&self, change: Change, done: Done) -> Result<(), WalError> {
        match self.take_in(change, done) {
            Ok(()) => Ok(()),
            Err((done, error)) => {
                done(Err(error.clone()));
                Err(error)
            }
        }
    }

    fn take_in(&self, change: Change, done: Done) -> Result<(), (Done, WalError)> {
        let shared = &self.wal.inner.shared;
        if let Some(error) = shared.queue.refusal() {
            return Err((done, error));
        }
        let mut index = self.group.index();
        if let Err(error) = apply(&mut index, &change) {
            return Err((done, error));
        }
        let operation = Operation { group: self.group.clone(), epoch: index.epoch(), change, done };
        let pushed = shared.queue.push(operation);
        pushed.map_err(|(operation, error)| (operation.done, error))
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
        loop {
            let found = self.group.index().find(from, to, max_bytes);
            let mut entries = Vec::with_capacity(found.len());
            let mut failure = None;
            for found in found {
                match found {
                    Found::Cached(entry) => entries.push(entry),
                    Found::OnDisk(at, place) => match self.read_back(at, place) {
                        Ok(entry) => entries.push(entry),
                        Err(error) => {
                            failure = Some((at, place, error));
                            break;
                        }
                    },
                }
            }
            let Some((at, place, error)) = failure else { return Ok(entries) };
            // It may have been purged, and its segment recycled, meanwhile.
            if self.group.index().place_of(at) == Some(place) {
                return Err(error.into_error(self.group.id, at, place));
            }
        }
    }

    fn read_back(&self, at: LogPosition, place: Place) -> Result<LogEntry, ReadBack> {
        let file = self.wal.inner.shared.files().get(&place.segment).cloned();
        let file = file.ok_or(ReadBack::Other("its segment is gone"))?;
        read_entry(&*file, self.group.id, at, place)
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

fn apply(index: &mut GroupIndex, change: &Change) -> Result<(), WalError> {
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
