//! One node: all rooms wired together over their seams, in the order in which
//! they come up. The product gives it real disks, sockets and clocks; the
//! simulator gives it its own. Everything runs on the runtime that starts it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use trine_cluster::{Cluster, Directory, Doors, MetaState, Settings};
use trine_compute::Compute;
use trine_compute::body::Hands;
use trine_compute::events::Event;
use trine_compute::machine::{Applied, JobsMachine};
use trine_database::{Database, ReplicatedGroups};
use trine_mesh::Mesh;
use trine_mesh::members::{self, Peers, Profile};
use trine_mesh::message::Message;
use trine_replication::{Machine, Replication};
use trine_storage::{Disk, Driver, Space, StateError, StateStore, Wal, WalConfig, WalError, Workers};
use trine_transport::{Endpoint, EndpointConfig, Transport, Trust};
use trine_types::{Clock, Entropy, GroupId, NodeId, NodeNumber};

use crate::accounts::redis::RedisAccounts;
use crate::login::Logins;
use crate::topology::NodeTopology;

/// Events of jobs that wait to be published.
const EVENTS: usize = 4_096;

/// What a node stands on.
pub struct NodeParts {
    /// The node's small files; it belongs to a cluster.
    pub directory: Directory,
    /// Where the log is.
    pub disk: Arc<dyn Disk>,
    /// Who runs the log's writer.
    pub driver: Driver,
    /// Where replicas keep their state.
    pub state: Arc<dyn StateStore>,
    /// The way to other nodes.
    pub transport: Arc<dyn Transport>,
    /// Whom the transport lets in; the cluster room keeps it up to date.
    pub trust: watch::Sender<Trust>,
    /// Where blocking work on state and files runs.
    pub workers: Workers,
    /// Where passwords are hashed: slow on purpose, so not where state is.
    pub hashing: Workers,
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Where this node is reached, as it tells the others.
    pub doors: Doors,
    /// Whether Redis serves anyone while there are no users, beyond loopback too.
    pub open_to_all: bool,
    /// Resident memory of this process, for people.
    pub resident_bytes: fn() -> u64,
    /// What this node tells its peers about itself.
    pub about: About,
    /// Tuning of the rooms.
    pub tuning: Tuning,
}

/// What a node tells its peers about itself.
#[derive(Debug, Clone)]
pub struct About {
    /// Version and tags.
    pub profile: Profile,
    /// Load of this machine over the last minute, in hundredths of what its
    /// cores can do.
    pub load: fn() -> u16,
}

/// Settings of all rooms.
#[derive(Debug, Clone)]
pub struct Tuning {
    /// The log.
    pub wal: WalConfig,
    /// Calls between nodes.
    pub endpoint: EndpointConfig,
    /// Groups.
    pub replication: trine_replication::Config,
    /// The cluster.
    pub cluster: Settings,
    /// The database; its number of partitions comes from `meta`.
    pub database: trine_database::Config,
    /// What this node gives to the execution of tasks.
    pub hands: Hands,
}

/// Why a node did not start. Nothing is served; the data is as it was.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log cannot be opened.
    #[error("the log cannot be opened: {0}")]
    Wal(#[from] WalError),
    /// Replication did not start.
    #[error(transparent)]
    Replication(#[from] trine_replication::StartError),
    /// The cluster room did not start, or refuses this process.
    #[error(transparent)]
    Cluster(#[from] trine_cluster::StartError),
    /// The node must not go on.
    #[error(transparent)]
    Failed(#[from] Failed),
}

/// Why a running node must stop at once. What was acknowledged is safe on a
/// majority of disks.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// A write or sync of the log failed. It is never retried, because what is
    /// on the disk is unknown.
    #[error(
        "the write-ahead log failed: {0}; the node stops, what it acknowledged is on a majority of disks"
    )]
    Wal(WalError),
    /// The state store failed: replicas here cannot go on. State is rebuilt
    /// from the log at the next start.
    #[error("{0}; the node stops, what it acknowledged is on a majority of disks")]
    State(StateError),
    /// The cluster refuses this process, or local files failed.
    #[error(transparent)]
    Cluster(#[from] trine_cluster::Fatal),
}

/// A running node. Cheap to clone.
#[derive(Clone)]
pub struct Node {
    /// Calls to and from other nodes.
    pub endpoint: Endpoint,
    /// The log.
    pub wal: Wal,
    /// Groups.
    pub replication: Replication,
    /// The cluster.
    pub cluster: Cluster,
    /// Messages.
    pub mesh: Mesh,
    /// Its users.
    pub logins: Logins,
    /// Where passwords are hashed.
    pub hashing: Workers,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Who is there.
    pub peers: Peers,
    /// Jobs: master and worker.
    pub compute: Compute,
    /// The database; serves once its partitions have leaders.
    pub database: Database,
}

impl Node {
    /// Brings all rooms up, from the disk to the database. Returns when this
    /// node knows its cluster; partitions may still be without leaders.
    ///
    /// # Errors
    /// [`StartError`]; the process must stop.
    pub async fn start(parts: NodeParts) -> Result<Self, StartError> {
        Self::enter(parts).await?.complete().await
    }

    /// The first half of [`Node::start`]: all rooms that do not need to know
    /// the cluster.
    ///
    /// # Errors
    /// [`StartError`]; the process must stop.
    pub async fn enter(parts: NodeParts) -> Result<Entered, StartError> {
        let NodeParts { directory, transport, workers, clock, entropy, tuning, .. } = parts;
        let known = directory.known().map_err(trine_cluster::StartError::from)?;
        let name = directory.membership().map(|member| member.name.clone()).unwrap_or_default();
        let wal = Wal::open(parts.disk, tuning.wal, parts.driver)?;
        let endpoint = Endpoint::new(transport.clone(), entropy.clone(), tuning.endpoint);
        let start = trine_cluster::enter(&directory, &endpoint, &*entropy).await?;
        let number = directory.membership().map(|member| member.number).unwrap_or_default();
        let replication = Replication::start(trine_replication::Parts {
            number,
            incarnation: start.incarnation,
            endpoint: endpoint.clone(),
            wal: wal.clone(),
            state: parts.state,
            workers: workers.clone(),
            clock: clock.clone(),
            entropy: entropy.clone(),
            config: tuning.replication,
        })
        .await?;
        let (jobs, applied) = JobsMachine::new();
        let cluster = Cluster::start(trine_cluster::Parts {
            directory,
            start,
            transport,
            endpoint: endpoint.clone(),
            trust: parts.trust,
            replication: replication.clone(),
            workers: workers.clone(),
            clock: clock.clone(),
            entropy: entropy.clone(),
            machines: Arc::new(move |group| machine_of(group, &jobs)),
            doors: parts.doors,
            settings: tuning.cluster,
        })
        .await?;
        let about = parts.about;
        let members = take_part(&cluster, &endpoint, &replication, about, (clock.clone(), entropy.clone()));
        let mesh = messages(&cluster, &endpoint, &members, &entropy);
        let rooms = (&cluster, &endpoint, &replication, &mesh);
        let compute = execute(rooms, applied, tuning.hands, (clock.clone(), entropy.clone()));
        let others = known.peers.into_iter().filter(|(other, _)| *other != number);
        Ok(Entered {
            endpoint,
            wal,
            replication,
            cluster,
            mesh,
            compute,
            peers: members,
            name,
            others: others.map(|(number, peer)| (number, peer.addresses)).collect(),
            hashing: parts.hashing,
            clock,
            entropy,
            open_to_all: parts.open_to_all,
            resident_bytes: parts.resident_bytes,
            database: tuning.database,
        })
    }

    /// Waits until the node must not go on. (A replica that differs from the
    /// majority stops alone.)
    pub async fn failed(&self) -> Failed {
        failed(&self.cluster, &self.wal, &self.replication).await
    }

    /// Stops in order: others are told, leaderships are handed over, then rooms
    /// go down from the top, and everything in the log's queue is on disk at the end.
    pub async fn stop(self, hand_over: Duration) {
        self.peers.leave().await;
        self.compute.shut_down();
        self.replication.hand_over_all(hand_over).await;
        self.database.shut_down();
        self.mesh.shut_down();
        self.cluster.shutdown().await;
        self.replication.shutdown().await;
        self.endpoint.shutdown();
        self.wal.close().await;
    }
}

/// A node that speaks with the others, but may not know its cluster yet: one
/// that ended just after it joined has nothing of `meta` on its disk, and waits
/// until another one tells it.
pub struct Entered {
    endpoint: Endpoint,
    wal: Wal,
    /// Groups.
    pub replication: Replication,
    /// The cluster.
    pub cluster: Cluster,
    mesh: Mesh,
    compute: Compute,
    /// Who is there.
    pub peers: Peers,
    /// This node's name.
    pub name: String,
    /// The other nodes that it knew of when it ran last, and where they were.
    pub others: BTreeMap<NodeNumber, Vec<SocketAddr>>,
    hashing: Workers,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    open_to_all: bool,
    resident_bytes: fn() -> u64,
    database: trine_database::Config,
}

impl Entered {
    /// The second half of [`Node::start`]: waits until this node knows its
    /// cluster, and brings the database up.
    ///
    /// # Errors
    /// [`StartError`]; the process must stop.
    pub async fn complete(self) -> Result<Node, StartError> {
        let Self {
            endpoint, wal, replication, cluster, mesh, compute, peers, hashing, clock, entropy, ..
        } = self;
        let partitions = partitions(&cluster, &wal, &replication).await?;
        let logins = Logins::new(cluster.clone(), hashing.clone(), clock.clone(), &*entropy);
        let logins = logins.with_tasks(compute.tokens());
        let log = wal.clone();
        let database = Database::new(trine_database::Parts {
            groups: Arc::new(ReplicatedGroups::new(replication.clone(), cluster.number(), partitions)),
            topology: Arc::new(NodeTopology::new(cluster.clone(), replication.clone())),
            clock,
            entropy: entropy.clone(),
            disk_low: Arc::new(move || log.space() == Space::Low),
            resident_bytes: self.resident_bytes,
            login: Arc::new(logins.open_to_all(self.open_to_all)),
            accounts: Arc::new(RedisAccounts::new(cluster.clone(), hashing.clone(), entropy.clone())),
            config: trine_database::Config { partitions, ..self.database },
        });
        let sweeps = endpoint.grid().ticks(database.sweep_interval());
        tokio::spawn(database.clone().sweep(sweeps));
        Ok(Node {
            endpoint,
            wal,
            replication,
            cluster,
            mesh,
            logins,
            hashing,
            entropy,
            peers,
            compute,
            database,
        })
    }
}

/// Lets messages go to and from the cluster's nodes, but not to those that
/// members believe to have failed.
fn messages(cluster: &Cluster, endpoint: &Endpoint, members: &Peers, entropy: &Arc<dyn Entropy>) -> Mesh {
    Mesh::start(trine_mesh::Parts {
        endpoint: endpoint.clone(),
        peers: peers(cluster),
        failed: members.failed(),
        entropy: entropy.clone(),
    })
}

/// Lets this node be a member among members, which says this about itself.
fn take_part(
    cluster: &Cluster,
    endpoint: &Endpoint,
    replication: &Replication,
    About { profile, load }: About,
    (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>),
) -> Peers {
    members::start(members::Parts {
        number: cluster.number(),
        incarnation: cluster.incarnation(),
        endpoint: endpoint.clone(),
        meta: cluster.meta(),
        suspects: replication.suspects(),
        clock,
        entropy,
        profile,
        load,
    })
}

/// Lets this node be a worker, and the master while it leads group `jobs`.
fn execute(
    (cluster, endpoint, replication, mesh): (&Cluster, &Endpoint, &Replication, &Mesh),
    applied: watch::Receiver<Option<Applied>>,
    hands: Hands,
    (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>),
) -> Compute {
    Compute::start(trine_compute::Parts {
        number: cluster.number(),
        endpoint: endpoint.clone(),
        replication: replication.clone(),
        meta: cluster.meta(),
        applied,
        clock,
        entropy,
        hands,
        events: publish(mesh),
    })
}

/// Publishes what becomes of jobs.
fn publish(mesh: &Mesh) -> mpsc::Sender<Event> {
    let (events, mut inbox) = mpsc::channel::<Event>(EVENTS);
    let mut publisher = mesh.bus().publisher();
    tokio::spawn(async move {
        while let Some(event) = inbox.recv().await {
            let subject = event.subject.as_bytes();
            let message = Message { subject, payload: &event.payload, ..Message::default() };
            let pressed = publisher.publish(&message).pressed;
            if inbox.is_empty() {
                publisher.flush();
            }
            if pressed {
                publisher.relieved().await;
            }
        }
    });
    events
}

/// The rules of a group that is opened here.
fn machine_of(group: GroupId, jobs: &Arc<JobsMachine>) -> Option<Arc<dyn Machine>> {
    if group == GroupId::JOBS {
        return Some(jobs.clone());
    }
    group.as_partition().map(|_| trine_database::partition_machine())
}

/// The cluster's nodes, as `meta` knows them now and later.
fn peers(cluster: &Cluster) -> watch::Receiver<BTreeSet<NodeId>> {
    let nodes = |meta: &MetaState| -> BTreeSet<NodeId> { meta.nodes.values().map(|node| node.id).collect() };
    let mut meta = cluster.meta();
    let known = nodes(&meta.borrow_and_update());
    let (tell, peers) = watch::channel(known);
    tokio::spawn(async move {
        while meta.changed().await.is_ok() && !tell.is_closed() {
            let now = nodes(&meta.borrow_and_update());
            tell.send_if_modified(|known| {
                let changed = *known != now;
                *known = now;
                changed
            });
        }
    });
    peers
}

/// Waits until this node has heard how many partitions its cluster has.
async fn partitions(cluster: &Cluster, wal: &Wal, replication: &Replication) -> Result<u16, Failed> {
    let mut meta = cluster.meta();
    // Nothing of the guard outlives this, so that a node starts on any runtime.
    let known =
        async move { meta.wait_for(|meta| meta.partitions() > 0).await.map(|meta| meta.partitions()) };
    tokio::select! {
        biased;
        failed = failed(cluster, wal, replication) => Err(failed),
        known = known => match known {
            Ok(partitions) => Ok(partitions),
            // The sender lives as long as the machine of `meta`.
            Err(_) => std::future::pending().await,
        },
    }
}

async fn failed(cluster: &Cluster, wal: &Wal, replication: &Replication) -> Failed {
    tokio::select! {
        biased;
        error = wal.failed() => Failed::Wal(error),
        error = replication.failed() => Failed::State(error),
        fatal = cluster.must_stop() => fatal.into(),
    }
}
