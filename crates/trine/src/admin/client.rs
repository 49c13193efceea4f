//! The command line's side of the admin socket, and how it finds a node on
//! this machine when it was not told which.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::protocol::{Answer, GroupReport, Line, NodeReport, PassReport, Request, StatusReport};
use super::{DEFAULT_DATA, DEFAULT_DEV_DATA, SOCKET_NAME};
use crate::cli::NodeTarget;
use crate::failure::Failure;

/// How long an answer may take; membership changes copy data.
const ANSWER_LIMIT: Duration = Duration::from_mins(2);

/// A connection to a node's admin socket.
#[derive(Debug)]
pub struct AdminClient {
    stream: BufReader<UnixStream>,
}

impl AdminClient {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    /// There is none, nobody listens, or it belongs to another user.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let stream =
            super::server::with_short_path(path, |short| std::os::unix::net::UnixStream::connect(short))?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream: BufReader::new(UnixStream::from_std(stream)?) })
    }

    /// Connects to the node that `target` names, or the first one that runs in
    /// one of the default places.
    ///
    /// # Errors
    /// No node runs there.
    pub fn find(target: &NodeTarget) -> Result<Self, Failure> {
        let candidates = candidates(target);
        let mut last_error = None;
        for path in &candidates {
            match Self::connect(path) {
                Ok(client) => return Ok(client),
                Err(error) => last_error = Some(error),
            }
        }
        let tried: Vec<_> = candidates.iter().map(|path| path.display().to_string()).collect();
        let reason = last_error.map_or_else(String::new, |error| format!(" ({error})"));
        Err(Failure::new(format!("no running node found at {}{reason}", tried.join(", ")))
            .hint("start one with `trine start` or `trine dev`, or name its data directory with --data DIR"))
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// The node refuses, stops, or does not answer in time.
    pub async fn ask(&mut self, request: &Request) -> Result<Answer, Failure> {
        let ended = |error: &dyn std::fmt::Display| {
            Failure::new(format!("the node closed its admin socket: {error}")).hint("look at the node's log")
        };
        let mut line = serde_json::to_string(request).map_err(Failure::new)?;
        line.push('\n');
        let exchange = async {
            self.stream.write_all(line.as_bytes()).await?;
            let mut reply = String::new();
            self.stream.read_line(&mut reply).await?;
            Ok::<_, io::Error>(reply)
        };
        let reply = tokio::time::timeout(ANSWER_LIMIT, exchange)
            .await
            .map_err(|_| Failure::new(format!("no answer within {} s", ANSWER_LIMIT.as_secs())))?
            .map_err(|error| ended(&error))?;
        if reply.is_empty() {
            return Err(ended(&"it stopped"));
        }
        match serde_json::from_str(&reply) {
            Ok(Line::Ok(answer)) => Ok(answer),
            Ok(Line::Error(refusal)) => {
                let failure = Failure::new(refusal.message);
                Err(match refusal.hint {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                })
            }
            Err(error) => Err(Failure::new(format!("the node's answer is not understood: {error}"))
                .hint("run the same version of trine as the node")),
        }
    }

    /// Asks for the status.
    ///
    /// # Errors
    /// As [`AdminClient::ask`].
    pub async fn status(&mut self) -> Result<StatusReport, Failure> {
        match self.ask(&Request::Status {}).await? {
            Answer::Status(report) => Ok(*report),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks for the nodes.
    ///
    /// # Errors
    /// As [`AdminClient::ask`].
    pub async fn nodes(&mut self) -> Result<Vec<NodeReport>, Failure> {
        match self.ask(&Request::Nodes {}).await? {
            Answer::Nodes(nodes) => Ok(nodes),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks for the groups.
    ///
    /// # Errors
    /// As [`AdminClient::ask`].
    pub async fn groups(&mut self) -> Result<Vec<GroupReport>, Failure> {
        match self.ask(&Request::Groups {}).await? {
            Answer::Groups(groups) => Ok(groups),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks for a credential of the node's doors.
    ///
    /// # Errors
    /// As [`AdminClient::ask`].
    pub async fn pass(&mut self) -> Result<PassReport, Failure> {
        match self.ask(&Request::Pass {}).await? {
            Answer::Pass(pass) => Ok(pass),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks for a join ticket.
    ///
    /// # Errors
    /// As [`AdminClient::ask`].
    pub async fn ticket(&mut self, valid: Duration) -> Result<super::protocol::TicketReport, Failure> {
        match self.ask(&Request::Ticket { valid_s: valid.as_secs() }).await? {
            Answer::Ticket(ticket) => Ok(ticket),
            other => Err(unexpected(&other)),
        }
    }
}

fn unexpected(answer: &Answer) -> Failure {
    Failure::new(format!("the node answered something else: {answer:?}"))
}

/// Where the socket of the node that `target` names may be, the likeliest first.
pub fn candidates(target: &NodeTarget) -> Vec<PathBuf> {
    if let Some(socket) = &target.socket {
        return vec![socket.clone()];
    }
    if let Some(data) = &target.data {
        let mut paths = vec![data.join(SOCKET_NAME)];
        paths.extend((1..=9).map(|n| node_folder(data, n).join(SOCKET_NAME)).filter(|path| path.exists()));
        return paths;
    }
    let dev = Path::new(DEFAULT_DEV_DATA);
    let mut paths = vec![Path::new(DEFAULT_DATA).join(SOCKET_NAME)];
    paths.extend((1..=9).map(|n| node_folder(dev, n).join(SOCKET_NAME)).filter(|path| path.exists()));
    paths
}

/// Where node `n` of a local cluster keeps its data.
pub fn node_folder(data: &Path, n: u16) -> PathBuf {
    data.join(format!("node{n}"))
}
