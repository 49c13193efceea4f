//! Many seeds on a few threads, each thread one world at a time.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::job::{Job, Report};
use crate::scenario::Scenario;

/// Runs `jobs` with `run` on `threads` threads; `each` sees every report as it
/// comes and says whether to go on.
pub fn run_all(
    jobs: &[Job],
    threads: usize,
    run: impl Fn(&Job) -> Report + Sync,
    each: impl FnMut(&Report) -> bool + Send,
) {
    let next = AtomicUsize::new(0);
    let over = AtomicBool::new(false);
    let each = Mutex::new(each); // reports are told one at a time
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed)
                    && let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let report = run(job);
                    let mut tell = each.lock().unwrap_or_else(PoisonError::into_inner);
                    if !tell(&report) {
                        over.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
}

/// Sums over the seeds of one scenario.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    seeds: u64,
    failed: u64,
    answered: u64,
    unknown: u64,
    refused: u64,
    faults: u64,
    deaths: u64,
    undecided: u64,
    virtual_ms: u64,
    gaps_ms: Vec<u64>,
}

impl Totals {
    fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.answered += report.tally.answered;
        self.unknown += report.tally.unknown;
        self.refused += report.tally.refused;
        self.faults += report.blows.faults;
        self.deaths += report.blows.deaths;
        self.virtual_ms += report.virtual_ms;
        match &report.result {
            Ok(summary) => {
                self.undecided += summary.undecided;
                self.gaps_ms.extend(&summary.gaps_ms);
            }
            Err(_) => self.failed += 1,
        }
    }

    fn line(&mut self, scenario: Scenario) -> String {
        self.gaps_ms.sort_unstable();
        let gaps = match (self.gaps_ms.get(self.gaps_ms.len() / 2), self.gaps_ms.last()) {
            (Some(median), Some(worst)) => {
                format!(", writes back after {median} ms median, {worst} ms worst")
            }
            _ => String::new(),
        };
        let undecided = match self.undecided {
            0 => String::new(),
            some => format!(", {some} histories too large to judge"),
        };
        format!(
            "{scenario:<10} {} seeds, {} failed; {} operations answered, {} unknown, {} refused; \
             {} faults, {} deaths in {} s of virtual time{gaps}{undecided}",
            self.seeds,
            self.failed,
            self.answered,
            self.unknown,
            self.refused,
            self.faults,
            self.deaths,
            self.virtual_ms / 1_000,
        )
    }
}

/// Sums per scenario.
#[derive(Debug, Clone, Default)]
pub struct Score {
    totals: BTreeMap<Scenario, Totals>,
}

impl Score {
    /// Counts a report.
    pub fn add(&mut self, report: &Report) {
        self.totals.entry(report.scenario).or_default().add(report);
    }

    /// How many seeds failed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.totals.values().map(|totals| totals.failed).sum()
    }

    /// One line per scenario.
    pub fn lines(&mut self) -> Vec<String> {
        self.totals.iter_mut().map(|(scenario, totals)| totals.line(*scenario)).collect()
    }
}
