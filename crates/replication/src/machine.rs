//! The seam between replication and the room that owns a group: the room
//! brings a [`Machine`], replication runs it on every replica in the same
//! order with the same [`Stamp`], so that all replicas reach the same state.

use std::sync::Arc;

use bytes::Bytes;
use trine_storage::{Keyspace, Transaction, View};

/// What the leader decided for one batch of commands. A machine takes time and
/// chance from here and from nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// State time: milliseconds since the Unix epoch, the larger of the
    /// previous state time and the leader's clock. Never goes back.
    pub time_ms: u64,
    /// A seed that is fresh for each command and equal on all replicas.
    pub seed: u64,
    /// Which version of the rules to run: the feature level at the leader.
    pub semantics: u16,
}

/// The two times that a read sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadTime {
    /// State time of the view that is read: what has passed for the group.
    pub state_ms: u64,
    /// The leader's clock, never less than `state_ms`.
    pub wall_ms: u64,
}

/// What a read found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The reply, in the machine's own encoding.
    Reply(Bytes),
    /// The reply depends on whether this moment (milliseconds since the epoch,
    /// after `state_ms` and not after `wall_ms`) has passed for the group. The
    /// leader commits a tick that makes it so, then asks again. A machine
    /// never decides that by `wall_ms` itself, since the next leader's clock
    /// may be behind.
    NeedsTime(u64),
}

/// The rules of the room that owns a group. Pure: the same calls in the same
/// order give the same rows and replies on every replica.
///
/// Keys that start with byte `0x00` belong to replication; a machine uses keys
/// that start with `0x01..=0xff`.
pub trait Machine: Send + Sync + 'static {
    /// Executes one command and returns the reply for whoever proposed it.
    /// Bad input is answered with an error reply, never with a panic: a panic
    /// here would stop all replicas.
    fn apply(&self, tx: &mut Transaction<'_>, stamp: &Stamp, command: &[u8]) -> Bytes;

    /// Reads a consistent view. At the leader the view contains everything
    /// that was acknowledged before the query arrived.
    fn query(&self, view: &dyn View, time: ReadTime, query: &[u8]) -> Answer;

    /// Called on this replica after the entries up to `index` (or a snapshot
    /// of them) are visible in `state`; also once when the replica opens.
    /// Local: nothing that it does may influence `apply`. Must be short.
    fn applied(&self, state: &Arc<dyn Keyspace>, index: u64) {
        let _ = (state, index);
    }
}
