//! What an idle cluster costs and how soon a node serves.

use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::Line;
use crate::command::{Trouble, product};
use crate::redis::Connection;
use crate::servers::{Dev, Server, folder, free_ports, wait_for};

const SETTLE: Duration = Duration::from_secs(10);
const WATCH: Duration = Duration::from_secs(30);
const CPU_PERCENT: f64 = 3.0;
const RESIDENT_MIB: u64 = 60;
const START_LIMIT: Duration = Duration::from_secs(1);
/// Ticks of /proc's processor times in a second; fixed on Linux.
const TICKS: f64 = 100.0;

/// An idle `trine dev` of three nodes: processor and memory.
pub(super) fn idle() -> Result<Vec<Line>, Trouble> {
    let trine = product()?;
    let dev = Dev::start(&trine, 3)?;
    std::thread::sleep(SETTLE);
    let mut all: Vec<u32> = dev.doors.iter().map(|door| door.pid).collect();
    all.push(dev.server.pid());
    let before: f64 = all.iter().map(|pid| ticks(*pid)).sum();
    let begin = Instant::now();
    std::thread::sleep(WATCH);
    let spent: f64 = all.iter().map(|pid| ticks(*pid)).sum::<f64>() - before;
    let percent = spent / TICKS / begin.elapsed().as_secs_f64() * 100.0;
    let resident: Vec<u64> = dev.doors.iter().map(|door| resident_mib(door.pid)).collect();
    let most = resident.iter().copied().max().unwrap_or(u64::MAX);
    let least = resident.iter().copied().min().unwrap_or(0);
    Ok(vec![
        Line::of(
            percent < CPU_PERCENT,
            "an idle three-node trine dev uses under 3 % of one core",
            format!("{percent:.2} % over {} s", WATCH.as_secs()),
        ),
        Line::of(
            most < RESIDENT_MIB && least > 0,
            "and under 60 MB resident per node",
            format!("{resident:?} MiB"),
        ),
        Line::of(true, "trine dev says where to connect after", format!("{:.2?}", dev.started_in)),
    ])
}

/// User and system time of a process.
fn ticks(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(f64::NAN);
    number(11) + number(12)
}

pub(super) fn resident_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.map_or(0, |kib| kib.div_ceil(1024))
}

/// From the start of the process to its first acknowledged write: on a fresh
/// folder, and again on the same one.
pub(super) fn start() -> Result<Vec<Line>, Trouble> {
    let trine = product()?;
    let folder = folder("start")?;
    let ports = free_ports(3)?;
    let mut lines = Vec::new();
    for name in ["a new node starts and serves within 1 s", "a restarted node serves within 1 s"] {
        let mut command = Command::new(&trine);
        command.args(["start", "--redis", &format!("127.0.0.1:{}", ports[0])]);
        command.args(["--admin", &format!("127.0.0.1:{}", ports[2]), "--nats", "127.0.0.1:0"]);
        command
            .args(["--peer", &format!("127.0.0.1:{}", ports[1]), "--data"])
            .arg(folder.path().join("node"));
        let begin = Instant::now();
        let mut node = Server::start(&mut command, &folder.path().join("node.log"), false)?;
        let serves = wait_for(Duration::from_secs(20), || {
            let connection = Connection::local(ports[0]);
            connection.is_ok_and(|mut open| open.call(&["SET", "a", "b"]).is_ok_and(|reply| reply.is_ok()))
        });
        let took = begin.elapsed();
        let figure = if serves { format!("{took:.2?}") } else { node.last_words() };
        lines.push(Line::of(serves && took <= START_LIMIT, name, figure));
        node.stop(Signal::TERM);
    }
    Ok(lines)
}
