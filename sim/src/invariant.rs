//! The invariants of Raft, checked after every step against what all nodes
//! say about their replicas. One file per property; each keeps what it has
//! seen, because most properties speak about the whole run.

mod election_safety;
mod leader_completeness;
mod log_matching;
mod monotonic;
mod state_machine_safety;

use trine_types::NodeNumber;

use crate::failure::Held;
use crate::system::{Observe, ReplicaView};

/// One running node, seen between two steps.
pub struct Sight<'a, D> {
    /// Which node.
    pub node: NodeNumber,
    /// Which life of it.
    pub incarnation: u64,
    /// Its replicas.
    pub replicas: Vec<ReplicaView>,
    /// For a closer look at its log.
    pub door: &'a D,
}

/// All invariants with their memory.
#[derive(Debug, Default)]
pub struct Invariants {
    elections: election_safety::Elections,
    logs: log_matching::Logs,
    leaders: leader_completeness::Leaders,
    states: state_machine_safety::States,
    positions: monotonic::Positions,
}

impl Invariants {
    /// Looks at all running nodes.
    ///
    /// # Errors
    /// The first property that does not hold.
    pub fn check<D: Observe>(&mut self, sights: &[Sight<'_, D>]) -> Held {
        for sight in sights {
            for replica in &sight.replicas {
                self.positions.check(sight.node, sight.incarnation, replica)?;
                self.elections.check(sight.node, replica)?;
                self.states.check(sight.node, replica)?;
                self.logs.check(sight, replica)?;
                self.leaders.check(sight.node, replica, &self.logs)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use trine_types::GroupId;

    use super::*;
    use crate::system::EntryView;

    /// A follower with an empty log.
    pub(super) fn replica() -> ReplicaView {
        ReplicaView {
            group: GroupId(7),
            leads: false,
            term: 1,
            voters: (1..=3).map(NodeNumber).collect(),
            learners: std::collections::BTreeSet::new(),
            last_index: 0,
            committed: 0,
            applied: 0,
            digest: (0, 0),
        }
    }

    /// A log with these terms, from index 1.
    pub(super) struct FixedLog(pub(super) Vec<u64>);

    impl Observe for FixedLog {
        fn replicas(&self) -> Vec<ReplicaView> {
            Vec::new()
        }

        fn log(&self, _group: GroupId, from: u64, to: u64) -> Vec<EntryView> {
            (1..)
                .zip(&self.0)
                .filter(|(index, _)| (from..to).contains(index))
                .map(|(index, term)| EntryView { index, term: *term, hash: 0 })
                .collect()
        }
    }
}
