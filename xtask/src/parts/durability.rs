//! A traced majority: no acknowledgement before the fdatasync that covers it.

use crate::command::Trouble;
use crate::durability::{EXPECTED, observe};
use crate::parts::{Count, Part};

pub(super) struct Durability;

impl Part for Durability {
    fn name(&self) -> &'static str {
        "durability"
    }

    fn run(&self) -> Result<Count, Trouble> {
        let verdict = observe()?;
        let mut report = format!(
            "{} of {EXPECTED} acknowledgements traced, {} early",
            verdict.acknowledged,
            verdict.early.len()
        );
        for line in verdict.early.iter().take(10) {
            report.push_str("\n  ");
            report.push_str(line);
        }
        Ok(Count::one(verdict.acknowledged == EXPECTED && verdict.early.is_empty(), report))
    }
}
