//! Who runs what, and when: the master's soft state as a pure machine. No IO
//! and no clock: the master tells it what happened and when, and does what it
//! answers. The simulator drives the same code under virtual time.
//!
//! What it promises, checked against a model over random orders of events:
//! 1. No task is lost: each one is waiting, running, or over.
//! 2. At most one [`Next::Commit`] or give-up per task, whatever is late,
//!    repeated or out of order.
//! 3. No worker is granted more than its slots, nor more than it has free.
//! 4. A higher priority goes first; within one, the user with the smallest
//!    dominant share by weight; within a user, the oldest job, from its first
//!    task on.
//! 5. Memory grows with ranges and with what runs, not with what waits.
//!
//! How the master uses it:
//! - After an election: a fresh [`Scheduler`], every job and its open tasks
//!   from the log, then [`Scheduler::take_over`] with the nodes that may still
//!   run something. Until they have all told ([`Scheduler::running`]), or a
//!   grace period is over, what was there before is not granted.
//! - A worker registers ([`Scheduler::worker_up`]) and tells what it holds
//!   again and again; each sign of life renews its lease. It first sends
//!   results that were not taken yet, then what it holds.
//! - [`Next::Commit`] and [`Next::GiveUp`] are said once: the master proposes
//!   the result until it is in the log or until it is no longer the master.
//! - After each event it takes the [`Action`]s, and calls
//!   [`Scheduler::tick`] every [`TICK`].
//!
//! | file | what |
//! |---|---|
//! | [`facts`] | the words: slots, grants, verdicts, actions, bounds |
//! | [`scheduler`] | the machine: jobs, pulls, results |
//! | [`recovery`] | workers that register, announce, are lost; a change of master |
//! | [`late`] | stragglers and their backup attempts |
//! | [`share`] | who is next: priorities, fair share, order of arrival |
//! | [`turns`] | large tasks that small ones leave no room for |
//! | [`job`], [`workers`] | what is known of a job and of the workers |
//! | [`ranges`], [`runtimes`] | sets of indexes as ranges; a distribution in constant space |

pub mod facts;
pub mod job;
pub mod late;
pub mod ranges;
pub mod recovery;
pub mod runtimes;
pub mod scheduler;
pub mod share;
pub mod turns;
pub mod workers;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod story_tests;

pub use facts::{
    Action, Config, Grant, Held, JobFacts, MAX_LOSSES, Next, Past, Progress, Slots, TICK, Verdict, Why,
};
pub use scheduler::Scheduler;
