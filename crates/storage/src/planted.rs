//! Planted bugs: the simulator switches one on to prove that it would catch
//! it; see [`trine_types::planted`].

pub use trine_types::planted::active;

/// Callbacks of the log are called before the sync that covers them.
pub const ACK_BEFORE_SYNC: &str = "ack-before-sync";
