//! The demo on a small input: the very command of the README, with its own
//! checks of every byte.

use std::time::Duration;

use crate::command::{Trouble, command, product, run};
use crate::parts::{Count, Part};

pub(super) struct Demo;

impl Part for Demo {
    fn name(&self) -> &'static str {
        "demo"
    }

    fn run(&self) -> Result<Count, Trouble> {
        let trine = product()?;
        let arguments = ["demo", "--input", "crates", "--max-files", "300", "--load", "3"];
        let finished = run(&mut command(trine, &arguments), Duration::from_mins(5))?;
        let report = finished.tail(if finished.success { 25 } else { 80 });
        Ok(Count::one(finished.success, report))
    }
}
