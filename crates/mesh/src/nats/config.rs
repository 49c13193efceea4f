//! Settings of a door, with what each costs.

use std::time::Duration;

use super::parser::MAX_CONTROL_LINE;
use crate::message::MAX_MESSAGE_BYTES;

/// Largest message unless told otherwise, as in nats-server.
pub const DEFAULT_MAX_PAYLOAD: usize = 1024 * 1024;

/// Bounds of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Headers and payload of a message, in bytes. Default 1 MiB. Larger ones
    /// make everybody behind them wait longer.
    pub max_payload: usize,
    /// A line before the payload, in bytes. Default 4096.
    pub max_control_line: usize,
    /// Subscriptions of one connection. Default 250,000: each costs some
    /// hundred bytes on this node and on every other.
    pub max_subscriptions: usize,
    /// Silence after which a client is asked for a sign of life. Default two
    /// minutes. Shorter finds dead ones sooner and wakes idle ones more often.
    pub ping_interval: Duration,
    /// Unanswered questions after which it is cut off. Default 2.
    pub pings_out: u32,
    /// Longest wait for credentials. Default 2 seconds.
    pub auth_timeout: Duration,
    /// How long nobody is cut off in lame duck mode. Default 10 seconds.
    pub lame_duck_grace: Duration,
    /// Over how long connections are closed then. Default two minutes; a
    /// crowd that reconnects at once is a load for the other nodes.
    pub lame_duck_duration: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_payload: DEFAULT_MAX_PAYLOAD,
            max_control_line: MAX_CONTROL_LINE,
            max_subscriptions: 250_000,
            ping_interval: Duration::from_mins(2),
            pings_out: 2,
            auth_timeout: Duration::from_secs(2),
            lame_duck_grace: Duration::from_secs(10),
            lame_duck_duration: Duration::from_mins(2),
        }
    }
}

/// A setting that is not allowed. Nothing was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A message must fit into a frame between nodes.
    #[error("max_payload must be 1 to {MAX_MESSAGE_BYTES} bytes")]
    MaxPayload,
    /// CONNECT must fit, and a line is held in memory for each connection.
    #[error("max_control_line must be 512 to 65536 bytes")]
    MaxControlLine,
    /// Zero would cut everybody off at once.
    #[error("ping_interval must be at least 100 ms and ping_max at least 1")]
    Ping,
}

/// Settings that were checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidConfig(Config);

impl Config {
    /// Checks every setting.
    ///
    /// # Errors
    /// The first that is not allowed.
    pub fn validate(self) -> Result<ValidConfig, ConfigError> {
        if !(1..=MAX_MESSAGE_BYTES).contains(&self.max_payload) {
            return Err(ConfigError::MaxPayload);
        }
        if !(512..=65_536).contains(&self.max_control_line) {
            return Err(ConfigError::MaxControlLine);
        }
        if self.ping_interval < Duration::from_millis(100) || self.pings_out == 0 {
            return Err(ConfigError::Ping);
        }
        Ok(ValidConfig(self))
    }
}

impl std::ops::Deref for ValidConfig {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Config, ConfigError};

    #[test]
    fn bad_settings_are_named() {
        assert!(Config::default().validate().is_ok());
        let of = |config: Config| config.validate().expect_err("not allowed");
        assert_eq!(of(Config { max_payload: 0, ..Config::default() }), ConfigError::MaxPayload);
        assert_eq!(of(Config { max_control_line: 10, ..Config::default() }), ConfigError::MaxControlLine);
        assert_eq!(of(Config { ping_interval: Duration::ZERO, ..Config::default() }), ConfigError::Ping);
    }
}
