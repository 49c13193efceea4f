//! The meshed node: the product's mesh and members over the simulated network,
//! and the programs that use it on each node. Everything else of a node is
//! absent: who the nodes are is known from the beginning.
//!
//! | file | what |
//! |---|---|
//! | [`ledger`] | what was published and heard, and what of it may not be |
//! | [`programs`] | what publishes, subscribes, asks and answers |
//! | [`story`] | faults, healing, and what must hold after |

pub mod ledger;
pub mod programs;
pub mod story;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;
use trine_cluster::MetaState;
use trine_cluster::nodes::{BootId, NodeRow, NodeState};
use trine_mesh::members::{self, Profile};
use trine_mesh::{Mesh, Parts};
use trine_transport::{Endpoint, EndpointConfig};
use trine_types::{GroupId, Incarnation, NodeId, NodeNumber};

use self::ledger::SharedLedger;
use crate::bare::key_of;
use crate::door::{Answer, Door, Request};
use crate::failure::{Failure, Property};
use crate::hardware::Hardware;
use crate::scenario::phases::Summary;
use crate::system::{EntryView, NodeParts, Observe, ReplicaView, Running, System};
use crate::world::World;

/// How long the nodes may take to come up.
const FORM_MS: u64 = 5_000;

/// Makes meshed nodes; those of one world share a ledger.
#[derive(Debug, Clone, Default)]
pub struct Meshed {
    ledger: SharedLedger,
}

/// A running meshed node.
#[derive(Debug, Clone)]
pub struct MeshedDoor {
    mesh: Mesh,
}

impl Door for MeshedDoor {
    fn execute(&self, request: Request) -> BoxFuture<'static, Answer> {
        std::future::ready(Answer::Refused(format!("no keys here: {request:?}"))).boxed()
    }
}

impl Observe for MeshedDoor {
    fn replicas(&self) -> Vec<ReplicaView> {
        Vec::new()
    }

    fn log(&self, _group: GroupId, _from: u64, _to: u64) -> Vec<EntryView> {
        Vec::new()
    }
}

fn everyone() -> BTreeSet<NodeId> {
    (1..=story::NODES).map(|number| key_of(NodeNumber(number))).collect()
}

/// What `meta` says of everyone, as far as members read it.
fn meta() -> MetaState {
    let row = |number: u64| NodeRow {
        number: NodeNumber(number),
        id: key_of(NodeNumber(number)),
        name: format!("n{number}"),
        zone: String::new(),
        weight: 1,
        addresses: Vec::new(),
        clients: BTreeMap::new(),
        incarnation: Incarnation(0),
        boot: BootId(0),
        features: 0,
        issuer: [0; 32],
        knows_issuing_key: false,
        state: NodeState::Active,
        admitted_ms: 0,
    };
    let nodes = (1..=story::NODES).map(|number| (NodeNumber(number), row(number))).collect();
    MetaState { nodes, ..MetaState::default() }
}

fn start(ledger: &SharedLedger, parts: NodeParts) -> Running<MeshedDoor> {
    let endpoint = Endpoint::new(parts.transport, parts.entropy.clone(), EndpointConfig::default());
    let members = members::start(members::Parts {
        number: parts.number,
        incarnation: Incarnation(parts.incarnation),
        endpoint: endpoint.clone(),
        meta: watch::channel(Arc::new(meta())).1,
        suspects: watch::channel(BTreeSet::new()).1,
        clock: parts.clock,
        entropy: parts.entropy.clone(),
        profile: Profile::default(),
        load: || 0,
    });
    let (told, peers) = watch::channel(everyone());
    let failed = members.failed();
    let mesh = Mesh::start(Parts { endpoint, peers, failed, entropy: parts.entropy.clone() });
    programs::start(&mesh, ledger, (parts.number.0, parts.incarnation), &*parts.entropy);
    let exit = async move {
        told.closed().await;
        drop(members);
        "nobody follows any more which nodes there are".to_owned()
    };
    Running { door: MeshedDoor { mesh }, exit: exit.boxed() }
}

impl System for Meshed {
    type Door = MeshedDoor;

    fn identity(number: NodeNumber, _hardware: &Hardware) -> NodeId {
        key_of(number)
    }

    fn form(world: &mut World<Self>, count: u64) -> Result<(), Failure> {
        for number in 1..=count {
            world.add_host(NodeNumber(number));
        }
        let all = usize::try_from(count).unwrap_or(usize::MAX);
        if world.run_until(FORM_MS, |world| world.doors.nodes().len() == all)? {
            return Ok(());
        }
        Err(world.failure(Property::Heals, "the nodes did not come up"))
    }

    fn change(world: &mut World<Self>, _: &[NodeNumber], _: &[NodeNumber]) -> Result<(), Failure> {
        Err(world.failure(Property::Scenario, "meshed nodes are fixed"))
    }

    fn boot(&self, parts: NodeParts) -> BoxFuture<'static, Result<Running<MeshedDoor>, String>> {
        let ledger = self.ledger.clone();
        // Within the future: its tasks belong to the node's runtime.
        async move { Ok(start(&ledger, parts)) }.boxed()
    }

    fn messages(world: &mut World<Self>) -> Result<Summary, Failure> {
        story::run(world)
    }
}
