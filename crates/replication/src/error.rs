//! The errors of this room, one enum per kind of call. Each variant says
//! whether state may have changed and what the caller should do next.

use trine_types::{GroupId, NodeNumber};

/// Replication did not start. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The configuration was refused.
    #[error("replication options were refused: {0}")]
    Options(String),
    /// The state store or the log cannot be used: the node must stop.
    #[error("local storage failed: {0}")]
    Storage(String),
}

/// A local replica could not be opened, begun, closed or destroyed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// This node has no replica of the group: ask a node that has one.
    #[error("this node has no replica of {0}")]
    NoReplica(GroupId),
    /// The group has members already; `initialize` is for a new one. Nothing
    /// was changed.
    #[error("{0} has been initialized before")]
    AlreadyInitialized(GroupId),
    /// The replica was found to differ from the majority and its state is
    /// kept aside: destroy it and let it be built anew.
    #[error("the replica of {0} on this node differs from the majority's and is kept aside")]
    Aside(GroupId),
    /// The log or the state store failed: the node must stop.
    #[error("local storage failed: {0}")]
    Storage(String),
    /// openraft stopped the replica; the status of the group has the reason.
    #[error("the replica of {0} has stopped: {1}")]
    Stopped(GroupId, String),
    /// This node is shutting down.
    #[error("this node is shutting down")]
    ShutDown,
}

/// A proposal has no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Too much is waiting at this node for this group. Not executed: slow
    /// down and propose again.
    #[error("too many commands are waiting for {0}")]
    Overloaded(GroupId),
    /// The command is larger than [`trine_types::limits::MAX_COMMAND_BYTES`].
    /// Not executed.
    #[error("a command of {0} bytes is too large")]
    TooLarge(usize),
    /// No leader could be reached in time and the command never left this
    /// node. Not executed: propose again.
    #[error("no leader of {0} could be reached in time; nothing was executed")]
    Unavailable(GroupId),
    /// The command left this node, and no reply came in time (or it was too
    /// large to be kept for a retry): it may be executed, now or later, at
    /// most once. Read to find out.
    #[error("no reply came for a command to {0}: it may have been executed")]
    OutcomeUnknown(GroupId),
    /// This node is shutting down; as [`ProposeError::OutcomeUnknown`].
    #[error("this node is shutting down: the command may have been executed")]
    ShutDown,
}

/// A query has no reply. Queries change nothing: ask again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// Too many queries wait at this node for this group: slow down.
    #[error("too many queries are waiting for {0}")]
    Overloaded(GroupId),
    /// No leader that has a quorum could be reached in time.
    #[error("no leader of {0} could be reached in time")]
    Unavailable(GroupId),
    /// `query_local`: this node has no replica of the group.
    #[error("this node has no replica of {0}")]
    NoReplica(GroupId),
    /// `query_local`: the answer depends on a time that has not come yet.
    #[error("the answer depends on a moment that the replica has not reached")]
    NeedsTime,
    /// The state store failed: the node must stop.
    #[error("local storage failed: {0}")]
    Storage(String),
    /// This node is shutting down.
    #[error("this node is shutting down")]
    ShutDown,
}

/// A change of members or leader did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// This node does not lead the group; the leader, if known. Nothing was
    /// changed: ask there.
    #[error("this node does not lead {group}; the leader is {leader:?}")]
    NotLeader {
        /// The group.
        group: GroupId,
        /// Who leads it, as far as this node knows.
        leader: Option<NodeNumber>,
    },
    /// Another change is under way: wait and try again.
    #[error("another change of the members of {0} is under way")]
    InProgress(GroupId),
    /// A new member did not catch up in time. It stays a learner; the voters
    /// are as before. Call again to go on.
    #[error("{1} did not catch up with {0} in time")]
    NotCaughtUp(GroupId, NodeNumber),
    /// What was asked for cannot be (an empty set of voters, a leader that is
    /// no voter). Nothing was changed.
    #[error("impossible change of {0}: {1}")]
    Impossible(GroupId, String),
    /// The change was begun, then leadership was lost or time ran out: it may
    /// or may not take effect. Look at the status, then call again.
    #[error("the change of {0} may or may not take effect: {1}")]
    Unknown(GroupId, String),
    /// The replica has stopped or the node has none.
    #[error(transparent)]
    Group(#[from] GroupError),
}
