//! The two views of `HyParView`: neighbours, and members that could become some.

use std::collections::BTreeSet;

use trine_types::NodeNumber;

use crate::members::roster::Chance;

/// Neighbours of a member, at most: in a random graph of this degree, ten
/// thousand members are at most nine or ten links apart.
pub const ACTIVE: usize = 5;
/// Members known besides, at most: with half of all gone, some are left.
pub const PASSIVE: usize = 30;

/// Who a member knows.
#[derive(Clone, Debug)]
pub struct Views {
    me: NodeNumber,
    active: BTreeSet<NodeNumber>,
    passive: BTreeSet<NodeNumber>,
}

impl Views {
    /// Nobody is known yet.
    #[must_use]
    pub fn new(me: NodeNumber) -> Self {
        Self { me, active: BTreeSet::new(), passive: BTreeSet::new() }
    }

    /// The neighbours.
    #[must_use]
    pub fn active(&self) -> &BTreeSet<NodeNumber> {
        &self.active
    }

    /// The others.
    #[must_use]
    pub fn passive(&self) -> &BTreeSet<NodeNumber> {
        &self.passive
    }

    /// Makes a member a neighbour. The result is the neighbour that had to go
    /// for it (it is still known), if it was full.
    pub fn add_active(&mut self, member: NodeNumber, chance: &mut Chance) -> Option<NodeNumber> {
        if member == self.me || self.active.contains(&member) {
            return None;
        }
        self.passive.remove(&member);
        let dropped = if self.active.len() >= ACTIVE { pick(&self.active, chance, |_| true) } else { None };
        if let Some(dropped) = dropped {
            self.demote(dropped, chance);
        }
        self.active.insert(member);
        dropped
    }

    /// Remembers a member that is no neighbour.
    pub fn add_passive(&mut self, member: NodeNumber, chance: &mut Chance) {
        if member == self.me || self.active.contains(&member) || self.passive.contains(&member) {
            return;
        }
        if self.passive.len() >= PASSIVE
            && let Some(forgotten) = pick(&self.passive, chance, |_| true)
        {
            self.passive.remove(&forgotten);
        }
        self.passive.insert(member);
    }

    /// A neighbour is one no longer. The result says whether it was.
    pub fn demote(&mut self, member: NodeNumber, chance: &mut Chance) -> bool {
        let was = self.active.remove(&member);
        if was {
            self.add_passive(member, chance);
        }
        was
    }

    /// A member is gone. The result says whether it was a neighbour.
    pub fn forget(&mut self, member: NodeNumber) -> bool {
        self.passive.remove(&member);
        self.active.remove(&member)
    }

    /// A random neighbour, but not `without`.
    pub fn any_active(&self, without: &[NodeNumber], chance: &mut Chance) -> Option<NodeNumber> {
        pick(&self.active, chance, |member| !without.contains(member))
    }

    /// A random member that is no neighbour and none of `without`.
    pub fn any_passive(&self, without: &BTreeSet<NodeNumber>, chance: &mut Chance) -> Option<NodeNumber> {
        pick(&self.passive, chance, |member| !without.contains(member))
    }

    /// Up to so many random members of each view, for a shuffle.
    pub fn sample(&self, active: usize, passive: usize, chance: &mut Chance) -> Vec<NodeNumber> {
        let mut sample = vec![];
        for (view, count) in [(&self.active, active), (&self.passive, passive)] {
            for _ in 0..count {
                if let Some(member) = pick(view, chance, |member| !sample.contains(member)) {
                    sample.push(member);
                }
            }
        }
        sample
    }
}

fn pick(
    view: &BTreeSet<NodeNumber>,
    chance: &mut Chance,
    fits: impl Fn(&NodeNumber) -> bool,
) -> Option<NodeNumber> {
    let candidates: Vec<NodeNumber> = view.iter().copied().filter(|member| fits(member)).collect();
    if candidates.is_empty() { None } else { candidates.get(chance.below(candidates.len())).copied() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn views_stay_bounded_and_apart(
            steps in prop::collection::vec((0..4_u8, 0..60_u64), 0..200), seed in any::<u64>(),
        ) {
            let (mut views, mut chance) = (Views::new(NodeNumber(7)), Chance::new(seed));
            for (what, member) in steps {
                let member = NodeNumber(member);
                match what {
                    0 => { views.add_active(member, &mut chance); }
                    1 => views.add_passive(member, &mut chance),
                    2 => { views.demote(member, &mut chance); }
                    _ => { views.forget(member); }
                }
                prop_assert!(views.active.len() <= ACTIVE && views.passive.len() <= PASSIVE);
                prop_assert!(views.active.is_disjoint(&views.passive));
                prop_assert!(!views.active.contains(&views.me) && !views.passive.contains(&views.me));
            }
        }
    }
}
