//! The errors of this room's handle. Each variant says whether anything has
//! changed and what to do next.

use trine_replication::{ChangeError, GroupError, ProposeError, QueryError};
use trine_types::{GroupId, NodeNumber};

use crate::codec::DecodeError;
use crate::command::Refusal;
use crate::directory::DirectoryError;
use crate::nodes::StartRefused;

/// Something asked of the cluster was not done.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The rules of `meta` refuse it. Nothing has changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It did not get into the log of `meta`, or nobody knows; the variant says.
    #[error("meta: {0}")]
    Propose(#[from] ProposeError),
    /// `meta` could not be read. Nothing has changed; ask again.
    #[error("meta: {0}")]
    Query(#[from] QueryError),
    /// An answer of another node is not understood: a newer version?
    #[error("an answer is not understood: {0}")]
    Answer(#[from] DecodeError),
    /// No node is called that.
    #[error("there is no node {0:?}: give its number, its name or the start of its id")]
    NoSuchNode(String),
    /// Removing it would leave a group without a majority. Nothing has changed.
    #[error(
        "removing {number} would leave {group} with {answering} answering members of {of}, which is no majority: \
         bring other nodes back first, or force it if the data on {number} is lost anyway"
    )]
    WouldLoseMajority {
        /// Which node.
        number: NodeNumber,
        /// The first group that would suffer.
        group: GroupId,
        /// How many members would answer.
        answering: usize,
        /// How many it would have.
        of: usize,
    },
    /// The node is leaving, but its replicas have not all moved yet. It goes
    /// on by itself; ask for the status.
    #[error("{number} is leaving; {groups} groups are still moving: it will be removed when they have moved")]
    StillMoving {
        /// Which node.
        number: NodeNumber,
        /// How many groups.
        groups: usize,
    },
    /// No voter of `meta` could sign. Ask again.
    #[error("no voter of meta that holds the issuing key could be reached: {0}")]
    NoIssuer(String),
    /// A group could not be recovered; others may have been.
    #[error("{group} could not be recovered: {reason}")]
    NotRecovered {
        /// Which group.
        group: GroupId,
        /// Why.
        reason: String,
    },
    /// Nodes that answer were given up for lost. Nothing has changed.
    #[error("{0} answers: only nodes that are lost for good may be given up (remove it instead)")]
    NotLost(NodeNumber),
    /// This node is stopping.
    #[error("this node is stopping")]
    Stopping,
}

/// Why this node cannot start or go on. The process must stop with this text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fatal {
    /// `meta` or a peer refuses this process.
    #[error(transparent)]
    Refused(#[from] StartRefused),
    /// Local storage failed.
    #[error("local storage failed: {0}")]
    Storage(String),
}

/// The cluster room did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The process must not run.
    #[error(transparent)]
    Fatal(#[from] Fatal),
    /// The data directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The replica of `meta` cannot be opened.
    #[error("meta: {0}")]
    Group(#[from] GroupError),
    /// The replica of `meta` cannot be begun.
    #[error("meta: {0}")]
    Change(#[from] ChangeError),
}
