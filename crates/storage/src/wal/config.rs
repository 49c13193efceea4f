//! The knobs of the log. Defaults suit a node of a few groups; the simulator
//! and the tests use small sizes.

use std::time::Duration;

use super::WalError;

/// Sizes of the log, all in bytes unless said otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalConfig {
    /// Size of a segment file. Larger means fewer rotations, and more space
    /// that one old entry can pin. Multiple of 4 KiB, at least 64 KiB.
    /// Default 64 MiB.
    pub segment_bytes: u64,
    /// Size of the first segment of a new log; each next one is twice as
    /// large, up to `segment_bytes`. Smaller means that a new node serves
    /// earlier, since it waits until this one is filled with zeros. Multiple
    /// of 4 KiB, at least 64 KiB. Default 2 MiB.
    pub first_segment_bytes: u64,
    /// Entries kept in memory after they were written. Default 64 MiB.
    pub cache_bytes: usize,
    /// Entries that may wait for the writer before [`super::GroupLog::ready`]
    /// holds callers back. Default 32 MiB.
    pub queue_bytes: usize,
    /// Entries written with one `fdatasync`, at most (one append is never
    /// split). Default 4 MiB.
    pub batch_bytes: usize,
    /// Below this much free space the log says [`super::Space::Low`].
    /// Default 256 MiB.
    pub low_space_bytes: u64,
    /// Space held back in a file of its own, given up when space gets low, so
    /// that deletes can still be written; at least a segment, or it cannot
    /// become one. Default 64 MiB.
    pub reserve_bytes: u64,
    /// A group whose entries reach back this many segments is written again
    /// into the newest one if it is small, and listed by
    /// [`super::Wal::pinning_groups`] if not. At least 2. Default 4.
    pub pinned_segments: u64,
    /// Whether the log must be there already. A node that has run before
    /// sets it, so that a lost log is not taken for a new one.
    pub must_exist: bool,
}

impl Default for WalConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 64 * 1024 * 1024,
            first_segment_bytes: 2 * 1024 * 1024,
            cache_bytes: 64 * 1024 * 1024,
            queue_bytes: 32 * 1024 * 1024,
            batch_bytes: 4 * 1024 * 1024,
            low_space_bytes: 256 * 1024 * 1024,
            reserve_bytes: 64 * 1024 * 1024,
            pinned_segments: 4,
            must_exist: false,
        }
    }
}

/// Segments start and batches end at multiples of this.
pub(super) const BLOCK_BYTES: usize = 4096;
pub(super) const MIN_SEGMENT_BYTES: u64 = 64 * 1024;
const MAX_SEGMENT_BYTES: u64 = 1024 * 1024 * 1024;

impl WalConfig {
    /// Small sizes for the simulator and for tests.
    #[must_use]
    pub fn small() -> Self {
        Self {
            segment_bytes: 256 * 1024,
            first_segment_bytes: MIN_SEGMENT_BYTES,
            cache_bytes: 256 * 1024,
            queue_bytes: 256 * 1024,
            batch_bytes: 64 * 1024,
            low_space_bytes: 1024 * 1024,
            reserve_bytes: 256 * 1024,
            pinned_segments: 4,
            must_exist: false,
        }
    }

    pub(super) fn check(&self) -> Result<(), WalError> {
        let refuse = |what: &str| Err(WalError::Config { what: what.into() });
        for bytes in [self.segment_bytes, self.first_segment_bytes] {
            if !bytes.is_multiple_of(BLOCK_BYTES as u64) {
                return refuse("segment sizes must be multiples of 4096");
            }
            if !(MIN_SEGMENT_BYTES..=MAX_SEGMENT_BYTES).contains(&bytes) {
                return refuse("segment sizes must be between 64 KiB and 1 GiB");
            }
        }
        if self.pinned_segments < 2 {
            return refuse("pinned_segments must be at least 2");
        }
        if self.batch_bytes == 0 || self.queue_bytes == 0 {
            return refuse("batch_bytes and queue_bytes must not be 0");
        }
        Ok(())
    }
}

/// Who runs the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// An operating system thread: the product.
    Thread,
    /// A task on the current tokio runtime: the simulator.
    Task {
        /// How long each sync takes, in the runtime's (virtual) time.
        sync_latency: Duration,
    },
}
