//! What the database can be given to decide by.

use std::time::Duration;

/// Settings of the database on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Number of partitions, fixed when the cluster is created.
    pub partitions: u16,
    /// Connections at the same time, as CONFIG shows it; the listener counts.
    pub max_clients: usize,
    /// Port, as INFO and CONFIG show it.
    pub port: u16,
    /// Commands of one connection that are in flight at the same time. More
    /// hide more latency of a pipelining client and cost memory.
    pub commands_in_flight: usize,
    /// Pause between two looks for keys that are due. Shorter frees memory
    /// sooner; what clients see does not depend on it.
    pub sweep_interval: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            partitions: 16,
            max_clients: 10_000,
            port: 6379,
            commands_in_flight: 1024,
            sweep_interval: Duration::from_millis(300),
        }
    }
}
