//! The write-ahead log: one per node, shared by all its groups, so that one
//! `fdatasync` serves every group that is waiting. It is the only durable
//! place of acknowledged writes until the state is flushed.
//!
//! | file | what |
//! |---|---|
//! | `config.rs`, `error.rs` | the knobs; what can go wrong |
//! | `index.rs` | one group's log in memory: which entries, where, the recent ones themselves |
//! | `handle.rs` | [`Wal`] and [`GroupLog`], what other rooms hold |
//! | `queue.rs` | from the handles to the writer |
//! | `writer.rs`, `writer/carry.rs` | the one writer; carrying quiet groups forward |
//! | `run.rs`, `pace.rs` | the thread or task that drives the writer; how long its syncs take |
//! | `codec.rs`, `sector.rs` | the bytes of records, segment headers and sealed sectors |
//! | `extents.rs`, `pool.rs`, `space.rs` | which segments are in use; spare files; the reserve of space |
//! | `recover.rs`, `reader.rs` | opening, strictly; reading old entries |
//!
//! On disk: numbered files `wal/*.seg`, preallocated, each one segment. A
//! segment is a header and batches; a batch is what one sync covers: records
//! sealed into sectors. Each segment begins with the facts of all groups
//! (vote, purged position), so that any older one can be recycled once no
//! group has an entry in it and the log durably says so.

mod codec;
mod config;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod damage;
mod error;
mod extents;
mod handle;
mod index;
mod open;
mod pace;
mod pool;
mod queue;
mod reader;
mod recover;
mod run;
mod sector;
mod space;
#[cfg(test)]
mod suite;
mod writer;

use std::time::Duration;

use bytes::Bytes;
use trine_types::GroupId;

pub use config::{Driver, WalConfig};
pub use error::WalError;
pub use handle::{GroupLog, MAX_PAYLOAD_BYTES, Wal};

/// A Raft log id. A term has one leader, so the pair names one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogPosition {
    /// The term of the leader that made the entry.
    pub term: u64,
    /// The entry's place in the group's log.
    pub index: u64,
}

/// One entry of a group's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Its log id.
    pub at: LogPosition,
    /// What it says; opaque to this room. Cloning is cheap.
    pub payload: Bytes,
}

/// Called once, from the writer: with `Ok` after an `fdatasync` covers the
/// operation, with the error when that will never happen. It must be quick
/// and must not block: every group waits for it.
pub type Done = Box<dyn FnOnce(Result<(), WalError>) + Send>;

/// What a group's log holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogBounds {
    /// The last purged position, if anything was ever purged.
    pub purged: Option<LogPosition>,
    /// The last entry's position; the last purged one if no entry is left.
    pub last: Option<LogPosition>,
    /// The vote last saved; opaque to this room.
    pub vote: Option<Bytes>,
}

/// Whether the disk has room for growing writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// It has.
    Ok,
    /// It is nearly full: refuse writes that grow the state; deletes, votes,
    /// truncations and purges still have a reserve.
    Low,
}

/// A group whose oldest entry keeps old segments from being freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    /// The group.
    pub group: GroupId,
    /// The index of its oldest entry.
    pub oldest: u64,
    /// How many segments, from the newest back, its log reaches.
    pub segments: u64,
}

/// Figures since the log was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WalStats {
    /// `fdatasync` calls of the writer.
    pub syncs: u64,
    /// Time spent in them, in nanoseconds.
    pub sync_nanos: u64,
    /// Operations completed.
    pub operations: u64,
    /// Entries written.
    pub entries: u64,
    /// Bytes written, with framing and padding.
    pub bytes: u64,
    /// Bytes of recent entries kept in memory.
    pub cached_bytes: u64,
    /// Segments in use.
    pub segments: u64,
}

/// How long a sync takes lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncPace {
    /// A moving figure that single syncs move little, or how long the one in
    /// progress has been waited for, if that is more.
    pub latency: Duration,
    /// Whether there was a sync within the last seconds; otherwise it says how
    /// the disk was.
    pub recent: bool,
}
