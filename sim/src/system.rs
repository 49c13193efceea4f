//! What the world runs as "one node". Two kinds exist: the bare replication
//! node (the log, the state store and `replication` with a small machine) and
//! the whole node (everything that the product runs, wired by `trine`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use trine_transport::SimTransport;
use trine_types::{GroupId, NodeId, NodeNumber};

use crate::clock::SkewedClock;
use crate::door::Door;
use crate::failure::{Failure, Property};
use crate::hardware::Hardware;
use crate::random::SeededEntropy;
use crate::scenario::phases::Summary;
use crate::world::World;

/// One replica as its node describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaView {
    /// Which group.
    pub group: GroupId,
    /// Whether the node believes that it leads.
    pub leads: bool,
    /// Raft's current term.
    pub term: u64,
    /// Who votes.
    pub voters: BTreeSet<NodeNumber>,
    /// Who follows without a vote.
    pub learners: BTreeSet<NodeNumber>,
    /// The end of the log.
    pub last_index: u64,
    /// Known to be committed.
    pub committed: u64,
    /// Applied to the state.
    pub applied: u64,
    /// The digest of the state and the index it belongs to.
    pub digest: (u64, u64),
}

/// One entry of a replica's log, without its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryView {
    /// Its index.
    pub index: u64,
    /// The term it was proposed in.
    pub term: u64,
    /// A hash of its content.
    pub hash: u64,
}

/// What invariants may look at. Called between steps; must not block.
pub trait Observe {
    /// All replicas of the node.
    fn replicas(&self) -> Vec<ReplicaView>;

    /// Entries `from..to` of a replica's log, as many as are there.
    fn log(&self, group: GroupId, from: u64, to: u64) -> Vec<EntryView>;
}

/// What a node gets to run on: all of it simulated.
pub struct NodeParts {
    /// Its number.
    pub number: NodeNumber,
    /// How often it has been started, from 1.
    pub incarnation: u64,
    /// Its key, its disk and its state store.
    pub hardware: Hardware,
    /// Its network.
    pub transport: Arc<SimTransport>,
    /// Its wall clock.
    pub clock: Arc<SkewedClock>,
    /// Its randomness.
    pub entropy: Arc<SeededEntropy>,
    /// How long its disk takes for a sync.
    pub sync_latency: Duration,
}

/// A node that came up.
pub struct Running<D> {
    /// How clients reach it.
    pub door: D,
    /// Resolves, with the reason, when the node stops by itself.
    pub exit: BoxFuture<'static, String>,
}

/// A kind of node.
pub trait System: Sized + 'static {
    /// How clients and invariants reach a running node.
    type Door: Door + Observe;

    /// The key that the node on this machine proves.
    fn identity(number: NodeNumber, hardware: &Hardware) -> NodeId;

    /// Makes a cluster of nodes 1 to `count` that serves.
    ///
    /// # Errors
    /// The first violated property; a cluster that does not form violates
    /// `Heals`.
    fn form(world: &mut World<Self>, count: u64) -> Result<(), Failure>;

    /// Adds machines as members and takes members (and their machines) away,
    /// in a cluster under load.
    ///
    /// # Errors
    /// The first violated property; a change that does not end violates
    /// `Scenario`.
    fn change(world: &mut World<Self>, add: &[NodeNumber], remove: &[NodeNumber]) -> Result<(), Failure>;

    /// Starts a node; runs on the node's own runtime.
    fn boot(&self, parts: NodeParts) -> BoxFuture<'static, Result<Running<Self::Door>, String>>;

    /// Lets the programs of meshed nodes talk while faults strike.
    ///
    /// # Errors
    /// The first violated property; nodes without a mesh violate `Scenario`.
    fn messages(world: &mut World<Self>) -> Result<Summary, Failure> {
        Err(world.failure(Property::Scenario, "nodes of this kind exchange no messages"))
    }

    /// Lets clients submit jobs to nodes that execute, while faults strike.
    ///
    /// # Errors
    /// The first violated property; nodes without workers violate `Scenario`.
    fn jobs(world: &mut World<Self>) -> Result<Summary, Failure> {
        Err(world.failure(Property::Scenario, "nodes of this kind execute nothing"))
    }
}
