//! Whether the disk has room for growing writes. Low space is declared while
//! there is still some: what is left, a spare segment and the reserve file
//! (given up at that moment) are there for deletes, votes, truncations and
//! for the state store, whose compactions need space before they free any.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Space;
use super::config::WalConfig;
use crate::disk::Disk;

/// What [`SpaceWatch::check`] found to be new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    BecameLow,
    BecameOk,
}

pub(super) struct SpaceWatch {
    disk: Arc<dyn Disk>,
    low_below: u64,
    ok_from: u64,
    low: AtomicBool,
    /// What the writer was last told.
    told_low: AtomicBool,
}

impl SpaceWatch {
    pub(super) fn new(disk: Arc<dyn Disk>, config: &WalConfig) -> Self {
        let low_below = config.low_space_bytes;
        // The reserve was given up when space became low and must fit again,
        // with some distance, so that the answer does not flicker.
        let ok_from = low_below.saturating_add(config.reserve_bytes).saturating_add(low_below / 8);
        Self { disk, low_below, ok_from, low: AtomicBool::new(false), told_low: AtomicBool::new(false) }
    }

    fn look(&self) {
        // An error of statvfs says nothing about space; the next look may.
        let Ok(free) = self.disk.free_bytes() else { return };
        if free < self.low_below {
            self.low.store(true, Ordering::Relaxed);
        } else if free >= self.ok_from {
            self.low.store(false, Ordering::Relaxed);
        }
    }

    /// Bytes that can be used before space is low.
    pub(super) fn room(&self) -> u64 {
        self.disk.free_bytes().unwrap_or(0).saturating_sub(self.low_below)
    }

    /// A file could not be made for want of space.
    pub(super) fn set_low(&self) {
        self.low.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_low(&self) -> bool {
        self.low.load(Ordering::Relaxed)
    }

    /// The writer looks, now and then.
    pub(super) fn check(&self) -> Option<Change> {
        self.look();
        let low = self.is_low();
        let change = if low { Change::BecameLow } else { Change::BecameOk };
        (self.told_low.swap(low, Ordering::Relaxed) != low).then_some(change)
    }

    /// For callers. While space is low it looks again each time, because
    /// callers then write little and the writer hardly gets to look.
    pub(super) fn space(&self) -> Space {
        if !self.is_low() {
            return Space::Ok;
        }
        self.look();
        if self.is_low() { Space::Low } else { Space::Ok }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimDisk;

    #[test]
    fn low_space_ends_with_some_distance() {
        let disk = SimDisk::new(1);
        let config = WalConfig { low_space_bytes: 800, reserve_bytes: 200, ..WalConfig::small() };
        let watch = SpaceWatch::new(disk.mount().expect("mount"), &config);
        let mut story = Vec::new();
        for capacity in [900, 799, 900, 1099, 1100, 800] {
            disk.set_capacity(capacity);
            story.push((watch.check(), watch.space()));
        }
        assert_eq!(
            story,
            [
                (None, Space::Ok),
                (Some(Change::BecameLow), Space::Low),
                (None, Space::Low),
                (None, Space::Low),
                (Some(Change::BecameOk), Space::Ok),
                (None, Space::Ok),
            ]
        );
    }
}
