//! What a node measures about the commands that it took: `T = T_r + T_c`,
//! separately for reads and writes, and for requests that met the owner and
//! those that were forwarded.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use hdrhistogram::Histogram;

use crate::groups::Timing;
use crate::plan::Access;

/// Longest time that is told apart, in microseconds: a minute.
const MAX_MICROS: u64 = 60_000_000;

/// Two significant digits: 1 % is less than the noise.
const DIGITS: u8 = 2;

/// Upper bounds of the buckets of [`Times`], in microseconds.
pub const BOUNDS_MICROS: [u64; 17] = [
    50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000,
    2_000_000, 5_000_000, 10_000_000,
];

struct Parts {
    processing: Histogram<u64>,
    passing: Histogram<u64>,
    processing_sum: u64,
    passing_sum: u64,
}

impl Parts {
    fn new() -> Self {
        let histogram = || Histogram::new_with_max(MAX_MICROS, DIGITS).expect("the bounds are in order");
        Self { processing: histogram(), passing: histogram(), processing_sum: 0, passing_sum: 0 }
    }
}

/// One kind of request.
struct Kind {
    name: &'static str,
    // Recorded by every connection's task a few times per wake-up; a task of
    // its own would cost a message per command.
    parts: Mutex<Parts>,
}

/// The figures of one node since its start.
pub struct Measures {
    kinds: [Kind; 4],
    commands: AtomicU64,
    refused: AtomicU64,
    forwarded: AtomicU64,
}

impl Default for Measures {
    fn default() -> Self {
        let kind = |name| Kind { name, parts: Mutex::new(Parts::new()) };
        Self {
            kinds: [kind("read_owner"), kind("read_forwarded"), kind("write_owner"), kind("write_forwarded")],
            commands: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            forwarded: AtomicU64::new(0),
        }
    }
}

/// Figures of one part of one kind of request, in microseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// For example `read_owner_processing`.
    pub name: String,
    /// How many requests.
    pub count: u64,
    /// Half were faster.
    pub median_us: u64,
    /// 99 of 100 were faster.
    pub p99_us: u64,
    /// The slowest.
    pub max_us: u64,
}

/// One part of one kind of request, in buckets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Times {
    /// `read` or `write`.
    pub access: &'static str,
    /// `owner` or `forwarded`.
    pub executed: &'static str,
    /// `processing` or `passing`.
    pub part: &'static str,
    /// How many requests took at most each of [`BOUNDS_MICROS`] and more than
    /// the one before; the last: how many took longer.
    pub counts: Vec<u64>,
    /// All times together, in microseconds.
    pub sum_micros: u64,
}

impl Measures {
    /// A command was taken.
    pub fn took(&self, commands: u64) {
        self.commands.fetch_add(commands, Ordering::Relaxed);
    }

    /// A command was answered with an error.
    pub fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// A command came back from its partition.
    pub fn record(&self, access: Access, timing: Timing) {
        if timing.forwarded {
            self.forwarded.fetch_add(1, Ordering::Relaxed);
        }
        let index = usize::from(access == Access::Write) * 2 + usize::from(timing.forwarded);
        let mut parts = self.kinds[index].parts.lock().unwrap_or_else(PoisonError::into_inner);
        let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(MAX_MICROS);
        let (processing, passing) = (micros(timing.processing), micros(timing.passing()));
        parts.processing.saturating_record(processing);
        parts.passing.saturating_record(passing);
        parts.processing_sum = parts.processing_sum.saturating_add(processing);
        parts.passing_sum = parts.passing_sum.saturating_add(passing);
    }

    /// Commands taken since the start.
    pub fn commands(&self) -> u64 {
        self.commands.load(Ordering::Relaxed)
    }

    /// Commands answered with an error since the start.
    pub fn refusals(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Commands passed to another node since the start.
    pub fn forwards(&self) -> u64 {
        self.forwarded.load(Ordering::Relaxed)
    }

    /// All figures.
    pub fn figures(&self) -> Vec<Figures> {
        let mut all = Vec::new();
        for kind in &self.kinds {
            let parts = kind.parts.lock().unwrap_or_else(PoisonError::into_inner);
            for (part, histogram) in [("processing", &parts.processing), ("passing", &parts.passing)] {
                all.push(Figures {
                    name: format!("{}_{part}", kind.name),
                    count: histogram.len(),
                    median_us: histogram.value_at_quantile(0.5),
                    p99_us: histogram.value_at_quantile(0.99),
                    max_us: histogram.max(),
                });
            }
        }
        all
    }

    /// All times in buckets.
    pub fn histograms(&self) -> Vec<Times> {
        let mut all = Vec::new();
        for kind in &self.kinds {
            let (access, executed) = kind.name.split_once('_').unwrap_or((kind.name, ""));
            let parts = kind.parts.lock().unwrap_or_else(PoisonError::into_inner);
            let both = [
                ("processing", &parts.processing, parts.processing_sum),
                ("passing", &parts.passing, parts.passing_sum),
            ];
            for (part, histogram, sum_micros) in both {
                all.push(Times { access, executed, part, counts: buckets(histogram), sum_micros });
            }
        }
        all
    }
}

fn buckets(histogram: &Histogram<u64>) -> Vec<u64> {
    let mut counts = vec![0; BOUNDS_MICROS.len() + 1];
    for value in histogram.iter_recorded() {
        let bucket = BOUNDS_MICROS.partition_point(|bound| *bound < value.value_iterated_to());
        counts[bucket] += value.count_since_last_iteration();
    }
    counts
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn parts_of_a_kind_are_kept_apart() {
        let measures = Measures::default();
        let timing = Timing {
            total: Duration::from_micros(900),
            processing: Duration::from_micros(600),
            forwarded: true,
        };
        measures.record(Access::Write, timing);
        let figures = measures.figures();
        let of = |name: &str| figures.iter().find(|figures| figures.name == name).unwrap().clone();
        assert_eq!((of("write_forwarded_processing").count, of("write_owner_processing").count), (1, 0));
        assert!(of("write_forwarded_processing").median_us.abs_diff(600) < 10);
        assert!(of("write_forwarded_passing").median_us.abs_diff(300) < 10);
        assert_eq!(measures.forwards(), 1);

        let times = measures.histograms();
        let of = |part| {
            let wanted =
                |times: &&Times| (times.access, times.executed, times.part) == ("write", "forwarded", part);
            times.iter().find(wanted).unwrap()
        };
        assert_eq!((of("processing").sum_micros, of("passing").sum_micros), (600, 300));
        let bucket = |bound| BOUNDS_MICROS.iter().position(|known| *known == bound).unwrap();
        assert_eq!((of("processing").counts[bucket(1_000)], of("passing").counts[bucket(500)]), (1, 1));
        assert_eq!(times.iter().flat_map(|times| &times.counts).sum::<u64>(), 2);
    }
}
