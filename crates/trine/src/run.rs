//! `trine run` and `trine job`: process tasks in the words of GNU parallel, on
//! all nodes. A thread reads arguments and makes tasks; one future submits
//! them, one takes results and prints; neither holds more than a window of
//! tasks that have not ended.
//!
//! | file | what |
//! |---|---|
//! | [`args`] | options as they are typed |
//! | [`plan`] | from options to tasks and the job |
//! | [`input`] | reads arguments and data |
//! | [`client`] | the routes of jobs, from this side |
//! | [`parcel`] | files that travel with tasks |
//! | [`printer`] | output, joblog, exit code |
//! | [`pilot`] | `trine plan`: how long it would take on how many nodes |
//! | [`job`] | `trine job`: jobs that run, or ran |
//! | [`cost`] | where the time of a job went; pure |
//! | [`stages`], [`submit`] | a file of stages, each a job after others |
//! | [`again`] | tasks of a job once more |
//! | [`history`] | what was predicted for jobs, and what came of it |

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::StatusCode;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::{Semaphore, mpsc, oneshot};
use trine_compute::limits::{MAX_RANGE_BYTES, MAX_TASKS_PER_RANGE};
use trine_compute::parallel::halt::Tally;
use trine_compute::parallel::joblog::{Earlier, HEADING};
use trine_compute::parallel::tag::Tagger;
use trine_compute::record::encode_task;
use trine_compute::{JobId, TaskResult, TaskSpec};
use trine_types::{Entropy, NodeNumber};

use crate::admin::protocol::NodeReport;
use crate::dev::StopSignal;
use crate::failure::Failure;
use crate::seams::OsEntropy;
use args::RunArgs;
use client::{Api, Ask, Results, Unanswered};
use input::Before;
use parcel::{Place, RETURNS_VARIABLE};
use plan::{Plan, Prepared};
use printer::{Pending, Printer, Style};

mod again;
pub mod args;
pub mod client;
pub mod cost;
mod history;
pub mod input;
pub mod job;
pub mod parcel;
pub mod pilot;
pub mod plan;
pub mod printer;
pub mod stages;
pub mod submit;

/// Tasks between the thread that reads and the one that submits.
const QUEUE: usize = 4_096;
/// Tasks that were submitted, have not ended, and must be remembered: one for
/// each of their KiB.
const WINDOW: u32 = 65_536;
/// Tasks of one request.
const MAX_BATCH: u64 = MAX_TASKS_PER_RANGE as u64 / 4;
/// Bytes of one request, but for a task that is larger by itself.
const MAX_BATCH_BYTES: usize = MAX_RANGE_BYTES / 4;
/// Requests whose tasks the printer has not been told of.
const TOLD: usize = 64;
/// Most tasks when their number must be known before the first runs.
const MAX_COUNTED: usize = 1_000_000;
/// Exit code after Ctrl-C, as of shells.
const INTERRUPTED: u8 = 130;
/// How often the bar moves by itself.
const TICK: Duration = Duration::from_millis(200);

/// Runs the command; the exit code is parallel's.
///
/// # Errors
/// Wrong usage, input that cannot be read, no node, or a job that was refused.
pub async fn run(args: RunArgs, json: bool) -> Result<u8, Failure> {
    let before = before(&args)?;
    if args.shown.dry_run {
        let plan = Plan::new(&args, Vec::new())?;
        let mut unwritable = None;
        input::produce(&plan, &before, &mut |prepared| match show_dry(&prepared) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                unwritable = Some(error);
                ControlFlow::Break(())
            }
        })?;
        return unwritable.map_or(Ok(0), |error| Err(Failure::new(error)));
    }
    let mut api = Api::find(&args.node).await?;
    let nodes = if args.tasks.every_node { every_node(&mut api).await? } else { Vec::new() };
    let plan = Plan::new(&args, nodes)?;
    let mut stop = StopSignal::new()?;
    let mut reading = Reading::start(&args, plan, before)?;
    let mark = reading.plan.maker.has_returned().then(mark);
    let mut spec = plan::job(&args, reading.total)?;
    spec.env.extend(mark.iter().map(|mark| (RETURNS_VARIABLE.to_owned(), mark.clone())));
    let job = api.create(&spec).await?;
    let submitter = Submitter::new(api.clone(), job, &args, (json, mark.clone()));
    let outcome = tokio::select! {
        biased;
        () = stop.wait() => Ok(None),
        code = work(&args, (json, mark), (&api, job), &mut reading, submitter) => code.map(Some),
    };
    match outcome {
        Ok(Some(code)) => Ok(code),
        Ok(None) => {
            api.cancel(job).await?;
            eprintln!("trine: job {job} is cancelled");
            Ok(INTERRUPTED)
        }
        Err(failure) => {
            // What was wrong is said below; that the job cannot be cancelled
            // either follows from it.
            let _ = api.cancel(job).await;
            Err(failure)
        }
    }
}

/// What separates output from files: nobody else may guess it.
fn mark() -> String {
    let mut bytes = [0; 16];
    OsEntropy.fill(&mut bytes);
    data_encoding::HEXLOWER.encode(&bytes)
}

fn show_dry(prepared: &Prepared) -> std::io::Result<()> {
    let mut out = Vec::new();
    let line = [prepared.command().as_slice(), b"\n"].concat();
    Tagger::new(prepared.tag.clone()).pass(&line, &mut out);
    std::io::stdout().lock().write_all(&out)
}

fn before(args: &RunArgs) -> Result<Before, Failure> {
    let Some(path) = &args.log.joblog else { return Ok(Before::Nothing) };
    let path = path.trim_start_matches('+');
    let earlier = || match std::fs::read(path) {
        Ok(log) => Ok(Earlier::read(&log)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Earlier::default()),
        Err(error) => Err(Failure::new(format!("cannot read the joblog {path}: {error}"))),
    };
    Ok(match &args.log {
        log if log.retry_failed => Before::Failed(earlier()?),
        log if log.resume_failed => Before::Succeeded(earlier()?),
        log if log.resume => Before::Ran(earlier()?),
        _ => Before::Nothing,
    })
}

fn open_joblog(args: &RunArgs) -> Result<Option<File>, Failure> {
    let Some(given) = &args.log.joblog else { return Ok(None) };
    let path = given.trim_start_matches('+');
    let cannot = |error| Failure::new(format!("cannot write the joblog {path}: {error}"));
    let log = &args.log;
    let keeps = given.starts_with('+') || log.resume || log.resume_failed || log.retry_failed;
    let mut options = OpenOptions::new();
    options.create(true).append(keeps).write(true).truncate(!keeps);
    let mut file = options.open(path).map_err(cannot)?;
    if file.metadata().map_err(cannot)?.len() == 0 {
        file.write_all(HEADING.as_bytes()).map_err(cannot)?;
    }
    Ok(Some(file))
}

async fn every_node(api: &mut Api) -> Result<Vec<(NodeNumber, String)>, Failure> {
    let nodes: Vec<NodeReport> = api.json(&Ask::get("/v1/nodes")).await?;
    let unique = |name: &str| nodes.iter().filter(|node| node.name == name).count() == 1;
    let name =
        |node: &NodeReport| if unique(&node.name) { node.name.clone() } else { format!("n{}", node.number) };
    Ok(nodes.iter().map(|node| (NodeNumber(node.number), name(node))).collect())
}

/// The thread that reads.
struct Reading {
    tasks: mpsc::Receiver<Prepared>,
    ended: oneshot::Receiver<Result<(), Failure>>,
    plan: Arc<Plan>,
    total: Option<u64>,
}

impl Reading {
    fn start(args: &RunArgs, plan: Plan, before: Before) -> Result<Self, Failure> {
        let plan = Arc::new(plan);
        let (tasks, queue) = mpsc::channel(QUEUE);
        let (end, ended) = oneshot::channel();
        if !plan::needs_total(args) {
            let reader = plan.clone();
            std::thread::spawn(move || {
                let outcome = input::produce(&reader, &before, &mut |prepared| give(&tasks, prepared));
                // Nobody waits for it any more: then it does not matter.
                let _ = end.send(outcome);
            });
            return Ok(Self { tasks: queue, ended, plan, total: None });
        }
        let mut all = Vec::new();
        input::produce(&plan, &before, &mut |prepared| {
            all.push(prepared);
            if all.len() > MAX_COUNTED { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if all.len() > MAX_COUNTED {
            return Err(Failure::new(format!("--halt with a percentage takes at most {MAX_COUNTED} tasks"))
                .hint("give a number of tasks instead"));
        }
        let total = Some(all.len() as u64);
        std::thread::spawn(move || {
            let _ = all.into_iter().try_for_each(|prepared| give(&tasks, prepared));
            let _ = end.send(Ok(()));
        });
        Ok(Self { tasks: queue, ended, plan, total })
    }
}

fn give(tasks: &mpsc::Sender<Prepared>, prepared: Prepared) -> ControlFlow<()> {
    if tasks.blocking_send(prepared).is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}

/// Tasks that were submitted.
struct Submitted {
    first: u64,
    count: u64,
    pending: Vec<Pending>,
}

/// Sends tasks in batches.
struct Submitter {
    api: Api,
    job: JobId,
    remembers: bool,
    traces: bool,
    mark: String,
    /// Archives that were sent: tasks may have the same.
    sent: BTreeSet<[u8; 32]>,
    window: Arc<Semaphore>,
    next: u64,
    records: BytesMut,
    batch: Submitted,
}

impl Submitter {
    fn new(api: Api, job: JobId, args: &RunArgs, (json, mark): (bool, Option<String>)) -> Self {
        let shown = &args.shown;
        let tagged = (shown.tag || shown.tagstring.is_some()) && !shown.ungroup;
        let files = mark.is_some() || args.files.results.is_some();
        let remembers =
            files || tagged || shown.keep_order || shown.verbose || json || args.log.joblog.is_some();
        Self {
            api,
            job,
            remembers: remembers && !args.tasks.detach,
            traces: shown.trace,
            mark: mark.unwrap_or_default(),
            sent: BTreeSet::new(),
            window: Arc::new(Semaphore::new(WINDOW as usize)),
            next: 0,
            records: BytesMut::new(),
            batch: Submitted { first: 0, count: 0, pending: Vec::new() },
        }
    }

    /// Submits everything that is read; how many tasks that were.
    async fn all(mut self, reading: &mut Reading, told: mpsc::Sender<Submitted>) -> Result<u64, Failure> {
        let plan = reading.plan.clone();
        loop {
            let at_once = reading.tasks.try_recv().ok();
            if at_once.is_none() && self.flush(&told).await?.is_break() {
                // (Nothing more at the moment: what there is need not wait.)
                return Ok(self.next);
            }
            let prepared = match at_once {
                Some(prepared) => prepared,
                None => match reading.tasks.recv().await {
                    Some(prepared) => prepared,
                    None => break,
                },
            };
            if self.add(&plan, prepared, &told).await?.is_break() {
                return Ok(self.next);
            }
        }
        match (&mut reading.ended).await {
            Ok(Err(failure)) => return Err(failure),
            Ok(Ok(())) => {}
            Err(_) => return Err(Failure::new("reading ended early: this is a bug")),
        }
        match self.api.close(self.job).await {
            Ok(()) | Err(Unanswered::Refused(StatusCode::CONFLICT, _)) => Ok(self.next),
            Err(unanswered) => Err(unanswered.into()),
        }
    }

    async fn add(
        &mut self,
        plan: &Plan,
        prepared: Prepared,
        told: &mpsc::Sender<Submitted>,
    ) -> Result<ControlFlow<()>, Failure> {
        let weight = u32::try_from(1 + prepared.bytes() / 1024).unwrap_or(WINDOW).min(WINDOW);
        if self.remembers {
            if self.window.available_permits() < weight as usize && self.flush(told).await?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            let permits = self.window.acquire_many(weight).await;
            permits.map_err(|_| Failure::new("the window is closed: this is a bug"))?.forget();
        }
        if self.traces {
            eprintln!("{}", String::from_utf8_lossy(&prepared.command()));
        }
        let (task, sent) = self.task(plan, &prepared).await?;
        encode_task(&task, &mut self.records);
        self.batch.count += 1;
        if self.remembers {
            self.batch.pending.push(Pending {
                sequence: prepared.sequence,
                command: prepared.command(),
                sent,
                tag: prepared.tag,
                weight,
                returned: prepared.returned.iter().map(|name| returned(name)).collect(),
                results: prepared.results,
            });
        }
        let full = self.batch.count >= MAX_BATCH || self.records.len() >= MAX_BATCH_BYTES;
        if full { self.flush(told).await } else { Ok(ControlFlow::Continue(())) }
    }

    /// The task, its files on the nodes, and what was sent with it.
    async fn task(&mut self, plan: &Plan, prepared: &Prepared) -> Result<(TaskSpec, u64), Failure> {
        let task = plan.maker.task(prepared);
        let parcel = prepared.parcel(plan.maker.cleans_up())?;
        if parcel.is_empty() {
            return Ok((task, prepared.input.as_ref().map_or(0, Bytes::len) as u64));
        }
        let input = prepared.input.clone();
        let packing = tokio::task::spawn_blocking(move || (parcel.pack(input.as_deref()), parcel));
        let (packed, parcel) = packing.await.map_err(Failure::new)?;
        let (archive, missing) =
            packed.map_err(|why| Failure::new(format!("task {}: {why}", prepared.sequence)))?;
        for what in missing {
            // As with parallel, the command says what it misses.
            eprintln!("trine: task {}: cannot send {what}", prepared.sequence);
        }
        let hash = *blake3::hash(&archive).as_bytes();
        if self.sent.insert(hash) {
            self.api.put(&archive).await?;
        }
        Ok((parcel.wrap(task, hash, &self.mark), archive.len() as u64))
    }

    /// Sends what was added. A break: the job takes no more.
    async fn flush(&mut self, told: &mpsc::Sender<Submitted>) -> Result<ControlFlow<()>, Failure> {
        if self.batch.count == 0 {
            return Ok(ControlFlow::Continue(()));
        }
        let first = self.next;
        self.next += self.batch.count;
        let empty = Submitted { first: self.next, count: 0, pending: Vec::new() };
        let batch = std::mem::replace(&mut self.batch, empty);
        if told.send(batch).await.is_err() {
            return Ok(ControlFlow::Break(()));
        }
        match self.api.append(self.job, first, self.records.split().freeze()).await {
            Ok(()) => Ok(ControlFlow::Continue(())),
            // It was halted, or somebody cancelled it: the results will say so.
            Err(Unanswered::Refused(StatusCode::CONFLICT, _)) => Ok(ControlFlow::Break(())),
            Err(unanswered) => Err(unanswered.into()),
        }
    }
}

async fn work(
    args: &RunArgs,
    (json, mark): (bool, Option<String>),
    (api, job): (&Api, JobId),
    reading: &mut Reading,
    submitter: Submitter,
) -> Result<u8, Failure> {
    let (tell, heard) = mpsc::channel(TOLD);
    if args.tasks.detach {
        let (count, ()) = tokio::try_join!(submitter.all(reading, tell), forget(heard))?;
        eprintln!(
            "{count} tasks; look with `trine job show {job}`, take the output with `trine job logs {job}`"
        );
        if json {
            println!("{}", serde_json::json!({"job": job.0}));
        } else {
            println!("{job}");
        }
        return Ok(0);
    }
    let total = reading.total;
    let style = Style { keep_order: args.shown.keep_order, verbose: args.shown.verbose, json };
    let tally = Tally::new(args.tasks.halt.unwrap_or_default());
    let printer = Printer::new(style, api.clone(), bar(args), open_joblog(args)?, tally).returning(mark);
    let window = submitter.window.clone();
    let results = take(api.results(job), printer, (heard, window), total);
    let mut results = std::pin::pin!(results);
    tokio::select! {
        biased;
        code = &mut results => code,
        count = submitter.all(reading, tell) => {
            count?;
            results.await
        }
    }
}

/// Where a file goes that a task returns: it was looked at when it was sent.
fn returned(name: &[u8]) -> PathBuf {
    Place::of("--return", name).map(|place| place.there).unwrap_or_default()
}

async fn forget(mut told: mpsc::Receiver<Submitted>) -> Result<(), Failure> {
    while told.recv().await.is_some() {}
    Ok(())
}

/// Takes results until the job is over; the exit code.
async fn take(
    mut results: Results,
    mut printer: Printer,
    (mut told, window): (mpsc::Receiver<Submitted>, Arc<Semaphore>),
    total: Option<u64>,
) -> Result<u8, Failure> {
    let mut pending = std::collections::BTreeMap::new();
    let mut known = 0;
    loop {
        let result: TaskResult = tokio::select! {
            biased;
            Some(submitted) = told.recv() => {
                known = submitted.first + submitted.count;
                printer.bar().set_length(total.unwrap_or(known));
                pending.extend((submitted.first..).zip(submitted.pending));
                continue;
            }
            result = results.next() => match result? {
                Some(result) => result,
                None => break,
            },
        };
        let pending = pending.remove(&result.index);
        if let Some(pending) = &pending {
            window.add_permits(pending.weight as usize);
        }
        printer.ended(pending, result, total.unwrap_or(known)).await?;
    }
    printer.finish().await?;
    printer.bar().finish_and_clear();
    Ok(printer.exit_code(total.unwrap_or(known)))
}

fn bar(args: &RunArgs) -> ProgressBar {
    let shown = !args.shown.no_bar && (args.shown.bar || std::io::stderr().is_terminal());
    let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let template = "{bar:30} {pos} of {len}  {percent}%  {elapsed} gone, {eta} left  {msg}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::with_draw_target(Some(0), target).with_style(style);
    bar.enable_steady_tick(TICK);
    bar
}
