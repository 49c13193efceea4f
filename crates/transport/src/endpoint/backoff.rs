//! Exponential back-off with jitter, pure: time and chance are arguments.

use std::time::Duration;

/// Doublings after which the pause no longer grows, whatever the bounds.
const MAX_DOUBLINGS: u32 = 16;

/// Counts failures in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Forgets earlier failures.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Notes a failure and says how long to rest: `min` doubled per failure
    /// in a row, at most `max`, then jittered by `chance` to between half of
    /// that and all of it, so that nodes do not dial in step.
    pub(super) fn failed(&mut self, min: Duration, max: Duration, chance: u64) -> Duration {
        let whole = min.saturating_mul(1 << self.failures.min(MAX_DOUBLINGS)).min(max);
        self.failures = self.failures.saturating_add(1);
        let half = whole / 2;
        let span = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).saturating_add(1);
        half + Duration::from_nanos(chance % span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_bound_and_reset() {
        let (min, max) = (Duration::from_millis(20), Duration::from_millis(500));
        let mut backoff = Backoff::default();
        let mut last = Duration::ZERO;
        for failures in 0..100 {
            let rest = backoff.failed(min, max, u64::MAX - failures);
            assert!(rest <= max && rest >= min / 2, "{rest:?}");
            last = rest;
        }
        assert!(last >= max / 2);
        backoff.reset();
        assert!(backoff.failed(min, max, 7) <= min);
    }
}
