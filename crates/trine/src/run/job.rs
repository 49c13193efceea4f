//! `trine job`: what runs, what ran and where its time went; take output
//! later, wait, cancel, run what failed again.

use std::fmt::Write as _;
use std::io::Write as _;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use trine_compute::command::{JobView, Progress};
use trine_compute::parallel::halt::{Rule, Tally};
use trine_compute::{JobId, JobSpec, Resources, Schedule, TaskResult, calendar};

use super::args::RunArgs;
use super::client::{Api, Ask};
use super::cost::{Account, Cost, WorkerCost};
use super::parcel::RETURNS_VARIABLE;
use super::printer::{Pending, Printer, Style, ended};
use crate::admin::report::table;
use crate::cli::NodeTarget;
use crate::failure::Failure;

/// Jobs.
#[derive(Debug, Subcommand)]
pub enum JobCommand {
    /// Submit a job and print its number; the same options as `trine run`.
    Submit(Box<SubmitArgs>),
    /// The jobs, newest first.
    Ls(NodeTarget),
    /// How far a job is, where its time went (`T = T_a + T_c`), what each worker did.
    Show(OneJob),
    /// The output of a job's tasks, in the order in which they ended.
    Logs(LogsArgs),
    /// Cancel a job: what waits is dropped, what runs is killed on every node.
    Cancel(OneJob),
    /// Wait until a job is over; the exit code is the number of failed tasks.
    Wait(OneJob),
    /// Run the tasks that failed again, as a new job, and print its number.
    Retry(OneJob),
}

/// `trine job submit`.
#[derive(Debug, Args, Clone)]
pub struct SubmitArgs {
    /// Submit the stages that this file describes (docs/jobs.md), and print their jobs.
    #[arg(long, value_name = "FILE.toml", conflicts_with = "words")]
    pub from: Option<std::path::PathBuf>,
    /// Everything else.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Names a job.
#[derive(Debug, Args, Clone)]
pub struct OneJob {
    /// The job's number.
    pub job: u64,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeTarget,
}

/// `trine job logs`.
#[derive(Debug, Args, Clone)]
pub struct LogsArgs {
    /// Which job.
    #[command(flatten)]
    pub one: OneJob,
    /// Go on until the job is over.
    #[arg(short = 'f', long)]
    pub follow: bool,
    /// In the order of the tasks.
    #[arg(short = 'k', long)]
    pub keep_order: bool,
    /// Write the task's number and a tab before each line.
    #[arg(long)]
    pub tag: bool,
    /// Only this task, counted from 1.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub task: Option<u64>,
}

/// Runs the command; the exit code.
///
/// # Errors
/// No node runs here, or there is no such job.
pub async fn run(command: JobCommand, json: bool) -> Result<u8, Failure> {
    match command {
        JobCommand::Submit(args) if args.from.is_some() => {
            let SubmitArgs { from, run } = *args;
            super::submit::run(&from.unwrap_or_default(), &run.node, json).await
        }
        JobCommand::Submit(mut args) => {
            args.run.tasks.detach = true;
            super::run(args.run, json).await
        }
        JobCommand::Ls(target) => list(&target, json).await,
        JobCommand::Show(one) => show(&one, json).await,
        JobCommand::Logs(args) => logs(&args, json).await,
        JobCommand::Cancel(one) => {
            Api::find(&one.node).await?.cancel(JobId(one.job)).await?;
            Ok(0)
        }
        JobCommand::Wait(one) => wait(&one, json).await,
        JobCommand::Retry(one) => retry(&one, json).await,
    }
}

fn print(text: &str) -> Result<u8, Failure> {
    std::io::stdout().write_all(text.as_bytes()).map_err(Failure::new)?;
    Ok(0)
}

async fn list(target: &NodeTarget, json: bool) -> Result<u8, Failure> {
    let mut api = Api::find(target).await?;
    let mut jobs: Vec<JobView> = api.json(&Ask::get("/v1/jobs")).await?;
    // However long ago a schedule was submitted, it is one of what there is.
    let schedules: Vec<JobView> = api.json(&Ask::get("/v1/jobs?scheduled=true")).await?;
    let listed: std::collections::BTreeSet<JobId> = jobs.iter().map(|job| job.id).collect();
    jobs.extend(schedules.into_iter().rev().filter(|job| !listed.contains(&job.id)));
    if json {
        return print(&(serde_json::to_string(&jobs).map_err(Failure::new)? + "\n"));
    }
    let heading = ["JOB", "STATE", "TASKS", "DONE", "FAILED", "SUBMITTED", "TOOK", "NEXT", "USER", "NAME"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for JobView { id, spec, progress } in &jobs {
        let took =
            progress.ended_ms.map_or("-".to_owned(), |end| seconds(end.saturating_sub(progress.created_ms)));
        rows.push(vec![
            id.to_string(),
            state(&jobs, *id),
            progress.tasks.to_string(),
            progress.done.to_string(),
            progress.failed.to_string(),
            moment(progress.created_ms),
            took,
            next(progress),
            spec.user.clone(),
            spec.name.clone(),
        ]);
    }
    print(&table(&rows))
}

/// When a schedule is due.
fn next(progress: &Progress) -> String {
    let waits = progress.schedule.filter(|_| !progress.phase.is_over());
    waits.and_then(|scheduled| scheduled.next_ms).map_or("-".to_owned(), |next| calendar::utc(next) + " UTC")
}

fn state(jobs: &[JobView], id: JobId) -> String {
    let Some(job) = jobs.iter().find(|job| job.id == id) else { return String::new() };
    if job.progress.schedule.is_some() && !job.progress.phase.is_over() {
        return "scheduled".to_owned();
    }
    let is_over = |before: &JobId| {
        jobs.iter().find(|job| job.id == *before).is_none_or(|job| job.progress.phase.is_over())
    };
    if !job.progress.phase.is_over() && !job.spec.when.after.iter().all(is_over) {
        return "waiting".to_owned();
    }
    format!("{:?}", job.progress.phase).to_lowercase()
}

pub(super) fn seconds(ms: u64) -> String {
    format!("{}.{:03} s", ms / 1_000, ms % 1_000)
}

/// A time of day, UTC.
fn moment(ms: u64) -> String {
    let seconds = ms / 1_000 % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

async fn view(api: &mut Api, job: u64) -> Result<JobView, Failure> {
    Ok(api.json(&Ask::get(&format!("/v1/jobs/{job}"))).await?)
}

/// What `trine job show --json` prints.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    job: &'a JobView,
    cost: Cost,
    first_start_ms: Option<u64>,
    last_end_ms: Option<u64>,
    slowest_ms: u64,
    workers: Vec<&'a WorkerCost>,
}

async fn show(one: &OneJob, json: bool) -> Result<u8, Failure> {
    let mut api = Api::find(&one.node).await?;
    let job = view(&mut api, one.job).await?;
    let mut account = Account::default();
    let mut results = api.results(job.id);
    for _ in 0..job.progress.done {
        let Some(result) = results.next().await? else { break };
        account.add(&result);
    }
    if json {
        let shown = Shown {
            job: &job,
            cost: account.with_log(&job.progress),
            first_start_ms: account.span_ms.map(|(first, _)| first),
            last_end_ms: account.span_ms.map(|(_, last)| last),
            slowest_ms: account.slowest_ms(),
            workers: account.workers().collect(),
        };
        return print(&(serde_json::to_string(&shown).map_err(Failure::new)? + "\n"));
    }
    let waits = if job.progress.phase.is_over() || job.progress.schedule.is_some() {
        None
    } else {
        let workers: Vec<WorkerView> = api.json(&Ask::get("/v1/workers")).await?;
        unmet(job.spec.resources.of_task(), &workers)
    };
    print(&text(&job, &account, waits))
}

/// A worker, as `/v1/workers` tells.
#[derive(Debug, Deserialize)]
struct WorkerView {
    node: u64,
    #[serde(flatten)]
    slots: Resources,
}

/// Workers that are named where none has what a task needs.
const MAX_NAMED: usize = 5;

/// Why no worker that is there now will ever execute such a task.
fn unmet(need: Resources, workers: &[WorkerView]) -> Option<String> {
    let words = |what: Resources| {
        let mut words = vec![format!("{} processors", f64::from(what.cpu_milli) / 1_000.0)];
        if what.memory_bytes > 0 {
            words.push(format!("{} MiB", what.memory_bytes >> 20));
        }
        words.extend((!what.named.is_none()).then(|| what.named.to_string()));
        words.join(", ")
    };
    if workers.iter().any(|worker| worker.slots.fits(need)) {
        return None;
    }
    let most = workers.iter().take(MAX_NAMED);
    let have: Vec<_> =
        most.map(|worker| format!("node {} has {}", worker.node, words(worker.slots))).collect();
    Some(match have.as_slice() {
        [] => "for a worker: none answers".to_owned(),
        have => format!("for a worker with {}: {}", words(need), have.join("; ")),
    })
}

fn text(JobView { id, spec, progress }: &JobView, account: &Account, waits: Option<String>) -> String {
    let cost = account.with_log(progress);
    let mean = |us: u64| {
        let us = us / cost.tasks.max(1);
        format!("{}.{:03} ms", us / 1_000, us % 1_000)
    };
    let share = |us: u64| format!("{} %", (us * 100).checked_div(cost.total_us).unwrap_or(0));
    let mut out = String::new();
    let _ = writeln!(out, "job        {id} {:?}\nuser       {}", spec.name, spec.user);
    let _ = writeln!(
        out,
        "state      {}, {} of {} tasks done, {} failed",
        format!("{:?}", progress.phase).to_lowercase(),
        progress.done,
        progress.tasks,
        progress.failed
    );
    let _ = write!(out, "submitted  {} UTC", moment(progress.created_ms));
    if let Some(end) = progress.ended_ms {
        let _ = write!(out, ", over after {}", seconds(end.saturating_sub(progress.created_ms)));
    }
    out += "\n";
    if let Some(predicted) = spec.predicted_ms {
        let _ = write!(out, "predicted  {}", seconds(predicted));
        if let Some(off) = super::history::off(spec, progress) {
            let _ = write!(out, ": {off:+.0} %");
        }
        out += "\n";
    }
    out += &place(spec, progress);
    if let Some(waits) = waits {
        let _ = writeln!(out, "waits      {waits}");
    }
    if cost.tasks == 0 {
        return out;
    }
    let line = |name: &str, us: u64| vec![name.to_owned(), mean(us), share(us)];
    let rows = vec![
        vec!["mean of a task".to_owned(), String::new(), String::new()],
        line("T = T_a + T_c", cost.total_us),
        line("T_a  assignment", cost.assignment_us),
        line("  submission, until durable", cost.submitted_us),
        line("  queue", cost.queued_us),
        line("  staging", cost.prepared_us),
        line("  there (half of passing)", cost.passing_us / 2),
        line("T_c  execution and return", cost.completion_us),
        line("  execution", cost.executed_us),
        line("  return", cost.returned_us),
        line("  back (half of passing)", cost.passing_us - cost.passing_us / 2),
        line("  commit, until durable", cost.committed_us),
    ];
    let _ =
        writeln!(out, "\n{}\nwait for the slowest worker: {}\n", table(&rows), seconds(account.slowest_ms()));
    for worker in account.workers() {
        let _ = writeln!(
            out,
            "n{:<3} {:>8} tasks {:>12}  |{}|",
            worker.node,
            worker.tasks,
            seconds(worker.executed_us / 1_000),
            account.timeline(worker)
        );
    }
    out
}

/// What a job comes after, when it must be over, why it did not go on.
fn place(spec: &JobSpec, progress: &Progress) -> String {
    let mut out = String::new();
    if let Some(why) = &progress.why {
        let what = if progress.schedule.is_some() { "left out" } else { "cancelled" };
        let _ = writeln!(out, "{what:<11}because {why}");
    }
    match &spec.when.schedule {
        Some(Schedule::Cron { text, zone, .. }) => {
            let scheduled = progress.schedule.unwrap_or_default();
            let (next, times) = (next(progress), scheduled.copies);
            let last = scheduled.last.map_or(String::new(), |job| format!(", last job {job}"));
            let _ = writeln!(out, "schedule   {text} ({zone}), next {next}, {times} times so far{last}");
        }
        Some(Schedule::Part) => out += "schedule   a part of another job's\n",
        None => {}
    }
    if !spec.when.after.is_empty() {
        let jobs: Vec<_> = spec.when.after.iter().map(JobId::to_string).collect();
        let _ = writeln!(out, "after      job {}", jobs.join(", "));
    }
    if let Some(deadline) = spec.when.deadline_ms {
        if progress.schedule.is_some() {
            let _ = writeln!(out, "deadline   {} from each due time on", seconds(deadline));
            return out;
        }
        let _ = writeln!(out, "deadline   {} UTC", moment(deadline));
    }
    out
}

async fn logs(args: &LogsArgs, json: bool) -> Result<u8, Failure> {
    let mut api = Api::find(&args.one.node).await?;
    let job = view(&mut api, args.one.job).await?;
    let style = Style { keep_order: args.keep_order, verbose: false, json };
    let bar = indicatif::ProgressBar::hidden();
    let mark = job.spec.env.iter().find(|(name, _)| name == RETURNS_VARIABLE);
    let printer = Printer::new(style, api.clone(), bar, None, Tally::new(Rule::Never));
    let mut printer = printer.returning(mark.map(|(_, mark)| mark.clone()));
    let (mut results, mut taken) = (api.results(job.id), 0);
    while args.follow || taken < job.progress.done {
        let Some(result) = results.next().await? else { break };
        taken += 1;
        if args.task.is_some_and(|task| task != result.index + 1) {
            continue;
        }
        printer.ended(pending(&result, args.tag), result, job.progress.tasks).await?;
    }
    printer.finish().await?;
    Ok(0)
}

fn pending(result: &TaskResult, tag: bool) -> Option<Pending> {
    let sequence = result.index + 1;
    let tag = tag.then(|| sequence.to_string().into_bytes());
    tag.map(|tag| Pending { sequence, tag: Some(tag), ..Pending::default() })
}

/// A schedule is never over by itself, and no task of it ever ends.
fn refuse_schedule(job: &JobView) -> Result<(), Failure> {
    if job.progress.schedule.is_none() {
        return Ok(());
    }
    Err(Failure::new(format!("job {} is a schedule, which is not executed itself", job.id)).hint(format!(
        "name one of the jobs that it makes, see `trine job ls`; `trine job cancel {}` ends it",
        job.id
    )))
}

async fn wait(one: &OneJob, json: bool) -> Result<u8, Failure> {
    let mut api = Api::find(&one.node).await?;
    refuse_schedule(&view(&mut api, one.job).await?)?;
    let mut results = api.results(JobId(one.job));
    let mut tally = Tally::new(Rule::Never);
    while let Some(result) = results.next().await? {
        if let Some(ended) = ended(&result.outcome) {
            tally.ended(ended, 0);
        }
    }
    let job = view(&mut api, one.job).await?;
    if json {
        print(&(serde_json::to_string(&job).map_err(Failure::new)? + "\n"))?;
    }
    if let Some(why) = &job.progress.why {
        eprintln!("trine: job {} was cancelled because {why}", job.id);
    }
    Ok(tally.exit_code(job.progress.tasks).max(u8::from(job.progress.why.is_some())))
}

async fn retry(one: &OneJob, json: bool) -> Result<u8, Failure> {
    let mut api = Api::find(&one.node).await?;
    let job = view(&mut api, one.job).await?;
    refuse_schedule(&job)?;
    if !job.progress.phase.is_over() {
        return Err(Failure::new(format!("job {} is not over", one.job)).hint(format!(
            "wait for it with `trine job wait {0}`, or cancel it with `trine job cancel {0}`",
            one.job
        )));
    }
    let mut succeeded = std::collections::BTreeSet::new();
    let mut results = api.results(job.id);
    while let Some(result) = results.next().await? {
        if result.outcome.is_success() {
            succeeded.insert(result.index);
        }
    }
    let again = super::again::submit(&mut api, &job, &succeeded).await?;
    match again {
        None => {
            eprintln!("no task of job {} failed", one.job);
            Ok(0)
        }
        Some((id, count)) => {
            eprintln!("{count} tasks again");
            if json { print(&format!("{{\"job\":{id}}}\n")) } else { print(&format!("{id}\n")) }
        }
    }
}

#[cfg(test)]
mod tests {
    use trine_compute::command::{Phase, Progress};
    use trine_compute::{JobSpec, Outcome, Output, Stamps, Waited};
    use trine_types::NodeNumber;

    use super::*;

    #[test]
    fn what_no_worker_has_is_told() {
        let gpus = |count: u32| {
            let named: std::collections::BTreeMap<_, _> = [("gpu".to_owned(), count)].into();
            Resources { named: named.try_into().expect("a name"), ..Resources::of(1_000, 0) }
        };
        let worker = |node, slots| WorkerView { node, slots };
        let workers = [worker(1, Resources::of(4_000, 1 << 30)), worker(2, gpus(2))];
        assert_eq!(unmet(gpus(2), &workers), None);
        let said = unmet(gpus(3), &workers).expect("nobody has three");
        assert_eq!(
            said,
            "for a worker with 1 processors, gpu=3: \
             node 1 has 4 processors, 1024 MiB; node 2 has 1 processors, gpu=2"
        );
        assert_eq!(unmet(gpus(1), &[]).as_deref(), Some("for a worker: none answers"));
    }

    #[test]
    fn a_job_is_shown_with_the_parts_of_its_time() {
        let progress = Progress {
            phase: Phase::Over,
            tasks: 2,
            done: 2,
            failed: 1,
            created_ms: 3_600_000,
            ended_ms: Some(3_601_500),
            why: None,
            schedule: None,
            bytes: 0,
            halt: None,
            submitted: Waited { tasks: 2, micros: 4_000 },
            committed: Waited { tasks: 2, micros: 6_000 },
            revision: 1,
        };
        let spec = JobSpec {
            name: "sleep {}".into(),
            user: "me".into(),
            predicted_ms: Some(1_800),
            ..JobSpec::default()
        };
        let job = JobView { id: JobId(4), spec, progress };
        let mut account = Account::default();
        for node in 1..=2 {
            account.add(&TaskResult {
                index: node,
                attempt: 1,
                node: NodeNumber(node),
                outcome: Outcome::Exited { code: 0 },
                stdout: Output::default(),
                stderr: Output::default(),
                value: Output::default(),
                started_ms: 3_600_100,
                stamps: Stamps {
                    queued: 1_000,
                    passing: 401,
                    prepared: 200,
                    executed: 1_000_000,
                    returned: 300,
                },
            });
        }
        let shown = text(&job, &account, None);
        for expected in [
            "over, 2 of 2 tasks done, 1 failed",
            "over after 1.500 s",
            "1006.901 ms",
            "01:00:00",
            "n2 ",
            "1.800 s: +20 %",
        ] {
            assert!(shown.contains(expected), "{expected}: {shown}");
        }
    }
}
