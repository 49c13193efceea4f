//! A node whose state store fails must not go on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use trine::node::{Failed, Node, NodeParts, Tuning};
use trine::seams::{OsEntropy, SystemClock};
use trine_cluster::{ClusterConfig, Directory, Doors, membership};
use trine_database::resp::Value;
use trine_storage::{Disk, Driver, OrderedStore, SimDisk, WalConfig, Workers};
use trine_transport::{EndpointConfig, SimConfig, SimNet, Transport};

/// A node alone, on a simulated disk, network and state store.
async fn lone_node(store: OrderedStore) -> Node {
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
        about: trine::node::About { profile: trine_mesh::members::Profile::default(), load: || 0 },
        tuning: Tuning {
            wal: WalConfig::small(),
            endpoint: EndpointConfig::default(),
            replication: trine_replication::Config::small(),
            cluster: settings,
            database: trine_database::Config::default(),
        },
    };
    Node::start(parts).await.expect("the node starts")
}

async fn set(node: &Node, value: &'static str) -> Value {
    let mut connection = node.database.connect("a test");
    node.database.execute(&mut connection, ["SET", "k", value].map(Bytes::from).to_vec()).await
}

#[tokio::test]
async fn a_node_whose_state_store_fails_must_stop() {
    let store = OrderedStore::new(1);
    let node = lone_node(store.clone()).await;
    while set(&node, "before").await != Value::Simple("OK".into()) {}
    store.fail_commits(1);
    let failed = tokio::select! {
        biased;
        failed = node.failed() => failed,
        reply = set(&node, "lost") => panic!("{reply:?} from a store that fails"),
    };
    assert!(matches!(failed, Failed::State(_)), "{failed}");
    let text = failed.to_string();
    assert!(text.contains("injected commit failure") && text.contains("the node stops"), "{text}");
}
