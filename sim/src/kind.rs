//! The kinds of node that a run can be made of.

use std::fmt;
use std::str::FromStr;

use crate::bare::Bare;
use crate::job::{Job, Report, run_job};

/// What runs as a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Log, state store, transport and replication with a small machine.
    Bare,
}

impl Kind {
    /// What runs when nothing else is asked for.
    pub const DEFAULT: Self = Self::Bare;
    const ALL: [Self; 1] = [Self::Bare];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
        }
    }

    /// Runs one seed.
    #[must_use]
    pub fn run(self, job: &Job) -> Report {
        match self {
            Self::Bare => run_job(job, || Bare),
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
