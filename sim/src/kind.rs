//! The kinds of node that a run can be made of.

use std::fmt;
use std::str::FromStr;

use crate::bare::Bare;
use crate::job::{Job, Report, run_job};
use crate::meshed::Meshed;
use crate::scenario::Scenario;
use crate::whole::Whole;

/// What runs as a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Log, state store, transport and replication with a small machine.
    Bare,
    /// Everything that the product runs, up to the database.
    Whole,
    /// Mostly bare nodes, some seeds with whole ones.
    Both,
}

impl Kind {
    /// What runs when nothing else is asked for.
    pub const DEFAULT: Self = Self::Both;
    const ALL: [Self; 3] = [Self::Bare, Self::Whole, Self::Both];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Whole => "whole",
            Self::Both => "both",
        }
    }

    /// The kind of `seed`'s nodes. Scenarios take turns, too: blocks have one
    /// seed of each.
    #[must_use]
    pub fn of_seed(self, seed: u64) -> Self {
        match self {
            // Whole nodes cost several times more: a quarter of the seeds, and
            // not those whose turn is `membership`, the dearest scenario.
            Self::Both if seed / 4 % 4 == 3 && seed % 4 != 3 => Self::Whole,
            Self::Both => Self::Bare,
            one => one,
        }
    }

    /// Runs one seed.
    #[must_use]
    pub fn run(self, job: &Job) -> Report {
        if job.scenario == Scenario::Messages {
            return run_job(job, Meshed::default);
        }
        if job.scenario == Scenario::Jobs {
            return run_job(job, Whole::that_execute);
        }
        match self.of_seed(job.seed) {
            Self::Bare => run_job(job, || Bare),
            Self::Whole | Self::Both => run_job(job, Whole::default),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let names = Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| format!("no kind of node {text:?}; there are: {names}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything in the report, over the content of every frame.
    fn repeats(kind: Kind, scenario: Scenario, seed: u64) {
        let job = Job { seed, scenario, print: false };
        let (first, second) = (kind.run(&job), kind.run(&job));
        assert_eq!(first.result.as_ref().map(|_| ()), Ok(()));
        assert_eq!(first, second);
        assert_ne!(first.trace_hash, kind.run(&Job { seed: seed + 1, ..job }).trace_hash);
    }

    #[test]
    fn a_seed_of_bare_nodes_runs_the_same_way_twice() {
        repeats(Kind::Bare, Scenario::Register, 3);
        repeats(Kind::Bare, Scenario::Membership, 3);
    }

    #[test]
    fn a_seed_of_whole_nodes_runs_the_same_way_twice() {
        repeats(Kind::Whole, Scenario::Register, 3);
    }

    #[test]
    fn a_seed_of_nodes_that_execute_runs_the_same_way_twice() {
        repeats(Kind::Bare, Scenario::Jobs, 3);
    }

    #[test]
    fn a_seed_of_meshed_nodes_runs_the_same_way_twice() {
        repeats(Kind::Bare, Scenario::Messages, 3);
    }
}
