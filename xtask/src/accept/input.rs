//! Bad input on every door of a running cluster: each gets a clear error,
//! nothing panics, nothing is lost.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};

use super::Line;
use super::cost::resident_mib;
use crate::command::{Trouble, product};
use crate::redis::{Connection, Reply};
use crate::servers::Dev;

const KEPT: usize = 200;
const PATIENCE: Duration = Duration::from_secs(5);
const RANDOM_ROUNDS: u64 = 100;
const HALF_OPEN: usize = 3_000;
/// How far a node's peer port is from its Redis port, in `trine dev`.
const PEER_PORT: u16 = 10_000;
/// Most handshakes that a node has under way at once.
const HANDSHAKES: usize = 512;
/// Files that come and go while a node works.
const FEW_FILES: usize = 64;
/// Memory that all half-open connections together may cost, in MiB.
const HALF_OPEN_MIB: u64 = 128;
/// Files that we need besides half-open connections.
const OTHER_FILES: u64 = 200;

/// What is sent, and a word that the error must hold (empty: only that one comes).
const MALFORMED: &[(&[u8], &str)] = &[
    (b"*1\r\n:5\r\n", "Protocol error"),
    (b"*abc\r\n", "Protocol error"),
    (b"*99999999999\r\n", "Protocol error"),
    (b"*1\r\n$-5\r\n", "Protocol error"),
    (b"*1\r\n$abc\r\n", "Protocol error"),
    (b"*2\r\n$3\r\nGET\r\n+a\r\n", "Protocol error"),
    (b"*1\r\n$99999999999999999999\r\n", "Protocol error"),
    // One byte more than a value may have: refused before it is sent.
    (b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870913\r\n", ""),
    (b"*1\r\n$8\r\nNOSUCHCM\r\n", "unknown command"),
    (b"*0\r\n*1\r\n$3\r\nGET\r\n", "wrong number of arguments"),
];

pub(super) fn doors() -> Result<Vec<Line>, Trouble> {
    let trine = product()?;
    let dev = Dev::start(&trine, 3)?;
    let port = dev.doors[0].port;
    let mut connection = Connection::local(port).map_err(Trouble::at("connect"))?;
    for n in 0..KEPT {
        connection.call(&["SET", &format!("kept:{n}"), &n.to_string()]).map_err(Trouble::at("write"))?;
    }
    let mut lines = vec![malformed(port), random_bytes(&dev)];
    lines.extend(half_open(&dev));
    lines.push(unharmed(&dev));
    Ok(lines)
}

/// Each malformed request gets its error, and the next connection works.
fn malformed(port: u16) -> Line {
    let mut wrong = Vec::new();
    for (bytes, word) in MALFORMED {
        let said = Connection::local(port).and_then(|mut open| {
            open.send_raw(bytes)?;
            open.reply()
        });
        let fine = matches!(&said, Ok(Reply::Error(text)) if text.contains(word));
        if !fine || !answers(port) {
            wrong.push(format!("{:?} -> {said:?}", String::from_utf8_lossy(bytes)));
        }
    }
    let figure = match wrong.as_slice() {
        [] => format!("{} kinds, each its error", MALFORMED.len()),
        wrong => wrong.join("; "),
    };
    Line::of(wrong.is_empty(), "malformed and oversized requests get a clear error", figure)
}

fn answers(port: u16) -> bool {
    let pong = Connection::local(port).and_then(|mut open| open.call(&["PING"]));
    matches!(pong, Ok(Reply::Simple(text)) if text == "PONG")
}

/// Random bytes on every port of every node.
fn random_bytes(dev: &Dev) -> Line {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut sent = 0;
    for _ in 0..RANDOM_ROUNDS {
        for door in &dev.doors {
            for port in [door.port, door.port + PEER_PORT] {
                let bytes: Vec<u8> = (0..next() % 2_000).flat_map(|_| next().to_le_bytes()).collect();
                let address = SocketAddr::from(([127, 0, 0, 1], port));
                let Ok(mut stream) = TcpStream::connect_timeout(&address, PATIENCE) else { continue };
                let _ = stream.set_read_timeout(Some(Duration::from_millis(1)));
                // The node may close while we write: that is its right.
                let _ = stream.write_all(&bytes);
                let _ = stream.read(&mut [0; 64]);
                sent += 1;
            }
        }
    }
    let serving = dev.doors.iter().all(|door| answers(door.port));
    let expected = RANDOM_ROUNDS * 6;
    let figure = format!("{sent} of {expected} connections taken, all nodes answer afterwards: {serving}");
    Line::of(serving && sent == expected, "random bytes on every port", figure)
}

/// One of a node's ports, and what a stranger begins to say there.
struct Target {
    name: &'static str,
    port: u16,
    beginning: &'static [u8],
    /// Most files that the node may open for all of them.
    files: usize,
}

/// Thousands of connections that begin a request, or a handshake, and stop.
fn half_open(dev: &Dev) -> Vec<Line> {
    let port = dev.doors[0].port;
    let targets = [
        Target {
            name: "half-open requests by the thousand",
            port,
            beginning: b"*2\r\n$3\r\nGET\r\n$10",
            files: HALF_OPEN,
        },
        Target {
            name: "half-open handshakes by the thousand",
            port: port + PEER_PORT,
            beginning: b"\x16\x03\x01\x02\x00\x01",
            files: HANDSHAKES,
        },
    ];
    targets.iter().map(|target| held_open(dev, target)).collect()
}

fn held_open(dev: &Dev, target: &Target) -> Line {
    let Target { name, port, beginning, files } = target;
    let mut limits = getrlimit(Resource::Nofile);
    limits.current = limits.maximum;
    let _ = setrlimit(Resource::Nofile, limits);
    let room = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX).saturating_sub(OTHER_FILES);
    if room < HALF_OPEN as u64 {
        return Line::not_run(name, format!("only {room} files may be open here"));
    }
    let (door, address) = (&dev.doors[0], SocketAddr::from(([127, 0, 0, 1], *port)));
    let (files_before, memory_before) = (open_files(door.pid), resident_mib(door.pid));
    let mut held = Vec::new();
    for _ in 0..HALF_OPEN {
        if let Ok(mut stream) = TcpStream::connect_timeout(&address, PATIENCE) {
            let _ = stream.write_all(beginning);
            held.push(stream);
        }
    }
    let during = writes(door.port);
    let more_files = open_files(door.pid).saturating_sub(files_before);
    let more_memory = resident_mib(door.pid).saturating_sub(memory_before);
    let count = held.len();
    drop(held);
    let after = crate::servers::wait_for(PATIENCE, || {
        writes(door.port) && open_files(door.pid) <= files_before + FEW_FILES
    });
    let bounded = more_files <= files + FEW_FILES && more_memory <= HALF_OPEN_MIB;
    let figure = format!(
        "{count} begun; meanwhile {more_files} files and {more_memory} MiB more, a write is answered: {during}; \
         afterwards answered and closed: {after}"
    );
    Line::of(during && after && bounded && count == HALF_OPEN, name, figure)
}

fn open_files(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Whether a write is answered, which takes the other nodes, too.
fn writes(port: u16) -> bool {
    Connection::local(port)
        .and_then(|mut open| open.call(&["SET", "meanwhile", "x"]))
        .is_ok_and(|it| it.is_ok())
}

/// The same processes still run, none has panicked, every key is there.
fn unharmed(dev: &Dev) -> Line {
    let mut wrong = Vec::new();
    for door in &dev.doors {
        if !std::path::Path::new(&format!("/proc/{}", door.pid)).exists() {
            wrong.push(format!("process {} is gone", door.pid));
        }
        let log = std::fs::read_to_string(door.data.join("trine.log")).unwrap_or_default();
        if let Some(line) = log.lines().find(|line| line.contains("panicked")) {
            wrong.push(line.to_owned());
        }
        let lost = (0..KEPT).filter(|n| !has(door.port, *n)).count();
        if lost > 0 {
            wrong.push(format!("{lost} keys are missing on port {}", door.port));
        }
    }
    let figure = match wrong.as_slice() {
        [] => format!("3 processes, no panic, {KEPT} keys on each"),
        wrong => wrong.join("; "),
    };
    Line::of(wrong.is_empty(), "after bad input nothing panicked and nothing is lost", figure)
}

fn has(port: u16, n: usize) -> bool {
    let value = Connection::local(port).and_then(|mut open| open.call(&["GET", &format!("kept:{n}")]));
    value.is_ok_and(|reply| reply.number() == i64::try_from(n).ok())
}
