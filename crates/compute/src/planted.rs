//! Planted bugs: the simulator switches one on to prove that it would catch
//! it; see [`trine_types::planted`].

pub use trine_types::planted::active;

/// A master forgets the ranges after a job's first.
pub const RANGE_LOST: &str = "range-lost";

/// The master commits the result of an attempt that it had given up.
pub const STALE_ATTEMPT_COUNTS: &str = "stale-attempt-counts";

/// A second result of a task is committed, too.
pub const RESULT_COMMITTED_TWICE: &str = "result-committed-twice";
