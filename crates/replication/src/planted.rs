//! Planted bugs: the simulator switches one on to prove that it would catch
//! it. They exist only in builds with `cfg(trine_planted)`; in every other
//! build [`active`] is constant `false` and the compiler removes the bug.

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

/// The bugs that this room can be given.
pub const NAMES: &[&str] =
    &[VOTE_NOT_PERSISTED, READ_WITHOUT_QUORUM, DEDUPE_SKIPPED, LEADER_RESTORE_ON, STALE_MEMBERSHIP];

#[cfg(trine_planted)]
mod chosen {
    use std::sync::{PoisonError, RwLock};

    static CHOSEN: RwLock<Option<String>> = RwLock::new(None);

    /// Switches the bug `name` on, and every other off; `None` switches all
    /// off. For the whole process.
    pub fn set(name: Option<&str>) {
        *CHOSEN.write().unwrap_or_else(PoisonError::into_inner) = name.map(str::to_owned);
    }

    /// Whether the bug `name` is switched on.
    pub fn active(name: &str) -> bool {
        CHOSEN.read().unwrap_or_else(PoisonError::into_inner).as_deref() == Some(name)
    }
}

#[cfg(trine_planted)]
pub use chosen::{active, set};

/// Switches nothing on: this build has no planted bugs.
#[cfg(not(trine_planted))]
pub fn set(_name: Option<&str>) {}

/// Always `false`: this build has no planted bugs.
#[cfg(not(trine_planted))]
pub const fn active(_name: &str) -> bool {
    false
}
