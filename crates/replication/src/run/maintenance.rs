//! What a node does for its replicas now and then: purge logs behind flushed
//! state, and compare digests with the other replicas'.
//!
//! State is never synced on the request path, so a log entry may go only when
//! the state that contains it is known to be on disk: note where each group
//! is, flush the store once for all, then purge up to what was noted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver as _;
use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use trine_transport::Lane;
use trine_types::{GroupId, NodeId, NodeNumber};

use super::front::FrontEvent;
use super::server::DIGEST;
use crate::batch::Content;
use crate::node::{Local, Node};

/// Marks whose reports a leader keeps, per group.
const KEPT_MARKS: usize = 4;
/// How long a snapshot (a view, taken in no time) may take to be noted.
const SNAPSHOT_DEADLINE: Duration = Duration::from_secs(5);

/// A replica's digest at a mark, sent to the leader.
#[derive(Serialize, Deserialize)]
struct Report {
    group: u32,
    index: u64,
    digest: u64,
}

/// Digests by member, by index of the mark.
type Marks = BTreeMap<u64, BTreeMap<NodeNumber, u64>>;

/// Reports that this node received as a leader.
#[derive(Default)]
pub(crate) struct DigestBoard {
    // Written by reports, once per mark and member.
    marks: Mutex<BTreeMap<GroupId, Marks>>,
}

impl DigestBoard {
    fn marks(&self) -> MutexGuard<'_, BTreeMap<GroupId, Marks>> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, group: GroupId, index: u64, from: NodeNumber, digest: u64) -> BTreeMap<NodeNumber, u64> {
        let mut marks = self.marks();
        let of_group = marks.entry(group).or_default();
        of_group.entry(index).or_default().insert(from, digest);
        while of_group.len() > KEPT_MARKS {
            of_group.pop_first();
        }
        of_group.get(&index).cloned().unwrap_or_default()
    }
}

/// What the reports about one mark mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finding {
    /// Nothing, or nothing yet.
    Nothing,
    /// Someone differs from this digest of the majority.
    Minority(u64),
    /// All voters reported and no majority agrees.
    NoMajority,
}

fn finding(voters: &[NodeNumber], reports: &BTreeMap<NodeNumber, u64>) -> Finding {
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    for (_, digest) in reports.iter().filter(|(number, _)| voters.contains(number)) {
        *counts.entry(*digest).or_default() += 1;
    }
    let majority = counts.iter().find(|(_, count)| **count * 2 > voters.len()).map(|(digest, _)| *digest);
    let differs = reports.values().any(|digest| Some(digest) != reports.values().next());
    let all_reported = counts.values().sum::<usize>() == voters.len();
    match majority {
        Some(digest) if differs => Finding::Minority(digest),
        None if all_reported && !voters.is_empty() => Finding::NoMajority,
        _ => Finding::Nothing,
    }
}

/// A member's report came in.
pub(crate) fn digest_arrived(node: &Arc<Node>, from: NodeId, body: Bytes) {
    let Ok(report) = postcard::from_bytes::<Report>(&body) else { return };
    drop(body);
    let group = GroupId(report.group);
    let Some(local) = node.local(group) else { return };
    let Some(number) = local.member_number(from) else { return };
    take_report(node, &local, group, number, report.index, report.digest);
}

fn take_report(
    node: &Arc<Node>,
    local: &Arc<Local>,
    group: GroupId,
    from: NodeNumber,
    index: u64,
    digest: u64,
) {
    if local.leader() != Some(node.number) {
        return;
    }
    let voters: Vec<NodeNumber> = {
        let metrics = local.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.voter_ids().map(NodeNumber).collect()
    };
    let reports = node.boards.digests.note(group, index, from, digest);
    let digest = match finding(&voters, &reports) {
        Finding::Nothing => return,
        Finding::Minority(digest) => Some(digest),
        Finding::NoMajority => None,
    };
    tracing::error!(%group, index, ?reports, "replicas differ");
    send_control(node, group, Content::Verdict { index, digest });
}

fn send_control(node: &Arc<Node>, group: GroupId, content: Content) {
    let Some(route) = node.known_route(group) else { return };
    let (done, _) = oneshot::channel();
    // A full queue: the next mark tries again.
    let _ = route.front.try_send(FrontEvent::Control { at_least_ms: 0, content, done });
}

/// What the task remembers per group.
#[derive(Default)]
struct Upkeep {
    reported: Option<(u64, u64)>,
    last_mark: u64,
}

/// Runs as long as the node.
pub(crate) async fn run(node: Arc<Node>, mut stop: watch::Receiver<bool>) {
    let mut ticks = node.endpoint.grid().ticks(node.config.maintenance_interval);
    let mut upkeep: BTreeMap<GroupId, Upkeep> = BTreeMap::new();
    loop {
        tokio::select! {
            biased;
            _ = stop.changed() => return,
            _ = ticks.tick() => {
                let locals = node.locals();
                for (group, local) in &locals {
                    mark_and_report(&node, *group, local, upkeep.entry(*group).or_default());
                }
                purge(&node, &locals).await;
            }
        }
    }
}

fn mark_and_report(node: &Arc<Node>, group: GroupId, local: &Arc<Local>, upkeep: &mut Upkeep) {
    let applied = local.replica.applied().last.map_or(0, |last| last.index);
    let leader = local.leader();
    if leader == Some(node.number) && applied >= upkeep.last_mark + node.config.digest_every {
        upkeep.last_mark = applied;
        send_control(node, group, Content::Mark);
    }
    let mark = *local.replica.watch_mark().borrow();
    if mark == upkeep.reported {
        return;
    }
    let (Some((index, digest)), Some(leader)) = (mark, leader) else { return };
    upkeep.reported = mark;
    upkeep.last_mark = upkeep.last_mark.max(index);
    if leader == node.number {
        take_report(node, local, group, node.number, index, digest);
        return;
    }
    let report = Report { group: group.0, index, digest };
    let (Some(key), Ok(body)) = (local.member_key(leader), postcard::to_stdvec(&report)) else { return };
    // A lost report: the next mark is compared.
    let _ = node.endpoint.notify(key, Lane::Control, DIGEST, body.into());
}

async fn purge(node: &Arc<Node>, locals: &[(GroupId, Arc<Local>)]) {
    let pinned: Vec<GroupId> = node.wal.pinning_groups().into_iter().map(|pin| pin.group).collect();
    let mut due = Vec::new();
    for (group, local) in locals {
        let applied = local.replica.applied().last.map_or(0, |last| last.index);
        let purged = local.log.bounds().purged.map_or(0, |at| at.index);
        let config = &node.config;
        let keep = if pinned.contains(group) { config.keep_entries / 8 } else { config.keep_entries };
        let upto = applied.saturating_sub(keep);
        let enough = upto >= purged + config.purge_after || (pinned.contains(group) && upto > purged);
        if enough {
            due.push((local.clone(), upto));
        }
    }
    if due.is_empty() {
        return;
    }
    let replicas = node.replicas.clone();
    let began = Instant::now();
    match node.workers.run(move || replicas.check(replicas.flush())).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return tracing::error!(%error, "state could not be flushed; logs stay"),
        Err(lost) => return tracing::error!(error = %lost, "state could not be flushed; logs stay"),
    }
    tracing::debug!(groups = due.len(), took = ?began.elapsed(), "state is flushed, logs are purged");
    for (local, upto) in due {
        // Errors: the replica has stopped.
        if local.raft.trigger().snapshot().await.is_err() {
            continue;
        }
        let noted = local
            .raft
            .wait(Some(SNAPSHOT_DEADLINE))
            .metrics(|metrics| metrics.snapshot.is_some_and(|at| at.index >= upto), "a snapshot")
            .await;
        if noted.is_ok() {
            let _ = local.raft.trigger().purge_log(upto).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOTERS: [NodeNumber; 3] = [NodeNumber(1), NodeNumber(2), NodeNumber(3)];

    fn reports(all: &[(u64, u64)]) -> BTreeMap<NodeNumber, u64> {
        all.iter().map(|(number, digest)| (NodeNumber(*number), *digest)).collect()
    }

    #[test]
    fn agreement_needs_no_verdict() {
        assert_eq!(finding(&VOTERS, &reports(&[(1, 7)])), Finding::Nothing);
        assert_eq!(finding(&VOTERS, &reports(&[(1, 7), (2, 7)])), Finding::Nothing);
        assert_eq!(finding(&VOTERS, &reports(&[(1, 7), (2, 7), (3, 7)])), Finding::Nothing);
    }

    #[test]
    fn a_minority_is_overruled_even_if_it_only_listens() {
        assert_eq!(finding(&VOTERS, &reports(&[(1, 7), (2, 8)])), Finding::Nothing);
        assert_eq!(finding(&VOTERS, &reports(&[(1, 7), (2, 8), (3, 7)])), Finding::Minority(7));
        assert_eq!(finding(&VOTERS, &reports(&[(1, 7), (2, 7), (9, 8)])), Finding::Minority(7));
    }

    #[test]
    fn without_a_majority_everyone_stops() {
        assert_eq!(finding(&VOTERS, &reports(&[(1, 7), (2, 8), (3, 9)])), Finding::NoMajority);
    }
}
