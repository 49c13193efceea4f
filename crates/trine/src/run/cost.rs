//! Where the time of a job went: `T = T_a + T_c`, assignment, then execution
//! and return, from the stamps of its results. Pure.

use std::collections::BTreeMap;

use serde::Serialize;
use trine_compute::command::Progress;
use trine_compute::{Stamps, TaskResult};

/// Columns of a timeline.
const COLUMNS: usize = 60;
/// From idle to as busy as the busiest column.
const SHADES: &[u8] = b" .:-=+*#";
/// Bounds the spans that a worker's timeline remembers: then it is coarse.
const MAX_SPANS: usize = 200_000;

/// The parts of the time of many tasks, each the sum over tasks in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// Tasks.
    pub tasks: u64,
    /// `T`: from when a task was submitted until its result was durable.
    pub total_us: u64,
    /// Of `T_a`: until it was durable.
    pub submitted_us: u64,
    /// Of `T_c`: from the result's arrival until it was durable.
    pub committed_us: u64,
    /// `T_a`: assignment.
    pub assignment_us: u64,
    /// `T_c`: execution and return.
    pub completion_us: u64,
    /// Of `T_a`: waiting at the master.
    pub queued_us: u64,
    /// Of `T_a`: waiting and staging at the worker.
    pub prepared_us: u64,
    /// Of `T_c`: execution.
    pub executed_us: u64,
    /// Of `T_c`: at the worker, until the result left.
    pub returned_us: u64,
    /// Of both: between the nodes.
    pub passing_us: u64,
}

/// What one worker did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct WorkerCost {
    /// Its node.
    pub node: u64,
    /// Tasks.
    pub tasks: u64,
    /// How long they ran, summed.
    pub executed_us: u64,
    #[serde(skip)]
    spans: Vec<(u64, u64)>,
}

/// Both, as results come in.
#[derive(Debug, Clone, Default)]
pub struct Account {
    /// Of all tasks.
    pub cost: Cost,
    /// First start and last end, by the workers' clocks, in milliseconds.
    pub span_ms: Option<(u64, u64)>,
    workers: BTreeMap<u64, WorkerCost>,
}

impl Account {
    /// Adds a result.
    pub fn add(&mut self, result: &TaskResult) {
        let Stamps { queued, passing, prepared, executed, returned } = result.stamps;
        if result.attempt == 0 {
            // It never ran.
            return;
        }
        let cost = &mut self.cost;
        cost.tasks += 1;
        let sums = [
            (&mut cost.total_us, result.stamps.total()),
            (&mut cost.assignment_us, result.stamps.assignment()),
            (&mut cost.completion_us, result.stamps.completion()),
            (&mut cost.queued_us, queued),
            (&mut cost.prepared_us, prepared),
            (&mut cost.executed_us, executed),
            (&mut cost.returned_us, returned),
            (&mut cost.passing_us, passing),
        ];
        for (sum, part) in sums {
            *sum = sum.saturating_add(part);
        }
        let (start, end) = (result.started_ms, result.started_ms + executed / 1_000);
        let (first, last) = self.span_ms.unwrap_or((start, end));
        self.span_ms = Some((first.min(start), last.max(end)));
        let node = result.node.0;
        let worker = self.workers.entry(node).or_insert_with(|| WorkerCost { node, ..WorkerCost::default() });
        worker.tasks += 1;
        worker.executed_us = worker.executed_us.saturating_add(executed);
        if worker.spans.len() < MAX_SPANS {
            worker.spans.push((start, end));
        }
    }

    /// The cost with what lies outside of results: the waits for the log, whose
    /// means are those of the tasks that were seen.
    #[must_use]
    pub fn with_log(&self, progress: &Progress) -> Cost {
        let mut cost = self.cost;
        cost.submitted_us = progress.submitted.mean().saturating_mul(cost.tasks);
        cost.committed_us = progress.committed.mean().saturating_mul(cost.tasks);
        cost.assignment_us = cost.assignment_us.saturating_add(cost.submitted_us);
        cost.completion_us = cost.completion_us.saturating_add(cost.committed_us);
        cost.total_us = cost.assignment_us.saturating_add(cost.completion_us);
        cost
    }

    /// What each worker did.
    pub fn workers(&self) -> impl Iterator<Item = &WorkerCost> {
        self.workers.values()
    }

    /// How long the last tasks ran alone, while half of the workers' tasks of
    /// the busiest moment were done: the wait for the slowest, in milliseconds.
    #[must_use]
    pub fn slowest_ms(&self) -> u64 {
        let mut ends: Vec<u64> =
            self.workers.values().filter_map(|it| it.spans.iter().map(|(_, end)| *end).max()).collect();
        ends.sort_unstable();
        match (ends.first(), ends.last()) {
            (Some(first), Some(last)) => last - first,
            _ => 0,
        }
    }

    /// How busy a worker was over the time of the job.
    #[must_use]
    pub fn timeline(&self, worker: &WorkerCost) -> String {
        let Some((first, last)) = self.span_ms else { return String::new() };
        let width = (last - first).max(1);
        let mut busy = [0_u64; COLUMNS];
        let columns = COLUMNS as u64;
        for (start, end) in &worker.spans {
            // In parts of a column, so that short tasks count, too.
            let (from, to) = ((start - first) * columns, (end - first).max(start - first + 1) * columns);
            for (column, sum) in (0..).zip(busy.iter_mut()) {
                let (begin, close) = (column * width, (column + 1) * width);
                *sum += to.min(close).saturating_sub(from.max(begin));
            }
        }
        let most = busy.iter().copied().max().unwrap_or(0).max(1);
        let shade = |sum: &u64| {
            let step = usize::try_from((sum * 7).div_ceil(most)).unwrap_or(0);
            char::from(SHADES[step.min(SHADES.len() - 1)])
        };
        busy.iter().map(shade).collect()
    }
}

#[cfg(test)]
mod tests {
    use trine_compute::{Outcome, Output};
    use trine_types::NodeNumber;

    use super::*;

    fn result(node: u64, started_ms: u64, stamps: Stamps) -> TaskResult {
        TaskResult {
            index: 0,
            attempt: 1,
            node: NodeNumber(node),
            outcome: Outcome::Exited { code: 0 },
            stdout: Output::default(),
            stderr: Output::default(),
            value: Output::default(),
            started_ms,
            stamps,
        }
    }

    #[test]
    fn the_parts_sum_to_the_whole() {
        let mut account = Account::default();
        for n in 1..=9 {
            let stamps =
                Stamps { queued: n, passing: 2 * n + 1, prepared: 3 * n, executed: 5_000 * n, returned: 7 };
            account.add(&result(n % 2, 10 * n, stamps));
        }
        let cost = account.cost;
        assert_eq!(cost.assignment_us + cost.completion_us, cost.total_us);
        let parts = cost.queued_us + cost.prepared_us + cost.executed_us + cost.returned_us + cost.passing_us;
        assert_eq!((parts, cost.tasks), (cost.total_us, 9));
        assert_eq!(account.workers().map(|worker| worker.tasks).collect::<Vec<_>>(), [4, 5]);
    }

    #[test]
    fn a_timeline_shows_when_a_worker_was_busy() {
        let mut account = Account::default();
        let for_ms = |ms: u64| Stamps { executed: ms * 1_000, ..Stamps::default() };
        account.add(&result(1, 0, for_ms(600)));
        account.add(&result(2, 300, for_ms(300)));
        let lines: Vec<String> = account.workers().map(|worker| account.timeline(worker)).collect();
        assert_eq!(lines, ["#".repeat(60), " ".repeat(30) + &"#".repeat(30)]);
        assert_eq!(account.slowest_ms(), 0);
        account.add(&result(1, 600, for_ms(50)));
        assert_eq!(account.slowest_ms(), 50);
    }
}
