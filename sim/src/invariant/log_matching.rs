//! Log matching, restricted to what is committed: once any replica knows an
//! index as committed, the entry there is the same on every replica that knows
//! it as committed, for ever (term and content). Only new positions are read.

use std::collections::BTreeMap;

use trine_types::{GroupId, NodeNumber};

use super::Sight;
use crate::failure::{Held, Property};
use crate::system::{EntryView, Observe, ReplicaView};

/// The committed log of each group as first seen.
#[derive(Debug, Default)]
pub(super) struct Logs {
    committed: BTreeMap<GroupId, BTreeMap<u64, (EntryView, NodeNumber)>>,
    checked: BTreeMap<(NodeNumber, GroupId), (u64, u64)>,
}

impl Logs {
    pub(super) fn check<D: Observe>(&mut self, sight: &Sight<'_, D>, replica: &ReplicaView) -> Held {
        let place = self.checked.entry((sight.node, replica.group)).or_default();
        if place.0 != sight.incarnation {
            *place = (sight.incarnation, 0); // a restart may have lost or changed anything
        }
        if place.1 >= replica.committed {
            return Ok(());
        }
        let entries = sight.door.log(replica.group, place.1 + 1, replica.committed + 1);
        place.1 = replica.committed;
        let log = self.committed.entry(replica.group).or_default();
        for entry in entries {
            let (first, whose) = *log.entry(entry.index).or_insert((entry, sight.node));
            if first != entry {
                let (group, node) = (replica.group, sight.node);
                let detail = format!(
                    "{group}: committed entry {} is {entry:?} on {node} but {first:?} on {whose}",
                    entry.index
                );
                return Err((Property::LogMatching, detail));
            }
        }
        Ok(())
    }

    /// The last committed entry of `group` that anybody knows.
    pub(super) fn last_committed(&self, group: GroupId) -> Option<EntryView> {
        self.committed.get(&group)?.last_key_value().map(|(_, (entry, _))| *entry)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{FixedLog, replica};
    use super::*;

    #[test]
    fn a_committed_entry_that_differs_is_found() {
        let log = |terms: &[u64]| FixedLog(terms.to_vec());
        let (one, two, three) = (log(&[1, 1, 2]), log(&[1, 1, 3]), log(&[1, 1, 2]));
        let mut logs = Logs::default();
        let mut check = |node, door, committed| {
            let sight = Sight { node: NodeNumber(node), incarnation: 1, replicas: Vec::new(), door };
            logs.check(&sight, &ReplicaView { committed, ..replica() })
        };
        assert_eq!(check(1, &one, 3), Ok(()));
        assert_eq!(check(2, &two, 2), Ok(()), "entry 3 is not committed there");
        assert_eq!(check(3, &three, 3), Ok(()));
        assert!(check(2, &two, 3).is_err());
    }
}
