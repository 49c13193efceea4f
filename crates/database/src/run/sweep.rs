//! Finding what is due: the leader of a partition proposes to delete keys
//! that have expired and to collect the rows of flushed databases.
//!
//! Only memory and disk depend on it: whether a key has expired is decided by
//! state time when it is looked at.

use std::time::Duration;

use tokio::time::Interval;

use crate::codec;
use crate::handle::Database;
use crate::resp::{Value, decode};
use crate::rules::chores::Chores;

/// Keys deleted by one proposal.
const DUE_KEYS: u32 = 500;

/// Rows collected by one proposal.
const FLUSHED_ROWS: u32 = 2_000;

/// Proposals per partition before the others have their turn.
const ROUNDS: usize = 8;

impl Database {
    /// How often [`Database::sweep`] should look.
    #[must_use]
    pub fn sweep_interval(&self) -> Duration {
        self.config().sweep_interval
    }

    /// Sweeps the partitions that this node leads, at each of `ticks`, until
    /// [`Database::shut_down`].
    pub async fn sweep(self, mut ticks: Interval) {
        let mut shutdown = self.shutdown();
        loop {
            tokio::select! {
                biased;
                _ = shutdown.wait_for(|down| *down) => return,
                _ = ticks.tick() => {}
            }
            for partition in self.groups().led() {
                tokio::select! {
                    biased;
                    _ = shutdown.wait_for(|down| *down) => return,
                    () = self.sweep_partition(partition) => {}
                }
            }
        }
    }

    /// Does what is to be done in one partition now, in bounded steps.
    pub(crate) async fn sweep_partition(&self, partition: u16) {
        let Some(reply) = self.groups().query_local(partition, codec::CHORES).await else { return };
        let Some(chores) = Chores::decode(&reply) else { return };
        if chores.due_ms.is_some_and(|due_ms| due_ms <= self.now_ms()) {
            self.repeat(partition, &codec::delete_due(DUE_KEYS), DUE_KEYS).await;
        }
        if chores.flushed {
            self.repeat(partition, &codec::collect(FLUSHED_ROWS), FLUSHED_ROWS).await;
        }
    }

    /// Proposes the same until a step finds less than it could take.
    async fn repeat(&self, partition: u16, proposal: &bytes::Bytes, full: u32) {
        for _ in 0..ROUNDS {
            let Ok(answered) = self.groups().propose(partition, proposal.clone()).await else { return };
            match decode::value(&answered.body) {
                Some(Value::Integer(taken)) if taken >= i64::from(full) => {}
                _ => return,
            }
        }
    }
}
