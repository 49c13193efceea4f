//! One keyspace: its newest rows in memory, the others in fjall's tables.
//!
//! Rows reach the disk a whole layer at a time, in order, as fjall tables that
//! are synced before they count; fjall's journal has no part in it. What a
//! crash loses is replayed from the log, which is purged only behind flushed
//! state.

use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use fjall::{Database, Readable, Snapshot};

use super::failed;
use super::recent::{Layer, Recent};
use crate::state::{Batch, Keyspace, Rows, StateError, View, is_empty_range};

/// Layers that wait for the writer thread; a keyspace that finds no place
/// asks again with its next commit.
const WAITING_LAYERS: usize = 64;

/// Commits may run ahead of the writer thread by this many times the size at
/// which a layer is written; then they wait.
const AHEAD: usize = 2;

/// Tables that overlap, at most: a keyspace with more is compacted before it
/// gets another, so that commits cannot run away from fjall's own compaction.
const MOST_OVERLAPPING: usize = 24;

/// What all handles of one keyspace share.
pub(super) struct Space {
    database: Database,
    keyspace: fjall::Keyspace,
    /// Size at which the active layer is written to disk.
    layer_bytes: usize,
    writer: SyncSender<Work>,
    // Handles are synchronous and held by many threads, so no task can own
    // this. Held for memory work only.
    recent: Mutex<Recent>,
    /// Held by whoever writes a layer to disk: one at a time, oldest first.
    writing: Mutex<()>,
    deleted: AtomicBool,
    failure: OnceLock<StateError>,
}

impl Space {
    pub(super) fn new(
        database: Database,
        keyspace: fjall::Keyspace,
        layer_bytes: usize,
        writer: SyncSender<Work>,
    ) -> Self {
        Self {
            database,
            keyspace,
            layer_bytes,
            writer,
            recent: Mutex::default(),
            writing: Mutex::default(),
            deleted: AtomicBool::new(false),
            failure: OnceLock::new(),
        }
    }

    /// Handles fail from now on: fjall itself would write into deleted
    /// keyspaces, where nobody finds it.
    pub(super) fn note_deleted(&self) {
        self.deleted.store(true, Ordering::Release);
    }

    fn check(&self) -> Result<(), StateError> {
        if self.deleted.load(Ordering::Acquire) {
            return Err(StateError::Deleted(self.keyspace.name().to_string().into()));
        }
        self.failure.get().map_or(Ok(()), |failure| Err(failure.clone()))
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings every row that was committed before the call to disk, synced.
    pub(super) fn write_out(&self) -> Result<(), StateError> {
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.check()?;
        let sealed = {
            let mut recent = self.recent();
            debug_assert!(recent.sealed.is_empty(), "a layer that was not written failed the keyspace");
            recent.sealed = std::mem::take(&mut recent.active);
            recent.sealed.clone()
        };
        let written = self.ingest(&sealed);
        if self.deleted.load(Ordering::Acquire) {
            return Ok(());
        }
        if let Err(error) = &written {
            // Only the first failure counts.
            let _ = self.failure.set(error.clone());
            return written;
        }
        self.recent().sealed = Layer::default();
        Ok(())
    }

    fn ingest(&self, layer: &Layer) -> Result<(), StateError> {
        if layer.is_empty() {
            return Ok(());
        }
        let write = || {
            if self.keyspace.l0_table_count() >= MOST_OVERLAPPING {
                self.keyspace.major_compact()?;
            }
            let mut ingestion = self.keyspace.start_ingestion()?;
            for (key, value) in layer.rows() {
                match value {
                    Some(value) => ingestion.write(key.clone(), value.clone())?,
                    None => ingestion.write_tombstone(key.clone())?,
                }
            }
            ingestion.finish()
        };
        write().map_err(|error| failed(&error))
    }
}

fn collect(
    recent: &Recent,
    bounds: (Bound<&[u8]>, Bound<&[u8]>),
    disk: fjall::Iter,
    limit: usize,
) -> Result<Rows, StateError> {
    let disk = disk.map(|row| {
        let (key, value) = row.into_inner().map_err(|error| failed(&error))?;
        Ok((key.into(), value.into()))
    });
    recent.over(bounds, disk).take(limit).collect()
}

impl View for Space {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        self.check()?;
        // What is not in memory now is on disk, and stays there.
        let known = self.recent().get(key);
        if let Some(known) = known {
            return Ok(known.value());
        }
        let value = self.keyspace.get(key).map_err(|error| failed(&error))?;
        Ok(value.map(Into::into))
    }

    fn scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Rows, StateError> {
        self.check()?;
        self.snapshot().scan(from, to, limit)
    }
}

impl Space {
    fn snapshot(&self) -> SpaceView {
        let recent = self.recent();
        // Under the lock: a layer that leaves memory meanwhile would be in
        // neither half.
        let snapshot = self.database.snapshot();
        SpaceView { recent: recent.clone(), snapshot, keyspace: self.keyspace.clone() }
    }
}

/// A keyspace as a [`crate::StateStore`] gives it out.
pub(super) struct SpaceHandle(pub(super) Arc<Space>);

impl View for SpaceHandle {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        self.0.get(key)
    }

    fn scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Rows, StateError> {
        self.0.scan(from, to, limit)
    }
}

impl Keyspace for SpaceHandle {
    fn commit(&self, batch: Batch) -> Result<(), StateError> {
        let space = &self.0;
        space.check()?;
        let bytes = {
            let mut recent = space.recent();
            for (key, value) in batch.changes {
                recent.active.set(key, value);
            }
            recent.active.bytes()
        };
        if bytes >= AHEAD * space.layer_bytes {
            return space.write_out();
        }
        if bytes >= space.layer_bytes {
            // A full queue, or no thread any more: a later commit writes.
            let _ = space.writer.try_send(Work::Write(space.clone()));
        }
        Ok(())
    }

    /// From when the writer thread is asked: it may be behind already.
    fn may_wait(&self) -> bool {
        self.0.recent().active.bytes() >= self.0.layer_bytes
    }

    fn view(&self) -> Arc<dyn View> {
        Arc::new(self.0.snapshot())
    }

    fn clear(&self) -> Result<(), StateError> {
        let space = &self.0;
        let _no_layer_is_written = space.writing.lock().unwrap_or_else(PoisonError::into_inner);
        space.check()?;
        *space.recent() = Recent::default();
        space.keyspace.clear().map_err(|error| failed(&error))
    }
}

struct SpaceView {
    recent: Recent,
    snapshot: Snapshot,
    keyspace: fjall::Keyspace,
}

impl View for SpaceView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        if let Some(known) = self.recent.get(key) {
            return Ok(known.value());
        }
        let value = self.snapshot.get(&self.keyspace, key).map_err(|error| failed(&error))?;
        Ok(value.map(Into::into))
    }

    fn scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Rows, StateError> {
        if is_empty_range(from, to) {
            return Ok(Rows::new());
        }
        let disk = self.snapshot.range::<&[u8], _>(&self.keyspace, (from, to));
        collect(&self.recent, (from, to), disk, limit)
    }
}

/// What the writer thread is asked for.
pub(super) enum Work {
    /// Write the newest rows of this keyspace to disk.
    Write(Arc<Space>),
    /// End.
    Stop,
}

/// The thread that writes layers to disk while commits go on.
pub(super) struct Writer {
    pub(super) queue: SyncSender<Work>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start() -> std::io::Result<Self> {
        let (queue, work) = sync_channel(WAITING_LAYERS);
        let thread = thread::Builder::new().name("state-writer".to_owned()).spawn(move || write(&work))?;
        Ok(Self { queue, thread: Some(thread) })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // An error: the thread has ended by itself.
        let _ = self.queue.send(Work::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write(work: &Receiver<Work>) {
    while let Ok(Work::Write(space)) = work.recv() {
        let is_full = space.recent().active.bytes() >= space.layer_bytes;
        if is_full && let Err(error) = space.write_out() {
            tracing::error!(keyspace = %space.keyspace.name(), %error, "rows could not be written");
        }
    }
}
