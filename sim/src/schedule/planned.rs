//! Predictions against what happens: pilots on few simulated workers, the
//! model of `trine plan` fitted to them, and the whole job beside it.

use trine_compute::plan::{Choice, Fit, Question, Sample, advise};

use super::load::{Distribution, Load, float, seconds};
use super::pulled;

/// Workers of the pilots, each with few and with more tasks per worker.
const PILOT_WORKERS: [usize; 8] = [1, 2, 4, 8, 16, 32, 64, 128];
const PILOT_TASKS: [u64; 2] = [4, 16];

/// A prediction and what came.
#[derive(Clone, Debug)]
pub struct Compared {
    /// How task times differ.
    pub distribution: Distribution,
    /// How many tasks.
    pub tasks: u64,
    /// Part of the job's work that the pilots were.
    pub pilot_share: f64,
    /// What was predicted, in seconds.
    pub predicted: f64,
    /// What it took.
    pub actual: f64,
    /// How many workers were recommended.
    pub recommended: u64,
}

impl Compared {
    /// By which part of the actual time the prediction was off.
    #[must_use]
    pub fn error(&self) -> f64 {
        (self.predicted / self.actual - 1.0).abs()
    }
}

/// Predicts a load and runs it.
///
/// # Errors
/// Why there is no prediction.
pub fn compare(load: &Load) -> Result<Compared, String> {
    let mut samples = Vec::new();
    let mut pilots = 0;
    for (number, workers) in PILOT_WORKERS.into_iter().filter(|workers| *workers <= load.workers).enumerate()
    {
        for each in PILOT_TASKS {
            let tasks = workers as u64 * each;
            // Other tasks and other workers than those of the job itself.
            let seed = load.seed.wrapping_mul(1000) + number as u64 * 10 + each;
            let pilot = Load { workers, tasks, jobs: 1, crashes: 0, failovers: 0, seed, ..load.clone() };
            let outcome = pulled::run(&pilot, true);
            samples.push(Sample { nodes: workers as u64, tasks, seconds: seconds(outcome.makespan) });
            pilots += tasks;
        }
    }
    let most = load.workers as u64;
    let fit = Fit::new(&samples, most).map_err(|error| error.to_string())?;
    let question = Question {
        tasks: load.tasks,
        task_seconds: load.mean,
        slots: 1,
        most,
        master_seconds: 0.0,
        local: None,
    };
    let advice = advise(&fit, &question);
    let actual = seconds(pulled::run(load, true).makespan);
    Ok(Compared {
        distribution: load.distribution,
        tasks: load.tasks,
        pilot_share: float(pilots) / float(load.tasks),
        predicted: fit.seconds(most, load.tasks),
        actual,
        recommended: match advice.choice {
            Choice::Nodes(nodes) => nodes,
            Choice::Local { .. } => 1,
        },
    })
}

/// The loads that predictions are judged by: every distribution, with the
/// tasks that were asked for and with three times as many.
#[must_use]
pub fn judged_by(load: &Load) -> Vec<Load> {
    let mut loads = Vec::new();
    for distribution in Distribution::ALL {
        for tasks in [load.tasks, load.tasks * 3] {
            loads.push(Load { distribution, tasks, jobs: 1, ..load.clone() });
        }
    }
    loads
}

/// The median of errors.
#[must_use]
pub fn median_error(all: &[Compared]) -> f64 {
    let mut errors: Vec<f64> = all.iter().map(Compared::error).collect();
    errors.sort_by(f64::total_cmp);
    let middle = errors.len() / 2;
    match errors.get(middle) {
        Some(upper) if errors.len().is_multiple_of(2) && middle > 0 => {
            f64::midpoint(*upper, errors[middle - 1])
        }
        Some(error) => *error,
        None => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::{Load, tests::small};
    use super::{compare, judged_by, median_error};

    #[test]
    fn predictions_from_few_workers_hold_for_many() {
        let load = Load { workers: 2000, tasks: 20_000, ..small() };
        let all: Vec<_> = judged_by(&load).iter().map(|load| compare(load).expect("enough pilots")).collect();
        let error = median_error(&all);
        assert!(error <= 0.2, "{error}: {all:#?}");
    }
}
