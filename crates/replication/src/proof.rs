//! Which answers prove that a leader still led when a read began (Ongaro's
//! thesis, §6.4): those of a majority to messages that left afterwards. Pure.
//!
//! openraft decides this too, but by the acknowledged index: an answer that was
//! on its way for long counts there for every later message that ends at the
//! same index, answered or not. A leader that was cut off and replaced would
//! read old state the moment its old answers arrive. So the leader counts
//! messages itself, and a read needs both.

use std::collections::{BTreeMap, BTreeSet};

/// The order in which messages left this node, and reads began on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Turn(pub(crate) u64);

/// The last message that a voter answered.
#[derive(Debug, Clone, Copy)]
struct Answered {
    term: u64,
    sent: Turn,
}

/// What the voters of one group answered to this node as their leader.
#[derive(Debug, Default)]
pub(crate) struct Proof(BTreeMap<u64, Answered>);

impl Proof {
    /// `voter` has answered what this node sent as the leader of `term`, and
    /// knew of no later one.
    pub(crate) fn answered(&mut self, voter: u64, term: u64, sent: Turn) {
        let last = self.0.entry(voter).or_insert(Answered { term, sent });
        if (last.term, last.sent) < (term, sent) {
            *last = Answered { term, sent };
        }
    }

    /// Whether `me` led `term` after `began`: a majority of every one of
    /// `voters` (two sets while they change) has answered what left later.
    pub(crate) fn holds(&self, me: u64, term: u64, began: Turn, voters: &[BTreeSet<u64>]) -> bool {
        let since = |voter: &&u64| {
            let answer = self.0.get(*voter);
            **voter == me || answer.is_some_and(|answer| answer.term == term && answer.sent > began)
        };
        let majority = |voters: &BTreeSet<u64>| 2 * voters.iter().filter(since).count() > voters.len();
        !voters.is_empty() && voters.iter().all(majority)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Proof, Turn};

    fn sets<const N: usize>(sets: [&[u64]; N]) -> Vec<BTreeSet<u64>> {
        sets.iter().map(|set| set.iter().copied().collect()).collect()
    }

    #[test]
    fn only_what_left_after_the_read_began_proves_anything() {
        let (mut proof, voters) = (Proof::default(), sets([&[1, 2, 3]]));
        assert!(!proof.holds(1, 7, Turn(10), &voters));
        proof.answered(2, 7, Turn(9));
        proof.answered(3, 7, Turn(10));
        assert!(!proof.holds(1, 7, Turn(10), &voters), "they left before");
        proof.answered(3, 7, Turn(11));
        assert!(proof.holds(1, 7, Turn(10), &voters));
        proof.answered(3, 7, Turn(4));
        assert!(proof.holds(1, 7, Turn(10), &voters), "an answer that is late takes nothing back");
    }

    #[test]
    fn answers_in_another_term_prove_nothing() {
        let (mut proof, voters) = (Proof::default(), sets([&[1, 2, 3]]));
        proof.answered(2, 6, Turn(50));
        assert!(!proof.holds(1, 7, Turn(10), &voters));
        proof.answered(2, 8, Turn(51));
        assert!(!proof.holds(1, 7, Turn(10), &voters));
    }

    #[test]
    fn while_voters_change_both_majorities_count() {
        let (mut proof, voters) = (Proof::default(), sets([&[1, 2, 3], &[3, 4, 5]]));
        proof.answered(2, 1, Turn(5));
        proof.answered(3, 1, Turn(5));
        assert!(!proof.holds(1, 1, Turn(4), &voters));
        proof.answered(5, 1, Turn(5));
        assert!(proof.holds(1, 1, Turn(4), &voters));
    }

    #[test]
    fn a_group_of_one_needs_nobody() {
        let proof = Proof::default();
        assert!(proof.holds(1, 1, Turn(0), &sets([&[1]])));
        assert!(!proof.holds(1, 1, Turn(0), &sets([&[1, 2]])));
        assert!(!proof.holds(1, 1, Turn(0), &[]), "whose members nobody knows");
    }
}
