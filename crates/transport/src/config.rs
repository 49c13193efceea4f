//! Settings of this room, each with its unit, its default and its trade-off.

use std::net::SocketAddr;
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
    /// Longest pause (200 ms). A peer that returns is noticed after what is
    /// left of an attempt ([`TlsConfig::connect_timeout`], whose SYN was lost)
    /// and one pause, in the worst case: Linux may take a second before that
    /// until a link that is up again carries anything, and interest of other
    /// nodes is to be right after two. Longer would dial a dead peer less
    /// often than three times in two seconds.
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
            backoff_max: Duration::from_millis(200),
            settled_after: Duration::from_secs(1),
            max_calls: 65_536,
            max_waiting_bytes: 64 * 1024 * 1024,
            max_running: 4096,
        }
    }
}

/// How a [`crate::TlsTransport`] listens, how long it waits, and how many
/// strangers it bears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// Where to listen for nodes and joiners. Port 0: any free one.
    pub listen: SocketAddr,
    /// Longest TCP connect to one address (500 ms).
    pub connect_timeout: Duration,
    /// Longest handshake with greetings, either side (2 s).
    pub handshake_timeout: Duration,
    /// A peer that acknowledges nothing for this long is dead (3 s). Shorter
    /// notices a cut cable sooner, and mistakes a stalled host for one.
    pub dead_after: Duration,
    /// Strangers' handshakes at once (512); the oldest goes for the newest.
    pub max_handshakes: usize,
    /// The same per source address (256).
    pub max_handshakes_per_source: usize,
    /// What one connection of the bulk lane may send, in bytes per second
    /// (128 MiB), so that a snapshot leaves room for everything else.
    pub bulk_bytes_per_second: u64,
    /// Machines joining at once (16); more are asked to try again.
    pub max_joins: usize,
    /// The same per source address (4).
    pub max_joins_per_source: usize,
    /// Longest decision about a joiner (15 s): it is a write to the cluster.
    pub join_timeout: Duration,
}

impl TlsConfig {
    /// The defaults, listening at `listen`.
    #[must_use]
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            connect_timeout: Duration::from_millis(500),
            handshake_timeout: Duration::from_secs(2),
            dead_after: Duration::from_secs(3),
            max_handshakes: 512,
            max_handshakes_per_source: 256,
            bulk_bytes_per_second: 128 * 1024 * 1024,
            max_joins: 16,
            max_joins_per_source: 4,
            join_timeout: Duration::from_secs(15),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_returns_is_dialled_again_well_within_a_second() {
        let tls = TlsConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)));
        let endpoint = EndpointConfig::default();
        assert!(tls.connect_timeout <= endpoint.dial_timeout);
        assert!(tls.connect_timeout + endpoint.backoff_max <= Duration::from_millis(750));
    }
}
