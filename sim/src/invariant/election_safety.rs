//! Election safety: a term has at most one leader, for ever. Violated by a
//! vote that was answered before it was on disk, or by two majorities.

use std::collections::BTreeMap;

use trine_types::{GroupId, NodeNumber};

use crate::failure::{Held, Property};
use crate::system::ReplicaView;

/// Who led which term.
#[derive(Debug, Default)]
pub(super) struct Elections {
    led: BTreeMap<(GroupId, u64), NodeNumber>,
}

impl Elections {
    pub(super) fn check(&mut self, node: NodeNumber, replica: &ReplicaView) -> Held {
        if !replica.leads {
            return Ok(());
        }
        let leader = *self.led.entry((replica.group, replica.term)).or_insert(node);
        if leader == node {
            return Ok(());
        }
        let (group, term) = (replica.group, replica.term);
        let detail = format!("{group}: both {leader} and {node} led term {term}");
        Err((Property::ElectionSafety, detail))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::replica;
    use super::*;

    #[test]
    fn a_second_leader_of_a_term_is_found() {
        let mut elections = Elections::default();
        let leader = |term| ReplicaView { leads: true, term, ..replica() };
        assert_eq!(elections.check(NodeNumber(1), &leader(1)), Ok(()));
        assert_eq!(elections.check(NodeNumber(2), &leader(2)), Ok(()));
        assert_eq!(elections.check(NodeNumber(1), &leader(1)), Ok(()));
        assert!(elections.check(NodeNumber(2), &leader(1)).is_err());
    }
}
