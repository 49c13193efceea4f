//! Changes of members and leaders, asked for by the cluster's controller at a
//! group's leader. Members change as in Ongaro's thesis, chapter 4: a new one
//! listens until it has caught up, then old and new voters agree jointly
//! (§4.3), then only the new ones count.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use tokio::time::{Instant, timeout_at};
use trine_storage::LogEntry;
use trine_types::{GroupId, NodeId, NodeNumber};

use crate::engine::entry::{encode_payload, position};
use crate::engine::log::durable;
use crate::engine::{LogId, Member, Membership, Types, Vote};
use crate::error::{ChangeError, GroupError};
use crate::node::{Local, Node};

/// How far behind a new voter may be when the joint change begins.
const CAUGHT_UP_WITHIN: u64 = 256;
/// How long a new voter may take to catch up.
const CATCH_UP_DEADLINE: Duration = Duration::from_mins(2);
/// How long a hand-over may take; it is usually done in a few milliseconds.
const TRANSFER_DEADLINE: Duration = Duration::from_secs(2);

type WriteError = RaftError<Types, ClientWriteError<Types>>;

fn local(node: &Node, group: GroupId) -> Result<Arc<Local>, ChangeError> {
    Ok(node.local(group).ok_or(GroupError::NoReplica(group))?)
}

fn leading(node: &Node, group: GroupId) -> Result<Arc<Local>, ChangeError> {
    let local = local(node, group)?;
    match local.leader() {
        Some(leader) if leader == node.number => Ok(local),
        leader => Err(ChangeError::NotLeader { group, leader }),
    }
}

fn refused(group: GroupId, error: &WriteError) -> ChangeError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
            ChangeError::NotLeader { group, leader: forward.leader_id.map(NodeNumber) }
        }
        RaftError::APIError(ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(
            _,
        ))) => ChangeError::InProgress(group),
        RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => {
            ChangeError::Impossible(group, error.to_string())
        }
        RaftError::Fatal(fatal) => GroupError::Stopped(group, fatal.to_string()).into(),
        RaftError::APIError(error) => ChangeError::Unknown(group, error.to_string()),
    }
}

/// The members as they are: those with a vote, and all.
fn members(local: &Local) -> (BTreeSet<u64>, BTreeMap<u64, NodeId>) {
    let metrics = local.raft.server_metrics();
    let metrics = metrics.borrow_watched();
    let config = &metrics.membership_config;
    (config.voter_ids().collect(), config.nodes().map(|(number, member)| (*number, member.key)).collect())
}

/// Whether old and new voters still have to agree.
fn is_joint(local: &Local) -> bool {
    let metrics = local.raft.server_metrics();
    let metrics = metrics.borrow_watched();
    metrics.membership_config.membership().get_joint_config().len() > 1
}

async fn change(
    local: &Local,
    group: GroupId,
    change: ChangeMembers<u64, Member>,
    retain: bool,
) -> Result<(), ChangeError> {
    local.wake().await;
    match local.raft.change_membership(change, retain).await {
        Ok(_) => Ok(()),
        Err(error) => Err(refused(group, &error)),
    }
}

/// See [`crate::Replication::change_members`].
pub(crate) async fn change_members(
    node: Arc<Node>,
    group: GroupId,
    voters: BTreeMap<NodeNumber, NodeId>,
    learners: BTreeMap<NodeNumber, NodeId>,
) -> Result<(), ChangeError> {
    if voters.is_empty() {
        return Err(ChangeError::Impossible(group, "a group needs a voter".to_string()));
    }
    let local = leading(&node, group)?;
    let wanted: BTreeMap<u64, NodeId> =
        learners.iter().chain(&voters).map(|(number, key)| (number.0, *key)).collect();
    let (_, present) = members(&local);
    let new: BTreeMap<u64, Member> = wanted
        .iter()
        .filter(|(number, _)| !present.contains_key(number))
        .map(|(number, key)| (*number, Member { key: *key }))
        .collect();
    if !new.is_empty() {
        change(&local, group, ChangeMembers::AddNodes(new), true).await?;
    }
    let new_voters: BTreeSet<u64> = voters.keys().map(|number| number.0).collect();
    let (old_voters, _) = members(&local);
    for number in new_voters.difference(&old_voters) {
        catch_up(&node, &local, group, NodeNumber(*number)).await?;
    }
    // Old and new voters of a change that another leader left half done may be
    // just the new ones together.
    if new_voters != old_voters || is_joint(&local) {
        change(&local, group, ChangeMembers::ReplaceAllVoters(new_voters), true).await?;
    }
    let (_, present) = members(&local);
    let gone: BTreeSet<u64> = present.into_keys().filter(|number| !wanted.contains_key(number)).collect();
    if !gone.is_empty() {
        change(&local, group, ChangeMembers::RemoveNodes(gone), false).await?;
    }
    Ok(())
}

async fn catch_up(
    node: &Arc<Node>,
    local: &Local,
    group: GroupId,
    member: NodeNumber,
) -> Result<(), ChangeError> {
    let deadline = Instant::now() + CATCH_UP_DEADLINE;
    let mut metrics = local.raft.data_metrics();
    loop {
        let close = {
            let metrics = metrics.borrow_watched();
            let last = metrics.last_log.map_or(0, |last| last.index);
            let matched = metrics.replication.as_ref().and_then(|all| all.get(&member.0)).copied().flatten();
            matched.is_some_and(|matched| matched.index + CAUGHT_UP_WITHIN >= last)
        };
        if close {
            return Ok(());
        }
        leading(node, group)?;
        match timeout_at(deadline, metrics.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(GroupError::Stopped(group, "it was closed".to_string()).into()),
            Err(_) => return Err(ChangeError::NotCaughtUp(group, member)),
        }
    }
}

/// See [`crate::Replication::transfer_leader`].
pub(crate) async fn transfer_leader(
    node: Arc<Node>,
    group: GroupId,
    to: NodeNumber,
) -> Result<(), ChangeError> {
    let local = leading(&node, group)?;
    if to == node.number {
        return Ok(());
    }
    let (voters, _) = members(&local);
    if !voters.contains(&to.0) {
        return Err(ChangeError::Impossible(group, format!("{to} has no vote")));
    }
    let stopped = |error: openraft::errors::Fatal<Types>| GroupError::Stopped(group, error.to_string());
    local.hand_over_to(to).await.map_err(stopped)?;
    let mut metrics = local.raft.server_metrics();
    let deadline = Instant::now() + TRANSFER_DEADLINE;
    loop {
        let leader = metrics.borrow_watched().current_leader.map(NodeNumber);
        if leader == Some(to) {
            return Ok(());
        }
        match timeout_at(deadline, metrics.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(GroupError::Stopped(group, "it was closed".to_string()).into()),
            Err(_) => return Err(ChangeError::Unknown(group, format!("{to} did not take over in time"))),
        }
    }
}

/// Gives one group's leadership to the live voter with the longest log among
/// those that are `fit`, if this node has it and there is such a one.
pub(crate) async fn hand_over(
    node: &Arc<Node>,
    group: GroupId,
    local: &Local,
    fit: impl Fn(NodeNumber) -> bool,
) {
    if local.leader() != Some(node.number) {
        return;
    }
    let (voters, _) = members(local);
    let suspects = node.boards.liveness.suspects.borrow().clone();
    let best = {
        let metrics = local.raft.data_metrics();
        let metrics = metrics.borrow_watched();
        let matched = metrics.replication.iter().flatten();
        matched
            .filter(|(number, _)| voters.contains(number) && !suspects.contains(&NodeNumber(**number)))
            .filter(|(number, _)| **number != node.number.0 && fit(NodeNumber(**number)))
            .max_by_key(|(_, matched)| matched.map(|matched| matched.index))
            .map(|(number, _)| NodeNumber(*number))
    };
    if let Some(best) = best {
        tracing::info!(%group, to = %best, "hands leadership over");
        // An error: the replica has stopped.
        let _ = local.hand_over_to(best).await;
    }
}

/// See [`crate::Replication::hand_over_all`].
pub(crate) async fn hand_over_all(node: Arc<Node>, deadline: Duration) {
    let end = Instant::now() + deadline;
    let mut left = node.locals();
    while !left.is_empty() {
        let mut still = Vec::new();
        for (group, local) in left {
            let (voters, _) = members(&local);
            if local.leader() == Some(node.number) && voters.len() > 1 {
                hand_over(&node, group, &local, |_| true).await;
                still.push((group, local));
            }
        }
        left = still;
        let pause = Instant::now() + Duration::from_millis(25);
        if pause >= end {
            return;
        }
        tokio::time::sleep_until(pause).await;
        left.retain(|(_, local)| local.leader() == Some(node.number));
    }
}

/// What to write into the log of a group that has lost `lost` for good: an
/// entry that names the survivors, of a term of its own, and the vote for it.
/// Everyone who hears of it later follows, since its log is the newest. What
/// only the lost members had is lost.
pub(crate) async fn rewrite_members(
    node: &Node,
    group: GroupId,
    lost: &BTreeSet<NodeNumber>,
    membership: &Membership,
) -> Result<(), GroupError> {
    let storage = |error: std::io::Error| GroupError::Storage(error.to_string());
    let log = node.wal.group(group);
    let bounds = log.bounds();
    let survivors: BTreeMap<u64, Member> = membership
        .nodes()
        .filter(|(number, _)| !lost.contains(&NodeNumber(**number)))
        .map(|(number, member)| (*number, member.clone()))
        .collect();
    let voters: BTreeSet<u64> =
        membership.voter_ids().filter(|number| survivors.contains_key(number)).collect();
    let members = Membership::new(vec![voters], survivors)
        .map_err(|error| GroupError::Storage(format!("no survivor has a vote: {error}")))?;
    let vote: Option<Vote> = bounds.vote.as_deref().and_then(|bytes| postcard::from_bytes(bytes).ok());
    let term = vote.map_or(0, |vote| vote.leader_id.term).max(bounds.last.map_or(0, |last| last.term)) + 1;
    let index = bounds.last.or(bounds.purged).map_or(0, |last| last.index + 1);
    let payload = encode_payload(&openraft::EntryPayload::Membership(members)).map_err(storage)?;
    let at = position(LogId::new_term_index(term, index));
    let vote = postcard::to_stdvec(&Vote::new(term, node.number.0))
        .map_err(|error| GroupError::Storage(error.to_string()))?;
    durable(|done| log.save_vote(vote.into(), done)).await.map_err(storage)?;
    durable(|done| log.append(vec![LogEntry { at, payload }], done)).await.map_err(storage)
}
