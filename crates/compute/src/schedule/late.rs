//! Stragglers, by LATE (Zaharia et al., OSDI 2008): where nothing waits, the
//! attempt with the longest time left gets a second one, on a node that is not
//! slow, if only a small part of all slots goes to such copies.
//!
//! A process does not tell its progress. What is left of it follows from how
//! long it has run, from what tasks of its job took, and from how slow its
//! node has been: an attempt that has run for `e` on a node that takes `f`
//! times as long as others will take `f` times the mean of what tasks still
//! took that got to `e / f`. One that has run longer than any other before is
//! taken to be in the middle.

use std::time::Duration;

use trine_types::NodeNumber;

use super::facts::Slots;
use super::job::Job;
use super::runtimes::Excess;
use super::scheduler::Scheduler;
use super::workers::Workers;
use crate::spec::JobId;

/// `SpeculativeCap`: at most this part of all slots runs backups; one always may.
const CAP: u64 = 10;
/// `SlowTaskThreshold`: an attempt is slow if it has run longer than this part
/// of its job's tasks took …
const SLOW_TASK: f64 = 0.99;
/// … by this factor, which covers the width of a bucket.
const SLOW_FACTOR: f64 = 1.2;
/// A node on which tasks surely take so many times longer than typical makes
/// its tasks slow from their start.
const SLOW_HERE: f64 = 1.5;
/// `SlowNodeThreshold`: backups run on nodes no slower than this part of them …
const SLOW_NODE: f64 = 0.75;
/// … by this factor: nodes that are the same differ by chance.
const SLOW_NODE_FACTOR: f64 = 1.25;
/// A backup must be expected to end before the attempt that it doubles, by
/// this factor: a task that takes long may be long by itself.
const WORTH: f64 = 1.1;
/// Beside a slow node less is enough: what is left there differs by the
/// factor by which it is slow, and the worst of it ends the job.
const WORTH_THERE: f64 = 0.6;
/// Nothing shorter is worth a second attempt.
const MIN_ELAPSED: Duration = Duration::from_millis(100);
/// If more than this part of a job's tasks is slow, that is how its tasks are:
/// of the first results of a job, all are of short tasks.
const MOST: u64 = 20;
/// So few are slow in any case: a small job on one slow node among others.
const FEW: usize = 8;
/// Results of a job before its tasks can be called slow.
const MIN_RESULTS: u64 = 3;
/// The most candidates that are kept between two ticks.
const MAX_CANDIDATES: usize = 1024;
/// The most of them that one pull looks at.
const LOOKED_AT: usize = 16;

/// Which attempts are slow, and how much runs twice.
#[derive(Debug, Default)]
pub struct Late {
    /// By time left, the longest last.
    candidates: Vec<Candidate>,
    /// What backups use.
    used: Slots,
    count: u64,
    /// Nodes slower than this get no backups.
    limit: f64,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    left: f64,
    /// How slow a node may be that doubles it.
    limit: f64,
    job: JobId,
    index: u64,
    need: Slots,
    node: NodeNumber,
}

impl Late {
    /// A backup was granted.
    pub fn granted(&mut self, job: JobId, index: u64, need: Slots) {
        self.used = self.used.plus(need);
        self.count += 1;
        let chosen = |candidate: &Candidate| candidate.job == job && candidate.index == index;
        if let Some(at) = self.candidates.iter().rposition(chosen) {
            self.candidates.remove(at);
        }
    }

    /// A backup ended.
    pub fn ended(&mut self, need: Slots) {
        self.used = self.used.minus(need);
        self.count = self.count.saturating_sub(1);
    }

    /// Is there anything to double?
    pub fn has_candidates(&self) -> bool {
        !self.candidates.is_empty()
    }
}

impl Scheduler {
    /// Looks for stragglers in the jobs of which nothing waits.
    pub(super) fn seek_stragglers(&mut self, now: Duration) {
        self.late.candidates.clear();
        if !self.config.backups || self.workers.count() < 2 {
            return;
        }
        for (id, job) in &self.jobs {
            let due = job.facts.backups && job.is_drained() && job.runtimes.count() >= MIN_RESULTS;
            if due {
                look_through(*id, job, &self.workers, now, &mut self.late.candidates);
            }
        }
        let all = &mut self.late.candidates;
        all.sort_by(|a, b| a.left.total_cmp(&b.left).then((b.job, b.index).cmp(&(a.job, a.index))));
        let surplus = all.len().saturating_sub(MAX_CANDIDATES);
        all.drain(..surplus);
        if !all.is_empty() {
            self.late.limit = self.workers.slowness_at(SLOW_NODE) * SLOW_NODE_FACTOR;
        }
    }

    /// The attempt that `node` should double, if any.
    pub(super) fn choose_backup(&self, node: NodeNumber, room: Slots) -> Option<(JobId, u64)> {
        let late = &self.late;
        let slowness = self.workers.get(node)?.slowness();
        if slowness > late.limit {
            return None;
        }
        let cap = self.shares.total().cpu_milli / CAP;
        let suits = |candidate: &&Candidate| {
            let capped = late.count > 0 && late.used.plus(candidate.need).cpu_milli > cap;
            !capped && candidate.node != node && room.fits(candidate.need) && slowness < candidate.limit
        };
        // Some have ended since the last tick.
        let single = |candidate: &&Candidate| {
            let job = self.jobs.get(&candidate.job);
            let task = job.and_then(|job| job.task(candidate.index));
            task.is_some_and(|task| task.attempts.len() == 1)
        };
        let best = late.candidates.iter().rev().filter(single);
        best.take(LOOKED_AT).find(suits).map(|candidate| (candidate.job, candidate.index))
    }
}

fn look_through(id: JobId, job: &Job, workers: &Workers, now: Duration, found: &mut Vec<Candidate>) {
    let mean = job.runtimes.mean();
    let slow = (job.runtimes.quantile(SLOW_TASK) * SLOW_FACTOR).max(MIN_ELAPSED.as_secs_f64());
    let excess = job.runtimes.excess();
    let (mut by_node, mut by_time, mut running_now) = (Vec::new(), Vec::new(), 0);
    for (index, task) in job.tasks() {
        let [running] = task.attempts.as_slice() else { continue };
        if task.pinned.is_some() {
            continue;
        }
        running_now += 1;
        let worker = workers.get(running.node);
        let (slowness, sure) =
            worker.map_or((1.0, 1.0), |worker| (worker.slowness(), worker.sure_slowness()));
        let elapsed = now.saturating_sub(running.since).as_secs_f64();
        let left = time_left(&excess, elapsed, slowness);
        let there = sure > SLOW_HERE && elapsed > MIN_ELAPSED.as_secs_f64();
        let limit = left / mean / if there { WORTH_THERE } else { WORTH };
        if limit > 1.0 && (there || elapsed > slow) {
            let candidate = Candidate { left, limit, job: id, index, need: job.need(), node: running.node };
            if there { by_node.push(candidate) } else { by_time.push(candidate) }
        }
    }
    found.append(&mut by_node);
    let most = usize::try_from((job.runtimes.count() + running_now) / MOST).unwrap_or(usize::MAX);
    if by_time.len() <= most.max(FEW) {
        found.append(&mut by_time);
    }
}

fn time_left(excess: &Excess, elapsed: f64, slowness: f64) -> f64 {
    slowness * excess.left(elapsed / slowness)
}
