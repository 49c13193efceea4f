//! What all tasks of replication on one node share: the lower rooms, who is
//! who, and a route per group.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use tokio::runtime::Handle;
use tokio::sync::watch;
use trine_storage::{GroupLog, Wal, Workers};
use trine_transport::Endpoint;
use trine_types::{Clock, Entropy, GroupId, Incarnation, NodeId, NodeNumber};

use crate::config::{Config, ValidConfig};
use crate::engine::acks::{Acks, Question};
use crate::engine::{Raft, Types};
use crate::machine::Machine;
use crate::replica::{Replica, Replicas};
use crate::run::append::AppendStreams;
use crate::run::door::Door;
use crate::run::front::FrontEvent;
use crate::run::liveness::LivenessView;
use crate::run::maintenance::DigestBoard;
use crate::run::reader::Ask;
use crate::run::snapshot::Incoming;

/// What replication stands on, as the binary (or the simulator) gives it.
pub struct Parts {
    /// This node's number.
    pub number: NodeNumber,
    /// How often this node has started. Must grow with every start: commands
    /// of an older incarnation are not executed any more.
    pub incarnation: Incarnation,
    /// Calls to and from other nodes.
    pub endpoint: Endpoint,
    /// The node's log.
    pub wal: Wal,
    /// The node's state store.
    pub state: Arc<dyn trine_storage::StateStore>,
    /// Where blocking work on state runs.
    pub workers: Workers,
    /// Wall-clock time, for stamps and for the clock-skew rule.
    pub clock: Arc<dyn Clock>,
    /// Seeds of stamps.
    pub entropy: Arc<dyn Entropy>,
    /// Tuning.
    pub config: Config,
}

/// Where a group's replicas are, as far as anyone said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hint {
    pub(crate) leader: Option<NodeNumber>,
    pub(crate) members: Vec<NodeNumber>,
}

/// A local replica of a group.
pub(crate) struct Local {
    pub(crate) raft: Raft,
    pub(crate) replica: Arc<Replica>,
    pub(crate) machine: Arc<dyn Machine>,
    pub(crate) log: GroupLog,
    /// What its voters answered, when it leads.
    pub(crate) acks: Arc<Acks>,
    /// Whether its ticker is off.
    pub(crate) parked: AtomicBool,
    /// The term in which it leads and has asked another to take over; 0: none.
    pub(crate) handed_over: AtomicU64,
    // Found for each append message, synchronously and in order of arrival.
    pub(crate) streams: Mutex<AppendStreams>,
    /// The snapshot that is being received.
    pub(crate) incoming: tokio::sync::Mutex<Option<Incoming>>,
}

impl Local {
    /// Who leads, as this replica knows.
    pub(crate) fn leader(&self) -> Option<NodeNumber> {
        self.raft.server_metrics().borrow_watched().current_leader.map(NodeNumber)
    }

    /// Turns the ticker on; a leader also renews its lease, without which it
    /// would refuse writes. Cheap when it is on already.
    pub(crate) async fn wake(&self) {
        if self.parked.swap(false, Ordering::Relaxed) {
            self.raft.runtime_config().tick(true);
            // An error: the replica has stopped.
            let _ = self.raft.trigger().heartbeat().await;
        }
    }

    /// Asks `to` to take over. From then on this leader decides nothing more in
    /// its term, and its node's beats do not vouch for it: should nobody hear
    /// the request, the others replace it as if it were gone.
    ///
    /// # Errors
    /// The replica has stopped.
    pub(crate) async fn hand_over_to(&self, to: NodeNumber) -> Result<(), openraft::errors::Fatal<Types>> {
        self.wake().await;
        let term = self.raft.server_metrics().borrow_watched().vote.leader_id.term;
        self.handed_over.store(term, Ordering::Relaxed);
        self.raft.trigger().transfer_leader(to.0).await
    }

    /// The term that this node leads and goes on leading.
    pub(crate) fn leading_term(&self, me: NodeNumber) -> Option<u64> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let term = metrics.vote.leader_id.term;
        let leads = metrics.current_leader == Some(me.0);
        (leads && self.handed_over.load(Ordering::Relaxed) != term).then_some(term)
    }

    /// What proves to a read that begins now that this node leads.
    pub(crate) fn question(&self) -> Question {
        let began = self.acks.turn();
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        Question {
            me: metrics.id,
            term: metrics.vote.leader_id.term,
            began,
            voters: metrics.membership_config.get_joint_config().clone(),
        }
    }

    /// The key of a member.
    pub(crate) fn member_key(&self, member: NodeNumber) -> Option<NodeId> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.get_node(&member.0).map(|member| member.key)
    }

    /// Whether it takes part; not after an error or a verdict.
    pub(crate) fn is_running(&self) -> bool {
        self.raft.metrics().borrow_watched().running_state.is_ok()
    }

    /// Everyone in the group, as this replica knows.
    pub(crate) fn members(&self) -> Vec<NodeNumber> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.nodes().map(|(number, _)| NodeNumber(*number)).collect()
    }

    /// The number of the member with this key.
    pub(crate) fn member_number(&self, key: NodeId) -> Option<NodeNumber> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let mut nodes = metrics.membership_config.nodes();
        nodes.find(|(_, member)| member.key == key).map(|(number, _)| NodeNumber(*number))
    }
}

/// How to reach a group from this node, whether it has a replica or not.
pub(crate) struct Route {
    pub(crate) front: Door<FrontEvent>,
    pub(crate) reader: Door<Ask>,
    pub(crate) local: watch::Sender<Option<Arc<Local>>>,
    pub(crate) hint: watch::Sender<Hint>,
}

/// What the tasks of all groups of a node tell each other.
pub(crate) struct Boards {
    pub(crate) liveness: LivenessView,
    pub(crate) digests: DigestBoard,
}

/// See the module.
pub(crate) struct Node {
    pub(crate) number: NodeNumber,
    pub(crate) incarnation: Incarnation,
    pub(crate) endpoint: Endpoint,
    pub(crate) wal: Wal,
    pub(crate) replicas: Replicas,
    pub(crate) workers: Workers,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) config: Arc<ValidConfig>,
    /// Numbers streams and transfers, growing over restarts.
    pub(crate) serial: Arc<AtomicU64>,
    /// Held while a replica is opened or destroyed.
    pub(crate) opening: tokio::sync::Mutex<()>,
    pub(crate) runtime: Handle,
    pub(crate) peers: watch::Sender<Arc<BTreeMap<NodeNumber, NodeId>>>,
    pub(crate) boards: Boards,
    // Read for every call, written when a group is first used; a task that
    // owned it would cost every call two wake-ups.
    routes: RwLock<BTreeMap<GroupId, Arc<Route>>>,
}

impl Node {
    pub(crate) fn new(parts: Parts, valid: ValidConfig, replicas: Replicas) -> Arc<Self> {
        let me = BTreeMap::from([(parts.number, parts.endpoint.local())]);
        Arc::new(Self {
            number: parts.number,
            incarnation: parts.incarnation,
            endpoint: parts.endpoint,
            wal: parts.wal,
            replicas,
            workers: parts.workers,
            clock: parts.clock,
            entropy: parts.entropy,
            config: Arc::new(valid),
            serial: Arc::new(AtomicU64::new((parts.incarnation.0 << 32) | 1)),
            opening: tokio::sync::Mutex::new(()),
            runtime: Handle::current(),
            peers: watch::Sender::new(Arc::new(me)),
            boards: Boards { liveness: LivenessView::default(), digests: DigestBoard::default() },
            routes: RwLock::default(),
        })
    }

    /// The route to a group, if it was used or opened before.
    pub(crate) fn known_route(&self, group: GroupId) -> Option<Arc<Route>> {
        self.routes.read().unwrap_or_else(PoisonError::into_inner).get(&group).cloned()
    }

    /// The route to a group; its tasks are started if this is its first use.
    pub(crate) fn route(self: &Arc<Self>, group: GroupId) -> Arc<Route> {
        if let Some(route) = self.known_route(group) {
            return route;
        }
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        routes.entry(group).or_insert_with(|| crate::run::start_route(self, group)).clone()
    }

    /// The local replica of a group.
    pub(crate) fn local(&self, group: GroupId) -> Option<Arc<Local>> {
        self.known_route(group).and_then(|route| route.local.borrow().clone())
    }

    /// All local replicas.
    pub(crate) fn locals(&self) -> Vec<(GroupId, Arc<Local>)> {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        routes.iter().filter_map(|(group, route)| Some((*group, route.local.borrow().clone()?))).collect()
    }

    /// Forgets all routes: their tasks end when their queues are drained.
    pub(crate) fn close_routes(&self) -> Vec<Arc<Local>> {
        let routes = std::mem::take(&mut *self.routes.write().unwrap_or_else(PoisonError::into_inner));
        routes.values().filter_map(|route| route.local.send_replace(None)).collect()
    }

    /// The key of a node.
    pub(crate) fn key_of(&self, node: NodeNumber) -> Option<NodeId> {
        self.peers.borrow().get(&node).copied()
    }
}

/// How long to wait before a call is tried again somewhere else.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_millis(20);
