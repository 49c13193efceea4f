//! What can be asked of group `jobs`: commands that change it, queries that
//! read it, and their answers. All are encoded by [`crate::codec`].

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use trine_types::NodeNumber;

use crate::spec::{BadSpec, Halt, JobId, JobSpec, Waited};

/// Something to put in the log of `jobs`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Command {
    /// A new job, without tasks yet.
    Create {
        /// What it is.
        spec: Box<JobSpec>,
    },
    /// More tasks for a job that is open.
    Append {
        /// Which job.
        job: JobId,
        /// How many tasks there were before: a submitter that repeats itself
        /// adds nothing twice. `None` adds in any case.
        after: Option<u64>,
        /// How many are added.
        count: u32,
        /// Whether any of them names its node.
        pinned: bool,
        /// The tasks, as [`crate::codec::encode_tasks`] makes them.
        #[serde(with = "crate::binary")]
        tasks: Bytes,
    },
    /// No more tasks come: the job is over once all are done.
    Close {
        /// Which job.
        job: JobId,
        /// How long its ranges took to become durable, as far as the node
        /// knows that was asked to close it.
        submitted: Waited,
    },
    /// Results that workers have returned.
    Commit {
        /// Of any tasks of any jobs.
        results: Vec<Returned>,
    },
    /// What is not done yet shall not be done.
    Cancel {
        /// Which job.
        job: JobId,
    },
    /// How long a job's results waited to be committed, at one master.
    Account {
        /// Which job.
        job: JobId,
        /// From the result's arrival until it was durable.
        committed: Waited,
    },
    /// Cancel a job whose deadline has passed by the time of the log, or that
    /// waits for one that has not succeeded; else nothing.
    Review {
        /// Which job.
        job: JobId,
    },
    /// Remove a job that is over, with tasks and results; a part at a time.
    Forget {
        /// Which job.
        job: JobId,
    },
    /// Copy the jobs of a schedule, if it waits for this time and that has come.
    Fire {
        /// The job that is the schedule.
        job: JobId,
        /// What is due; `None`: the schedule is new.
        due_ms: Option<u64>,
        /// What is due next; `None`: never.
        next_ms: Option<u64>,
    },
}

/// A result on its way into the log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Returned {
    /// Of which job.
    pub job: JobId,
    /// Of which task.
    pub index: u64,
    /// Whether it did what it was to do.
    pub success: bool,
    /// The result, as [`crate::codec::encode`] makes it.
    #[serde(with = "crate::binary")]
    pub result: Bytes,
    /// The task runs again after this execution; `result` is nothing.
    pub again: Option<Failed>,
}

/// An execution that failed, or was lost with its worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failed {
    /// Which attempt.
    pub attempt: u32,
    /// Where. A new master may give a number again, to another node.
    pub node: NodeNumber,
    /// Its worker was lost, or could not begin: this does not count against
    /// the job's retries.
    pub lost: bool,
}

/// The answer to a [`Command`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// It is so.
    Done,
    /// The job has this id.
    Created(JobId),
    /// The tasks have these indexes.
    Appended {
        /// The first; the others follow.
        first: u64,
    },
    /// For each result, what became of it.
    Committed(Vec<Committed>),
    /// Whether rows of the job are left: ask again.
    Forgotten {
        /// More is to be removed.
        more: bool,
    },
    /// Nothing has changed.
    Refused(Refusal),
}

/// What became of a result.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Committed {
    /// It is the result of its task, or one of its failures.
    Counts,
    /// The task has another one, or its job was cancelled: this one is dropped.
    Stale,
}

/// Why a command changed nothing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// Never submitted, or forgotten.
    #[error("there is no job {0}")]
    NoSuchJob(JobId),
    /// No more tasks can be added to it.
    #[error("job {0} takes no more tasks: it is closed, cancelled or over")]
    Closed(JobId),
    /// It cannot be forgotten yet.
    #[error("job {0} is not over; cancel it first")]
    NotOver(JobId),
    /// Other tasks came between: look how many there are now.
    #[error("job {job} has {tasks} tasks, not as many as the submitter believes")]
    Outdated {
        /// Which job.
        job: JobId,
        /// How many it has.
        tasks: u64,
    },
    /// A bound of [`crate::limits`] is reached.
    #[error("{what}: at most {most}; forget jobs that are over, or wait for some to end")]
    Full {
        /// Of what there is too much.
        what: String,
        /// The bound.
        most: u64,
    },
    /// The job or task cannot be.
    #[error(transparent)]
    Bad(#[from] BadSpec),
    /// The command does not decode.
    #[error("not understood: {0}")]
    NotUnderstood(String),
    /// The state of the group does not decode.
    #[error("the state of jobs does not decode: {0}")]
    Corrupt(String),
}

/// Something to read from `jobs`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Query {
    /// One job.
    Job {
        /// Which.
        job: JobId,
    },
    /// Jobs, newest first.
    Jobs {
        /// Only those before this one; `None`: from the newest.
        before: Option<JobId>,
        /// At most so many.
        limit: u32,
    },
    /// The schedules that are not cancelled.
    Schedules,
    /// Results of a job, in the order in which they were committed.
    Results {
        /// Which job.
        job: JobId,
        /// How many to pass over.
        from: u64,
        /// Not much more than so many bytes; at least one result if there is
        /// one.
        bytes: u32,
    },
    /// Some tasks of a job, by their indexes.
    Tasks {
        /// Which job.
        job: JobId,
        /// The first.
        from: u64,
    },
}

/// How far a job is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It takes more tasks.
    Open,
    /// All tasks are known.
    Closed,
    /// No more tasks are started; those that run may end.
    Halting,
    /// Every task is done.
    Over,
    /// It was cancelled, or halted at once; it is over, too.
    Cancelled,
}

impl Phase {
    /// Whether nothing of the job will change any more.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Over | Self::Cancelled)
    }
}

/// How far a job is, in numbers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Progress {
    /// How far.
    pub phase: Phase,
    /// Tasks so far.
    pub tasks: u64,
    /// Tasks whose result is committed.
    pub done: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// State time of its submission (ms since the epoch).
    pub created_ms: u64,
    /// State time of its end.
    pub ended_ms: Option<u64>,
    /// Why it was cancelled, if not by a user; why a schedule made no copy.
    pub why: Option<String>,
    /// It belongs to a schedule, and is not executed itself.
    #[serde(default)]
    pub schedule: Option<Scheduled>,
    /// What its tasks and results take.
    pub bytes: u64,
    /// When it ends early.
    pub halt: Option<Halt>,
    /// From a request with tasks until they were durable.
    #[serde(default)]
    pub submitted: Waited,
    /// From a result's arrival at the master until it was durable.
    #[serde(default)]
    pub committed: Waited,
    /// Grows with each change of any job.
    pub revision: u64,
}

/// How far a schedule is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Scheduled {
    /// What time it waits for (ms since the epoch); parts of others, for none.
    pub next_ms: Option<u64>,
    /// How often it was copied.
    pub copies: u64,
    /// The job that it made last.
    pub last: Option<JobId>,
}

/// A job as users see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobView {
    /// Which.
    pub id: JobId,
    /// What it is.
    pub spec: JobSpec,
    /// How far it is.
    pub progress: Progress,
}

/// The answer to [`Query::Results`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Results {
    /// How far the job is.
    pub progress: Progress,
    /// The results, each as [`crate::codec::encode`] made it.
    pub results: Vec<Encoded>,
}

/// The answer to [`Query::Tasks`]: a range as it was submitted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Tasks {
    /// The index of its first task.
    pub first: u64,
    /// How many.
    pub count: u32,
    /// See [`crate::codec::decode_tasks`].
    #[serde(with = "crate::binary")]
    pub tasks: Bytes,
}

/// Bytes within a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Encoded(#[serde(with = "crate::binary")] pub Bytes);
