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
    /// Who of them is left and answers. Of `meta`, which every node follows:
    /// if no voter is left, who followed it and answers.
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

impl GroupRecovery {
    /// Whether the group goes on from one that had no vote.
    fn promotes_a_follower(&self) -> bool {
        self.from.is_some_and(|from| !self.voters.contains(&from))
    }

    /// What stands in the way: only silent nodes, not given up, have a replica.
    fn obstacle(&self, lost: &BTreeSet<NodeNumber>) -> Option<String> {
        let left: Vec<String> =
            self.voters.iter().filter(|n| !lost.contains(n)).map(ToString::to_string).collect();
        let undecided = self.from.is_none() && !left.is_empty();
        let left = left.join(", ");
        undecided
            .then(|| format!("only {left} may have it and does not answer: start it, or give it up as well"))
    }
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
        let answers = |n: &NodeNumber| !lost.contains(n) && here(n).is_some();
        // A voter that is not given up but silent may have more than they.
        let followers = group == GroupId::META && left == 0;
        let all = row.members.iter().chain(meta.nodes.keys().filter(|_| followers));
        let mut remaining: BTreeSet<_> = all.copied().filter(|n| answers(n)).collect();
        // A change of voters may be in the log of a group and not yet in `meta`'s
        // rows; only who votes there can go on.
        let is_voter = |n: &NodeNumber| here(n).is_some_and(|report| report.voters.contains(n));
        if followers && remaining.iter().any(is_voter) {
            remaining.retain(is_voter);
        }
        // Raft's own order: the log whose last entry is of a later term wins,
        // then the longer one. What a replica has voted in says nothing.
        let best = remaining
            .iter()
            .filter_map(|n| Some((*n, here(n)?)))
            .max_by_key(|(n, r)| (r.last_term, r.last_index, std::cmp::Reverse(*n)));
        let (last_index, committed) = best.map_or((0, 0), |(_, r)| (r.last_index, r.committed));
        let from = best.map(|(number, _)| number);
        let may_miss = words(from, last_index, lost, followers);
        let voters = row.members.clone();
        let name = group.to_string();
        let mut group =
            GroupRecovery { group, name, voters, remaining, from, last_index, committed, may_miss };
        if let Some(obstacle) = group.obstacle(lost) {
            group.may_miss = obstacle;
        }
        Some(group)
    });
    Recovery { lost: lost.clone(), groups: groups.collect() }
}

fn words(from: Option<NodeNumber>, last_index: u64, lost: &BTreeSet<NodeNumber>, followers: bool) -> String {
    let lost: Vec<String> = lost.iter().map(ToString::to_string).collect();
    let lost = lost.join(", ");
    match from {
        Some(from) if followers => format!(
            "nobody who voted is left: everything up to entry {last_index} is on {from}, which only followed, and \
             stays; nodes, users, tokens and places of replicas that only {lost} acknowledged after that are \
             missing. The key that admits nodes is lost too and replaced: a node that is off now is to be removed \
             and to join again, with an empty data directory and a fresh ticket"
        ),
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
    /// [`ClusterError`]; groups before the failing one are recovered. Nothing
    /// is changed while the only replica that is left of a group is silent.
    pub async fn recover(&self, lost: &BTreeSet<NodeNumber>) -> Result<Recovery, ClusterError> {
        let recovery = self.plan_recovery(lost).await?;
        let obstacle = recovery.groups.iter().find_map(|group| Some((group.group, group.obstacle(lost)?)));
        if let Some((group, reason)) = obstacle {
            return Err(ClusterError::NotRecovered { group, reason });
        }
        let (own, others): (Vec<_>, Vec<_>) =
            recovery.groups.iter().partition(|group| group.group == GroupId::META);
        let promoted = own.iter().find(|group| group.promotes_a_follower()).and_then(|group| group.from);
        for group in own {
            self.recover_group(group, lost).await?;
        }
        self.forget(lost).await?;
        if let Some(from) = promoted {
            self.entrust_meta(from).await?;
        }
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

    /// `meta`, as soon as it has a leader again.
    async fn meta_again(&self) -> Result<MetaState, ClusterError> {
        let meta = tokio::time::timeout(META_PATIENCE, self.context().meta_now()).await;
        meta.map_err(|_| ClusterError::NotRecovered {
            group: GroupId::META,
            reason: "it has no leader yet; run the same command again".to_owned(),
        })?
    }

    /// Says in `meta` itself that `from` votes in it. As its only voter it makes a
    /// new issuing key, since nobody is left who could give it the old one, and
    /// from it the others get their certificates and, when they are chosen to
    /// vote, that key.
    async fn entrust_meta(&self, from: NodeNumber) -> Result<(), ClusterError> {
        let meta = self.meta_again().await?;
        let row = meta.assignments.get(&GroupId::META).filter(|row| !row.replicas.contains(&from));
        let Some(row) = row else { return Ok(()) };
        self.act(Command::Assign { changes: vec![(GroupId::META, row.revision, vec![from])] }).await?;
        Ok(())
    }

    /// Revokes the lost nodes, as soon as `meta` takes commands again.
    async fn forget(&self, lost: &BTreeSet<NodeNumber>) -> Result<(), ClusterError> {
        let meta = self.meta_again().await?;
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
            last_term: term,
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
        // Whoever voted in a later term has no later log by that.
        let mut voted = reports.clone();
        voted.get_mut(&NodeNumber(1)).expect("reported")[0].term = 6;
        assert_eq!(plan(&meta, &lost, &voted).groups[0].from, Some(NodeNumber(2)));
        let all_lost = (1..=5).map(NodeNumber).collect();
        let nothing = plan(&meta, &all_lost, &BTreeMap::new());
        assert!(nothing.groups.iter().all(|g| g.from.is_none() && g.may_miss.starts_with("all of it")));
    }

    #[test]
    fn meta_goes_on_from_a_follower_only_when_no_voter_is_left() {
        let mut meta = created(1);
        for n in 2..=5 {
            join(&mut meta, n);
        }
        let members: BTreeSet<_> = (1..=3).map(NodeNumber).collect();
        meta.apply(1, Command::Settle { group: GroupId::META, revision: 1, members: members.clone() });
        let reports = BTreeMap::from([
            (NodeNumber(4), vec![report(GroupId::META, 2, 50)]),
            (NodeNumber(5), vec![report(GroupId::META, 2, 60)]),
        ]);
        let recovery = plan(&meta, &members, &reports);
        let group = &recovery.groups[0];
        assert_eq!(
            (group.group, group.from, group.promotes_a_follower()),
            (GroupId::META, Some(NodeNumber(5)), true)
        );
        assert!(
            group.may_miss.contains("only followed") && group.may_miss.contains("empty data directory"),
            "{group:?}"
        );
        // The group was about to replace 3 by 4 when its voters were lost.
        let mut changing = reports.clone();
        changing.get_mut(&NodeNumber(4)).expect("reported")[0].voters = [1, 2, 4].map(NodeNumber).into();
        let group = plan(&meta, &members, &changing).groups.remove(0);
        assert_eq!((group.from, group.remaining.len()), (Some(NodeNumber(4)), 1));
        // The third one is silent, and not given up.
        let two = (1..=2).map(NodeNumber).collect();
        let recovery = plan(&meta, &two, &reports);
        assert_eq!((recovery.groups[0].from, recovery.groups[0].remaining.len()), (None, 0));
        let obstacle = &recovery.groups[0].may_miss;
        assert!(obstacle.contains("only n3") && obstacle.contains("give it up as well"), "{obstacle}");
    }
}
