//! A node that ended just after it was admitted, and starts alone: it says
//! what it waits for, and serves once the others are back.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::watch;
use trine::local::{self, NodeProcess, NodeSpec};
use trine::seams::{OsEntropy, SystemClock};
use trine_cluster::{Directory, membership};
use trine_storage::{Disk, RealDisk};
use trine_transport::{Ticket, TlsConfig, TlsTransport, Transport, Trust};

fn spec(root: &Path, n: u16, ports: &[u16]) -> NodeSpec {
    NodeSpec {
        partitions: Some(1),
        program: Some(env!("CARGO_BIN_EXE_trine").into()),
        ..NodeSpec::local(root, n, ports[0], ports[1])
    }
}

/// Has this data directory admitted, and nothing more.
async fn admit(spec: &NodeSpec, ticket: &str) {
    std::fs::create_dir_all(&spec.data).expect("made");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(&spec.data).expect("opened"));
    let mut directory = Directory::open(disk, &OsEntropy).expect("an empty directory");
    let identity = membership::identity(&directory);
    let (_trust, trusting) = watch::channel(Arc::new(Trust::default()));
    let transport = TlsTransport::bind(TlsConfig::new(spec.peer), &identity, trusting, Arc::new(SystemClock));
    let transport: Arc<dyn Transport> = Arc::new(transport.expect("a free port"));
    let ticket: Ticket = ticket.parse().expect("a ticket");
    let applicant = membership::applicant(&directory, "node2");
    membership::join(&mut directory, &transport, ticket, applicant).await.expect("admitted");
}

/// Runs the program to its end; standard output and error as text.
async fn trine(args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trine"));
    let output = command.args(args).stdin(Stdio::null()).output().await.expect("the binary runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The status of the answer to a request to the admin API.
async fn http(door: &str, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(door).await.expect("the API is open");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {door}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    answer.split(' ').nth(1).expect("a status").to_owned()
}

#[tokio::test]
async fn a_node_that_knows_nothing_yet_says_whom_it_waits_for() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let ports = local::free_ports(4).expect("free ports");
    let specs = [spec(dir.path(), 1, &ports[..2]), spec(dir.path(), 2, &ports[2..])];
    let mut nodes = Vec::new();
    local::start_cluster(vec![specs[0].clone()], &mut nodes).await.expect("the cluster starts");
    let ticket = nodes[0].admin().expect("answers").ticket(Duration::from_mins(1)).await.expect("a ticket");
    admit(&specs[1], &ticket.ticket).await;
    local::stop_all(&mut nodes).await;
    nodes.clear();

    let mut alone = NodeProcess::spawn(specs[1].clone(), None).await.expect("starts");
    let status = alone.wait(local::START_LIMIT, |status| !status.ready).await.expect("it answers");
    assert_eq!((status.number, status.name.as_str(), status.nodes, status.partitions), (2, "node2", 2, 0));
    let waits = format!("waits for n1 at {}", specs[0].peer);
    assert!(status.problems.iter().any(|problem| problem.contains(&waits)), "{:?}", status.problems);
    let data = specs[1].data.to_str().expect("text");
    let (code, out, _) = trine(&["status", "--data", data]).await;
    assert!(code == Some(0) && out.contains(&waits), "{out}");
    let (code, _, error) = trine(&["ticket", "--data", data]).await;
    assert!(code == Some(1) && error.contains(&waits) && error.contains("start the other nodes"), "{error}");
    assert_eq!(http(&status.doors.admin, "/health/live").await, "200");
    assert_eq!(http(&status.doors.admin, "/health/ready").await, "503");
    assert_eq!(http(&status.doors.admin, "/v1/status").await, "401");

    local::start_cluster(vec![specs[0].clone()], &mut nodes).await.expect("comes back");
    let status = alone.wait_ready().await.expect("it serves");
    assert_eq!((status.partitions, status.problems.iter().any(|it| it.contains(&waits))), (1, false));
    assert_eq!(http(&status.doors.admin, "/health/ready").await, "200");
}
