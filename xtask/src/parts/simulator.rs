//! Whole clusters under seeded faults. A failing seed prints the one command
//! that replays it.

use std::time::Duration;

use crate::command::{Trouble, cargo, run};
use crate::parts::{Count, Part};

const SEEDS: &str = "200";

pub(super) struct Simulator;

impl Part for Simulator {
    fn name(&self) -> &'static str {
        "sim"
    }

    fn run(&self) -> Result<Count, Trouble> {
        let arguments = ["run", "--quiet", "--package", "sim", "--", "--seeds", SEEDS];
        let finished = run(&mut cargo(&arguments), Duration::from_mins(20))?;
        let report = finished.tail(if finished.success { 12 } else { 80 });
        Ok(Count::one(finished.success, report))
    }
}
