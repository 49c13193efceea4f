//! How long the disk takes for a sync lately: what tells a slow disk from a
//! busy moment. One slow sync alone must not look like a slow disk, so each
//! counts for little and at most for a few times of what is usual.

use std::time::Duration;

use tokio::time::Instant;

use super::SyncPace;

/// Each sync moves the figure by this part of the difference.
const WEIGHT: u32 = 8;
/// A sync counts as at most this many times the figure.
const MOST_GROWTH: u32 = 4;
/// The figure counts as at least this much when it grows.
const LEAST_GROWN: Duration = Duration::from_micros(100);
/// Syncs before there is a figure.
const ENOUGH: u32 = 16;
/// Without a sync for this long, the figure says how the disk was.
const RECENT: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pace {
    figure: Duration,
    /// Up to [`ENOUGH`].
    syncs: u32,
    /// When the sync in progress began.
    began: Option<Instant>,
    ended: Option<Instant>,
}

impl Pace {
    pub(super) fn begin(&mut self, now: Instant) {
        self.began = Some(now);
    }

    /// The sync that had begun is done; how long it took.
    pub(super) fn end(&mut self, now: Instant) -> Duration {
        let took = self.began.take().map_or(Duration::ZERO, |began| now - began);
        self.ended = Some(now);
        if self.syncs == 0 {
            self.figure = took;
        } else {
            let counted = took.min(self.figure.max(LEAST_GROWN) * MOST_GROWTH);
            self.figure = (self.figure * (WEIGHT - 1) + counted) / WEIGHT;
        }
        self.syncs = (self.syncs + 1).min(ENOUGH);
        took
    }

    /// A sync that hangs counts as soon as it is slower than the others.
    pub(super) fn look(&self, now: Instant) -> Option<SyncPace> {
        if self.syncs < ENOUGH {
            return None;
        }
        let waiting = self.began.map_or(Duration::ZERO, |began| now - began);
        let recent = self.began.is_some() || self.ended.is_some_and(|ended| now < ended + RECENT);
        Some(SyncPace { latency: self.figure.max(waiting), recent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn sync(pace: &mut Pace, now: &mut Instant, took: Duration) {
        pace.begin(*now);
        *now += took;
        pace.end(*now);
    }

    fn used(now: &mut Instant) -> Pace {
        let mut pace = Pace::default();
        for _ in 0..ENOUGH {
            assert_eq!(pace.look(*now), None, "too few");
            sync(&mut pace, now, MS);
        }
        pace
    }

    #[test]
    fn one_slow_sync_is_no_slow_disk() {
        let mut now = Instant::now();
        let mut pace = used(&mut now);
        sync(&mut pace, &mut now, MS * 2_000);
        let after = pace.look(now).expect("enough");
        assert!(after.latency < MS * 2, "{after:?}");
    }

    #[test]
    fn a_disk_that_turns_slow_and_fast_again_is_seen_within_some_syncs() {
        let mut now = Instant::now();
        let mut pace = used(&mut now);
        assert_eq!(pace.look(now), Some(SyncPace { latency: MS, recent: true }));
        for _ in 0..32 {
            sync(&mut pace, &mut now, MS * 50);
        }
        let slow = pace.look(now).expect("enough").latency;
        assert!((MS * 40..=MS * 50).contains(&slow), "{slow:?}");
        for _ in 0..32 {
            sync(&mut pace, &mut now, MS);
        }
        let fast = pace.look(now).expect("enough").latency;
        assert!(fast < MS * 3, "{fast:?}");
    }

    #[test]
    fn a_sync_that_hangs_counts_and_an_old_figure_is_told_as_such() {
        let mut now = Instant::now();
        let mut pace = used(&mut now);
        assert_eq!(pace.look(now + RECENT), Some(SyncPace { latency: MS, recent: false }));
        pace.begin(now);
        assert_eq!(pace.look(now + RECENT), Some(SyncPace { latency: RECENT, recent: true }));
    }
}
