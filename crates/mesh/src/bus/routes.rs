//! Where the messages of one subject go: worked out once from the table, then
//! kept by each publisher for as long as the table says the same.

use std::sync::Arc;

use bytes::Bytes;
use trine_types::NodeId;

use super::receiver::{Carrier, Receiver};

/// A local subscription.
#[derive(Clone)]
pub(super) struct Local {
    pub(super) receiver: Arc<dyn Receiver>,
    pub(super) sid: Bytes,
    /// The attachment that subscribed, for publishers that want no echo.
    pub(super) owner: u64,
}

/// A link to a node that wants the subject.
#[derive(Clone)]
pub(super) struct Remote {
    pub(super) peer: NodeId,
    pub(super) carrier: Arc<dyn Carrier>,
    /// Whether anybody there wants it outside queue groups.
    pub(super) plain: bool,
}

/// A queue group: one of its members gets each message.
#[derive(Clone)]
pub(super) struct Group {
    pub(super) queue: Bytes,
    pub(super) locals: Vec<Local>,
    /// Nodes with members, and how many.
    pub(super) remotes: Vec<(NodeId, u32)>,
}

/// All of a subject's targets.
#[derive(Clone, Default)]
pub(super) struct Routes {
    pub(super) plain: Vec<Local>,
    pub(super) groups: Vec<Group>,
    /// In the order of their peers.
    pub(super) links: Vec<Remote>,
}

impl Group {
    pub(super) fn new(queue: &Bytes) -> Self {
        Self { queue: queue.clone(), locals: Vec::new(), remotes: Vec::new() }
    }

    /// The node that gets a message when none is local: each as often as it
    /// has members. `chance` is any number.
    pub(super) fn choose(&self, chance: u64) -> Option<NodeId> {
        let all: u64 = self.remotes.iter().map(|(_, members)| u64::from(*members)).sum();
        let mut left = chance.checked_rem(all)?;
        for (peer, members) in &self.remotes {
            match left.checked_sub(u64::from(*members)) {
                None => return Some(*peer),
                Some(rest) => left = rest,
            }
        }
        None
    }
}

impl Routes {
    /// How much a cache pays to keep them.
    pub(super) fn weight(&self) -> usize {
        let in_groups = |group: &Group| group.locals.len() + group.remotes.len();
        1 + self.plain.len() + self.links.len() + self.groups.iter().map(in_groups).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_chosen_by_their_members() {
        let mut group = Group::new(&Bytes::from_static(b"q"));
        assert_eq!(group.choose(7), None);
        group.remotes = vec![(NodeId([1; 32]), 1), (NodeId([2; 32]), 3)];
        let chosen: Vec<u8> =
            (0..8).filter_map(|chance| group.choose(chance)).map(|peer| peer.0[0]).collect();
        assert_eq!(chosen, [1, 2, 2, 2, 1, 2, 2, 2]);
    }
}
