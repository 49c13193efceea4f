//! Partitions on replication: the machine that replication runs for each of
//! them, and the way from a command to a group.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use trine_replication::{Answer, Machine, ProposeError, QueryError, ReadTime, Replication, Stamp};
use trine_storage::{Transaction, View};
use trine_types::{GroupId, NodeNumber};

use crate::error::Refusal;
use crate::groups::{Answered, Groups, PartitionReply, Timing};
use crate::machine::{self, Read};
use crate::slots::Partitions;
use crate::space::Now;

/// The machine of a database partition. It has no state of its own.
struct PartitionMachine;

/// The machine of every database partition.
pub fn partition_machine() -> Arc<dyn Machine> {
    Arc::new(PartitionMachine)
}

impl Machine for PartitionMachine {
    fn apply(&self, tx: &mut Transaction<'_>, stamp: &Stamp, command: &[u8]) -> Bytes {
        machine::apply(tx, stamp.time_ms, command)
    }

    fn query(&self, view: &dyn View, time: ReadTime, query: &[u8]) -> Answer {
        match machine::query(view, Now { state_ms: time.state_ms, wall_ms: time.wall_ms }, query) {
            Read::Reply(reply) => Answer::Reply(reply),
            Read::NeedsTime(at_ms) => Answer::NeedsTime(at_ms),
        }
    }
}

/// The partitions behind this node's replication.
#[derive(Clone)]
pub struct ReplicatedGroups {
    replication: Replication,
    me: NodeNumber,
    partitions: Partitions,
}

impl ReplicatedGroups {
    /// `partitions` groups, as `me` reaches them.
    pub fn new(replication: Replication, me: NodeNumber, partitions: u16) -> Self {
        Self { replication, me, partitions: Partitions::new(partitions) }
    }
}

impl Groups for ReplicatedGroups {
    fn propose(&self, partition: u16, proposal: Bytes) -> BoxFuture<'static, PartitionReply> {
        let reply = self.replication.propose(GroupId::partition(partition), proposal);
        async move { reply.await.map(answered).map_err(|error| refused_proposal(&error)) }.boxed()
    }

    fn query(&self, partition: u16, query: Bytes) -> BoxFuture<'static, PartitionReply> {
        let reply = self.replication.query(GroupId::partition(partition), query);
        async move { reply.await.map(answered).map_err(|error| refused_query(&error)) }.boxed()
    }

    fn query_local(&self, partition: u16, query: Bytes) -> BoxFuture<'static, Option<Bytes>> {
        let reply = self.replication.query_local(GroupId::partition(partition), &query);
        std::future::ready(reply.ok()).boxed()
    }

    fn led(&self) -> Vec<u16> {
        let leads =
            |partition: &u16| self.replication.leader(GroupId::partition(*partition)) == Some(self.me);
        self.partitions.all().filter(leads).collect()
    }
}

fn answered(reply: trine_replication::Reply) -> Answered {
    let timing = Timing {
        total: reply.timing.total,
        processing: reply.timing.processing,
        forwarded: reply.timing.forwarded,
    };
    Answered { body: reply.body, timing }
}

fn refused_proposal(error: &ProposeError) -> Refusal {
    match error {
        ProposeError::Overloaded(_) => Refusal::TryAgain(format!("{error}; nothing was executed")),
        ProposeError::TooLarge(_) => Refusal::TooLarge("the command is larger than 17 MiB"),
        ProposeError::Unavailable(_) => Refusal::Down(error.to_string()),
        ProposeError::OutcomeUnknown(group) => Refusal::Unknown(format!("no reply came from {group}")),
        ProposeError::ShutDown => Refusal::Unknown("this node is shutting down".into()),
    }
}

fn refused_query(error: &QueryError) -> Refusal {
    match error {
        QueryError::Unavailable(_) => Refusal::Down(error.to_string()),
        QueryError::Overloaded(_)
        | QueryError::NoReplica(_)
        | QueryError::NeedsTime
        | QueryError::Storage(_)
        | QueryError::ShutDown => Refusal::TryAgain(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_says_whether_something_was_executed() {
        let group = GroupId::partition(3);
        let text = |refusal: Refusal| refusal.to_string();
        let unknown = text(refused_proposal(&ProposeError::OutcomeUnknown(group)));
        assert!(
            unknown.starts_with("UNKNOWN outcome: ") && unknown.ends_with("may or may not have happened")
        );
        let down = text(refused_proposal(&ProposeError::Unavailable(group)));
        assert!(down.starts_with("CLUSTERDOWN ") && down.contains("nothing was executed"), "{down}");
        let again = text(refused_proposal(&ProposeError::Overloaded(group)));
        assert!(again.starts_with("TRYAGAIN ") && again.contains("nothing was executed"), "{again}");
        assert!(text(refused_query(&QueryError::Unavailable(group))).starts_with("CLUSTERDOWN "));
    }
}
