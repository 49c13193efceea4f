//! How long a batch or frame waits for company. Under load the cost of a group
//! is its rounds, not its commands, so all groups of a node send at the same
//! moments: each round then carries more, messages to one peer share writes,
//! and entries share syncs. With little under way nothing waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Batches and frames under way on a node from which on there are slots.
const BUSY: usize = 6;
/// And from which on the slots are long.
const VERY_BUSY: usize = 12;
const SHORT_SLOT: Duration = Duration::from_millis(1);
const LONG_SLOT: Duration = Duration::from_millis(2);

/// The pace of one node, shared by the fronts of its groups.
pub(crate) struct Pace {
    start: Instant,
    under_way: Arc<AtomicUsize>,
}

/// One batch or frame that is under way, until it is dropped.
pub(crate) struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The end of the slot that `since_start` is in.
fn slot_end(since_start: Duration, slot: Duration) -> Duration {
    let slots = since_start.as_micros() / slot.as_micros() + 1;
    u64::try_from(slots * slot.as_micros()).map_or(since_start, Duration::from_micros)
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), under_way: Arc::default() }
    }

    /// Counts one more.
    pub(crate) fn begin(&self) -> UnderWay {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(self.under_way.clone())
    }

    /// How many batches or frames of one group may be under way, of `limit`.
    pub(crate) fn allowed(&self, limit: usize) -> usize {
        if self.under_way.load(Ordering::Relaxed) >= BUSY { 1 } else { limit }
    }

    /// The moment to wait for before sending; `None`: send at once.
    pub(crate) fn slot(&self) -> Option<Instant> {
        let slot = match self.under_way.load(Ordering::Relaxed) {
            0..BUSY => return None,
            BUSY..VERY_BUSY => SHORT_SLOT,
            _ => LONG_SLOT,
        };
        Some(self.start + slot_end(self.start.elapsed(), slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_end_in_the_future_and_at_the_same_moments() {
        let slot = Duration::from_millis(2);
        for micros in [0, 1, 1999, 2000, 2001, 123_456] {
            let since = Duration::from_micros(micros);
            let end = slot_end(since, slot);
            assert!(end > since && end <= since + slot);
            assert_eq!(end.as_micros() % slot.as_micros(), 0);
        }
    }

    #[test]
    fn nothing_waits_while_little_is_under_way() {
        let pace = Pace::new();
        let mut under_way: Vec<UnderWay> = (0..BUSY - 1).map(|_| pace.begin()).collect();
        assert_eq!((pace.slot(), pace.allowed(4)), (None, 4));
        under_way.push(pace.begin());
        assert!(pace.slot().is_some());
        assert_eq!(pace.allowed(4), 1);
        under_way.clear();
        assert_eq!((pace.slot(), pace.allowed(4)), (None, 4));
    }
}
