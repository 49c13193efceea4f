//! The product's state store: fjall, one database per node, one of its
//! keyspaces per group replica. fjall's journal is written on commit and
//! synced only by [`FjallStore::flush`]; durability of acknowledged writes is
//! the log's business.
//!
//! fjall keeps its own files by itself, outside the [`crate::Disk`] seam: the
//! simulator uses the ordered twin instead.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use fjall::{Database, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};

use super::{Batch, Keyspace, Rows, StateError, StateStore, View, check_name, is_empty_range};

/// Sizes of the state store. The defaults keep an idle node small; a node
/// with memory to spare gains reads from a larger cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FjallConfig {
    /// Bytes of disk blocks kept in memory, for all keyspaces together.
    /// Default 32 MiB.
    pub cache_bytes: u64,
    /// Bytes of a keyspace's newest rows kept in memory before they are
    /// written as a table. Larger means fewer, larger compactions. Default
    /// 8 MiB.
    pub memtable_bytes: u64,
    /// Bytes that fjall's journal may use on disk (at least 64 MiB). Larger
    /// means longer recovery, smaller means earlier flushes of quiet
    /// keyspaces. Default 256 MiB.
    pub journal_bytes: u64,
    /// Threads that flush and compact. Default 1.
    pub threads: usize,
}

impl Default for FjallConfig {
    fn default() -> Self {
        Self {
            cache_bytes: 32 * 1024 * 1024,
            memtable_bytes: 8 * 1024 * 1024,
            journal_bytes: 256 * 1024 * 1024,
            threads: 1,
        }
    }
}

/// fjall asserts these lower bounds.
const MIN_JOURNAL_BYTES: u64 = 64 * 1024 * 1024;

/// A state store in a directory of its own.
pub struct FjallStore {
    database: Database,
    config: FjallConfig,
    // Handles are synchronous and held by many tasks, so no task can own
    // this: what tells the handles of a keyspace that it was deleted.
    deleted: Mutex<BTreeMap<String, Arc<AtomicBool>>>,
}

fn failed(error: &fjall::Error) -> StateError {
    StateError::Failed(error.to_string().into())
}

impl FjallStore {
    /// Opens or creates the store in the directory `path`.
    ///
    /// # Errors
    /// [`StateError::Failed`] when another process has it or it is damaged.
    pub fn open(path: &Path, config: FjallConfig) -> Result<Self, StateError> {
        let database = Database::builder(path)
            .cache_size(config.cache_bytes)
            .max_journaling_size(config.journal_bytes.max(MIN_JOURNAL_BYTES))
            .manual_journal_persist(true)
            .worker_threads(config.threads.max(1))
            .open()
            .map_err(|error| StateError::Failed(format!("{}: {error}", path.display()).into()))?;
        Ok(Self { database, config, deleted: Mutex::default() })
    }

    fn options(&self) -> KeyspaceCreateOptions {
        KeyspaceCreateOptions::default()
            .manual_journal_persist(true)
            .max_memtable_size(self.config.memtable_bytes)
    }
}

impl StateStore for FjallStore {
    fn keyspace(&self, name: &str) -> Result<Arc<dyn Keyspace>, StateError> {
        check_name(name)?;
        let keyspace = self.database.keyspace(name, || self.options()).map_err(|error| failed(&error))?;
        let mut deleted = self.deleted.lock().unwrap_or_else(PoisonError::into_inner);
        let deleted = deleted.entry(name.to_owned()).or_default().clone();
        Ok(Arc::new(FjallKeyspace { database: self.database.clone(), keyspace, deleted }))
    }

    fn list(&self) -> Result<Vec<String>, StateError> {
        let mut names: Vec<String> =
            self.database.list_keyspace_names().iter().map(ToString::to_string).collect();
        names.sort();
        Ok(names)
    }

    fn delete(&self, name: &str) -> Result<(), StateError> {
        if !self.database.keyspace_exists(name) {
            return Ok(());
        }
        let keyspace = self.database.keyspace(name, || self.options()).map_err(|error| failed(&error))?;
        self.database.delete_keyspace(keyspace).map_err(|error| failed(&error))?;
        if let Some(handle) = self.deleted.lock().unwrap_or_else(PoisonError::into_inner).remove(name) {
            handle.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), StateError> {
        self.database.persist(PersistMode::SyncData).map_err(|error| failed(&error))
    }
}

struct FjallKeyspace {
    database: Database,
    keyspace: fjall::Keyspace,
    deleted: Arc<AtomicBool>,
}

impl FjallKeyspace {
    /// fjall itself writes into deleted keyspaces, where nobody finds it.
    fn check(&self) -> Result<(), StateError> {
        if self.deleted.load(Ordering::Acquire) {
            return Err(StateError::Deleted(self.keyspace.name().to_string().into()));
        }
        Ok(())
    }
}

impl View for FjallKeyspace {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        self.check()?;
        let value = self.keyspace.get(key).map_err(|error| failed(&error))?;
        Ok(value.map(Into::into))
    }

    fn scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Rows, StateError> {
        if is_empty_range(from, to) {
            return Ok(Rows::new());
        }
        self.check()?;
        collect(self.keyspace.range::<&[u8], _>((from, to)), limit)
    }
}

fn collect(rows: fjall::Iter, limit: usize) -> Result<Rows, StateError> {
    rows.take(limit)
        .map(|row| {
            let (key, value) = row.into_inner().map_err(|error| failed(&error))?;
            Ok((key.into(), value.into()))
        })
        .collect()
}

impl Keyspace for FjallKeyspace {
    fn commit(&self, batch: Batch) -> Result<(), StateError> {
        self.check()?;
        let mut writes = fjall::OwnedWriteBatch::with_capacity(self.database.clone(), batch.len());
        for (key, value) in batch.into_changes() {
            match value {
                Some(value) => writes.insert(&self.keyspace, key, value),
                None => writes.remove(&self.keyspace, key),
            }
        }
        writes.commit().map_err(|error| failed(&error))
    }

    fn view(&self) -> Arc<dyn View> {
        Arc::new(FjallView { snapshot: self.database.snapshot(), keyspace: self.keyspace.clone() })
    }

    fn clear(&self) -> Result<(), StateError> {
        self.check()?;
        self.keyspace.clear().map_err(|error| failed(&error))
    }
}

struct FjallView {
    snapshot: Snapshot,
    keyspace: fjall::Keyspace,
}

impl View for FjallView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        let value = self.snapshot.get(&self.keyspace, key).map_err(|error| failed(&error))?;
        Ok(value.map(Into::into))
    }

    fn scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Rows, StateError> {
        if is_empty_range(from, to) {
            return Ok(Rows::new());
        }
        collect(self.snapshot.range::<&[u8], _>(&self.keyspace, (from, to)), limit)
    }
}
