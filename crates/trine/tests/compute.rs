//! Jobs on three nodes: tasks run on all, results come back once and in order
//! of their commit, whoever dies.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::timeout;
use trine::node::{Node, NodeParts, Tuning};
use trine::seams::{OsEntropy, SystemClock};
use trine_cluster::{ClusterConfig, Directory, Doors, membership};
use trine_compute::body::{Bodies, Hands};
use trine_compute::launch::place::Isolation;
use trine_compute::run::process::{Processes, Settings};
use trine_compute::run::shelf::Shelf;
use trine_compute::run::{Cells, cells};
use trine_compute::spec::{Input, Work};
use trine_compute::tokens::TaskTokens;
use trine_compute::{JobId, JobSpec, Outcome, Output, Resources, TaskResult, TaskSpec};
use trine_storage::{Disk, Driver, OrderedStore, SimDisk, WalConfig, Workers};
use trine_transport::{EndpointConfig, SimConfig, SimNet, Ticket, Transport};
use trine_types::{GroupId, NodeNumber};

/// How long anything may take.
const LIMIT: Duration = Duration::from_mins(1);

struct Cluster {
    net: SimNet,
    nodes: Vec<Node>,
}

async fn hands(folder: &Path, number: u64) -> Hands {
    let folder = folder.join(number.to_string());
    let shelf = Shelf::open(&folder.join("kept")).expect("a folder");
    let tokens = TaskTokens::new(Arc::new(OsEntropy));
    let cells = Cells::open(cells::Settings {
        program: env!("CARGO_BIN_EXE_trine").into(),
        arguments: vec!["launcher".into()],
        folder: folder.join("cells"),
        isolation: Isolation::Nothing,
        open: Vec::new(),
        groups: None,
    });
    let settings = Settings {
        number: NodeNumber(number),
        cells: cells.await.expect("cells"),
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        shelf: shelf.clone(),
        tokens: tokens.clone(),
    };
    let process = Arc::new(Processes::new(settings));
    let slots = Resources::of(2_000, 1 << 30);
    Hands { slots, bodies: Bodies { process, python: None }, shelf, tokens: Some(tokens) }
}

async fn start(net: &SimNet, folder: &Path, number: u64, ticket: Option<Ticket>) -> Node {
    let disk: Arc<dyn Disk> = SimDisk::new(number).mount().expect("a fresh disk");
    let mut directory = Directory::open(disk.clone(), &OsEntropy).expect("an empty directory");
    let id = membership::identity(&directory).node_id();
    let transport: Arc<dyn Transport> = net.transport(id);
    let settings = ClusterConfig::default().validate().expect("the defaults are valid");
    let mut applicant = membership::applicant(&directory, &format!("node{number}"));
    let address = SocketAddr::from(([10, 0, 0, u8::try_from(number).expect("few nodes")], 7000));
    applicant.addresses = vec![address];
    match ticket {
        None => {
            membership::found(&mut directory, &applicant, 1, (&SystemClock, &OsEntropy), &settings)
                .expect("founds");
        }
        Some(ticket) => {
            membership::join(&mut directory, &transport, ticket, applicant).await.expect("joins");
        }
    }
    let (trust, _) = watch::channel(membership::trust(&directory).expect("its own trust"));
    let parts = NodeParts {
        directory,
        disk,
        driver: Driver::Task { sync_latency: Duration::from_millis(1) },
        state: Arc::new(OrderedStore::new(number)),
        transport,
        trust,
        workers: Workers::inline(),
        hashing: Workers::inline(),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(OsEntropy),
        doors: Doors { peers: vec![address], ..Doors::default() },
        open_to_all: false,
        resident_bytes: || 0,
        about: trine::node::About { profile: trine_mesh::members::Profile::default(), load: || 0 },
        tuning: Tuning {
            wal: WalConfig::small(),
            endpoint: EndpointConfig::default(),
            replication: trine_replication::Config::default(),
            cluster: settings,
            database: trine_database::Config::default(),
            hands: hands(folder, number).await,
        },
    };
    within("the node starts", Box::pin(Node::start(parts))).await.expect("the node starts")
}

async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    timeout(LIMIT, work).await.unwrap_or_else(|late| panic!("{what}: {late}"))
}

async fn cluster(folder: &Path) -> Cluster {
    let net = SimNet::new(1, SimConfig::default());
    drop(net.spawn_driver());
    let mut nodes = vec![Box::pin(start(&net, folder, 1, None)).await];
    for number in 2..=3 {
        let ticket = within("a ticket", nodes[0].cluster.issue_ticket(LIMIT, 1)).await.expect("issued");
        nodes.push(Box::pin(start(&net, folder, number, Some(ticket))).await);
    }
    for node in &nodes {
        within("replicas settle", node.cluster.settled(3)).await;
    }
    Cluster { net, nodes }
}

impl Cluster {
    /// The process of a node ends at once.
    async fn kill(&mut self, at: usize) {
        let node = self.nodes.remove(at);
        self.net.crash(node.endpoint.local());
        node.compute.shut_down();
        node.cluster.shutdown().await;
        node.replication.shutdown().await;
        node.endpoint.shutdown();
    }

    fn master(&self) -> usize {
        let leads = |node: &Node| node.replication.leader(GroupId::JOBS) == Some(node.cluster.number());
        self.nodes.iter().position(leads).expect("somebody leads")
    }
}

fn shell(script: &str) -> TaskSpec {
    TaskSpec::process(["sh", "-c", script])
}

async fn submit(node: &Node, spec: JobSpec, tasks: &[TaskSpec]) -> JobId {
    let job = within("the job", node.compute.create(spec)).await.expect("created");
    within("the tasks", node.compute.append(job, tasks)).await.expect("appended");
    within("closing", node.compute.close(job)).await.expect("closed");
    job
}

/// All results, by the index of their task; each once.
async fn collect(node: &Node, job: JobId) -> BTreeMap<u64, TaskResult> {
    let mut stream = node.compute.results(job, 0);
    let mut all = BTreeMap::new();
    loop {
        let part = within("results", stream.next()).await.expect("results");
        if part.results.is_empty() {
            assert!(part.progress.phase.is_over());
            return all;
        }
        for result in part.results {
            assert!(all.insert(result.index, result).is_none(), "a result twice");
        }
    }
}

fn text(output: &Output) -> String {
    match output {
        Output::Inline(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Output::Kept { .. } => panic!("kept elsewhere"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_run_on_all_nodes_and_tell_how_they_ended() {
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = cluster(folder.path()).await;
    let tasks: Vec<_> = (0..60).map(|n| shell(&format!("sleep 0.05; echo {n} $TRINE_TASK"))).collect();
    let job = submit(&cluster.nodes[1], JobSpec::default(), &tasks).await;
    let results = collect(&cluster.nodes[2], job).await;
    assert_eq!(results.len(), 60);
    for (index, result) in &results {
        assert_eq!(text(&result.stdout), format!("{index} {index}\n"));
        assert_eq!(result.outcome, Outcome::Exited { code: 0 });
        assert!(result.stamps.executed >= 50_000, "{:?}", result.stamps);
    }
    let nodes: BTreeSet<_> = results.values().map(|result| result.node).collect();
    assert_eq!(nodes.len(), 3, "{nodes:?}");

    let read = Work::Process {
        argv: vec![b"cat".to_vec()],
        stdin: Some(Input::Inline(Bytes::from_static(b"hello"))),
        env: Vec::new(),
    };
    let odd = [
        shell("echo out; echo err >&2; exit 7"),
        shell("kill -9 $$"),
        TaskSpec::process(["no-such-program"]),
        TaskSpec { pin: Some(NodeNumber(3)), work: read },
        shell("sleep 60"),
        shell("head -c 200000 /dev/zero"),
    ];
    let spec = JobSpec { timeout_ms: Some(2_000), ..JobSpec::default() };
    let job = submit(&cluster.nodes[0], spec, &odd).await;
    let results = collect(&cluster.nodes[0], job).await;
    assert_eq!(results[&0].outcome, Outcome::Exited { code: 7 });
    assert_eq!((text(&results[&0].stdout), text(&results[&0].stderr)), ("out\n".into(), "err\n".into()));
    assert_eq!(results[&1].outcome, Outcome::Signaled { signal: 9 });
    let missing = format!("{:?}", results[&2].outcome);
    assert!(missing.contains("no program no-such-program"), "{missing}");
    assert_eq!((text(&results[&3].stdout), results[&3].node), ("hello".into(), NodeNumber(3)));
    assert_eq!(results[&4].outcome, Outcome::TimedOut);
    let Output::Kept { hash, bytes, cut } = results[&5].stdout else { panic!("{:?}", results[&5].stdout) };
    assert_eq!((bytes, cut), (200_000, false));
    assert_eq!(kept(&cluster.nodes[0], hash, results[&5].node).await, vec![0; 200_000]);
}

/// All of a kept output, asked first of the node that executed its task.
async fn kept(node: &Node, hash: [u8; 32], at: NodeNumber) -> Vec<u8> {
    let (mut reader, mut all) = (node.compute.blobs().read(hash, Some(at), 0), Vec::new());
    while let Some(piece) = within("a piece", reader.next()).await.expect("it is there") {
        all.extend_from_slice(&piece);
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_results_outlive_the_node_that_made_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut cluster = cluster(folder.path()).await;
    let reader = cluster.master();
    let worker = (reader + 1) % 3;
    let number = cluster.nodes[worker].cluster.number();
    // A part and a half, and one that is on the second node alone later.
    let tasks = ["head -c 1500000 /dev/zero | tr '\\0' x", "yes | head -c 3000000"];
    let tasks = tasks.map(|script| TaskSpec { pin: Some(number), ..shell(script) });
    let job = submit(&cluster.nodes[reader], JobSpec::default(), &tasks).await;
    let results = collect(&cluster.nodes[reader], job).await;
    let hash = |index: u64| match results[&index].stdout {
        Output::Kept { hash, .. } => hash,
        Output::Inline(_) => panic!("{:?}", results[&index].outcome),
    };
    // On the first node's disk one byte has changed.
    let name = blake3::Hash::from_bytes(hash(1)).to_hex();
    let damaged = folder.path().join(number.0.to_string()).join("kept").join(name.as_str());
    let mut bytes = std::fs::read(&damaged).expect("it is there");
    bytes[2_000_000] ^= 1;
    std::fs::write(&damaged, bytes).expect("written");
    let yes = kept(&cluster.nodes[reader], hash(1), number).await;
    assert!(yes == b"y\n".repeat(1_500_000), "the copy is whole");
    let asker = cluster.nodes[reader].clone();
    cluster.kill(worker).await;
    assert_eq!(kept(&asker, hash(0), number).await, vec![b'x'; 1_500_000]);
    assert!(kept(&asker, hash(1), number).await == yes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_worker_s_tasks_run_elsewhere() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut cluster = cluster(folder.path()).await;
    let tasks: Vec<_> = (0..30).map(|n| shell(&format!("sleep 0.3; echo {n}"))).collect();
    let job = submit(&cluster.nodes[0], JobSpec::default(), &tasks).await;
    let mut stream = cluster.nodes[0].compute.results(job, 0);
    within("some results", stream.next()).await.expect("results");
    let worker = (cluster.master() + 1) % 3;
    cluster.kill(worker).await;
    let results = collect(&cluster.nodes[0], job).await;
    assert_eq!(results.len(), 30);
    assert!(results.values().all(|result| result.outcome.is_success()), "{results:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_tasks_go_on_when_the_master_dies() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut cluster = cluster(folder.path()).await;
    let ran = folder.path().join("ran");
    std::fs::create_dir(&ran).expect("a folder");
    let script = |n: u32| format!("sleep 0.5; echo {n}; echo x >> {}/{n}", ran.display());
    let tasks: Vec<_> = (0..24).map(|n| shell(&script(n))).collect();
    let job = submit(&cluster.nodes[0], JobSpec::default(), &tasks).await;
    let mut stream = cluster.nodes[0].compute.results(job, 0);
    within("some results", stream.next()).await.expect("results");
    let master = cluster.master();
    let dead = cluster.nodes[master].cluster.number();
    cluster.kill(master).await;
    let results = collect(&cluster.nodes[0], job).await;
    assert_eq!(results.len(), 24);
    assert!(results.values().all(|result| result.outcome.is_success()), "{results:?}");
    // Only what ran at the dead master, two side by side, may have run twice.
    let times = |n: u32| std::fs::read(ran.join(n.to_string())).map_or(0, |bytes| bytes.len() / 2);
    let twice = (0..24).filter(|&n| times(n) > 1).count();
    assert!(twice <= 2, "{twice} tasks ran twice; the master was {dead}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_job_leaves_no_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = cluster(folder.path()).await;
    let mark = folder.path().join("alive");
    let script = format!("echo $$ >> {}; sleep 600 & wait", mark.display());
    let tasks: Vec<_> = (0..6).map(|_| shell(&script)).collect();
    let job = submit(&cluster.nodes[0], JobSpec::default(), &tasks).await;
    let groups = || -> Vec<i32> {
        let text = std::fs::read_to_string(&mark).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    };
    let alive = |group: &i32| {
        let group = rustix::process::Pid::from_raw(*group).expect("a number");
        rustix::process::test_kill_process_group(group).is_ok()
    };
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    within("all begin", async {
        while groups().len() < 6 {
            looks.tick().await;
        }
    })
    .await;
    within("cancelling", cluster.nodes[1].compute.cancel(job)).await.expect("cancelled");
    within("all are gone", async {
        while groups().iter().any(alive) {
            looks.tick().await;
        }
    })
    .await;
    assert_eq!(collect(&cluster.nodes[2], job).await, BTreeMap::new());
}
