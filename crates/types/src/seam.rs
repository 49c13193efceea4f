//! The door through which time and chance enter. Pure code takes both as
//! arguments; everything else holds these two handles, so that the simulator
//! can hold them instead.
//!
//! Monotonic time is not here: tasks use the runtime's timers, which the
//! simulator pauses and drives.

use std::sync::Arc;

/// Wall-clock time, in milliseconds since the Unix epoch. It may jump; only
/// stamps (which replicas never trust backwards) and certificates use it.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch.
    fn wall_ms(&self) -> u64;
}

/// A source of seeds and secrets: the operating system's in the product,
/// a seeded generator in the simulator.
pub trait Entropy: Send + Sync + 'static {
    /// Fills `bytes` with random bytes fit for keys.
    fn fill(&self, bytes: &mut [u8]);

    /// A random number.
    fn next_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

impl<T: Clock + ?Sized> Clock for Arc<T> {
    fn wall_ms(&self) -> u64 {
        (**self).wall_ms()
    }
}

impl<T: Entropy + ?Sized> Entropy for Arc<T> {
    fn fill(&self, bytes: &mut [u8]) {
        (**self).fill(bytes);
    }
}
