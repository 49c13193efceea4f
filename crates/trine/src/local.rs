//! Clusters of child processes on this machine, for `dev`, `demo` and tests.
//! Every node is a real `trine start` with its own key, sockets and data
//! directory; its log goes to a file next to its data.
//!
//! Children run in their own process group, so that Ctrl-C reaches only the
//! parent, and ask the kernel to die with the parent (`--parent`). The kernel
//! ties that to the *thread* that started them: everything here must run on a
//! current-thread runtime on the main thread.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::admin::SOCKET_NAME;
use crate::admin::client::{AdminClient, node_folder};
use crate::admin::protocol::StatusReport;
use crate::failure::Failure;
use crate::private::make_private;

/// Pause between two looks at a condition that is being waited for.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a node may take to serve.
pub const START_LIMIT: Duration = Duration::from_secs(30);
/// How long a node may take to hand over and stop before it is killed.
pub const STOP_LIMIT: Duration = Duration::from_secs(10);
/// Lines of a failed node's log that are shown.
const LOG_TAIL_LINES: usize = 12;
/// Where [`free_ports`] are: below those of outgoing connections.
const PORTS: Range<u16> = 10_240..32_000;
/// Ports between the first ones of two processes that started one after the other.
const PROCESSES_APART: u32 = 7_919;
/// Counts the ports that this process has looked at.
static NEXT_PORT: AtomicU32 = AtomicU32::new(0);
/// File in a node's folder that takes its standard error.
const LOG_NAME: &str = "trine.log";

/// Partitions of a local cluster, which knows how many nodes it will have: as
/// few as let every node lead one. Its nodes share the cores of one machine,
/// so that more would only make each round of Raft carry less. (A cluster that
/// may grow begins with more.)
pub const PARTITIONS_PER_NODE: u16 = 1;

/// Where one node lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSpec {
    /// Number within the local cluster, from 1.
    pub n: u16,
    /// Data directory.
    pub data: PathBuf,
    /// Address of the Redis door.
    pub redis: SocketAddr,
    /// Address of the NATS door.
    pub nats: SocketAddr,
    /// Address of the admin API.
    pub admin: SocketAddr,
    /// Address for other nodes.
    pub peer: SocketAddr,
    /// Partitions, if this node creates the cluster.
    pub partitions: Option<u16>,
    /// Whether tasks may run without confinement.
    pub unsafe_tasks: bool,
    /// The program; `None`: the one that runs now.
    pub program: Option<PathBuf>,
    /// More of what `trine start` takes.
    pub more: Vec<String>,
}

impl NodeSpec {
    /// Node `n` below `root` on these loopback ports. Its NATS door and its admin
    /// API are on any free ones: its status says on which.
    pub fn local(root: &Path, n: u16, redis_port: u16, peer_port: u16) -> Self {
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            n,
            data: node_folder(root, n),
            redis: at(redis_port),
            nats: at(0),
            admin: at(0),
            peer: at(peer_port),
            partitions: None,
            unsafe_tasks: false,
            program: None,
            more: Vec::new(),
        }
    }

    /// Whether this data directory has been a node before.
    pub fn exists(&self) -> bool {
        self.data.join(crate::start::MEMBER_FILE).exists()
    }

    /// The node's admin socket.
    pub fn socket(&self) -> PathBuf {
        self.data.join(SOCKET_NAME)
    }

    fn log_path(&self) -> PathBuf {
        self.data.join(LOG_NAME)
    }
}

/// A running node process; dropping it kills it.
#[derive(Debug)]
pub struct NodeProcess {
    /// Where it lives.
    pub spec: NodeSpec,
    /// Its process id.
    pub pid: u32,
    child: Child,
}

impl NodeProcess {
    /// Starts the node; `ticket` makes it join.
    ///
    /// # Errors
    /// The program cannot be started.
    pub async fn spawn(spec: NodeSpec, ticket: Option<&str>) -> Result<Self, Failure> {
        let cannot = |error: std::io::Error| Failure::new(format!("cannot start node {}: {error}", spec.n));
        make_private(&spec.data)?;
        let log = open_log(&spec.log_path()).map_err(cannot)?;
        let program = match &spec.program {
            Some(program) => program.clone(),
            None => std::env::current_exe().map_err(cannot)?,
        };
        let mut command = Command::new(program);
        command.arg("start").arg("--data").arg(&spec.data);
        command.args(["--name", &format!("node{}", spec.n)]);
        command.args(["--redis", &spec.redis.to_string(), "--peer", &spec.peer.to_string()]);
        command.args(["--nats", &spec.nats.to_string(), "--admin", &spec.admin.to_string()]);
        command.args(["--parent", &std::process::id().to_string()]);
        // Several nodes share the cores: more threads would only change places.
        command.args(["--threads", "1"]).args(&spec.more);
        if let (Some(partitions), None) = (spec.partitions, ticket) {
            command.args(["--partitions", &partitions.to_string()]);
        }
        if spec.unsafe_tasks {
            command.arg("--unsafe-tasks");
        }
        if ticket.is_some() {
            command.args(["--join", "-"]).stdin(Stdio::piped());
        } else {
            command.stdin(Stdio::null());
        }
        command.stdout(Stdio::null()).stderr(log).process_group(0).kill_on_drop(true);
        let mut child = command.spawn().map_err(cannot)?;
        if let (Some(ticket), Some(mut stdin)) = (ticket, child.stdin.take()) {
            stdin.write_all(ticket.as_bytes()).await.map_err(cannot)?;
        }
        let pid = child.id().ok_or_else(|| Failure::new("a node ended at once"))?;
        Ok(Self { spec, pid, child })
    }

    /// Waits until the node serves and `is_met` holds for its status.
    ///
    /// # Errors
    /// It ends, or does not get there before `limit`.
    pub async fn wait(
        &mut self,
        limit: Duration,
        is_met: impl Fn(&StatusReport) -> bool,
    ) -> Result<StatusReport, Failure> {
        let deadline = Instant::now() + limit;
        let mut last = None;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.explain(&format!("ended with {status}")));
            }
            if let Ok(mut client) = AdminClient::connect(&self.spec.socket())
                && let Ok(status) = client.status().await
            {
                if is_met(&status) {
                    return Ok(status);
                }
                last = Some(status);
            }
            if Instant::now() > deadline {
                let seen =
                    last.map_or_else(String::new, |status| format!("; {}", status.problems.join("; ")));
                return Err(self.explain(&format!("was not ready after {} s{seen}", limit.as_secs())));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until the node serves.
    ///
    /// # Errors
    /// As [`NodeProcess::wait`].
    pub async fn wait_ready(&mut self) -> Result<StatusReport, Failure> {
        self.wait(START_LIMIT, |status| status.ready).await
    }

    /// A connection to its admin socket.
    ///
    /// # Errors
    /// It does not listen.
    pub fn admin(&self) -> Result<AdminClient, Failure> {
        AdminClient::connect(&self.spec.socket()).map_err(|error| {
            Failure::new(format!("node {} does not answer on its admin socket: {error}", self.spec.n))
        })
    }

    /// Kills the node at once (SIGKILL) and waits until it is gone.
    ///
    /// # Errors
    /// The system refuses.
    pub async fn kill(&mut self) -> Result<(), Failure> {
        let cannot = |error| Failure::new(format!("cannot kill node {}: {error}", self.spec.n));
        self.child.kill().await.map_err(cannot)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
            // It may have ended meanwhile: then there is nothing to signal.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Waits until the process ends by itself.
    ///
    /// # Errors
    /// The system cannot tell.
    pub async fn ended(&mut self) -> Result<std::process::ExitStatus, Failure> {
        self.child.wait().await.map_err(Failure::new)
    }

    /// The failure of this node, with the end of its log.
    pub fn explain(&self, what: &str) -> Failure {
        let log = std::fs::read_to_string(self.spec.log_path()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n  | ");
        let path = self.spec.log_path();
        Failure::new(format!("node {} {what}; its log {} ends:\n  | {tail}", self.spec.n, path.display()))
    }
}

fn open_log(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Stops nodes as an operator would: SIGTERM, so that they hand over; who is
/// not gone in time is killed.
pub async fn stop_all(nodes: &mut [NodeProcess]) {
    for node in nodes.iter() {
        node.signal(Signal::TERM);
    }
    let deadline = Instant::now() + STOP_LIMIT;
    for node in nodes.iter_mut() {
        if tokio::time::timeout_at(deadline, node.child.wait()).await.is_err() {
            // Killed on drop too; this waits for it.
            let _ = node.kill().await;
        }
    }
}

/// Looks again and again until `is_met`; `false`: not within `limit`.
pub async fn until(limit: Duration, mut is_met: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !is_met() {
        if Instant::now() > deadline {
            return false;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    true
}

/// Kills nodes (SIGKILL) and waits until they are gone.
pub async fn kill_all(nodes: &mut [NodeProcess]) {
    for node in nodes.iter_mut() {
        // One that has ended already needs no kill.
        let _ = node.kill().await;
    }
}

/// Fails clearly when somebody else listens on `address`.
///
/// # Errors
/// The port is taken; the message names the flag that moves it.
pub fn require_free(address: SocketAddr, what: &str, flag: &str) -> Result<(), Failure> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::new(format!("{what}: {address} cannot be used: {error}"))
            .hint(format!("stop what listens there, or choose another port with {flag}"))),
    }
}

/// Loopback ports that are free now, for clusters that live shortly. No other
/// call in this process gets the same, and no outgoing connection takes one
/// before it is used, as it could one that the system chose.
///
/// # Errors
/// The system has none.
pub fn free_ports(count: usize) -> Result<Vec<u16>, Failure> {
    let span = u32::from(PORTS.end - PORTS.start);
    // Processes that run at the same time begin far from each other.
    let first = std::process::id().wrapping_mul(PROCESSES_APART);
    let next = || NEXT_PORT.fetch_add(1, Ordering::Relaxed).wrapping_add(first) % span;
    let port = |at| u16::try_from(at).map_or(PORTS.start, |at| PORTS.start + at);
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let free: Vec<u16> = (0..span).map(|_| port(next())).filter(is_free).take(count).collect();
    if free.len() == count { Ok(free) } else { Err(Failure::new("no free port on loopback")) }
}

/// Starts a whole cluster: nodes that have data start at once, then new ones
/// join by ticket. Returns when every node serves. The processes are put into
/// `nodes` as they start, so that the caller has them also after a failure.
///
/// # Errors
/// A node does not start.
pub async fn start_cluster(specs: Vec<NodeSpec>, nodes: &mut Vec<NodeProcess>) -> Result<(), Failure> {
    let (old, mut new): (Vec<_>, Vec<_>) = specs.into_iter().partition(NodeSpec::exists);
    let founders = if old.is_empty() { vec![new.remove(0)] } else { old };
    for spec in founders {
        nodes.push(NodeProcess::spawn(spec, None).await?);
    }
    for node in nodes.iter_mut() {
        node.wait_ready().await?;
    }
    for spec in new {
        let mut admin = nodes[0].admin()?;
        let ticket = admin.ticket(Duration::from_mins(10)).await?;
        nodes.push(NodeProcess::spawn(spec, Some(&ticket.ticket)).await?);
    }
    for node in nodes.iter_mut() {
        node.wait_ready().await?;
    }
    nodes.sort_by_key(|node| node.spec.n);
    Ok(())
}

/// Waits until replicas are where they should be: the cluster tolerates the
/// loss of `tolerates` nodes as every node sees it.
///
/// # Errors
/// It does not get there in time.
pub async fn wait_settled(
    nodes: &mut [NodeProcess],
    limit: Duration,
    tolerates: usize,
) -> Result<(), Failure> {
    let count = nodes.len();
    for node in nodes.iter_mut() {
        node.wait(limit, |status| status.ready && status.nodes >= count && status.tolerates >= tolerates)
            .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_names_the_flag() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = taken.local_addr().expect("bound");
        let failure = require_free(address, "Redis door of node 1", "--redis-port").expect_err("taken");
        let text = failure.to_string();
        assert!(text.contains(&address.to_string()) && text.contains("--redis-port"), "{text}");
    }

    #[test]
    fn free_ports_differ() {
        let ports = free_ports(4).expect("ports");
        let distinct: std::collections::BTreeSet<_> = ports.iter().collect();
        assert_eq!(distinct.len(), 4);
        let again = free_ports(4).expect("ports");
        assert!(again.iter().all(|port| !distinct.contains(port)), "{again:?}");
    }

    #[test]
    fn no_outgoing_connection_takes_a_free_port() {
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
        let first = range.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(32_768);
        assert!(free_ports(4).expect("ports").iter().all(|port: &u16| *port < first));
    }
}
