//! Bounds that several rooms must agree on. A bound that only one room knows
//! lives in that room; every bound has a name, a unit and a reason.

use std::time::Duration;

/// Largest value (and largest argument) of a database command, in bytes.
pub const MAX_VALUE_BYTES: usize = 16 * 1024 * 1024;

/// Largest command after encoding: a value, its key, its options.
pub const MAX_COMMAND_BYTES: usize = MAX_VALUE_BYTES + 1024 * 1024;

/// Largest frame between nodes, in bytes: one command and its envelope.
pub const MAX_FRAME_BYTES: usize = MAX_COMMAND_BYTES + 64 * 1024;

/// Largest cluster that Trine is built for.
pub const MAX_NODES: usize = 50;

/// Pause between two liveness exchanges of a pair of nodes.
pub const LIVENESS_INTERVAL: Duration = Duration::from_millis(50);

/// Shortest and longest election timeout of a group.
pub const ELECTION_TIMEOUT_MIN: Duration = Duration::from_millis(200);
/// See [`ELECTION_TIMEOUT_MIN`].
pub const ELECTION_TIMEOUT_MAX: Duration = Duration::from_millis(400);

/// A group without work for this long parks its ticker.
pub const HIBERNATE_AFTER: Duration = Duration::from_secs(2);

/// A node whose wall clock is further off its peers' may not lead.
pub const MAX_CLOCK_SKEW: Duration = Duration::from_millis(500);
