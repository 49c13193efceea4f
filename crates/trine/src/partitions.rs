//! The database's partitions as replicated groups: the rules as the machine of
//! each partition's group, and the way to those groups from this node.

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use trine_database::error::Refusal;
use trine_database::groups::PartitionReply;
use trine_database::machine::{self, Read};
use trine_database::space::Now;
use trine_database::{Answered, Groups, Timing};
use trine_replication::{
    Answer, Machine, ProposeError, QueryError, ReadTime, Replication, Reply, Role, Stamp,
};
use trine_storage::{Transaction, View, Workers};
use trine_types::GroupId;

/// The rules of the database as the machine of a partition's group.
#[derive(Debug, Clone, Copy)]
pub struct PartitionMachine;

impl Machine for PartitionMachine {
    fn apply(&self, tx: &mut Transaction<'_>, stamp: &Stamp, command: &[u8]) -> Bytes {
        machine::apply(tx, stamp.time_ms, command)
    }

    fn query(&self, view: &dyn View, time: ReadTime, query: &[u8]) -> Answer {
        let now = Now { state_ms: time.state_ms, wall_ms: time.wall_ms };
        match machine::query(view, now, query) {
            Read::Reply(reply) => Answer::Reply(reply),
            Read::NeedsTime(moment) => Answer::NeedsTime(moment),
        }
    }
}

/// The partitions as this node reaches them.
pub struct ReplicatedPartitions {
    replication: Replication,
    workers: Workers,
}

impl ReplicatedPartitions {
    /// Partitions over `replication`; reads of local replicas run on `workers`.
    pub fn new(replication: Replication, workers: Workers) -> Self {
        Self { replication, workers }
    }
}

impl Groups for ReplicatedPartitions {
    fn propose(&self, partition: u16, proposal: Bytes) -> BoxFuture<'static, PartitionReply> {
        let reply = self.replication.propose(GroupId::partition(partition), proposal);
        async move { reply.await.map(answered).map_err(|error| unproposed(&error)) }.boxed()
    }

    fn query(&self, partition: u16, query: Bytes) -> BoxFuture<'static, PartitionReply> {
        let reply = self.replication.query(GroupId::partition(partition), query);
        async move { reply.await.map(answered).map_err(|error| unanswered(&error)) }.boxed()
    }

    fn query_local(&self, partition: u16, query: Bytes) -> BoxFuture<'static, Option<Bytes>> {
        let (replication, workers) = (self.replication.clone(), self.workers.clone());
        let read = move || replication.query_local(GroupId::partition(partition), &query).ok();
        async move { workers.run(read).await.ok().flatten() }.boxed()
    }

    fn led(&self) -> Vec<u16> {
        let led = self.replication.status().into_iter().filter(|status| status.role == Role::Leader);
        led.filter_map(|status| status.group.as_partition()).collect()
    }
}

fn answered(reply: Reply) -> Answered {
    let trine_replication::Timing { total, processing, forwarded } = reply.timing;
    Answered { body: reply.body, timing: Timing { total, processing, forwarded } }
}

fn unproposed(error: &ProposeError) -> Refusal {
    match error {
        ProposeError::Overloaded(_) => Refusal::TryAgain(error.to_string()),
        ProposeError::TooLarge(_) => Refusal::TooLarge("the command is too large"),
        ProposeError::Unavailable(_) => Refusal::Down(error.to_string()),
        ProposeError::OutcomeUnknown(_) | ProposeError::ShutDown => Refusal::Unknown(error.to_string()),
    }
}

fn unanswered(error: &QueryError) -> Refusal {
    match error {
        QueryError::Overloaded(_) | QueryError::NeedsTime => Refusal::TryAgain(error.to_string()),
        _ => Refusal::Down(error.to_string()),
    }
}
