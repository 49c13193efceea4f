//! Virtual time. The world has one; each node has a wall clock that is off by
//! its own skew. Monotonic time is the paused clock of each node's runtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use trine_types::Clock;

/// Wall-clock milliseconds at the beginning of every world (in 2026).
pub const EPOCH_MS: u64 = 1_790_000_000_000;

/// The world's own time, in milliseconds since its beginning.
#[derive(Debug, Clone, Default)]
pub struct WorldTime {
    now_ms: Arc<AtomicU64>,
}

impl WorldTime {
    /// Milliseconds since the beginning of the world.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::Relaxed)
    }

    /// Moves time on by one millisecond.
    pub(crate) fn tick(&self) {
        self.now_ms.fetch_add(1, Ordering::Relaxed);
    }
}

/// A node's wall clock: the world's time and the node's skew.
#[derive(Debug, Clone)]
pub struct SkewedClock {
    world: WorldTime,
    skew_ms: Arc<AtomicI64>,
}

impl SkewedClock {
    /// A clock without skew.
    #[must_use]
    pub fn new(world: WorldTime) -> Self {
        Self { world, skew_ms: Arc::default() }
    }

    /// Sets how far the clock is ahead of the world's time.
    pub fn set_skew_ms(&self, skew_ms: i64) {
        self.skew_ms.store(skew_ms, Ordering::Relaxed);
    }
}

impl Clock for SkewedClock {
    fn wall_ms(&self) -> u64 {
        (EPOCH_MS + self.world.now_ms()).saturating_add_signed(self.skew_ms.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skew_moves_one_clock_only() {
        let world = WorldTime::default();
        let (first, second) = (SkewedClock::new(world.clone()), SkewedClock::new(world.clone()));
        first.set_skew_ms(-200);
        world.tick();
        assert_eq!(first.wall_ms() + 200, second.wall_ms());
        assert_eq!(second.wall_ms(), EPOCH_MS + 1);
    }
}
