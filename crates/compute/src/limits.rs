//! The bounds of jobs, tasks and results. Each has a reason; a submitter that
//! meets one is told its name and value.

use std::time::Duration;

/// Most tasks in one range: one command, one entry of the log.
pub const MAX_TASKS_PER_RANGE: usize = 4_096;

/// Largest range after encoding. A larger one would hold up the group's log
/// for everyone; a task that is larger by itself does not fit at all.
pub const MAX_RANGE_BYTES: usize = 4 * 1024 * 1024;

/// Largest task after encoding: its arguments and its standard input or
/// payload. Larger input travels once, as a blob named by its hash.
pub const MAX_TASK_BYTES: usize = MAX_RANGE_BYTES - 1024;

/// Output or value of a task that is committed with its result; what is larger
/// stays at the worker, and the result names it by its hash.
pub const MAX_INLINE_BYTES: usize = 64 * 1024;

/// Most blobs that one task names.
pub const MAX_BLOBS_PER_TASK: usize = 1_024;

/// Most tasks of one job: its done ones are remembered as one bit each.
pub const MAX_TASKS_PER_JOB: u64 = 100_000_000;

/// Most jobs that are not over yet.
pub const MAX_LIVE_JOBS: u64 = 10_000;

/// Most jobs that the group remembers, live ones included: to submit more,
/// forget some.
pub const MAX_JOBS: u64 = 100_000;

/// Most bytes of tasks and results that the group keeps for all jobs together.
pub const MAX_KEPT_BYTES: u64 = 16 * 1024 * 1024 * 1024;

/// How long a job that is over is remembered, with its results.
pub const KEPT_FOR: Duration = Duration::from_hours(7 * 24);

/// How long a job stays open whose client adds nothing and reads nothing: then
/// the master closes it, and what it has runs to its end.
pub const OPEN_WITHOUT_CLIENT: Duration = Duration::from_hours(1);

/// The least that a task counts as, in thousandths of a processor: of tasks
/// that claim to take nothing, a worker runs a hundred per processor.
pub const LEAST_CPU_MILLI: u32 = 10;

/// Largest job description after encoding, its environment included.
pub const MAX_SPEC_BYTES: usize = 256 * 1024;

/// Longest name of a job or user.
pub const MAX_NAME_BYTES: usize = 200;

/// Most retries of one task.
pub const MAX_RETRIES: u32 = 1_000;

/// Most jobs that one waits for.
pub const MAX_JOBS_BEFORE: usize = 64;

/// Most schedules at a time.
pub const MAX_SCHEDULES: usize = 1_000;

/// Most tasks of one job of a schedule: one command copies them all.
pub const MAX_SCHEDULED_TASKS: u64 = 4_096;

/// Most bytes of the tasks of one job of a schedule, for the same reason.
pub const MAX_SCHEDULED_BYTES: u64 = 256 * 1024;

/// How many times the jobs that a schedule made are kept; older ones are
/// removed, if they are over.
pub const KEPT_COPIES: u64 = 100;

/// Longest expression of a schedule, and longest name of a time zone.
pub const MAX_SCHEDULE_TEXT: usize = 200;

/// Largest limit of a task's time, in percent of what others took.
pub const MAX_TIMEOUT_PERCENT: u32 = 1_000_000;

/// Largest weight of a user's share.
pub const MAX_WEIGHT: u32 = 1_000;

/// Most processor time of one task: the largest machine there is, generously.
pub const MAX_CPU_MILLI: u32 = 4_096_000;

/// Longest time that one task may run.
pub const MAX_TIMEOUT: Duration = Duration::from_hours(24 * 365);
