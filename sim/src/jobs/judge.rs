//! What may not be, when all is over: a task without a result or with two, a
//! result that no execution gave, or that one gave which had been given up.

use std::collections::BTreeMap;

use trine_compute::command::{Phase, Progress};
use trine_compute::{JobId, Outcome, Output, TaskResult};

use super::book::Entry;
use super::outside::{End, Execution};
use crate::failure::{Held, Property};

/// A lost worker is not the task's fault; so often in a row it is.
const LOSSES: u64 = 5;

/// A job as the group has it at the end.
#[derive(Debug, Clone)]
pub struct Final {
    /// How far it is.
    pub progress: Progress,
    /// All results, in order.
    pub results: Vec<TaskResult>,
}

/// Everything that a judge looks at.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// What the world saw.
    pub executions: &'a [Execution],
    /// How many faults struck.
    pub faults: u64,
}

fn held(fine: bool, property: Property, what: impl FnOnce() -> String) -> Held {
    if fine { Ok(()) } else { Err((property, what())) }
}

impl Evidence<'_> {
    /// Judges one job.
    ///
    /// # Errors
    /// The first thing that may not be.
    pub fn judge(&self, job: JobId, entry: &Entry, last: &Final) -> Held {
        let progress = &last.progress;
        held((entry.durable..=entry.sent).contains(&progress.tasks), Property::Durable, || {
            let (durable, sent, tasks) = (entry.durable, entry.sent, progress.tasks);
            format!("job {job} has {tasks} tasks; {durable} were acknowledged, {sent} were sent")
        })?;
        let mut by_index: BTreeMap<u64, &TaskResult> = BTreeMap::new();
        for result in &last.results {
            let before = by_index.insert(result.index, result);
            held(before.is_none(), Property::ExactlyOnce, || {
                format!("task {} of job {job} has two results: {before:?}, {result:?}", result.index)
            })?;
            self.explained(job, entry, result)?;
        }
        let known = by_index.len() as u64;
        let complete = known == progress.tasks && by_index.keys().copied().eq(0..known);
        held(complete || progress.phase == Phase::Cancelled, Property::Durable, || {
            format!("job {job} is {:?} with results of {:?}", progress, by_index.keys())
        })?;
        held(progress.done == known, Property::ExactlyOnce, || {
            format!("job {job} counts {} tasks as done and has {known} results", progress.done)
        })?;
        held(progress.phase != Phase::Cancelled || entry.cancelled.is_some(), Property::Fenced, || {
            format!("job {job} is cancelled, and nobody wanted that")
        })?;
        // A cancellation may have come after the end.
        held(
            entry.read.iter().eq(last.results.iter().take(entry.read.len())),
            Property::ExactlyOnce,
            || format!("job {job}: its reader got {:?}, the group has {:?}", entry.read, last.results),
        )?;
        held(!entry.over || entry.read.len() == last.results.len(), Property::Durable, || {
            format!("job {job}: its reader was told of the end after {} results", entry.read.len())
        })
    }

    /// Was there an execution that ended like this, and may it count?
    fn explained(&self, job: JobId, entry: &Entry, result: &TaskResult) -> Held {
        let what = || format!("job {job} has {result:?}");
        let index = usize::try_from(result.index).unwrap_or(usize::MAX);
        let Some(plan) = entry.tasks.get(index) else { return Err((Property::Durable, what())) };
        match &result.outcome {
            Outcome::Exited { code } => {
                let Output::Inline(number) = &result.stdout else { return Err((Property::Fenced, what())) };
                let number = std::str::from_utf8(number).ok().and_then(|number| number.parse::<usize>().ok());
                let execution = number.and_then(|number| self.executions.get(number));
                let real = execution.is_some_and(|one| {
                    let attempt = one.attempt;
                    (attempt.job, attempt.index, attempt.attempt) == (job, result.index, result.attempt)
                        && one.node == result.node.0
                        && matches!(one.end, Some((_, End::Exited(ended))) if ended == *code)
                });
                held(real, Property::Fenced, || format!("{}; it ran so: {execution:?}", what()))?;
                if *code == 0 {
                    return Ok(());
                }
                let (failed, retries) = (self.failures(job, result.index), u64::from(entry.retries));
                held(failed > retries && plan.failures > retries, Property::Fenced, || {
                    format!("{}: after {failed} failures; {retries} retries, {plan:?}", what())
                })
            }
            // Its node was cut off or ended, again and again.
            Outcome::Lost => {
                let tried = self.of(job, result.index).count() as u64;
                held(self.faults + tried >= LOSSES, Property::Fenced, what)
            }
            _ => Err((Property::Fenced, what())),
        }
    }

    fn of(&self, job: JobId, index: u64) -> impl Iterator<Item = &Execution> {
        self.executions.iter().filter(move |one| (one.attempt.job, one.attempt.index) == (job, index))
    }

    fn failures(&self, job: JobId, index: u64) -> u64 {
        let failed = |one: &&Execution| matches!(one.end, Some((_, End::Exited(code))) if code != 0);
        self.of(job, index).filter(failed).count() as u64
    }
}
