//! Real processes on free ports: any node takes any key, a killed leader loses
//! nothing, tickets admit once, and what must not start says why.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use trine::admin::protocol::StatusReport;
use trine::demo::failover;
use trine::local::{self, NodeProcess, NodeSpec};
use trine::resp::{Client, Value};
use trine_types::Clock;

/// Partitions of the tests' clusters: enough to spread, quick to settle.
const PARTITIONS: u16 = 4;
/// How long replicas may take to be in place.
const SETTLE_LIMIT: Duration = Duration::from_mins(1);

fn specs(root: &Path, count: usize) -> Vec<NodeSpec> {
    let ports = local::free_ports(count * 2).expect("free ports");
    let spec = |(ports, n): (&[u16], u16)| NodeSpec {
        partitions: Some(PARTITIONS),
        program: Some(env!("CARGO_BIN_EXE_trine").into()),
        ..NodeSpec::local(root, n, ports[0], ports[1])
    };
    ports.chunks_exact(2).zip(1..).map(spec).collect()
}

async fn cluster(root: &Path, count: usize) -> Vec<NodeProcess> {
    let mut nodes = Vec::new();
    local::start_cluster(specs(root, count), &mut nodes).await.expect("the cluster starts");
    local::wait_settled(&mut nodes, SETTLE_LIMIT, (count - 1) / 2).await.expect("replicas settle");
    nodes
}

/// Runs the program to its end; standard output and error as text.
async fn trine(args: &[&str], input: &str) -> (Option<i32>, String, String) {
    use tokio::io::AsyncWriteExt;
    let mut child = Command::new(env!("CARGO_BIN_EXE_trine"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the binary runs");
    let mut stdin = child.stdin.take().expect("piped");
    // A program that refuses early does not read its input.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = tokio::time::timeout(Duration::from_secs(30), child.wait_with_output());
    let output = output.await.expect("it ends in time").expect("it ran");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

async fn client(node: &NodeProcess) -> Client {
    Client::connect(node.spec.redis).await.expect("the door is open")
}

#[tokio::test]
async fn any_node_takes_any_key() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let nodes = cluster(dir.path(), 3).await;
    for (at, node) in nodes.iter().enumerate() {
        let mut client = client(node).await;
        for key in 0..20 {
            let (key, value) = (format!("key:{at}:{key}"), format!("value {at} {key}"));
            let reply = client.command(&[b"SET", key.as_bytes(), value.as_bytes()]).await.expect("answers");
            assert_eq!(reply, Value::Simple("OK".into()));
        }
    }
    for node in &nodes {
        let mut client = client(node).await;
        for at in 0..nodes.len() {
            for key in 0..20 {
                let name = format!("key:{at}:{key}");
                let reply = client.command(&[b"GET", name.as_bytes()]).await.expect("answers");
                assert_eq!(reply, Value::Bulk(format!("value {at} {key}").into()), "{name}");
            }
        }
    }
}

#[tokio::test]
async fn a_killed_leader_loses_nothing_and_catches_up() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let mut nodes = cluster(dir.path(), 3).await;
    let report = failover::show(&mut nodes, Duration::from_secs(2)).await.expect("the cluster goes on");
    assert!(report.audit.holds() && report.audit.writes > 0, "{report:?}");
    assert!(report.audit_restarted.holds(), "{report:?}");
    assert!(report.outage_ms.is_some() && report.caught_up_ms.is_some(), "{report:?}");
    assert_eq!(report.knew.len(), 2, "{report:?}");
    assert!(
        report.knew.iter().all(|knew| knew.node != report.killed && knew.after_ms.is_some()),
        "{report:?}"
    );
}

#[tokio::test]
async fn reports_name_nodes_and_groups() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let nodes = cluster(dir.path(), 3).await;
    let data = nodes[1].spec.data.to_str().expect("text").to_owned();
    let (code, out, _) = trine(&["status", "--json", "--data", &data], "").await;
    let status: StatusReport = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, status.nodes, status.tolerates, status.partitions), (Some(0), 3, 1, PARTITIONS));
    let (_, out, _) = trine(&["nodes", "--data", &data], "").await;
    assert!(out.contains("node1") && out.contains("node3") && out.contains("this node"), "{out}");
    let (_, out, _) = trine(&["groups", "--data", &data], "").await;
    assert!(out.contains("meta") && out.contains("partition-3"), "{out}");
}

#[tokio::test]
async fn key_commands_print_data_and_time() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let nodes = cluster(dir.path(), 1).await;
    let door = nodes[0].spec.redis.to_string();
    let at = ["--connect", &door];
    let (code, out, error) =
        trine(&[&["db", "set", "k", "-", "--timing"][..], &at].concat(), "some value").await;
    assert_eq!((code, out.as_str()), (Some(0), "OK\n"), "{error}");
    assert!(error.contains("T_r") && error.contains("T_c"), "{error}");
    let (_, out, _) = trine(&[&["db", "get", "k"][..], &at].concat(), "").await;
    assert_eq!(out, "some value\n");
    let (_, out, _) = trine(&[&["db", "get", "k", "--json", "--timing"][..], &at].concat(), "").await;
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        (json["value"].as_str(), json["timing"]["forwarded"].as_bool()),
        (Some("some value"), Some(false))
    );
    let (_, out, _) = trine(&[&["db", "del", "k", "other"][..], &at].concat(), "").await;
    assert_eq!(out, "1\n");
    let (code, out, error) = trine(&[&["db", "get", "k"][..], &at].concat(), "").await;
    assert_eq!((code, out.as_str()), (Some(1), ""), "{error}");
}

#[tokio::test]
async fn a_ticket_admits_one_machine_in_time() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let mut nodes = cluster(dir.path(), 1).await;
    let extra = specs(dir.path(), 3);
    let mut admin = nodes[0].admin().expect("answers");
    let ticket = admin.ticket(Duration::from_mins(1)).await.expect("a ticket");
    let mut second = NodeProcess::spawn(extra[1].clone(), Some(&ticket.ticket)).await.expect("starts");
    second.wait_ready().await.expect("joins");
    nodes.push(second);

    let refused = refused_join(&extra[2], &ticket.ticket).await;
    assert!(refused.contains("used"), "{refused}");

    let short = admin.ticket(Duration::from_secs(1)).await.expect("a ticket");
    let clock = trine::seams::SystemClock;
    let expired = local::until(Duration::from_secs(10), || clock.wall_ms() > short.not_after_ms + 100);
    assert!(expired.await, "time goes on");
    let refused = refused_join(&extra[2], &short.ticket).await;
    assert!(refused.contains("expired"), "{refused}");
}

/// The log of a node that must not be let in.
async fn refused_join(spec: &NodeSpec, ticket: &str) -> String {
    let (redis, peer) = (spec.redis.to_string(), spec.peer.to_string());
    let data = spec.data.to_str().expect("text");
    let args = [
        "start",
        "--data",
        data,
        "--redis",
        &redis,
        "--peer",
        &peer,
        "--nats",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--join",
        "-",
    ];
    let (code, _, error) = trine(&args, ticket).await;
    assert_ne!(code, Some(0), "{error}");
    error
}

/// Waits until the node ends by itself; the last line of its log.
async fn last_words(node: &mut NodeProcess) -> String {
    let ended = tokio::time::timeout(SETTLE_LIMIT, node.ended()).await;
    let status = ended.unwrap_or_else(|_| panic!("{}", node.explain("goes on"))).expect("known");
    assert_eq!(status.code(), Some(1));
    node.explain("ended").to_string().lines().last().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_removed_node_ends_and_says_what_to_do() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let mut nodes = cluster(dir.path(), 3).await;
    let data = nodes[0].spec.data.to_str().expect("text").to_owned();
    let mut removed = nodes.pop().expect("three nodes");
    let (code, out, error) = trine(&["node", "remove", "node3", "--yes", "--data", &data], "").await;
    // Two nodes joined at once: either may be the third by number.
    assert!(code == Some(0) && out.starts_with("removed n") && out.ends_with(" node3\n"), "{out}{error}");
    let advice = ["it was removed", "empty data directory", "fresh ticket"];
    let words = last_words(&mut removed).await;
    assert!(advice.iter().all(|part| words.contains(part)), "{words}");

    let mut again = NodeProcess::spawn(removed.spec.clone(), None).await.expect("starts");
    let words = last_words(&mut again).await;
    assert!(advice.iter().all(|part| words.contains(part)), "{words}");

    // Nobody is there who could tell it, at first.
    let specs: Vec<_> = nodes.iter().map(|node| node.spec.clone()).collect();
    local::stop_all(&mut nodes).await;
    nodes.clear();
    let mut alone = NodeProcess::spawn(removed.spec.clone(), None).await.expect("starts");
    alone.wait(SETTLE_LIMIT, |status| !status.ready).await.expect("it is up and waits for the others");
    local::start_cluster(specs, &mut nodes).await.expect("comes back");
    let words = last_words(&mut alone).await;
    assert!(advice.iter().all(|part| words.contains(part)), "{words}");
}

#[tokio::test]
async fn a_data_directory_of_another_cluster_is_refused() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let ours = cluster(&dir.path().join("ours"), 1).await;
    let mut theirs = cluster(&dir.path().join("theirs"), 1).await;
    local::stop_all(&mut theirs).await;
    let ticket = ours[0].admin().expect("answers").ticket(Duration::from_mins(1)).await.expect("a ticket");
    let refused = refused_join(&theirs[0].spec, &ticket.ticket).await;
    assert!(refused.contains("cluster"), "{refused}");
}

/// One request to the admin API of a node, with its token; status and body.
async fn http(node: &NodeProcess, line: &str) -> (String, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let status = node.admin().expect("answers").status().await.expect("a status");
    let token = std::fs::read_to_string(trine::http::guard::token_path(&node.spec.data)).expect("a token");
    let mut stream = tokio::net::TcpStream::connect(&status.doors.admin).await.expect("the API is open");
    let request = format!(
        "{line} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\r\n",
        status.doors.admin,
        token.trim()
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
    (head.split(' ').nth(1).expect("a status").to_owned(), body.to_owned())
}

#[tokio::test]
async fn the_admin_api_says_what_the_admin_socket_says() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let nodes = cluster(dir.path(), 3).await;
    let reply = client(&nodes[1]).await.command(&[b"SET", b"k", b"v"]).await.expect("answers");
    assert_eq!(reply, Value::Simple("OK".into()));
    let mut admin = nodes[1].admin().expect("answers");
    let (code, body) = http(&nodes[1], "GET /v1/nodes").await;
    assert_eq!((code.as_str(), body), ("200", serde_json::to_string(&admin.nodes().await.unwrap()).unwrap()));
    let (_, body) = http(&nodes[1], "GET /v1/status").await;
    let status: StatusReport = serde_json::from_str(&body).expect("a status");
    assert_eq!((status.ready, status.nodes, status.name.as_str()), (true, 3, "node2"));
    let (_, body) = http(&nodes[1], "GET /v1/groups").await;
    assert!(body.contains("\"group\":\"meta\""), "{body}");
    assert_eq!(http(&nodes[1], "GET /health/ready").await.0, "200");
    assert_eq!(http(&nodes[1], "DELETE /v1/nodes/nobody").await.0, "404");

    let (_, figures) = http(&nodes[1], "GET /metrics").await;
    let figure = |name: &str| {
        let line = figures.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse::<f64>().ok()).unwrap_or_else(|| panic!("no {name} in {figures}"))
    };
    assert!(figure("trine_commands_total") >= 1.0 && figure("trine_log_syncs_total") >= 1.0);
    assert!((1e-9..10.0).contains(&figure("trine_log_sync_latency_seconds")));
    assert!((figure("trine_nodes") - 3.0).abs() < 0.1 && figure("trine_resident_bytes") > 1e6);
    assert!((figure("trine_connections{surface=\"admin\"}") - 1.0).abs() < 0.1);
    assert!(figure("trine_lane_frames_total{lane=\"control\",direction=\"received\"}") >= 1.0);
    assert!(figure("trine_lane_bytes_total{lane=\"log\",direction=\"sent\"}") >= 1.0);
    assert!((figure("trine_group_led{group=\"meta\"}") - 1.0).abs() < 0.1);
    let written = |executed: &str| {
        figure(&format!(
            "trine_command_seconds_count{{access=\"write\",executed=\"{executed}\",part=\"processing\"}}"
        ))
    };
    assert!(written("owner") + written("forwarded") >= 1.0);
    assert!(figures.ends_with("# EOF\n"));
}

#[tokio::test]
async fn a_data_directory_has_one_process() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let nodes = cluster(dir.path(), 1).await;
    let data = nodes[0].spec.data.to_str().expect("text").to_owned();
    let any = "127.0.0.1:0";
    let args = ["start", "--data", &data, "--redis", any, "--peer", any, "--nats", any, "--admin", any];
    let (code, _, error) = trine(&args, "").await;
    assert!(code == Some(1) && error.contains("another process"), "{error}");
}

#[tokio::test]
async fn a_cluster_comes_back_after_all_nodes_stopped() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let mut nodes = cluster(dir.path(), 3).await;
    let reply = client(&nodes[0]).await.command(&[b"SET", b"k", b"kept"]).await.expect("answers");
    assert_eq!(reply, Value::Simple("OK".into()));
    let specs: Vec<_> = nodes.iter().map(|node| node.spec.clone()).collect();
    local::stop_all(&mut nodes).await;
    for node in &mut nodes {
        assert!(node.ended().await.expect("known").success(), "{}", node.explain("did not stop in order"));
    }
    nodes.clear();
    local::start_cluster(specs, &mut nodes).await.expect("comes back");
    let reply = client(&nodes[2]).await.command(&[b"GET", b"k"]).await.expect("answers");
    assert_eq!(reply, Value::Bulk("kept".into()));
}
