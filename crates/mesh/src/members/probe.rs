//! Probes under way, and errands: probes on behalf of somebody else.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use trine_types::NodeNumber;

/// Probes under way at once, at most: the regular one, and those that broken
/// links asked for.
pub const MAX_PROBES: usize = 64;
/// Errands under way at once, at most; those beyond are not answered, as if
/// this member were slow.
pub const MAX_ERRANDS: usize = 256;

/// Failed probes that are remembered, for answers that come too late.
const MAX_MISSED: usize = 16;

/// One probe.
#[derive(Clone, Debug)]
pub(in crate::members) struct Probe {
    pub(in crate::members) target: NodeNumber,
    pub(in crate::members) sent: Duration,
    /// When others are asked.
    pub(in crate::members) ask_at: Option<Duration>,
    /// When it has failed.
    pub(in crate::members) fails_at: Duration,
    /// How many others were asked.
    pub(in crate::members) asked: u32,
    /// Who of them got no answer either.
    pub(in crate::members) nacks: Vec<NodeNumber>,
    /// Whether it repeats one that nobody confirmed.
    pub(in crate::members) again: bool,
}

impl Probe {
    pub(in crate::members) fn due(&self) -> Duration {
        self.ask_at.unwrap_or(self.fails_at)
    }

    pub(in crate::members) fn delay(&mut self, by: Duration) {
        self.ask_at = self.ask_at.map(|at| at + by);
        self.fails_at += by;
    }
}

/// One errand.
#[derive(Clone, Debug)]
pub(in crate::members) struct Errand {
    pub(in crate::members) asker: NodeNumber,
    /// The asker's number of its probe.
    pub(in crate::members) probe: u32,
    pub(in crate::members) target: NodeNumber,
    pub(in crate::members) gives_up_at: Duration,
}

/// A probe that has failed.
#[derive(Clone, Copy, Debug)]
pub(in crate::members) struct Missed {
    number: u32,
    target: NodeNumber,
    sent: Duration,
    window: Duration,
}

impl Missed {
    /// The round trip that an answer at `now` stands for: at most twice what
    /// was waited for, because a path that was cut holds answers back for as
    /// long as it is, and that says nothing about the member.
    pub(in crate::members) fn round_trip(&self, now: Duration) -> Duration {
        now.saturating_sub(self.sent).min(self.window * 2)
    }
}

/// Everything that waits for an answer, by this member's own numbers. Zero is
/// the number of pings whose answer nobody waits for.
#[derive(Clone, Debug, Default)]
pub(in crate::members) struct Waiting {
    last: u32,
    pub(in crate::members) probes: BTreeMap<u32, Probe>,
    pub(in crate::members) errands: BTreeMap<u32, Errand>,
    missed: VecDeque<Missed>,
}

impl Waiting {
    pub(in crate::members) fn number(&mut self) -> u32 {
        self.last = self.last.checked_add(1).unwrap_or(1);
        self.last
    }

    /// A probe has failed.
    pub(in crate::members) fn missed(&mut self, number: u32, probe: &Probe) {
        if self.missed.len() >= MAX_MISSED {
            self.missed.pop_front();
        }
        let Probe { target, sent, fails_at, .. } = *probe;
        self.missed.push_back(Missed { number, target, sent, window: fails_at.saturating_sub(sent) });
    }

    /// A probe that has failed.
    pub(in crate::members) fn in_vain(&self, number: u32, target: NodeNumber) -> Option<Missed> {
        self.missed.iter().find(|missed| (missed.number, missed.target) == (number, target)).copied()
    }

    pub(in crate::members) fn probes(&self, target: NodeNumber) -> bool {
        self.probes.values().any(|probe| probe.target == target)
    }

    /// When the next of them needs something.
    pub(in crate::members) fn due(&self) -> Option<Duration> {
        let probes = self.probes.values().map(Probe::due);
        probes.chain(self.errands.values().map(|errand| errand.gives_up_at)).min()
    }

    pub(in crate::members) fn delay(&mut self, by: Duration) {
        self.probes.values_mut().for_each(|probe| probe.delay(by));
        self.errands.values_mut().for_each(|errand| errand.gives_up_at += by);
    }
}
