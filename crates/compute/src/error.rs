//! The errors of [`crate::Compute`]. Each variant says whether anything has
//! changed and what the caller should do next.

use trine_replication::{ProposeError, QueryError};

use crate::codec::{DecodeError, RangeError};
use crate::command::Refusal;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ComputeError {
    /// The group refuses; nothing has changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The tasks do not fit into a range; nothing has changed.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// Too much is waiting; nothing has changed: slow down and try again.
    #[error("too much is waiting for the jobs of this cluster; try again")]
    Overloaded,
    /// No leader of group `jobs` could be reached; nothing has changed: try
    /// again.
    #[error("no master could be reached in time; try again")]
    Unavailable,
    /// No answer came: it may have been done. Look, then repeat what is missing.
    #[error("no answer came in time: it may have been done or not")]
    Unknown,
    /// Every node that keeps the bytes is gone, or has thrown them away; nothing
    /// has changed: try again when more nodes are there.
    #[error("no node that can be reached keeps these bytes; try again when all nodes are back")]
    Nowhere,
    /// The answer of a node is not understood: it is of another version.
    #[error("not understood: {0}")]
    NotUnderstood(#[from] DecodeError),
    /// This node is stopping: as [`ComputeError::Unknown`].
    #[error("this node is stopping")]
    ShutDown,
}

impl From<ProposeError> for ComputeError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::Overloaded(_) => Self::Overloaded,
            ProposeError::TooLarge(_) => Self::Range(RangeError::Range),
            ProposeError::Unavailable(_) => Self::Unavailable,
            ProposeError::OutcomeUnknown(_) => Self::Unknown,
            ProposeError::ShutDown => Self::ShutDown,
        }
    }
}

impl From<QueryError> for ComputeError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Overloaded(_) => Self::Overloaded,
            QueryError::ShutDown => Self::ShutDown,
            _ => Self::Unavailable,
        }
    }
}
