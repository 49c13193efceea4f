//! One interpreter: a child in a process group of its own, a socket to talk,
//! two pipes for what its functions print.

use std::io;
use std::os::unix::net::UnixStream as Pair;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::BytesMut;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::Instant;

use super::frame::Hello;
use super::run::PIPE_BYTES;

/// What the interpreter runs.
const WORKER: &str = include_str!("worker.py");
/// How long an interpreter may take from its start until it says what it is.
pub const START_LIMIT: Duration = Duration::from_secs(30);
/// How long one whose socket has closed may take to exit.
const EXIT_LIMIT: Duration = Duration::from_secs(1);
/// Variables of the node's environment that interpreters get, too.
const INHERITED: &[&str] = &["PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH"];

/// How an interpreter is started.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Launch {
    /// The program: a path, or a name that is looked up in `PATH`.
    pub program: String,
    /// Environment, over what the node passes on.
    pub env: Vec<(String, String)>,
    /// Where it runs.
    pub workdir: PathBuf,
}

/// A running interpreter. Dropping it kills it and all that it has started.
#[derive(Debug)]
pub struct Interpreter {
    pub(super) channel: UnixStream,
    pub(super) buffer: BytesMut,
    pub(super) stdout: ChildStdout,
    pub(super) stderr: ChildStderr,
    /// Where the two are read to.
    pub(super) pieces: [Vec<u8>; 2],
    /// What it said that it is.
    pub hello: Option<Hello>,
    /// Since when it has nothing to do.
    pub(super) idle_since: Instant,
    child: Child,
    group: Option<Pid>,
}

impl Interpreter {
    /// Starts one; it has not said anything yet.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(launch: &Launch) -> io::Result<Self> {
        let (near, far) = Pair::pair()?;
        near.set_nonblocking(true)?;
        let mut command = Command::new(&launch.program);
        command.args(["-B", "-c", WORKER]).env_clear();
        for name in INHERITED {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(launch.env.iter().map(|(name, value)| (name, value)));
        command.current_dir(&launch.workdir).stdin(Stdio::from(std::os::fd::OwnedFd::from(far)));
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        let mut child = command.spawn()?;
        let pipes = child.stdout.take().zip(child.stderr.take());
        let (stdout, stderr) = pipes.ok_or_else(|| io::Error::other("the child has no pipes"))?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(Self {
            channel: UnixStream::from_std(near)?,
            buffer: BytesMut::new(),
            stdout,
            stderr,
            pieces: [vec![0; PIPE_BYTES], vec![0; PIPE_BYTES]],
            hello: None,
            idle_since: Instant::now(),
            child,
            group,
        })
    }

    /// Whether it has ended by itself while it was idle.
    pub fn is_gone(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// How one ended that closed its socket; it is killed if it does not.
    pub async fn end(mut self) -> Option<ExitStatus> {
        if let Ok(status) = tokio::time::timeout(EXIT_LIMIT, self.child.wait()).await {
            return status.ok();
        }
        self.kill();
        self.child.wait().await.ok()
    }

    fn kill(&self) {
        if let Some(group) = self.group {
            // An error means that nobody of the group is left.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Interpreter {
    fn drop(&mut self) {
        self.kill();
    }
}
