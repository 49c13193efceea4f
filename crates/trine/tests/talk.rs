//! `trine peer ping|send|request|publish|subscribe|copy` on three processes, as
//! somebody types them.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use trine::demo::messenger::Messenger;
use trine::local::{self, NodeProcess, NodeSpec};

use self::processes::cluster;

mod processes;

/// How long anything that must happen may take.
const LIMIT: Duration = Duration::from_secs(30);
/// Sooner than any timeout that the commands have.
const AT_ONCE: Duration = Duration::from_secs(5);

/// What a command came to.
#[derive(Debug)]
struct Done {
    code: Option<i32>,
    out: String,
    error: String,
}

impl Done {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("{self:?}"))
    }
}

fn command(node: &NodeProcess, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trine"));
    command.arg("peer").args(words).arg("--data").arg(&node.spec.data);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs `trine peer …` at a node to its end.
async fn peer(node: &NodeProcess, words: &[&str]) -> Done {
    let output = timeout(LIMIT, command(node, words).output()).await.expect("it ends").expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Done { code: output.status.code(), out: text(&output.stdout), error: text(&output.stderr) }
}

/// `trine peer subscribe …`, which goes on until it is dropped.
struct Subscriber {
    _child: Child,
    out: Lines<BufReader<ChildStdout>>,
    _error: Lines<BufReader<ChildStderr>>,
}

impl Subscriber {
    async fn start(node: &NodeProcess, words: &[&str]) -> Self {
        let mut child = command(node, &[&["subscribe"], words].concat()).spawn().expect("it runs");
        let out = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut error = BufReader::new(child.stderr.take().expect("piped")).lines();
        let first = timeout(LIMIT, error.next_line()).await.expect("in time").expect("a line");
        assert!(first.as_deref().is_some_and(|line| line.starts_with("subscribed to")), "{first:?}");
        Self { _child: child, out, _error: error }
    }

    async fn line(&mut self) -> String {
        let line = timeout(LIMIT, self.out.next_line()).await.expect("in time").expect("readable");
        line.expect("it goes on")
    }
}

/// Answers every request on `subject` with its own text and ` back`, at a node.
async fn responder(node: &NodeProcess, subject: &str) -> JoinHandle<()> {
    let status = node.admin().expect("answers").status().await.expect("a status");
    let door = status.doors.nats.parse().expect("an address");
    let (mut messenger, _) = Messenger::connect(door).await.expect("the door is open");
    messenger.subscribe(subject).await.expect("subscribed");
    tokio::spawn(async move {
        while let Ok(message) = messenger.wait().await {
            if let Some(reply) = message.reply {
                let answer = [&message.payload[..], b" back"].concat();
                messenger.publish(&reply, "", &answer).await.expect("answered");
            }
        }
    })
}

/// Publishes at `node` until somebody takes it: interest has spread. How often.
async fn publish_until_taken(node: &NodeProcess, subject: &str, receivers: u64) -> usize {
    let begun = Instant::now();
    for n in 1.. {
        let done = peer(node, &["publish", subject, "probe", "--json"]).await;
        if done.json()["receivers"].as_u64() >= Some(receivers) {
            return n;
        }
        assert!(begun.elapsed() < LIMIT, "{done:?}");
    }
    unreachable!("the loop has no end");
}

#[tokio::test]
async fn ping_says_what_connecting_and_the_message_took() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let nodes = cluster(dir.path(), 3).await;
    let report = |done: Done| {
        let (json, ns) = (done.json(), |json: &Value, name: &str| json[name].as_u64().expect("a number"));
        let times = ["fastest_ns", "median_ns", "p99_ns", "slowest_ns"].map(|name| ns(&json, name));
        assert!(times[0] > 0 && times.is_sorted(), "{json}");
        (ns(&json, "connection_ns"), ns(&json, "count"))
    };
    let cold = ["ping", "node3", "--cold", "--count", "1", "--json"];
    let (connecting, count) = report(peer(&nodes[0], &cold).await);
    assert!(connecting > 0 && count == 1, "nobody was connected: {connecting} ns");
    let (_, count) = report(peer(&nodes[0], &["ping", "node2", "--count", "20", "--json"]).await);
    assert_eq!(count, 20);
    let (connecting, _) = report(peer(&nodes[0], &["ping", "node2", "--bytes", "100000", "--json"]).await);
    assert_eq!(connecting, 0, "the connection is there");

    let done = peer(&nodes[1], &["ping", "node1"]).await;
    assert!(done.code == Some(0) && done.out.starts_with("T = T_c + T_m: "), "{done:?}");
    assert!(done.out.contains("10 exchanges: fastest"), "{done:?}");
    let done = peer(&nodes[0], &["ping", "nobody"]).await;
    assert!(done.code == Some(1) && done.error.contains("trine nodes"), "{done:?}");
}

#[tokio::test]
async fn messages_reach_those_who_subscribed_in_their_order() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let nodes = cluster(dir.path(), 3).await;
    let done = peer(&nodes[0], &["publish", "news.today", "x"]).await;
    assert_eq!((done.code, done.out.as_str()), (Some(0), "0 took it\n"), "{done:?}");
    let mut subscriber = Subscriber::start(&nodes[2], &["news.>"]).await;

    let done = peer(&nodes[0], &["send", "node3", "news.local", "direct", "--timing"]).await;
    assert_eq!((done.code, done.out.as_str()), (Some(0), "1 took it\n"), "{done:?}");
    assert!(done.error.contains("T = T_c + T_m"), "{done:?}");
    assert_eq!(subscriber.line().await, "news.local  direct");
    let done = peer(&nodes[0], &["send", "node2", "news.local", "direct"]).await;
    assert_eq!((done.code, done.out.as_str()), (Some(0), "0 took it\n"), "{done:?}");

    publish_until_taken(&nodes[1], "news.probe", 1).await;
    assert_eq!(subscriber.line().await, "news.probe  probe");
    for n in 0..5 {
        let done = peer(&nodes[1], &["publish", "news.today", &n.to_string()]).await;
        assert_eq!(done.out, "1 took it\n", "{done:?}");
    }
    for n in 0..5 {
        assert_eq!(subscriber.line().await, format!("news.today  {n}"));
    }
    let done = peer(&nodes[1], &["publish", "news.*", "x"]).await;
    assert!(done.code == Some(1) && done.error.contains("no subject"), "{done:?}");
}

#[tokio::test]
async fn a_queue_group_shares_its_messages() {
    const MESSAGES: usize = 30;
    let dir = tempfile::tempdir().expect("temporary folder");
    let nodes = cluster(dir.path(), 3).await;
    let mut first = Subscriber::start(&nodes[1], &["work", "--queue", "workers", "--json"]).await;
    let mut second = Subscriber::start(&nodes[2], &["work", "--queue", "workers", "--json"]).await;
    let mut all = Subscriber::start(&nodes[2], &["work", "--json"]).await;
    // One of the group, and the one that is in none.
    publish_until_taken(&nodes[0], "work", 2).await;
    for n in 0..MESSAGES {
        let done = peer(&nodes[0], &["publish", "work", &n.to_string()]).await;
        assert_eq!(done.code, Some(0), "{done:?}");
    }
    let text = |line: String| {
        let message: Value = serde_json::from_str(&line).expect("JSON");
        message["payload"].as_str().expect("text").to_owned()
    };
    let (mut shared, mut by) = (Vec::new(), [0, 0]);
    while shared.len() < MESSAGES {
        let (at, line) = tokio::select! {
            biased;
            line = first.line() => (0, line),
            line = second.line() => (1, line),
        };
        let payload = text(line);
        if payload != "probe" {
            by[at] += 1;
            shared.push(payload.parse::<usize>().expect("a number"));
        }
    }
    shared.sort_unstable();
    assert_eq!(shared, (0..MESSAGES).collect::<Vec<_>>(), "each once: {by:?}");
    let mut whole = Vec::new();
    while whole.len() < MESSAGES {
        let payload = text(all.line().await);
        if payload != "probe" {
            whole.push(payload.parse::<usize>().expect("a number"));
        }
    }
    assert_eq!(whole, (0..MESSAGES).collect::<Vec<_>>(), "who is in no group gets all, in order");
}

#[tokio::test]
async fn requests_are_answered_refused_at_once_or_end_in_time() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let nodes = cluster(dir.path(), 3).await;
    let begun = Instant::now();
    for words in [
        &["request", "nobody.here", "x", "--timeout", "1m"][..],
        &["request", "nobody.here", "x", "--node", "node2", "--timeout", "1m"],
    ] {
        let done = peer(&nodes[0], words).await;
        assert!(done.code == Some(1) && done.error.contains("nobody there answers"), "{done:?}");
    }
    assert!(begun.elapsed() < AT_ONCE, "no responders took {:?}", begun.elapsed());

    let _echo = responder(&nodes[2], "echo").await;
    let direct = ["request", "echo", "hi", "--node", "node3", "--count", "20", "--timing"];
    let done = peer(&nodes[0], &direct).await;
    assert_eq!((done.code, done.out.as_str()), (Some(0), "hi back\n"), "{done:?}");
    assert!(done.error.contains("20 exchanges"), "{done:?}");
    let done = peer(&nodes[0], &["request", "echo", "hi", "--node", "node2"]).await;
    assert_eq!(done.code, Some(1), "it subscribed at another node: {done:?}");
    publish_until_taken(&nodes[0], "echo", 1).await;
    let done = peer(&nodes[0], &["request", "echo", "hi", "--json"]).await;
    assert_eq!(done.json()["reply"]["payload"].as_str(), Some("hi back"));

    // This one takes requests and never answers.
    let _deaf = Subscriber::start(&nodes[1], &["deaf"]).await;
    let begun = Instant::now();
    let done = peer(&nodes[0], &["request", "deaf", "hi", "--node", "node2", "--timeout", "1s"]).await;
    let took = begun.elapsed();
    assert!(done.code == Some(1) && done.error.contains("no reply in time"), "{done:?}");
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(1) + AT_ONCE, "{took:?}");
}

/// A file too large to be over in one part, and what is in it.
fn large_file(folder: &Path) -> (PathBuf, blake3::Hash) {
    let mut content = vec![0; 96 * 1024 * 1024];
    blake3::Hasher::new().update(b"a file").finalize_xof().fill(&mut content);
    let path = folder.join("large");
    std::fs::write(&path, &content).expect("written");
    (path, blake3::hash(&content))
}

/// The one file that has arrived in part.
fn partial(node: &NodeSpec) -> Option<(PathBuf, u64)> {
    let mut folder = std::fs::read_dir(node.data.join("inbox/.partial")).ok()?;
    let file = folder.find_map(Result::ok)?;
    Some((file.path(), file.metadata().ok()?.len()))
}

#[tokio::test]
async fn a_copy_goes_on_after_its_receiver_was_killed_and_is_verified() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let mut nodes = cluster(dir.path(), 3).await;
    let (file, hash) = large_file(dir.path());
    let words = ["copy", file.to_str().expect("text"), "node2:in/large"];
    let spec = nodes[1].spec.clone();
    let arrived = spec.data.join("inbox/in/large");

    // Twice: the second time what arrived is damaged while its node is down.
    for damaged in [false, true] {
        let copying = command(&nodes[0], &words).spawn().expect("it runs");
        let some = local::until(LIMIT, || partial(&spec).is_some_and(|(_, bytes)| bytes > 4 << 20)).await;
        assert!(some, "something arrives");
        nodes[1].kill().await.expect("killed");
        let output = timeout(LIMIT, copying.wait_with_output()).await.expect("it ends").expect("it ran");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains("goes on where this one stopped"), "{error}");
        let (path, before) = partial(&spec).expect("what arrived is kept");
        assert!(before > 4 << 20 && !arrived.exists(), "{before} bytes");
        if damaged {
            let mut content = std::fs::read(&path).expect("readable");
            content[0] ^= 1;
            std::fs::write(&path, content).expect("ours");
        }
        nodes[1] = NodeProcess::spawn(spec.clone(), None).await.expect("starts");
        nodes[1].wait_ready().await.expect("serves");
        if damaged {
            // It used what was there, and found out.
            let done = peer(&nodes[0], &words).await;
            assert!(done.code == Some(1) && done.error.contains("not what was announced"), "{done:?}");
            assert!(!arrived.exists());
        }
        let done = peer(&nodes[0], &words).await;
        assert!(done.code == Some(0) && done.out.contains(hash.to_hex().as_str()), "{done:?}");
        let content = std::fs::read(&arrived).expect("it is there");
        assert!(blake3::hash(&content) == hash && partial(&spec).is_none());
        std::fs::remove_file(&arrived).expect("ours");
    }
}
