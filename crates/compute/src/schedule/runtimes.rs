//! How long tasks of a job take, in constant space: counts and sums in
//! buckets that are nine percent wide.

use std::time::Duration;

/// Buckets in a doubling.
const PER_DOUBLING: f64 = 8.0;
/// The end of the first bucket in seconds; the last one starts at 2^34 times
/// as much, twenty days.
const SHORTEST: f64 = 1e-4;
const BUCKETS: usize = 273;

/// A distribution of durations.
#[derive(Clone, Debug, Default)]
pub struct Runtimes {
    counts: Vec<u32>,
    sums: Vec<f64>,
    count: u64,
    sum: f64,
    logs: f64,
    squares: f64,
}

/// For each bucket, how long a task that got so far still takes on average;
/// negative where no task got further.
#[derive(Clone, Debug)]
pub struct Excess {
    beyond: Vec<f64>,
}

impl Runtimes {
    /// Counts one.
    pub fn add(&mut self, runtime: Duration) {
        let seconds = runtime.as_secs_f64().max(SHORTEST);
        let bucket = bucket(seconds);
        if self.counts.is_empty() {
            self.counts = vec![0; BUCKETS];
            self.sums = vec![0.0; BUCKETS];
        }
        if let (Some(count), Some(sum)) = (self.counts.get_mut(bucket), self.sums.get_mut(bucket)) {
            *count = count.saturating_add(1);
            *sum += seconds;
        }
        self.count += 1;
        self.sum += seconds;
        self.logs += seconds.ln();
        self.squares += seconds.ln() * seconds.ln();
    }

    /// How many were counted.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Their mean in seconds; zero without any.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum / float(self.count) }
    }

    /// How much longer than typical `runtime` is, as a logarithm: its distance
    /// from the mean of logarithms, which one long task hardly moves.
    #[must_use]
    pub fn log_ratio(&self, runtime: Duration) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        runtime.as_secs_f64().max(SHORTEST).ln() - self.logs / float(self.count)
    }

    /// The variance of the logarithms: how little one ratio says.
    #[must_use]
    pub fn log_variance(&self) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        let mean = self.logs / float(self.count);
        (self.squares / float(self.count) - mean * mean).max(0.0)
    }

    /// The end of the bucket that holds the `share` quantile, in seconds.
    #[must_use]
    pub fn quantile(&self, share: f64) -> f64 {
        let wanted = share * float(self.count);
        let mut seen = 0.0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += f64::from(*count);
            if *count > 0 && seen >= wanted {
                return end(bucket);
            }
        }
        0.0
    }

    /// See [`Excess`].
    #[must_use]
    pub fn excess(&self) -> Excess {
        let (mut count, mut sum) = (0.0, 0.0);
        let mut beyond = vec![-1.0; self.counts.len()];
        for (place, (here, total)) in beyond.iter_mut().zip(self.counts.iter().zip(&self.sums)).rev() {
            if count > 0.0 {
                *place = sum / count;
            }
            count += f64::from(*here);
            sum += total;
        }
        Excess { beyond }
    }
}

impl Excess {
    /// What is left, on average, of a task that has taken `seconds`. Of one
    /// that took longer than any before, as much again.
    #[must_use]
    pub fn left(&self, seconds: f64) -> f64 {
        match self.beyond.get(bucket(seconds)) {
            Some(mean) if *mean >= 0.0 => (mean - seconds).max(0.0),
            _ => seconds,
        }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the buckets")]
fn bucket(seconds: f64) -> usize {
    if seconds <= SHORTEST {
        return 0;
    }
    ((seconds / SHORTEST).log2() * PER_DOUBLING).clamp(0.0, float(BUCKETS as u64 - 1)) as usize
}

#[allow(clippy::cast_precision_loss, reason = "below 2^52")]
fn end(bucket: usize) -> f64 {
    SHORTEST * ((bucket + 1) as f64 / PER_DOUBLING).exp2()
}

#[allow(clippy::cast_precision_loss, reason = "below 2^52")]
const fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Runtimes;

    #[test]
    fn quantiles_and_means_are_close() {
        let mut runtimes = Runtimes::default();
        (1..=1000).for_each(|ms| runtimes.add(Duration::from_millis(ms)));
        assert!((runtimes.mean() - 0.5005).abs() < 1e-6);
        assert!((0.95..1.04).contains(&runtimes.quantile(0.95)), "{}", runtimes.quantile(0.95));
        assert!((0.45..0.56).contains(&runtimes.quantile(0.5)), "{}", runtimes.quantile(0.5));
    }

    #[test]
    fn what_is_left_follows_the_distribution() {
        let mut runtimes = Runtimes::default();
        (0..90).for_each(|_| runtimes.add(Duration::from_millis(50)));
        (0..10).for_each(|_| runtimes.add(Duration::from_secs(1)));
        let excess = runtimes.excess();
        let close = |seconds: f64, wanted: f64| (excess.left(seconds) - wanted).abs() < 0.02;
        assert!(close(0.01, 0.135), "{}", excess.left(0.01));
        assert!(close(0.1, 0.9), "{}", excess.left(0.1));
        assert!(close(5.0, 5.0), "longer than any: as much again");
    }

    #[test]
    fn extremes_stay_within_the_buckets() {
        let mut runtimes = Runtimes::default();
        for runtime in [Duration::ZERO, Duration::MAX] {
            runtimes.add(runtime);
        }
        assert_eq!(runtimes.count(), 2);
        assert!(runtimes.quantile(1.0) > 1e6);
        assert!(Runtimes::default().quantile(0.5) < f64::EPSILON);
    }
}
