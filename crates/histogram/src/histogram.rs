//! Counts and percentiles.

use std::fmt;
use std::marker::PhantomData;

/// One for 0, and one for each number of bits of a `u64`.
const BUCKETS: usize = 65;

/// Counts values by the number of their bits. `T` is what the other crate
/// keeps beside each of several windows; here there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: [u64; BUCKETS],
    data: PhantomData<T>,
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Histogram<T> {
    /// Without values.
    #[must_use]
    pub const fn new() -> Self {
        Self { counts: [0; BUCKETS], data: PhantomData }
    }

    /// Counts `value` once.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts `value` `count` times.
    pub fn record_n(&mut self, value: u64, count: u64) {
        let bits = u64::BITS - value.leading_zeros();
        let counted = &mut self.counts[bits as usize];
        *counted = counted.saturating_add(count);
    }

    /// How many values were counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The least value with as many bits as the one that `permille` of a
    /// thousand values do not exceed; 0 without values.
    fn permille(&self, permille: u128) -> u64 {
        let rank = (u128::from(self.total()) * permille).div_ceil(1000).max(1);
        let mut below = 0;
        for (bits, count) in self.counts.iter().enumerate() {
            below += u128::from(*count);
            if below >= rank {
                return if bits == 0 { 0 } else { 1 << (bits - 1) };
            }
        }
        0
    }

    /// The usual percentiles.
    #[must_use]
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total(),
            p0_1: self.permille(1),
            p1: self.permille(10),
            p5: self.permille(50),
            p10: self.permille(100),
            p50: self.permille(500),
            p90: self.permille(900),
            p99: self.permille(990),
            p99_9: self.permille(999),
        }
    }
}

/// Percentiles of a [`Histogram`], each at most a factor of two too small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PercentileStats {
    /// How many values were counted.
    pub samples: u64,
    /// Of a thousand, one is not above this.
    pub p0_1: u64,
    /// Of a hundred, one is not above this.
    pub p1: u64,
    /// The 5th percentile.
    pub p5: u64,
    /// The 10th percentile.
    pub p10: u64,
    /// The median.
    pub p50: u64,
    /// The 90th percentile.
    pub p90: u64,
    /// The 99th percentile.
    pub p99: u64,
    /// Of a thousand, one is above this.
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, p50, p99, .. } = self;
        write!(f, "{samples} values, median {p50}, 99th percentile {p99}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_powers_of_two_below_the_values() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile_stats().p50, 0);
        histogram.record(0);
        histogram.record_n(1000, 98);
        histogram.record(u64::MAX);
        let stats = histogram.percentile_stats();
        assert_eq!((stats.samples, stats.p1, stats.p5), (100, 0, 512));
        assert_eq!((stats.p50, stats.p99, stats.p99_9), (512, 512, 1 << 63));
    }
}
