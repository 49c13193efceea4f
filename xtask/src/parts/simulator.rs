//! Whole clusters under seeded faults. A failing seed prints the one command
//! that replays it.

use std::time::Duration;

use crate::command::{Trouble, cargo, run};
use crate::parts::{Count, Part};

/// About a minute on two cores; `cargo run -p sim -- --seeds N` runs more.
const SEEDS: &str = "200";

pub(super) struct Simulator;

impl Part for Simulator {
    fn name(&self) -> &'static str {
        "sim"
    }

    fn run(&self) -> Result<Count, Trouble> {
        seeds(SEEDS)
    }
}

/// Do all seeds pass?
pub(crate) fn seeds(count: &str) -> Result<Count, Trouble> {
    let arguments = ["run", "--quiet", "--package", "sim", "--", "--seeds", count];
    let finished = run(&mut cargo(&arguments), Duration::from_mins(20))?;
    let report = finished.tail(if finished.success { 12 } else { 80 });
    Ok(Count::one(finished.success, report))
}

/// Bugs planted on purpose: each must be caught, and the same seeds pass
/// without it. Needs a build of its own, so it runs only when it is named.
pub(super) struct Planted;

impl Part for Planted {
    fn name(&self) -> &'static str {
        "planted"
    }

    fn always(&self) -> bool {
        false
    }

    fn run(&self) -> Result<Count, Trouble> {
        planted()
    }
}

/// Are all planted bugs caught?
pub(crate) fn planted() -> Result<Count, Trouble> {
    let arguments = ["run", "--quiet", "--package", "sim", "--", "planted"];
    let finished = run(&mut cargo(&arguments), Duration::from_hours(1))?;
    Ok(Count::one(finished.success, finished.tail(60)))
}
