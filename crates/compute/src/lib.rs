//! Master-worker: a user submits jobs, the master assigns their tasks, a worker
//! on every node executes them, the master collects the results. The time of a
//! task is `T = T_a + T_c`: assignment; execution and return of the result.
//!
//! Invariants:
//! - A job, and each range of its tasks, is in the log of group `jobs` before
//!   its submitter hears of it.
//! - A task runs at least once, unless its job is cancelled; its result is
//!   committed exactly once: the first that the log has counts, whatever is
//!   retried, moved to another worker or told by two masters.
//! - The master is the leader of group `jobs`. What runs where is known to it
//!   alone, and a new one learns it from the workers.
//! - A worker keeps a result until it hears that it is committed.
//! - State is bounded per range of tasks and per result, never per task that
//!   waits.
//!
//! | file | what |
//! |---|---|
//! | [`spec`] | jobs, tasks, outcomes and results, as users and nodes speak of them |
//! | [`amounts`] | named resources of nodes and tasks, counted |
//! | [`limits`] | the bounds of all that |
//! | [`schedule`] | which worker runs what: the master's soft state, pure |
//! | [`python`] | functions on warm interpreters |
//! | [`record`] | tasks and results as clients send and get them |
//! | [`plan`] | how long a job will take on how many nodes, pure |
//! | [`binary`] | bytes within a message, encoded at once |
//! | [`parallel`] | the words of GNU parallel: templates, sources, blocks, logs |
//! | [`command`], [`codec`] | commands, queries, answers, rows and their bytes |
//! | [`state`] | what a command changes |
//! | [`machine`] | the rules as the machine of group `jobs` |
//! | [`calendar`], `due` | schedules: when, and what happens then |
//! | [`messages`] | what workers and the master tell each other |
//! | `master`, `worker` | the rules of both, pure |
//! | [`events`] | what is told of jobs on subjects `_job.…`, pure |
//! | [`body`] | the seam between a worker and what executes a task |
//! | `guide` | where the master is |
//! | [`handle`], [`error`] | [`Compute`], what other rooms hold |
//! | [`blobs`] | large arguments and outputs, wherever they are |
//! | [`launch`] | the processes that start tasks, shut in with them |
//! | [`tokens`] | what tasks log in with at their node |
//! | [`run`] | the tasks: door, master, worker, processes, kept outputs |
//! | [`planted`] | the bugs that the simulator must catch |

pub mod amounts;
pub mod binary;
pub mod blobs;
pub mod body;
pub mod calendar;
pub mod codec;
pub mod command;
mod due;
pub mod error;
pub mod events;
mod guide;
pub mod handle;
pub mod launch;
pub mod limits;
pub mod machine;
mod master;
pub mod messages;
pub mod parallel;
pub mod plan;
pub mod planted;
pub mod python;
pub mod record;
pub mod run;
pub mod schedule;
pub mod spec;
pub mod state;
pub mod tokens;
mod worker;

pub use error::ComputeError;
pub use handle::{Compute, Parts, ResultStream};
pub use spec::{
    Attempt, BodyKind, Halt, HaltOn, JobId, JobSpec, Outcome, Output, Resources, Schedule, Stamps,
    TaskResult, TaskSpec, Waited, When, Work,
};
