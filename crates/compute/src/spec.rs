//! What users submit and what they get: jobs, tasks, outcomes, results. The
//! words of all of compute's surfaces; no IO, no clock.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use trine_types::NodeNumber;

use crate::amounts::Amounts;
use crate::limits::{
    LEAST_CPU_MILLI, MAX_BLOBS_PER_TASK, MAX_CPU_MILLI, MAX_JOBS_BEFORE, MAX_NAME_BYTES, MAX_RETRIES,
    MAX_SCHEDULE_TEXT, MAX_TIMEOUT, MAX_TIMEOUT_PERCENT, MAX_WEIGHT,
};

/// Names a job; given by the log, from 1, never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct JobId(pub u64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One execution of a task. Attempts of a task count from 1; whoever assigns a
/// task again takes a number that it has not seen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Attempt {
    /// Of which job.
    pub job: JobId,
    /// Which of its tasks, from 0, in the order of submission.
    pub index: u64,
    /// Which execution of it.
    pub attempt: u32,
}

/// What a task takes while it runs; also what a worker has to give.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Resources {
    /// Thousandths of a processor. A task counts as
    /// [`crate::limits::LEAST_CPU_MILLI`] at least.
    pub cpu_milli: u32,
    /// Bytes of memory that it may use; 0 says nothing about memory.
    pub memory_bytes: u64,
    /// What nodes have beside these, by the names that they give it.
    #[serde(default)]
    pub named: Amounts,
}

impl Default for Resources {
    /// One processor, any memory.
    fn default() -> Self {
        Self::of(1_000, 0)
    }
}

impl Resources {
    /// Nothing at all.
    pub const NONE: Self = Self::of(0, 0);

    /// Thousandths of a processor and bytes of memory.
    #[must_use]
    pub const fn of(cpu_milli: u32, memory_bytes: u64) -> Self {
        Self { cpu_milli, memory_bytes, named: Amounts::NONE }
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

    /// Is there room for `need`?
    #[must_use]
    pub fn fits(self, need: Self) -> bool {
        need.cpu_milli <= self.cpu_milli
            && need.memory_bytes <= self.memory_bytes
            && self.named.fits(&need.named)
    }

    /// What a task of these counts as.
    #[must_use]
    pub fn of_task(self) -> Self {
        Self { cpu_milli: self.cpu_milli.max(LEAST_CPU_MILLI), ..self }
    }
}

/// What all tasks of a job share.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JobSpec {
    /// For people.
    pub name: String,
    /// Whose share of the cluster it takes; the surface fills it in.
    pub user: String,
    /// Jobs of a higher priority go first.
    pub priority: i32,
    /// The share of this user's jobs relative to other users of the same
    /// priority; at least 1.
    pub weight: u32,
    /// How often a task that failed is executed again. A lost worker does not
    /// count.
    pub retries: u32,
    /// How long one attempt may run.
    pub timeout_ms: Option<u64>,
    /// What it comes after, and when it must be over, beside `timeout_ms`.
    pub when: When,
    /// Whether a task that takes far longer than others gets a second attempt
    /// on another node: say no where doing it twice does harm.
    pub backups: bool,
    /// Whether its tasks are wanted until it is cancelled: each is executed
    /// again, elsewhere if need be, however it ended. Such a job has no results.
    pub standing: bool,
    /// When the job ends before all of its tasks are done.
    pub halt: Option<Halt>,
    /// What each task takes.
    pub resources: Resources,
    /// Environment of each task, beside what the node gives it.
    pub env: Vec<(String, String)>,
    /// Where tasks run; `None`: an empty directory for each, removed after it.
    pub workdir: Option<String>,
    /// What its tasks are.
    pub body: BodyKind,
    /// How long `trine plan` expected all of it to take, to be compared with
    /// how long it took.
    pub predicted_ms: Option<u64>,
}

impl Default for JobSpec {
    fn default() -> Self {
        Self {
            name: String::new(),
            user: String::new(),
            priority: 0,
            weight: 1,
            retries: 0,
            timeout_ms: None,
            when: When::default(),
            backups: true,
            standing: false,
            halt: None,
            resources: Resources::default(),
            env: Vec::new(),
            workdir: None,
            body: BodyKind::Process,
            predicted_ms: None,
        }
    }
}

/// A job or a task that cannot be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
pub enum BadSpec {
    /// A field is out of its bounds.
    #[error("{field}: {why}")]
    Field {
        /// Which field.
        field: String,
        /// What it may be.
        why: String,
    },
}

fn bad<T>(field: &str, why: impl Into<String>) -> Result<T, BadSpec> {
    Err(BadSpec::Field { field: field.into(), why: why.into() })
}

impl JobSpec {
    /// The bound of one attempt.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout_ms.map(Duration::from_millis)
    }

    /// Whether every field is within its bounds.
    ///
    /// # Errors
    /// [`BadSpec`]: which is not.
    pub fn check(&self) -> Result<(), BadSpec> {
        for (field, text) in [("name", &self.name), ("user", &self.user)] {
            if text.len() > MAX_NAME_BYTES {
                return bad(field, format!("at most {MAX_NAME_BYTES} bytes"));
            }
        }
        if !(1..=MAX_WEIGHT).contains(&self.weight) {
            return bad("weight", format!("1 to {MAX_WEIGHT}"));
        }
        if self.retries > MAX_RETRIES {
            return bad("retries", format!("at most {MAX_RETRIES}"));
        }
        if self.timeout().is_some_and(|timeout| timeout.is_zero() || timeout > MAX_TIMEOUT) {
            return bad("timeout_ms", "more than nothing, at most a year");
        }
        if self.when.timeout_percent.is_some_and(|percent| !(1..=MAX_TIMEOUT_PERCENT).contains(&percent)) {
            return bad("when.timeout_percent", format!("1 to {MAX_TIMEOUT_PERCENT}"));
        }
        if self.timeout_ms.is_some() && self.when.timeout_percent.is_some() {
            return bad("when.timeout_percent", "not together with timeout_ms");
        }
        if self.when.after.len() > MAX_JOBS_BEFORE {
            return bad("when.after", format!("at most {MAX_JOBS_BEFORE} jobs"));
        }
        if let Some(Schedule::Cron { text, zone, parts }) = &self.when.schedule {
            if parts.len() > MAX_JOBS_BEFORE {
                return bad("when.schedule.parts", format!("at most {MAX_JOBS_BEFORE} jobs"));
            }
            if text.len() > MAX_SCHEDULE_TEXT || zone.len() > MAX_SCHEDULE_TEXT {
                return bad("when.schedule", format!("at most {MAX_SCHEDULE_TEXT} bytes"));
            }
        }
        if self.when.schedule.is_some() && self.standing {
            return bad("when.schedule", "not together with standing");
        }
        if self.resources.cpu_milli > MAX_CPU_MILLI {
            return bad("resources.cpu_milli", format!("at most {MAX_CPU_MILLI}"));
        }
        if self.halt.is_some_and(|halt| halt.count == 0) {
            return bad("halt.count", "at least 1");
        }
        let is_name = |name: &str| !name.is_empty() && !name.contains(['=', '\0']);
        if let Some((name, _)) = self.env.iter().find(|(name, value)| !is_name(name) || value.contains('\0'))
        {
            return bad("env", format!("{name:?} is no variable, or its value contains a zero byte"));
        }
        if self.workdir.as_ref().is_some_and(|path| !path.starts_with('/') || path.contains('\0')) {
            return bad("workdir", "an absolute path");
        }
        Ok(())
    }
}

/// The place of a job among others and in time.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct When {
    /// Jobs that must have succeeded, every task of theirs, before one of this
    /// is started. If one has not, this is cancelled.
    pub after: Vec<JobId>,
    /// When it is cancelled if it is not over: state time, in milliseconds
    /// since the epoch.
    pub deadline_ms: Option<u64>,
    /// How long one attempt may run, in percent of the median of those that
    /// succeeded on the same node, as soon as there are three.
    pub timeout_percent: Option<u32>,
    /// It is not executed itself, but copied each time that it is due;
    /// `deadline_ms` counts from then on.
    pub schedule: Option<Schedule>,
}

/// What makes a job one of a schedule.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Another one names it as its part.
    Part,
    /// Its parts and then itself are copied when it is due.
    Cron {
        /// As for cron.
        text: String,
        /// The time zone that `text` speaks of.
        zone: String,
        /// Others of the schedule, each behind those that it comes after.
        parts: Vec<JobId>,
    },
}

/// What the tasks of a job are.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyKind {
    /// Processes.
    Process,
    /// Python functions, on warm interpreters.
    Python {
        /// The interpreter that they need, as in `3.13`.
        version: String,
        /// Hash of a pickled function that each interpreter calls first.
        initializer: Option<[u8; 32]>,
    },
}

/// When a job ends early.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Halt {
    /// What is counted.
    pub on: HaltOn,
    /// How many of them end the job.
    pub count: u64,
    /// Whether running tasks are killed, too; else only no more are started.
    pub now: bool,
}

/// What [`Halt`] counts: tasks whose result is committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HaltOn {
    /// Those that failed.
    Failures,
    /// Those that succeeded.
    Successes,
    /// All.
    Done,
}

/// What differs from task to task.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TaskSpec {
    /// The only node that may execute it; `None`: any.
    pub pin: Option<NodeNumber>,
    /// What is to be done.
    pub work: Work,
}

/// What a task does.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Work {
    /// Executes a program.
    Process {
        /// The program and its arguments; looked up in `PATH`.
        argv: Vec<Vec<u8>>,
        /// What it reads; `None`: nothing.
        stdin: Option<Input>,
        /// Environment of this task, over that of the job.
        env: Vec<(String, String)>,
    },
    /// Calls a Python function.
    Python {
        /// The pickled call.
        #[serde(with = "crate::binary")]
        payload: Bytes,
        /// Hashes of the blobs that it needs.
        blobs: Vec<[u8; 32]>,
    },
}

/// What a process reads.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Input {
    /// These bytes.
    Inline(#[serde(with = "crate::binary")] Bytes),
    /// The blob of this hash.
    Blob([u8; 32]),
}

impl TaskSpec {
    /// A program, on any node.
    #[must_use]
    pub fn process(argv: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Self {
        let argv = argv.into_iter().map(Into::into).collect();
        Self { pin: None, work: Work::Process { argv, stdin: None, env: Vec::new() } }
    }

    /// The blobs that have to be at the worker before it begins.
    #[must_use]
    pub fn blobs(&self) -> &[[u8; 32]] {
        match &self.work {
            Work::Process { stdin: Some(Input::Blob(hash)), .. } => std::slice::from_ref(hash),
            Work::Process { .. } => &[],
            Work::Python { blobs, .. } => blobs,
        }
    }

    /// Whether it can be a task of a job of this kind. Its size is judged
    /// where it is encoded.
    ///
    /// # Errors
    /// [`BadSpec`].
    pub fn check(&self, kind: &BodyKind) -> Result<(), BadSpec> {
        match (&self.work, kind) {
            (Work::Process { argv, env, .. }, BodyKind::Process) => {
                if argv.first().is_none_or(Vec::is_empty) {
                    return bad("argv", "names a program first");
                }
                let zero = env.iter().any(|(name, value)| name.contains(['=', '\0']) || value.contains('\0'));
                if zero || argv.iter().any(|word| word.contains(&0)) {
                    return bad("argv", "no zero bytes, in the environment neither");
                }
                Ok(())
            }
            (Work::Python { blobs, .. }, BodyKind::Python { .. }) if blobs.len() <= MAX_BLOBS_PER_TASK => {
                Ok(())
            }
            (Work::Python { .. }, BodyKind::Python { .. }) => {
                bad("blobs", format!("at most {MAX_BLOBS_PER_TASK}"))
            }
            _ => bad("work", "a task is of its job's kind"),
        }
    }
}

/// How an attempt ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Outcome {
    /// The process ended by itself.
    Exited {
        /// With this code; 0 is success.
        code: u8,
    },
    /// A signal ended the process.
    Signaled {
        /// Which.
        signal: u8,
    },
    /// It ran longer than its job allows and was killed.
    TimedOut,
    /// The worker killed it for what it used.
    Killed {
        /// As in `used 3.1 GB of 2 GB`.
        reason: String,
    },
    /// Its workers were lost, more often than it is tried again.
    Lost,
    /// Its job was cancelled, or halted.
    Cancelled,
    /// It could not be started: no such program, no such directory, no such
    /// interpreter.
    NotStarted {
        /// Why.
        why: String,
    },
    /// A function returned; the value is in the result's `value`.
    Value,
    /// A function raised; the pickled exception is in the result's `value`.
    Raised,
    /// What it needs could not be brought to the worker: not its own failure, it
    /// is tried elsewhere as one whose worker was lost.
    NotStaged {
        /// Why.
        why: String,
    },
}

impl Outcome {
    /// Whether the task did what it was to do.
    #[must_use]
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Exited { code: 0 } | Self::Value)
    }
}

/// What a task wrote or returned.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Output {
    /// All of it.
    Inline(#[serde(with = "crate::binary")] Bytes),
    /// It is at the node that executed the task, and may be fetched by its hash.
    Kept {
        /// BLAKE3 of all of it.
        hash: [u8; 32],
        /// How much it is.
        bytes: u64,
        /// Whether the task wrote more than a worker keeps of one task.
        cut: bool,
    },
}

impl Default for Output {
    fn default() -> Self {
        Self::Inline(Bytes::new())
    }
}

impl Output {
    /// How much it is.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Kept { bytes, .. } => *bytes,
        }
    }

    /// Whether it is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where the time of a task went, in microseconds, each part measured on one
/// node's monotonic clock. The parts sum to the time from when the master knew
/// the task until its result waited to be committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Stamps {
    /// At the master, durable, until the assignment that counted.
    pub queued: u64,
    /// Between the nodes, both ways: the master's time from assignment to
    /// result, less the worker's.
    pub passing: u64,
    /// At the worker, until the body began: waiting for a slot, staging.
    pub prepared: u64,
    /// The body.
    pub executed: u64,
    /// At the worker, from the end of the body until the result left.
    pub returned: u64,
}

impl Stamps {
    /// `T_a`: assignment. One clock cannot tell the way there from the way
    /// back, so that each counts as half of `passing`.
    #[must_use]
    pub fn assignment(&self) -> u64 {
        self.queued.saturating_add(self.prepared).saturating_add(self.passing / 2)
    }

    /// `T_c`: execution and return.
    #[must_use]
    pub fn completion(&self) -> u64 {
        self.total().saturating_sub(self.assignment())
    }

    /// `T`: all of it.
    #[must_use]
    pub fn total(&self) -> u64 {
        [self.passing, self.prepared, self.executed, self.returned]
            .iter()
            .fold(self.queued, |sum, part| sum.saturating_add(*part))
    }
}

/// How long tasks waited for the log, summed, in microseconds of one node's
/// monotonic clock. Both ends of a task's way lie outside of its result: its
/// submission is over before the master knows it, and its commit begins when
/// the result is complete.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Waited {
    /// How many tasks.
    pub tasks: u64,
    /// All of their waits.
    pub micros: u64,
}

impl Waited {
    /// Adds the wait of each of `tasks` tasks.
    pub fn add(&mut self, tasks: u64, wait: Duration) {
        let micros = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        self.tasks = self.tasks.saturating_add(tasks);
        self.micros = self.micros.saturating_add(micros.saturating_mul(tasks));
    }

    /// Adds what another one counted.
    pub fn join(&mut self, other: Self) {
        self.tasks = self.tasks.saturating_add(other.tasks);
        self.micros = self.micros.saturating_add(other.micros);
    }

    /// The mean; 0 if nothing was counted.
    #[must_use]
    pub fn mean(&self) -> u64 {
        self.micros.checked_div(self.tasks).unwrap_or(0)
    }
}

/// What became of a task.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TaskResult {
    /// Which task of its job.
    pub index: u64,
    /// Which execution of it; 0 if there was none.
    pub attempt: u32,
    /// Where it ran.
    pub node: NodeNumber,
    /// How it ended.
    pub outcome: Outcome,
    /// What a process wrote.
    pub stdout: Output,
    /// What it wrote as errors.
    pub stderr: Output,
    /// What a function returned or raised, pickled.
    pub value: Output,
    /// Wall clock at its start, in milliseconds since the epoch, by the
    /// worker's clock; for people.
    pub started_ms: u64,
    /// Where the time went.
    pub stamps: Stamps,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_the_time_sum_to_the_whole() {
        let stamps = Stamps { queued: 1, passing: 3, prepared: 5, executed: 7, returned: 11 };
        assert_eq!(stamps.assignment() + stamps.completion(), stamps.total());
        assert_eq!((stamps.assignment(), stamps.total()), (7, 27));
    }

    #[test]
    fn a_spec_says_which_field_is_wrong() {
        assert_eq!(JobSpec::default().check(), Ok(()));
        let wrong = |spec: JobSpec| spec.check().expect_err("out of bounds").to_string();
        assert!(wrong(JobSpec { weight: 0, ..JobSpec::default() }).contains("weight"));
        assert!(wrong(JobSpec { timeout_ms: Some(0), ..JobSpec::default() }).contains("timeout_ms"));
        let both = JobSpec {
            timeout_ms: Some(1),
            when: When { timeout_percent: Some(200), ..When::default() },
            ..JobSpec::default()
        };
        assert!(wrong(both).contains("timeout_percent"));
        assert!(
            wrong(JobSpec {
                when: When { after: vec![JobId(1); 65], ..When::default() },
                ..JobSpec::default()
            })
            .contains("after")
        );
        let env = vec![("A=B".to_owned(), String::new())];
        assert!(wrong(JobSpec { env, ..JobSpec::default() }).contains("env"));
        let workdir = Some("here".to_owned());
        assert!(wrong(JobSpec { workdir, ..JobSpec::default() }).contains("workdir"));
    }

    #[test]
    fn a_task_is_of_its_jobs_kind() {
        let task = TaskSpec::process(["echo", "1"]);
        assert_eq!(task.check(&BodyKind::Process), Ok(()));
        let python = BodyKind::Python { version: "3.13".into(), initializer: None };
        assert!(task.check(&python).is_err());
        assert!(TaskSpec::process([""]).check(&BodyKind::Process).is_err());
        assert!(TaskSpec::process(["a\0b"]).check(&BodyKind::Process).is_err());
    }
}
