//! Planted bugs: the simulator switches one on to prove that it would catch
//! it; see [`trine_types::planted`].

pub use trine_types::planted::active;

/// A vote is promised without being written down.
pub const VOTE_NOT_PERSISTED: &str = "vote-not-persisted";
/// A leader answers reads without asking a quorum whether it still leads.
pub const READ_WITHOUT_QUORUM: &str = "read-without-quorum";
/// A command that arrives twice is executed twice.
pub const DEDUPE_SKIPPED: &str = "dedupe-skipped";
/// A restarted leader leads on without an election.
pub const LEADER_RESTORE_ON: &str = "leader-restore-on";
/// A follower does not hear of membership changes after its start.
pub const STALE_MEMBERSHIP: &str = "stale-membership";
