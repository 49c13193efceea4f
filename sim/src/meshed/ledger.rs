//! What was published and what was heard, and whether that may be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use crate::failure::Property;

/// A process: the node's number and which life of it.
pub type Life = (u64, u64);

/// How far the story is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Phase {
    /// Faults strike; everybody talks, wishes change.
    #[default]
    Storm,
    /// Faults have stopped; wishes stay as they are.
    Healing,
    /// Everything that is published now must arrive.
    Calm,
    /// Nobody says anything new.
    Silence,
}

/// See the file's head.
#[derive(Debug, Default)]
pub struct Ledger {
    /// How far the story is.
    pub phase: Phase,
    /// How many filters each node wants, by its number.
    pub wishes: BTreeMap<u64, usize>,
    /// Numbers of the messages published in [`Phase::Calm`].
    calm: BTreeSet<(Life, u64)>,
    /// The last number that a process heard of another.
    last: BTreeMap<(Life, Life), u64>,
    /// How many heard each message for all.
    heard: BTreeMap<(Life, u64), usize>,
    /// Messages for the group that a member got.
    done: BTreeSet<(Life, u64)>,
    /// Replies that came in time.
    pub replies: u64,
    violation: Option<(Property, String)>,
}

impl Ledger {
    fn violate(&mut self, property: Property, what: String) {
        self.violation.get_or_insert((property, what));
    }

    /// The first thing that may not be.
    #[must_use]
    pub fn violation(&self) -> Option<(Property, String)> {
        self.violation.clone()
    }

    /// `sender` publishes its message `number`, to all and to the group.
    pub fn published(&mut self, sender: Life, number: u64) {
        if self.phase == Phase::Calm {
            self.calm.insert((sender, number));
        }
    }

    /// `hearer`'s subscription to everything got a message.
    pub fn heard(&mut self, hearer: Life, sender: Life, number: u64) {
        *self.heard.entry((sender, number)).or_default() += 1;
        let last = self.last.entry((sender, hearer)).or_default();
        let before = std::mem::replace(last, number);
        if before >= number {
            let what = format!("{hearer:?} heard {number} of {sender:?} after {before}");
            self.violate(Property::InOrder, what);
        }
    }

    /// A member of the group at `member` got a message.
    pub fn worked(&mut self, member: Life, sender: Life, number: u64) {
        if !self.done.insert((sender, number)) {
            let what = format!("{member:?} got {number} of {sender:?}, and so did another member");
            self.violate(Property::ExactlyOnce, what);
        }
    }

    /// A request that was made in the calm had this outcome.
    pub fn asked(&mut self, asker: Life, outcome: Result<(), &str>) {
        match outcome {
            Ok(()) => self.replies += 1,
            Err(why) => self.violate(Property::Interest, format!("a request of {asker:?}: {why}")),
        }
    }

    /// Judges the calm: everything that was published arrived everywhere, and
    /// at one member.
    pub fn judge(&mut self, nodes: usize) {
        let calm: Vec<_> = self.calm.iter().copied().collect();
        for (sender, number) in &calm {
            let heard = self.heard.get(&(*sender, *number)).copied().unwrap_or(0);
            if heard != nodes {
                let what = format!("{number} of {sender:?} reached {heard} of {nodes} nodes in the calm");
                self.violate(Property::Interest, what);
            }
            if !self.done.contains(&(*sender, *number)) {
                let what = format!("{number} of {sender:?} reached no member of the group in the calm");
                self.violate(Property::ExactlyOnce, what);
            }
        }
        if calm.is_empty() || self.replies == 0 {
            self.violate(Property::Scenario, format!("{} published, {} replies", calm.len(), self.replies));
        }
    }
}

/// The ledger of one world.
#[derive(Debug, Clone, Default)]
pub struct SharedLedger {
    // A lock because tasks of several runtimes write; one thread only.
    ledger: Arc<Mutex<Ledger>>,
}

impl SharedLedger {
    /// Looks or writes.
    pub fn with<T>(&self, run: impl FnOnce(&mut Ledger) -> T) -> T {
        run(&mut self.ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How far the story is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.with(|ledger| ledger.phase)
    }
}
