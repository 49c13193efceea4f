//! Lines in time on which a node does what nobody waits for. Timers that fire
//! on a line of their own each wake the processor, and so does each message
//! that comes alone; on common lines, what several rooms send leaves together
//! and arrives together.

use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

/// How early something may be done that would be due just after a line. What
/// was done on a line and is due a few periods later would else miss its line
/// by the time that it took.
const EARLY: Duration = Duration::from_millis(5);

/// See the module. All lines follow from one moment, so that those of longer
/// periods are among those of their divisors.
#[derive(Debug, Clone, Copy)]
pub struct Grid {
    origin: Instant,
}

impl Grid {
    /// A grid that begins at `origin`.
    #[must_use]
    pub const fn new(origin: Instant) -> Self {
        Self { origin }
    }

    /// The first line of period `every` that is not over [`EARLY`] before `at`.
    #[must_use]
    pub fn line(self, at: Instant, every: Duration) -> Instant {
        let since = at.saturating_duration_since(self.origin).saturating_sub(EARLY);
        let every = every.as_micros().max(1);
        let lines = since.as_micros().div_ceil(every);
        u64::try_from(lines.saturating_mul(every))
            .ok()
            .and_then(|micros| self.origin.checked_add(Duration::from_micros(micros)))
            .unwrap_or(at)
    }

    /// Ticks on every line of period `every`, from the next on; those that
    /// were missed are left out.
    #[must_use]
    pub fn ticks(self, every: Duration) -> Interval {
        let mut ticks = interval_at(self.line(Instant::now() + EARLY, every), every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        ticks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_soon_after_a_line_is_done_on_it() {
        let origin = Instant::now();
        let (grid, at) = (Grid::new(origin), |ms: u64| origin + Duration::from_millis(ms));
        let every = Duration::from_millis(50);
        for (due, line) in [(0, 0), (5, 0), (6, 50), (50, 50), (55, 50), (56, 100), (1_001, 1_000)] {
            assert_eq!(grid.line(at(due), every), at(line), "{due}");
        }
        assert_eq!(Grid::new(at(100)).line(origin, every), at(100), "none before the first");
    }

    #[tokio::test(start_paused = true)]
    async fn ticks_of_several_periods_meet() {
        let origin = Instant::now();
        tokio::time::advance(Duration::from_millis(130)).await;
        let grid = Grid::new(origin);
        let (mut short, mut long) =
            (grid.ticks(Duration::from_millis(50)), grid.ticks(Duration::from_millis(200)));
        assert_eq!(short.tick().await, origin + Duration::from_millis(150));
        assert_eq!(short.tick().await, long.tick().await);
    }
}
