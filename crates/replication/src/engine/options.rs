//! Every option of openraft, set on purpose. A default that changes upstream
//! changes nothing here.

use openraft::{Config, SnapshotPolicy, StepDownPolicy};
use trine_types::limits::{ELECTION_TIMEOUT_MAX, ELECTION_TIMEOUT_MIN};
use trine_types::{GroupId, NodeNumber};

use crate::config::ValidConfig;
use crate::error::StartError;

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The options of one group's replica.
pub(crate) fn options(group: GroupId, node: NodeNumber, config: &ValidConfig) -> Result<Config, StartError> {
    #[allow(deprecated)] // listed so that the struct is spelled out in full
    let options = Config {
        cluster_name: format!("{group}@{node}"),
        // A follower's lease is the maximum; both bound how long a dead leader
        // is missed (about lease + timeout) and how much CPU starvation a live
        // one survives.
        election_timeout_min: millis(ELECTION_TIMEOUT_MIN),
        election_timeout_max: millis(ELECTION_TIMEOUT_MAX),
        // Eight chances to renew the lease.
        heartbeat_interval: millis(config.heartbeat),
        // Suppressing heartbeats under load would save little and, with the
        // 25 ms grid, eat into the lease.
        heartbeat_min_interval: Some(0),
        // Unused: snapshots are streamed by our own network with a deadline
        // for each chunk.
        install_snapshot_timeout: millis(config.chunk_deadline),
        send_snapshot_timeout: 0,
        snapshot_max_chunk_size: 1 << 20,
        // Bounded in bytes by the log reader; this only bounds the count.
        max_payload_entries: 1024,
        max_append_entries: Some(1024),
        // A follower further behind than this gets a snapshot if the leader
        // has purged; a lag alone is served from the log.
        replication_lag_threshold: u64::MAX / 2,
        // Snapshots are views, taken when the log is purged or a follower
        // needs one; and the log is purged only behind flushed state, which
        // openraft cannot know. Both are triggered by our maintenance task.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        purge_batch_size: 1,
        // Bounds of openraft's own queues. The proposer keeps few batches in
        // flight, so that these stay nearly empty.
        api_channel_size: Some(1024),
        api_batch_capacity: 64,
        notification_channel_size: Some(4096),
        state_machine_channel_size: Some(1024),
        log_stage_capacity: None,
        // The proposer batches, adaptively and without a fixed delay.
        api_batch_linger_ms: 0,
        // Followers get entries while the leader's own disk still syncs.
        broadcast_submitted_on_append: Some(true),
        // Parked and unparked at run time by the liveness task.
        enable_tick: true,
        enable_heartbeat: true,
        enable_elect: true,
        // A leader that was removed keeps answering until others know, then
        // hands over.
        removed_leader_step_down: StepDownPolicy::After(150),
        // A leader without a quorum refuses writes by its lease; it keeps
        // trying to reach the others.
        quorum_loss_probe_interval: None,
        // A node that was cut off must not depose a healthy leader on return.
        enable_pre_vote: Some(true),
        // After a break: retry soon, back off to one second.
        backoff: "50ms 100ms 200ms ...1s".to_string(),
        reset_backoff_on_transfer_leader: Some(true),
        // A follower whose log went back has lost acknowledged entries: never
        // paper over it.
        allow_log_reversion: Some(false),
        // A restarted leader's state may be older than what it acknowledged;
        // it must be elected again, which commits its log first.
        enable_leader_restore: Some(crate::planted::active(crate::planted::LEADER_RESTORE_ON)),
    };
    options.validate().map_err(|error| StartError::Options(error.to_string()))
}
