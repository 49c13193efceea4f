//! The machine: jobs come and go, workers pull, results are judged.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use trine_types::NodeNumber;

use super::facts::{Action, Config, Grant, JobFacts, MAX_GRANTS, Next, Past, Progress, Slots, Verdict, Why};
use super::job::{Job, Running, Task};
use super::late::Late;
use super::recovery::Hold;
use super::share::Shares;
use super::turns::Turns;
use super::workers::Workers;
use crate::spec::{Attempt, JobId};

/// Results of a job before its durations say something about workers.
const MIN_TYPICAL: u64 = 3;

/// See the [room's map](super).
#[derive(Debug)]
pub struct Scheduler {
    pub(super) config: Config,
    pub(super) jobs: BTreeMap<JobId, Job>,
    pub(super) shares: Shares,
    pub(super) workers: Workers,
    pub(super) pinned: BTreeMap<NodeNumber, BTreeSet<(Reverse<i32>, JobId, u64)>>,
    pub(super) absent: BTreeMap<NodeNumber, Duration>,
    pub(super) hold: Option<Hold>,
    pub(super) late: Late,
    pub(super) turns: Turns,
    pub(super) actions: Vec<Action>,
    /// See [`Self::take_losses`].
    losses: Vec<(NodeNumber, Attempt)>,
}

impl Scheduler {
    /// A scheduler that knows of nothing.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            jobs: BTreeMap::new(),
            shares: Shares::default(),
            workers: Workers::default(),
            pinned: BTreeMap::new(),
            absent: BTreeMap::new(),
            hold: None,
            late: Late::default(),
            turns: Turns::default(),
            actions: Vec::new(),
            losses: Vec::new(),
        }
    }

    /// A job without tasks. Known already: nothing happens.
    pub fn add_job(&mut self, id: JobId, facts: JobFacts) {
        if self.jobs.contains_key(&id) {
            return;
        }
        let user = self.shares.join(&facts.user, id, facts.weight);
        self.jobs.insert(id, Job::new(facts, user));
    }

    /// `count` more tasks of a job, from index `from` on. Tasks are added in
    /// the order of their indexes, once; an index that was passed over is over,
    /// and one that was added before is ignored.
    pub fn add_tasks(&mut self, id: JobId, from: u64, count: u64) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.add(from, count);
        self.reindex(id);
    }

    /// A task that must run on `node`; otherwise as [`Self::add_tasks`].
    pub fn add_pinned(&mut self, id: JobId, index: u64, node: NodeNumber) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if job.add_pinned(index, node) {
            self.wait_pinned(id, index, node);
        }
    }

    /// The log has a result of the task: it is over, whoever runs it.
    pub fn committed(&mut self, id: JobId, index: u64) {
        self.close(id, index);
        self.reindex(id);
    }

    /// What the log has of a task that failed under another master.
    pub fn failed_before(&mut self, id: JobId, past: Past) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.failed_before(past);
        }
        self.reindex(id);
    }

    /// Starts nothing more of a job; what runs goes on.
    pub fn halt(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.halted = true;
        }
        self.reindex(id);
    }

    /// Forgets a job; what runs of it is cancelled.
    pub fn cancel(&mut self, id: JobId) {
        let Some(mut job) = self.jobs.remove(&id) else { return };
        self.turns.served(id);
        let (user, need, priority) = (job.user, job.need(), job.facts.priority);
        let open: Vec<u64> = job.tasks().map(|(index, _)| index).collect();
        for index in open {
            if let Some(task) = job.close(index) {
                self.unwind(id, index, &task, (user, need, priority));
            }
        }
        if job.indexed {
            self.shares.done(user, priority, need, id);
        }
        self.shares.leave(user, id);
    }

    /// Grants what `node` may run now: at most `limit` tasks, that fit into
    /// `free` and into what it registered. An unknown node gets nothing; see
    /// [`Self::knows`].
    pub fn pull(&mut self, node: NodeNumber, free: Slots, limit: usize, now: Duration) -> Vec<Grant> {
        self.pull_for(node, (free, true), limit, now)
    }

    /// As [`Self::pull`], for what the worker takes ahead and cannot start yet:
    /// a backup that waited there would help nobody.
    pub fn prefetch(&mut self, node: NodeNumber, free: Slots, limit: usize, now: Duration) -> Vec<Grant> {
        self.pull_for(node, (free, false), limit, now)
    }

    fn pull_for(
        &mut self,
        node: NodeNumber,
        (free, at_once): (Slots, bool),
        limit: usize,
        now: Duration,
    ) -> Vec<Grant> {
        self.release_hold(now);
        let mut grants = Vec::new();
        let Some(worker) = self.workers.heard(node, now) else { return grants };
        let (mut room, whole) = (worker.room(free), worker.slots);
        while grants.len() < limit.min(MAX_GRANTS) {
            let Some((id, index, backup)) = self.choose(node, room, now) else { break };
            if backup && !at_once {
                break;
            }
            if let Some(larger) = self.larger(room, whole, node, now)
                && larger != id
                && self.turns.passes_over(larger, node, now)
            {
                break;
            }
            let Some(grant) = self.grant(id, index, node, backup, now) else { break };
            room = room.minus(self.jobs.get(&id).map_or(Slots::NONE, Job::need));
            grants.push(grant);
        }
        grants
    }

    /// Whether a pull with enough room might get something.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.shares.any_ready() || !self.pinned.is_empty() || self.late.has_candidates()
    }

    /// An attempt ended. `runtime` is how long its body took.
    pub fn finished(
        &mut self,
        node: NodeNumber,
        attempt: Attempt,
        verdict: Verdict,
        runtime: Duration,
        now: Duration,
    ) -> Next {
        let _ = self.workers.heard(node, now);
        let stopped = self.stop(node, attempt);
        let Some(job) = self.jobs.get_mut(&attempt.job) else { return Next::Stale };
        if !job.is_open(attempt.index) {
            return Next::Stale;
        }
        match verdict {
            Verdict::Done if job.facts.standing && stopped.is_some() => self.failed(node, attempt, now),
            // An attempt that was given up, or that no one announced, has run
            // nevertheless: its result is as good as any.
            Verdict::Done => {
                if job.runtimes.count() >= MIN_TYPICAL && stopped.is_some() {
                    let (ratio, variance) = (job.runtimes.log_ratio(runtime), job.runtimes.log_variance());
                    if let Some(worker) = self.workers.heard(node, now) {
                        worker.measured(ratio, variance);
                    }
                }
                job.runtimes.add(runtime);
                self.close(attempt.job, attempt.index);
                self.reindex(attempt.job);
                Next::Commit
            }
            Verdict::Failed if stopped.is_some() || job.is_news(attempt) => self.failed(node, attempt, now),
            Verdict::Lost if stopped.is_some() => {
                if self.lost(node, attempt, now) {
                    Next::Again
                } else {
                    Next::GiveUp
                }
            }
            Verdict::Failed | Verdict::Lost => Next::Stale,
        }
    }

    /// What is due: leases that ended, stragglers, tasks whose node is absent.
    /// Returns all that the master has to do since it last asked.
    pub fn tick(&mut self, now: Duration) -> Vec<Action> {
        self.release_hold(now);
        self.expire_leases(now);
        self.expire_pinned(now);
        self.seek_stragglers(now);
        self.take_actions()
    }

    /// What the master has to do since it last asked.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Executions that were lost and are repeated, since this was asked last.
    pub fn take_losses(&mut self) -> Vec<(NodeNumber, Attempt)> {
        std::mem::take(&mut self.losses)
    }

    /// How far a job is; nothing if it is unknown.
    #[must_use]
    pub fn progress(&self, id: JobId) -> Option<Progress> {
        self.jobs.get(&id).map(Job::progress)
    }

    /// Whether a task of the job would fit into any worker; false for an
    /// unknown job.
    #[must_use]
    pub fn could_fit(&self, id: JobId) -> bool {
        self.jobs.get(&id).is_some_and(|job| self.workers.could_fit(job.need()))
    }

    /// Whether the task of a job is not over.
    #[must_use]
    pub fn is_open(&self, id: JobId, index: u64) -> bool {
        self.jobs.get(&id).is_some_and(|job| job.is_open(index))
    }

    /// What of a job runs: the task, where, which attempt, since when.
    pub fn attempts(&self, id: JobId) -> impl Iterator<Item = (u64, Running)> {
        let tasks = self.jobs.get(&id).into_iter().flat_map(Job::tasks);
        tasks.flat_map(|(index, task)| task.attempts.iter().map(move |running| (index, *running)))
    }

    /// How many rows all of this takes in memory.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.jobs.values().map(Job::rows).sum()
    }

    fn choose(&self, node: NodeNumber, room: Slots, now: Duration) -> Option<(JobId, u64, bool)> {
        let alone = self.workers.count() == 1;
        let of_job = |id: JobId| self.jobs.get(&id).and_then(|job| job.choose(node, alone, now));
        let shared = self.shares.first_fit(room, |id| of_job(id).is_some());
        let bound = self.pinned.get(&node).and_then(|tasks| {
            tasks.iter().find(|(_, id, index)| {
                self.jobs.get(id).is_some_and(|job| {
                    !job.held && !job.halted && room.fits(job.need()) && job.may_restart(*index, now)
                })
            })
        });
        match (shared, bound) {
            (Some((priority, id)), Some((Reverse(bound), _, _))) if priority > *bound => {
                of_job(id).map(|index| (id, index, false))
            }
            (_, Some((_, id, index))) => Some((*id, *index, false)),
            (Some((_, id)), None) => of_job(id).map(|index| (id, index, false)),
            (None, None) => self.choose_backup(node, room).map(|(id, index)| (id, index, true)),
        }
    }

    /// The job whose turn it is, and for which there is no room.
    fn larger(&self, room: Slots, whole: Slots, node: NodeNumber, now: Duration) -> Option<JobId> {
        let alone = self.workers.count() == 1;
        let wants = |id: JobId| self.jobs.get(&id).is_some_and(|job| job.choose(node, alone, now).is_some());
        self.shares.without_room(room, whole, wants)
    }

    fn grant(
        &mut self,
        id: JobId,
        index: u64,
        node: NodeNumber,
        backup: bool,
        now: Duration,
    ) -> Option<Grant> {
        let job = self.jobs.get_mut(&id)?;
        let (user, need) = (job.user, job.need());
        if let Some(pinned) = job.task(index).and_then(|task| task.pinned) {
            self.unwait_pinned(id, index, pinned, self.jobs.get(&id)?.facts.priority);
        }
        let attempt = self.jobs.get_mut(&id)?.start(id, index, node, backup, now);
        self.workers.take(node, attempt, need, now);
        self.shares.charge(user, need);
        self.turns.served(id);
        if backup {
            self.late.granted(id, index, need);
        }
        self.reindex(id);
        Some(Grant { attempt, backup })
    }

    /// The attempt runs no more; its slots are free.
    pub(super) fn stop(&mut self, node: NodeNumber, attempt: Attempt) -> Option<Running> {
        let job = self.jobs.get_mut(&attempt.job)?;
        let running = job.stop(node, attempt)?;
        let (user, need) = (job.user, job.need());
        self.free(node, attempt, &running, (user, need));
        Some(running)
    }

    fn free(
        &mut self,
        node: NodeNumber,
        attempt: Attempt,
        running: &Running,
        (user, need): (super::share::UserId, Slots),
    ) {
        self.workers.give(node, attempt, need);
        self.shares.refund(user, need);
        if running.backup {
            self.late.ended(need);
        }
    }

    fn failed(&mut self, node: NodeNumber, attempt: Attempt, now: Duration) -> Next {
        let Attempt { job: id, index, .. } = attempt;
        let Some(job) = self.jobs.get_mut(&id) else { return Next::Stale };
        let (retries, standing) = (job.facts.retries, job.facts.standing);
        let pinned = job.requeue(index, |task| {
            task.failures = task.failures.saturating_add(1);
            task.failed = Some((node, now));
        });
        let given_up = job.task(index).is_none_or(|task| task.failures > retries && !standing);
        if given_up {
            self.close(id, index);
        } else if let Some(pinned) = pinned {
            self.wait_pinned(id, index, pinned);
        }
        self.reindex(id);
        if given_up { Next::GiveUp } else { Next::Again }
    }

    /// A task's worker was lost; false if that was once too often, and the
    /// task is over.
    pub(super) fn lost(&mut self, node: NodeNumber, attempt: Attempt, now: Duration) -> bool {
        let Attempt { job: id, index, .. } = attempt;
        let Some(job) = self.jobs.get_mut(&id) else { return true };
        let pinned = job.requeue(index, |task| {
            task.losses = task.losses.saturating_add(1);
            task.failed = Some((node, now));
        });
        let bounded = !job.facts.standing;
        let too_often = bounded && job.task(index).is_some_and(|task| task.losses > super::facts::MAX_LOSSES);
        if too_often {
            self.close(id, index);
        } else if let Some(pinned) = pinned {
            self.wait_pinned(id, index, pinned);
        }
        self.reindex(id);
        if bounded && !too_often {
            self.losses.push((node, attempt));
        }
        !too_often
    }

    /// The task is over; its attempts are cancelled.
    pub(super) fn close(&mut self, id: JobId, index: u64) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let whose = (job.user, job.need(), job.facts.priority);
        if let Some(task) = job.close(index) {
            self.unwind(id, index, &task, whose);
        }
    }

    fn unwind(
        &mut self,
        id: JobId,
        index: u64,
        task: &Task,
        (user, need, priority): (super::share::UserId, Slots, i32),
    ) {
        if let Some(node) = task.pinned {
            self.unwait_pinned(id, index, node, priority);
        }
        for running in &task.attempts {
            let attempt = Attempt { job: id, index, attempt: running.number };
            self.free(running.node, attempt, running, (user, need));
            self.actions.push(Action::Cancel { node: running.node, attempt });
        }
    }

    pub(super) fn give_up(&mut self, job: JobId, index: u64, why: Why) {
        self.close(job, index);
        self.reindex(job);
        self.actions.push(Action::GiveUp { job, index, why });
    }

    fn wait_pinned(&mut self, id: JobId, index: u64, node: NodeNumber) {
        let Some(job) = self.jobs.get(&id) else { return };
        self.pinned.entry(node).or_default().insert((Reverse(job.facts.priority), id, index));
    }

    pub(super) fn unwait_pinned(&mut self, id: JobId, index: u64, node: NodeNumber, priority: i32) {
        if let Some(tasks) = self.pinned.get_mut(&node) {
            tasks.remove(&(Reverse(priority), id, index));
            if tasks.is_empty() {
                self.pinned.remove(&node);
            }
        }
    }

    /// Keeps [`Shares`] and the job of one mind.
    pub(super) fn reindex(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let ready = job.is_ready();
        if ready == job.indexed {
            return;
        }
        job.indexed = ready;
        if !ready {
            self.turns.served(id);
        }
        if ready {
            self.shares.ready(job.user, job.facts.priority, job.need(), id);
        } else {
            self.shares.done(job.user, job.facts.priority, job.need(), id);
        }
    }
}
