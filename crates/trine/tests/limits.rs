//! Tasks that take too much, on a real node: a clear outcome that says what it
//! was, and others go on.

use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use trine::local;

use self::processes::lone::{Alone, text};

mod processes;

/// How long anything may take.
const LIMIT: Duration = Duration::from_mins(2);

/// Whether control groups limit memory here, or each process by itself.
fn has_groups(alone: &Alone) -> bool {
    let log = std::fs::read_to_string(alone.data().join("trine.log")).expect("its log");
    let none = log.contains("no control groups");
    println!("limits: {}", if none { "each process by itself" } else { "control groups" });
    !none
}

fn said(out: &Output) -> String {
    format!("{}{}", text(&out.stdout), text(&out.stderr))
}

/// Others are unaffected: a job of an ordinary task is over soon.
fn goes_on(alone: &Alone) {
    let out = alone.run(&["-k", "echo", ":::", "a", "b"]);
    assert_eq!(text(&out.stdout), "a\nb\n", "{}", text(&out.stderr));
}

#[tokio::test]
async fn memory_is_limited_and_the_result_says_so() {
    for alone in Alone::both().await {
        let groups = has_groups(&alone);
        let hog = "python3 -c 'x = bytearray(400 << 20); print(len(x))'";
        let out = alone.one(&["--memory", "128M"], hog);
        assert_ne!(out.status.code(), Some(0), "{}", said(&out));
        let clear = if groups { "of memory, and may use 128.0 MiB" } else { "MemoryError" };
        assert!(said(&out).contains(clear), "{}", said(&out));
        // What is killed is a child; its parent would wait for long.
        let parent = format!("({hog}) & sleep 0.1; wait; sleep 1000");
        if groups {
            let torn = alone.one(&["--memory", "128M"], &parent);
            assert!(said(&torn).contains(clear), "{}", said(&torn));
        }
        let fits = alone.one(&["--memory", "800M"], hog);
        assert_eq!(text(&fits.stdout), "419430400\n", "{}", text(&fits.stderr));
        goes_on(&alone);
        alone.stop().await;
    }
}

#[tokio::test]
async fn one_that_forks_without_end_is_bounded() {
    for alone in Alone::both().await {
        // Each child lives on, so that nothing is freed.
        let bomb = "python3 -c '
import os, time
n = 0
try:
    while True:
        if os.fork() == 0:
            os.setsid()
            time.sleep(1000)
        n += 1
except OSError as error:
    print(\"after\", n, error, flush=True)
'";
        let script = alone.dir.path().join("bomb.sh");
        std::fs::write(&script, bomb).expect("written");
        let out = alone.one(&[], &format!("sh {}", script.display()));
        let said = said(&out);
        assert!(said.contains("Resource temporarily unavailable"), "{said}");
        goes_on(&alone);
        let left =
            std::process::Command::new("pgrep").args(["-fc", "after.*n, error"]).output().expect("pgrep");
        assert_eq!(text(&left.stdout).trim(), "0", "children are left");
        alone.stop().await;
    }
}

#[tokio::test]
async fn one_that_prints_without_end_is_killed_and_says_so() {
    let alone = Alone::start(false).await;
    let out = alone.run(&["--tag", "yes | head -c 1200000000 #{}", ":::", "1"]);
    let errors = text(&out.stderr);
    assert!(errors.contains("it printed more than"), "{errors}");
    assert_ne!(out.status.code(), Some(0));
    goes_on(&alone);
    alone.stop().await;
}

#[tokio::test]
async fn one_that_fills_the_disk_is_killed_before_others_have_no_room() {
    if !rustix::process::geteuid().is_root() {
        println!("NOT RUN: only root can mount a small disk");
        return;
    }
    let dir = processes::open_folder();
    let tasks = dir.path().join("tasks");
    std::fs::create_dir(&tasks).expect("made");
    let config = format!("limits.tasks.folder = \"{}\"\n", tasks.display());
    std::fs::write(dir.path().join("trine.toml"), config).expect("written");
    let mount = format!("mount -t tmpfs -o size=64m,mode=711 tmpfs {}", tasks.display());
    let alone = Alone::start_after(dir, &mount).await;
    let out = alone.one(&[], "head -c 62000000 /dev/zero >$TMPDIR/big; sleep 1000");
    let errors = text(&out.stderr);
    assert!(errors.contains("was killed: it filled the disk"), "{errors}");
    goes_on(&alone);
    let again = alone.one(&[], "head -c 30000000 /dev/zero >$TMPDIR/big && echo fits");
    assert_eq!(text(&again.stdout), "fits\n", "{}", text(&again.stderr));
    alone.stop().await;
}

#[tokio::test]
async fn a_million_files_are_removed_behind_a_task() {
    let alone = Alone::start(false).await;
    let out = alone.one(&[], "mkdir d && cd d && seq 100000 | xargs touch && chmod 0 . && echo $TMPDIR");
    let folder = std::path::PathBuf::from(text(&out.stdout).trim());
    assert!(folder.is_absolute(), "{}", said(&out));
    goes_on(&alone);
    assert!(local::until(LIMIT, || !folder.exists()).await, "they stay");
    alone.stop().await;
}

#[tokio::test]
async fn what_cannot_be_started_or_read_is_named() {
    let alone = Alone::start(false).await;
    let missing = alone.run(&["--memory", "64M", "/no/such/program", ":::", "1"]);
    assert!(said(&missing).contains("/no/such/program"), "{}", said(&missing));
    let closed = alone.dir.path().join("closed");
    std::fs::create_dir(&closed).expect("made");
    std::fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("ours");
    let path = closed.to_str().expect("text").to_owned();
    if rustix::process::geteuid().is_root() {
        let refused = alone.one(&["--workdir", &path], "true");
        assert!(said(&refused).contains(&format!("{path} on node")), "{}", said(&refused));
    }
    let nowhere = alone.one(&["--workdir", "/no/such/folder"], "true");
    assert!(said(&nowhere).contains("no directory /no/such/folder on node"), "{}", said(&nowhere));
    goes_on(&alone);
    alone.stop().await;
}

/// A line to a door, and what it answers.
fn ask(address: &str, lines: &[u8]) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).expect("the door is open");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time");
    stream.write_all(lines).expect("written");
    let mut answer = vec![0; 4096];
    let mut read = 0;
    while !answer[..read].ends_with(b"\r\n") || read == 0 {
        match stream.read(&mut answer[read..]) {
            Ok(0) | Err(_) => break,
            Ok(count) => read += count,
        }
    }
    text(&answer[..read])
}

#[tokio::test]
async fn a_task_has_a_token_that_is_good_while_it_runs() {
    let alone = Arc::new(Alone::start(false).await);
    let share = alone.share();
    let speak = r#"
import os, socket, sys, time
token = os.environ["TRINE_TOKEN"]
def door(name):
    host, port = os.environ[name].rsplit(":", 1)
    return socket.create_connection((host, int(port)))
redis = door("TRINE_REDIS")
def ask(*words):
    redis.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
    return redis.recv(4096).decode().strip()
print(ask(b"AUTH", token.encode()), ask(b"SET", b"of-a-task", b"7"), ask(b"ACL", b"WHOAMI").split()[-1])
nats = door("TRINE_NATS")
nats.recv(4096)
nats.sendall(b'CONNECT {"verbose":true,"auth_token":"%s"}\r\nPUB of.a.task 2\r\nhi\r\nPING\r\n' % token.encode())
answer = b""
while b"PONG" not in answer and b"ERR" not in answer:
    answer += nats.recv(4096)
print(answer.split())
open(sys.argv[1] + "/token", "w").write(token)
"#;
    let script = alone.dir.path().join("speak.py");
    std::fs::write(&script, speak).expect("written");
    let out = alone.one(&[], &format!("python3 {} {}", script.display(), share.display()));
    let told = text(&out.stdout);
    assert!(told.starts_with("+OK +OK ") && told.contains("PONG"), "{}", said(&out));
    assert!(!told.contains("ERR"), "{told}");
    let token = std::fs::read_to_string(share.join("token")).expect("a token");
    let redis = alone.node.spec.redis.to_string();
    let after = ask(&redis, format!("AUTH {token}\r\n").as_bytes());
    assert!(after.starts_with("-WRONGPASS"), "{after}");
    let alone = Arc::into_inner(alone).expect("nobody else");
    alone.stop().await;
}
