//! Real faults, the short version: each kind twice. `accept ground` has twenty.

use std::fmt::Write as _;

use crate::command::Trouble;
use crate::faults::{Fault, trials};
use crate::parts::{Count, Part};

const TRIALS: usize = 2;

pub(super) struct Faults;

impl Part for Faults {
    fn name(&self) -> &'static str {
        "faults"
    }

    fn run(&self) -> Result<Count, Trouble> {
        let mut total = Count::default();
        for fault in Fault::ALL {
            let count = match trials(fault, TRIALS) {
                Ok(verdict) => {
                    let good =
                        verdict.safe() && verdict.wrong_once.is_empty() && verdict.inexact(fault).is_empty();
                    let mut report = format!(
                        "{}: {} acknowledged, {} lost, longest time without writes {:?}",
                        fault.name(),
                        verdict.acknowledged,
                        verdict.lost,
                        verdict.worst()
                    );
                    for line in
                        verdict.wrong_counters.iter().chain(verdict.inexact(fault)).chain(&verdict.wrong_once)
                    {
                        let _ = write!(report, "\n  {line}");
                    }
                    Count::one(good, report)
                }
                Err(trouble) => Count::one(false, format!("{}: {trouble}", fault.name())),
            };
            total.add(&count);
        }
        Ok(total)
    }
}
