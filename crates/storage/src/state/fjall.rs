//! The product's state store: fjall, one database per node, one of its
//! keyspaces per group replica; the newest rows of each are in memory and
//! reach fjall's tables a layer at a time (see `space`). Durability of
//! acknowledged writes is the log's business.
//!
//! fjall keeps its own files by itself, outside the [`crate::Disk`] seam: the
//! simulator uses the ordered twin instead.

mod marks;
mod recent;
mod space;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fjall::{Database, KeyspaceCreateOptions, PersistMode};

use self::space::{Space, SpaceHandle, Writer};
use super::{Keyspace, StateError, StateStore, check_name};

/// Sizes of the state store. The defaults keep an idle node small; a node
/// with memory to spare gains reads from a larger cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FjallConfig {
    /// Bytes of disk blocks kept in memory, for all keyspaces together.
    /// Default 32 MiB.
    pub cache_bytes: u64,
    /// Bytes of a keyspace's newest rows kept in memory before they are
    /// written as a table; up to three times as many under load. Larger means
    /// fewer, larger compactions, and more of the log to replay after a crash.
    /// Default 16 MiB.
    pub recent_bytes: usize,
    /// Threads that compact. Default 1.
    pub threads: usize,
}

impl Default for FjallConfig {
    fn default() -> Self {
        Self { cache_bytes: 32 * 1024 * 1024, recent_bytes: 16 * 1024 * 1024, threads: 1 }
    }
}

/// The journal holds only which keyspaces exist; fjall asserts this bound.
const JOURNAL_BYTES: u64 = 64 * 1024 * 1024;

/// A state store in a directory of its own.
pub struct FjallStore {
    // First, so that its thread has ended before the database is closed.
    writer: Writer,
    // Handles are synchronous and held by many tasks, so no task can own
    // this.
    spaces: Mutex<BTreeMap<String, Arc<Space>>>,
    database: Database,
    config: FjallConfig,
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
        let cannot =
            |error: &dyn std::fmt::Display| StateError::Failed(format!("{}: {error}", path.display()).into());
        let database = Database::builder(path)
            .cache_size(config.cache_bytes)
            .max_journaling_size(JOURNAL_BYTES)
            .manual_journal_persist(true)
            .worker_threads(config.threads.max(1))
            .open()
            .map_err(|error| cannot(&error))?;
        let writer = Writer::start().map_err(|error| cannot(&error))?;
        Ok(Self { writer, spaces: Mutex::default(), database, config })
    }

    fn spaces(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Space>>> {
        self.spaces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_keyspace(&self, name: &str) -> Result<fjall::Keyspace, StateError> {
        let options = || KeyspaceCreateOptions::default().manual_journal_persist(true);
        self.database.keyspace(name, options).map_err(|error| failed(&error))
    }
}

impl StateStore for FjallStore {
    fn keyspace(&self, name: &str) -> Result<Arc<dyn Keyspace>, StateError> {
        check_name(name)?;
        let mut spaces = self.spaces();
        if let Some(space) = spaces.get(name) {
            return Ok(Arc::new(SpaceHandle(space.clone())));
        }
        let (database, keyspace) = (self.database.clone(), self.open_keyspace(name)?);
        let space = Space::new(database, keyspace, self.config.recent_bytes, self.writer.queue.clone());
        let space = Arc::new(space);
        spaces.insert(name.to_owned(), space.clone());
        Ok(Arc::new(SpaceHandle(space)))
    }

    fn list(&self) -> Result<Vec<String>, StateError> {
        let mut names: Vec<String> =
            self.database.list_keyspace_names().iter().map(ToString::to_string).collect();
        names.sort();
        Ok(names)
    }

    fn delete(&self, name: &str) -> Result<(), StateError> {
        let mut spaces = self.spaces();
        if let Some(space) = spaces.remove(name) {
            space.note_deleted();
        }
        if !self.database.keyspace_exists(name) {
            return Ok(());
        }
        let keyspace = self.open_keyspace(name)?;
        self.database.delete_keyspace(keyspace).map_err(|error| failed(&error))
    }

    fn flush(&self) -> Result<(), StateError> {
        let spaces: Vec<Arc<Space>> = self.spaces().values().cloned().collect();
        for space in spaces {
            match space.write_out() {
                // Nobody wants its rows any more.
                Err(StateError::Deleted(_)) => {}
                written => written?,
            }
        }
        self.database.persist(PersistMode::SyncData).map_err(|error| failed(&error))
    }
}
