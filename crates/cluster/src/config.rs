//! Settings of this room. Every field has a unit, a default and a trade-off.

use std::time::Duration;

use crate::controller::Pace;

/// Longest life of a certificate: revocations are remembered for longer.
pub const MAX_CERTIFICATE_LIFE: Duration = Duration::from_hours(365 * 24);

/// Settings as written; [`ClusterConfig::validate`] makes them usable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// How long a certificate is valid (90 days). It is renewed when a third
    /// is left; a node that is off for longer needs a ticket to come back.
    pub certificate_life: Duration,
    /// How often a node compares what it does with what `meta` says, when
    /// nothing else wakes it (200 ms). Shorter notices changes of leadership
    /// sooner and costs idle CPU.
    pub look_every: Duration,
    /// How long one call to another node may take (2 s).
    pub call_timeout: Duration,
    /// A node that does not answer for longer loses what waits for it (5 s).
    /// Shorter frees growth sooner, longer survives long pauses.
    pub give_up_after: Duration,
    /// Groups that may gain replicas at once (8): a young cluster is complete
    /// within seconds.
    pub growing: usize,
    /// Groups that may move at once (2): users should not notice.
    pub moving: usize,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            certificate_life: Duration::from_hours(90 * 24),
            look_every: Duration::from_millis(200),
            call_timeout: Duration::from_secs(2),
            give_up_after: Duration::from_secs(5),
            growing: 8,
            moving: 2,
        }
    }
}

/// A setting is out of its bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{field} must be {bounds}")]
pub struct BadSetting {
    /// Which field.
    pub field: &'static str,
    /// What it may be.
    pub bounds: &'static str,
}

/// Settings within their bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    config: ClusterConfig,
}

impl ClusterConfig {
    /// Checks the bounds.
    ///
    /// # Errors
    /// The first field that is out of its bounds.
    pub fn validate(self) -> Result<Settings, BadSetting> {
        let check = |ok: bool, field, bounds| if ok { Ok(()) } else { Err(BadSetting { field, bounds }) };
        let life = Duration::from_mins(1)..=MAX_CERTIFICATE_LIFE;
        check(life.contains(&self.certificate_life), "certificate_life", "1 minute to 365 days")?;
        let look = Duration::from_millis(10)..=Duration::from_secs(5);
        check(look.contains(&self.look_every), "look_every", "10 ms to 5 s")?;
        let call = Duration::from_millis(50)..=Duration::from_mins(1);
        check(call.contains(&self.call_timeout), "call_timeout", "50 ms to 60 s")?;
        check(self.give_up_after >= Duration::from_secs(1), "give_up_after", "at least 1 s")?;
        check((1..=64).contains(&self.growing), "growing", "1 to 64")?;
        check((1..=64).contains(&self.moving), "moving", "1 to 64")?;
        Ok(Settings { config: self })
    }
}

impl Settings {
    /// The values.
    pub fn values(&self) -> &ClusterConfig {
        &self.config
    }

    /// How many groups may change at once.
    pub fn pace(&self) -> Pace {
        Pace { growing: self.config.growing, moving: self.config.moving }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_bounds_are_named() {
        assert!(ClusterConfig::default().validate().is_ok());
        let wrong = ClusterConfig { moving: 0, ..ClusterConfig::default() };
        assert_eq!(wrong.validate().expect_err("none at once").to_string(), "moving must be 1 to 64");
    }
}
