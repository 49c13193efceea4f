//! The ordered key-value state of group replicas: one keyspace per replica,
//! never fsynced on the request path. After a crash each keyspace comes back
//! at some earlier batch, never in the middle of one; whoever owns a keyspace
//! writes its position into each batch and replays the rest from the log.

mod fjall;
mod ordered;
mod row_key;
#[cfg(test)]
mod suite;
mod transaction;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use self::row_key::RowKey;

pub use self::fjall::{FjallConfig, FjallStore};
pub use ordered::OrderedStore;
pub use transaction::{Transaction, row_hash};

/// Longest name of a keyspace, in bytes.
pub const MAX_KEYSPACE_NAME_BYTES: usize = 200;

/// A store refused or failed. No variant changed the state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Reading or writing failed. Stop using the store: the node must stop.
    #[error("the state store failed: {0}")]
    Failed(Arc<str>),
    /// The keyspace was deleted under this handle. Open it again.
    #[error("keyspace {0} was deleted")]
    Deleted(Arc<str>),
    /// The name is empty or too long. A bug of the caller.
    #[error("{0:?} is no name for a keyspace")]
    BadName(Arc<str>),
}

/// Rows in ascending order of their keys.
pub type Rows = Vec<(Bytes, Bytes)>;

/// Something that can be read: a keyspace, a snapshot of one, or a
/// transaction over one.
pub trait View: Send + Sync {
    /// The value of `key`.
    ///
    /// # Errors
    /// [`StateError::Failed`].
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError>;

    /// At most `limit` rows between the bounds, ascending. Bounds that
    /// exclude everything give no rows.
    ///
    /// # Errors
    /// [`StateError::Failed`].
    fn scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Rows, StateError>;
}

/// All rows of one group replica. One owner commits; anyone may read.
pub trait Keyspace: View + 'static {
    /// Applies all of `batch` or nothing. Durable after the next
    /// [`StateStore::flush`]; a crash before keeps a prefix of the batches of
    /// this keyspace, whatever it keeps of others. Blocking.
    ///
    /// # Errors
    /// [`StateError::Failed`]: the batch may reappear after a restart.
    fn commit(&self, batch: Batch) -> Result<(), StateError>;

    /// Whether the next [`Self::commit`] may have to wait for the disk.
    fn may_wait(&self) -> bool {
        false
    }

    /// The rows as they are now, unchanged by later commits. Hold it no
    /// longer than needed: it keeps old rows alive.
    fn view(&self) -> Arc<dyn View>;

    /// Removes all rows.
    ///
    /// # Errors
    /// [`StateError::Failed`].
    fn clear(&self) -> Result<(), StateError>;
}

/// All keyspaces of a node. Calls block; keep them off async tasks (see
/// [`crate::Workers`]).
pub trait StateStore: Send + Sync + 'static {
    /// Opens or creates the keyspace `name`.
    ///
    /// # Errors
    /// [`StateError::BadName`], [`StateError::Failed`].
    fn keyspace(&self, name: &str) -> Result<Arc<dyn Keyspace>, StateError>;

    /// The names of all keyspaces, sorted.
    ///
    /// # Errors
    /// [`StateError::Failed`].
    fn list(&self) -> Result<Vec<String>, StateError>;

    /// Deletes the keyspace `name` with all rows; handles to it fail from
    /// then on. Not an error if there is none.
    ///
    /// # Errors
    /// [`StateError::Failed`].
    fn delete(&self, name: &str) -> Result<(), StateError>;

    /// Returns once every change made before the call is durable. Blocking:
    /// it writes all that is only in memory, so call it rarely.
    ///
    /// # Errors
    /// [`StateError::Failed`]; never retry.
    fn flush(&self) -> Result<(), StateError>;
}

/// Changes that take effect together. A later change of a key wins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    changes: BTreeMap<RowKey, Option<Bytes>>,
}

impl Batch {
    /// No changes yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.changes.insert(RowKey::new(key.into()), Some(value.into()));
    }

    /// Removes `key`, if it is there.
    pub fn delete(&mut self, key: impl Into<Bytes>) {
        self.changes.insert(RowKey::new(key.into()), None);
    }

    /// How many changes.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// Whether no key can lie between the bounds; such ranges make ordered maps
/// panic, so every store asks this first.
fn is_empty_range(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    match (from, to) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => {
            from >= to
        }
    }
}

fn check_name(name: &str) -> Result<(), StateError> {
    if name.is_empty() || name.len() > MAX_KEYSPACE_NAME_BYTES {
        return Err(StateError::BadName(name.into()));
    }
    Ok(())
}
