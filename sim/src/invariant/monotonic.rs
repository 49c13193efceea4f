//! Within one life of a process, the term, the commit and the apply positions
//! of a replica never go back, and nothing is applied before it is committed.
//! The term does not go back over a restart either: it was promised to others,
//! so that it must have been on disk first.

use std::collections::BTreeMap;

use trine_types::{GroupId, NodeNumber};

use crate::failure::{Held, Property};
use crate::system::ReplicaView;

/// Where each replica was when last seen: incarnation, term, committed, applied.
#[derive(Debug, Default)]
pub(super) struct Positions {
    seen: BTreeMap<(NodeNumber, GroupId), (u64, [u64; 3])>,
}

const NAMES: [&str; 3] = ["term", "committed", "applied"];
/// How many of these positions outlive the process.
const KEPT_BY_DISK: usize = 1;

impl Positions {
    pub(super) fn check(&mut self, node: NodeNumber, incarnation: u64, replica: &ReplicaView) -> Held {
        let now = [replica.term, replica.committed, replica.applied];
        let before = self.seen.insert((node, replica.group), (incarnation, now));
        let group = replica.group;
        if replica.applied > replica.committed {
            let (applied, committed) = (replica.applied, replica.committed);
            let detail = format!("{group} on {node}: applied {applied} but committed {committed}");
            return Err((Property::Monotonic, detail));
        }
        // A replica that was destroyed and opened again begins anew.
        let fresh = replica.term == 0 && replica.last_index == 0;
        let Some((life, before)) = before.filter(|_| !fresh) else { return Ok(()) };
        let kept = if life == incarnation { NAMES.len() } else { KEPT_BY_DISK };
        for ((name, before), now) in NAMES.iter().zip(before).zip(now).take(kept) {
            if now < before {
                let detail = format!("{group} on {node}: {name} went back from {before} to {now}");
                return Err((Property::Monotonic, detail));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::replica;
    use super::*;

    #[test]
    fn going_back_is_found_within_a_life_only() {
        let mut positions = Positions::default();
        let at = |committed, applied| ReplicaView { committed, applied, ..replica() };
        assert_eq!(positions.check(NodeNumber(1), 1, &at(5, 5)), Ok(()));
        assert_eq!(positions.check(NodeNumber(1), 2, &at(5, 3)), Ok(()));
        assert!(positions.check(NodeNumber(1), 2, &at(4, 3)).is_err());
        assert!(positions.check(NodeNumber(2), 1, &at(4, 5)).is_err());
    }

    #[test]
    fn a_term_that_a_restart_forgets_is_found() {
        let mut positions = Positions::default();
        let at = |term, last_index| ReplicaView { term, last_index, ..replica() };
        assert_eq!(positions.check(NodeNumber(1), 1, &at(4, 9)), Ok(()));
        assert_eq!(positions.check(NodeNumber(1), 2, &at(4, 8)), Ok(()));
        assert!(positions.check(NodeNumber(1), 3, &at(3, 8)).is_err());
        assert_eq!(positions.check(NodeNumber(1), 3, &at(0, 0)), Ok(()), "opened anew");
    }
}
