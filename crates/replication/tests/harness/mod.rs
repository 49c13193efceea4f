//! A small vocabulary for cluster stories: nodes over the simulated network,
//! disk and state store, all on one paused runtime.

#![allow(dead_code, reason = "each test file uses a part of the vocabulary")]
#![allow(clippy::unwrap_used, reason = "this is a test")]

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Bound;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use trine_replication::{
    Answer, Config, GroupStatus, Machine, Parts, ProposeError, QueryError, ReadTime, Replication, Role, Stamp,
};
use trine_storage::{Driver, OrderedStore, SimDisk, Transaction, View, Wal, WalConfig, Workers};
use trine_transport::{Endpoint, EndpointConfig, SimConfig, SimNet};
use trine_types::{Clock, Entropy, GroupId, Incarnation, NodeId, NodeNumber};

pub(crate) const GROUP: GroupId = GroupId(7);
const WALL_AT_START: u64 = 1_700_000_000_000;

/// Counters and texts: `add KEY N`, `append KEY TEXT`, `stamp`, `big N`;
/// `get KEY`, `passed MS`, `sum`.
pub(crate) struct Notebook;

fn row(key: &str) -> Bytes {
    Bytes::from(format!("\x01{key}"))
}

fn text(bytes: Option<Bytes>) -> String {
    bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

impl Machine for Notebook {
    fn apply(&self, tx: &mut Transaction<'_>, stamp: &Stamp, command: &[u8]) -> Bytes {
        let command = String::from_utf8_lossy(command).into_owned();
        let words: Vec<&str> = command.split(' ').collect();
        let reply = match words.as_slice() {
            ["add", key, n] => {
                let old: i64 = text(tx.get(&row(key)).unwrap()).parse().unwrap_or(0);
                let new = (old + n.parse::<i64>().unwrap()).to_string();
                tx.put(row(key), new.clone()).unwrap();
                new
            }
            ["append", key, more] => {
                let new = text(tx.get(&row(key)).unwrap()) + more + ",";
                tx.put(row(key), new.clone()).unwrap();
                new
            }
            ["stamp"] => format!("{} {} {}", stamp.time_ms, stamp.seed, stamp.semantics),
            ["big", n] => {
                let n: usize = n.parse().unwrap();
                tx.put(row(&format!("big{}", stamp.seed)), vec![7; n]).unwrap();
                "ok".to_string()
            }
            _ => "what?".to_string(),
        };
        Bytes::from(reply)
    }

    fn query(&self, view: &dyn View, time: ReadTime, query: &[u8]) -> Answer {
        let query = String::from_utf8_lossy(query).into_owned();
        let words: Vec<&str> = query.split(' ').collect();
        let reply = match words.as_slice() {
            ["get", key] => text(view.get(&row(key)).unwrap()),
            ["passed", moment] => {
                let moment = moment.parse().unwrap();
                if time.state_ms < moment && moment <= time.wall_ms {
                    return Answer::NeedsTime(moment);
                }
                (time.state_ms >= moment).to_string()
            }
            ["rows"] => view.scan(Bound::Unbounded, Bound::Unbounded, 100_000).unwrap().len().to_string(),
            _ => "what?".to_string(),
        };
        Answer::Reply(Bytes::from(reply))
    }
}

/// Differs from the others in one reply and row: a bug, or a broken disk.
pub(crate) struct Odd;

impl Machine for Odd {
    fn apply(&self, tx: &mut Transaction<'_>, stamp: &Stamp, command: &[u8]) -> Bytes {
        tx.put(row("odd"), "1").unwrap();
        Notebook.apply(tx, stamp, command)
    }

    fn query(&self, view: &dyn View, time: ReadTime, query: &[u8]) -> Answer {
        Notebook.query(view, time, query)
    }
}

struct VirtualClock {
    start: Instant,
    skew_ms: Arc<AtomicI64>,
}

impl Clock for VirtualClock {
    fn wall_ms(&self) -> u64 {
        let passed = i64::try_from(self.start.elapsed().as_millis()).unwrap();
        let skewed = i64::try_from(WALL_AT_START).unwrap() + passed + self.skew_ms.load(Ordering::Relaxed);
        u64::try_from(skewed).unwrap()
    }
}

struct Dice(AtomicU64);

impl Entropy for Dice {
    fn fill(&self, bytes: &mut [u8]) {
        for byte in bytes {
            let x = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            *byte = (x >> 56) as u8;
        }
    }
}

pub(crate) struct Machines {
    pub(crate) disk: SimDisk,
    pub(crate) store: OrderedStore,
    pub(crate) incarnation: u64,
    pub(crate) skew_ms: Arc<AtomicI64>,
}

/// A cluster of nodes 1, 2, ...
pub(crate) struct Cluster {
    pub(crate) net: SimNet,
    pub(crate) config: Config,
    pub(crate) machines: BTreeMap<u64, Machines>,
    pub(crate) nodes: BTreeMap<u64, Replication>,
    endpoints: BTreeMap<u64, Endpoint>,
    wals: BTreeMap<u64, Wal>,
    start: Instant,
    pub(crate) odd: Mutex<Option<u64>>,
}

pub(crate) fn key(number: u64) -> NodeId {
    let mut key = [0; 32];
    key[31] = u8::try_from(number).unwrap();
    NodeId(key)
}

pub(crate) fn keys(numbers: &[u64]) -> BTreeMap<NodeNumber, NodeId> {
    numbers.iter().map(|number| (NodeNumber(*number), key(*number))).collect()
}

impl Cluster {
    /// Nodes 1 to `count`, started, without any group.
    pub(crate) async fn idle(count: u64, seed: u64, config: Config) -> Self {
        trine_replication::seed_thread(seed);
        let net = SimNet::new(seed, SimConfig::default());
        drop(net.spawn_driver());
        let mut cluster = Self {
            net,
            config,
            machines: BTreeMap::new(),
            nodes: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            wals: BTreeMap::new(),
            start: Instant::now(),
            odd: Mutex::new(None),
        };
        for number in 1..=count {
            let machines = Machines {
                disk: SimDisk::new(seed * 100 + number),
                store: OrderedStore::new(seed * 100 + number),
                incarnation: 0,
                skew_ms: Arc::default(),
            };
            cluster.machines.insert(number, machines);
            cluster.boot(number).await;
        }
        cluster
    }

    /// The same with one group on all of them.
    pub(crate) async fn of(count: u64, seed: u64) -> Self {
        Self::configured(count, seed, Config::default()).await
    }

    pub(crate) async fn configured(count: u64, seed: u64, config: Config) -> Self {
        let cluster = Self::idle(count, seed, config).await;
        for number in 1..=count {
            cluster.open(number).await;
        }
        let all: Vec<u64> = (1..=count).collect();
        cluster.nodes[&1].initialize(GROUP, keys(&all)).await.unwrap();
        cluster.leader().await;
        cluster
    }

    pub(crate) async fn open(&self, number: u64) {
        let odd = *self.odd.lock().unwrap() == Some(number);
        let machine: Arc<dyn Machine> = if odd { Arc::new(Odd) } else { Arc::new(Notebook) };
        self.nodes[&number].open_group(GROUP, machine).await.unwrap();
    }

    /// Starts a node that is down.
    pub(crate) async fn boot(&mut self, number: u64) {
        let machines = self.machines.get_mut(&number).unwrap();
        machines.incarnation += 1;
        let disk = machines.disk.mount().unwrap();
        let wal_config = WalConfig { must_exist: machines.incarnation > 1, ..WalConfig::small() };
        let driver = Driver::Task { sync_latency: Duration::from_millis(1) };
        let wal = Wal::open(disk, wal_config, driver).unwrap();
        let entropy = Arc::new(Dice(AtomicU64::new(number * 1000 + machines.incarnation)));
        let transport = self.net.transport(key(number));
        let endpoint = Endpoint::new(transport, entropy.clone(), EndpointConfig::default());
        let parts = Parts {
            number: NodeNumber(number),
            incarnation: Incarnation(machines.incarnation),
            endpoint: endpoint.clone(),
            wal: wal.clone(),
            state: Arc::new(machines.store.clone()),
            workers: Workers::inline(),
            clock: Arc::new(VirtualClock { start: self.start, skew_ms: machines.skew_ms.clone() }),
            entropy,
            config: self.config.clone(),
        };
        let node = Replication::start(parts).await.unwrap();
        node.peers(keys(&[1, 2, 3, 4, 5]));
        self.nodes.insert(number, node);
        self.endpoints.insert(number, endpoint);
        self.wals.insert(number, wal);
    }

    /// The process and its machine die; what was not synced is lost.
    pub(crate) async fn crash(&mut self, number: u64) {
        self.net.crash(key(number));
        let machines = &self.machines[&number];
        machines.disk.crash();
        machines.store.crash();
        let node = self.nodes.remove(&number).unwrap();
        if let Some(endpoint) = self.endpoints.remove(&number) {
            endpoint.shutdown();
        }
        node.shutdown().await;
        self.wals.remove(&number).unwrap().close().await;
        machines.disk.kill();
    }

    pub(crate) async fn restart(&mut self, number: u64) {
        self.boot(number).await;
        self.open(number).await;
    }

    /// The last entry that this node removed from its log.
    pub(crate) fn purged(&self, number: u64) -> u64 {
        self.wals[&number].group(GROUP).bounds().purged.map_or(0, |at| at.index)
    }

    pub(crate) fn status(&self, number: u64) -> GroupStatus {
        self.nodes[&number].group_status(GROUP).unwrap()
    }

    /// Waits until exactly one running node leads and the others know it.
    pub(crate) async fn leader(&self) -> u64 {
        let mut found = 0;
        until("a leader", || {
            let leading: Vec<u64> = self
                .nodes
                .iter()
                .filter(|(_, node)| node.group_status(GROUP).is_some_and(|s| s.role == Role::Leader))
                .map(|(number, _)| *number)
                .collect();
            found = leading.first().copied().unwrap_or(0);
            leading.len() == 1
                && self.nodes.values().all(|node| {
                    node.group_status(GROUP).is_none_or(|status| status.leader == Some(NodeNumber(found)))
                })
        })
        .await;
        found
    }

    pub(crate) async fn propose(&self, at: u64, command: &str) -> Result<String, ProposeError> {
        let reply = self.nodes[&at].propose(GROUP, Bytes::from(command.to_string())).await?;
        Ok(String::from_utf8_lossy(&reply.body).into_owned())
    }

    pub(crate) async fn query(&self, at: u64, query: &str) -> Result<String, QueryError> {
        let reply = self.nodes[&at].query(GROUP, Bytes::from(query.to_string())).await?;
        Ok(String::from_utf8_lossy(&reply.body).into_owned())
    }

    /// Waits until all running replicas have applied the same and agree.
    pub(crate) async fn agree(&self) {
        until("agreement", || {
            let all: Vec<GroupStatus> =
                self.nodes.values().filter_map(|node| node.group_status(GROUP)).collect();
            all.iter().all(|s| s.applied == all[0].last_index && s.last_index == all[0].last_index)
        })
        .await;
        let digests: Vec<u64> =
            self.nodes.values().filter_map(|node| node.group_status(GROUP)).map(|s| s.digest).collect();
        assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:x?}");
    }
}

/// Lets (paused) time pass until `condition` holds; fails after two minutes.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_mins(2);
    while !condition() {
        assert!(Instant::now() < end, "waited for {what} in vain");
        pass(Duration::from_millis(5)).await;
    }
}

/// Lets paused time pass.
pub(crate) async fn pass(time: Duration) {
    tokio::time::timeout(time, std::future::pending::<()>()).await.unwrap_err();
}

/// As [`story`], for stories that a loop without a pause would never let end:
/// paused time stands still while something runs.
pub(crate) fn story_in_time(ending: impl Future<Output = ()> + Send + 'static) {
    let (done, finished) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        story(ending);
        done.send(()).unwrap();
    });
    finished.recv_timeout(Duration::from_mins(1)).expect("time passes");
}

/// Runs a story on a paused runtime.
pub(crate) fn story(story: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(story);
}
