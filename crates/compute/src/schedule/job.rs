//! What is known of one job: which tasks wait, as ranges; which run, and where;
//! which failed and wait to run again. A task that is none of these is over.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use trine_types::NodeNumber;

use super::facts::{AVOID_NODE, JobFacts, Past, Progress, Slots};
use super::ranges::Ranges;
use super::runtimes::Runtimes;
use super::share::UserId;
use crate::spec::{Attempt, JobId};

/// How many tasks that failed elsewhere are looked at in one pull.
const LOOKED_AT: usize = 8;

/// An attempt that was granted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Running {
    /// To whom.
    pub node: NodeNumber,
    /// Its number.
    pub number: u32,
    /// Since when it runs, as far as known.
    pub since: Duration,
    /// Whether it was granted beside another one.
    pub backup: bool,
}

/// A task that runs, ran, or is bound to a node.
#[derive(Clone, Debug, Default)]
pub struct Task {
    /// Its attempts that run.
    pub attempts: Vec<Running>,
    /// The greatest number given so far.
    pub number: u32,
    /// How often it failed.
    pub failures: u32,
    /// How often its worker was lost.
    pub losses: u32,
    /// Where and when it last failed.
    pub failed: Option<(NodeNumber, Duration)>,
    /// Which node it must run on.
    pub pinned: Option<NodeNumber>,
}

/// A job that is not over.
#[derive(Debug)]
pub struct Job {
    /// As told.
    pub facts: JobFacts,
    /// Whose it is.
    pub user: UserId,
    /// It was there before this master and may run somewhere.
    pub held: bool,
    /// Nothing more of it is started.
    pub halted: bool,
    /// Whether [`super::share::Shares`] has it as ready.
    pub indexed: bool,
    /// How long its tasks take.
    pub runtimes: Runtimes,
    waiting: Ranges,
    again: BTreeSet<u64>,
    open: BTreeMap<u64, Task>,
    known: u64,
    backups: u64,
}

impl Job {
    /// A job without tasks.
    pub fn new(facts: JobFacts, user: UserId) -> Self {
        Self {
            facts,
            user,
            held: false,
            halted: false,
            indexed: false,
            runtimes: Runtimes::default(),
            waiting: Ranges::new(),
            again: BTreeSet::new(),
            open: BTreeMap::new(),
            known: 0,
            backups: 0,
        }
    }

    /// Adds tasks; what was added before stays as it is.
    pub fn add(&mut self, from: u64, count: u64) {
        let to = from.saturating_add(count);
        self.waiting.append(from.max(self.known), to);
        self.known = self.known.max(to);
    }

    /// Adds one task that is bound to `node`; false if it was added before.
    pub fn add_pinned(&mut self, index: u64, node: NodeNumber) -> bool {
        if index < self.known || index == u64::MAX {
            return false;
        }
        self.known = index + 1;
        self.open.insert(index, Task { pinned: Some(node), ..Task::default() });
        true
    }

    /// What one task needs.
    pub const fn need(&self) -> Slots {
        self.facts.need
    }

    /// Has it a task that any worker may run?
    pub fn is_ready(&self) -> bool {
        !self.held && !self.halted && !self.is_drained()
    }

    /// Is none waiting, to run first or again?
    pub fn is_drained(&self) -> bool {
        self.waiting.is_empty() && self.again.is_empty()
    }

    /// Is the task not over?
    pub fn is_open(&self, index: u64) -> bool {
        self.open.contains_key(&index) || self.waiting.contains(index)
    }

    /// A task that is known by name.
    pub fn task(&self, index: u64) -> Option<&Task> {
        self.open.get(&index)
    }

    /// All tasks that are known by name.
    pub fn tasks(&self) -> impl Iterator<Item = (u64, &Task)> {
        self.open.iter().map(|(index, task)| (*index, task))
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let idle = self.open.values().filter(|task| task.attempts.is_empty()).count() as u64;
        Progress {
            waiting: self.waiting.len() + idle,
            running: self.open.len() as u64 - idle,
            backups: self.backups,
        }
    }

    /// How many rows it takes in memory.
    pub fn rows(&self) -> usize {
        self.waiting.spans() + self.open.len() + self.again.len()
    }

    /// The task that `node` would get: one that failed elsewhere, else the
    /// first that waits. One that failed right here waits for another node a
    /// while, unless there is none.
    pub fn choose(&self, node: NodeNumber, alone: bool, now: Duration) -> Option<u64> {
        let welcome = |index: &&u64| {
            let failed = self.open.get(index).and_then(|task| task.failed);
            let avoided = failed.is_some_and(|(failed_on, at)| {
                failed_on == node && !alone && now < at.saturating_add(AVOID_NODE)
            });
            !avoided && self.may_restart(**index, now)
        };
        self.again.iter().take(LOOKED_AT).find(welcome).copied().or_else(|| self.waiting.first())
    }

    /// Whether it is time to run the task again: one of a standing job that
    /// fails at once must not keep everybody busy.
    pub fn may_restart(&self, index: u64, now: Duration) -> bool {
        let task = self.open.get(&index).filter(|task| self.facts.standing && task.failures > 0);
        let failed = task.and_then(|task| task.failed);
        failed.is_none_or(|(_, at)| now >= at.saturating_add(AVOID_NODE))
    }

    /// Grants the task to `node`.
    pub fn start(&mut self, id: JobId, index: u64, node: NodeNumber, backup: bool, now: Duration) -> Attempt {
        self.waiting.remove(index);
        self.again.remove(&index);
        let task = self.open.entry(index).or_default();
        task.number = task.number.saturating_add(1);
        task.attempts.push(Running { node, number: task.number, since: now, backup });
        self.backups += u64::from(backup);
        Attempt { job: id, index, attempt: task.number }
    }

    /// Notes an attempt that another master granted.
    pub fn adopt(&mut self, attempt: Attempt, node: NodeNumber, since: Duration) {
        self.waiting.remove(attempt.index);
        self.again.remove(&attempt.index);
        let task = self.open.entry(attempt.index).or_default();
        task.number = task.number.max(attempt.attempt);
        task.attempts.push(Running { node, number: attempt.attempt, since, backup: false });
    }

    /// A task has failed under another master, and waits to run again.
    pub fn failed_before(&mut self, past: Past) {
        let task = if self.waiting.remove(past.index) {
            self.again.insert(past.index);
            self.open.entry(past.index).or_default()
        } else if let Some(task) = self.open.get_mut(&past.index) {
            task
        } else {
            return;
        };
        (task.failures, task.losses) = (past.failures, past.losses);
        task.number = task.number.max(past.number);
    }

    /// An attempt has ended that this master did not grant: is it one of
    /// another master, and nothing else was known of it? Its task is then known
    /// by name.
    pub fn is_news(&mut self, attempt: Attempt) -> bool {
        if attempt.attempt > 0 && self.waiting.remove(attempt.index) {
            self.open.insert(attempt.index, Task::default());
        }
        match self.open.get_mut(&attempt.index) {
            Some(task) if task.attempts.is_empty() && attempt.attempt > task.number => {
                task.number = attempt.attempt;
                true
            }
            _ => false,
        }
    }

    /// The attempt runs no more; nothing if it was not known to.
    pub fn stop(&mut self, node: NodeNumber, attempt: Attempt) -> Option<Running> {
        let task = self.open.get_mut(&attempt.index)?;
        let at = task
            .attempts
            .iter()
            .position(|running| running.node == node && running.number == attempt.attempt)?;
        let running = task.attempts.swap_remove(at);
        self.backups -= u64::from(running.backup);
        Some(running)
    }

    /// What the worker says of how long an attempt has been running.
    pub fn observe(&mut self, node: NodeNumber, attempt: Attempt, since: Duration) {
        if let Some(task) = self.open.get_mut(&attempt.index)
            && let Some(running) =
                task.attempts.iter_mut().find(|one| one.node == node && one.number == attempt.attempt)
        {
            running.since = since;
        }
    }

    /// The task waits again, unless another attempt of it runs. Says to which
    /// node it is bound, if it waits.
    pub fn requeue(&mut self, index: u64, change: impl FnOnce(&mut Task)) -> Option<NodeNumber> {
        let task = self.open.get_mut(&index)?;
        change(task);
        if !task.attempts.is_empty() {
            return None;
        }
        if task.pinned.is_none() {
            self.again.insert(index);
        }
        task.pinned
    }

    /// The task is over. Gives what is left of it: attempts to cancel.
    pub fn close(&mut self, index: u64) -> Option<Task> {
        self.again.remove(&index);
        if self.waiting.remove(index) {
            return None;
        }
        let task = self.open.remove(&index)?;
        self.backups -= task.attempts.iter().filter(|running| running.backup).count() as u64;
        Some(task)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use trine_types::NodeNumber;

    use super::super::facts::{JobFacts, Slots};
    use super::super::share::Shares;
    use super::Job;
    use crate::spec::JobId;

    const A: NodeNumber = NodeNumber(1);
    const B: NodeNumber = NodeNumber(2);
    const NOW: Duration = Duration::from_secs(1);

    fn job() -> Job {
        let facts = JobFacts {
            user: "u".into(),
            priority: 0,
            weight: 1,
            retries: 1,
            need: Slots::NONE,
            backups: true,
            standing: false,
        };
        let user = Shares::default().join("u", JobId(1), 1);
        Job::new(facts, user)
    }

    #[test]
    fn a_task_that_failed_here_waits_for_another_node() {
        let mut job = job();
        job.add(0, 2);
        let attempt = job.start(JobId(1), 0, A, false, NOW);
        job.stop(A, attempt);
        job.requeue(0, |task| task.failed = Some((A, NOW)));
        assert_eq!(job.choose(A, false, NOW), Some(1));
        assert_eq!(job.choose(B, false, NOW), Some(0));
        assert_eq!(job.choose(A, true, NOW), Some(0), "there is no other node");
        assert_eq!(job.choose(A, false, NOW * 3), Some(0), "no other node came");
    }

    #[test]
    fn adding_again_adds_nothing() {
        let mut job = job();
        job.add(0, 10);
        assert!(job.close(3).is_none());
        job.add(0, 10);
        job.add(5, 10);
        assert!(!job.is_open(3) && job.is_open(14));
        assert_eq!(job.progress().waiting, 14);
        assert!(!job.add_pinned(14, A));
        assert!(job.add_pinned(15, A));
    }

    #[test]
    fn numbers_only_grow() {
        let mut job = job();
        job.add(0, 1);
        let first = job.start(JobId(1), 0, A, false, NOW);
        job.stop(A, first);
        job.requeue(0, |_| ());
        let second = job.start(JobId(1), 0, B, false, NOW);
        assert!(second.attempt > first.attempt);
        assert!(job.stop(A, second).is_none(), "of another node");
        assert!(job.stop(B, first).is_none(), "of another number");
        assert!(job.stop(B, second).is_some());
    }
}
