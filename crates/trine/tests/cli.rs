//! What the command line says when it is used wrongly: what is wrong, and what
//! to do; on standard error, with the exit code of wrong usage.

use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

fn trine(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trine"));
    command.args(args).stdin(Stdio::null()).output().expect("the binary runs")
}

/// Runs, expects failure with `code`, an empty standard output, and all of
/// `parts` on standard error.
fn refused(args: &[&str], code: i32, parts: &[&str]) {
    let output = trine(args);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
    assert!(output.stdout.is_empty(), "{args:?} printed data");
    for part in parts {
        assert!(error.contains(part), "{args:?}: `{part}` is missing in: {error}");
    }
}

#[test]
fn every_command_has_help() {
    let commands: [&[&str]; 9] = [
        &["demo"],
        &["dev"],
        &["start"],
        &["ticket"],
        &["status"],
        &["node", "remove"],
        &["recover"],
        &["db", "get"],
        &["groups"],
    ];
    for command in commands {
        let output = trine(&[command, &["--help"]].concat());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success() && text.contains("Usage: trine") && text.contains("--json"),
            "{text}"
        );
    }
}

#[test]
fn asking_where_no_node_runs_says_how_to_start_one() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let data = dir.path().to_str().expect("text");
    for command in ["status", "nodes", "groups", "ticket"] {
        refused(&[command, "--data", data], 1, &["no running node", data, "trine start"]);
    }
}

#[test]
fn failures_are_json_when_json_is_asked_for() {
    let output = trine(&["status", "--json", "--socket", "/nonexistent/admin.sock"]);
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).expect("JSON on standard error");
    assert!(error["error"]["message"].is_string() && error["error"]["hint"].is_string(), "{error}");
}

#[test]
fn settings_that_do_not_fit_are_named() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let data = dir.path().join("data");
    let data = data.to_str().expect("text");
    let start = ["start", "--data", data];
    refused(&[&start[..], &["--partitions", "0"]].concat(), 2, &["partitions", "1 to 1024"]);
    refused(&[&start[..], &["--redis", "0.0.0.0:6379"]].concat(), 2, &["redis", "loopback"]);
    refused(&[&start[..], &["--admin", "0.0.0.0:7070"]].concat(), 2, &["admin", "--tls admin=auto"]);
    refused(&[&start[..], &["--redis", "localhost"]].concat(), 2, &["--redis"]);
    refused(&[&start[..], &["--config", "/nonexistent.toml"]].concat(), 2, &["/nonexistent.toml"]);
    assert!(!std::path::Path::new(data).exists(), "nothing is made before the settings are checked");

    let config = dir.path().join("trine.toml");
    std::fs::write(&config, "partitions = 16\npartition = 2\n").expect("written");
    let config = config.to_str().expect("text");
    refused(&["start", "--config", config], 2, &["partition", "line 2"]);
}

#[test]
fn a_ticket_comes_from_a_file_or_standard_input() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let data = dir.path().join("data");
    let start = ["start", "--data", data.to_str().expect("text"), "--join"];
    refused(&[&start[..], &["trine-abc"]].concat(), 2, &["--join @FILE", "other users"]);
    refused(&[&start[..], &["@/nonexistent"]].concat(), 2, &["/nonexistent"]);
    refused(&[&start[..], &["-"]].concat(), 2, &["no ticket"]);
    let ticket = dir.path().join("ticket");
    std::fs::write(&ticket, "trine-nonsense").expect("written");
    let flag = format!("@{}", ticket.display());
    refused(&[&start[..], &[&flag]].concat(), 2, &["ticket"]);
}

#[test]
fn a_taken_port_names_the_flag_that_moves_it() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let port = taken.local_addr().expect("bound").port().to_string();
    let data = dir.path().to_str().expect("text");
    for flag in ["--redis", "--peer", "--admin", "--nats"] {
        let of = |name| if name == flag { address.as_str() } else { "127.0.0.1:0" };
        let doors = ["--redis", of("--redis"), "--peer", of("--peer"), "--admin", of("--admin")];
        let doors = [&doors[..], &["--nats", of("--nats")]].concat();
        refused(&[&["start", "--data", data][..], &doors].concat(), 1, &[&address, flag]);
    }
    refused(&["dev", "--data", data, "--redis-port", &port, "--peer-port", "1"], 1, &[&port, "--redis-port"]);
}

#[test]
fn recovery_without_a_terminal_needs_yes() {
    let output = Command::new(env!("CARGO_BIN_EXE_trine"))
        .args(["node", "remove", "n2", "--socket", "/nonexistent"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .and_then(|mut child| {
            // It refuses without reading: the pipe may be gone already.
            let _ = child.stdin.take().expect("piped").write_all(b"yes\n");
            child.wait_with_output()
        })
        .expect("runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("--yes"), "{error}");
}
