//! State machine safety: replicas that applied the same entries are equal. The
//! digest of the state stands for the state.

use std::collections::BTreeMap;

use trine_types::{GroupId, NodeNumber};

use crate::failure::{Held, Property};
use crate::system::ReplicaView;

/// The first digest seen at each applied index.
#[derive(Debug, Default)]
pub(super) struct States {
    digests: BTreeMap<(GroupId, u64), (u64, NodeNumber)>,
}

impl States {
    pub(super) fn check(&mut self, node: NodeNumber, replica: &ReplicaView) -> Held {
        let (digest, index) = replica.digest;
        let (first, whose) = *self.digests.entry((replica.group, index)).or_insert((digest, node));
        if first == digest {
            return Ok(());
        }
        let group = replica.group;
        let detail = format!(
            "{group}: after entry {index} the digest of {node} is {digest:016x}, of {whose} {first:016x}"
        );
        Err((Property::StateMachineSafety, detail))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::replica;
    use super::*;

    #[test]
    fn a_replica_that_differs_is_found() {
        let mut states = States::default();
        let at = |digest| ReplicaView { digest, ..replica() };
        assert_eq!(states.check(NodeNumber(1), &at((7, 10))), Ok(()));
        assert_eq!(states.check(NodeNumber(2), &at((8, 11))), Ok(()));
        assert_eq!(states.check(NodeNumber(2), &at((7, 10))), Ok(()));
        assert!(states.check(NodeNumber(3), &at((9, 11))).is_err());
    }
}
