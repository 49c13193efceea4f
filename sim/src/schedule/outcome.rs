//! What came of a simulation.

use super::agenda::Micros;
use super::load::{float, seconds};

/// Which tasks are over, and what was spent.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    done: Vec<Vec<bool>>,
    open: Vec<u64>,
    came: Vec<Micros>,
    /// For each job that is over, how long that took.
    pub responses: Vec<Micros>,
    /// When the last one was.
    pub makespan: Micros,
    /// Time of attempts whose result counted.
    pub useful: Micros,
    /// Time of attempts whose result did not, though their worker lived.
    pub doubled: Micros,
    /// Time of attempts that a crash ended.
    pub crashed: Micros,
    /// Backup attempts.
    pub backups: u64,
    /// Results of tasks that were over: must be none.
    pub twice: u64,
}

impl Outcome {
    /// Of jobs of `tasks` tasks each, which come at these moments.
    #[must_use]
    pub fn new(came: Vec<Micros>, tasks: u64) -> Self {
        let len = usize::try_from(tasks).unwrap_or(usize::MAX);
        Self {
            done: vec![vec![false; len]; came.len()],
            open: vec![tasks; came.len()],
            came,
            ..Self::default()
        }
    }

    /// A task is over.
    pub fn commit(&mut self, job: u64, index: u64, spent: Micros, now: Micros) {
        let job = usize::try_from(job).unwrap_or(usize::MAX);
        let slot = usize::try_from(index).ok().and_then(|index| self.done.get_mut(job)?.get_mut(index));
        match slot {
            Some(done) if !*done => *done = true,
            _ => {
                self.twice += 1;
                return;
            }
        }
        self.useful += spent;
        self.open[job] -= 1;
        if self.open[job] == 0 {
            self.responses.push(now - self.came[job]);
            self.makespan = now;
        }
    }

    /// Whether all jobs are over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.responses.len() == self.came.len()
    }

    /// Which tasks of a job are over, by index.
    #[must_use]
    pub fn done(&self, job: u64) -> &[bool] {
        usize::try_from(job).ok().and_then(|job| self.done.get(job)).map_or(&[], Vec::as_slice)
    }

    /// Work that was executed twice, as a part of the work that counted.
    #[must_use]
    pub fn duplicate_share(&self) -> f64 {
        float(self.doubled) / float(self.useful.max(1))
    }

    /// Mean, median and 99th percentile of response times in seconds.
    #[must_use]
    pub fn response_seconds(&self) -> [f64; 3] {
        let mut all = self.responses.clone();
        all.sort_unstable();
        let at = |percent: usize| all.get((all.len() * percent / 100).min(all.len().saturating_sub(1)));
        let mean = seconds(all.iter().sum()) / float(all.len().max(1) as u64);
        [mean, at(50).map_or(0.0, |micros| seconds(*micros)), at(99).map_or(0.0, |micros| seconds(*micros))]
    }
}
