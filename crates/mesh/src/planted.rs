//! Planted bugs: the simulator switches one on to prove that it would catch
//! it; see [`trine_types::planted`].

pub use trine_types::planted::active;

/// A group's message goes to a member at another node though one here took it.
pub const GROUP_SERVED_TWICE: &str = "group-served-twice";

/// A flow that broke goes on telling changes, as if the other node had heard
/// what was lost.
pub const INTEREST_NOT_RETOLD: &str = "interest-not-retold";

/// What waits for another node leaves newest first.
pub const NEWEST_MESSAGE_FIRST: &str = "newest-message-first";
