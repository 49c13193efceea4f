//! Executes tasks that are processes: each in a cell and a directory of its own,
//! its output collected within bounds, all that it has started killed at its
//! end.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, join3};
use rustix::io::Errno;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::time::timeout;
use trine_types::NodeNumber;

use super::cell::Cell;
use super::cells::{self, Cells};
use super::disk;
use super::shelf::{Shelf, Spill};
use crate::blobs;
use crate::body::{Assigned, Body, Ran, Stop};
use crate::launch::group::Limits;
use crate::launch::place::Isolation;
use crate::launch::wire::{News, NotStarted, STREAMS, Start};
use crate::limits::MAX_INLINE_BYTES;
use crate::parallel::plain;
use crate::spec::{Input, Outcome, Output, Work};
use crate::tokens::{TOKEN_VARIABLE, TaskToken, TaskTokens};

/// What a task may print, kept or not: one that prints without end is killed.
pub const MAX_OUTPUT_BYTES: u64 = 1024 * 1024 * 1024;

/// How long output is awaited after a process has ended: it may have handed its
/// pipe to a process that is none of its own.
const LINGER: Duration = Duration::from_millis(500);

/// How long a process may take to end that was killed: it may hang in a device.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// How long nobody waits for what a process prints: a short one ends before, and
/// is read once, at its end. One that fills a pipe waits so long.
const UNWATCHED: Duration = Duration::from_millis(10);

/// Bytes read from a pipe at once, and what one holds.
const READ_BYTES: usize = 64 * 1024;

/// Reads of a pipe before others have their turn, however fast it fills.
const READS_AT_ONCE: usize = 4;

/// What processes of this node are given.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This node.
    pub number: NodeNumber,
    /// Where tasks run.
    pub cells: Cells,
    /// Environment of every task: nothing of the node's own comes in.
    pub env: Vec<(String, String)>,
    /// Where large outputs are kept.
    pub shelf: Shelf,
    /// What tasks log in with.
    pub tokens: TaskTokens,
}

/// See the module.
pub struct Processes {
    settings: Arc<Settings>,
    seats: Seats,
    loud: Loud,
}

/// Whether the last task has printed more than a pipe holds: then the next one
/// is watched from its start.
type Loud = Arc<AtomicBool>;

impl Processes {
    /// An executor of processes.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings: Arc::new(settings), seats: Seats::default(), loud: Loud::default() }
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
        let (settings, seat, loud) = (self.settings.clone(), self.seats.take(), self.loud.clone());
        async move {
            let told = (&seat, &*loud);
            if let Some(direct) = without_shell(&settings, &task) {
                let ran = Box::pin(execute(&settings, &direct, told, stop.clone())).await;
                if !matches!(ran.outcome, Outcome::NotStarted { .. }) {
                    return ran;
                }
                // The shell says what is wrong, in its own words and with its own code.
            }
            Box::pin(execute(&settings, &task, told, stop)).await
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

/// What a launcher shall start.
fn start(
    settings: &Settings,
    task: &Assigned,
    cell: &Cell,
    (seat, token): (&Seat, &TaskToken),
) -> Option<Start> {
    let Work::Process { argv, env, .. } = &task.task.work else { return None };
    let attempt = task.attempt;
    let own = cell.own().display().to_string();
    let told = [
        ("TRINE_JOB", attempt.job.to_string()),
        ("TRINE_TASK", attempt.index.to_string()),
        ("TRINE_ATTEMPT", attempt.attempt.to_string()),
        ("TRINE_NODE", settings.number.0.to_string()),
        ("TRINE_SLOT", seat.number.to_string()),
        ("TMPDIR", own.clone()),
        (TOKEN_VARIABLE, token.text().to_owned()),
    ];
    let told = told.map(|(name, value)| (name.to_owned(), value));
    // The node's own is closed to them.
    let home = matches!(settings.cells.isolation(), Isolation::OwnUsers(_) | Isolation::User { .. });
    let home = home.then(|| ("HOME".to_owned(), own));
    let given = [&settings.env, &task.job.env, env];
    let [of_node, of_job, of_task] = given.map(|env| env.iter().cloned());
    let env = of_node.chain(home).chain(told).chain(of_job).chain(of_task).collect();
    let workdir = task.job.workdir.as_ref().map(PathBuf::from);
    Some(Start { argv: argv.clone(), env, name: cell.directory(), workdir, data: None })
}

/// Our ends of the three streams of a task; what it prints is read without
/// waiting.
struct Streams {
    input: Option<pipe::Sender>,
    output: OwnedFd,
    errors: OwnedFd,
}

/// Three streams: ours and the task's. Without input it reads nothing.
fn streams(has_input: bool) -> io::Result<(Streams, [OwnedFd; STREAMS])> {
    let (output, task_output) = io::pipe()?;
    let (errors, task_errors) = io::pipe()?;
    let (input, task_input) = if has_input {
        let (task_input, input) = io::pipe()?;
        (Some(pipe::Sender::from_owned_fd(input.into())?), OwnedFd::from(task_input))
    } else {
        (None, File::open("/dev/null")?.into())
    };
    for ours in [&output, &errors] {
        rustix::io::ioctl_fionbio(ours, true)?;
    }
    let ours = Streams { input, output: output.into(), errors: errors.into() };
    Ok((ours, [task_input, task_output.into(), task_errors.into()]))
}

async fn execute(
    settings: &Settings,
    task: &Assigned,
    (seat, loud): (&Seat, &AtomicBool),
    mut stop: watch::Receiver<Option<Stop>>,
) -> Ran {
    let input = match stdin(settings, task).await {
        Ok(input) => input,
        Err(why) => return not_started(why),
    };
    // Void as soon as this returns, or is dropped.
    let token = settings.tokens.issue(&task.job.user, task.job.timeout());
    let (mut cell, ours, own) = match begin(settings, task, (seat, &token), input.is_some()).await {
        Ok(begun) => begun,
        Err(why) => return not_started(why),
    };
    let torn = cell.torn();
    let fed = feed(ours.input, input.unwrap_or_default());
    let (flooded, mut flood) = watch::channel(false);
    let mut stdout = Collected::new(settings.shelf.clone(), &flooded);
    let mut stderr = Collected::new(settings.shelf.clone(), &flooded);
    let waited = async {
        let stopped = async {
            let why = stop.wait_for(Option::is_some).await.map(|why| *why);
            match why {
                Ok(why) => why,
                // The worker is gone: this future is about to be dropped.
                Err(_) => std::future::pending().await,
            }
        };
        let stopped = tokio::select! {
            biased;
            stop = stopped => stop.map_or(Outcome::Cancelled, Stop::outcome),
            _ = flood.wait_for(|flooded| *flooded) => Outcome::Killed {
                reason: format!("it printed more than {MAX_OUTPUT_BYTES} bytes"),
            },
            why = disk::filled(own) => Outcome::Killed { reason: why },
            // What is left of it could wait for what is gone.
            () = torn => Outcome::Killed { reason: "it had no more memory".into() },
            news = cell.news() => return (cell, Ok(news)),
        };
        let killed = async {
            cell.stop().await?;
            cell.news().await
        };
        let news = timeout(KILL_LIMIT, killed).await;
        (cell, Err((stopped, matches!(news, Ok(Ok(_))))))
    };
    let collected = Box::pin(collect_both((&mut stdout, ours.output), (&mut stderr, ours.errors)));
    let unwatched = if loud.load(Ordering::Relaxed) { Duration::ZERO } else { UNWATCHED };
    let (mut cell, ended) = Box::pin(supervise(waited, (collected, unwatched), fed)).await;
    let of_kernel = cell.killed().map(|reason| Outcome::Killed { reason });
    let (outcome, reusable) = match ended {
        Ok(Ok(news)) => (of_kernel.unwrap_or_else(|| outcome_of(settings, task, news)), true),
        Ok(Err(error)) => {
            (of_kernel.unwrap_or_else(|| Outcome::Killed { reason: cells::lost(&error) }), false)
        }
        Err((outcome, over)) => (of_kernel.unwrap_or(outcome), over),
    };
    if reusable {
        settings.cells.give(cell);
    } else {
        cell.end();
        settings.cells.replace_lost().await;
    }
    loud.store(stdout.spill.is_some() || stderr.spill.is_some(), Ordering::Relaxed);
    let (stdout, stderr) = (stdout.finish().await, stderr.finish().await);
    Ran { outcome, stdout, stderr, value: Output::default() }
}

/// Has a cell start the task.
async fn begin(
    settings: &Settings,
    task: &Assigned,
    told: (&Seat, &TaskToken),
    has_input: bool,
) -> Result<(Cell, Streams, PathBuf), String> {
    let mut cell = settings.cells.take().await.map_err(|why| why.to_string())?;
    let start = start(settings, task, &cell, told).ok_or("it is no process")?;
    let own = cell.own();
    let (ours, its) = streams(has_input).map_err(|error| format!("no pipes for it: {error}"))?;
    let limits = Limits::of(task.job.resources);
    cell.start(start, limits, its.each_ref().map(AsFd::as_fd)).await.map_err(|error| error.to_string())?;
    Ok((cell, ours, own))
}

/// Waits for the end of the process, then a little for the rest of its output,
/// which is collected from its end on, or a while after its start.
async fn supervise<T>(
    waited: impl Future<Output = T>,
    (collected, unwatched): (impl Future<Output = ()>, Duration),
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
            // Too late: it has not ended.
            let _ = timeout(unwatched, end.wait_for(|ended| *ended)).await;
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

fn explain(settings: &Settings, task: &Assigned, why: NotStarted) -> String {
    let Work::Process { argv, .. } = &task.task.work else { return "it is no process".into() };
    let program = String::from_utf8_lossy(argv.first().map_or(&[], Vec::as_slice));
    let (node, workdir) = (settings.number, task.job.workdir.as_deref().unwrap_or("its own"));
    match why {
        NotStarted::NoProgram => format!("no program {program} on node {node}"),
        NotStarted::NoWorkdir => format!("no directory {workdir} on node {node}"),
        NotStarted::ClosedWorkdir => format!(
            "the directory {workdir} on node {node} is closed to tasks, whose confinement there is {}",
            settings.cells.isolation()
        ),
        NotStarted::Other(error) => format!("{program} cannot be started on node {node}: {error}"),
    }
}

fn outcome_of(settings: &Settings, task: &Assigned, news: News) -> Outcome {
    match news {
        // It runs elsewhere by now, or will again.
        News::Ended { lapsed: true, .. } => Outcome::Lost,
        News::Ended { status, .. } => of_status(ExitStatus::from_raw(status)),
        News::NotStarted(why) => Outcome::NotStarted { why: explain(settings, task, why) },
        other => Outcome::NotStarted { why: format!("its launcher says {other:?}") },
    }
}

fn of_status(status: ExitStatus) -> Outcome {
    match (status.code(), status.signal()) {
        (Some(code), _) => Outcome::Exited { code: u8::try_from(code).unwrap_or(u8::MAX) },
        (None, signal) => {
            Outcome::Signaled { signal: signal.and_then(|signal| u8::try_from(signal).ok()).unwrap_or(0) }
        }
    }
}

async fn stdin(settings: &Settings, task: &Assigned) -> Result<Option<Bytes>, String> {
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
async fn feed(pipe: Option<pipe::Sender>, input: Bytes) {
    if let Some(mut pipe) = pipe {
        // An error: it reads no more.
        let _ = pipe.write_all(&input).await;
    }
}

async fn collect_both(
    (stdout, out): (&mut Collected<'_>, OwnedFd),
    (stderr, err): (&mut Collected<'_>, OwnedFd),
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

    async fn collect(&mut self, pipe: OwnedFd) {
        let mut part = Vec::with_capacity(READ_BYTES);
        // What is there is read first: mostly that is all.
        for _ in 0..READS_AT_ONCE {
            part.clear();
            match rustix::io::read(&pipe, rustix::buffer::spare_capacity(&mut part)) {
                Ok(0) => return,
                Ok(_) => self.add(&part).await,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
        let Ok(mut pipe) = pipe::Receiver::from_owned_fd_unchecked(pipe) else { return };
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
            let mut spill = self.shelf.begin()?;
            spill.write(Bytes::copy_from_slice(&self.inline)).await?;
            self.spill = Some(spill);
        }
        let Some(spill) = &mut self.spill else { return Ok(()) };
        if spill.bytes() + part.len() as u64 > MAX_OUTPUT_BYTES {
            self.cut = true;
            self.flooded.send_replace(true);
            return Ok(());
        }
        spill.write(Bytes::copy_from_slice(part)).await
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
