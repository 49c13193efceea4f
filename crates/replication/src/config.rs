//! What may be tuned, with units, defaults and trade-offs.

use std::time::Duration;

use trine_types::limits::{ELECTION_TIMEOUT_MIN, LIVENESS_INTERVAL};

use crate::error::StartError;

/// Tuning of replication on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Pause between a leader's heartbeats while its group is awake. Longer
    /// costs less when many groups are awake; must be under half the shortest
    /// election timeout. Default 50 ms.
    pub heartbeat: Duration,
    /// How long a proposal waits for its reply. Default 10 s.
    pub propose_deadline: Duration,
    /// How long a query waits for its reply. Default 10 s.
    pub query_deadline: Duration,
    /// How long one frame to a leader waits before another node is tried.
    /// Shorter finds a new leader sooner when the old one hangs; commands are
    /// then sent twice (and executed once). Default 2 s.
    pub frame_deadline: Duration,
    /// How long an append message may take before its stream is begun anew.
    /// Must cover the largest command on the slowest link. Default 5 s.
    pub append_deadline: Duration,
    /// The same for one chunk of a snapshot; the last one includes the
    /// receiver's flush. Default 30 s.
    pub chunk_deadline: Duration,
    /// Silence after which a node is suspected and its groups look for new
    /// leaders. Shorter fails over sooner and is wrong more often under CPU
    /// starvation. Default 300 ms.
    pub suspect_after: Duration,
    /// Batches of one group, and frames of one link, that are on their way at
    /// once. One makes the fattest, and a round costs more than what it
    /// carries; two keep the disk and the network busy at the same time.
    /// Default 1.
    pub in_flight: usize,
    /// Commands of one group that wait or are on their way from this node.
    /// Default 65,536.
    pub waiting_commands: usize,
    /// Bytes of them. Default 64 MiB.
    pub waiting_bytes: usize,
    /// Log entries a group keeps behind what is applied and flushed, so that
    /// a follower that was away briefly needs no snapshot. Default 4,096.
    pub keep_entries: u64,
    /// Entries since the last purge after which a group is purged.
    /// Default 16,384.
    pub purge_after: u64,
    /// Pause between two looks at whether anything is to be purged.
    /// Default 2 s.
    pub maintenance_interval: Duration,
    /// Entries between two comparisons of the replicas' digests.
    /// Default 10,000.
    pub digest_every: u64,
    /// The version of the machines' rules that this node stamps when it leads.
    /// Default 1.
    pub semantics: u16,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            heartbeat: LIVENESS_INTERVAL,
            propose_deadline: Duration::from_secs(10),
            query_deadline: Duration::from_secs(10),
            frame_deadline: Duration::from_secs(2),
            append_deadline: Duration::from_secs(5),
            chunk_deadline: Duration::from_secs(30),
            suspect_after: Duration::from_millis(300),
            in_flight: 1,
            waiting_commands: 65_536,
            waiting_bytes: 64 << 20,
            keep_entries: 4096,
            purge_after: 16_384,
            maintenance_interval: Duration::from_secs(2),
            digest_every: 10_000,
            semantics: 1,
        }
    }
}

/// A [`Config`] that passed [`Config::validate`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ValidConfig(Config);

impl std::ops::Deref for ValidConfig {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.0
    }
}

impl Config {
    /// Small windows, so that the simulator sees purges and digests often.
    #[must_use]
    pub fn small() -> Self {
        Self { keep_entries: 32, purge_after: 128, digest_every: 200, ..Self::default() }
    }

    pub(crate) fn validate(self) -> Result<ValidConfig, StartError> {
        let refuse = |what: &str| Err(StartError::Options(what.to_string()));
        if self.heartbeat.is_zero() || self.heartbeat * 2 > ELECTION_TIMEOUT_MIN {
            return refuse("heartbeat must be over 0 and at most half the shortest election timeout");
        }
        if self.suspect_after < LIVENESS_INTERVAL * 3 {
            return refuse("suspect_after must be at least three liveness intervals");
        }
        let zero = [self.in_flight, self.waiting_commands, self.waiting_bytes];
        if zero.contains(&0) {
            return refuse("batches and commands in flight must not be 0");
        }
        Ok(ValidConfig(self))
    }
}
