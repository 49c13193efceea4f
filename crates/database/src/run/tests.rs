//! Stories of connections: a client, a server over partitions in memory,
//! real sockets on loopback.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use trine_front::login::{Account as Source, Open};
use trine_front::{Credential, Exposure, Limits, Listeners, Login, LoginRefused, Principal};
use trine_types::{Clock, Entropy, Rights};

use super::TOO_MANY_CONNECTIONS;
use crate::acl::{Account, Accounts};
use crate::error::Refusal;
use crate::groups::{Groups, PartitionReply};
use crate::handle::{Database, Parts};
use crate::memory::MemoryGroups;
use crate::resp::{Value, decode, request};
use crate::rules::stories::{shown, split};
use crate::topology::{Topology, View};
use crate::{Config, codec};

struct TestClock(AtomicU64);

impl Clock for TestClock {
    fn wall_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

struct TestEntropy(AtomicU64);

impl Entropy for TestEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        for byte in bytes {
            let next = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            *byte = next.to_be_bytes()[0];
        }
    }
}

struct Alone;

impl Topology for Alone {
    fn snapshot(&self) -> View {
        View::default()
    }
}

/// Partitions that hold back every reply until the story lets them go.
struct Gated {
    groups: MemoryGroups,
    started: Mutex<Vec<(String, oneshot::Sender<()>)>>,
}

impl Gated {
    fn hold(
        &self,
        body: &Bytes,
        run: impl FnOnce(&MemoryGroups) -> BoxFuture<'static, PartitionReply>,
    ) -> BoxFuture<'static, PartitionReply> {
        let (open, gate) = oneshot::channel();
        let name = match codec::decode_query(body) {
            Some(codec::Query::Command(command)) => {
                String::from_utf8_lossy(&command.argv.join(&b' ')).into_owned()
            }
            other => format!("{other:?}"),
        };
        self.started.lock().unwrap().push((name, open));
        let reply = run(&self.groups);
        Box::pin(async move {
            gate.await.expect("the story opens every gate");
            reply.await
        })
    }

    /// What has started and was not let go.
    fn started(&self) -> Vec<String> {
        self.started.lock().unwrap().iter().map(|(name, _)| name.clone()).collect()
    }

    fn let_go(&self, name: &str) {
        let mut started = self.started.lock().unwrap();
        let at = started.iter().position(|(started, _)| started == name).expect("it has started");
        started.remove(at).1.send(()).expect("it is awaited");
    }
}

impl Groups for Gated {
    fn propose(&self, partition: u16, proposal: Bytes) -> BoxFuture<'static, PartitionReply> {
        self.hold(&proposal.clone(), |groups| groups.propose(partition, proposal))
    }

    fn query(&self, partition: u16, query: Bytes) -> BoxFuture<'static, PartitionReply> {
        self.hold(&query.clone(), |groups| groups.query(partition, query))
    }

    fn query_local(&self, partition: u16, query: Bytes) -> BoxFuture<'static, Option<Bytes>> {
        self.groups.query_local(partition, query)
    }

    fn led(&self) -> Vec<u16> {
        self.groups.led()
    }
}

/// One token, whose rights may change.
struct OneToken {
    rights: Mutex<Rights>,
    changes: watch::Sender<u64>,
}

impl OneToken {
    fn principal(&self) -> Principal {
        let rights = Arc::new(self.rights.lock().unwrap().clone());
        Principal { name: Arc::from("app"), rights, account: Source::Token(1), epoch: 0 }
    }
}

impl Login for OneToken {
    fn login(&self, _: IpAddr, shown: Credential) -> BoxFuture<'_, Result<Principal, LoginRefused>> {
        let right = shown == Credential::Token("trine_secret".to_owned());
        Box::pin(std::future::ready(right.then(|| self.principal()).ok_or(LoginRefused::Wrong)))
    }

    fn anonymous(&self, _: IpAddr) -> Option<Principal> {
        None
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn renew(&self, _: &Principal) -> Option<Principal> {
        Some(self.principal())
    }
}

/// No users, and nobody who could add one.
struct Nobody;

impl Accounts for Nobody {
    fn all(&self) -> Vec<(String, Account)> {
        Vec::new()
    }

    fn set(&self, _: String, _: String, _: Vec<Bytes>) -> BoxFuture<'static, Result<(), Refusal>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn remove(&self, _: String, names: Vec<String>) -> BoxFuture<'static, Result<usize, Refusal>> {
        Box::pin(std::future::ready(Ok(names.len())))
    }
}

pub(super) struct House {
    database: Database,
    clock: Arc<TestClock>,
    disk_low: Arc<AtomicBool>,
}

impl House {
    pub(super) fn new() -> Self {
        let clock = Arc::new(TestClock(AtomicU64::new(1_700_000_000_000)));
        let groups = MemoryGroups::new(16, clock.clone()).unwrap();
        Self::over(clock, Arc::new(groups))
    }

    fn over(clock: Arc<TestClock>, groups: Arc<dyn Groups>) -> Self {
        Self::with_login(clock, groups, Arc::new(Open::default()))
    }

    fn with_login(clock: Arc<TestClock>, groups: Arc<dyn Groups>, login: Arc<dyn Login>) -> Self {
        let disk_low = Arc::new(AtomicBool::new(false));
        let low = Arc::clone(&disk_low);
        let parts = Parts {
            groups,
            topology: Arc::new(Alone),
            clock: clock.clone(),
            entropy: Arc::new(TestEntropy(AtomicU64::new(1))),
            disk_low: Arc::new(move || low.load(Ordering::Relaxed)),
            resident_bytes: || 0,
            login,
            accounts: Arc::new(Nobody),
            config: Config::default(),
        };
        Self { database: Database::new(parts), clock, disk_low }
    }

    pub(super) async fn open(&self) -> Client {
        let address = "127.0.0.1:0".parse().unwrap();
        let listener =
            Listeners::bind("redis", address, Exposure::default(), Limits::default(), TOO_MANY_CONNECTIONS)
                .unwrap();
        let address = listener.local_addr();
        tokio::spawn(self.database.clone().serve(listener, None));
        Client { stream: TcpStream::connect(address).await.unwrap(), input: BytesMut::new() }
    }

    /// A connection without a socket.
    fn desk(&self) -> Desk {
        Desk { database: self.database.clone(), state: self.database.connect("story") }
    }
}

struct Desk {
    database: Database,
    state: crate::ConnectionState,
}

impl Desk {
    async fn ask(&mut self, line: &str) -> String {
        shown(&self.database.execute(&mut self.state, split(line)).await)
    }
}

pub(super) struct Client {
    pub(super) stream: TcpStream,
    input: BytesMut,
}

impl Client {
    async fn send(&mut self, lines: &[&str]) {
        let mut out = BytesMut::new();
        for line in lines {
            request::encode(&split(line), &mut out);
        }
        self.stream.write_all(&out).await.unwrap();
    }

    async fn reply(&mut self) -> Value {
        loop {
            if let Some((value, used)) = decode::first(&self.input) {
                let _ = self.input.split_to(used);
                return value;
            }
            let read = self.stream.read_buf(&mut self.input).await.unwrap();
            assert!(read > 0, "closed in the middle of a reply");
        }
    }

    async fn ask(&mut self, line: &str) -> String {
        self.send(&[line]).await;
        shown(&self.reply().await)
    }

    /// Everything until the other side closes.
    async fn rest(&mut self) -> String {
        let mut rest = self.input.split().to_vec();
        self.stream.read_to_end(&mut rest).await.unwrap();
        String::from_utf8(rest).unwrap()
    }
}

#[tokio::test]
async fn a_client_reads_what_it_wrote() {
    let house = House::new();
    let mut client = house.open().await;
    assert_eq!(client.ask("SET k v").await, "+OK");
    assert_eq!(client.ask("GET k").await, "v");
    assert_eq!(client.ask("SELECT 1").await, "+OK");
    assert_eq!(client.ask("GET k").await, "(nil)");
    assert!(!client.ask("HELLO 3").await.is_empty());
    assert_eq!(client.ask("CONFIG GET port").await, "Map([(Bulk(b\"port\"), Bulk(b\"6379\"))])");
}

#[tokio::test]
async fn replies_come_in_the_order_of_the_commands() {
    let house = House::new();
    let mut client = house.open().await;
    let lines: Vec<String> = (0..500).flat_map(|n| [format!("SET k{n} {n}"), format!("GET k{n}")]).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    client.send(&lines).await;
    for n in 0..500 {
        assert_eq!(shown(&client.reply().await), "+OK");
        assert_eq!(shown(&client.reply().await), n.to_string());
    }
}

#[tokio::test]
async fn a_read_waits_for_writes_before_it_on_its_partition_only() {
    let clock = Arc::new(TestClock(AtomicU64::new(1)));
    let gated =
        Arc::new(Gated { groups: MemoryGroups::new(16, clock.clone()).unwrap(), started: Mutex::default() });
    let house = House::over(clock, gated.clone());
    let mut client = house.open().await;
    // The last command meets no partition; its reply is held back by order only.
    client.send(&["SET {a}1 x", "GET {a}1", "SET {b}1 y", "PING"]).await;
    let wait_for = async |expected: &[&str]| {
        while gated.started() != expected {
            tokio::task::yield_now().await;
        }
    };
    wait_for(&["SET {a}1 x", "SET {b}1 y"]).await;
    gated.let_go("SET {b}1 y");
    gated.let_go("SET {a}1 x");
    wait_for(&["GET {a}1"]).await;
    gated.let_go("GET {a}1");
    for expected in ["+OK", "x", "+OK", "+PONG"] {
        assert_eq!(shown(&client.reply().await), expected);
    }
}

#[tokio::test]
async fn a_walk_waits_for_everything_before_it_and_holds_up_what_follows() {
    let house = House::new();
    let mut client = house.open().await;
    client.send(&["SET a 1", "SET b 2", "KEYS *", "FLUSHALL", "DBSIZE"]).await;
    let mut replies = Vec::new();
    for _ in 0..5 {
        replies.push(shown(&client.reply().await));
    }
    assert!(["[a, b]", "[b, a]"].contains(&replies[2].as_str()), "{replies:?}");
    assert_eq!(replies[4], ":0");
}

#[tokio::test]
async fn nonsense_gets_an_error_and_is_closed_after_what_came_before() {
    let house = House::new();
    let mut client = house.open().await;
    client.stream.write_all(b"PING\r\n*1\r\n$-5\r\nmore nonsense").await.unwrap();
    assert_eq!(client.rest().await, "+PONG\r\n-ERR Protocol error: invalid bulk length\r\n");
}

#[tokio::test]
async fn a_value_over_the_limit_is_refused_before_it_arrives() {
    let house = House::new();
    let mut client = house.open().await;
    client.stream.write_all(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$16777217\r\n").await.unwrap();
    assert!(client.rest().await.starts_with("-ERR Protocol error: invalid bulk length (a value has"));
}

#[tokio::test]
async fn quit_answers_and_closes() {
    let house = House::new();
    let mut client = house.open().await;
    client.send(&["SET k v", "QUIT", "SET k w"]).await;
    assert_eq!(client.rest().await, "+OK\r\n+OK\r\n");
    assert_eq!(house.desk().ask("GET k").await, "v");
}

#[tokio::test]
async fn a_client_that_stops_sending_gets_its_replies() {
    let house = House::new();
    let mut client = house.open().await;
    let pings = "PING\r\n".repeat(5000);
    client.stream.write_all(pings.as_bytes()).await.unwrap();
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.rest().await, "+PONG\r\n".repeat(5000));
}

#[tokio::test]
async fn declined_replies_are_not_sent() {
    let house = House::new();
    let mut client = house.open().await;
    client
        .send(&["CLIENT REPLY OFF", "SET k v", "CLIENT REPLY ON", "CLIENT REPLY SKIP", "GET k", "GET k"])
        .await;
    assert_eq!(shown(&client.reply().await), "+OK");
    assert_eq!(shown(&client.reply().await), "v");
    let mut silent = vec!["CLIENT REPLY OFF"];
    silent.extend(std::iter::repeat_n("PING", 3000));
    silent.push("CLIENT REPLY ON");
    client.send(&silent).await;
    assert_eq!(shown(&client.reply().await), "+OK");
}

#[tokio::test]
async fn a_killed_connection_ends() {
    let house = House::new();
    let mut victim = house.open().await;
    let id = victim.ask("CLIENT ID").await.replace(':', "");
    assert_eq!(house.desk().ask(&format!("CLIENT KILL ID {id}")).await, ":1");
    assert_eq!(victim.rest().await, "");
}

#[tokio::test]
async fn shutting_down_ends_connections_and_listeners() {
    let house = House::new();
    let mut client = house.open().await;
    assert_eq!(client.ask("PING").await, "+PONG");
    house.database.shut_down();
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn commands_over_several_partitions_are_put_together() {
    let house = House::new();
    let mut desk = house.desk();
    assert_eq!(desk.ask("MSET a 1 b 2 c 3").await, "+OK");
    assert_eq!(desk.ask("MGET c nothing a").await, "[3, (nil), 1]");
    assert_eq!(desk.ask("EXISTS a b nothing a").await, ":3");
    assert_eq!(desk.ask("DBSIZE").await, ":3");
    assert_eq!(desk.ask("DEL a b nothing").await, ":2");
    assert_eq!(desk.ask("MSET a 1 b").await, "-ERR wrong number of arguments for 'mset' command");
    let refused = desk.ask("RENAME a b").await;
    assert!(refused.starts_with("-CROSSSLOT"), "{refused}");
    assert_eq!(desk.ask("RANDOMKEY").await, "c");
    assert_eq!(desk.ask("FLUSHALL").await, "+OK");
    assert_eq!(desk.ask("RANDOMKEY").await, "(nil)");
}

#[tokio::test]
async fn a_scan_finds_every_key_once_whatever_the_count() {
    let house = House::new();
    let mut desk = house.desk();
    for n in 0..200 {
        desk.ask(&format!("SET key:{n} v")).await;
    }
    for count in [1, 3, 10, 1000] {
        let (mut cursor, mut found) = ("0".to_owned(), Vec::new());
        loop {
            let line = format!("SCAN {cursor} COUNT {count} MATCH key:* TYPE string");
            let reply = desk.database.execute(&mut desk.state, split(&line)).await;
            let Value::Array(items) = reply else { panic!("{reply:?}") };
            let (Value::Bulk(next), Value::Array(keys)) = (&items[0], &items[1]) else { panic!("{items:?}") };
            found.extend(keys.iter().map(shown));
            cursor = String::from_utf8(next.to_vec()).unwrap();
            if cursor == "0" {
                break;
            }
            assert!(cursor.parse::<u64>().unwrap() < 1 << 53);
        }
        found.sort();
        found.dedup();
        assert_eq!(found.len(), 200, "COUNT {count}");
    }
    assert!(!desk.ask("SCAN 0 TYPE list").await.contains("key"));
    assert_eq!(desk.ask("SCAN x").await, "-ERR invalid cursor");
    assert_eq!(desk.ask("SCAN 0 COUNT 0").await, "-ERR syntax error");
}

#[tokio::test]
async fn a_nearly_full_disk_refuses_growth_and_still_deletes() {
    let house = House::new();
    let mut desk = house.desk();
    desk.ask("SET k v").await;
    house.disk_low.store(true, Ordering::Relaxed);
    assert!(desk.ask("SET k w").await.starts_with("-OOM "));
    assert!(desk.ask("TRINE.ONCE me 1 INCR n").await.starts_with("-OOM "));
    assert_eq!(desk.ask("GET k").await, "v");
    assert_eq!(desk.ask("DEL k").await, ":1");
}

#[tokio::test]
async fn once_and_timing_wrap_commands() {
    let house = House::new();
    let mut desk = house.desk();
    assert_eq!(desk.ask("TRINE.ONCE me 1 INCR n").await, ":1");
    assert_eq!(desk.ask("TRINE.ONCE me 1 INCR n").await, ":1");
    assert_eq!(desk.ask("TRINE.ONCE me 2 MSET a 1 b 2 c 3").await, "+OK");
    assert_eq!(desk.ask("TRINE.ONCE me 2 GET n").await, "1");
    assert_eq!(desk.ask("TRINE.TIMING GET n").await, "[1, :0, :0, :0]");
    assert_eq!(desk.ask("TRINE.TIMING TRINE.ONCE me 3 INCR n").await, "[:2, :0, :0, :0]");
    assert_eq!(
        desk.ask("TRINE.TIMING NONSENSE").await,
        "-ERR unknown command 'NONSENSE', with args beginning with: "
    );
    assert_eq!(
        desk.ask("TRINE.ONCE me 4 PING").await,
        "-ERR TRINE.ONCE takes a command that reads or writes keys"
    );
    assert!(desk.ask("TRINE.ONCE me -1 INCR n").await.starts_with("-ERR TRINE.ONCE: the sequence number"));
    assert!(desk.ask("TRINE.ONCE \"\" 1 INCR n").await.starts_with("-ERR TRINE.ONCE: the id"));
}

#[tokio::test]
async fn what_is_due_is_swept() {
    let house = House::new();
    let mut desk = house.desk();
    for n in 0..50 {
        desk.ask(&format!("SET k{n} v PX 100")).await;
    }
    house.clock.0.fetch_add(100, Ordering::Relaxed);
    assert_eq!(desk.ask("DBSIZE").await, ":50", "nobody has looked yet");
    for partition in 0..16 {
        house.database.sweep_partition(partition).await;
    }
    assert_eq!(desk.ask("DBSIZE").await, ":0");
}

#[tokio::test]
async fn info_and_cluster_speak_of_what_is_there() {
    let house = House::new();
    let mut desk = house.desk();
    desk.ask("SET k v EX 100").await;
    let info = desk.ask("INFO").await;
    for expected in [
        "cluster_enabled:1",
        "redis_version:7.0.15",
        "db0:keys=1,expires=1",
        "write_owner_processing:count=1",
    ] {
        assert!(info.contains(expected), "{expected} is missing in {info}");
    }
    assert_eq!(desk.ask("CLUSTER KEYSLOT foo").await, ":12182");
    assert_eq!(desk.ask("CLUSTER COUNTKEYSINSLOT 7629").await, ":1");
    assert_eq!(desk.ask("CLUSTER GETKEYSINSLOT 7629 10").await, "[k]");
    assert_eq!(desk.ask("CLUSTER GETKEYSINSLOT 16384 10").await, "-ERR Invalid slot");
    assert_eq!(desk.ask("CLUSTER FOO").await, "-ERR unknown subcommand 'FOO'. Try CLUSTER HELP.");
    assert_eq!(desk.ask("WAIT 1 0").await, ":0");
}

#[tokio::test]
async fn a_transaction_is_executed_at_once_on_its_partition() {
    let house = House::new();
    let mut client = house.open().await;
    client.send(&["MULTI", "SET {t}a 1", "INCR {t}a", "GET {t}missing", "INCR", "EXEC"]).await;
    for expected in ["+OK", "+QUEUED", "+QUEUED", "+QUEUED"] {
        assert_eq!(shown(&client.reply().await), expected);
    }
    assert_eq!(shown(&client.reply().await), "-ERR wrong number of arguments for 'incr' command");
    let aborted = "-EXECABORT Transaction discarded because of previous errors.";
    assert_eq!(shown(&client.reply().await), aborted);
    client.send(&["MULTI", "SET {t}a x", "INCR {t}a", "GET {t}missing", "MGET {t}a {t}b", "EXEC"]).await;
    for _ in 0..5 {
        client.reply().await;
    }
    let replies = shown(&client.reply().await);
    assert_eq!(replies, "[+OK, -ERR value is not an integer or out of range, (nil), [x, (nil)]]");
    assert_eq!(client.ask("EXEC").await, "-ERR EXEC without MULTI");
    assert_eq!(client.ask("MULTI").await, "+OK");
    assert_eq!(client.ask("MULTI").await, "-ERR MULTI calls can not be nested");
    assert_eq!(client.ask("DISCARD").await, "+OK");
    assert_eq!(client.ask("MULTI").await, "+OK");
    assert_eq!(client.ask("EXEC").await, "[]");
}

#[tokio::test]
async fn a_transaction_over_partitions_is_refused_as_a_whole() {
    let house = House::new();
    let mut desk = house.desk();
    for line in ["MULTI", "SET a 1", "SET b 2"] {
        desk.ask(line).await;
    }
    assert!(desk.ask("EXEC").await.starts_with("-CROSSSLOT"));
    assert_eq!(desk.ask("EXISTS a b").await, ":0");
}

#[tokio::test]
async fn a_watched_key_that_changed_stops_the_transaction() {
    let house = House::new();
    let (mut mine, mut other) = (house.desk(), house.desk());
    for (meanwhile, expected) in [("SET {t}k 2", "(nil)"), ("GET {t}k", "[:1]"), ("DEL {t}k", "(nil)")] {
        mine.ask("SET {t}k 1").await;
        mine.ask("DEL {t}n").await;
        assert_eq!(mine.ask("WATCH {t}k {t}n").await, "+OK");
        other.ask(meanwhile).await;
        mine.ask("MULTI").await;
        mine.ask("INCR {t}n").await;
        assert_eq!(mine.ask("EXEC").await, expected, "{meanwhile}");
    }
    mine.ask("WATCH {t}k").await;
    other.ask("SET {t}k 3").await;
    mine.ask("UNWATCH").await;
    mine.ask("MULTI").await;
    mine.ask("GET {t}k").await;
    assert_eq!(mine.ask("EXEC").await, "[3]");
}

/// A house with one token.
fn guarded() -> (Arc<OneToken>, House) {
    let rights = Mutex::new(Rights::data());
    let login = Arc::new(OneToken { rights, changes: watch::Sender::new(0) });
    let clock = Arc::new(TestClock(AtomicU64::new(1)));
    let groups = Arc::new(MemoryGroups::new(16, clock.clone()).unwrap());
    (login.clone(), House::with_login(clock, groups, login))
}

#[tokio::test]
async fn a_token_is_shown_in_every_form_that_libraries_have() {
    let (_, house) = guarded();
    for line in ["AUTH trine_secret", "AUTH default trine_secret", "HELLO 3 AUTH default trine_secret"] {
        let mut client = house.open().await;
        assert_eq!(client.ask("GET k").await, "-NOAUTH Authentication required.");
        assert!(!client.ask(line).await.starts_with('-'), "{line}");
        assert_eq!(client.ask("GET k").await, "(nil)", "{line}");
    }
    let mut client = house.open().await;
    for line in ["AUTH trine_other", "HELLO 3 AUTH default trine_other", "HELLO 3 AUTH app trine_secret"] {
        assert!(client.ask(line).await.starts_with("-WRONGPASS"), "{line}");
    }
}

#[tokio::test]
async fn exec_asks_again_whether_its_commands_are_allowed() {
    let (login, house) = guarded();
    let mut client = house.open().await;
    assert_eq!(client.ask("AUTH trine_secret").await, "+OK");
    client.send(&["WATCH k", "MULTI", "SET k v", "GET k"]).await;
    for expected in ["+OK", "+OK", "+QUEUED", "+QUEUED"] {
        assert_eq!(shown(&client.reply().await), expected);
    }
    let reading = ["command:@read", "command:@transaction", "key:*"].map(|rule| rule.parse().unwrap());
    *login.rights.lock().unwrap() = Rights::new(reading, []);
    house.database.recheck_clients();
    assert!(client.ask("EXEC").await.starts_with("-NOPERM this user's rights changed"));
    assert_eq!(client.ask("EXEC").await, "-ERR EXEC without MULTI");

    *login.rights.lock().unwrap() = Rights::data();
    house.database.recheck_clients();
    assert_eq!(client.ask("GET k").await, "(nil)", "nothing was executed");
}
