//! Finding a group's leader: what the local replica knows, else what another
//! node answered, else the nodes that are said to have replicas, in turn.

use std::sync::Arc;

use openraft::async_runtime::WatchReceiver as _;
use tokio::sync::watch;
use trine_types::{GroupId, NodeId, NodeNumber};

use crate::engine::Types;
use crate::node::{Hint, Local, Node};

type ServerMetrics = openraft::metrics::RaftServerMetrics<Types>;
type ServerWatch = openraft::alias::WatchReceiverOf<Types, ServerMetrics>;

/// Who to ask.
#[derive(Clone)]
pub(crate) enum Target {
    /// This node leads.
    Here(Arc<Local>),
    /// That node is said to lead.
    There(NodeNumber, NodeId),
    /// Nobody is known: wait.
    Nobody,
}

impl Target {
    pub(crate) fn number(&self, me: NodeNumber) -> Option<NodeNumber> {
        match self {
            Self::Here(_) => Some(me),
            Self::There(number, _) => Some(*number),
            Self::Nobody => None,
        }
    }
}

/// See the module.
pub(crate) struct Finder {
    node: Arc<Node>,
    local: watch::Receiver<Option<Arc<Local>>>,
    metrics: Option<ServerWatch>,
    hint: watch::Receiver<Hint>,
    /// Learned from answers; better than the hint, worse than the replica.
    learned: Option<NodeNumber>,
    /// Said that it does not lead; a replica that still believes it does is
    /// behind (or was removed without hearing of it).
    denied: Option<NodeNumber>,
    /// Counts failures, to go through the members in turn.
    turn: usize,
    group: GroupId,
}

impl Finder {
    pub(crate) fn new(
        node: Arc<Node>,
        group: GroupId,
        local: watch::Receiver<Option<Arc<Local>>>,
        hint: watch::Receiver<Hint>,
    ) -> Self {
        Self { node, local, metrics: None, hint, learned: None, denied: None, turn: 0, group }
    }

    pub(crate) fn local(&self) -> Option<Arc<Local>> {
        self.local.borrow().clone()
    }

    /// Waits until what is known about the leader may have changed.
    pub(crate) async fn changed(&mut self) {
        let metrics = &mut self.metrics;
        let metrics_change = async {
            match metrics {
                // An error: the replica has stopped. Others will be found by
                // retries, so wait for another local replica.
                Some(watch) => match watch.changed().await {
                    Ok(()) => {}
                    Err(_) => std::future::pending().await,
                },
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            changed = self.local.changed() => {
                if changed.is_err() {
                    // The route is gone: the task ends with its queue.
                    std::future::pending::<()>().await;
                }
                let local = self.local.borrow_and_update().clone();
                self.metrics = local.map(|local| local.raft.server_metrics());
                self.denied = None;
            }
            () = metrics_change => self.denied = None,
            changed = self.hint.changed() => {
                if changed.is_err() {
                    std::future::pending::<()>().await;
                }
                self.hint.mark_unchanged();
                self.learned = None;
            }
        }
    }

    /// Who to ask now.
    pub(crate) fn target(&mut self) -> Target {
        let mut members = Vec::new();
        if let Some(local) = self.local().filter(|local| local.is_running()) {
            match local.leader() {
                Some(leader) if leader == self.node.number => return Target::Here(local),
                Some(leader) if self.denied == Some(leader) => {}
                Some(leader) => {
                    let key = local.member_key(leader).or_else(|| self.node.key_of(leader));
                    if let Some(key) = key {
                        return Target::There(leader, key);
                    }
                }
                // A member that sees no leader waits for one; a replica that
                // is no member yet (or any more) asks around.
                None if local.member_key(self.node.number).is_some() => return Target::Nobody,
                None => {}
            }
            members = local.members();
        }
        let hint = self.hint.borrow().clone();
        let said = self.learned.or(hint.leader).into_iter().chain(hint.members).chain(members);
        let mut candidates: Vec<NodeNumber> = Vec::new();
        for number in said {
            if number != self.node.number && self.denied != Some(number) && !candidates.contains(&number) {
                candidates.push(number);
            }
        }
        let count = candidates.len().max(1);
        let chosen = candidates.get(self.turn % count).copied();
        chosen
            .and_then(|number| Some(Target::There(number, self.node.key_of(number)?)))
            .unwrap_or(Target::Nobody)
    }

    /// A node answered that it does not lead, and perhaps who does.
    pub(crate) fn not_leader(&mut self, asked: NodeNumber, leader: Option<NodeNumber>) {
        tracing::trace!(group = %self.group, %asked, ?leader, "asked a node that does not lead");
        match leader {
            Some(leader) if leader != asked && self.learned != Some(leader) => {
                self.denied = Some(asked);
                self.learned = Some(leader);
                self.turn = 0;
            }
            _ => self.failed(asked),
        }
    }

    /// A node did not answer.
    pub(crate) fn failed(&mut self, asked: NodeNumber) {
        if self.learned == Some(asked) {
            self.learned = None;
        }
        self.turn = self.turn.wrapping_add(1);
    }
}
