//! What is to be done, and by whom: equal for all policies of one seed.

use std::str::FromStr;

use super::agenda::Micros;
use crate::random::{Rng, mix};

/// A worker that crashed is back after this, whatever the policy.
pub(crate) const BACK: Micros = 30_000_000;
/// How often a task is as long as twenty short ones.
const LONG_PERCENT: f64 = 0.1;
const LONG: f64 = 20.0;
/// The standard deviation of the logarithm of lognormal task times.
const SIGMA: f64 = 1.0;
/// How far uniform times are from their mean: 7 to 13 of 10.
const SPREAD: f64 = 0.3;

/// How long tasks take on a worker that is not slow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Distribution {
    /// All the same.
    Fixed,
    /// 0.7 to 1.3 times the mean, evenly.
    Uniform,
    /// Exponential.
    Exponential,
    /// Lognormal with sigma 1: one in twenty takes three times the mean.
    Lognormal,
    /// 90 % short, 10 % twenty times as long.
    Mix,
}

impl Distribution {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Fixed, Self::Uniform, Self::Exponential, Self::Lognormal, Self::Mix];
}

impl FromStr for Distribution {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "fixed" => Ok(Self::Fixed),
            "uniform" => Ok(Self::Uniform),
            "exponential" => Ok(Self::Exponential),
            "lognormal" => Ok(Self::Lognormal),
            "mix" => Ok(Self::Mix),
            _ => Err("fixed, uniform, exponential, lognormal or mix".to_owned()),
        }
    }
}

impl std::fmt::Display for Distribution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Fixed => "fixed",
            Self::Uniform => "uniform",
            Self::Exponential => "exponential",
            Self::Lognormal => "lognormal",
            Self::Mix => "mix",
        })
    }
}

/// What a simulation is made of.
#[derive(Clone, Debug)]
pub struct Load {
    /// Workers, of one slot each.
    pub workers: usize,
    /// Tasks, of all jobs together.
    pub tasks: u64,
    /// Jobs of equal size.
    pub jobs: u64,
    /// Share of the slots that jobs keep busy; a single job comes at once.
    pub load: f64,
    /// Mean time of a task in seconds.
    pub mean: f64,
    /// How times differ.
    pub distribution: Distribution,
    /// Percentage of workers that are slow, and how many times longer tasks
    /// take there.
    pub slow: (f64, f64),
    /// Workers that crash, at some moment; each is back after 30 s.
    pub crashes: usize,
    /// How often the master changes.
    pub failovers: usize,
    /// One way between master and worker.
    pub delay: Micros,
    /// All chance comes from it.
    pub seed: u64,
}

impl Load {
    /// How many tasks each job has.
    #[must_use]
    pub fn tasks_per_job(&self) -> u64 {
        self.tasks / self.jobs.max(1)
    }

    /// How long a task takes on a worker that is not slow: the same wherever
    /// and whenever it runs.
    #[must_use]
    pub fn size(&self, job: u64, index: u64) -> Micros {
        let seed = mix(self.seed ^ mix(job << 40 ^ index));
        let (first, second) = (part(seed), part(mix(seed ^ 1)));
        let factor = match self.distribution {
            Distribution::Fixed => 1.0,
            Distribution::Uniform => 1.0 - SPREAD + 2.0 * SPREAD * first,
            Distribution::Exponential => -(1.0 - first).ln(),
            Distribution::Lognormal => {
                let normal = (-2.0 * (1.0 - first).ln()).sqrt() * (std::f64::consts::TAU * second).cos();
                (SIGMA * normal - SIGMA * SIGMA / 2.0).exp()
            }
            Distribution::Mix => {
                let scale = 1.0 / (1.0 - LONG_PERCENT + LONG_PERCENT * LONG);
                if first < LONG_PERCENT { LONG * scale } else { scale }
            }
        };
        micros(self.mean * factor).max(1)
    }

    /// How many times longer tasks take on each worker.
    #[must_use]
    pub fn slowness(&self) -> Vec<f64> {
        let mut rng = Rng::new(self.seed, "slow");
        let slow = |rng: &mut Rng| part(rng.draw()) * 100.0 < self.slow.0;
        (0..self.workers).map(|_| if slow(&mut rng) { self.slow.1 } else { 1.0 }).collect()
    }

    /// When the jobs come.
    #[must_use]
    pub fn arrivals(&self) -> Vec<Micros> {
        let mut rng = Rng::new(self.seed, "arrivals");
        let each = self.work_seconds() / float(self.jobs.max(1)) / self.load;
        let mut at = 0.0;
        (0..self.jobs)
            .map(|job| {
                if job > 0 {
                    at -= (1.0 - part(rng.draw())).ln() * each;
                }
                micros(at)
            })
            .collect()
    }

    /// Which workers crash when, and when the master changes.
    #[must_use]
    pub fn faults(&self) -> (Vec<(Micros, usize)>, Vec<Micros>) {
        let mut rng = Rng::new(self.seed, "faults");
        let span = micros(self.work_seconds()).max(1);
        let crashes = (0..self.crashes).map(|_| (rng.below(span), index(&mut rng, self.workers))).collect();
        let mut failovers: Vec<Micros> = (0..self.failovers).map(|_| rng.below(span)).collect();
        failovers.sort_unstable();
        (crashes, failovers)
    }

    /// All work, on all workers, none slow, none idle.
    #[must_use]
    pub fn work_seconds(&self) -> f64 {
        seconds(self.sizes().sum()) / float(self.workers as u64)
    }

    /// Seconds that nothing can beat: all work shared evenly, or, if that is
    /// more, the longest task.
    #[must_use]
    pub fn ideal_seconds(&self) -> f64 {
        self.work_seconds().max(seconds(self.sizes().max().unwrap_or(0)))
    }

    fn sizes(&self) -> impl Iterator<Item = Micros> + '_ {
        (0..self.jobs).flat_map(move |job| (0..self.tasks_per_job()).map(move |index| self.size(job, index)))
    }
}

/// One of `count`.
pub fn index(rng: &mut Rng, count: usize) -> usize {
    usize::try_from(rng.below(count.max(1) as u64)).unwrap_or(0)
}

/// A number below one.
#[must_use]
pub fn part(draw: u64) -> f64 {
    float(draw >> 11) / float(1 << 53)
}

/// Seconds as microseconds.
#[must_use]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
pub fn micros(seconds: f64) -> Micros {
    (seconds * 1e6).round() as Micros
}

/// Microseconds as seconds.
#[must_use]
pub fn seconds(micros: Micros) -> f64 {
    float(micros) / 1e6
}

/// A count to calculate with.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "below 2^53")]
pub const fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{Distribution, Load};

    /// 1,000 workers, ten tasks for each.
    pub(crate) fn small() -> Load {
        Load {
            workers: 1000,
            tasks: 10_000,
            jobs: 1,
            load: 0.8,
            mean: 10.0,
            distribution: Distribution::Uniform,
            slow: (1.0, 6.0),
            crashes: 0,
            failovers: 0,
            delay: 500,
            seed: 1,
        }
    }

    #[test]
    fn every_distribution_has_the_mean_that_was_asked_for() {
        for distribution in Distribution::ALL {
            let load = Load { distribution, tasks: 100_000, workers: 100_000, ..small() };
            let mean = load.work_seconds();
            assert!((9.7..10.3).contains(&mean), "{distribution}: {mean}");
            assert_eq!(distribution.to_string().parse(), Ok(distribution));
        }
    }

    #[test]
    fn jobs_come_as_fast_as_the_load_says() {
        let load = Load { jobs: 1000, ..small() };
        let last = super::seconds(*load.arrivals().last().expect("there are jobs"));
        let expected = load.work_seconds() / 0.8;
        assert!((0.85..1.15).contains(&(last / expected)), "{last} instead of {expected}");
    }
}
