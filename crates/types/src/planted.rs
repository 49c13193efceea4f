//! Planted bugs: mistakes that the simulator must catch, each compiled into
//! its room under `cfg(trine_planted)` and switched on by name. In every other
//! build [`active`] is constant `false` and the compiler removes the bug.

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
