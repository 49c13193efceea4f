//! A cluster in one process: simulated network and disks, everything else is
//! the product's own code, on one paused runtime.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;
use trine_replication::{Answer, Config, Machine, ReadTime, Replication, Stamp};
use trine_storage::{Driver, OrderedStore, SimDisk, Transaction, View, Wal, WalConfig, Workers};
use trine_transport::{Endpoint, EndpointConfig, SimConfig, SimNet, Ticket, Transport};
use trine_types::{Clock, Entropy, GroupId, NodeNumber};

use crate::directory::tests::Counting;
use crate::membership::{self, MembershipError};
use crate::{Cluster, ClusterConfig, Directory, Doors, Parts, Settings, StartError, enter};

/// How long anything may take, in virtual time.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

struct Wall(Instant);

impl Clock for Wall {
    fn wall_ms(&self) -> u64 {
        1_700_000_000_000 + u64::try_from(self.0.elapsed().as_millis()).expect("a short test")
    }
}

/// The machine of a partition: remembers the last command.
struct Last;

impl Machine for Last {
    fn apply(&self, tx: &mut Transaction<'_>, _stamp: &Stamp, command: &[u8]) -> Bytes {
        tx.put(&b"\x01last"[..], command.to_vec()).expect("memory does not fail");
        Bytes::from_static(b"ok")
    }

    fn query(&self, view: &dyn View, _time: ReadTime, _query: &[u8]) -> Answer {
        Answer::Reply(view.get(b"\x01last").expect("memory does not fail").unwrap_or_default())
    }
}

/// What all nodes share.
pub(crate) struct World {
    pub(crate) net: SimNet,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    settings: Settings,
}

/// What survives a process.
#[derive(Clone)]
pub(crate) struct Machinery {
    pub(crate) disk: SimDisk,
    pub(crate) store: OrderedStore,
    pub(crate) name: &'static str,
    pub(crate) port: u16,
}

/// A running node.
pub(crate) struct Node {
    pub(crate) machinery: Machinery,
    pub(crate) cluster: Cluster,
    pub(crate) replication: Replication,
    pub(crate) endpoint: Endpoint,
    wal: Wal,
}

/// How a machine comes to be a node.
pub(crate) enum By {
    Founding(u16),
    Ticket(Ticket),
    ItsFiles,
}

/// Why a node is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error(transparent)]
    Membership(#[from] MembershipError),
    #[error(transparent)]
    Start(#[from] StartError),
}

impl Machinery {
    pub(crate) fn new(seed: u64, name: &'static str) -> Self {
        let port = 7_000 + u16::try_from(seed).expect("a small seed");
        Self { disk: SimDisk::new(seed), store: OrderedStore::new(seed), name, port }
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let net = SimNet::new(1, SimConfig::default());
        net.spawn_driver();
        Self {
            net,
            clock: Arc::new(Wall(Instant::now())),
            entropy: Arc::new(Counting::default()),
            settings: ClusterConfig::default().validate().expect("defaults are valid"),
        }
    }

    /// Brings a node up the way the binary does.
    pub(crate) async fn start(&self, machinery: Machinery, by: By) -> Result<Node, Refused> {
        let mount = machinery.disk.mount().expect("one process at a time");
        let mut directory = Directory::open(mount.clone(), &*self.entropy).expect("a good directory");
        let id = membership::identity(&directory).node_id();
        let transport: Arc<dyn Transport> = self.net.transport(id);
        let address = SocketAddr::from(([10, 0, 0, 1], machinery.port));
        let mut applicant = membership::applicant(&directory, machinery.name);
        applicant.addresses = vec![address];
        match by {
            By::Founding(partitions) => {
                let seams = (&*self.clock, &*self.entropy);
                membership::found(&mut directory, &applicant, partitions, seams, &self.settings)?;
            }
            By::Ticket(ticket) => membership::join(&mut directory, &transport, ticket, applicant).await?,
            By::ItsFiles => {}
        }
        let trust = watch::Sender::new(membership::trust(&directory).expect("readable"));
        let endpoint = Endpoint::new(transport.clone(), self.entropy.clone(), EndpointConfig::default());
        let start = match enter(&directory, &endpoint, &*self.entropy).await {
            Ok(start) => start,
            Err(error) => {
                endpoint.shutdown();
                return Err(error.into());
            }
        };
        let driver = Driver::Task { sync_latency: Duration::from_millis(1) };
        let wal = Wal::open(mount, WalConfig::small(), driver).expect("a good log");
        let replication = Replication::start(trine_replication::Parts {
            number: directory.membership().expect("a member").number,
            incarnation: start.incarnation,
            endpoint: endpoint.clone(),
            wal: wal.clone(),
            state: Arc::new(machinery.store.clone()),
            workers: Workers::inline(),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            config: Config::small(),
        })
        .await
        .expect("replication starts");
        let cluster = Cluster::start(Parts {
            directory,
            start,
            transport,
            endpoint: endpoint.clone(),
            trust,
            replication: replication.clone(),
            workers: Workers::inline(),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            machines: Arc::new(|_| Some(Arc::new(Last) as Arc<dyn Machine>)),
            doors: Doors { peers: vec![address], ..Doors::default() },
            settings: self.settings.clone(),
        })
        .await?;
        Ok(Node { machinery, cluster, replication, endpoint, wal })
    }

    /// A cluster of `count` nodes whose groups are all where they should be.
    pub(crate) async fn cluster(&self, count: u64, partitions: u16) -> Vec<Node> {
        let names = ["one", "two", "three", "four", "five"];
        let first = self.start(Machinery::new(1, names[0]), By::Founding(partitions)).await;
        let mut nodes = vec![first.expect("founded")];
        within("the first node has settled", nodes[0].cluster.settled(1)).await;
        for (n, name) in (2..=count).zip(names.into_iter().skip(1)) {
            let ticket = nodes[0].ticket().await;
            let node = self.start(Machinery::new(n, name), By::Ticket(ticket)).await.expect("joined");
            nodes.push(node);
        }
        for node in &nodes {
            within("every node sees it settled", node.cluster.settled(nodes.len())).await;
        }
        nodes
    }
}

impl Node {
    pub(crate) fn number(&self) -> NodeNumber {
        self.cluster.number()
    }

    pub(crate) async fn ticket(&self) -> Ticket {
        let ticket = within("a ticket", self.cluster.issue_ticket(Duration::from_mins(1), 1)).await;
        ticket.expect("issued")
    }

    /// The process ends at once; its machine stays.
    pub(crate) async fn kill(self, net: &SimNet) -> Machinery {
        net.crash(self.endpoint.local());
        self.cluster.shutdown().await;
        self.replication.shutdown().await;
        self.endpoint.shutdown();
        self.wal.close().await;
        self.machinery.disk.kill();
        self.machinery
    }

    /// Writes through this node and reads it back.
    pub(crate) async fn write(&self, partition: u16, value: &'static str) {
        let group = GroupId::partition(partition);
        let written =
            within("a write", self.replication.propose(group, Bytes::from_static(value.as_bytes())));
        assert_eq!(written.await.expect("written").body, "ok");
        assert_eq!(self.read(partition).await, value);
    }

    pub(crate) async fn read(&self, partition: u16) -> Bytes {
        let read = self.replication.query(GroupId::partition(partition), Bytes::new());
        within("a read", read).await.expect("read").body
    }
}

/// What `future` gives, which must not take longer than [`LIMIT`].
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let in_time = tokio::time::timeout(LIMIT, future).await;
    in_time.unwrap_or_else(|late| panic!("{what}: not within {LIMIT:?}: {late}"))
}
