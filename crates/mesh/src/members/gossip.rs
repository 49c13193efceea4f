//! What is still to be passed on: the newest belief about each member, a
//! bounded number of times, those that were passed on least first.

use std::collections::{BTreeMap, BTreeSet};

use trine_types::NodeNumber;

use super::message::Update;

/// Members about whom something waits to be passed on, at most; those beyond
/// are learnt by probing, and from the remainder that every message carries.
pub const MAX_WAITING: usize = 4_096;

#[derive(Clone, Debug)]
struct Item {
    update: Update,
    sent: u32,
}

/// The queue of beliefs to pass on.
#[derive(Clone, Debug, Default)]
pub struct Gossip {
    items: BTreeMap<NodeNumber, Item>,
    order: BTreeSet<(u32, NodeNumber)>,
}

impl Gossip {
    /// Passes this on from now on, instead of what was to be passed on about
    /// the same member.
    pub fn add(&mut self, update: Update) {
        let member = update.member;
        if let Some(old) = self.items.remove(&member) {
            self.order.remove(&(old.sent, member));
        } else if self.items.len() >= MAX_WAITING
            && let Some((sent, most_sent)) = self.order.pop_last()
        {
            debug_assert!(self.items.get(&most_sent).is_some_and(|item| item.sent == sent));
            self.items.remove(&most_sent);
        }
        self.items.insert(member, Item { update, sent: 0 });
        self.order.insert((0, member));
    }

    /// Up to `count` beliefs for one message; each is forgotten after
    /// `transmissions` messages.
    pub fn take(&mut self, count: usize, transmissions: u32) -> Vec<Update> {
        let chosen: Vec<(u32, NodeNumber)> = self.order.iter().take(count).copied().collect();
        let mut updates = Vec::with_capacity(chosen.len());
        for (sent, member) in chosen {
            self.order.remove(&(sent, member));
            let Some(item) = self.items.get_mut(&member) else { continue };
            updates.push(item.update.clone());
            item.sent += 1;
            if item.sent >= transmissions {
                self.items.remove(&member);
            } else {
                self.order.insert((item.sent, member));
            }
        }
        updates
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Forgets what was to be said about a member that no longer belongs.
    pub fn forget(&mut self, member: NodeNumber) {
        if let Some(old) = self.items.remove(&member) {
            self.order.remove(&(old.sent, member));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::members::life::Belief;

    fn update(member: u64) -> Update {
        Update { member: NodeNumber(member), belief: Belief::default(), by: Vec::new() }
    }

    #[test]
    fn each_belief_is_passed_on_equally_often_and_then_forgotten() {
        let mut gossip = Gossip::default();
        (0..3).for_each(|member| gossip.add(update(member)));
        let mut told = BTreeMap::new();
        while !gossip.is_empty() {
            for update in gossip.take(2, 4) {
                *told.entry(update.member.0).or_insert(0) += 1;
            }
        }
        assert_eq!(told, BTreeMap::from([(0, 4), (1, 4), (2, 4)]));
    }

    #[test]
    fn a_newer_belief_replaces_the_older_and_the_queue_is_bounded() {
        let mut gossip = Gossip::default();
        gossip.add(update(1));
        gossip.take(1, 9);
        gossip.add(update(1));
        assert_eq!(gossip.order.len(), 1);
        (0..2 * MAX_WAITING as u64).for_each(|member| gossip.add(update(member)));
        assert_eq!((gossip.items.len(), gossip.order.len()), (MAX_WAITING, MAX_WAITING));
    }
}
