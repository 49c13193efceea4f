//! A token bucket, pure: how long a sender must rest to keep to a rate.

use std::time::Duration;

use tokio::time::Instant;

/// How much of a second's worth may be sent at once after a rest.
const BURST: Duration = Duration::from_millis(20);

/// Rests shorter than this are saved up.
const GRAIN: Duration = Duration::from_millis(1);

/// Keeps one sender to a rate.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: Option<u64>,
    /// Until when the bytes sent so far fill the rate.
    filled_until: Option<Instant>,
}

impl Pace {
    /// `None`: no limit.
    pub(super) const fn new(bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second, filled_until: None }
    }

    /// Notes that `bytes` were sent; the result is until when to rest.
    pub(super) fn sent(&mut self, bytes: u64, now: Instant) -> Option<Instant> {
        let rate = self.bytes_per_second?.max(1);
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate);
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let since = self.filled_until.unwrap_or(now).max(now.checked_sub(BURST).unwrap_or(now));
        let until = since + takes;
        self.filled_until = Some(until);
        (until > now + GRAIN).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_kept_over_time() {
        let start = Instant::now();
        let (mut pace, mut now) = (Pace::new(Some(1_000_000)), start);
        for _ in 0..1000 {
            now = pace.sent(10_000, now).unwrap_or(now);
        }
        let took = now - start;
        assert!((Duration::from_millis(9_900)..Duration::from_millis(10_100)).contains(&took), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_rate_nobody_rests() {
        assert_eq!(Pace::new(None).sent(u64::MAX, Instant::now()), None);
    }
}
