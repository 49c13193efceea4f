//! `cargo xtask accept compute`: what jobs promise, one line each. Each topic
//! has a file with a table of its own.
//!
//! | file | promises |
//! |---|---|
//! | [`suites`] | others' suites: `concurrent.futures`, joblib, scikit-learn, dask |
//! | [`faults`] | kill, pause and cut at every state of a task; simulated and planted |
//! | [`speed`] | side by side with Ray, Dask, Celery, pools, parallel and xargs |
//! | [`memory`] | of client and nodes while many tasks are submitted |
//! | [`plan`] | predictions, simulated and real; backups |
//! | [`abuse`] | tasks and inputs that go wrong: a clear error, others unaffected |
//! | [`isolation`] | what a task cannot read, limits, its token |
//! | [`words`] | the command line and the demo |
//! | [`engines`] | existing engines as guests |

use std::time::Duration;

use super::{Experiment, Line};
use crate::command::{Trouble, cargo, run};
use crate::parts::crates;

mod abuse;
mod engines;
mod faults;
mod isolation;
mod memory;
mod plan;
mod speed;
mod suites;
mod words;

/// The topics in the order in which they are printed.
pub(super) const COMPUTE: [&[Experiment]; 9] = [
    suites::EXPERIMENTS,
    faults::EXPERIMENTS,
    speed::EXPERIMENTS,
    memory::EXPERIMENTS,
    plan::EXPERIMENTS,
    abuse::EXPERIMENTS,
    isolation::EXPERIMENTS,
    words::EXPERIMENTS,
    engines::EXPERIMENTS,
];

type Run = fn() -> Result<Vec<Line>, Trouble>;

const fn short(name: &'static str, run: Run) -> Experiment {
    Experiment { name, long: false, run }
}

/// How long the tests of one promise may take.
const TESTS_LIMIT: Duration = Duration::from_mins(15);

/// A promise that tests of the binary show: those whose name holds `filter`.
fn tested(promise: &str, binary: &str, filter: &str) -> Result<Line, Trouble> {
    let mut tests = cargo(&["test", "--quiet", "--package", "trine", "--test", binary, filter]);
    let finished = run(&mut tests, TESTS_LIMIT)?;
    let count = crates::counted(&finished);
    if count.passed + count.failed == 0 {
        return Ok(Line::not_run(promise, format!("no test of {binary} is called so ({filter})")));
    }
    let figure = format!("{} passed, {} failed ({binary}: {filter})", count.passed, count.failed);
    Ok(Line::of(count.failed == 0, promise, figure))
}

/// Promises that nothing shows yet, each with why.
#[expect(clippy::unnecessary_wraps, reason = "the shape of an experiment")]
fn unshown(lines: &[(&str, &str)]) -> Result<Vec<Line>, Trouble> {
    Ok(lines.iter().map(|(name, why)| Line::not_run(name, *why)).collect())
}
