//! Servers that the tooling starts for itself, on free ports and below a
//! folder that vanishes: `trine dev`, and what it is compared with.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::command::{Trouble, command, root, run, target};

/// How long a server may take until it serves.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long a server may take to end when asked.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// How long a node may take to answer a question.
const ASK_LIMIT: Duration = Duration::from_secs(20);
/// Pause between two looks at something that changes by itself.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A process that ends with us.
pub(crate) struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts a command; both its streams go to `log`, or standard output to us.
    pub(crate) fn start(command: &mut Command, log: &Path, piped: bool) -> Result<Self, Trouble> {
        let file = File::create(log).map_err(Trouble::at(log.display().to_string()))?;
        let twin = file.try_clone().map_err(Trouble::at(log.display().to_string()))?;
        let output = if piped { Stdio::piped() } else { Stdio::from(twin) };
        let name = command.get_program().to_string_lossy().into_owned();
        let spawned = command.current_dir(root()).stdin(Stdio::null()).stdout(output).stderr(file).spawn();
        let child = spawned.map_err(|source| Trouble::Start { command: name, source })?;
        Ok(Self { child, log: log.to_owned() })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let _ = kill(self.pid(), signal);
    }

    /// True while the process runs.
    pub(crate) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The last lines of the log.
    pub(crate) fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Asks it to end, then insists; true when it ended by itself.
    pub(crate) fn stop(&mut self, signal: Signal) -> bool {
        self.signal(signal);
        let gentle = wait_for(STOP_LIMIT, || !self.runs());
        let _ = self.child.kill();
        let _ = self.child.wait();
        gentle
    }

    fn take_output(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.runs() {
            self.stop(Signal::TERM);
        }
    }
}

/// Sends a signal to a process.
pub(crate) fn kill(pid: u32, signal: Signal) -> Result<(), Trouble> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| Trouble::Unexpected("not a process id".to_owned()))?;
    kill_process(pid, signal).map_err(Trouble::at(format!("signal {signal:?} to {pid:?}")))
}

/// Looks until `holds` or the limit; true when it held.
pub(crate) fn wait_for(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// True when somebody listens on the port.
pub(crate) fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// A folder below `target/`, on the disk that cargo builds on.
pub(crate) fn folder(name: &str) -> Result<TempDir, Trouble> {
    let parent = target().join("xtask");
    std::fs::create_dir_all(&parent).map_err(Trouble::at(parent.display().to_string()))?;
    tempfile::Builder::new()
        .prefix(name)
        .tempdir_in(&parent)
        .map_err(Trouble::at(parent.display().to_string()))
}

/// `count` ports that nobody listens on.
pub(crate) fn free_ports(count: usize) -> Result<Vec<u16>, Trouble> {
    let listen = || TcpListener::bind(("127.0.0.1", 0));
    let held: Result<Vec<_>, _> = (0..count).map(|_| listen()).collect();
    let held = held.map_err(Trouble::at("free ports"))?;
    held.iter().map(|listener| Ok(listener.local_addr().map_err(Trouble::at("free ports"))?.port())).collect()
}

/// What is added to the Redis port for the NATS port of a [`Dev`] cluster.
const NATS_OFFSET: u16 = 2;

/// What is added to the Redis port for the admin port of a [`Dev`] cluster.
const ADMIN_OFFSET: u16 = 5;

/// A port such that `trine dev --redis-port` finds all its ports free.
pub(crate) fn free_port_for_dev(nodes: u16) -> Result<u16, Trouble> {
    let free = |first: &u16| {
        let ports = (0..nodes).map(|n| first + 10 * n);
        let ports =
            ports.flat_map(|redis| [redis, redis + NATS_OFFSET, redis + ADMIN_OFFSET, redis + 10_000]);
        let held: Result<Vec<_>, _> = ports.map(|port| TcpListener::bind(("127.0.0.1", port))).collect();
        held.is_ok()
    };
    let start = 20_000 + u16::try_from(std::process::id() % 90).unwrap_or(0) * 100;
    let candidates = (start..29_000).step_by(100).chain((20_000..start).step_by(100));
    candidates.into_iter().find(free).ok_or_else(|| Trouble::Unexpected("no free ports".to_owned()))
}

/// Asks a node of this machine, by its data directory, and reads its JSON.
pub(crate) fn ask(trine: &Path, data: &Path, words: &[&str]) -> Result<serde_json::Value, Trouble> {
    let mut ask = command(trine, words);
    let output = run(ask.arg("--data").arg(data), ASK_LIMIT)?.required()?;
    let json = output.lines().find(|line| line.starts_with(['{', '[']));
    json.and_then(|json| serde_json::from_str(json).ok())
        .ok_or_else(|| Trouble::Unexpected(format!("trine {words:?} said: {output}")))
}

/// One node of a [`Dev`] cluster.
pub(crate) struct Door {
    pub(crate) port: u16,
    /// Where the node speaks NATS's protocol, if it does.
    pub(crate) nats: Option<u16>,
    pub(crate) pid: u32,
    pub(crate) data: PathBuf,
}

/// `trine dev`.
pub(crate) struct Dev {
    pub(crate) doors: Vec<Door>,
    pub(crate) server: Server,
    pub(crate) started_in: Duration,
    _folder: TempDir,
}

impl Dev {
    /// Starts a local cluster and waits until it says where to connect.
    pub(crate) fn start(trine: &Path, nodes: u16) -> Result<Self, Trouble> {
        let folder = folder("dev")?;
        let data = folder.path().join("data");
        let port = free_port_for_dev(nodes)?;
        let mut command = Command::new(trine);
        command.args(["dev", "--json", "--nodes", &nodes.to_string(), "--redis-port", &port.to_string()]);
        command.args(["--nats-port", &(port + NATS_OFFSET).to_string()]);
        command.args(["--admin-port", &(port + ADMIN_OFFSET).to_string()]);
        command.arg("--data").arg(&data);
        let begin = Instant::now();
        let mut server = Server::start(&mut command, &folder.path().join("dev.log"), true)?;
        let mut line = String::new();
        if let Some(output) = server.take_output() {
            BufReader::new(output).read_line(&mut line).map_err(Trouble::at("trine dev"))?;
        }
        let doors = doors(&line).ok_or_else(|| {
            server.stop(Signal::TERM);
            Trouble::Unexpected(format!("trine dev did not start: {line}{}", server.last_words()))
        })?;
        let dev = Self { doors, server, started_in: begin.elapsed(), _folder: folder };
        dev.wait_until_whole(trine)?;
        Ok(dev)
    }

    /// Waits until any one node may fail, where there are three.
    fn wait_until_whole(&self, trine: &Path) -> Result<(), Trouble> {
        let spare = (self.doors.len() - 1) / 2;
        let mut last = String::new();
        let whole = wait_for(START_LIMIT, || {
            let status = ask(trine, &self.doors[0].data, &["status", "--json"]);
            last = status.as_ref().map_or_else(ToString::to_string, ToString::to_string);
            status.is_ok_and(|status| status["ready"] == true && status["tolerates"] == spare)
        });
        if whole { Ok(()) } else { Err(Trouble::Unexpected(format!("trine dev is not whole: {last}"))) }
    }
}

fn doors(line: &str) -> Option<Vec<Door>> {
    let list: serde_json::Value = serde_json::from_str(line).ok()?;
    let doors = list.as_array()?.iter().map(|door| {
        let port = |of: &str| door[of].as_str()?.rsplit(':').next()?.parse().ok();
        Some(Door {
            port: port("redis")?,
            nats: port("nats"),
            pid: u32::try_from(door["pid"].as_u64()?).ok()?,
            data: door["data"].as_str()?.into(),
        })
    });
    doors.collect()
}

/// One redis-server that syncs its log before each answer.
pub(crate) struct Redis {
    pub(crate) port: u16,
    _server: Server,
    _folder: TempDir,
}

impl Redis {
    pub(crate) fn start() -> Result<Self, Trouble> {
        let folder = folder("redis")?;
        let port = free_ports(1)?[0];
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--appendonly", "yes", "--appendfsync", "always"]);
        command.args(["--save", "", "--auto-aof-rewrite-percentage", "0", "--dir"]).arg(folder.path());
        let server = Server::start(&mut command, &folder.path().join("redis.log"), false)?;
        serving("redis-server", &server, &[port])?;
        Ok(Self { port, _server: server, _folder: folder })
    }
}

/// Three etcd members.
pub(crate) struct Etcd {
    /// Client ports.
    pub(crate) ports: Vec<u16>,
    _members: Vec<Server>,
    _folder: TempDir,
}

impl Etcd {
    pub(crate) fn start() -> Result<Self, Trouble> {
        let folder = folder("etcd")?;
        let all = free_ports(6)?;
        let (ports, peers) = all.split_at(3);
        let url = |port: &u16| format!("http://127.0.0.1:{port}");
        let cluster: Vec<String> =
            peers.iter().enumerate().map(|(n, port)| format!("m{n}={}", url(port))).collect();
        let mut members = Vec::new();
        for (n, (port, peer)) in ports.iter().zip(peers).enumerate() {
            let mut command = Command::new("etcd");
            command.args(["--name", &format!("m{n}"), "--initial-cluster", &cluster.join(",")]);
            command.args(["--initial-advertise-peer-urls", &url(peer), "--listen-peer-urls", &url(peer)]);
            command.args(["--advertise-client-urls", &url(port), "--listen-client-urls", &url(port)]);
            command.args(["--log-level", "error", "--quota-backend-bytes", "8589934592"]);
            command.arg("--data-dir").arg(folder.path().join(format!("m{n}")));
            members.push(Server::start(&mut command, &folder.path().join(format!("m{n}.log")), false)?);
        }
        serving("etcd", &members[0], ports)?;
        Ok(Self { ports: ports.to_vec(), _members: members, _folder: folder })
    }
}

/// nats-server, alone or clustered.
pub(crate) struct Nats {
    /// Client ports.
    pub(crate) ports: Vec<u16>,
    _servers: Vec<Server>,
    _folder: TempDir,
}

impl Nats {
    /// One that knows no other.
    pub(crate) fn alone() -> Result<Self, Trouble> {
        Self::start(1, &[])
    }

    /// Three that know each other.
    pub(crate) fn clustered() -> Result<Self, Trouble> {
        Self::start(3, &free_ports(3)?)
    }

    fn start(count: usize, routes: &[u16]) -> Result<Self, Trouble> {
        let folder = folder("nats")?;
        let ports = free_ports(count)?;
        let url = |port: &u16| format!("nats://127.0.0.1:{port}");
        let all: Vec<String> = routes.iter().map(url).collect();
        let mut servers = Vec::new();
        for (n, port) in ports.iter().enumerate() {
            let mut command = Command::new("nats-server");
            command.args(["--addr", "127.0.0.1", "--port", &port.to_string()]);
            if let Some(route) = routes.get(n) {
                command.args([
                    "--cluster_name",
                    "bench",
                    "--cluster",
                    &url(route),
                    "--routes",
                    &all.join(","),
                ]);
            }
            servers.push(Server::start(&mut command, &folder.path().join(format!("s{n}.log")), false)?);
        }
        serving("nats-server", &servers[0], &ports)?;
        Ok(Self { ports, _servers: servers, _folder: folder })
    }
}

fn serving(name: &str, server: &Server, ports: &[u16]) -> Result<(), Trouble> {
    if wait_for(START_LIMIT, || ports.iter().all(|port| listens(*port))) {
        return Ok(());
    }
    Err(Trouble::Unexpected(format!("{name} does not serve: {}", server.last_words())))
}

#[cfg(test)]
mod tests {
    use super::doors;

    #[test]
    fn the_line_of_dev_is_understood() {
        let line = r#"[{"node":1,"pid":7,"redis":"127.0.0.1:6379","admin":"127.0.0.1:7070","data":"/d/n1"}]"#;
        let doors = doors(line).unwrap();
        assert_eq!((doors[0].port, doors[0].pid), (6379, 7));
        assert!(super::doors("").is_none());
    }
}
