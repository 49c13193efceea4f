//! How long a suspicion lasts (Lifeguard, section IV-B): long while one member
//! alone holds it, shorter with every other that found the same by itself.

use std::collections::BTreeSet;
use std::time::Duration;

use trine_types::NodeNumber;

use super::life::Life;
use super::timing::Timing;

/// Confirmations after which a suspicion is as short as it gets.
pub const ENOUGH_CONFIRMATIONS: usize = 3;
/// A member that hears nobody believes a suspicion after so many times the
/// longest time: by then it is cut off, whoever's fault it is.
const DEAF_PATIENCE: u32 = 12;
/// Most members that are named as the ones who suspect.
pub const MAX_SUSPECTING: usize = ENOUGH_CONFIRMATIONS + 1;

/// One member under suspicion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspicion {
    /// The life that is doubted.
    pub life: Life,
    /// When it is believed if nothing else happens.
    pub deadline: Duration,
    /// Since when.
    since: Duration,
    /// Who got no answer.
    by: BTreeSet<NodeNumber>,
}

impl Suspicion {
    /// A suspicion that these members hold.
    #[must_use]
    pub fn new(now: Duration, life: Life, by: &[NodeNumber], timing: &Timing) -> Self {
        let mut suspicion = Self { life, since: now, deadline: now, by: BTreeSet::new() };
        suspicion.add(by);
        suspicion.deadline = now + suspicion.timeout(timing);
        suspicion
    }

    /// Others hold it too. The result says whether that was new, and worth
    /// passing on.
    pub fn confirm(&mut self, by: &[NodeNumber], timing: &Timing) -> bool {
        let grown = self.add(by);
        if grown {
            self.deadline = self.since + self.timeout(timing);
        }
        grown
    }

    /// This member slept: the suspected one gets the time back.
    pub fn delay(&mut self, by: Duration) {
        self.since += by;
        self.deadline += by;
    }

    /// This member hears nobody: it waits until `to`, unless it has waited for
    /// too long. The result says which.
    pub fn postpone(&mut self, to: Duration, timing: &Timing) -> bool {
        let waits = to <= self.since + timing.suspicion_max * DEAF_PATIENCE;
        if waits {
            self.deadline = to;
        }
        waits
    }

    /// Who holds it.
    pub fn by(&self) -> Vec<NodeNumber> {
        self.by.iter().copied().collect()
    }

    fn add(&mut self, by: &[NodeNumber]) -> bool {
        let before = self.by.len();
        for member in by {
            if self.by.len() < MAX_SUSPECTING {
                self.by.insert(*member);
            }
        }
        self.by.len() > before
    }

    fn timeout(&self, timing: &Timing) -> Duration {
        timeout(self.by.len().saturating_sub(1), timing)
    }
}

/// The time from suspicion to failure with this many confirmations:
/// `max - (max - min) * log(c + 1) / log(k + 1)`.
fn timeout(confirmations: usize, timing: &Timing) -> Duration {
    let (min, max) = (timing.suspicion_min, timing.suspicion_max);
    if timing.confirmations == 0 || confirmations >= timing.confirmations || max <= min {
        return min;
    }
    let share = logarithm(confirmations + 1) / logarithm(timing.confirmations + 1);
    max.saturating_sub(max.saturating_sub(min).mul_f64(share)).max(min)
}

fn logarithm(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confirmations_shorten_and_repetition_does_not() {
        let timing = Timing::of(50);
        let at = Duration::from_secs(9);
        let mut suspicion = Suspicion::new(at, Life::default(), &[NodeNumber(1)], &timing);
        assert_eq!(suspicion.deadline, at + timing.suspicion_max);
        assert!(!suspicion.confirm(&[NodeNumber(1)], &timing));
        let mut last = suspicion.deadline;
        for other in 2..5 {
            assert!(suspicion.confirm(&[NodeNumber(other)], &timing));
            assert!(suspicion.deadline < last);
            last = suspicion.deadline;
        }
        assert_eq!(last, at + timing.suspicion_min);
        assert!(!suspicion.confirm(&[NodeNumber(9)], &timing), "enough are known");
    }

    #[test]
    fn a_member_that_slept_gives_the_time_back() {
        let timing = Timing::of(3);
        let mut suspicion = Suspicion::new(Duration::ZERO, Life::default(), &[NodeNumber(1)], &timing);
        let before = suspicion.deadline;
        suspicion.delay(Duration::from_secs(2));
        assert_eq!(suspicion.deadline, before + Duration::from_secs(2));
    }
}
