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
        let dir = processes::open_folder();
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
    // They end in order: parallel itself forgets to print one that ends before
    // an earlier one when it keeps the order and resumes.
    let command = ["sleep 0.2; sleep 0.{}; echo {}; exit {}", ":::", "0", "3", "0", "5"];
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
    processes::open_to_tasks(&folder);
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
    let ran = cluster.path().join("ran");
    std::fs::write(&ran, "").expect("written");
    processes::open_to_tasks(&ran);
    let script = format!("sleep 0.3; echo {{}} $TRINE_NODE >>{}/ran; echo {{}}", cluster.path().display());
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_trine"));
    let command = command.args(["run", "--data", &data, "-k", "--joblog"]).arg(&log).arg(&script).arg(":::");
    let numbers: Vec<String> = (1..=40).map(|n: u32| n.to_string()).collect();
    let child = command.args(&numbers).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("starts");
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

/// Every file below a folder, with its content.
fn tree(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).expect("a folder").map(|entry| entry.expect("an entry")) {
            if entry.file_type().expect("a type").is_dir() {
                folders.push(entry.path());
                continue;
            }
            let name = entry.path().strip_prefix(folder).expect("below").display().to_string();
            found.push((name, text(&std::fs::read(entry.path()).expect("read"))));
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn files_travel_with_tasks_and_come_back() {
    let cluster = Cluster::start().await;
    let at = |name: &str| cluster.path().join(name);
    std::fs::create_dir(at("in")).expect("made");
    for name in ["in/a.txt", "in/b c.txt"] {
        std::fs::write(at(name), name.repeat(30_000)).expect("written");
    }
    std::fs::write(at("base"), "of all\n").expect("written");
    let words =
        ["-k", "--bf", "base", "--trc", "{.}.up", "cat base; ls -d in base; tr a-z A-Z < {} > {.}.up"];
    let words: Vec<&str> = words.iter().chain(&[":::", "in/a.txt", "in/b c.txt"]).copied().collect();
    let out = cluster.run(&words, "");
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert_eq!(text(&out.stdout), "of all\nbase\nin\n".repeat(2));
    for (name, from) in [("in/a.up", "in/a.txt"), ("in/b c.up", "in/b c.txt")] {
        let made = text(&std::fs::read(at(name)).expect("returned"));
        assert_eq!(made, from.to_uppercase().repeat(30_000));
    }
    let logs = cluster.trine(2, &["job", "logs", "1", "-k"], "");
    assert_eq!(text(&logs.stdout), text(&out.stdout), "files are no output");
    let out = cluster.run(&["--return", "{}", "--tf", "{}", "rm {}; exit 4", ":::", "base", "none"], "");
    let said = text(&out.stderr);
    assert!(
        said.contains("cannot send none: No such file") && said.contains("did not return base"),
        "{said}"
    );
    assert_eq!(out.status.code(), Some(2), "the commands failed, and nothing else");
    let out = cluster.run(&["--tf", "{}", "cat", ":::", "/etc/hostname"], "");
    assert!(text(&out.stderr).contains("DIR/./FILE"), "{}", text(&out.stderr));
    let out = cluster.run(&["--tf", "{}", "cat {/}", ":::", "/etc/./hostname"], "");
    assert_eq!(out.stdout, std::fs::read("/etc/hostname").expect("a name"));
    cluster.stop().await;
}

#[tokio::test]
async fn results_are_filed_as_by_parallel() {
    if !has_parallel() {
        return;
    }
    let cluster = Cluster::start().await;
    let lines: &[(&[&str], &str)] = &[
        (&["--results", "OUT", "echo {}; echo err >&2", ":::", "a", "b/c", "d e\\", ":::", "x"], ""),
        (&["--results", "OUT/{1}.txt", "echo {}; echo err >&2; false", ":::", "a", "b"], ""),
        (&["--results", "OUT/{/}/", "echo", ":::", "a", "b/c"], ""),
        (&["--tag", "--results", "OUT", "echo", ":::", "a"], ""),
    ];
    for (number, (words, input)) in lines.iter().enumerate() {
        let named = |program: &str| {
            let name = format!("{program}{number}");
            let words: Vec<String> = words.iter().map(|word| word.replace("OUT", &name)).collect();
            (cluster.path().join(name), words)
        };
        let ((expected, theirs), (got, ours)) = (named("theirs"), named("ours"));
        let theirs = cluster.parallel(&theirs.iter().map(String::as_str).collect::<Vec<_>>(), input);
        let ours = cluster.run(&ours.iter().map(String::as_str).collect::<Vec<_>>(), input);
        assert_eq!(tree(&got), tree(&expected), "{words:?}: {}", text(&ours.stderr));
        assert_eq!((text(&ours.stdout), ours.status.code()), (text(&theirs.stdout), theirs.status.code()));
    }
    cluster.stop().await;
}

/// Returns once there is a job of this number.
fn wait_for_job(cluster: &Cluster, job: &str) {
    let since = tokio::time::Instant::now();
    while !cluster.trine(2, &["job", "show", job], "").status.success() {
        assert!(since.elapsed() < LIMIT, "there is no job {job}");
    }
}

#[tokio::test]
async fn what_no_node_has_is_waited_for_and_said() {
    let cluster = Cluster::start().await;
    let job = ["job", "submit", "--resource", "gpu=1", "--", "echo", ":::", "a"];
    assert_eq!(text(&cluster.trine(2, &job, "").stdout), "1\n");
    let shown = text(&cluster.trine(2, &["job", "show", "1"], "").stdout);
    assert!(shown.contains("waits      for a worker with 1 processors, gpu=1: node 1 has"), "{shown}");
    assert!(cluster.trine(2, &["job", "cancel", "1"], "").status.success());
    let shown = text(&cluster.trine(2, &["job", "show", "1"], "").stdout);
    assert!(!shown.contains("waits"), "{shown}");
    cluster.stop().await;
}

#[tokio::test]
async fn what_is_due_is_started_again_and_again() {
    let cluster = Cluster::start().await;
    let submit = |name: &str| cluster.trine(2, &["job", "submit", "--from", name], "");
    std::fs::write(
        cluster.path().join("cron.toml"),
        "name = 'cron'\ncron = '* * * * * *'\n[stages.x]\ncommand = 'echo due'\n",
    )
    .expect("written");
    assert_eq!(text(&submit("cron.toml").stdout), "1\tx\n");
    // The log gives the numbers: the next ones are of the jobs that the schedule makes.
    for made in ["2", "3"] {
        wait_for_job(&cluster, made);
        let due = cluster.trine(2, &["job", "wait", made], "");
        assert!(due.status.success(), "{}", text(&due.stderr));
        assert_eq!(text(&cluster.trine(2, &["job", "logs", made], "").stdout), "due\n");
    }
    let shown = text(&cluster.trine(2, &["job", "show", "1"], "").stdout);
    assert!(shown.contains("* * * * * * (UTC), next 20") && !shown.contains(" 0 times"), "{shown}");
    let list = text(&cluster.trine(2, &["job", "ls"], "").stdout);
    assert!(list.lines().any(|line| line.contains("scheduled") && line.contains(':')), "{list}");
    assert!(text(&cluster.trine(2, &["job", "wait", "1"], "").stderr).contains("is a schedule"));
    assert!(cluster.trine(2, &["job", "cancel", "1"], "").status.success());
    let shown = text(&cluster.trine(2, &["job", "show", "1"], "").stdout);
    assert!(shown.contains("cancelled") && shown.contains("next -"), "{shown}");
    cluster.stop().await;
}

#[tokio::test]
async fn stages_come_after_each_other_and_deadlines_hold() {
    let cluster = Cluster::start().await;
    let file =
        |name: &str, content: &str| std::fs::write(cluster.path().join(name), content).expect("written");
    file("greet.sh", "echo hello $1 from $WHO\n");
    file(
        "good.toml",
        "name = 'good'\nenv = { WHO = 'us' }\n\
        [stages.last]\ncommand = 'sh greet.sh last'\nfiles = ['greet.sh']\nafter = ['first']\n\
        [stages.first]\ncommand = 'sleep 0.5; echo {}'\nargs = ['a', 'b']\n",
    );
    file(
        "bad.toml",
        "name = 'bad'\n[stages.next]\ncommand = 'true'\nafter = ['fails']\n\
        [stages.over]\ncommand = 'true'\nafter = ['next']\n\
        [stages.fails]\ncommand = 'exit {}'\nargs = ['0', '5']\n",
    );
    file("late.toml", "name = 'late'\ndeadline = '1s'\n[stages.sleeps]\ncommand = 'sleep 600'\n");
    let submit = |name: &str| cluster.trine(2, &["job", "submit", "--from", name], "");
    let good = submit("good.toml");
    assert_eq!(text(&good.stdout), "1\tfirst\n2\tlast\n", "{}", text(&good.stderr));
    assert!(cluster.trine(2, &["job", "wait", "2"], "").status.success());
    assert_eq!(text(&cluster.trine(2, &["job", "logs", "2"], "").stdout), "hello last from us\n");
    let results = |job: &str| {
        let shown = cluster.trine(2, &["job", "show", job, "--json"], "").stdout;
        let shown: serde_json::Value = serde_json::from_slice(&shown).expect("JSON");
        (shown["first_start_ms"].as_u64(), shown["last_end_ms"].as_u64())
    };
    let ((_, end), (start, _)) = (results("1"), results("2"));
    assert!(end.is_some() && start >= end, "{start:?} {end:?}");
    assert_eq!(text(&submit("bad.toml").stdout), "3\tfails\n4\tnext\n5\tover\n");
    let over = cluster.trine(2, &["job", "wait", "5"], "");
    let said = text(&over.stderr);
    assert_eq!(over.status.code(), Some(1), "{said}");
    assert!(said.contains("job 4 (bad/next)") && said.contains("1 of 2 tasks failed"), "{said}");
    submit("late.toml");
    let late = cluster.trine(2, &["job", "wait", "6"], "");
    assert_eq!(late.status.code(), Some(1));
    assert!(text(&late.stderr).contains("its deadline has passed"), "{}", text(&late.stderr));
    file(
        "hold.toml",
        "name = 'hold'\n[stages.a]\ncommand = 'sleep 600'\n\
        [stages.b]\ncommand = 'true'\nafter = ['a']\n",
    );
    assert_eq!(text(&submit("hold.toml").stdout), "7\ta\n8\tb\n");
    let list = text(&cluster.trine(2, &["job", "ls"], "").stdout);
    assert!(list.lines().any(|line| line.contains("hold/b") && line.contains("waiting")), "{list}");
    assert!(cluster.trine(2, &["job", "cancel", "7"], "").status.success());
    let held = text(&cluster.trine(2, &["job", "wait", "8"], "").stderr);
    assert!(held.contains("job 7 (hold/a), which was cancelled"), "{held}");
    let wrong = submit("greet.sh");
    assert!(
        wrong.status.code() == Some(2) && text(&wrong.stderr).contains("greet.sh line 1"),
        "{}",
        text(&wrong.stderr)
    );
    cluster.stop().await;
}

#[tokio::test]
async fn a_task_that_takes_far_longer_than_others_is_killed() {
    let cluster = Cluster::start().await;
    let all: Vec<String> = (0..24).map(|n| n.to_string()).collect();
    let words = ["-j", "2", "--timeout", "3000%", "test {} = 7 && exec sleep 600; sleep 0.2; echo {}", ":::"];
    let words: Vec<&str> = words.into_iter().chain(all.iter().map(String::as_str)).collect();
    let out = cluster.run(&words, "");
    assert_eq!(out.status.code(), Some(1), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("was killed because it timed out"), "{}", text(&out.stderr));
    assert_eq!(text(&out.stdout).lines().count(), 23);
    cluster.stop().await;
}
