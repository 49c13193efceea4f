//! Scenarios: what clients do while faults strike, and what must hold after.
//! Each runs in the same phases: form a cluster, load under faults, calm,
//! heal, converge, read everything back, judge the history.

pub mod load;
pub mod phases;
pub mod run;

use std::fmt;
use std::str::FromStr;

/// What the clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scenario {
    /// Reads, writes, compare-and-set and deletion on few keys; linearizable.
    Register,
    /// Increments: exactly once.
    Counter,
    /// Leaders die again and again; service comes back in time.
    Failover,
    /// Nodes come, go and are replaced while clients write.
    Membership,
    /// Programs publish, subscribe, ask and answer on all nodes.
    Messages,
    /// Clients submit jobs, cancel some and read results; workers execute.
    Jobs,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Register, Self::Counter, Self::Failover, Self::Membership, Self::Messages, Self::Jobs];

    /// Those that need nothing but the store, and take turns, seed by seed.
    pub const OF_THE_STORE: [Self; 4] = [Self::Register, Self::Counter, Self::Failover, Self::Membership];

    /// Of this many seeds, the last one is about messages, and the middle one
    /// about jobs.
    const TURN: u64 = 10;

    /// The scenario of `seed` in a run over all scenarios.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        match seed % Self::TURN {
            turn if turn == Self::TURN - 1 => Self::Messages,
            turn if turn == Self::TURN / 2 => Self::Jobs,
            _ => Self::OF_THE_STORE[usize::try_from(seed % 4).unwrap_or(0)],
        }
    }

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Counter => "counter",
            Self::Failover => "failover",
            Self::Membership => "membership",
            Self::Messages => "messages",
            Self::Jobs => "jobs",
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let names = Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|scenario| scenario.name() == text);
        found.ok_or_else(|| format!("no scenario {text:?}; there are: {names}"))
    }
}
