//! What a client may conclude from answers and silence. Pure: the load fills
//! it in, the audit compares it with what the cluster holds.
//!
//! An increment that was acknowledged happened exactly once; one without an
//! answer happened at most once. So, for each counter:
//! `acknowledged <= value <= acknowledged + unanswered`.

use std::time::Duration;

use serde::Serialize;

/// What one client of the load did to its counter and its keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Increments that were acknowledged.
    pub increments: u64,
    /// Increments without an answer, or with an error.
    pub unanswered_increments: u64,
    /// Numbers of the writes that were acknowledged, each to its own key.
    pub writes: Vec<u64>,
    /// Writes without an answer, or with an error.
    pub unanswered_writes: u64,
    /// When acknowledgements arrived, since the load began.
    pub acknowledged_at: Vec<Duration>,
}

/// What the audit of all ledgers found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Acknowledged increments.
    pub increments: u64,
    /// Increments without an answer.
    pub unanswered_increments: u64,
    /// Sum of the counters.
    pub counted: u64,
    /// Counters below what was acknowledged.
    pub counters_too_low: u64,
    /// Counters above acknowledged and unanswered together.
    pub counters_too_high: u64,
    /// Acknowledged writes.
    pub writes: u64,
    /// Writes without an answer.
    pub unanswered_writes: u64,
    /// Acknowledged writes that are missing or differ.
    pub missing_writes: u64,
}

impl Audit {
    /// Adds one client: the value of its counter, and how many of its
    /// acknowledged writes were found missing.
    pub fn add(&mut self, ledger: &Ledger, counter: u64, missing: u64) {
        self.increments += ledger.increments;
        self.unanswered_increments += ledger.unanswered_increments;
        self.counted += counter;
        self.counters_too_low += u64::from(counter < ledger.increments);
        self.counters_too_high += u64::from(counter > ledger.increments + ledger.unanswered_increments);
        self.writes += ledger.writes.len() as u64;
        self.unanswered_writes += ledger.unanswered_writes;
        self.missing_writes += missing;
    }

    /// Whether nothing acknowledged is missing and nothing happened twice.
    pub fn holds(&self) -> bool {
        self.counters_too_low == 0 && self.counters_too_high == 0 && self.missing_writes == 0
    }
}

/// The longest time without any acknowledgement that touches the time after
/// `kill`: between two acknowledgements, or from the kill to the first one.
/// `None`: nothing was acknowledged after the kill.
pub fn outage(ledgers: &[Ledger], kill: Duration) -> Option<Duration> {
    let mut times: Vec<Duration> =
        ledgers.iter().flat_map(|ledger| &ledger.acknowledged_at).copied().filter(|at| *at >= kill).collect();
    times.sort_unstable();
    let before = std::iter::once(kill).chain(times.iter().copied());
    before.zip(&times).map(|(before, after)| after.saturating_sub(before)).max()
}

/// Acknowledgements per second between two times.
pub fn rate(ledgers: &[Ledger], from: Duration, to: Duration) -> u64 {
    let count = ledgers
        .iter()
        .flat_map(|ledger| &ledger.acknowledged_at)
        .filter(|at| (from..to).contains(*at))
        .count();
    let millis = u64::try_from((to.saturating_sub(from)).as_millis()).unwrap_or(u64::MAX).max(1);
    count as u64 * 1_000 / millis
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn counters_may_exceed_acknowledged_only_by_unanswered() {
        let ledger = Ledger { increments: 10, unanswered_increments: 2, ..Ledger::default() };
        let holds = |counter| {
            let mut audit = Audit::default();
            audit.add(&ledger, counter, 0);
            audit.holds()
        };
        assert_eq!([9, 10, 12, 13].map(holds), [false, true, true, false]);
    }

    #[test]
    fn a_missing_acknowledged_write_fails_the_audit() {
        let ledger = Ledger { writes: vec![0, 1], ..Ledger::default() };
        let mut audit = Audit::default();
        audit.add(&ledger, 0, 1);
        assert!(!audit.holds());
    }

    #[test]
    fn outage_is_the_longest_silence_after_the_kill() {
        let one = Ledger { acknowledged_at: vec![ms(10), ms(101), ms(400)], ..Ledger::default() };
        let two = Ledger { acknowledged_at: vec![ms(90), ms(380)], ..Ledger::default() };
        assert_eq!(outage(&[one.clone(), two], ms(100)), Some(ms(279)));
        assert_eq!(outage(&[one], ms(500)), None);
    }
}
