//! `trine run` and `trine job` on three real processes, beside the real GNU
//! parallel: the same command lines, the same output, exit codes and joblogs.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use trine::local::{self, NodeProcess};
use trine_compute::parallel::joblog::Row;

use self::processes::cluster;

mod processes;

/// How long the cluster may take to have all replicas, and a process to be gone.
const LIMIT: Duration = Duration::from_mins(1);

struct Cluster {
    dir: tempfile::TempDir,
    nodes: Vec<NodeProcess>,
}

impl Cluster {
    async fn start() -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let mut nodes = cluster(dir.path(), 3).await;
        local::wait_settled(&mut nodes, LIMIT, 1).await.expect("three replicas");
        std::fs::write(dir.path().join("will-cite"), "").expect("written");
        Self { dir, nodes }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// `trine` with these words; the nodes are named behind the first `at`.
    fn trine(&self, at: usize, words: &[&str], input: &str) -> Output {
        let data = self.path().to_str().expect("text");
        let (head, tail) = words.split_at(at);
        let all: Vec<&str> = head.iter().chain(&["--data", data]).chain(tail).copied().collect();
        execute(Command::new(env!("CARGO_BIN_EXE_trine")).args(all).current_dir(self.path()), input)
    }

    fn run(&self, words: &[&str], input: &str) -> Output {
        let all: Vec<&str> = ["run"].iter().chain(words).copied().collect();
        self.trine(1, &all, input)
    }

    fn parallel(&self, words: &[&str], input: &str) -> Output {
        let mut command = Command::new("parallel");
        execute(command.args(words).current_dir(self.path()).env("PARALLEL_HOME", self.path()), input)
    }

    async fn stop(mut self) {
        local::stop_all(&mut self.nodes).await;
    }
}

fn execute(command: &mut Command, input: &str) -> Output {
    let child = command.env("SHELL", "/bin/bash").stdin(Stdio::piped());
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    // Who does not read its input closes it.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    child.wait_with_output().expect("ends")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Whether GNU parallel is installed (moreutils has another program of that name).
fn has_parallel() -> bool {
    let version = Command::new("parallel").arg("--version").output();
    let found = version.is_ok_and(|out| text(&out.stdout).starts_with("GNU parallel"));
    if !found {
        eprintln!("NOT RUN: GNU parallel is not installed");
    }
    found
}

/// Command lines whose output and exit code are the same in order (`-k`).
const LINES: &[(&[&str], &str)] = &[
    (&["echo", "{}", ":::", "a b", "c'd", "$x", "", "*"], ""),
    (&["--tag", "echo", ":::", "a", "b", ":::", "1", "2"], ""),
    (&["--tagstring", "{#}", "printf '%s\\n\\n' {}; printf end", ":::", "a", "b"], ""),
    (&["printf", "x{}", ":::", "1", "2", "3"], ""),
    (&["echo $PARALLEL_SEQ {#}", "{}", ":::", "a", "b", "c"], ""),
    (&["echo", "{/.}"], "a/b.c\n\nd e\n"),
    (&["-n3", "echo"], "1\n2\n3\n4\n5\n6\n7\n"),
    (&[], "echo a | tr a b\nexit 4\n"),
    (&["exit", "{}", ":::", "0", "1", "2", "0"], ""),
    (&["kill -9 $$ #", ":::", "1"], ""),
    (&["nosuchcommand", ":::", "1"], ""),
    (&["--retries", "2", "exit 1 #", ":::", "1"], ""),
    (&["--timeout", "1", "echo {}; sleep {}", ":::", "0", "30"], ""),
    (&["--halt", "soon,fail=1", "exit", "{}", ":::", "7"], ""),
    (&["--halt", "now,fail=2", "exit", "{}", ":::", "7", "7"], ""),
    (&["--halt", "now,fail=100%", "exit", "{}", ":::", "7", "0", "7"], ""),
    (&["cat; echo", "{}", ":::", "1", "2"], ""),
    (&["--pipe", "-N2", "cat; echo --"], "1\n2\n3\n4\n5\n"),
    (&["--pipe", "--block", "10", "cat; echo --"], "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n"),
    (&["--pipe", "--recstart", ">", "-N1", "wc", "-c"], ">a\nx\n>b\nyy\n>c\n"),
    (&["--pipe", "wc", "-l"], ""),
];

#[tokio::test]
async fn output_and_exit_codes_are_parallels() {
    let cluster = Cluster::start().await;
    if has_parallel() {
        for (words, input) in LINES {
            let words: Vec<&str> = ["-k"].iter().chain(*words).copied().collect();
            let expected = cluster.parallel(&words, input);
            let got = cluster.run(&words, input);
            assert_eq!(text(&got.stdout), text(&expected.stdout), "{words:?}: {}", text(&got.stderr));
            assert_eq!(got.status.code(), expected.status.code(), "{words:?}: {}", text(&got.stderr));
        }
        let many = "exit 1\n".repeat(101);
        assert_eq!(cluster.run(&[], &many).status.code(), cluster.parallel(&[], &many).status.code());
    }
    // More than travels with a result comes from the node that kept it.
    let big = cluster.run(&["-k", "--tag", "yes {} | head -c 300000", ":::", "a", "b"], "");
    let lines = |tag: &str| text(&big.stdout).lines().filter(|line| *line == format!("{tag}\t{tag}")).count();
    assert_eq!((lines("a"), lines("b")), (150_000, 150_000), "{}", text(&big.stderr));
    cluster.stop().await;
}

fn rows(path: &Path) -> Vec<Row> {
    let log = std::fs::read(path).expect("a joblog");
    let mut rows: Vec<Row> = log.split(|byte| *byte == b'\n').filter_map(Row::parse).collect();
    rows.sort_by_key(|row| row.sequence);
    rows
}

#[tokio::test]
async fn joblogs_are_read_by_both_and_jobs_can_be_looked_at() {
    let cluster = Cluster::start().await;
    let command = ["sleep 0.2; echo {}; exit {}", ":::", "0", "3", "0", "5"];
    let logged = |log: &'static str, more: &[&'static str]| -> Vec<&str> {
        ["-k", "--joblog", log].iter().chain(more).chain(&command).copied().collect()
    };
    assert_eq!(cluster.run(&logged("ours", &[]), "").status.code(), Some(2));
    let ours = rows(&cluster.path().join("ours"));
    let hosts: std::collections::BTreeSet<_> = ours.iter().map(|row| row.host.clone()).collect();
    assert!(hosts.len() > 1 && ours.iter().all(|row| row.runtime_ms >= 200), "{ours:?}");
    if has_parallel() {
        assert_eq!(cluster.parallel(&logged("theirs", &[]), "").status.code(), Some(2));
        let told = |row: &Row| (row.sequence, row.sent, row.received, row.ended, row.command.clone());
        let theirs = rows(&cluster.path().join("theirs"));
        assert_eq!(ours.iter().map(told).collect::<Vec<_>>(), theirs.iter().map(told).collect::<Vec<_>>());
        // Each goes on where the other stopped.
        let again = cluster.parallel(&logged("ours", &["--resume-failed"]), "");
        assert_eq!(text(&again.stdout), "3\n5\n");
        let again = cluster.run(&logged("theirs", &["--resume-failed"]), "");
        assert_eq!(text(&again.stdout), "3\n5\n");
        assert_eq!(text(&cluster.run(&logged("theirs", &["--resume"]), "").stdout), "");
    }

    let submitted = cluster.trine(2, &["job", "submit", "echo {}; exit {}", ":::", "0", "3"], "");
    let job = text(&submitted.stdout).trim().to_owned();
    let of = |verb: &str, more: &[&str]| {
        let all: Vec<&str> = ["job", verb].iter().chain(more).chain(&[job.as_str()]).copied().collect();
        cluster.trine(2, &all, "")
    };
    assert_eq!(of("wait", &[]).status.code(), Some(1), "{}", text(&submitted.stderr));
    assert_eq!(text(&of("logs", &["-k", "--tag"]).stdout), "1\t0\n2\t3\n");
    let shown: serde_json::Value = serde_json::from_slice(&of("show", &["--json"]).stdout).expect("JSON");
    let part = |name: &str| shown["cost"][name].as_u64().expect(name);
    assert_eq!(part("assignment_us") + part("completion_us"), part("total_us"));
    assert_eq!((part("tasks"), &shown["job"]["progress"]["phase"]), (2, &serde_json::json!("over")));
    assert!(text(&of("show", &[]).stdout).contains("T = T_a + T_c"));
    let again = of("retry", &[]);
    let second = text(&again.stdout).trim().to_owned();
    let waited = cluster.trine(2, &["job", "wait", &second], "");
    assert_eq!(waited.status.code(), Some(1), "{}", text(&again.stderr));
    assert_eq!(text(&cluster.trine(2, &["job", "logs", &second], "").stdout), "3\n");
    let listed = text(&cluster.trine(2, &["job", "ls"], "").stdout);
    assert!(listed.lines().count() >= 4 && listed.contains("echo {}; exit {}"), "{listed}");
    cluster.stop().await;
}

#[tokio::test]
async fn every_node_runs_it_and_ctrl_c_leaves_nothing_behind() {
    let cluster = Cluster::start().await;
    let out = cluster.run(&["--every-node", "echo $TRINE_NODE"], "");
    let mut nodes: Vec<String> = text(&out.stdout).lines().map(str::to_owned).collect();
    nodes.sort();
    assert_eq!(nodes, ["1", "2", "3"], "{}", text(&out.stderr));

    // Nothing else runs, so that the smallest slot is free.
    assert_eq!(text(&cluster.run(&["echo", "{%} {}", ":::", "a b"], "").stdout), "1 a b\n");

    let folder = cluster.path().join("pids");
    std::fs::create_dir(&folder).expect("made");
    let script = format!("echo $$ >{0}/{{}}.new; mv {0}/{{}}.new {0}/{{}}; sleep 1000", folder.display());
    let data = cluster.path().to_str().expect("text");
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_trine"));
    let command = command.args(["run", "--data", data, "-j0", &script, ":::", "1", "2", "3", "4"]);
    let mut child = command.stdin(Stdio::null()).kill_on_drop(true).spawn().expect("starts");
    let pid = |n: u32| -> Option<i32> {
        std::fs::read_to_string(folder.join(n.to_string())).ok()?.trim().parse().ok()
    };
    assert!(local::until(LIMIT, || (1..=4).all(|n| pid(n).is_some())).await, "four tasks run");
    let client = child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed())).expect("runs");
    rustix::process::kill_process(client, rustix::process::Signal::INT).expect("signalled");
    assert_eq!(child.wait().await.expect("ends").code(), Some(130));
    let gone = |n: u32| {
        let pid = pid(n).and_then(rustix::process::Pid::from_raw).expect("known");
        rustix::process::test_kill_process(pid).is_err()
    };
    assert!(local::until(LIMIT, || (1..=4).all(gone)).await, "all four are gone");
    cluster.stop().await;
}

#[tokio::test]
async fn a_node_that_dies_loses_no_task_nor_output() {
    let mut cluster = Cluster::start().await;
    let data = cluster.path().to_str().expect("text").to_owned();
    let log = cluster.path().join("log");
    let script = format!("sleep 0.3; echo {{}} $TRINE_NODE >>{}/ran; echo {{}}", cluster.path().display());
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_trine"));
    let command = command.args(["run", "--data", &data, "-k", "--joblog"]).arg(&log).arg(&script).arg(":::");
    let numbers: Vec<String> = (1..=40).map(|n: u32| n.to_string()).collect();
    let child = command.args(&numbers).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("starts");
    let ran = cluster.path().join("ran");
    let lines = || std::fs::read_to_string(&ran).map_or(0, |text| text.lines().count());
    assert!(local::until(LIMIT, || lines() >= 6).await, "tasks run");
    // The very node that the command line asks first.
    cluster.nodes[0].kill().await.expect("killed");
    let out = child.wait_with_output().await.expect("ends");
    assert_eq!(out.status.code(), Some(0));
    assert_eq!(text(&out.stdout), numbers.join("\n") + "\n");
    let rows = rows(&log);
    assert_eq!(rows.iter().map(|row| row.sequence).collect::<Vec<_>>(), (1..=40).collect::<Vec<_>>());
    cluster.stop().await;
}
