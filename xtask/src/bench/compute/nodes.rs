//! Nodes of Trine that are processes of their own, so that one may be killed:
//! `trine dev` ends all when one does.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::command::{Trouble, command, run};
use crate::servers::{Server, ask, folder, free_port_for_dev, wait_for};

/// How long a node may take until it serves.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Partitions of the database: as many as `trine dev` has per node.
const PARTITIONS: &str = "2";

/// One of them.
pub(crate) struct Node {
    /// Where it takes HTTP.
    pub(crate) admin: String,
    pub(crate) data: PathBuf,
    server: Server,
}

impl Node {
    pub(crate) fn pid(&self) -> u32 {
        self.server.pid()
    }
}

/// Some that know each other.
pub(crate) struct Nodes {
    pub(crate) all: Vec<Node>,
    _folder: TempDir,
}

impl Nodes {
    /// Starts them one after the other, and waits until all take tasks.
    pub(crate) fn start(trine: &Path, count: u16) -> Result<Self, Trouble> {
        let folder = folder("compute")?;
        let first = free_port_for_dev(count)?;
        let mut all: Vec<Node> = Vec::new();
        for n in 0..count {
            let node = start(trine, folder.path(), (n, first + 10 * n), all.first())?;
            all.push(node);
        }
        let spare = (count - 1) / 2;
        let whole = wait_for(START_LIMIT, || {
            let status = ask(trine, &all[0].data, &["status", "--json"]);
            status.is_ok_and(|status| status["ready"] == true && status["tolerates"] == spare)
        });
        let nodes = Self { all, _folder: folder };
        if whole { Ok(nodes) } else { Err(Trouble::Unexpected("the nodes are not whole".to_owned())) }
    }

    /// All of them.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.all.iter().map(Node::pid).collect()
    }
}

fn start(trine: &Path, folder: &Path, (n, port): (u16, u16), known: Option<&Node>) -> Result<Node, Trouble> {
    let data = folder.join(format!("node{}", n + 1));
    let at = |port: u16| format!("127.0.0.1:{port}");
    let admin = at(port + 5);
    let mut start = command(trine, &["start", "--redis", &at(port)]);
    start.args(["--nats", &at(port + 2), "--admin", &admin]).arg("--data").arg(&data);
    // The interpreters of the environment may lie in a home that is closed to others.
    let help = run(&mut command(trine, &["start", "--help"]), START_LIMIT)?.output;
    if help.contains("--unsafe-tasks") {
        start.arg("--unsafe-tasks");
    }
    if known.is_none() {
        start.args(["--partitions", PARTITIONS]);
    }
    if let Some(known) = known {
        let ticket = run(command(trine, &["ticket", "--data"]).arg(&known.data), START_LIMIT)?.required()?;
        let ticket = ticket.lines().find(|line| line.starts_with("trine-")).unwrap_or_default();
        let path = folder.join(format!("ticket{n}"));
        std::fs::write(&path, ticket).map_err(Trouble::at(path.display().to_string()))?;
        start.arg("--join").arg(format!("@{}", path.display()));
    }
    let log = folder.join(format!("log{}", n + 1));
    let mut server = Server::start(&mut start, &log, false)?;
    let up = wait_for(START_LIMIT, || {
        !server.runs() || std::fs::read_to_string(&log).is_ok_and(|log| log.contains("serving"))
    });
    if up && server.runs() {
        return Ok(Node { admin, data, server });
    }
    Err(Trouble::Unexpected(format!("trine start does not serve: {}", server.last_words())))
}
