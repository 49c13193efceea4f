//! What people and programs are shown: the cluster in one screen, its nodes,
//! its groups. Plain data; the command line prints it or turns it into JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use trine_types::{ClusterId, GroupId, NodeId, NodeNumber};

use crate::controller;
use crate::state::MetaState;

/// What one node says about one of its replicas.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReplicaReport {
    /// Which group.
    pub group: GroupId,
    /// `leader`, `follower`, `learner`, …
    pub role: String,
    /// Whom it takes for the leader.
    pub leader: Option<NodeNumber>,
    /// Raft's term.
    pub term: u64,
    /// Who votes, as it knows.
    pub voters: BTreeSet<NodeNumber>,
    /// Who only learns, as it knows.
    pub learners: BTreeSet<NodeNumber>,
    /// Index of the last entry in its log.
    pub last_index: u64,
    /// Index of the last entry that it knows to be on a majority.
    pub committed: u64,
    /// Index of the last entry in its state.
    pub applied: u64,
    /// Digest of its state.
    pub digest: u64,
    /// The index at which the digest holds.
    pub digest_index: u64,
    /// Whether its ticker is parked.
    pub hibernating: bool,
}

/// One group, gathered from the nodes that answered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GroupSummary {
    /// Which group.
    pub group: GroupId,
    /// `meta`, `partition-3`, …
    pub name: String,
    /// Its leader in the highest term that anybody reports.
    pub leader: Option<NodeNumber>,
    /// That term.
    pub term: u64,
    /// Who should hold it, the preferred leader first.
    pub wanted: Vec<NodeNumber>,
    /// Whether who should hold it does.
    pub settled: bool,
    /// Who votes.
    pub voters: BTreeSet<NodeNumber>,
    /// Who only learns.
    pub learners: BTreeSet<NodeNumber>,
    /// Each replica's own words, by node.
    pub replicas: BTreeMap<NodeNumber, ReplicaReport>,
    /// Whether replicas at the same index report different digests.
    pub digests_differ: bool,
}

/// One node, as `meta` and the asked node see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeSummary {
    /// Its number.
    pub number: NodeNumber,
    /// Its key.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Its failure domain.
    pub zone: String,
    /// Its share.
    pub weight: u16,
    /// Where its peers reach it.
    pub addresses: Vec<SocketAddr>,
    /// Where its clients reach it.
    pub clients: BTreeMap<String, SocketAddr>,
    /// How often it has been started.
    pub incarnation: u64,
    /// Whether it is being emptied.
    pub leaving: bool,
    /// Whether it answers the node that was asked.
    pub reachable: bool,
    /// Whether it votes in `meta`.
    pub votes: bool,
    /// In how many other groups it votes.
    pub groups: usize,
}

/// The cluster in one screen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// Its identity.
    pub cluster: ClusterId,
    /// Which node says so.
    pub asked: NodeNumber,
    /// Its nodes.
    pub nodes: Vec<NodeSummary>,
    /// Number of database partitions.
    pub partitions: u16,
    /// Features up to this level may be used.
    pub feature_level: u32,
    /// Groups whose members are being changed.
    pub changing: Vec<GroupId>,
    /// Groups of which too few members answer the asked node.
    pub without_majority: Vec<GroupId>,
    /// How many nodes may fail at once without stopping anything.
    pub tolerates: usize,
    /// The same in words, with what to do about it.
    pub tolerance: String,
}

/// The nodes, as `meta` and `suspects` describe them.
pub fn nodes(meta: &MetaState, suspects: &BTreeSet<NodeNumber>) -> Vec<NodeSummary> {
    let holds = |number: &NodeNumber| {
        let others = meta.assignments.iter().filter(|(group, _)| **group != GroupId::META);
        others.filter(|(_, row)| row.members.contains(number)).count()
    };
    let votes = |number: &NodeNumber| {
        meta.assignments.get(&GroupId::META).is_some_and(|row| row.members.contains(number))
    };
    let summary = |node: &crate::nodes::NodeRow| NodeSummary {
        number: node.number,
        id: node.id,
        name: node.name.clone(),
        zone: node.zone.clone(),
        weight: node.weight,
        addresses: node.addresses.clone(),
        clients: node.clients.clone(),
        incarnation: node.incarnation.0,
        leaving: !node.takes_replicas(),
        reachable: !suspects.contains(&node.number),
        votes: votes(&node.number),
        groups: holds(&node.number),
    };
    meta.nodes.values().map(summary).collect()
}

/// The whole cluster, as `asked` sees it. `None` before genesis.
pub fn summary(meta: &MetaState, asked: NodeNumber, suspects: &BTreeSet<NodeNumber>) -> Option<Summary> {
    let cluster = meta.cluster.as_ref()?;
    let answering = |members: &BTreeSet<NodeNumber>| members.iter().filter(|n| !suspects.contains(n)).count();
    let rows = &meta.assignments;
    let changing = rows.iter().filter(|(_, row)| !row.settled()).map(|(&group, _)| group).collect();
    let lost = rows.iter().filter(|(_, row)| !row.unborn && answering(&row.members) * 2 <= row.members.len());
    let without_majority: Vec<GroupId> = lost.map(|(&group, _)| group).collect();
    let down = meta.nodes.keys().filter(|n| suspects.contains(n)).count();
    let tolerates = controller::tolerance(meta).saturating_sub(down);
    let tolerance = words(meta, tolerates, down, without_majority.len());
    Some(Summary {
        cluster: cluster.id,
        asked,
        nodes: nodes(meta, suspects),
        partitions: cluster.partitions,
        feature_level: cluster.feature_level,
        changing,
        without_majority,
        tolerates,
        tolerance,
    })
}

fn words(meta: &MetaState, tolerates: usize, down: usize, without_majority: usize) -> String {
    if without_majority > 0 {
        return format!(
            "{without_majority} groups have no majority that answers: they take no writes until {down} nodes are back \
             (or are given up for lost with `trine recover`)"
        );
    }
    match (meta.nodes.len(), tolerates) {
        (1, _) => {
            "one node: everything is on one disk, and its loss loses all data; add two nodes".to_owned()
        }
        (2, _) => "two nodes: either one's failure stops all writes; add a third to tolerate one".to_owned(),
        (_, 0) if down > 0 => format!("{down} nodes do not answer: the next failure stops writes"),
        (_, 0) => "not yet tolerant: replicas are still being added".to_owned(),
        (_, 1) => {
            "any one node may fail without stopping anything or losing anything acknowledged".to_owned()
        }
        (_, n) => format!(
            "any {n} nodes may fail at once without stopping anything or losing anything acknowledged"
        ),
    }
}

/// Groups from the words of every node that answered.
pub fn groups(meta: &MetaState, reports: &BTreeMap<NodeNumber, Vec<ReplicaReport>>) -> Vec<GroupSummary> {
    meta.assignments
        .iter()
        .map(|(&group, row)| {
            let replicas: BTreeMap<NodeNumber, ReplicaReport> = reports
                .iter()
                .filter_map(|(&node, all)| Some((node, all.iter().find(|r| r.group == group)?.clone())))
                .collect();
            let newest = replicas.values().max_by_key(|r| (r.term, r.leader.is_some(), r.applied));
            let mut digests: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
            for replica in replicas.values() {
                digests.entry(replica.digest_index).or_default().insert(replica.digest);
            }
            GroupSummary {
                group,
                name: group.to_string(),
                leader: newest.and_then(|r| r.leader),
                term: newest.map_or(0, |r| r.term),
                wanted: row.replicas.clone(),
                settled: row.settled(),
                voters: newest.map_or_else(|| row.members.clone(), |r| r.voters.clone()),
                learners: newest.map(|r| r.learners.clone()).unwrap_or_default(),
                replicas,
                digests_differ: digests.values().any(|of_index| of_index.len() > 1),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command;
    use crate::state::tests::{created, join};

    #[test]
    fn one_and_two_nodes_say_that_they_tolerate_nothing() {
        let mut meta = created(1);
        let one = summary(&meta, NodeNumber(1), &BTreeSet::new()).expect("created");
        assert!(one.tolerance.contains("one disk"), "{}", one.tolerance);
        join(&mut meta, 2);
        let two = summary(&meta, NodeNumber(1), &BTreeSet::new()).expect("created");
        assert!(two.tolerance.contains("two nodes") && two.tolerates == 0, "{}", two.tolerance);
    }

    #[test]
    fn three_nodes_tolerate_one_and_say_so_until_it_happens() {
        let mut meta = created(1);
        join(&mut meta, 2);
        join(&mut meta, 3);
        let all: BTreeSet<_> = (1..=3).map(NodeNumber).collect();
        for group in [GroupId::META, GroupId::JOBS, GroupId::partition(0)] {
            let three = all.iter().copied().collect();
            meta.apply(1, Command::Assign { changes: vec![(group, 1, three)] });
            meta.apply(1, Command::Settle { group, revision: 2, members: all.clone() });
        }
        let none = BTreeSet::new();
        assert_eq!(summary(&meta, NodeNumber(1), &none).expect("created").tolerates, 1);
        let one_down = BTreeSet::from([NodeNumber(2)]);
        let seen = summary(&meta, NodeNumber(1), &one_down).expect("created");
        assert_eq!((seen.tolerates, seen.without_majority.len()), (0, 0));
        let two_down = BTreeSet::from([NodeNumber(2), NodeNumber(3)]);
        let seen = summary(&meta, NodeNumber(1), &two_down).expect("created");
        assert_eq!(seen.without_majority.len(), 3);
        assert!(seen.tolerance.contains("recover"), "{}", seen.tolerance);
    }
}
