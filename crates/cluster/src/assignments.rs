//! Which nodes should hold a group (`replicas`) and which ones Raft last said
//! do (`members`). The controller writes the first, the group's leader settles
//! the second; a change is in flight while they differ.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use trine_types::{GroupId, NodeNumber};

/// Most replicas of one group.
pub const MAX_REPLICAS: usize = 7;

/// Replicas of a database partition, and of `jobs` (or as many as there are
/// nodes).
pub const GROUP_REPLICAS: usize = 3;

/// One group's row.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Assignment {
    /// Who should vote in the group; the first should lead it.
    pub replicas: Vec<NodeNumber>,
    /// Who voted in it when its leader last said so. Empty before its birth.
    pub members: BTreeSet<NodeNumber>,
    /// Counts the changes of `replicas`; a settlement names the one it is for.
    pub revision: u64,
    /// Nobody holds the group yet: its first replica gives birth to it, empty.
    pub unborn: bool,
}

/// All groups' rows.
pub type Assignments = BTreeMap<GroupId, Assignment>;

impl Assignment {
    /// A group that starts empty on one node.
    pub fn unborn(first: NodeNumber) -> Self {
        Self { replicas: vec![first], members: BTreeSet::new(), revision: 1, unborn: true }
    }

    /// Whether Raft's voters are the wanted ones.
    pub fn settled(&self) -> bool {
        !self.unborn && self.members == self.wanted()
    }

    /// The wanted voters as a set.
    pub fn wanted(&self) -> BTreeSet<NodeNumber> {
        self.replicas.iter().copied().collect()
    }

    /// Whether `node` should have a replica open: it is to become a member, or
    /// it still is one.
    pub fn hosts(&self, node: NodeNumber) -> bool {
        self.replicas.contains(&node) || self.members.contains(&node)
    }

    /// Everyone who may know the group's leader, wanted ones first.
    pub fn hosting(&self) -> Vec<NodeNumber> {
        let mut hosts = self.replicas.clone();
        hosts.extend(self.members.iter().filter(|n| !self.replicas.contains(n)));
        hosts
    }

    /// The node that should lead.
    pub fn preferred_leader(&self) -> Option<NodeNumber> {
        self.replicas.first().copied()
    }

    /// Wants other replicas from now on.
    pub fn assign(&mut self, replicas: Vec<NodeNumber>) {
        self.replicas = replicas;
        self.revision += 1;
    }

    /// Notes the voters that the group's leader reports. Returns whether that
    /// was news.
    pub fn settle(&mut self, members: BTreeSet<NodeNumber>) -> bool {
        let news = self.members != members || self.unborn;
        self.members = members;
        self.unborn = false;
        news
    }

    /// Strikes a node that is gone for good.
    pub fn forget(&mut self, node: NodeNumber) {
        if self.replicas.contains(&node) {
            self.replicas.retain(|&n| n != node);
            self.revision += 1;
        }
        self.members.remove(&node);
    }
}

/// How many nodes vote in `meta`: all of up to three, five from seven on.
pub fn meta_voters(nodes: usize) -> usize {
    match nodes {
        0..=3 => nodes,
        4..=6 => 3,
        _ => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meta_has_an_odd_number_of_voters_once_it_can() {
        let counts: Vec<_> = (1..=8).map(meta_voters).collect();
        assert_eq!(counts, [1, 2, 3, 3, 3, 3, 5, 5]);
    }

    #[test]
    fn a_change_is_in_flight_until_it_is_settled() {
        let mut row = Assignment::unborn(NodeNumber(1));
        assert!(!row.settled());
        assert!(row.settle(BTreeSet::from([NodeNumber(1)])));
        assert!(row.settled());
        row.assign(vec![NodeNumber(2), NodeNumber(3)]);
        assert!(!row.settled());
        assert!(row.hosts(NodeNumber(1)), "it holds the data until the change is settled");
        row.settle(row.wanted());
        assert!(row.settled() && !row.hosts(NodeNumber(1)));
    }
}
