//! How a seed fails: which property was violated, when, and what is known.

use std::fmt;

/// A property that must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Property {
    /// At most one leader per term.
    ElectionSafety,
    /// Committed entries at an index are the same everywhere, for ever.
    LogMatching,
    /// A leader's log holds everything committed in earlier terms.
    LeaderCompleteness,
    /// Replicas that applied the same entries have the same state.
    StateMachineSafety,
    /// Term, commit and apply positions of a process never go back.
    Monotonic,
    /// Clients' histories are linearizable.
    Linearizable,
    /// Every increment counts exactly once.
    ExactlyOnce,
    /// After the faults stopped, the cluster serves again in time.
    Heals,
    /// After the faults stopped, all replicas become equal.
    Converges,
    /// No process ends without a fault that explains it.
    NoUnexplainedEnd,
    /// Nothing panics.
    NoPanic,
    /// Clients get answers that fit their questions.
    SaneAnswers,
    /// Messages of one sender reach one receiver in order, each at most once.
    InOrder,
    /// Nodes know what others want, and what is wanted arrives.
    Interest,
    /// What was acknowledged is there: jobs, tasks, results.
    Durable,
    /// What was given up does not count, and does not run on.
    Fenced,
    /// What the scenario itself promises.
    Scenario,
}

/// A violated property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which one.
    pub property: Property,
    /// World time, in milliseconds.
    pub at_ms: u64,
    /// What was seen.
    pub detail: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} violated at {} ms: {}", self.property, self.at_ms, self.detail)
    }
}

/// What invariants and scenarios return: the detail of a violation.
pub type Held = Result<(), (Property, String)>;
