//! `sim schedule`: one load, one line per policy.

use clap::Args;

use super::load::{Distribution, Load, seconds};
use super::outcome::Outcome;
use super::{planned, pulled, pushed};

/// What to simulate.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Workers, of one slot each.
    #[arg(long, default_value_t = 10_000)]
    pub workers: usize,
    /// Tasks, of all jobs together.
    #[arg(long, default_value_t = 100_000)]
    pub tasks: u64,
    /// Jobs of equal size, of ten users in turn; more than one come by chance,
    /// as fast as `--load` says.
    #[arg(long, default_value_t = 1)]
    pub jobs: u64,
    /// Part of the slots that many jobs keep busy.
    #[arg(long, default_value_t = 0.8)]
    pub load: f64,
    /// Mean time of a task in seconds.
    #[arg(long, default_value_t = 10.0)]
    pub mean: f64,
    /// How times differ: fixed, uniform (7 to 13 of 10), exponential, lognormal
    /// (sigma 1) or mix (10 % take twenty times as long).
    #[arg(long, default_value_t = Distribution::Uniform)]
    pub dist: Distribution,
    /// Percentage of workers that are slow.
    #[arg(long, default_value_t = 1.0)]
    pub slow: f64,
    /// How many times longer tasks take there.
    #[arg(long, default_value_t = 6.0)]
    pub slowness: f64,
    /// Workers that crash during the run; each is back after 30 s.
    #[arg(long, default_value_t = 0)]
    pub crashes: usize,
    /// How often the master changes during the run (not for policies without
    /// one).
    #[arg(long, default_value_t = 0)]
    pub failovers: usize,
    /// One way between master and worker, in microseconds.
    #[arg(long, default_value_t = 500)]
    pub delay: u64,
    /// The seed.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Only the product's policy.
    #[arg(long)]
    pub only_product: bool,
    /// Instead: predict the time from pilots on at most 128 workers, for every
    /// distribution, and compare.
    #[arg(long)]
    pub plan: bool,
}

impl Options {
    fn load(&self) -> Result<Load, String> {
        if self.workers == 0 || self.jobs == 0 || self.tasks < self.jobs {
            return Err("at least one worker and, in each job, one task".to_owned());
        }
        if !(self.load > 0.0 && self.mean > 0.0 && self.slowness > 0.0) {
            return Err("--load, --mean and --slowness must be above zero".to_owned());
        }
        Ok(Load {
            workers: self.workers,
            tasks: self.tasks,
            jobs: self.jobs,
            load: self.load,
            mean: self.mean,
            distribution: self.dist,
            slow: (self.slow, self.slowness),
            crashes: self.crashes,
            failovers: self.failovers,
            delay: self.delay,
            seed: self.seed,
        })
    }
}

/// A policy's name, and what comes of a load under it.
type Policy<'a> = (&'a str, &'a dyn Fn(&Load) -> Outcome);

/// Runs and prints.
///
/// # Errors
/// What was wrong with an option.
pub fn run(options: &Options) -> Result<(), String> {
    let load = options.load()?;
    if options.plan {
        return print_plans(&load);
    }
    let ideal = load.ideal_seconds();
    println!(
        "{} workers ({} % of them {} times slower), {} tasks of {} s ({}) in {} jobs, {} crashes, {} changes of \
         master; virtual time; ideal {ideal:.1} s",
        load.workers,
        load.slow.0,
        load.slow.1,
        load.tasks_per_job() * load.jobs,
        load.mean,
        load.distribution,
        load.jobs,
        load.crashes,
        load.failovers,
    );
    println!(
        "{:<22} {:>10} {:>8} {:>10} {:>10} {:>10} {:>9} {:>11} {:>11}",
        "", "makespan s", "of ideal", "response s", "median", "p99", "backups", "duplicate %", "crashed %"
    );
    let policies: [Policy; 4] = [
        ("pull, backups by LATE", &|load| pulled::run(load, true)),
        ("pull, no backups", &|load| pulled::run(load, false)),
        ("shorter of two queues", &|load| pushed::run(load, 2)),
        ("random queue", &|load| pushed::run(load, 1)),
    ];
    let shown = if options.only_product { 1 } else { policies.len() };
    for (name, policy) in &policies[..shown] {
        let outcome = policy(&load);
        let [mean, median, p99] = outcome.response_seconds();
        println!(
            "{name:<22} {:>10.1} {:>8.3} {mean:>10.2} {median:>10.2} {p99:>10.2} {:>9} {:>11.3} {:>11.3}",
            seconds(outcome.makespan),
            seconds(outcome.makespan) / ideal,
            outcome.backups,
            outcome.duplicate_share() * 100.0,
            seconds(outcome.crashed) / seconds(outcome.useful.max(1)) * 100.0,
        );
        if outcome.twice > 0 {
            return Err(format!("{name}: {} results of tasks that were over", outcome.twice));
        }
    }
    Ok(())
}

fn print_plans(load: &Load) -> Result<(), String> {
    println!("{} workers, pilots on up to 128 of them; virtual time", load.workers);
    println!(
        "{:<12} {:>9} {:>8} {:>12} {:>9} {:>8} {:>12}",
        "", "tasks", "pilots %", "predicted s", "actual s", "error %", "recommended"
    );
    let mut all = Vec::new();
    for load in planned::judged_by(load) {
        let compared = planned::compare(&load)?;
        println!(
            "{:<12} {:>9} {:>8.2} {:>12.1} {:>9.1} {:>8.1} {:>12}",
            compared.distribution.to_string(),
            compared.tasks,
            compared.pilot_share * 100.0,
            compared.predicted,
            compared.actual,
            compared.error() * 100.0,
            compared.recommended,
        );
        all.push(compared);
    }
    println!("median error {:.1} %", planned::median_error(&all) * 100.0);
    Ok(())
}
