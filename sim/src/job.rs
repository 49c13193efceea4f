//! One seed: run on a thread of its own (fresh thread-locals), panics caught,
//! everything worth knowing in one report.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::failure::{Failure, Property};
use crate::history::Tally;
use crate::scenario::Scenario;
use crate::scenario::phases::Summary;
use crate::scenario::run::run;
use crate::system::System;
use crate::trace;
use crate::world::{Blows, World};

/// Stack of a seed's thread: unoptimised futures are large.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The seed.
    pub seed: u64,
    /// The scenario.
    pub scenario: Scenario,
    /// Print every event.
    pub print: bool,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The scenario.
    pub scenario: Scenario,
    /// Hash over everything that happened.
    pub trace_hash: u64,
    /// How many events that were.
    pub events: u64,
    /// Virtual time, in milliseconds.
    pub virtual_ms: u64,
    /// How clients' operations ended.
    pub tally: Tally,
    /// What was done to the nodes.
    pub blows: Blows,
    /// The verdict.
    pub result: Result<Summary, Failure>,
    /// The latest events.
    pub recent: Vec<String>,
}

thread_local! {
    static FIRST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Panics are kept for the report instead of printed, where a thread outlives
/// them.
fn keep_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if trace::place().is_empty() {
                return before(info); // not a thread of the simulator
            }
            if cfg!(panic = "abort") {
                // Nothing will be left to write the report.
                return before(info);
            }
            FIRST_PANIC.with(|first| {
                let mut first = first.borrow_mut();
                if first.is_none() {
                    *first = Some(format!("at {}: {info}", trace::place()));
                }
            });
        }));
    });
}

/// Whether anything has panicked in this thread's world.
pub(crate) fn panicked() -> bool {
    FIRST_PANIC.with(|first| first.borrow().is_some())
}

/// Runs `job` in a world of nodes of the kind that `make` makes.
pub fn run_job<S: System>(job: &Job, make: impl FnOnce() -> S + Send + 'static) -> Report {
    keep_panics();
    let job = job.clone();
    let thread = std::thread::Builder::new()
        .name(format!("{} {}", job.scenario, job.seed))
        .stack_size(STACK_BYTES)
        .spawn(move || run_here(&job, make()))
        .expect("the machine can start one more thread");
    thread.join().expect("run_here catches panics")
}

fn run_here<S: System>(job: &Job, system: S) -> Report {
    trace::set_place(0, format_args!("start"));
    let mut world = World::new(job.seed, system, job.print);
    let result = catch_unwind(AssertUnwindSafe(|| run(job.scenario, &mut world)));
    let result = result.unwrap_or_else(|_| {
        let panic = FIRST_PANIC.with(|first| first.borrow_mut().take());
        Err(world.failure(Property::NoPanic, panic.unwrap_or_else(|| "a panic".to_owned())))
    });
    if result.is_err() {
        world.note_replicas();
    }
    let report = Report {
        seed: job.seed,
        scenario: job.scenario,
        trace_hash: world.trace.hash(),
        events: world.trace.events(),
        virtual_ms: world.time.now_ms(),
        tally: world.history.tally(),
        blows: world.blows,
        result,
        recent: world.trace.recent(),
    };
    // After a panic, what is dropped may panic again.
    let _ = catch_unwind(AssertUnwindSafe(move || drop(world)));
    report
}
