//! What a traced node really does: no acknowledgement leaves before the
//! fdatasync that covers it. Values carry marks; strace shows in which order
//! marks are written to the log, synced, and answered.
//!
//! Traced is a majority of a cluster whose third node is stopped: then both
//! must have synced a write before its answer leaves.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::command::{Trouble, product};
use crate::redis::Connection;
use crate::servers::{Dev, Server, folder, kill, wait_for};

mod trace;

/// Connections that write side by side.
const CONNECTIONS: usize = 8;
/// Writes on each.
const WRITES: usize = 60;
/// Calls that are looked at.
const CALLS: &str =
    "trace=read,recvfrom,recvmsg,readv,write,writev,sendto,sendmsg,pwrite64,pwritev,pwritev2,fdatasync,fsync";

/// What the trace shows.
pub(crate) struct Verdict {
    /// Acknowledgements of marked writes that were seen.
    pub(crate) acknowledged: usize,
    /// Those that left before enough nodes had synced the write.
    pub(crate) early: Vec<String>,
}

/// Traces two nodes of three while the third is stopped.
pub(crate) fn observe() -> Result<Verdict, Trouble> {
    let trine = product()?;
    let dev = Dev::start(&trine, 3)?;
    let folder = folder("trace")?;
    let output = folder.path().join("strace.txt");
    // Before the trace starts: the groups that the third node led move over.
    kill(dev.doors[2].pid, Signal::STOP)?;
    let settled = wait_for(Duration::from_secs(30), || writable(dev.doors[0].port));
    if !settled {
        return Err(Trouble::Unexpected("two nodes of three do not take writes".to_owned()));
    }
    let mut strace = Command::new("strace");
    strace.args(["--follow-forks", "--decode-fds=all", "--string-limit=1048576", "-e", CALLS, "-o"]);
    strace.arg(&output);
    for door in &dev.doors[..2] {
        strace.args(["-p", &door.pid.to_string()]);
    }
    let log = folder.path().join("strace.log");
    let mut tracer = Server::start(&mut strace, &log, false)?;
    let attached = wait_for(Duration::from_secs(20), || {
        tracer.last_words().matches("attached").count() >= 2 || !tracer.runs()
    });
    let written =
        if attached && tracer.runs() { write_marked(dev.doors[0].port) } else { Ok(BTreeMap::new()) };
    tracer.stop(Signal::INT);
    kill(dev.doors[2].pid, Signal::CONT)?;
    let ports = written?;
    if ports.is_empty() {
        return Err(Trouble::Unexpected(format!("strace does not attach: {}", tracer.last_words())));
    }
    let text = std::fs::read(&output).map_err(Trouble::at("the trace"))?;
    let log = |path: &str| path.contains("/wal") || path.contains(".seg") || path.contains(".wal");
    let verdict = trace::judge(&String::from_utf8_lossy(&text), &ports, 2, log);
    Ok(Verdict { acknowledged: verdict.0, early: verdict.1 })
}

/// True when keys of all partitions can be written.
fn writable(port: u16) -> bool {
    let Ok(mut connection) = Connection::local(port) else { return false };
    (0..64).all(|n| connection.call(&["SET", &format!("warm:{n}"), "x"]).is_ok_and(|reply| reply.is_ok()))
}

/// Writes marked values; gives each connection's own port.
fn write_marked(port: u16) -> Result<BTreeMap<u16, usize>, Trouble> {
    let mut ports = BTreeMap::new();
    let mut threads = Vec::new();
    for number in 0..CONNECTIONS {
        let mut connection = Connection::local(port).map_err(Trouble::at("connect"))?;
        ports.insert(connection.own_port().map_err(Trouble::at("connect"))?, number);
        threads.push(std::thread::spawn(move || -> std::io::Result<bool> {
            for write in 0..WRITES {
                let mark = trace::mark(number, write);
                if !connection.call(&["SET", &format!("traced:{number}:{write}"), &mark])?.is_ok() {
                    return Ok(false);
                }
            }
            Ok(true)
        }));
    }
    for thread in threads {
        let finished = thread.join().map_err(|_| Trouble::Unexpected("a writer panicked".to_owned()))?;
        if !finished.map_err(Trouble::at("a traced write"))? {
            return Err(Trouble::Unexpected("a traced write was refused".to_owned()));
        }
    }
    Ok(ports)
}

/// Acknowledgements that a complete trace holds.
pub(crate) const EXPECTED: usize = CONNECTIONS * WRITES;
