//! Leader completeness: whoever leads a term has every entry that was
//! committed in earlier terms. Checked when a leader of a newer term is first
//! seen: its log must reach the last committed entry known by then. That the
//! entries themselves agree is log matching's part.

use std::collections::BTreeMap;

use trine_types::{GroupId, NodeNumber};

use super::log_matching::Logs;
use crate::failure::{Held, Property};
use crate::system::ReplicaView;

/// The newest term with a leader, per group.
#[derive(Debug, Default)]
pub(super) struct Leaders {
    newest: BTreeMap<GroupId, u64>,
}

impl Leaders {
    pub(super) fn check(&mut self, node: NodeNumber, replica: &ReplicaView, logs: &Logs) -> Held {
        let newest = self.newest.entry(replica.group).or_default();
        if !replica.leads || replica.term <= *newest {
            return Ok(());
        }
        *newest = replica.term;
        let Some(last) = logs.last_committed(replica.group) else { return Ok(()) };
        if last.term >= replica.term || replica.last_index >= last.index {
            return Ok(());
        }
        let (group, term, end) = (replica.group, replica.term, replica.last_index);
        let detail = format!(
            "{group}: {node} leads term {term} with a log up to {end}, but {} was committed in term {}",
            last.index, last.term
        );
        Err((Property::LeaderCompleteness, detail))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Sight;
    use super::super::tests::{FixedLog, replica};
    use super::*;

    #[test]
    fn a_leader_without_a_committed_entry_is_found() {
        let (mut logs, mut leaders) = (Logs::default(), Leaders::default());
        let door = FixedLog(vec![1, 1, 1]);
        let sight = Sight { node: NodeNumber(1), incarnation: 1, replicas: Vec::new(), door: &door };
        let view =
            |term, last_index| ReplicaView { leads: true, term, last_index, committed: 3, ..replica() };
        assert_eq!(logs.check(&sight, &view(1, 3)), Ok(()));
        assert_eq!(leaders.check(NodeNumber(1), &view(1, 3), &logs), Ok(()));
        assert_eq!(leaders.check(NodeNumber(2), &view(2, 3), &logs), Ok(()));
        assert!(leaders.check(NodeNumber(3), &view(3, 2), &logs).is_err());
    }
}
