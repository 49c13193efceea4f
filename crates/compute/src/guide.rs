//! Where the master is, as far as this node knows: what the local replica of
//! group `jobs` says, else what another node answered, else the nodes that
//! should have replicas, in turn.

use std::sync::Arc;

use tokio::sync::watch;
use trine_cluster::MetaState;
use trine_replication::Replication;
use trine_types::{GroupId, NodeId, NodeNumber};

/// See the module.
pub(crate) struct Guide {
    replication: Replication,
    meta: watch::Receiver<Arc<MetaState>>,
    learned: Option<NodeNumber>,
    /// Counts failures, to go through the replicas in turn.
    turn: usize,
}

impl Guide {
    pub(crate) fn new(replication: Replication, meta: watch::Receiver<Arc<MetaState>>) -> Self {
        Self { replication, meta, learned: None, turn: 0 }
    }

    /// Who to ask now.
    pub(crate) fn target(&self) -> Option<(NodeNumber, NodeId)> {
        let meta = self.meta.borrow();
        let here = self.replication.leader(GroupId::JOBS).filter(|_| self.turn == 0);
        let replicas = meta.replicas_of(GroupId::JOBS);
        let in_turn = || replicas.get(self.turn % replicas.len().max(1)).copied();
        let number = self.learned.or(here).or_else(in_turn)?;
        meta.nodes.get(&number).map(|node| (number, node.id))
    }

    /// The node answered as the master.
    pub(crate) fn confirmed(&mut self, asked: NodeNumber) {
        (self.learned, self.turn) = (Some(asked), 0);
    }

    /// The node is not the master; perhaps it knows who is.
    pub(crate) fn not_master(&mut self, asked: NodeNumber, leader: Option<NodeNumber>) {
        match leader.filter(|leader| *leader != asked) {
            Some(leader) => self.learned = Some(leader),
            None => self.failed(asked),
        }
    }

    /// The node did not answer.
    pub(crate) fn failed(&mut self, asked: NodeNumber) {
        if self.learned == Some(asked) {
            self.learned = None;
        }
        self.turn = self.turn.wrapping_add(1);
    }
}
