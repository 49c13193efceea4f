//! What workers and the master tell each other, over the lane for requests.
//! Encoded by [`crate::codec`].
//!
//! A worker sends beats: what it holds, what has ended, what it could take. The
//! master answers at once if there is something to do, and else holds the
//! answer back for a while; at most two beats of a worker are under way, and a
//! newer one releases the one before it.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use trine_transport::Service;
use trine_types::NodeNumber;

use crate::run::shelf::Piece;
use crate::spec::{Attempt, JobId, Resources, TaskResult};

/// Calls of this room.
pub const SERVICE: Service = Service(0x80);

/// Longest that a master holds an answer back while there are jobs; a worker's
/// sign of life.
pub const HOLD: Duration = Duration::from_millis(400);

/// The same while there is nothing to do. The worker has nothing to lose then;
/// its node is watched by others.
pub const IDLE_HOLD: Duration = Duration::from_secs(10);

/// Longest wait for an answer beyond what the other side may hold it.
pub const PASSING: Duration = Duration::from_secs(1);

/// A worker that hears from no master for so long lets go of what it runs. Its
/// lease ended half of that ago, and its tasks run elsewhere.
pub const LET_GO: Duration = Duration::from_secs(3);

/// Results in one beat, at most, by count and bytes.
pub const MAX_BEAT_RESULTS: usize = 1_024;
/// See [`MAX_BEAT_RESULTS`].
pub const MAX_BEAT_BYTES: usize = 4 * 1024 * 1024;

/// Bytes of tasks in one answer, about.
pub const MAX_ORDERS_BYTES: usize = 4 * 1024 * 1024;

/// A question to another node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Ask {
    /// A worker tells of itself.
    Beat(Box<Beat>),
    /// Results of a job from the `from`th on; the answer waits for some.
    Results {
        /// Which job.
        job: JobId,
        /// How many to pass over.
        from: u64,
        /// See [`crate::command::Query::Results`].
        bytes: u32,
        /// How long the answer may be held back.
        patience_ms: u32,
    },
    /// What the node can run side by side.
    Slots,
    /// These tasks of a job shall not run; the answer does not say that they
    /// have not.
    Drop {
        /// Which job.
        job: JobId,
        /// Which tasks.
        tasks: Vec<u64>,
    },
    /// What of a job runs where now.
    Running {
        /// Which job.
        job: JobId,
    },
    /// A part of an output that the node kept.
    Kept {
        /// Of all of it.
        hash: [u8; 32],
        /// From which byte on.
        from: u64,
    },
    /// Shall fetch an output that the asker has, and keep it, too.
    Copy {
        /// Of all of it.
        hash: [u8; 32],
    },
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Told {
    /// This node is not the master; perhaps that one is.
    NotMaster(Option<NodeNumber>),
    /// What a worker shall do.
    Orders(Box<Orders>),
    /// See [`crate::command::Results`], encoded as the group answers it.
    Results(#[serde(with = "crate::binary")] Bytes),
    /// What this node can run side by side.
    Slots(Resources),
    /// What of a job runs, as far as the master knows.
    Running(Vec<RunningTask>),
    /// They are being dropped.
    Dropping,
    /// Bytes of an output, if it is here.
    Kept(Option<Piece>),
    /// Whether it is kept here now.
    Copied(bool),
}

/// What a worker tells of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Beat {
    /// The master that it believes to speak to; 0: it does not know any. It is
    /// told who is, and then tells everything again.
    pub reign: u64,
    /// What it can run side by side.
    pub slots: Resources,
    /// What of that is free.
    pub free: Resources,
    /// How many more tasks it would take than it can run now: short ones, so
    /// that it is not idle while it asks for more.
    pub ahead: u32,
    /// Everything that it holds, queued or running.
    pub held: Vec<Held>,
    /// What has ended since.
    pub ended: Vec<Ended>,
}

/// A task that a worker holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Held {
    /// Which attempt.
    pub attempt: Attempt,
    /// For how long it has been running; `None`: it waits there.
    pub elapsed: Option<Duration>,
}

/// A task that runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RunningTask {
    /// Which task of its job.
    pub index: u64,
    /// Which attempt.
    pub attempt: u32,
    /// Where.
    pub node: NodeNumber,
    /// For how long.
    pub ms: u64,
}

/// Tasks that are dropped at once, at most.
pub const MAX_DROPPED: usize = 65_536;

/// Running tasks in one answer, at most.
pub const MAX_RUNNING_TOLD: usize = 10_000;

/// An attempt that has ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ended {
    /// Which.
    pub attempt: Attempt,
    /// How.
    pub result: TaskResult,
}

/// What a worker shall do.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Orders {
    /// Who says so. If the beat was for another master, this is all.
    pub reign: u64,
    /// Jobs that it will need to know, with their [`crate::spec::JobSpec`]s,
    /// encoded.
    pub jobs: Vec<(JobId, crate::command::Encoded)>,
    /// Tasks to run.
    pub grants: Vec<Granted>,
    /// Attempts to kill, or not to begin.
    pub cancel: Vec<Attempt>,
    /// Results that it need not keep any more.
    pub settled: Vec<Attempt>,
    /// Jobs that are over.
    pub over: Vec<JobId>,
}

impl Orders {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
            && self.grants.is_empty()
            && self.cancel.is_empty()
            && self.settled.is_empty()
            && self.over.is_empty()
    }
}

/// A task to run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Granted {
    /// Which attempt.
    pub attempt: Attempt,
    /// Its [`crate::spec::TaskSpec`], encoded.
    #[serde(with = "crate::binary")]
    pub task: Bytes,
}
