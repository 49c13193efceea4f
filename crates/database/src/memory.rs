//! Partitions in memory: the twin of the seam to replication, for tests and
//! for measuring the front door alone. One copy of everything, no log.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use trine_storage::{Keyspace, OrderedStore, StateError, StateStore, Transaction};
use trine_types::Clock;

use crate::error::Refusal;
use crate::groups::{Answered, Groups, PartitionReply, Timing};
use crate::machine::{self, Read};
use crate::space::Now;

struct Partition {
    state: Arc<dyn Keyspace>,
    time_ms: u64,
}

/// See the module.
pub struct MemoryGroups {
    // Commands execute in the call itself, which several tasks make.
    partitions: Vec<Mutex<Partition>>,
    clock: Arc<dyn Clock>,
}

impl MemoryGroups {
    /// `partitions` empty partitions.
    ///
    /// # Errors
    /// [`StateError`], though a map in memory has no reason to.
    pub fn new(partitions: u16, clock: Arc<dyn Clock>) -> Result<Self, StateError> {
        let store = OrderedStore::new(1);
        let open = |partition: u16| {
            let state = store.keyspace(&format!("partition-{partition}"))?;
            Ok(Mutex::new(Partition { state, time_ms: 0 }))
        };
        Ok(Self { partitions: (0..partitions).map(open).collect::<Result<_, StateError>>()?, clock })
    }

    fn apply(&self, partition: u16, proposal: &[u8]) -> Result<Bytes, StateError> {
        let mut partition = self.lock(partition);
        partition.time_ms = partition.time_ms.max(self.clock.wall_ms());
        let view = partition.state.view();
        let mut tx = Transaction::new(&*view);
        let reply = machine::apply(&mut tx, partition.time_ms, proposal);
        partition.state.commit(tx.into_batch()?.0)?;
        Ok(reply)
    }

    fn read(&self, partition: u16, query: &[u8]) -> Bytes {
        let mut partition = self.lock(partition);
        loop {
            let now = Now { state_ms: partition.time_ms, wall_ms: self.clock.wall_ms() };
            match machine::query(&*partition.state.view(), now, query) {
                Read::Reply(reply) => return reply,
                Read::NeedsTime(at_ms) => partition.time_ms = at_ms,
            }
        }
    }

    fn lock(&self, partition: u16) -> std::sync::MutexGuard<'_, Partition> {
        self.partitions[usize::from(partition)].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn answered(body: Bytes) -> Answered {
    Answered { body, timing: Timing::default() }
}

impl Groups for MemoryGroups {
    fn propose(&self, partition: u16, proposal: Bytes) -> BoxFuture<'static, PartitionReply> {
        let reply = self.apply(partition, &proposal).map(answered);
        std::future::ready(reply.map_err(|error| Refusal::Down(error.to_string()))).boxed()
    }

    fn query(&self, partition: u16, query: Bytes) -> BoxFuture<'static, PartitionReply> {
        std::future::ready(Ok(answered(self.read(partition, &query)))).boxed()
    }

    fn query_local(&self, partition: u16, query: Bytes) -> BoxFuture<'static, Option<Bytes>> {
        std::future::ready(Some(self.read(partition, &query))).boxed()
    }

    fn led(&self) -> Vec<u16> {
        (0..u16::try_from(self.partitions.len()).unwrap_or(u16::MAX)).collect()
    }
}
