//! What tasks cannot reach: the data and keys of their node, its process, its
//! admin socket, other tasks. Tried on real nodes both ways: as root, whose
//! tasks are users of their own, and as an ordinary user, whose tasks are behind
//! a fence.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use trine::local;

use self::processes::lone::{Alone, text};

mod processes;

/// How long anything may take.
const LIMIT: Duration = Duration::from_mins(1);
fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("readable").map(|entry| entry.expect("an entry")) {
        match entry.file_type().expect("a type") {
            kind if kind.is_dir() => files_below(&entry.path(), found),
            kind if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_task_reaches_nothing_of_its_node() {
    for alone in Alone::both().await {
        let (data, pid) = (alone.data(), alone.node.pid);
        let mut files = Vec::new();
        files_below(&data, &mut files);
        // Its own cell's lock is below the data directory behind a fence.
        files.retain(|file| !file.starts_with(data.join("tasks/cells")));
        assert!(
            files.iter().any(|file| file.ends_with("admin.token")
                || text(file.as_os_str().as_encoded_bytes()).contains("key")),
            "{files:?}"
        );
        let mut attempts: Vec<String> = files.iter().map(|file| format!("cat {}", file.display())).collect();
        attempts.push(format!("ls {}", data.display()));
        attempts.push(format!("touch {}/new", data.display()));
        attempts.push(format!("cat /proc/{pid}/environ"));
        attempts.push(format!("ls /proc/{pid}/root{}", data.display()));
        attempts.push(format!("kill -0 {pid}"));
        let script: Vec<String> =
            attempts.iter().map(|attempt| format!("{attempt} >/dev/null && echo DONE; ")).collect();
        let script = script.concat();
        let out = alone.one(&[], &format!("{script} echo over"));
        let (stdout, stderr) = (text(&out.stdout), text(&out.stderr));
        assert_eq!(stdout, "over\n", "{stderr}");
        let denied = stderr.lines().filter(|line| {
            line.contains("Permission denied") || line.contains("not permitted") || line.contains("No such")
        });
        assert!(denied.count() >= attempts.len(), "{} attempts: {stderr}", attempts.len());
        assert!(stderr.contains("Permission denied"), "{stderr}");

        let program = env!("CARGO_BIN_EXE_trine");
        let admin = alone.one(&[], &format!("{program} status --socket {}/admin.sock", data.display()));
        assert_ne!(admin.status.code(), Some(0), "{}", text(&admin.stdout));
        // What tasks need works.
        let works =
            alone.one(&[], "cd $TMPDIR && echo kept >file && cat file && test $HOME && pwd -P >/dev/null");
        assert_eq!(text(&works.stdout), "kept\n", "{}", text(&works.stderr));
        alone.stop().await;
    }
}

#[tokio::test]
async fn a_task_reaches_nothing_of_another() {
    for alone in Alone::both().await {
        let share = alone.share();
        let share = share.display();
        let owner = format!(
            "echo hidden >$TMPDIR/secret; echo $TMPDIR >{share}/new; echo $$ >{share}/pid; \
             mv {share}/new {share}/where; until [ -e {share}/done ]; do sleep 0.02; done"
        );
        let thief = format!(
            "until [ -e {share}/where ]; do sleep 0.02; done; cat $(cat {share}/where)/secret; \
             cat /proc/$(cat {share}/pid)/environ; kill $(cat {share}/pid); touch {share}/done"
        );
        let out = alone.run(&["-j2", "-k", ":::", &owner, &thief]);
        let (stdout, stderr) = (text(&out.stdout), text(&out.stderr));
        assert_eq!((stdout.as_str(), out.status.code()), ("", Some(0)), "{stderr}");
        assert!(
            stderr.matches("ermission denied").count() >= 2 && stderr.contains("not permitted"),
            "{stderr}"
        );
        alone.stop().await;
    }
}

#[tokio::test]
async fn tasks_of_a_stopped_node_end_and_run_again_when_it_goes_on() {
    for alone in Alone::both().await {
        let share = alone.share();
        let at = share.display();
        let task = format!(
            "if [ -e {at}/pid ]; then echo again >>{at}/done; echo over; exit; fi; \
             setsid sleep 1000 & echo $! >{at}/new; mv {at}/new {at}/pid; sleep 1000 #"
        );
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_trine"));
        let command = command.arg("run").arg("--data").arg(alone.data()).args([task.as_str(), ":::", "1"]);
        let command = command.env("SHELL", "/bin/sh").stdin(Stdio::null()).stdout(Stdio::piped());
        let client = command.kill_on_drop(true).spawn().expect("starts");
        assert!(local::until(LIMIT, || share.join("pid").exists()).await, "the task runs");
        let pid = std::fs::read_to_string(share.join("pid")).expect("a number");
        let pid = rustix::process::Pid::from_raw(pid.trim().parse().expect("a number")).expect("not 0");
        let lives = || rustix::process::test_kill_process(pid).is_ok();
        assert!(lives());
        alone.node.signal(rustix::process::Signal::STOP);
        assert!(local::until(LIMIT, || !lives()).await, "it runs on beside a node that stands still");
        alone.node.signal(rustix::process::Signal::CONT);
        let out = tokio::time::timeout(LIMIT, client.wait_with_output()).await;
        let out = out.expect("in time").expect("waited for");
        assert_eq!((text(&out.stdout).as_str(), out.status.code()), ("over\n", Some(0)));
        assert_eq!(std::fs::read_to_string(share.join("done")).expect("there"), "again\n");
        alone.stop().await;
    }
}

#[tokio::test]
async fn nothing_is_left_of_a_task_nor_of_a_node() {
    for mut alone in Alone::both().await {
        let share = alone.share();
        let pids = || -> Vec<i32> {
            let found = std::fs::read_dir(alone.dir.path().join("share")).expect("there");
            let read = |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path()).ok();
            found.filter_map(|entry| read(entry.ok()?)?.trim().parse().ok()).collect()
        };
        let alive = |pid: &i32| {
            let pid = rustix::process::Pid::from_raw(*pid).expect("a number");
            rustix::process::test_kill_process(pid).is_ok()
        };
        // Detached in every way that a shell has, from its group and its parent.
        let detach = |n: u32| {
            let at = format!("{}/{n}", share.display());
            format!(
                "setsid sh -c 'echo $$ >{at}; exec sleep 1000' & (setsid sh -c 'echo $$ >{at}.deep; sleep 1000' &) "
            )
        };
        let waits = |n: u32| {
            let at = format!("{}/{n}", share.display());
            format!("{}; until [ -s {at} ] && [ -s {at}.deep ]; do sleep 0.02; done", detach(n))
        };
        let out = alone.one(&[], &waits(1));
        assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
        assert_eq!(pids().len(), 2);
        assert!(!pids().iter().any(alive), "a task has left something");

        let data = alone.data();
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_trine"));
        let command =
            command.arg("run").arg("--data").arg(&data).arg(format!("{}; wait; sleep 1000 #", detach(2)));
        let command = command.args([":::", "1"]);
        let command = command.env("SHELL", "/bin/sh").stdin(Stdio::null()).stderr(Stdio::null());
        let client = command.kill_on_drop(true).spawn().expect("starts");
        assert!(local::until(LIMIT, || pids().len() == 4).await, "the second task runs");
        assert!(pids().iter().any(alive));
        alone.node.kill().await.expect("killed");
        assert!(local::until(LIMIT, || !pids().iter().any(alive)).await, "the node has left something");
        drop(client);
    }
}
