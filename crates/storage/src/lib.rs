//! What a node keeps: the write-ahead log shared by all its groups, the
//! ordered key-value state of its group replicas, a few small files, and the
//! disk seam under the log and the files.
//!
//! Invariants:
//! - A callback of the log is called only after the `fdatasync` that covers
//!   its records.
//! - A failed write or sync of the log is never retried: the log refuses
//!   everything from then on and the node must stop.
//! - Recovery is strict: what may be the torn end of the last write is cut,
//!   anything else that does not verify refuses to open.
//! - Replicated state is never fsynced on the request path.
//!
//! Deliberately absent: Raft (an entry's payload is opaque here), timeouts,
//! any task but the log's one writer.
//!
//! | file | what |
//! |---|---|
//! | [`disk`] | the disk seam: [`RealDisk`] and its twin [`SimDisk`] |
//! | [`wal`] | the shared write-ahead log: [`Wal`], [`GroupLog`] |
//! | [`state`] | [`StateStore`]: [`FjallStore`] and its twin [`OrderedStore`]; [`Transaction`] |
//! | [`node_file`] | small files replaced atomically: [`NodeFile`] |
//! | [`workers`] | where blocking state work runs: [`Workers`] |
//! | [`planted`] | bugs that the simulator must catch |

pub mod disk;
pub mod node_file;
pub mod planted;
pub mod state;
pub mod wal;
pub mod workers;

pub use disk::{Disk, DiskFile, RealDisk, SimDisk};
pub use node_file::{NodeFile, NodeFileError};
pub use state::{
    Batch, FjallConfig, FjallStore, Keyspace, OrderedStore, StateError, StateStore, Transaction, View,
};
pub use wal::{
    Done, Driver, GroupLog, LogBounds, LogEntry, LogPosition, Pin, Space, SyncPace, Wal, WalConfig, WalError,
    WalStats,
};
pub use workers::{JobLost, Workers};
