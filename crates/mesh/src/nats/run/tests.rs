//! The door over real loopback sockets, spoken to by hand.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use trine_front::login::{Account, Open};
use trine_front::{Credential, Exposure, Limits, Listeners, Login, LoginRefused, Principal};
use trine_types::{Clock, Entropy, Rights};

use crate::bus::Bus;
use crate::nats::{Config, Entrance, Nats, PROTOCOL_OF, Parts, ServerInfo, TOO_MANY_CONNECTIONS};

/// A test that waits longer has found a bug.
const PATIENCE: Duration = Duration::from_secs(20);

struct Fixed;

impl Clock for Fixed {
    fn wall_ms(&self) -> u64 {
        1_000
    }
}

impl Entropy for Fixed {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

/// One user, ann, with the password pw.
struct Ann {
    rights: watch::Sender<Arc<Rights>>,
    changes: watch::Sender<u64>,
}

impl Ann {
    fn may(allow: &[&str], deny: &[&str]) -> Arc<Self> {
        Arc::new(Self { rights: watch::Sender::new(rights(allow, deny)), changes: watch::Sender::new(0) })
    }

    fn now_may(&self, allow: &[&str], deny: &[&str]) {
        self.rights.send_replace(rights(allow, deny));
        self.changes.send_modify(|version| *version += 1);
    }

    fn principal(&self) -> Principal {
        let rights = self.rights.borrow().clone();
        Principal { name: "ann".into(), rights, account: Account::User(1), epoch: 0 }
    }
}

fn rights(allow: &[&str], deny: &[&str]) -> Arc<Rights> {
    let rules = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("a rule")).collect::<Vec<_>>();
    Arc::new(Rights::new(rules(allow), rules(deny)))
}

impl Login for Ann {
    fn login(&self, _: IpAddr, credential: Credential) -> BoxFuture<'_, Result<Principal, LoginRefused>> {
        let right = credential == Credential::Password { user: "ann".into(), password: "pw".into() };
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

/// An open door.
struct Door {
    nats: Nats,
    address: SocketAddr,
    serving: JoinHandle<()>,
}

fn open_with(login: Arc<dyn Login>, config: Config) -> Door {
    let address = "127.0.0.1:0".parse().expect("an address");
    let bound =
        Listeners::bind("nats", address, Exposure::default(), Limits::default(), TOO_MANY_CONNECTIONS);
    let listener = bound.expect("a port");
    let address = listener.local_addr();
    let server = ServerInfo {
        server_id: "ID".into(),
        server_name: "n1".into(),
        version: PROTOCOL_OF,
        proto: 1,
        go: "rust",
        host: "127.0.0.1".into(),
        port: address.port(),
        headers: true,
        max_payload: config.max_payload,
        jetstream: false,
        cluster: None,
    };
    let config = config.validate().expect("allowed");
    let (clock, entropy) = (Arc::new(Fixed), Arc::new(Fixed));
    let nats = Nats::new(Parts { bus: Bus::new(1), login, config, server, clock, entropy });
    let serving = tokio::spawn(nats.clone().serve(listener, Entrance::Plain));
    Door { nats, address, serving }
}

fn open() -> Door {
    open_with(Arc::new(Open::default()), Config::default())
}

struct Client {
    stream: BufReader<TcpStream>,
}

impl Door {
    /// A client that has read INFO.
    async fn dial(&self) -> (Client, String) {
        let stream = TcpStream::connect(self.address).await.expect("listening");
        let mut client = Client { stream: BufReader::new(stream) };
        let info = client.line().await;
        (client, info)
    }

    /// A client that is quiet and let in.
    async fn client(&self, options: &str) -> Client {
        let (mut client, _) = self.dial().await;
        client.say(&format!("CONNECT {{\"verbose\":false,\"pedantic\":false,{options}}}\r\nPING\r\n")).await;
        assert_eq!(client.line().await, "PONG");
        client
    }
}

const MODERN: &str = "\"headers\":true,\"no_responders\":true,\"protocol\":1";
const ANN: &str = "\"user\":\"ann\",\"pass\":\"pw\",\"protocol\":1";

impl Client {
    async fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.expect("connected");
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        let read = tokio::time::timeout(PATIENCE, self.stream.read_line(&mut line)).await;
        read.expect("an answer in time").expect("a line");
        line.trim_end().to_owned()
    }

    async fn lines(&mut self, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        for _ in 0..count {
            lines.push(self.line().await);
        }
        lines
    }

    /// What was said so far has been worked on.
    async fn settle(&mut self) {
        self.say("PING\r\n").await;
        assert_eq!(self.line().await, "PONG");
    }

    /// Everything up to the end of the connection.
    async fn rest(&mut self) -> String {
        let mut rest = String::new();
        let read = tokio::time::timeout(PATIENCE, self.stream.read_to_string(&mut rest)).await;
        read.expect("an end in time").expect("text");
        rest
    }
}

#[tokio::test]
async fn a_message_reaches_who_wants_it() {
    let door = open();
    let (mut one, info) = door.dial().await;
    assert!(info.starts_with("INFO {\"server_id\":\"ID\"") && info.contains("\"jetstream\":false"), "{info}");
    one.say("SUB a.* 1\r\nSUB b q 2\r\n").await;
    // Who says no CONNECT hears of everything.
    assert_eq!(one.lines(2).await, ["+OK", "+OK"]);
    let mut two = door.client(MODERN).await;
    two.say("PUB a.b r 2\r\nhi\r\nHPUB b 12 14\r\nNATS/1.0\r\n\r\nyo\r\nPUB c 0\r\n\r\n").await;
    assert_eq!(one.lines(2).await, ["MSG a.b 1 r 2", "hi"]);
    assert_eq!(one.lines(2).await, ["MSG b 2 2", "yo"]);
    let report = door.nats.connz(0, 10);
    assert_eq!((report.total, report.connections[0].subscriptions), (2, 2));
    assert_eq!(report.connections[1].traffic.in_msgs, 3);
}

#[tokio::test]
async fn headers_arrive_where_they_are_understood() {
    let door = open();
    let mut one = door.client(MODERN).await;
    one.say("SUB a 1\r\nHPUB a r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n").await;
    assert_eq!(one.lines(4).await, ["HMSG a 1 r 12 14", "NATS/1.0", "", "hi"]);
}

#[tokio::test]
async fn nobody_there_is_said_at_once() {
    let door = open();
    let mut one = door.client(MODERN).await;
    one.say("SUB _INBOX.x.* 7\r\nPUB nobody _INBOX.x.1 2\r\nhi\r\n").await;
    let expected = ["HMSG _INBOX.x.1 7 38 38", "NATS/1.0 503", "Nats-Subject: nobody", "", ""];
    assert_eq!(one.lines(5).await, expected);
    // Its own subscription does not answer if it wants no echo.
    let mut two = door.client("\"headers\":true,\"no_responders\":true,\"echo\":false").await;
    two.say("SUB own 1\r\nSUB _INBOX.y 2\r\nPUB own _INBOX.y 0\r\n\r\n").await;
    assert_eq!(two.line().await, "HMSG _INBOX.y 2 35 35");
}

#[tokio::test]
async fn a_subscription_ends_after_its_last_message() {
    let door = open();
    let mut one = door.client(MODERN).await;
    one.say("SUB a 1\r\nUNSUB 1 2\r\n").await;
    one.say(&"PUB a 1\r\nx\r\n".repeat(3)).await;
    one.say("SUB b 1\r\nPUB b 1\r\ny\r\n").await;
    let expected = ["MSG a 1 1", "x", "MSG a 1 1", "x", "MSG b 1 1", "y"];
    // The name is free once both have come.
    assert_eq!(one.lines(6).await, expected);
    one.say("UNSUB 1\r\nPUB b 1\r\ny\r\n").await;
    one.settle().await;
}

#[tokio::test]
async fn a_queue_group_gets_each_message_once() {
    let door = open();
    let (mut one, mut two) = (door.client(MODERN).await, door.client(MODERN).await);
    for client in [&mut one, &mut two] {
        client.say("SUB a q 1\r\n").await;
        client.settle().await;
    }
    two.say(&"PUB a 1\r\nx\r\n".repeat(100)).await;
    two.settle_after(&mut one).await;
    let sent = |client: usize| door.nats.connz(0, 10).connections[client].traffic.out_msgs;
    assert_eq!(sent(0) + sent(1), 100);
    assert!(sent(0) > 0 && sent(1) > 0);
}

impl Client {
    /// As [`Self::settle`], with messages on the way.
    async fn settle_after(&mut self, other: &mut Self) {
        for client in [self, other] {
            client.say("PING\r\n").await;
            while client.line().await != "PONG" {}
        }
    }
}

#[tokio::test]
async fn what_closes_a_connection_and_what_does_not() {
    let door = open_with(Arc::new(Open::default()), Config { max_payload: 10, ..Config::default() });
    let mut one = door.client(MODERN).await;
    one.say("SUB a..b 1\r\n").await;
    assert_eq!(one.line().await, "-ERR 'Invalid Subject'");
    one.say("PUB a 11\r\n").await;
    assert_eq!(one.rest().await, "-ERR 'Maximum Payload Violation'\r\n");
    let mut two = door.client(MODERN).await;
    two.say("GET / HTTP/1.1\r\n").await;
    assert_eq!(two.rest().await, "-ERR 'Unknown Protocol Operation'\r\n");
    let (mut three, _) = door.dial().await;
    three.say("CONNECT {\"no_responders\":true}\r\n").await;
    assert_eq!(three.rest().await, "-ERR 'no responders requires headers support'\r\n");
    let (mut four, _) = door.dial().await;
    four.say("PUB a.* 0\r\n\r\n").await;
    assert_eq!(four.line().await, "-ERR 'Invalid Publish Subject'");
    four.say("PING\r\n").await;
    assert_eq!(four.line().await, "PONG");
}

#[tokio::test]
async fn nobody_gets_in_without_the_right_password() {
    let door = open_with(Ann::may(&["data"], &[]), Config::default());
    let (mut one, info) = door.dial().await;
    assert!(info.contains("\"auth_required\":true") && info.contains("\"nonce\""), "{info}");
    one.say("SUB a 1\r\n").await;
    assert_eq!(one.rest().await, "-ERR 'Authorization Violation'\r\n");
    for wrong in ["{}", "{\"user\":\"ann\",\"pass\":\"x\"}", "{\"auth_token\":\"pw\"}"] {
        let (mut one, _) = door.dial().await;
        one.say(&format!("CONNECT {wrong}\r\nSUB a 1\r\nPUB a 0\r\n\r\n")).await;
        assert_eq!(one.rest().await, "-ERR 'Authorization Violation'\r\n");
    }
    let mut right = door.client(ANN).await;
    right.say("SUB a 1\r\nPUB a 0\r\n\r\n").await;
    assert_eq!(right.line().await, "MSG a 1 0");
    let report = door.nats.connz(0, 10).connections.pop().expect("connected");
    assert_eq!(report.authorized_user.as_deref(), Some("ann"));
}

#[tokio::test]
async fn who_says_nothing_is_asked_to_leave() {
    let config = Config { auth_timeout: Duration::from_millis(20), ..Config::default() };
    let door = open_with(Ann::may(&["data"], &[]), config);
    let (mut one, _) = door.dial().await;
    assert_eq!(one.rest().await, "-ERR 'Authentication Timeout'\r\n");
    let config = Config { ping_interval: Duration::from_millis(100), pings_out: 1, ..Config::default() };
    let door = open_with(Arc::new(Open::default()), config);
    let (mut two, _) = door.dial().await;
    assert_eq!(two.rest().await, "PING\r\n-ERR 'Stale Connection'\r\n");
}

#[tokio::test]
async fn a_subscriber_to_everything_sees_only_what_it_may() {
    let ann = Ann::may(&["data"], &["subject:secret.>"]);
    let door = open_with(ann.clone(), Config::default());
    let mut one = door.client(ANN).await;
    one.say("SUB > 1\r\nPUB open 0\r\n\r\n").await;
    assert_eq!(one.lines(2).await, ["MSG open 1 0", ""]);
    one.say("PUB secret.a 0\r\n\r\nSUB secret.* 2\r\n").await;
    let refused = one.lines(2).await;
    assert_eq!(refused[0], "-ERR 'Permissions Violation for Publish to \"secret.a\"'");
    assert_eq!(refused[1], "-ERR 'Permissions Violation for Subscription to \"secret.*\"'");
    // Rights that change hold for what is subscribed to already.
    ann.now_may(&["data"], &["subscribe:other"]);
    let mut two = door.client(ANN).await;
    two.say("SUB x 1\r\nPUB secret.b 0\r\n\r\nPUB other 0\r\n\r\nPUB last 0\r\n\r\n").await;
    assert_eq!(one.lines(4).await, ["MSG secret.b 1 0", "", "MSG last 1 0", ""]);
    ann.now_may(&["publish:>"], &[]);
    assert_eq!(one.line().await, "-ERR 'Permissions Violation for Subscription to \">\"'");
}

#[tokio::test]
async fn clients_hear_where_else_to_go_and_when_to_leave() {
    let config =
        Config { lame_duck_grace: Duration::ZERO, lame_duck_duration: Duration::ZERO, ..Config::default() };
    let door = open_with(Arc::new(Open::default()), config);
    let (mut one, mut old) = (door.client(MODERN).await, door.client("\"protocol\":0").await);
    door.nats.set_topology(vec!["10.0.0.2:4222".into()], Vec::new());
    assert!(one.line().await.contains("\"connect_urls\":[\"10.0.0.2:4222\"]"));
    door.nats.lame_duck();
    let info = one.line().await;
    assert!(info.starts_with("INFO") && info.contains("\"ldm\":true"), "{info}");
    assert_eq!((one.rest().await.as_str(), old.rest().await.as_str()), ("", ""));
    door.serving.await.expect("it ends when all have left");
}

#[tokio::test]
async fn a_client_that_floods_and_does_not_read_stops_itself_alone() {
    let door = open();
    let mut flooding = door.client(MODERN).await;
    flooding.say("SUB a 1\r\n").await;
    let (mut reader, mut writer) = flooding.stream.into_inner().into_split();
    let burst = format!("PUB a 1000\r\n{}\r\n", "x".repeat(1000)).repeat(100);
    let flood = async {
        for _ in 0..400 {
            writer.write_all(burst.as_bytes()).await.expect("connected");
        }
    };
    let other = async {
        let mut other = door.client(MODERN).await;
        for _ in 0..100 {
            other.say("SUB b 1\r\nPUB b 0\r\n\r\nUNSUB 1\r\n").await;
            assert_eq!(other.lines(2).await, ["MSG b 1 0", ""]);
        }
    };
    tokio::select! {
        biased;
        () = async { flood.await; std::future::pending().await } => {}
        () = other => {}
    }
    let pending = door.nats.connz(0, 1).connections[0].pending_bytes;
    assert!(pending <= 8 * 1024 * 1024, "{pending} bytes wait");
    // Once it reads, everything that was taken comes.
    let mut some = [0; 1000];
    tokio::time::timeout(PATIENCE, reader.read_exact(&mut some)).await.expect("in time").expect("connected");
}
