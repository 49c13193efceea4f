//! What clients ask and how nodes answer, in the words of the scenarios. Each
//! kind of node (see `system`) translates: the bare replication node to
//! commands of a small machine of its own, the whole node to Redis commands.

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

/// One request of a client. Values are numbers, so that every write is unique.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Read a register.
    Get {
        /// Which register.
        key: String,
    },
    /// Write a register.
    Set {
        /// Which register.
        key: String,
        /// What to write.
        value: u64,
    },
    /// Write a register that lapses by itself.
    SetFor {
        /// Which register.
        key: String,
        /// What to write.
        value: u64,
        /// How long it lives.
        ttl_ms: u64,
    },
    /// Write a register if it holds `old`.
    Swap {
        /// Which register.
        key: String,
        /// What must be there.
        old: u64,
        /// What to write.
        new: u64,
    },
    /// Empty a register.
    Delete {
        /// Which register.
        key: String,
    },
    /// Add one to a counter.
    Increment {
        /// Which counter.
        key: String,
    },
    /// Add one to a counter, exactly once per client and sequence number.
    IncrementOnce {
        /// Which counter.
        key: String,
        /// The client's name.
        client: String,
        /// The client's sequence number, from 1.
        seq: u64,
    },
    /// Read a counter.
    Count {
        /// Which counter.
        key: String,
    },
}

impl Request {
    /// Whether the request cannot change anything.
    #[must_use]
    pub fn only_reads(&self) -> bool {
        matches!(self, Self::Get { .. } | Self::Count { .. })
    }
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// A register's value.
    Value(Option<u64>),
    /// Written.
    Done,
    /// Whether the swap happened.
    Swapped(bool),
    /// Whether there was something to delete.
    Deleted(bool),
    /// A counter's value.
    Count(i64),
    /// The state may or may not have changed, now or later.
    Unknown(String),
    /// The state did not change and will not.
    Refused(String),
    /// Something no client should ever see: fails the run.
    Wrong(String),
}

/// The in-process entry of one running node.
pub trait Door: Clone + Send + Sync + 'static {
    /// Executes a request as a client connected to this node would.
    fn execute(&self, request: Request) -> BoxFuture<'static, Answer>;
}
