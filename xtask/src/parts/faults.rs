//! Real faults, the short version: each kind twice. `accept ground` has twenty.

use std::fmt::Write as _;
use std::time::Duration;

use crate::command::Trouble;
use crate::faults::{Fault, tasks, trials};
use crate::parts::{Count, Part};

const TRIALS: usize = 2;

/// What a lost worker executed, another one does within this time. `accept
/// compute` has two seconds, on a quiet machine.
const ELSEWHERE: Duration = Duration::from_secs(4);

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
        total.add(&of_tasks());
        Ok(total)
    }
}

/// Worker, master and client of jobs are struck while tasks run, and once when
/// their results have not arrived.
fn of_tasks() -> Count {
    let seen = match tasks::short() {
        Ok(seen) => seen,
        Err(trouble) => return Count::one(false, format!("jobs: {trouble}")),
    };
    let mut total = Count::default();
    for seen in seen {
        let late = seen.elsewhere.filter(|elsewhere| *elsewhere > ELSEWHERE);
        let mut report = format!("jobs, {}: executed elsewhere after {:?}", seen.name(), seen.elsewhere);
        for line in seen.wrong.iter().chain(&seen.left) {
            let _ = write!(report, "\n  {line}");
        }
        total.add(&Count::one(seen.wrong.is_empty() && seen.left.is_empty() && late.is_none(), report));
    }
    total
}
