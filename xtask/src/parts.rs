//! `cargo xtask test`: every test of the project, part after part, with one
//! plain total at the end. A part that cannot run has failed.

use std::time::Instant;

use crate::command::Trouble;
use crate::conformance::Conformance;

pub(crate) mod clients;
pub(crate) mod crates;
mod demo;
mod durability;
mod faults;
pub(crate) mod lint;
mod pressure;
pub(crate) mod simulator;
mod tidy;

/// How many checks of a part held, and what to read when some did not.
#[derive(Debug, Default)]
pub(crate) struct Count {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) report: String,
}

impl Count {
    /// One check.
    pub(crate) fn one(held: bool, report: impl Into<String>) -> Self {
        Self { passed: u64::from(held), failed: u64::from(!held), report: report.into() }
    }

    /// Adds the checks of another.
    pub(crate) fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        if !other.report.is_empty() {
            self.report.push_str(&other.report);
            self.report.push('\n');
        }
    }
}

/// One part of the tests.
pub(crate) trait Part {
    /// What `cargo xtask test NAME` calls it.
    fn name(&self) -> &'static str;
    /// Whether it runs when no part is named.
    fn always(&self) -> bool {
        true
    }
    /// Runs it; an error is one failure.
    fn run(&self) -> Result<Count, Trouble>;
}

/// Every part, quickest to fail first.
fn all() -> Vec<Box<dyn Part>> {
    vec![
        Box::new(tidy::Tidy),
        Box::new(lint::Lint),
        Box::new(crates::Crates),
        Box::new(simulator::Simulator),
        Box::new(simulator::Planted),
        Box::new(clients::Clients),
        Box::new(Conformance),
        Box::new(durability::Durability),
        Box::new(faults::Faults),
        Box::new(pressure::Pressure),
        Box::new(demo::Demo),
    ]
}

/// Names of all parts, for the command line.
pub(crate) fn names() -> Vec<&'static str> {
    all().iter().map(|part| part.name()).collect()
}

/// Runs the parts named (all when none is) and prints the total.
pub(crate) fn run(wanted: &[String]) -> bool {
    let mut total = Count::default();
    let mut summary = Vec::new();
    for part in all() {
        let named = wanted.iter().any(|name| name == part.name());
        if !(named || wanted.is_empty() && part.always()) {
            continue;
        }
        println!("== {}", part.name());
        let start = Instant::now();
        let count = part.run().unwrap_or_else(|trouble| Count::one(false, trouble.to_string()));
        if !count.report.is_empty() {
            println!("{}", count.report.trim_end());
        }
        let seconds = start.elapsed().as_secs();
        summary.push(format!(
            "{:<12} {:>6} passed {:>4} failed {seconds:>6} s",
            part.name(),
            count.passed,
            count.failed
        ));
        total.add(&Count { report: String::new(), ..count });
    }
    println!("== summary");
    for line in summary {
        println!("{line}");
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    total.failed == 0 && total.passed > 0
}

#[cfg(test)]
mod tests {
    use super::{Count, names};

    #[test]
    fn counts_add_up() {
        let mut total = Count::one(true, "");
        total.add(&Count::one(false, "why"));
        assert_eq!((total.passed, total.failed, total.report.as_str()), (1, 1, "why\n"));
    }

    #[test]
    fn parts_have_distinct_names() {
        let distinct: std::collections::BTreeSet<_> = names().into_iter().collect();
        assert_eq!(distinct.len(), names().len());
    }
}
