//! Snapshots are views: the leader takes one in no time and streams its rows;
//! the receiver writes them into a keyspace of the next generation, and the
//! state machine switches to it. See [`super::state`] for the switch.

use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use trine_storage::{StateError, View};

/// What openraft hands from place to place.
#[derive(Clone)]
pub(crate) enum SnapshotData {
    /// At the sender: the rows of a replica at one moment.
    Rows(Arc<dyn View>),
    /// At the receiver: this generation has all rows.
    Received {
        /// The generation of the replica's keyspace.
        generation: u64,
    },
}

impl fmt::Debug for SnapshotData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(_) => f.write_str("Rows"),
            Self::Received { generation } => write!(f, "Received {{ generation: {generation} }}"),
        }
    }
}

/// Rows of one message of a snapshot, in bytes, unless a single row is larger.
pub(crate) const CHUNK_BYTES: usize = 512 * 1024;
/// Rows that are read at once.
const CHUNK_ROWS: usize = 256;

/// The rows after `after`, as many as one message takes, and whether they are
/// the last ones. Blocking.
pub(crate) fn next_chunk(
    view: &dyn View,
    after: Option<&[u8]>,
) -> Result<(Vec<(Bytes, Bytes)>, bool), StateError> {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let rows = view.scan(from, Bound::Unbounded, CHUNK_ROWS)?;
    let exhausted = rows.len() < CHUNK_ROWS;
    let total = rows.len();
    let mut bytes = 0;
    let mut chunk = Vec::new();
    for (key, value) in rows {
        bytes += key.len() + value.len() + 16;
        if bytes > CHUNK_BYTES && !chunk.is_empty() {
            break;
        }
        chunk.push((key, value));
    }
    let last = exhausted && chunk.len() == total;
    Ok((chunk, last))
}
