//! One interpreter: a process in a cell of its own, a socket to talk, two pipes
//! for what its functions print.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as Pair;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::time::{Instant, timeout};

use super::frame::Hello;
use super::run::PIPE_BYTES;
use crate::launch::group::Limits;
use crate::launch::place::Isolation;
use crate::launch::wire::{News, NotStarted, Start};
use crate::run::Cells;
use crate::run::cell::Cell;
use crate::spec::Outcome;
use crate::tokens::{TOKEN_VARIABLE, TaskToken};

/// What the interpreter runs.
const WORKER: &str = include_str!("worker.py");
/// How long an interpreter may take from its start until it says what it is.
pub const START_LIMIT: Duration = Duration::from_secs(30);
/// How long one whose socket has closed may take to exit.
const EXIT_LIMIT: Duration = Duration::from_secs(1);
/// Variables of the node's environment that interpreters get, too.
const INHERITED: &[&str] = &["PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH"];

/// How an interpreter is started.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Launch {
    /// The program: a path, or a name that is looked up in `PATH`.
    pub program: String,
    /// Environment, over what the node passes on.
    pub env: Vec<(String, String)>,
    /// Where it runs; `None`: in a directory of its own.
    pub workdir: Option<PathBuf>,
    /// What it may take.
    pub limits: Limits,
}

/// A running interpreter. Dropping it kills it and all that it has started.
#[derive(Debug)]
pub struct Interpreter {
    pub(super) channel: UnixStream,
    pub(super) buffer: BytesMut,
    pub(super) stdout: pipe::Receiver,
    pub(super) stderr: pipe::Receiver,
    /// Where the two are read to.
    pub(super) pieces: [Vec<u8>; 2],
    /// What it said that it is.
    pub hello: Option<Hello>,
    /// Since when it has nothing to do.
    pub(super) idle_since: Instant,
    /// What its functions log in with, while one is called.
    pub(super) token: TaskToken,
    cell: Cell,
    cells: Cells,
}

impl Interpreter {
    /// Has one started; it has not said anything yet.
    ///
    /// # Errors
    /// There is no cell for it.
    pub async fn start(cells: &Cells, launch: &Launch, token: TaskToken) -> io::Result<Self> {
        let mut cell = cells.take().await.map_err(|why| io::Error::other(why.to_string()))?;
        let (near, far) = Pair::pair()?;
        near.set_nonblocking(true)?;
        let (stdout, its_stdout) = io::pipe()?;
        let (stderr, its_stderr) = io::pipe()?;
        let own = cell.own().display().to_string();
        let mut env: Vec<(String, String)> = INHERITED
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
            .collect();
        env.push(("TMPDIR".to_owned(), own.clone()));
        env.extend(launch.env.iter().cloned());
        if matches!(cells.isolation(), Isolation::OwnUsers(_) | Isolation::User { .. }) {
            // The node's own is closed to it.
            env.push(("HOME".to_owned(), own));
        }
        env.push((TOKEN_VARIABLE.to_owned(), token.text().to_owned()));
        let argv = [launch.program.as_str(), "-B", "-c", WORKER];
        let start = Start {
            argv: argv.map(|word| word.as_bytes().to_vec()).to_vec(),
            env,
            name: cell.directory(),
            workdir: launch.workdir.clone(),
            data: None,
        };
        let its = [far.as_fd(), its_stdout.as_fd(), its_stderr.as_fd()];
        cell.start(start, launch.limits, its).await?;
        Ok(Self {
            channel: UnixStream::from_std(near)?,
            buffer: BytesMut::new(),
            stdout: pipe::Receiver::from_owned_fd(stdout.into())?,
            stderr: pipe::Receiver::from_owned_fd(stderr.into())?,
            pieces: [vec![0; PIPE_BYTES], vec![0; PIPE_BYTES]],
            hello: None,
            idle_since: Instant::now(),
            token,
            cell,
            cells: cells.clone(),
        })
    }

    /// Whether it has ended by itself while it was idle.
    pub fn is_gone(&mut self) -> bool {
        !matches!(self.cell.news_now(), Ok(None))
    }

    /// Why one was not started that closed its socket at once; `None`: it was.
    pub(super) async fn not_started(&mut self) -> Option<String> {
        match timeout(EXIT_LIMIT, self.cell.news()).await {
            Ok(Ok(News::NotStarted(why))) => Some(match why {
                NotStarted::NoProgram => "no such program".to_owned(),
                NotStarted::NoWorkdir => "its working directory does not exist".to_owned(),
                NotStarted::ClosedWorkdir => "its working directory is closed to tasks".to_owned(),
                NotStarted::Other(error) => error,
            }),
            _ => None,
        }
    }

    /// How one ended that closed its socket; it is killed if it does not.
    ///
    /// # Errors
    /// It was killed: by the kernel, or because this node has stood still.
    pub async fn end(mut self) -> Result<Option<ExitStatus>, Outcome> {
        let news = self.last_news().await;
        if let Some(why) = self.cell.killed() {
            return Err(Outcome::Killed { reason: why });
        }
        let Some(News::Ended { status, lapsed, .. }) = news else { return Ok(None) };
        self.cells.give(self.cell);
        if lapsed {
            return Err(Outcome::Lost);
        }
        Ok(Some(ExitStatus::from_raw(status)))
    }

    async fn last_news(&mut self) -> Option<News> {
        if let Ok(news) = timeout(EXIT_LIMIT, self.cell.news()).await {
            return news.ok();
        }
        self.cell.stop().await.ok()?;
        timeout(EXIT_LIMIT, self.cell.news()).await.ok()?.ok()
    }
}
