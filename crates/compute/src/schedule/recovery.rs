//! Workers that register, tell what they hold, and are lost; and a new master,
//! which must learn what runs before it runs it again.

use std::collections::BTreeSet;
use std::time::Duration;

use trine_types::NodeNumber;

use super::facts::{Action, Held, Slots, Why};
use super::scheduler::Scheduler;
use crate::spec::{Attempt, JobId};

/// What a new master waits for.
#[derive(Debug)]
pub struct Hold {
    awaited: BTreeSet<NodeNumber>,
    until: Duration,
}

impl Scheduler {
    /// All jobs are told as the log has them, and this master begins: tasks
    /// that were there before are not granted until all of `workers` have told
    /// what they run, or the grace period is over.
    pub fn take_over(&mut self, workers: impl IntoIterator<Item = NodeNumber>, now: Duration) {
        let awaited: BTreeSet<NodeNumber> = workers.into_iter().collect();
        let until = now.saturating_add(self.config.grace);
        let ids: Vec<JobId> = self.jobs.keys().copied().collect();
        for id in ids {
            if let Some(job) = self.jobs.get_mut(&id) {
                job.held = true;
            }
            self.reindex(id);
        }
        self.hold = Some(Hold { awaited, until });
        self.release_hold(now);
    }

    /// Whether this master still waits for workers to tell what they run.
    #[must_use]
    pub fn is_taking_over(&self) -> bool {
        self.hold.is_some()
    }

    pub(super) fn release_hold(&mut self, now: Duration) {
        let over = self.hold.as_ref().is_some_and(|hold| hold.awaited.is_empty() || now >= hold.until);
        if !over {
            return;
        }
        self.hold = None;
        let ids: Vec<JobId> = self.jobs.keys().copied().collect();
        for id in ids {
            if let Some(job) = self.jobs.get_mut(&id) {
                job.held = false;
            }
            self.reindex(id);
        }
    }

    /// A worker registers. `slots` is all that it takes at once, what it
    /// prefetches included. Registering again changes its slots; what it holds
    /// is as it tells next.
    pub fn worker_up(&mut self, node: NodeNumber, slots: Slots, now: Duration) {
        self.workers.up(node, slots, now);
        self.absent.remove(&node);
        self.shares.resize(self.workers.total());
    }

    /// Whether the worker is registered; one that is not must register again.
    #[must_use]
    pub fn knows(&self, node: NodeNumber) -> bool {
        self.workers.get(node).is_some()
    }

    /// A sign of life.
    pub fn heard(&mut self, node: NodeNumber, now: Duration) {
        let _ = self.workers.heard(node, now);
    }

    /// A worker is lost: what it held runs elsewhere.
    pub fn worker_lost(&mut self, node: NodeNumber, now: Duration) {
        let held: Vec<Attempt> =
            self.workers.get(node).map(|worker| worker.held.keys().copied().collect()).unwrap_or_default();
        for attempt in held {
            if self.stop(node, attempt).is_some() && !self.lost(node, attempt, now) {
                self.actions.push(Action::GiveUp {
                    job: attempt.job,
                    index: attempt.index,
                    why: Why::LostTooOften,
                });
            }
        }
        self.turns.lost(node);
        if self.workers.remove(node).is_some() {
            self.shares.resize(self.workers.total());
        }
        if let Some(hold) = &mut self.hold {
            hold.awaited.remove(&node);
        }
    }

    /// A registered worker tells all that it holds. What it should hold and
    /// does not was lost on the way; what it should not hold and does is taken
    /// over if its task waits, else cancelled.
    pub fn running(&mut self, node: NodeNumber, held: &[Held], now: Duration) {
        let Some(worker) = self.workers.heard(node, now) else { return };
        let told: BTreeSet<Attempt> = held.iter().map(|held| held.attempt).collect();
        let settled = |granted: Duration, settle: Duration| now >= granted.saturating_add(settle);
        let missing: Vec<Attempt> = worker
            .held
            .iter()
            .filter(|(attempt, granted)| !told.contains(attempt) && settled(**granted, self.config.settle))
            .map(|(attempt, _)| *attempt)
            .collect();
        for attempt in missing {
            if self.stop(node, attempt).is_some() && !self.lost(node, attempt, now) {
                self.actions.push(Action::GiveUp {
                    job: attempt.job,
                    index: attempt.index,
                    why: Why::LostTooOften,
                });
            }
        }
        for one in held {
            self.reconcile(node, one, now);
        }
        if let Some(hold) = &mut self.hold {
            hold.awaited.remove(&node);
        }
        self.release_hold(now);
    }

    fn reconcile(&mut self, node: NodeNumber, held: &Held, now: Duration) {
        let attempt = held.attempt;
        let since = now.saturating_sub(held.elapsed.unwrap_or_default());
        let holds = |worker: &super::workers::Worker| worker.held.contains_key(&attempt);
        let known = self.workers.get(node).is_some_and(holds);
        let Some(job) = self.jobs.get_mut(&attempt.job) else {
            self.actions.push(Action::Cancel { node, attempt });
            return;
        };
        if known {
            job.observe(node, attempt, since);
            return;
        }
        let runs = job.task(attempt.index).is_some_and(|task| !task.attempts.is_empty());
        let elsewhere = job.task(attempt.index).and_then(|task| task.pinned).is_some_and(|pin| pin != node);
        if !job.is_open(attempt.index) || runs || elsewhere {
            self.actions.push(Action::Cancel { node, attempt });
            return;
        }
        let (user, need, priority) = (job.user, job.need(), job.facts.priority);
        let pinned = job.task(attempt.index).and_then(|task| task.pinned);
        job.adopt(attempt, node, since);
        if let Some(pinned) = pinned {
            self.unwait_pinned(attempt.job, attempt.index, pinned, priority);
        }
        self.workers.take(node, attempt, need, now);
        self.shares.charge(user, need);
        self.reindex(attempt.job);
    }

    pub(super) fn expire_leases(&mut self, now: Duration) {
        let Some(deadline) = now.checked_sub(self.config.lease) else { return };
        for node in self.workers.silent(deadline) {
            self.worker_lost(node, now);
        }
    }

    pub(super) fn expire_pinned(&mut self, now: Duration) {
        let absent: Vec<NodeNumber> =
            self.pinned.keys().copied().filter(|node| self.workers.get(*node).is_none()).collect();
        self.absent.retain(|node, _| absent.binary_search(node).is_ok());
        for node in absent {
            let since = *self.absent.entry(node).or_insert(now);
            if now < since.saturating_add(self.config.pinned_wait) {
                continue;
            }
            let tasks: Vec<(JobId, u64)> = self
                .pinned
                .get(&node)
                .map(|tasks| tasks.iter().map(|(_, id, index)| (*id, *index)).collect())
                .unwrap_or_default();
            let bounded = |id: &JobId| self.jobs.get(id).is_none_or(|job| !job.facts.standing);
            let tasks: Vec<_> = tasks.into_iter().filter(|(id, _)| bounded(id)).collect();
            for (id, index) in tasks {
                self.give_up(id, index, Why::NodeAbsent);
            }
        }
    }
}
