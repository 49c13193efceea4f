//! `trine dev`: a local cluster that runs until Ctrl-C.

use std::net::{Ipv4Addr, SocketAddr};

use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::DevArgs;
use crate::config::default_peer_port;
use crate::failure::Failure;
use crate::local::{self, NodeProcess, NodeSpec};

/// Distance between the ports of two neighbouring nodes.
const PORT_STEP: u16 = 10;

/// Where one node of the local cluster is reached, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Door {
    node: u16,
    pid: u32,
    redis: String,
    nats: String,
    admin: String,
    data: String,
}

/// Runs the cluster.
///
/// # Errors
/// A port is taken, a node does not start, or one ends by itself.
pub async fn run(args: &DevArgs, json: bool) -> Result<(), Failure> {
    let specs = layout(args)?;
    for spec in &specs {
        local::require_free(spec.redis, &format!("Redis door of node {}", spec.n), "--redis-port PORT")?;
        local::require_free(spec.nats, &format!("NATS door of node {}", spec.n), "--nats-port PORT")?;
        local::require_free(spec.admin, &format!("admin API of node {}", spec.n), "--admin-port PORT")?;
        local::require_free(spec.peer, &format!("peer port of node {}", spec.n), "--peer-port PORT")?;
    }
    let mut stop = StopSignal::new()?;
    let mut nodes = Vec::new();
    let outcome = tokio::select! {
        biased;
        () = stop.wait() => Ok(()),
        failure = keep_running(specs, &mut nodes, args, json) => Err(failure),
    };
    eprintln!("stopping {} nodes", nodes.len());
    local::stop_all(&mut nodes).await;
    outcome
}

/// Starts the nodes and runs until something fails.
async fn keep_running(
    specs: Vec<NodeSpec>,
    nodes: &mut Vec<NodeProcess>,
    args: &DevArgs,
    json: bool,
) -> Failure {
    if let Err(failure) = local::start_cluster(specs, nodes).await {
        return failure;
    }
    match announce(nodes, args, json) {
        Ok(()) => first_end(nodes).await,
        Err(failure) => failure,
    }
}

/// The ports and folders of all nodes.
fn layout(args: &DevArgs) -> Result<Vec<NodeSpec>, Failure> {
    let peer_port = match args.peer_port {
        Some(port) => port,
        None => default_peer_port(args.redis_port).map_err(|error| {
            Failure::new(error).hint("choose a port between nodes with --peer-port PORT").usage()
        })?,
    };
    let data = std::path::absolute(&args.data).map_err(Failure::new)?;
    let port = |base: u16, n: u16, flag: &str| {
        base.checked_add(PORT_STEP * (n - 1)).ok_or_else(|| {
            Failure::new(format!("node {n} would need a port above 65535"))
                .hint(format!("lower {flag}"))
                .usage()
        })
    };
    let partitions = args.partitions.unwrap_or(local::PARTITIONS_PER_NODE * args.nodes);
    (1..=args.nodes)
        .map(|n| {
            let redis = port(args.redis_port, n, "--redis-port")?;
            let peer = port(peer_port, n, "--peer-port")?;
            let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let nats = at(port(args.nats_port, n, "--nats-port")?);
            let admin = at(port(args.admin_port, n, "--admin-port")?);
            Ok(NodeSpec {
                partitions: Some(partitions),
                nats,
                admin,
                unsafe_tasks: args.unsafe_tasks,
                ..NodeSpec::local(&data, n, redis, peer)
            })
        })
        .collect()
}

fn announce(nodes: &[NodeProcess], args: &DevArgs, json: bool) -> Result<(), Failure> {
    let doors: Vec<Door> = nodes
        .iter()
        .map(|node| Door {
            node: node.spec.n,
            pid: node.pid,
            redis: node.spec.redis.to_string(),
            nats: node.spec.nats.to_string(),
            admin: node.spec.admin.to_string(),
            data: node.spec.data.display().to_string(),
        })
        .collect();
    if json {
        println!("{}", serde_json::to_string(&doors).map_err(Failure::new)?);
        return Ok(());
    }
    for door in &doors {
        let (node, pid, redis) = (door.node, door.pid, port_of(&door.redis));
        println!(
            "node {node}  pid {pid:<7}  redis-cli -p {redis}  nats://{}  admin http://{}",
            door.nats, door.admin
        );
    }
    let flag = match args.data.to_str() {
        Some(crate::admin::DEFAULT_DEV_DATA) => String::new(),
        _ => format!(" --data {}", args.data.display()),
    };
    eprintln!(
        "data and logs below {}; look with `trine status{flag}`, `trine nodes{flag}`, `trine groups{flag}`",
        args.data.display()
    );
    eprintln!("Ctrl-C stops the cluster; its data stays");
    Ok(())
}

fn port_of(address: &str) -> &str {
    address.rsplit(':').next().unwrap_or(address)
}

/// Waits until any node ends by itself.
async fn first_end(nodes: &mut [NodeProcess]) -> Failure {
    let ends = nodes.iter_mut().map(|node| {
        Box::pin(async move {
            let what = match node.ended().await {
                Ok(status) => format!("ended with {status}"),
                Err(failure) => failure.to_string(),
            };
            node.explain(&what)
        })
    });
    let (failure, _, _) = futures::future::select_all(ends).await;
    failure
}

/// Ctrl-C, SIGTERM or a closed terminal.
#[derive(Debug)]
pub struct StopSignal {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: Option<tokio::signal::unix::Signal>,
}

impl StopSignal {
    /// Listens from now on.
    ///
    /// # Errors
    /// The system refuses a handler.
    pub fn new() -> Result<Self, Failure> {
        Ok(Self { hangup: Some(listen(SignalKind::hangup())?), ..Self::of_node()? })
    }

    /// The same for a node, which outlives the terminal that started it if it
    /// was started so (`nohup`).
    ///
    /// # Errors
    /// As [`StopSignal::new`].
    pub fn of_node() -> Result<Self, Failure> {
        let (interrupt, terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate, hangup: None })
    }

    /// Waits for one of them.
    pub async fn wait(&mut self) {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = hung_up(self.hangup.as_mut()) => {}
        }
    }
}

fn listen(kind: SignalKind) -> Result<tokio::signal::unix::Signal, Failure> {
    signal(kind).map_err(|error| Failure::new(format!("cannot listen for signals: {error}")))
}

async fn hung_up(signal: Option<&mut tokio::signal::unix::Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(redis_port: u16) -> DevArgs {
        let data = "trine-dev".into();
        DevArgs {
            nodes: 3,
            data,
            redis_port,
            peer_port: None,
            nats_port: 4222,
            admin_port: 7070,
            partitions: None,
            unsafe_tasks: false,
        }
    }

    #[test]
    fn ports_follow_the_documented_steps() {
        let layout = layout(&args(6379)).expect("fits");
        let ports: Vec<_> =
            layout.iter().map(|s| [s.redis, s.peer, s.nats, s.admin].map(|door| door.port())).collect();
        let expected = [[6379, 16379, 4222, 7070], [6389, 16389, 4232, 7080], [6399, 16399, 4242, 7090]];
        assert_eq!(ports, expected);
    }

    #[test]
    fn ports_that_do_not_exist_are_refused() {
        assert!(layout(&args(55_530)).expect_err("no such port").to_string().contains("--peer-port"));
        let high = DevArgs { peer_port: Some(1000), ..args(65_530) };
        assert!(layout(&high).expect_err("no such port").to_string().contains("--redis-port"));
    }
}
