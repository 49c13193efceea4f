//! Lifeguard's local health (arXiv 1707.00788, section IV-A): a member whose
//! probes fail without a reason outside suspects itself first, and gives
//! everybody more time.

/// Worst health: every time is nine times as long.
pub const MAX_SCORE: u32 = 8;

/// How much this member mistrusts itself; 0 is healthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    score: u32,
}

impl Health {
    /// Something went well.
    pub fn good(&mut self) {
        self.score = self.score.saturating_sub(1);
    }

    /// Something went wrong that may be this member's own fault.
    pub fn bad(&mut self, by: u32) {
        self.score = self.score.saturating_add(by).min(MAX_SCORE);
    }

    /// What periods and timeouts of probes are multiplied with.
    #[must_use]
    pub const fn factor(self) -> u32 {
        self.score + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_stays_within_its_bounds() {
        let mut health = Health::default();
        health.good();
        assert_eq!(health.factor(), 1);
        health.bad(100);
        assert_eq!(health.factor(), MAX_SCORE + 1);
        health.good();
        assert_eq!(health.factor(), MAX_SCORE);
    }
}
