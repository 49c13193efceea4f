//! [`Replication`]: what other rooms hold.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver as _;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use trine_storage::StateError;
use trine_types::limits::MAX_COMMAND_BYTES;
use trine_types::{GroupId, NodeId, NodeNumber};

use crate::apply::AppliedRow;
use crate::engine::runtime::seed_process;
use crate::error::{ChangeError, GroupError, ProposeError, QueryError, StartError};
use crate::groups;
use crate::machine::{Answer, Machine, ReadTime};
use crate::node::{Hint, Node, Parts};
use crate::replica::Replicas;
use crate::run::front::{FrontEvent, Waiter};
use crate::run::reader::{Ask, Asker};
use crate::run::{liveness, maintenance, members, server};
use crate::status::{GroupStatus, status_of};

/// The reply to a proposal or a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// What the machine answered.
    pub body: Bytes,
    /// Where the time went.
    pub timing: Timing,
}

/// Where the time of one operation went, measured on this node's monotonic
/// clock. Passing = `total` - `processing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timing {
    /// From the call to the reply.
    pub total: Duration,
    /// At the node that leads the group, as it reported; the whole of `total`
    /// if that is this node. Never more than `total`.
    pub processing: Duration,
    /// Whether another node leads the group.
    pub forwarded: bool,
}

/// Replication on one node: its replicas, and the way to every group from
/// here. Cheap to clone; callable from any runtime.
#[derive(Clone)]
pub struct Replication {
    node: Arc<Node>,
    stop: Arc<watch::Sender<bool>>,
}

impl Replication {
    /// Starts replication; its tasks run on the current tokio runtime until
    /// [`Replication::shutdown`]. No replica is opened yet.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(parts: Parts) -> Result<Self, StartError> {
        let valid = parts.config.clone().validate()?;
        seed_process(&*parts.entropy);
        let state = parts.state.clone();
        let opened = parts.workers.run(move || Replicas::open(state)).await;
        let opened = opened.map_err(|error| StartError::Storage(error.to_string()))?;
        let replicas = opened.map_err(|error| StartError::Storage(error.to_string()))?;
        let node = Node::new(parts, valid, replicas);
        let stop = Arc::new(watch::Sender::new(false));
        server::serve(&node);
        node.runtime.spawn(liveness::run(node.clone(), stop.subscribe()));
        node.runtime.spawn(maintenance::run(node.clone(), stop.subscribe()));
        Ok(Self { node, stop })
    }

    /// Runs work on replication's own runtime, where openraft's tasks belong.
    async fn on_runtime<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, GroupError> {
        self.node.runtime.spawn(work).await.map_err(|_| GroupError::ShutDown)
    }

    /// Starts this node's replica of `group`, or does nothing if it runs. A
    /// new replica is empty and no member: a leader adds it, or
    /// [`Replication::initialize`] begins the group. Continues if the caller
    /// is dropped.
    ///
    /// # Errors
    /// [`GroupError::Aside`], [`GroupError::Storage`], [`GroupError::Stopped`].
    pub async fn open_group(&self, group: GroupId, machine: Arc<dyn Machine>) -> Result<(), GroupError> {
        self.on_runtime(groups::open(self.node.clone(), group, machine)).await?
    }

    /// Begins a new group: writes its first entry, which names `members`, into
    /// this node's replica. Once in a group's life, on one node; the members
    /// need the same call or nothing at all.
    ///
    /// # Errors
    /// [`GroupError::AlreadyInitialized`], [`GroupError::NoReplica`].
    pub async fn initialize(
        &self,
        group: GroupId,
        members: BTreeMap<NodeNumber, NodeId>,
    ) -> Result<(), GroupError> {
        self.on_runtime(groups::initialize(self.node.clone(), group, members)).await?
    }

    /// Stops this node's replica; its log and state stay. Does nothing if it
    /// does not run.
    ///
    /// # Errors
    /// [`GroupError::ShutDown`].
    pub async fn close_group(&self, group: GroupId) -> Result<(), GroupError> {
        self.on_runtime(groups::close(self.node.clone(), group)).await
    }

    /// Stops this node's replica and deletes its log and state, for a replica
    /// that is no member any more. Irreversible.
    ///
    /// # Errors
    /// [`GroupError::Storage`]; call again.
    pub async fn destroy_group(&self, group: GroupId) -> Result<(), GroupError> {
        self.on_runtime(groups::destroy(self.node.clone(), group)).await?
    }

    /// Brings `command` to the group's leader, wherever that is, and returns
    /// the machine's reply once the command is on a majority's disks and
    /// executed. It is executed at most once, however often it has to be sent;
    /// proposals of one node to one group are executed in the order of the
    /// calls. The order is fixed when this function returns, not when the
    /// future is polled; dropping the future abandons only the reply.
    ///
    /// # Errors
    /// [`ProposeError`].
    pub fn propose(
        &self,
        group: GroupId,
        command: Bytes,
    ) -> impl Future<Output = Result<Reply, ProposeError>> + Send + 'static {
        let (reply, answer) = oneshot::channel();
        let taken = if command.len() > MAX_COMMAND_BYTES {
            Err(ProposeError::TooLarge(command.len()))
        } else if *self.stop.borrow() {
            Err(ProposeError::ShutDown)
        } else {
            let waiter = Waiter { reply, since: Instant::now() };
            let route = self.node.route(group);
            let event = FrontEvent::Propose { command, waiter };
            if route.front.try_send(event) { Ok(()) } else { Err(ProposeError::Overloaded(group)) }
        };
        async move {
            taken?;
            answer.await.unwrap_or(Err(ProposeError::ShutDown))
        }
    }

    /// Brings `query` to the group's leader and returns the machine's answer,
    /// which reflects every proposal that was acknowledged anywhere before
    /// this call (linearizable).
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn query(
        &self,
        group: GroupId,
        query: Bytes,
    ) -> impl Future<Output = Result<Reply, QueryError>> + Send + 'static {
        let (reply, answer) = oneshot::channel();
        let taken = if *self.stop.borrow() {
            Err(QueryError::ShutDown)
        } else {
            let ask = Ask { queries: vec![query], asker: Asker::Here(reply), since: Instant::now() };
            let taken = self.node.route(group).reader.try_send(ask);
            if taken { Ok(()) } else { Err(QueryError::Overloaded(group)) }
        };
        async move {
            taken?;
            answer.await.unwrap_or(Err(QueryError::ShutDown))
        }
    }

    /// Asks this node's own replica, which may be behind. Blocks for a read of
    /// the state store.
    ///
    /// # Errors
    /// [`QueryError::NoReplica`], [`QueryError::NeedsTime`],
    /// [`QueryError::Storage`].
    pub fn query_local(&self, group: GroupId, query: &[u8]) -> Result<Bytes, QueryError> {
        let local = self.node.local(group).ok_or(QueryError::NoReplica(group))?;
        let view = local.replica.keyspace().view();
        let row = AppliedRow::read(&*view).map_err(|error| QueryError::Storage(error.to_string()))?;
        let time = ReadTime { state_ms: row.time_ms, wall_ms: row.time_ms };
        match local.machine.query(&*view, time, query) {
            Answer::Reply(reply) => Ok(reply),
            Answer::NeedsTime(_) => Err(QueryError::NeedsTime),
        }
    }

    /// Says where the replicas of a group are, for nodes that have none.
    pub fn hint(&self, group: GroupId, leader: Option<NodeNumber>, members: Vec<NodeNumber>) {
        let hint = Hint { leader, members };
        self.node.route(group).hint.send_if_modified(|known| {
            let changed = *known != hint;
            if changed {
                *known = hint;
            }
            changed
        });
    }

    /// Says who is who: every node of the cluster, with its key.
    pub fn peers(&self, peers: BTreeMap<NodeNumber, NodeId>) {
        let mut peers = peers;
        peers.insert(self.node.number, self.node.endpoint.local());
        self.node.peers.send_replace(Arc::new(peers));
    }

    /// Every local replica.
    pub fn status(&self) -> Vec<GroupStatus> {
        self.node.locals().iter().map(|(group, local)| status_of(&self.node, *group, local)).collect()
    }

    /// The local replica of one group.
    pub fn group_status(&self, group: GroupId) -> Option<GroupStatus> {
        self.node.local(group).map(|local| status_of(&self.node, group, &local))
    }

    /// The index of the last entry whose effect is in the local replica's
    /// state, as it grows; `None` if there is no local replica.
    pub fn watch(&self, group: GroupId) -> Option<watch::Receiver<u64>> {
        self.node.local(group).map(|local| local.replica.watch_index())
    }

    /// Makes `voters` and `learners` the members of the group; call it at the
    /// leader. New voters listen first and are voters once they have caught
    /// up; members in neither map are removed at the end. Calling it again
    /// with the same arguments goes on where it stopped.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn change_members(
        &self,
        group: GroupId,
        voters: BTreeMap<NodeNumber, NodeId>,
        learners: BTreeMap<NodeNumber, NodeId>,
    ) -> Result<(), ChangeError> {
        self.on_runtime(members::change_members(self.node.clone(), group, voters, learners)).await?
    }

    /// Hands the group's leadership to another voter and waits until it leads
    /// (Ongaro's thesis, §3.10); call it at the leader.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn transfer_leader(&self, group: GroupId, to: NodeNumber) -> Result<(), ChangeError> {
        self.on_runtime(members::transfer_leader(self.node.clone(), group, to)).await?
    }

    /// Hands every leadership of this node over, as far as that is possible
    /// within `deadline`: before a planned stop.
    pub async fn hand_over_all(&self, deadline: Duration) {
        // An error: the runtime is going down, and with it all leaderships.
        let _ = self.on_runtime(members::hand_over_all(self.node.clone(), deadline)).await;
    }

    /// Disaster: a majority of the group is lost for good. Makes the surviving
    /// members the whole group, starting from this node's log: choose the
    /// survivor whose last log index is largest, and call it there only.
    /// Acknowledged commands that only the lost nodes had are gone.
    ///
    /// # Errors
    /// [`GroupError`]. After an error the replica is closed: open it again.
    pub async fn recover_without(
        &self,
        group: GroupId,
        lost: &BTreeSet<NodeNumber>,
    ) -> Result<(), GroupError> {
        self.on_runtime(groups::recover_without(self.node.clone(), group, lost.clone())).await?
    }

    /// Resolves, with the reason, once the state store has failed under a
    /// replica, which has stopped then: the node must stop, too. State is
    /// rebuilt from the log at the next start. Never resolves otherwise.
    pub fn failed(&self) -> impl Future<Output = StateError> + Send + 'static {
        self.node.replicas.failed()
    }

    /// Nodes that this node shares groups with and has not heard of lately.
    pub fn suspects(&self) -> watch::Receiver<BTreeSet<NodeNumber>> {
        self.node.boards.liveness.suspects.subscribe()
    }

    /// Nodes that this node shares groups with and whose syncs take far longer
    /// than its own: they should not be made leaders.
    pub fn slow_disks(&self) -> BTreeSet<NodeNumber> {
        self.node.boards.liveness.slow_disks(&self.node)
    }

    /// Stops every replica and task. Calls that wait fail with `ShutDown`.
    pub async fn shutdown(&self) {
        self.stop.send_replace(true);
        let node = self.node.clone();
        // An error: the runtime is gone, and everything with it.
        let _ = self
            .on_runtime(async move {
                for local in node.close_routes() {
                    // An error: it had stopped before.
                    let _ = local.raft.shutdown().await;
                }
            })
            .await;
    }

    /// Whether a leader of the group is known to this node's replica.
    pub fn leader(&self, group: GroupId) -> Option<NodeNumber> {
        let local = self.node.local(group)?;
        let metrics = local.raft.server_metrics();
        let leader = metrics.borrow_watched().current_leader;
        leader.map(NodeNumber)
    }
}
