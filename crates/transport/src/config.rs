//! Settings of this room, each with its unit, its default and its trade-off.

use std::time::Duration;

/// How an [`crate::Endpoint`] dials, waits and bounds itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointConfig {
    /// Longest attempt to open a connection (1 s). Calls made meanwhile wait
    /// for it, so that a dead address costs them this at most.
    pub dial_timeout: Duration,
    /// Pause after the first failed attempt (20 ms); doubled per failure.
    /// Calls during the pause fail at once.
    pub backoff_min: Duration,
    /// Longest pause (500 ms): how late a returned peer is noticed at worst.
    pub backoff_max: Duration,
    /// A connection that lived this long (1 s) forgives earlier failures.
    pub settled_after: Duration,
    /// Calls without an answer per peer and lane (65,536); more are refused
    /// with `Busy`.
    pub max_calls: usize,
    /// Bytes of calls per peer and lane (64 MiB) that wait because the send
    /// queue is full or the connection is not up yet; more get `Busy`.
    pub max_waiting_bytes: usize,
    /// Handlers running at once per incoming connection (4,096); when reached,
    /// the connection is not read until one ends.
    pub max_running: usize,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            dial_timeout: Duration::from_secs(1),
            backoff_min: Duration::from_millis(20),
            backoff_max: Duration::from_millis(500),
            settled_after: Duration::from_secs(1),
            max_calls: 65_536,
            max_waiting_bytes: 64 * 1024 * 1024,
            max_running: 4096,
        }
    }
}
