//! A node alone, for tests of what one node does.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use trine::node::{About, Node, NodeParts, Tuning};
use trine::seams::{OsEntropy, SystemClock};
use trine_cluster::{ClusterConfig, Directory, Doors, membership};
use trine_storage::{Disk, Driver, OrderedStore, SimDisk, WalConfig, Workers};
use trine_transport::{EndpointConfig, SimConfig, SimNet, Transport};

/// A node alone, on a simulated disk, network and state store.
pub(crate) async fn node(store: OrderedStore) -> Node {
    let net = SimNet::new(1, SimConfig::default());
    drop(net.spawn_driver());
    let disk: Arc<dyn Disk> = SimDisk::new(1).mount().expect("a fresh disk");
    let mut directory = Directory::open(disk.clone(), &OsEntropy).expect("an empty directory");
    let transport: Arc<dyn Transport> = net.transport(membership::identity(&directory).node_id());
    let settings = ClusterConfig::default().validate().expect("the defaults are valid");
    let applicant = membership::applicant(&directory, "node1");
    membership::found(&mut directory, &applicant, 1, (&SystemClock, &OsEntropy), &settings).expect("founds");
    let (trust, _) = watch::channel(membership::trust(&directory).expect("its own trust"));
    let parts = NodeParts {
        directory,
        disk,
        driver: Driver::Task { sync_latency: Duration::from_millis(1) },
        state: Arc::new(store),
        transport,
        trust,
        workers: Workers::inline(),
        hashing: Workers::inline(),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(OsEntropy),
        doors: Doors::default(),
        open_to_all: false,
        resident_bytes: || 0,
        about: About { profile: trine_mesh::members::Profile::default(), load: || 0 },
        tuning: Tuning {
            wal: WalConfig::small(),
            endpoint: EndpointConfig::default(),
            replication: trine_replication::Config::small(),
            cluster: settings,
            database: trine_database::Config::default(),
            hands: trine_compute::body::Hands::none(),
        },
    };
    Node::start(parts).await.expect("the node starts")
}
