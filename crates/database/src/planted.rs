//! Planted bugs: the simulator switches one on to prove that it would catch
//! it; see [`trine_types::planted`].

pub use trine_types::planted::active;

/// A read decides by the leader's clock whether a key has expired.
pub const EXPIRY_BY_LOCAL_CLOCK: &str = "expiry-by-local-clock";
