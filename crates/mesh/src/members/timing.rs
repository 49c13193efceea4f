//! Periods, timeouts and counts for a number of members. What is fast for
//! three nodes would let ten thousand doubt each other for ever, and the other
//! way round would let three wait.

use std::time::Duration;

use super::suspicion::ENOUGH_CONFIRMATIONS;

/// Up to so many members, probes are rarer: breaking links are seen at once.
const FEW_MEMBERS: usize = 8;
/// From so many members on they are rarer again, because nobody expects to
/// hear of all of those within a second.
const MANY_MEMBERS: usize = 100;

/// Settings of a member, made for a number of members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Between two probes of this member (250 ms; 400 ms up to 8 and from 100 members).
    /// Shorter notices earlier and costs messages and idle CPU.
    pub probe_every: Duration,
    /// After this without an answer, others are asked to try (80 ms, or four
    /// times the round trip to the member that is probed).
    pub direct_timeout: Duration,
    /// How many others are asked.
    pub helpers: usize,
    /// From suspicion to failure when it is confirmed: 300 ms times the
    /// decimal logarithm of the number of members, which gossip needs.
    pub suspicion_min: Duration,
    /// The same when nobody confirms: six times as long.
    pub suspicion_max: Duration,
    /// Confirmations after which the shorter time holds.
    pub confirmations: usize,
    /// Between two rounds of gossip while there is something to pass on.
    pub gossip_every: Duration,
    /// How many members a round of gossip goes to.
    pub gossip_to: usize,
    /// How often each belief is passed on.
    pub transmissions: u32,
    /// Lifeguard and what goes with it here: local health, confirmations,
    /// telling the suspected first, noticing own sleep, and probing the next
    /// in the ring every second time.
    pub lifeguard: bool,
}

impl Timing {
    /// What the product uses for `members` members.
    #[must_use]
    pub fn of(members: usize) -> Self {
        let log = decimal_logarithm(members);
        let suspicion_min = Duration::from_millis(300).mul_f64(log.max(1.0));
        let (probe_every, gossip_every) = match members {
            ..=FEW_MEMBERS => (400, 100),
            MANY_MEMBERS.. => (400, 200),
            _ => (250, 100),
        };
        Self {
            probe_every: Duration::from_millis(probe_every),
            direct_timeout: Duration::from_millis(80),
            helpers: 3,
            suspicion_min,
            suspicion_max: suspicion_min * 6,
            confirmations: ENOUGH_CONFIRMATIONS.min(members.saturating_sub(2)),
            gossip_every: Duration::from_millis(gossip_every),
            gossip_to: 2,
            transmissions: 3 * digits(members),
            lifeguard: true,
        }
    }

    /// The same times without Lifeguard: plain SWIM, to compare with.
    #[must_use]
    pub fn plain(members: usize) -> Self {
        let product = Self::of(members);
        Self { suspicion_max: product.suspicion_min, confirmations: 0, lifeguard: false, ..product }
    }

    /// The times of memberlist's default for a local network, on this machine
    /// without Lifeguard: to compare with.
    #[must_use]
    pub fn memberlist(members: usize) -> Self {
        let suspicion = Duration::from_secs(4).mul_f64(decimal_logarithm(members).max(1.0));
        Self {
            probe_every: Duration::from_secs(1),
            direct_timeout: Duration::from_millis(500),
            helpers: 3,
            suspicion_min: suspicion,
            suspicion_max: suspicion,
            confirmations: 0,
            gossip_every: Duration::from_millis(200),
            gossip_to: 3,
            transmissions: 4 * digits(members),
            lifeguard: false,
        }
    }

    /// From a probe's start to its failure: the direct attempt, then as long
    /// for the others' and for their answers' way back.
    #[must_use]
    pub fn probe_window(&self) -> Duration {
        self.direct_timeout * 5 / 2
    }
}

fn decimal_logarithm(members: usize) -> f64 {
    f64::from(u32::try_from(members.max(1)).unwrap_or(u32::MAX)).log10()
}

/// How many digits the number has: gossip reaches all when each passes it on a
/// few times for each.
fn digits(members: usize) -> u32 {
    u32::try_from(members).unwrap_or(u32::MAX).checked_ilog10().unwrap_or(0) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_ends_before_the_next_begins() {
        for members in [1, 2, 3, 8, 9, 50, 1_000, 10_000] {
            for timing in [Timing::of(members), Timing::plain(members)] {
                assert!(timing.probe_window() < timing.probe_every, "{members}");
                assert!(timing.suspicion_min <= timing.suspicion_max);
            }
        }
    }

    #[test]
    fn nobody_waits_for_confirmations_that_cannot_come() {
        let counts: Vec<usize> = [1, 2, 3, 4, 5, 50].map(|n| Timing::of(n).confirmations).into();
        assert_eq!(counts, [0, 0, 1, 2, 3, 3]);
    }
}
