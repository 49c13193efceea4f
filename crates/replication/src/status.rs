//! What people and the cluster's controller get to see of a group on a node.

use std::collections::BTreeMap;

use std::sync::atomic::Ordering;

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver as _;
use trine_types::{GroupId, NodeId, NodeNumber};

use crate::node::{Local, Node};

/// What this node's replica is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It decides what is next in the log.
    Leader,
    /// It votes and follows.
    Follower,
    /// It asks for votes.
    Candidate,
    /// It follows without a vote (or is not a member yet).
    Learner,
    /// It has stopped; see [`GroupStatus::stopped`].
    Stopped,
}

/// One group as this node's replica sees it. Indexes are Raft log indexes;
/// 0 where there is no entry yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupStatus {
    /// Which group.
    pub group: GroupId,
    /// What this node is in it.
    pub role: Role,
    /// Who leads, as far as known here.
    pub leader: Option<NodeNumber>,
    /// Raft's term.
    pub term: u64,
    /// Members with a vote, old and new ones while the members change.
    pub voters: BTreeMap<NodeNumber, NodeId>,
    /// Members without a vote.
    pub learners: BTreeMap<NodeNumber, NodeId>,
    /// Whether old and new voters still have to agree (joint consensus).
    pub changing: bool,
    /// The last entry in the local log.
    pub last_index: u64,
    /// The last entry of the local log known to be on a majority.
    pub committed: u64,
    /// The last entry whose effect is in the state here.
    pub applied: u64,
    /// The digest of the state at `applied`.
    pub digest: u64,
    /// State time, milliseconds since the epoch.
    pub time_ms: u64,
    /// Whether the replica's ticker is parked.
    pub hibernating: bool,
    /// At the leader: how many entries each other member is behind.
    pub lag: BTreeMap<NodeNumber, u64>,
    /// Why the replica stopped, if it did.
    pub stopped: Option<String>,
}

/// Looks at one local replica.
pub(crate) fn status_of(node: &Node, group: GroupId, local: &Local) -> GroupStatus {
    let metrics = local.raft.metrics();
    let metrics = metrics.borrow_watched().clone();
    let index = |id: &Option<crate::engine::LogId>| id.map_or(0, |id| id.index);
    let stopped =
        local.replica.stopped().or_else(|| metrics.running_state.as_ref().err().map(ToString::to_string));
    let role = match metrics.state {
        _ if stopped.is_some() => Role::Stopped,
        ServerState::Leader => Role::Leader,
        ServerState::Follower => Role::Follower,
        ServerState::Candidate => Role::Candidate,
        ServerState::Learner | ServerState::Shutdown => Role::Learner,
    };
    let config = &metrics.membership_config;
    let is_voter = |number: &u64| config.voter_ids().any(|voter| voter == *number);
    let members = |with_vote: bool| {
        let chosen = config.nodes().filter(|(number, _)| is_voter(number) == with_vote);
        chosen.map(|(number, member)| (NodeNumber(*number), member.key)).collect()
    };
    let last_index = metrics.last_log_index.unwrap_or(0);
    let applied = local.replica.applied();
    let lag = metrics.replication.iter().flatten().filter(|(number, _)| **number != node.number.0);
    GroupStatus {
        group,
        role,
        leader: metrics.current_leader.map(NodeNumber),
        term: metrics.current_term,
        voters: members(true),
        learners: members(false),
        changing: config.membership().get_joint_config().len() > 1,
        last_index,
        // Not `cluster_committed`: that one starts again with each leader, and
        // may be ahead of the local log. What was applied is committed, too.
        committed: index(&metrics.local_committed).max(index(&applied.last)),
        applied: index(&applied.last),
        digest: applied.digest,
        time_ms: applied.time_ms,
        hibernating: local.parked.load(Ordering::Relaxed),
        lag: lag
            .map(|(number, matched)| (NodeNumber(*number), last_index.saturating_sub(index(matched))))
            .collect(),
        stopped,
    }
}
