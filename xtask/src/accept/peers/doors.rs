//! Strangers at the new doors, NATS (plain, TLS, WebSocket) and admin: random
//! bytes, and connections by the thousand that begin something and stop.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;
use rustix::process::{Resource, getrlimit, setrlimit};
use tempfile::TempDir;

use crate::accept::Line;
use crate::accept::cost::resident_mib;
use crate::command::{Trouble, product};
use crate::nats::Client;
use crate::servers::{Server, folder, free_ports, wait_for};

/// How long anything at a door may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a node may take to serve.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Connections with random bytes, for each door.
const ROUNDS: u64 = 100;
/// Connections that begin something and stop, for each door.
const HALF_OPEN: usize = 1_000;
/// Connections that the admin door holds at once.
const ADMIN_MOST: usize = 128;
/// How long those who hold all places of the admin door keep others out.
const ADMIN_AGAIN: Duration = Duration::from_secs(1);
/// Until the admin door has closed what strangers left open.
const SETTLES: Duration = Duration::from_secs(15);
/// Files that come and go while a node works.
const FEW_FILES: usize = 64;
/// Memory that all half-open connections of a door may cost, in MiB.
const HALF_OPEN_MIB: u64 = 128;
/// Files that we need besides half-open connections.
const OTHER_FILES: u64 = 200;

/// What strangers say first: the beginnings of what each protocol knows.
const BEGINNINGS: &[&[u8]] = &[
    b"",
    b"CONNECT {",
    b"PUB a 999999999999\r\n",
    b"HPUB a 5 4\r\n",
    b"SUB \xff\xfe 1\r\n",
    b"MSG a 1 5\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
      Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    b"POST /v1/tickets HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
    b"\x16\x03\x01\x40\x00\x01",
];

/// What is spoken behind a port.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spoken {
    Nats,
    NatsInTls,
    WebSocket,
    WebSocketInTls,
    Http,
}

/// One door of a node.
struct Door {
    name: &'static str,
    spoken: Spoken,
    port: u16,
    pid: u32,
    /// Files that the node has open when nobody is there.
    quiet: usize,
    /// What a stranger begins with.
    beginning: &'static [u8],
    /// Most files that the node may open for all half-open connections.
    files: usize,
}

/// A node and its doors; gone when dropped.
struct Node {
    server: Server,
    doors: Vec<Door>,
    folder: TempDir,
}

impl Node {
    fn start(encrypted: bool) -> Result<Self, Trouble> {
        let folder = folder("doors")?;
        let ports = free_ports(5)?;
        let at = |n: usize| format!("127.0.0.1:{}", ports[n]);
        let mut command = Command::new(product()?);
        command.args(["start", "--redis", &at(0), "--peer", &at(1), "--nats", &at(2)]);
        command.args(["--websocket", &at(3), "--admin", &at(4), "--data"]).arg(folder.path().join("node"));
        if encrypted {
            command.args(["--tls", "nats=auto", "--tls", "websocket=auto"]);
        }
        let server = Server::start(&mut command, &folder.path().join("log"), false)?;
        let door = |name, spoken, n: usize, beginning, files| {
            let (port, pid) = (ports[n], server.pid());
            Door { name, spoken, port, pid, quiet: 0, beginning, files }
        };
        let doors = if encrypted {
            vec![
                door("NATS in TLS", Spoken::NatsInTls, 2, b"\x16\x03\x01\x02\x00\x01", HALF_OPEN),
                door("WebSocket in TLS", Spoken::WebSocketInTls, 3, b"\x16\x03\x01\x02\x00\x01", HALF_OPEN),
            ]
        } else {
            vec![
                door("NATS", Spoken::Nats, 2, b"CONNECT {\"verb", HALF_OPEN),
                door("WebSocket", Spoken::WebSocket, 3, b"GET / HTTP/1.1\r\nHost: ", HALF_OPEN),
                door("admin", Spoken::Http, 4, b"GET /v1/status HTTP/1.1\r\nHost: ", ADMIN_MOST),
            ]
        };
        let mut node = Self { server, doors, folder };
        if wait_for(START_LIMIT, || node.doors.iter().all(Door::serves)) {
            let quiet = open_files(node.server.pid());
            node.doors.iter_mut().for_each(|door| door.quiet = quiet);
            return Ok(node);
        }
        let runs = node.server.runs();
        Err(Trouble::Unexpected(format!(
            "a node does not serve (runs: {runs}): {}",
            node.server.last_words()
        )))
    }

    /// What went wrong in the process itself.
    fn harm(&mut self) -> Option<String> {
        if !self.server.runs() {
            return Some(format!("the process is gone: {}", self.server.last_words()));
        }
        let logs = ["log", "node/trine.log"].map(|name| self.folder.path().join(name));
        let text = logs.map(|log| std::fs::read_to_string(log).unwrap_or_default()).concat();
        text.lines().find(|line| line.contains("panicked")).map(str::to_owned)
    }
}

impl Door {
    fn dial(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], self.port)), PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// Whether another client is served, as far as that is seen without TLS.
    fn serves(&self) -> bool {
        match self.spoken {
            Spoken::Nats => Client::local(self.port).is_ok(),
            Spoken::NatsInTls => self.answers(b"").starts_with("INFO {"),
            Spoken::WebSocket => self.answers(BEGINNINGS[6]).starts_with("HTTP/1.1 101"),
            Spoken::Http => {
                let question = b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
                self.answers(question).starts_with("HTTP/1.1 200")
            }
            Spoken::WebSocketInTls => self.dial().is_ok(),
        }
    }

    /// The first bytes that come back.
    fn answers(&self, question: &[u8]) -> String {
        let asked = self.dial().and_then(|mut stream| {
            stream.write_all(question)?;
            let mut first = [0; 64];
            let length = stream.read(&mut first)?;
            Ok(String::from_utf8_lossy(&first[..length]).into_owned())
        });
        asked.unwrap_or_default()
    }

    /// Beginnings of every protocol, and random bytes behind them.
    fn noise(&self) -> Line {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut taken = 0;
        for round in 0..ROUNDS {
            let Ok(mut stream) = self.dial() else { continue };
            let _ = stream.set_read_timeout(Some(Duration::from_millis(1)));
            let beginning = BEGINNINGS[usize::try_from(round).unwrap_or(0) % BEGINNINGS.len()];
            let bytes: Vec<u8> = (0..next() % 1_000).flat_map(|_| next().to_le_bytes()).collect();
            // The node may close while we write: that is its right.
            let _ = stream.write_all(beginning).and_then(|()| stream.write_all(&bytes));
            let _ = stream.read(&mut [0; 64]);
            taken += 1;
        }
        let serves = wait_for(PATIENCE, || self.serves());
        let figure = format!("{taken} of {ROUNDS} connections; others are served afterwards: {serves}");
        Line::of(serves && taken == ROUNDS, &format!("{} door: random bytes", self.name), figure)
    }

    /// Connections that begin something, then send a byte now and then.
    fn half_open(&self) -> Line {
        let name = format!("{} door: connections that begin and stop", self.name);
        let limit = self.quiet + FEW_FILES;
        let settled = wait_for(SETTLES, || open_files(self.pid) <= limit);
        let (files, memory) = (open_files(self.pid), resident_mib(self.pid));
        let mut held = Vec::new();
        for _ in 0..HALF_OPEN {
            if let Ok(mut stream) = self.dial() {
                let _ = stream.write_all(self.beginning);
                held.push(stream);
            }
        }
        for stream in &mut held {
            let _ = stream.write_all(b"x");
        }
        let begin = Instant::now();
        // A door that is full tells so at once; another is behind all the others.
        let _ = self.serves();
        let more_files = open_files(self.pid).saturating_sub(files);
        let more_memory = resident_mib(self.pid).saturating_sub(memory);
        let patience = if self.spoken == Spoken::Http { ADMIN_AGAIN } else { PATIENCE };
        let during = wait_for(patience, || self.serves());
        let waited = begin.elapsed();
        let count = held.len();
        for stream in held {
            // No port of ours shall wait for each of them.
            let _ = set_socket_linger(&stream, Some(Duration::ZERO));
        }
        let closed = settled && wait_for(SETTLES, || open_files(self.pid) <= limit);
        let bounded = more_files <= self.files + FEW_FILES && more_memory <= HALF_OPEN_MIB;
        let figure = format!(
            "{count} begun: {more_files} files and {more_memory} MiB more; another client was served \
             meanwhile: {during}, after {waited:.1?}; afterwards all closed: {closed}"
        );
        Line::of(during && closed && bounded && count == HALF_OPEN, &name, figure)
    }
}

fn open_files(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Noise and half-open connections at each new door.
pub(super) fn strangers() -> Result<Vec<Line>, Trouble> {
    let mut limits = getrlimit(Resource::Nofile);
    limits.current = limits.maximum;
    let _ = setrlimit(Resource::Nofile, limits);
    let room = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX).saturating_sub(OTHER_FILES);
    if room < HALF_OPEN as u64 {
        let why = format!("only {room} files may be open here");
        return Ok(vec![Line::not_run("strangers at the doors", why)]);
    }
    let mut lines = Vec::new();
    let mut harm = Vec::new();
    for encrypted in [false, true] {
        let mut node = Node::start(encrypted)?;
        lines.extend(node.doors.iter().map(Door::noise));
        lines.extend(node.doors.iter().map(Door::half_open));
        harm.extend(node.harm());
    }
    let figure = if harm.is_empty() { "2 processes run, no panic".to_owned() } else { harm.join("; ") };
    lines.push(Line::of(harm.is_empty(), "after strangers at every new door nothing panicked", figure));
    Ok(lines)
}
