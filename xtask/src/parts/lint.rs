//! Formatting and clippy, warnings denied.

use std::time::Duration;

use crate::command::{Trouble, cargo, run};
use crate::parts::{Count, Part};

pub(super) struct Lint;

impl Part for Lint {
    fn name(&self) -> &'static str {
        "lint"
    }

    fn run(&self) -> Result<Count, Trouble> {
        let mut total = formatting()?;
        total.add(&clippy()?);
        Ok(total)
    }
}

/// `cargo fmt --check`, over everything.
pub(crate) fn formatting() -> Result<Count, Trouble> {
    let finished = run(&mut cargo(&["fmt", "--all", "--check"]), Duration::from_mins(5))?;
    let report = if finished.success {
        String::new()
    } else {
        format!("{}\nrun `cargo xtask fix`", finished.tail(40))
    };
    Ok(Count::one(finished.success, report))
}

/// Clippy over everything, tests included.
pub(crate) fn clippy() -> Result<Count, Trouble> {
    let arguments = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"];
    let finished = run(&mut cargo(&arguments), Duration::from_mins(30))?;
    let report = if finished.success { String::new() } else { finished.tail(120) };
    Ok(Count::one(finished.success, report))
}
