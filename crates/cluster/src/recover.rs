//! When a majority is lost for good: go on with what is left. It is the one
//! procedure that may lose acknowledged writes, so it first says which.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use trine_types::{GroupId, NodeNumber};

use crate::calls::{Ask, Told};
use crate::command::Command;
use crate::error::ClusterError;
use crate::handle::Cluster;
use crate::state::MetaState;
use crate::status::ReplicaReport;

/// How long `meta` may take to have a leader after it was recovered.
const META_PATIENCE: Duration = Duration::from_secs(10);

/// What giving up nodes means for one group that loses its majority by it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GroupRecovery {
    /// Which group.
    pub group: GroupId,
    /// Its name.
    pub name: String,
    /// Who votes in it now.
    pub voters: BTreeSet<NodeNumber>,
    /// Who of them is left and answers.
    pub remaining: BTreeSet<NodeNumber>,
    /// On which of those the longest log is; it is the one to go on from.
    pub from: Option<NodeNumber>,
    /// The last entry there.
    pub last_index: u64,
    /// The last entry that is known there to be on a majority.
    pub committed: u64,
    /// In words: what may be missing.
    pub may_miss: String,
}

/// What giving up nodes means.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Recovery {
    /// The nodes that are given up.
    pub lost: BTreeSet<NodeNumber>,
    /// The groups that lose their majority.
    pub groups: Vec<GroupRecovery>,
}

/// Plans the recovery from what `meta` and the remaining replicas say.
pub fn plan(
    meta: &MetaState,
    lost: &BTreeSet<NodeNumber>,
    reports: &BTreeMap<NodeNumber, Vec<ReplicaReport>>,
) -> Recovery {
    let groups = meta.assignments.iter().filter_map(|(&group, row)| {
        let left = row.members.iter().filter(|n| !lost.contains(n)).count();
        if row.unborn || left * 2 > row.members.len() {
            return None;
        }
        let here = |number: &NodeNumber| reports.get(number)?.iter().find(|r| r.group == group);
        let remaining: BTreeSet<_> =
            row.members.iter().filter(|n| !lost.contains(n) && here(n).is_some()).copied().collect();
        // Raft's own order: the later term wins, then the longer log.
        let best = remaining
            .iter()
            .filter_map(|n| Some((*n, here(n)?)))
            .max_by_key(|(n, r)| (r.term, r.last_index, std::cmp::Reverse(*n)));
        let (last_index, committed) = best.map_or((0, 0), |(_, r)| (r.last_index, r.committed));
        let from = best.map(|(number, _)| number);
        let may_miss = words(from, last_index, lost);
        let voters = row.members.clone();
        let name = group.to_string();
        Some(GroupRecovery { group, name, voters, remaining, from, last_index, committed, may_miss })
    });
    Recovery { lost: lost.clone(), groups: groups.collect() }
}

fn words(from: Option<NodeNumber>, last_index: u64, lost: &BTreeSet<NodeNumber>) -> String {
    let lost: Vec<String> = lost.iter().map(ToString::to_string).collect();
    let lost = lost.join(", ");
    match from {
        Some(from) => format!(
            "everything up to entry {last_index} is on {from} and stays; writes that only {lost} acknowledged \
             after that are missing"
        ),
        None => format!("all of it: every replica was on {lost}; the group starts again, empty"),
    }
}

impl Cluster {
    /// What giving up `lost` would mean. Changes nothing.
    ///
    /// # Errors
    /// [`ClusterError::NotLost`] when one of them answers.
    pub async fn plan_recovery(&self, lost: &BTreeSet<NodeNumber>) -> Result<Recovery, ClusterError> {
        let meta = self.context().meta();
        let reports = self.replicas_everywhere().await;
        if let Some(alive) = lost.iter().find(|number| reports.contains_key(number)) {
            return Err(ClusterError::NotLost(*alive));
        }
        Ok(plan(&meta, lost, &reports))
    }

    /// Gives up `lost`: each group that has no majority without them goes on
    /// from the longest log that is left, then they are revoked and replaced.
    /// Repeating it after a failure is safe.
    ///
    /// # Errors
    /// [`ClusterError`]; groups before the failing one are recovered.
    pub async fn recover(&self, lost: &BTreeSet<NodeNumber>) -> Result<Recovery, ClusterError> {
        let recovery = self.plan_recovery(lost).await?;
        let (own, others): (Vec<_>, Vec<_>) =
            recovery.groups.iter().partition(|group| group.group == GroupId::META);
        for group in own {
            self.recover_group(group, lost).await?;
        }
        self.forget(lost).await?;
        let mut gone = Vec::new();
        for group in others {
            if group.from.is_some() {
                self.recover_group(group, lost).await?;
            } else {
                gone.push(group.group);
            }
        }
        if !gone.is_empty() {
            self.act(Command::Recreate { groups: gone }).await?;
        }
        Ok(recovery)
    }

    async fn recover_group(
        &self,
        group: &GroupRecovery,
        lost: &BTreeSet<NodeNumber>,
    ) -> Result<(), ClusterError> {
        let failed = |reason: String| ClusterError::NotRecovered { group: group.group, reason };
        let from = group.from.ok_or_else(|| failed("no replica is left".to_owned()))?;
        let meta = self.context().meta();
        let node = meta.nodes.get(&from).ok_or_else(|| failed(format!("{from} is not a node")))?;
        let ask = Ask::Recover { group: group.group, lost: lost.clone() };
        match self.context().ask_within(node.id, &ask, META_PATIENCE).await {
            Ok(Told::Yes) => Ok(()),
            Ok(Told::No(reason)) => Err(failed(reason)),
            Err(error) => Err(failed(error.to_string())),
            Ok(_) => Err(failed("not understood".to_owned())),
        }
    }

    /// Revokes the lost nodes, as soon as `meta` takes commands again.
    async fn forget(&self, lost: &BTreeSet<NodeNumber>) -> Result<(), ClusterError> {
        let meta = tokio::time::timeout(META_PATIENCE, self.context().meta_now()).await;
        let meta = meta.map_err(|_| ClusterError::NotRecovered {
            group: GroupId::META,
            reason: "it has no leader yet; run the same command again".to_owned(),
        })??;
        for &number in lost.iter().filter(|number| meta.nodes.contains_key(number)) {
            self.act(Command::Remove { number, force: true }).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::{created, join};

    fn report(group: GroupId, term: u64, last_index: u64) -> ReplicaReport {
        ReplicaReport {
            group,
            role: "follower".into(),
            leader: None,
            term,
            voters: BTreeSet::new(),
            learners: BTreeSet::new(),
            last_index,
            committed: last_index,
            applied: last_index,
            digest: 0,
            digest_index: 0,
            hibernating: false,
        }
    }

    #[test]
    fn the_longest_log_of_the_latest_term_is_the_one_to_go_on_from() {
        let mut meta = created(1);
        for n in 2..=5 {
            join(&mut meta, n);
        }
        let group = GroupId::partition(0);
        let all: BTreeSet<_> = (1..=5).map(NodeNumber).collect();
        meta.apply(1, Command::Settle { group, revision: 1, members: all });
        let lost: BTreeSet<_> = (3..=5).map(NodeNumber).collect();
        let reports = BTreeMap::from([
            (NodeNumber(1), vec![report(group, 4, 90)]),
            (NodeNumber(2), vec![report(group, 5, 70)]),
        ]);
        let recovery = plan(&meta, &lost, &reports);
        assert_eq!(recovery.groups.len(), 1, "meta was on one node, which is left");
        assert_eq!(recovery.groups[0].from, Some(NodeNumber(2)));
        assert!(recovery.groups[0].may_miss.contains("entry 70"), "{}", recovery.groups[0].may_miss);
        let all_lost = (1..=5).map(NodeNumber).collect();
        let nothing = plan(&meta, &all_lost, &BTreeMap::new());
        assert!(nothing.groups.iter().all(|g| g.from.is_none() && g.may_miss.starts_with("all of it")));
    }
}
