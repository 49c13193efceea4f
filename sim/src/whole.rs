//! The whole node: everything that the product runs between its disk and the
//! database's in-process entry, wired by `trine`; sockets, threads and the
//! command line are absent.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;
use trine::node::{Node, NodeParts as Wiring, Tuning};
use trine::topology::REDIS_DOOR;
use trine_cluster::{ClusterConfig, Directory, Doors, Settings, membership};
use trine_compute::Compute;
use trine_compute::body::Hands;
use trine_database::resp::Value;
use trine_storage::{Disk, Driver, WalConfig, Workers};
use trine_transport::{EndpointConfig, Ticket, Transport};
use trine_types::{GroupId, NodeId, NodeNumber};

use crate::bare::{log_view, view};
use crate::door::{Answer, Door, Request};
use crate::failure::{Failure, Property};
use crate::hardware::Hardware;
use crate::jobs::outside::Outside;
use crate::jobs::story;
use crate::random::{Rng, SeededEntropy};
use crate::scenario::load;
use crate::scenario::phases::Summary;
use crate::system::{EntryView, NodeParts, Observe, ReplicaView, Running, System};
use crate::world::World;

/// Partitions of the simulated database: enough for groups to differ, few
/// enough for many seeds.
const PARTITIONS: u16 = 2;
/// How long a cluster may take to form, and a change of members to end.
const FORM_MS: u64 = 60_000;
const CHANGE_MS: u64 = 90_000;
/// How often a node that cannot join tries again.
const JOIN_PAUSE: Duration = Duration::from_millis(200);

/// Makes whole nodes; those of one world share the ticket to join with.
#[derive(Debug, Clone, Default)]
pub struct Whole {
    // A lock because nodes that boot read it; only one thread ever holds it.
    ticket: Arc<Mutex<Option<Ticket>>>,
    /// Where tasks execute; `None`: nodes execute nothing.
    outside: Option<Outside>,
}

impl Whole {
    /// Nodes that are workers.
    #[must_use]
    pub fn that_execute() -> Self {
        Self { outside: Some(Outside::default()), ..Self::default() }
    }

    /// Where the tasks of this world execute.
    #[must_use]
    pub fn outside(&self) -> Option<Outside> {
        self.outside.clone()
    }
}

/// A running whole node.
#[derive(Clone)]
pub struct WholeDoor {
    node: Node,
}

impl WholeDoor {
    /// Jobs, through this node.
    #[must_use]
    pub fn compute(&self) -> Compute {
        self.node.compute.clone()
    }
}

fn settings() -> Settings {
    ClusterConfig::default().validate().expect("the defaults are valid")
}

/// The key comes from the machine, not from chance at the first start: the
/// simulated network must know it before the process runs.
fn key_entropy(hardware: &Hardware) -> SeededEntropy {
    let mut seed = [0; 8];
    seed.copy_from_slice(&hardware.key_seed[..8]);
    SeededEntropy::new(Rng::new(u64::from_le_bytes(seed), "key"))
}

fn address(number: NodeNumber, port: u16) -> SocketAddr {
    let host = u8::try_from(number.0).unwrap_or(u8::MAX);
    SocketAddr::from(([10, 0, 0, host], port))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Makes the directory a node's, as `trine start` does.
async fn belong(
    directory: &mut Directory,
    transport: &Arc<dyn Transport>,
    system: &Whole,
    parts: &NodeParts,
) -> Result<(), String> {
    if directory.membership().is_some() {
        return membership::renew_by_own_key(directory, &*parts.clock, &settings()).map_err(text);
    }
    let applicant = membership::applicant(directory, &format!("node{}", parts.number.0));
    if parts.number == NodeNumber(1) {
        let seams = (&*parts.clock as &dyn trine_types::Clock, &*parts.entropy as &dyn trine_types::Entropy);
        return membership::found(directory, &applicant, PARTITIONS, seams, &settings()).map_err(text);
    }
    loop {
        let ticket = system.ticket.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(ticket) = ticket
            && membership::join(directory, transport, ticket, applicant.clone()).await.is_ok()
        {
            break;
        }
        tokio::time::sleep(JOIN_PAUSE).await;
    }
    match directory.membership().map(|member| member.number) {
        Some(number) if number == parts.number => Ok(()),
        other => Err(format!("the cluster calls {} {other:?}", parts.number)),
    }
}

async fn start(system: Whole, parts: NodeParts) -> Result<Running<WholeDoor>, String> {
    let disk: Arc<dyn Disk> = parts.hardware.disk.mount().map_err(text)?;
    let mut directory = Directory::open(disk.clone(), &key_entropy(&parts.hardware)).map_err(text)?;
    let has_run = disk.open("node/start", false).is_ok();
    let transport: Arc<dyn Transport> = parts.transport.clone();
    belong(&mut directory, &transport, &system, &parts).await?;
    let hands = system.outside.as_ref().map_or_else(Hands::none, |outside| outside.hands(parts.number.0));
    let (trust, _) = watch::channel(membership::trust(&directory).map_err(text)?);
    let node = Node::start(Wiring {
        directory,
        disk,
        driver: Driver::Task { sync_latency: parts.sync_latency },
        state: Arc::new(parts.hardware.state),
        transport,
        trust,
        workers: Workers::inline(),
        hashing: Workers::inline(),
        clock: parts.clock,
        entropy: parts.entropy,
        doors: Doors {
            peers: vec![address(parts.number, 7000)],
            clients: BTreeMap::from([(REDIS_DOOR.to_owned(), address(parts.number, 6379))]),
        },
        open_to_all: false,
        resident_bytes: || 0,
        about: trine::node::About { profile: trine_mesh::members::Profile::default(), load: || 0 },
        tuning: Tuning {
            wal: WalConfig { must_exist: has_run, ..WalConfig::small() },
            endpoint: EndpointConfig::default(),
            replication: trine_replication::Config::small(),
            cluster: settings(),
            database: trine_database::Config::default(),
            hands,
        },
    })
    .await
    .map_err(text)?;
    let door = WholeDoor { node: node.clone() };
    let exit = async move { node.failed().await.to_string() };
    Ok(Running { door, exit: exit.boxed() })
}

/// The Redis command of a request.
fn command(request: &Request) -> Vec<Bytes> {
    let words: Vec<String> = match request {
        Request::Get { key } | Request::Count { key } => vec!["GET".into(), key.clone()],
        Request::Set { key, value } => vec!["SET".into(), key.clone(), value.to_string()],
        Request::SetFor { key, value, ttl_ms } => {
            vec!["SET".into(), key.clone(), value.to_string(), "PX".into(), ttl_ms.to_string()]
        }
        Request::Swap { key, old, new } => {
            vec!["SET".into(), key.clone(), new.to_string(), "IFEQ".into(), old.to_string()]
        }
        Request::Delete { key } => vec!["DEL".into(), key.clone()],
        Request::Increment { key } => vec!["INCR".into(), key.clone()],
        Request::IncrementOnce { key, client, seq } => {
            vec!["TRINE.ONCE".into(), client.clone(), seq.to_string(), "INCR".into(), key.clone()]
        }
    };
    words.into_iter().map(Bytes::from).collect()
}

/// What a reply says to the one who asked.
fn answer(request: &Request, reply: &Value) -> Answer {
    let number = |bytes: &Bytes| std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<u64>().ok());
    match (request, reply) {
        (_, Value::Error(error)) if error.starts_with("UNKNOWN") => Answer::Unknown(error.to_string()),
        (_, Value::Error(error))
            if ["TRYAGAIN", "CLUSTERDOWN", "OOM"].iter().any(|it| error.starts_with(it)) =>
        {
            Answer::Refused(error.to_string())
        }
        (Request::Get { .. }, Value::Nil) => Answer::Value(None),
        (Request::Get { .. }, Value::Bulk(bytes)) if number(bytes).is_some() => Answer::Value(number(bytes)),
        (Request::Count { .. }, Value::Nil) => Answer::Count(0),
        (Request::Count { .. }, Value::Bulk(bytes)) if number(bytes).is_some() => {
            Answer::Count(number(bytes).and_then(|it| it.try_into().ok()).unwrap_or(i64::MAX))
        }
        (Request::Swap { .. }, Value::Nil) => Answer::Swapped(false),
        (Request::Swap { .. }, Value::Simple(_)) => Answer::Swapped(true),
        (Request::Set { .. } | Request::SetFor { .. }, Value::Simple(_)) => Answer::Done,
        (Request::Delete { .. }, Value::Integer(count)) => Answer::Deleted(*count == 1),
        (Request::Increment { .. } | Request::IncrementOnce { .. }, Value::Integer(count)) => {
            Answer::Count(*count)
        }
        (_, other) => Answer::Wrong(format!("{other:?}")),
    }
}

impl Door for WholeDoor {
    fn execute(&self, request: Request) -> BoxFuture<'static, Answer> {
        let database = self.node.database.clone();
        async move {
            let mut connection = database.connect("a simulated client");
            let reply = database.execute(&mut connection, command(&request)).await;
            answer(&request, &reply)
        }
        .boxed()
    }
}

impl Observe for WholeDoor {
    fn replicas(&self) -> Vec<ReplicaView> {
        self.node.replication.status().into_iter().map(view).collect()
    }

    fn log(&self, group: GroupId, from: u64, to: u64) -> Vec<EntryView> {
        log_view(&self.node.wal.group(group), from, to)
    }
}

/// Runs until all `nodes` are admitted and every group has its members.
fn settle(world: &mut World<Whole>, nodes: usize, limit_ms: u64) -> Result<(), Failure> {
    let doors = world.doors.clone();
    let wait = async move {
        loop {
            let Some(node) = doors.nodes().first().copied() else {
                tokio::time::sleep(JOIN_PAUSE).await;
                continue;
            };
            let settled = |door: WholeDoor| async move {
                let wait = door.node.cluster.settled(nodes);
                tokio::time::timeout(Duration::from_secs(5), wait).await.is_ok()
            };
            if doors.visit(node, settled).await == Some(true) {
                return;
            }
        }
    };
    world.finish(limit_ms, Property::Scenario, &format!("{nodes} nodes with all their replicas"), wait)
}

/// Issues a ticket, which names nodes of now, through any node.
fn issue(world: &mut World<Whole>, limit_ms: u64) -> Result<(), Failure> {
    let doors = world.doors.clone();
    let ticket = async move {
        loop {
            for node in doors.nodes() {
                let issue = |door: WholeDoor| async move {
                    door.node.cluster.issue_ticket(Duration::from_hours(1), 1).await.ok()
                };
                if let Some(Some(ticket)) = doors.visit(node, issue).await {
                    return ticket;
                }
            }
            tokio::time::sleep(JOIN_PAUSE).await;
        }
    };
    let ticket = world.finish(limit_ms, Property::Scenario, "a ticket", ticket)?;
    *world.system().ticket.lock().unwrap_or_else(PoisonError::into_inner) = Some(ticket);
    Ok(())
}

/// Adds one machine and waits until it is a node of the cluster.
fn join(world: &mut World<Whole>, number: NodeNumber, limit_ms: u64) -> Result<(), Failure> {
    if number != NodeNumber(1) {
        issue(world, limit_ms)?;
    }
    world.add_host(number);
    if world.run_until(limit_ms, |world| world.doors.nodes().contains(&number))? {
        return Ok(());
    }
    Err(world.failure(Property::Scenario, format!("{number} did not join")))
}

impl System for Whole {
    type Door = WholeDoor;

    fn identity(_number: NodeNumber, hardware: &Hardware) -> NodeId {
        let opened = hardware
            .disk
            .mount()
            .map_err(text)
            .and_then(|disk| Directory::open(disk, &key_entropy(hardware)).map_err(text));
        // A disk that fails right now: the process will find that out, too.
        opened.map(|directory| membership::identity(&directory).node_id()).unwrap_or_default()
    }

    fn form(world: &mut World<Self>, count: u64) -> Result<(), Failure> {
        join(world, NodeNumber(1), FORM_MS)?;
        for number in 2..=count {
            join(world, NodeNumber(number), FORM_MS)?;
        }
        settle(world, usize::try_from(count).unwrap_or(usize::MAX), FORM_MS)?;
        let mut client = world.client(999);
        let first = async move {
            for key in load::register_keys() {
                load::insist(&mut client, Request::Delete { key }).await;
            }
        };
        world.finish(FORM_MS, Property::Heals, "the first writes", first)
    }

    fn change(world: &mut World<Self>, add: &[NodeNumber], remove: &[NodeNumber]) -> Result<(), Failure> {
        for number in add {
            join(world, *number, CHANGE_MS)?;
        }
        for number in remove {
            let (doors, number) = (world.doors.clone(), *number);
            world.excuse(number);
            let leave = async move {
                loop {
                    let others = doors.nodes().into_iter().filter(|other| *other != number);
                    for other in others.collect::<Vec<_>>() {
                        let remove = move |door: WholeDoor| async move {
                            let cluster = &door.node.cluster;
                            let done = cluster.remove_node(number, false, Duration::from_secs(20)).await;
                            done.is_ok() || !cluster.meta().borrow().nodes.contains_key(&number)
                        };
                        if doors.visit(other, remove).await == Some(true) {
                            return;
                        }
                        tokio::time::sleep(JOIN_PAUSE).await;
                    }
                }
            };
            world.finish(CHANGE_MS, Property::Scenario, &format!("the removal of {number}"), leave)?;
            world.remove_host(number);
        }
        let nodes = world.numbers().len();
        settle(world, nodes, CHANGE_MS)
    }

    fn boot(&self, parts: NodeParts) -> BoxFuture<'static, Result<Running<WholeDoor>, String>> {
        start(self.clone(), parts).boxed()
    }

    fn jobs(world: &mut World<Self>) -> Result<Summary, Failure> {
        story::run(world)
    }
}
