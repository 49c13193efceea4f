//! Planted bugs: the simulator switches one on to prove that it would catch
//! it; see [`trine_types::planted`].

pub use trine_types::planted::active;

/// A second result of a task is committed, too.
pub const RESULT_COMMITTED_TWICE: &str = "result-committed-twice";
