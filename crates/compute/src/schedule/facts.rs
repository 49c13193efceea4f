//! The scheduler's words, and its bounds.

use std::time::Duration;

use trine_types::NodeNumber;

use crate::amounts::Amounts;
use crate::spec::{Attempt, JobId, Resources};

/// How often [`super::Scheduler::tick`] is called.
pub const TICK: Duration = Duration::from_millis(100);
/// The most grants that one pull is answered with.
pub const MAX_GRANTS: usize = 1024;
/// How often a task may be lost with its worker before it is given up: a task
/// that takes its node down must not take them all down.
pub const MAX_LOSSES: u32 = 4;
/// For so long a task that failed on a node is kept for another one, and one of
/// a standing job for any.
pub const AVOID_NODE: Duration = Duration::from_secs(1);

/// Room on a worker, or what a task needs of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Slots {
    /// Thousandths of a core.
    pub cpu_milli: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// What nodes have beside these, by name.
    pub named: Amounts,
}

impl From<Resources> for Slots {
    fn from(resources: Resources) -> Self {
        let Resources { cpu_milli, memory_bytes, named } = resources;
        Self { cpu_milli: u64::from(cpu_milli), memory_bytes, named }
    }
}

impl Slots {
    /// Nothing.
    pub const NONE: Self = Self::cores(0, 0);

    /// `cores` whole cores and `memory_bytes` of memory.
    #[must_use]
    pub const fn cores(cores: u64, memory_bytes: u64) -> Self {
        Self { cpu_milli: cores * 1000, memory_bytes, named: Amounts::NONE }
    }

    /// Is there room for `need`?
    #[must_use]
    pub fn fits(self, need: Self) -> bool {
        need.cpu_milli <= self.cpu_milli
            && need.memory_bytes <= self.memory_bytes
            && self.named.fits(&need.named)
    }

    /// What is left without `other`, at least nothing.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.saturating_sub(other.cpu_milli),
            memory_bytes: self.memory_bytes.saturating_sub(other.memory_bytes),
            named: self.named.minus(&other.named),
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.saturating_add(other.cpu_milli),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
            named: self.named.plus(&other.named),
        }
    }

    /// The smaller of both, in each kind.
    #[must_use]
    pub fn least(self, other: Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.min(other.cpu_milli),
            memory_bytes: self.memory_bytes.min(other.memory_bytes),
            named: self.named.least(&other.named),
        }
    }
}

/// What the scheduler must know of a job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JobFacts {
    /// Whose share it counts against.
    pub user: String,
    /// Greater goes first.
    pub priority: i32,
    /// The user's weight among users; the greatest of a user's jobs counts.
    /// Zero is taken as one.
    pub weight: u32,
    /// How often a task that failed runs again.
    pub retries: u32,
    /// What one task needs.
    pub need: Slots,
    /// May a straggler get a backup attempt? Not where a second execution
    /// does harm.
    pub backups: bool,
    /// Are its tasks wanted until it is cancelled? Then each runs again however
    /// it ended, and none is ever given up.
    pub standing: bool,
}

/// "Run this."
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grant {
    /// What to run.
    pub attempt: Attempt,
    /// Whether another attempt of the task runs elsewhere.
    pub backup: bool,
}

/// What of a task's past a new master must know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Past {
    /// Which task.
    pub index: u64,
    /// How often it has failed.
    pub failures: u32,
    /// How often its worker was lost.
    pub losses: u32,
    /// The greatest number of an attempt that failed or was lost.
    pub number: u32,
}

/// What a worker says that it holds: queued or running, not those whose result
/// it has sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    /// Which attempt.
    pub attempt: Attempt,
    /// For how long it has been running; nothing if it waits in the worker.
    pub elapsed: Option<Duration>,
}

/// How an attempt ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// With a result that counts.
    Done,
    /// By its own fault: counts against the job's retries.
    Failed,
    /// By its worker's fault, or not started: counts against [`MAX_LOSSES`].
    Lost,
}

/// What the master does with a result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Put it into the log.
    Commit,
    /// Drop it: the task runs again, or another attempt of it still runs.
    Again,
    /// Put it into the log as the task's last word: no retry is left.
    GiveUp,
    /// Drop it: the task is over, or this attempt was given up before.
    Stale,
}

/// Why a task without a result is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// Its workers were lost more than [`MAX_LOSSES`] times.
    LostTooOften,
    /// It is bound to a node that has no worker since [`Config::pinned_wait`].
    NodeAbsent,
}

/// What the master has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Tell the worker to kill it; a result that comes nevertheless is stale.
    Cancel {
        /// Where it runs.
        node: NodeNumber,
        /// What.
        attempt: Attempt,
    },
    /// Put into the log that this task is over without a result.
    GiveUp {
        /// Of which job.
        job: JobId,
        /// Which task.
        index: u64,
        /// Why.
        why: Why,
    },
}

/// How far a job is, as far as the scheduler knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Tasks that wait, those that wait to run again included.
    pub waiting: u64,
    /// Tasks of which an attempt runs.
    pub running: u64,
    /// Attempts that run beside another one.
    pub backups: u64,
}

/// Settings of the scheduler.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// A worker that was silent for so long is lost. Longer forgives pauses,
    /// shorter runs its tasks elsewhere sooner.
    pub lease: Duration,
    /// How long a new master waits for workers to tell what they run before it
    /// runs it again.
    pub grace: Duration,
    /// A grant that its worker does not list after so long did not arrive.
    pub settle: Duration,
    /// How long a task that is bound to a node waits for that node's worker.
    pub pinned_wait: Duration,
    /// Whether stragglers get backup attempts at all.
    pub backups: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lease: Duration::from_millis(1500),
            grace: Duration::from_secs(2),
            settle: Duration::from_secs(1),
            pinned_wait: Duration::from_secs(30),
            backups: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Slots;

    #[test]
    fn room_is_a_matter_of_both_kinds() {
        let room = Slots::cores(2, 100);
        assert!(room.fits(Slots::cores(2, 100)));
        assert!(!room.fits(Slots::cores(1, 101)));
        assert!(!room.fits(Slots { cpu_milli: 2001, ..Slots::NONE }));
        assert_eq!(room.minus(Slots::cores(3, 40)), Slots::cores(0, 60));
    }
}
