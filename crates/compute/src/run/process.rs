//! Executes tasks that are processes: each in a process group and a directory
//! of its own, its output collected within bounds, the whole group killed at
//! its end.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join3};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, Command};
use tokio::sync::watch;
use tokio::time::timeout;
use trine_types::NodeNumber;

use super::reaper::{Reaper, kill_group};
use super::shelf::{Shelf, Spill};
use crate::blobs;
use crate::body::{Assigned, Body, Ran, Stop};
use crate::limits::MAX_INLINE_BYTES;
use crate::parallel::plain;
use crate::spec::{Input, Outcome, Output, Work};

/// What a task may print, kept or not: one that prints without end is killed.
pub const MAX_OUTPUT_BYTES: u64 = 1024 * 1024 * 1024;

/// How long output is awaited after a process has ended: a child of it that has
/// left the group may hold the pipe open.
const LINGER: Duration = Duration::from_millis(500);

/// Bytes read from a pipe at once.
const READ_BYTES: usize = 64 * 1024;

/// What processes of this node are given.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This node.
    pub number: NodeNumber,
    /// Where each task gets an empty directory.
    pub scratch: PathBuf,
    /// Environment of every task: nothing of the node's own comes in.
    pub env: Vec<(String, String)>,
    /// Where large outputs are kept.
    pub shelf: Shelf,
    /// Kills what is left when the node dies; `None`: nobody does.
    pub reaper: Option<Reaper>,
}

/// See the module.
pub struct Processes {
    settings: Arc<Settings>,
    seats: Seats,
}

impl Processes {
    /// An executor of processes.
    ///
    /// # Errors
    /// The scratch directory cannot be made.
    pub fn new(settings: Settings) -> io::Result<Self> {
        // What tasks left when the node was killed.
        match std::fs::remove_dir_all(&settings.scratch) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::fs::create_dir_all(&settings.scratch)?;
        Ok(Self { settings: Arc::new(settings), seats: Seats::default() })
    }
}

/// The numbers of the tasks that run here, from 1: a new one gets the smallest
/// that is free, so that they can share out what there is one of per slot.
#[derive(Debug, Clone, Default)]
struct Seats {
    // Given back when a task's future is dropped, wherever that is.
    taken: Arc<Mutex<BTreeSet<u32>>>,
}

struct Seat {
    number: u32,
    seats: Seats,
}

impl Seats {
    fn take(&self) -> Seat {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let number = (1..=u32::MAX).find(|number| !taken.contains(number)).unwrap_or(u32::MAX);
        taken.insert(number);
        Seat { number, seats: self.clone() }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

impl Body for Processes {
    fn run(&self, task: Assigned, stop: watch::Receiver<Option<Stop>>) -> BoxFuture<'static, Ran> {
        let (settings, seat) = (self.settings.clone(), self.seats.take());
        async move {
            let scratch = match Scratch::new(&settings.scratch, &task) {
                Ok(scratch) => scratch,
                Err(error) => return not_started(format!("no directory for the task: {error}")),
            };
            if let Some(direct) = without_shell(&settings, &task) {
                let ran = Box::pin(execute(&settings, &direct, (&scratch.0, &seat), stop.clone())).await;
                if !matches!(ran.outcome, Outcome::NotStarted { .. }) {
                    return ran;
                }
                // The shell says what is wrong, in its own words and with its own code.
            }
            Box::pin(execute(&settings, &task, (&scratch.0, &seat), stop)).await
        }
        .boxed()
    }
}

/// The same task without the shell that it does not need.
fn without_shell(settings: &Settings, task: &Assigned) -> Option<Assigned> {
    let Work::Process { argv, env, .. } = &task.task.work else { return None };
    let names = settings.env.iter().chain(&task.job.env).chain(env).map(|(name, _)| name.as_str());
    let direct = plain::without_shell(argv, names)?;
    let mut task = task.clone();
    if let Work::Process { argv, .. } = &mut task.task.work {
        *argv = direct;
    }
    Some(task)
}

fn not_started(why: String) -> Ran {
    Ran::only(Outcome::NotStarted { why })
}

/// The directory of one task; removed with all that is in it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(folder: &Path, task: &Assigned) -> io::Result<Self> {
        let attempt = task.attempt;
        let path = folder.join(format!("{}-{}-{}", attempt.job, attempt.index, attempt.attempt));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::fs::remove_dir(&self.0).is_ok() {
            return;
        }
        let path = std::mem::take(&mut self.0);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = std::fs::remove_dir_all(&path) {
                tracing::warn!(%error, path = %path.display(), "the directory of a task cannot be removed");
            }
        });
    }
}

/// A process group; killed when dropped.
struct Group {
    id: i32,
    reaper: Option<Reaper>,
}

impl Drop for Group {
    fn drop(&mut self) {
        kill_group(self.id);
        if let Some(reaper) = &self.reaper {
            reaper.ended(self.id);
        }
    }
}

fn command(settings: &Settings, task: &Assigned, (scratch, seat): (&Path, &Seat)) -> Option<Command> {
    let Work::Process { argv, env, .. } = &task.task.work else { return None };
    let (program, arguments) = argv.split_first()?;
    let attempt = task.attempt;
    let own = [
        ("TRINE_JOB", attempt.job.to_string()),
        ("TRINE_TASK", attempt.index.to_string()),
        ("TRINE_ATTEMPT", attempt.attempt.to_string()),
        ("TRINE_NODE", settings.number.0.to_string()),
        ("TRINE_SLOT", seat.number.to_string()),
        ("TMPDIR", scratch.display().to_string()),
    ];
    let given = settings.env.iter().chain(&task.job.env).chain(env);
    let path = given.rev().find(|(name, _)| name == "PATH").map_or("", |(_, path)| path);
    let file = super::find::program(program, path);
    let name = OsStr::from_bytes(program);
    let mut command = Command::new(file.as_deref().map_or(name, Path::as_os_str));
    command
        .arg0(name)
        .args(arguments.iter().map(|argument| OsStr::from_bytes(argument)))
        .env_clear()
        .envs(settings.env.iter().map(|(name, value)| (name, value)))
        .envs(own)
        .envs(task.job.env.iter().map(|(name, value)| (name, value)))
        .envs(env.iter().map(|(name, value)| (name, value)))
        .current_dir(task.job.workdir.as_ref().map_or(scratch, Path::new))
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Some(command)
}

async fn execute(
    settings: &Settings,
    task: &Assigned,
    place: (&Path, &Seat),
    mut stop: watch::Receiver<Option<Stop>>,
) -> Ran {
    let Some(mut command) = command(settings, task, place) else {
        return not_started("it is no process".into());
    };
    let input = match stdin(settings, task).await {
        Ok(input) => input,
        Err(why) => return not_started(why),
    };
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return not_started(explain(task, &error)),
    };
    let Some(id) = child.id().and_then(|id| i32::try_from(id).ok()) else {
        return not_started("it has ended before it began".into());
    };
    let group = Group { id, reaper: settings.reaper.clone() };
    if let Some(reaper) = &group.reaper {
        reaper.began(id).await;
    }
    let fed = feed(child.stdin.take(), input.unwrap_or_default());
    let (flooded, mut flood) = watch::channel(false);
    let mut stdout = Collected::new(settings.shelf.clone(), &flooded);
    let mut stderr = Collected::new(settings.shelf.clone(), &flooded);
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let waited = async {
        let stopped = async {
            let why = stop.wait_for(Option::is_some).await.map(|why| *why);
            match why {
                Ok(why) => why,
                // The worker is gone: this future is about to be dropped.
                Err(_) => std::future::pending().await,
            }
        };
        let ended = tokio::select! {
            biased;
            stop = stopped => Err(stop.map_or(Outcome::Cancelled, Stop::outcome)),
            _ = flood.wait_for(|flooded| *flooded) => Err(Outcome::Killed {
                reason: format!("it printed more than {MAX_OUTPUT_BYTES} bytes"),
            }),
            status = child.wait() => Ok(status),
        };
        kill_group(id);
        if ended.is_err() {
            // An error: it has been waited for.
            let _ = child.wait().await;
        }
        ended
    };
    let collected = Box::pin(collect_both((&mut stdout, out), (&mut stderr, err)));
    let ended = Box::pin(supervise(waited, collected, fed)).await;
    drop(group);
    let outcome = match ended {
        Ok(Ok(status)) => outcome_of(status),
        Ok(Err(error)) => not_started(error.to_string()).outcome,
        Err(outcome) => outcome,
    };
    let (stdout, stderr) = (stdout.finish().await, stderr.finish().await);
    Ran { outcome, stdout, stderr, value: Output::default() }
}

/// Waits for the end of the process, then a little for the rest of its output.
async fn supervise<T>(
    waited: impl Future<Output = T>,
    collected: impl Future<Output = ()>,
    fed: impl Future<Output = ()>,
) -> T {
    let (ended, end) = watch::channel(false);
    let waited = async {
        let outcome = waited.await;
        ended.send_replace(true);
        outcome
    };
    let collecting = {
        let end = end.clone();
        async move {
            let mut collected = std::pin::pin!(collected);
            let mut end = end;
            tokio::select! {
                biased;
                () = &mut collected => return,
                _ = end.wait_for(|ended| *ended) => {}
            }
            let _ = timeout(LINGER, collected).await;
        }
    };
    let feeding = async move {
        let mut end = end;
        tokio::select! {
            biased;
            () = fed => {}
            _ = end.wait_for(|ended| *ended) => {}
        }
    };
    join3(waited, collecting, feeding).await.0
}

fn explain(task: &Assigned, error: &io::Error) -> String {
    let Work::Process { argv, .. } = &task.task.work else { return error.to_string() };
    let program = String::from_utf8_lossy(argv.first().map_or(&[], Vec::as_slice));
    match (error.kind(), &task.job.workdir) {
        (io::ErrorKind::NotFound, Some(workdir)) if !Path::new(workdir).is_dir() => {
            format!("no directory {workdir} on this node")
        }
        (io::ErrorKind::NotFound, _) => format!("no program {program} on this node"),
        _ => format!("{program} cannot be started: {error}"),
    }
}

fn outcome_of(status: ExitStatus) -> Outcome {
    match (status.code(), status.signal()) {
        (Some(code), _) => Outcome::Exited { code: u8::try_from(code).unwrap_or(u8::MAX) },
        (None, signal) => {
            Outcome::Signaled { signal: signal.and_then(|signal| u8::try_from(signal).ok()).unwrap_or(0) }
        }
    }
}

async fn stdin(settings: &Settings, task: &Assigned) -> Result<Option<bytes::Bytes>, String> {
    let Work::Process { stdin: Some(stdin), .. } = &task.task.work else { return Ok(None) };
    match stdin {
        Input::Inline(bytes) => Ok(Some(bytes.clone())),
        Input::Blob(hash) => {
            let all = blobs::whole(&settings.shelf, *hash).await;
            all.map(Some).ok_or_else(|| "its input is not on this node".into())
        }
    }
}

/// Writes all of the input; a process that does not read it ends as it likes.
async fn feed(pipe: Option<ChildStdin>, input: bytes::Bytes) {
    if let Some(mut pipe) = pipe {
        // An error: it reads no more.
        let _ = pipe.write_all(&input).await;
    }
}

async fn collect_both<O: AsyncRead + Unpin, E: AsyncRead + Unpin>(
    (stdout, out): (&mut Collected<'_>, Option<O>),
    (stderr, err): (&mut Collected<'_>, Option<E>),
) {
    let collect = futures::future::join(stdout.collect(out), stderr.collect(err));
    collect.await;
}

/// What came out of one pipe: in memory as long as it fits into a result.
struct Collected<'a> {
    shelf: Shelf,
    inline: Vec<u8>,
    spill: Option<Spill>,
    cut: bool,
    flooded: &'a watch::Sender<bool>,
}

impl<'a> Collected<'a> {
    fn new(shelf: Shelf, flooded: &'a watch::Sender<bool>) -> Self {
        Self { shelf, inline: Vec::new(), spill: None, cut: false, flooded }
    }

    async fn collect(&mut self, pipe: Option<impl AsyncRead + Unpin>) {
        let Some(mut pipe) = pipe else { return };
        let mut part = Vec::with_capacity(READ_BYTES);
        loop {
            part.clear();
            match pipe.read_buf(&mut part).await {
                Ok(0) | Err(_) => return,
                Ok(_) => self.add(&part).await,
            }
        }
    }

    async fn add(&mut self, part: &[u8]) {
        if self.cut {
            return;
        }
        if self.spill.is_none() && self.inline.len() + part.len() <= MAX_INLINE_BYTES {
            self.inline.extend_from_slice(part);
            return;
        }
        if let Err(error) = self.spill(part).await {
            tracing::warn!(%error, "the output of a task is cut: it cannot be kept");
            (self.spill, self.cut) = (None, true);
        }
    }

    async fn spill(&mut self, part: &[u8]) -> io::Result<()> {
        if self.spill.is_none() {
            let mut spill = self.shelf.begin().await?;
            spill.write(&self.inline).await?;
            self.spill = Some(spill);
        }
        let Some(spill) = &mut self.spill else { return Ok(()) };
        if spill.bytes() + part.len() as u64 > MAX_OUTPUT_BYTES {
            self.cut = true;
            self.flooded.send_replace(true);
            return Ok(());
        }
        spill.write(part).await
    }

    async fn finish(self) -> Output {
        let Some(spill) = self.spill else { return Output::Inline(self.inline.into()) };
        let bytes = spill.bytes();
        match spill.finish().await {
            Ok(hash) => Output::Kept { hash, bytes, cut: self.cut },
            Err(error) => {
                tracing::warn!(%error, "the output of a task is cut: it cannot be kept");
                Output::Inline(self.inline.into())
            }
        }
    }
}
