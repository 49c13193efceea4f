//! Three `trine start` processes, each on a host of its own with files of its
//! own, joined by tickets.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::command::{Trouble, product};
use crate::hosts::{Hosts, address};
use crate::servers::{Server, ask, folder, wait_for};

/// Nodes, and hosts.
pub(crate) const NODES: usize = 3;
/// How long a cluster may take to be whole again, log and snapshots included.
const WHOLE_LIMIT: Duration = Duration::from_mins(1);

/// Hides the files of all hosts but one: in the node's own mount namespace
/// (`ip netns exec` makes it) nothing else is mounted where they are.
const ALONE: &str = "mount --make-rprivate / && cd \"$1\" && mount -t tmpfs none \"$0\" && mkdir \"$1\" \
                     && mount --no-canonicalize --bind . \"$1\" && cd / && shift && exec \"$@\"";

/// The cluster; all gone when dropped.
pub(crate) struct Cluster {
    trine: PathBuf,
    nodes: Vec<Server>,
    hosts: Hosts,
    folder: TempDir,
}

impl Cluster {
    /// Starts three nodes and waits until every group has three voters.
    pub(crate) fn start() -> Result<Self, Trouble> {
        Self::start_on(Hosts::make(NODES)?)
    }

    /// The same on hosts that somebody prepared.
    pub(crate) fn start_on(hosts: Hosts) -> Result<Self, Trouble> {
        let trine = product()?;
        let mut cluster = Self { trine, nodes: Vec::new(), hosts, folder: folder("faults")? };
        let first = cluster.node(1, None)?;
        cluster.nodes.push(first);
        cluster.wait_for_status(1, |status| status["ready"] == true)?;
        for n in 2..=NODES {
            let ticket = cluster.ask(1, &["ticket", "--json"])?;
            let ticket = ticket["ticket"].as_str().unwrap_or_default().to_owned();
            let path = cluster.host(n)?.join("ticket");
            std::fs::write(&path, ticket).map_err(Trouble::at("ticket"))?;
            let node = cluster.node(n, Some(&path))?;
            cluster.nodes.push(node);
            cluster.wait_for_status(n, |status| status["nodes"] == n)?;
        }
        cluster.wait_until_whole()?;
        Ok(cluster)
    }

    /// Where node `n` keeps its data.
    pub(crate) fn data(&self, n: usize) -> PathBuf {
        self.folder.path().join(format!("host{n}")).join("data")
    }

    /// The only folder of all hosts' that host `n` sees.
    fn host(&self, n: usize) -> Result<PathBuf, Trouble> {
        let host = self.folder.path().join(format!("host{n}"));
        std::fs::create_dir_all(&host).map_err(Trouble::at(host.display().to_string()))?;
        Ok(host)
    }

    fn node(&self, n: usize, ticket: Option<&Path>) -> Result<Server, Trouble> {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.hosts.name(n), "sh", "-c", ALONE]);
        command.arg(self.folder.path()).arg(self.host(n)?).arg(&self.trine).arg("start");
        command.arg("--data").arg(self.data(n));
        command.args(["--name", &format!("node{n}"), "--redis", "127.0.0.1:6379"]);
        command.args(["--peer", &format!("{}:16379", address(n))]);
        command.args(["--parent", &std::process::id().to_string()]);
        if let Some(ticket) = ticket {
            command.args(["--join", &format!("@{}", ticket.display())]);
        }
        Server::start(&mut command, &self.folder.path().join(format!("node{n}.log")), false)
    }

    /// The product.
    pub(crate) fn trine(&self) -> &Path {
        &self.trine
    }

    /// Number and host of every node.
    pub(crate) fn hosts(&self) -> Vec<(usize, String)> {
        (1..=NODES).map(|n| (n, self.hosts.name(n))).collect()
    }

    pub(crate) fn links(&self) -> &Hosts {
        &self.hosts
    }

    /// SIGKILL, and it is gone.
    pub(crate) fn kill(&mut self, n: usize) {
        self.nodes[n - 1].stop(Signal::KILL);
    }

    pub(crate) fn signal(&self, n: usize, signal: Signal) {
        self.nodes[n - 1].signal(signal);
    }

    /// Starts a node again on its data.
    pub(crate) fn restart(&mut self, n: usize) -> Result<(), Trouble> {
        self.nodes[n - 1] = self.node(n, None)?;
        Ok(())
    }

    /// Waits until each node serves, hears all others, and any one may fail.
    pub(crate) fn wait_until_whole(&self) -> Result<(), Trouble> {
        for n in 1..=NODES {
            self.wait_for_status(n, |status| {
                status["ready"] == true
                    && status["nodes"] == NODES
                    && status["tolerates"] == 1
                    && status["unreachable"].as_array().is_some_and(Vec::is_empty)
            })?;
        }
        Ok(())
    }

    fn wait_for_status(&self, n: usize, holds: impl Fn(&serde_json::Value) -> bool) -> Result<(), Trouble> {
        let mut last = String::new();
        let held = wait_for(WHOLE_LIMIT, || match self.ask(n, &["status", "--json"]) {
            Ok(status) => {
                last = status.to_string();
                holds(&status)
            }
            Err(trouble) => {
                last = trouble.to_string();
                false
            }
        });
        if held {
            return Ok(());
        }
        let words = self.nodes.get(n - 1).map(Server::last_words).unwrap_or_default();
        Err(Trouble::Unexpected(format!("node {n} is not whole: {last}\nits last words:\n{words}")))
    }

    /// What node `n` says, in JSON.
    pub(crate) fn ask(&self, n: usize, words: &[&str]) -> Result<serde_json::Value, Trouble> {
        ask(&self.trine, &self.data(n), words)
    }
}
