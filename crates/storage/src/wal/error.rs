//! What can go wrong with the log.

use std::io;
use std::sync::Arc;

use trine_types::GroupId;

/// Why the log did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WalError {
    /// A write or sync failed. What of the unacknowledged operations is on
    /// disk is unknown. Nothing is accepted any more; stop the node and show
    /// this text.
    #[error("the log failed and the node must stop: {what}")]
    Failed {
        /// What failed and why.
        what: Arc<str>,
    },
    /// The log was closed; the operation was not queued.
    #[error("the log is closed")]
    Closed,
    /// Something on disk does not verify and is not the torn end of the last
    /// write. Restore the node from its peers; do not delete anything first.
    #[error("the log is damaged: {what}")]
    Corrupt {
        /// Where, and what does not verify.
        what: Arc<str>,
    },
    /// The log cannot be opened: the disk failed.
    #[error("the log cannot be opened: {what}")]
    Open {
        /// What failed and why.
        what: Arc<str>,
    },
    /// The node has run before but its log is gone.
    #[error("the log is missing although this node has run before: it may not start without it")]
    Missing,
    /// A value of the configuration is out of range.
    #[error("log configuration: {what}")]
    Config {
        /// Which, and what is allowed.
        what: Arc<str>,
    },
    /// The first entry does not follow the group's last one. A bug of the
    /// caller; nothing was appended.
    #[error("{group}: an append at index {got} where {expected} is next")]
    Gap {
        /// The group.
        group: GroupId,
        /// The index that comes next.
        expected: u64,
        /// The index that was given.
        got: u64,
    },
    /// An entry is larger than [`super::handle::MAX_PAYLOAD_BYTES`]. A bug of
    /// the caller; nothing was appended.
    #[error("{group}: an entry of {bytes} bytes is too large for the log")]
    TooLarge {
        /// The group.
        group: GroupId,
        /// The payload's size.
        bytes: usize,
    },
}

impl WalError {
    /// A failure that stops the log; a full disk is named as such.
    pub(super) fn failed(what: &str, error: &io::Error) -> Self {
        let full = if error.kind() == io::ErrorKind::StorageFull { "the disk is full: " } else { "" };
        Self::Failed { what: format!("{full}{what}: {error}").into() }
    }

    pub(super) fn corrupt(what: impl Into<Arc<str>>) -> Self {
        Self::Corrupt { what: what.into() }
    }

    pub(super) fn open(what: &str, error: &io::Error) -> Self {
        let full = if error.kind() == io::ErrorKind::StorageFull { "the disk is full: " } else { "" };
        Self::Open { what: format!("{full}{what}: {error}").into() }
    }
}
