//! The seam to the partitions: what the database needs from replication.
//! Tests put partitions in memory behind it.

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::error::Refusal;

/// The parts of `T = T_r + T_c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timing {
    /// From the call at this node to the reply, `T`.
    pub total: Duration,
    /// Processing at the owner, `T_r`.
    pub processing: Duration,
    /// Whether the request had to be passed to another node.
    pub forwarded: bool,
}

impl Timing {
    /// Passing between nodes, `T_c`: the rest of the total.
    pub fn passing(&self) -> Duration {
        self.total.saturating_sub(self.processing)
    }

    /// The timing of two requests that ran at the same time: the slower one,
    /// forwarded if either was.
    #[must_use]
    pub fn slower(self, other: Self) -> Self {
        let slower = if other.total > self.total { other } else { self };
        Self { forwarded: self.forwarded || other.forwarded, ..slower }
    }
}

/// A partition's reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// RESP version 3, or what the query defines.
    pub body: Bytes,
    /// How long it took.
    pub timing: Timing,
}

/// What comes back from a partition.
pub type PartitionReply = Result<Answered, Refusal>;

/// The partitions of the database, from the view of one node.
pub trait Groups: Send + Sync + 'static {
    /// Proposes a command. Proposals of this node to one partition are
    /// executed in the order of the calls, each at most once.
    fn propose(&self, partition: u16, proposal: Bytes) -> BoxFuture<'static, PartitionReply>;

    /// Asks a question, linearizable.
    fn query(&self, partition: u16, query: Bytes) -> BoxFuture<'static, PartitionReply>;

    /// Asks this node's own replica, which may lag. `None` if it has none.
    fn query_local(&self, partition: u16, query: Bytes) -> BoxFuture<'static, Option<Bytes>>;

    /// The partitions that this node leads.
    fn led(&self) -> Vec<u16>;
}
