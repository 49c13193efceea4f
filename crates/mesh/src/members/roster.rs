//! Who belongs, as `meta` says, and in which order a member walks over them:
//! everybody once per round, in an order that differs between members and
//! rounds and needs no memory.

use std::sync::Arc;

use trine_types::NodeNumber;

/// Every admitted member, this one included, in the order of their numbers.
/// Cheap to clone; ten thousand simulated members share one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    numbers: Arc<[NodeNumber]>,
}

impl Roster {
    /// These members.
    #[must_use]
    pub fn new(numbers: impl IntoIterator<Item = NodeNumber>) -> Self {
        let mut numbers: Vec<NodeNumber> = numbers.into_iter().collect();
        numbers.sort_unstable();
        numbers.dedup();
        Self { numbers: numbers.into() }
    }

    /// How many belong.
    #[must_use]
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Whether nobody belongs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Whether this one belongs.
    #[must_use]
    pub fn has(&self, member: NodeNumber) -> bool {
        self.numbers.binary_search(&member).is_ok()
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = NodeNumber> + '_ {
        self.numbers.iter().copied()
    }

    /// The member at this place, counted round.
    #[must_use]
    pub fn at(&self, place: usize) -> Option<NodeNumber> {
        if self.numbers.is_empty() { None } else { self.numbers.get(place % self.numbers.len()).copied() }
    }

    /// Everybody who comes after `member` in the ring, nearest first.
    pub fn after(&self, member: NodeNumber) -> impl Iterator<Item = NodeNumber> + '_ {
        let start = self.numbers.partition_point(|other| *other <= member);
        let (before, from) = self.numbers.split_at(start);
        from.iter().chain(before).copied().filter(move |other| *other != member)
    }
}

/// A small generator (`SplitMix64`, Steele et al. 2014) for choices that need
/// to differ between members, not to be secret; its seed is an argument.
#[derive(Clone, Debug)]
pub struct Chance {
    state: u64,
}

impl Chance {
    /// Starts at a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end` (0 if that is 0).
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next_u64() % end).unwrap_or(0)
    }
}

/// A walk over the places of a roster: place `start + i * step`, with a step
/// that has no divisor in common with the length. Both are drawn anew each
/// round.
#[derive(Clone, Debug, Default)]
pub struct Walk {
    start: usize,
    step: usize,
    taken: usize,
    len: usize,
}

impl Walk {
    /// The next place of a roster of `len` members.
    pub fn next(&mut self, len: usize, chance: &mut Chance) -> usize {
        if len == 0 {
            return 0;
        }
        if self.len != len || self.taken >= len {
            self.len = len;
            self.taken = 0;
            self.start = chance.below(len);
            self.step = 1 + chance.below(len);
            while common_divisor(self.step, len) != 1 {
                self.step = 1 + self.step % len;
            }
        }
        let place = (self.start + self.taken * self.step) % len;
        self.taken += 1;
        place
    }
}

fn common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_walk_meets_everybody_once_per_round(len in 1_usize..200, seed in any::<u64>()) {
            let (mut walk, mut chance) = (Walk::default(), Chance::new(seed));
            for _ in 0..3 {
                let met: BTreeSet<usize> = (0..len).map(|_| walk.next(len, &mut chance)).collect();
                prop_assert_eq!(met.len(), len);
            }
        }
    }

    #[test]
    fn the_ring_closes() {
        let roster = Roster::new([3, 1, 7].map(NodeNumber));
        let after: Vec<u64> = roster.after(NodeNumber(3)).map(|member| member.0).collect();
        assert_eq!(after, [7, 1]);
        assert_eq!(roster.after(NodeNumber(9)).count(), 3);
    }
}
