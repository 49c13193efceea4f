//! What one member believes of another, and which of two beliefs wins. The
//! order is total, so that members which heard the same beliefs, in whatever
//! order and however often, end with the same one.

use serde::{Deserialize, Serialize};

/// One stretch of a member's existence during which it has not contradicted
/// anybody. Only the member itself begins a new one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Life {
    /// How often its process was started (its incarnation in `meta`).
    pub start: u64,
    /// How often this process has refuted that it is gone.
    pub refuted: u32,
}

/// How a member is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub enum State {
    /// It answers.
    #[default]
    Alive,
    /// Somebody got no answer; it has a while to contradict.
    Suspect,
    /// It did not contradict in time.
    Failed,
    /// It said goodbye.
    Left,
}

impl State {
    /// Whether messages to it make sense.
    #[must_use]
    pub const fn is_present(self) -> bool {
        matches!(self, Self::Alive | Self::Suspect)
    }

    /// The state's name for people and programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Failed => "failed",
            Self::Left => "left",
        }
    }
}

/// A state of one life. Compared by life first: a newer life wins over
/// anything that was said about an older one; in one life the later state of
/// [`State`] wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Belief {
    /// Which life.
    pub life: Life,
    /// How the member is in it.
    pub state: State,
}

impl Belief {
    /// The belief that a member is alive.
    #[must_use]
    pub const fn alive(life: Life) -> Self {
        Self { life, state: State::Alive }
    }

    /// The same life in another state.
    #[must_use]
    pub const fn with(self, state: State) -> Self {
        Self { life: self.life, state }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspicion_holds_until_its_member_contradicts() {
        let first = Life { start: 1, refuted: 0 };
        let alive = Belief::alive(first);
        let suspect = alive.with(State::Suspect);
        assert!(suspect > alive);
        assert!(Belief::alive(Life { refuted: 1, ..first }) > suspect.with(State::Failed));
        assert!(Belief::alive(Life { start: 2, refuted: 0 }) > suspect.with(State::Left));
    }
}
