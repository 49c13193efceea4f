//! `trine plan`: runs a few of a command's tasks on one, two, four … nodes,
//! fits the model of `trine_compute::plan` to the times, and says how long all
//! of them would take on how many nodes. With `--run` it then runs them, and
//! says how far off it was.

use std::ops::ControlFlow;
use std::process::Stdio;

use bytes::BytesMut;
use clap::Args;
use serde_json::json;
use tokio::time::Instant;
use trine_compute::plan::{Advice, Choice, Fit, Local, Question, Sample, advise};
use trine_compute::record::encode_task;
use trine_compute::{JobId, JobSpec, Work};
use trine_types::NodeNumber;

use super::args::RunArgs;
use super::client::{Api, Ask};
use super::input::{self, Before};
use super::plan::{self, Plan, Prepared};
use crate::admin::protocol::NodeReport;
use crate::dev::StopSignal;
use crate::failure::Failure;

/// Tasks that pilots choose from: spread over all of them.
const MAX_SAMPLE: usize = 256;
/// Most tasks of one pilot.
const MAX_PILOT: usize = 512;
/// Tasks for each slot of a pilot's nodes: at least three different pilots
/// even on a single node.
const PER_SLOT: [usize; 3] = [1, 2, 4];
/// Fewer tasks than this are run rather than planned.
const LEAST_TASKS: u64 = 20;
/// Tasks that are run here, without a cluster.
const LOCAL_TASKS: usize = 3;

/// `trine plan`.
#[derive(Debug, Args, Clone)]
pub struct PlanArgs {
    /// Run all tasks after the prediction, and compare.
    #[arg(long)]
    pub run: bool,
    /// Instead of planning, show earlier predictions and how far off they were.
    #[arg(long)]
    pub history: bool,
    /// The command as for `trine run`. Some of its tasks are run for real, more
    /// than once.
    #[command(flatten)]
    pub command: RunArgs,
}

/// Tasks from all over the input, and how many there are.
#[derive(Debug)]
struct Spread {
    kept: Vec<Prepared>,
    every: u64,
    count: u64,
}

impl Spread {
    fn new() -> Self {
        Self { kept: Vec::new(), every: 1, count: 0 }
    }

    fn add(&mut self, prepared: Prepared) {
        if self.count.is_multiple_of(self.every) {
            self.kept.push(prepared);
        }
        self.count += 1;
        if self.kept.len() >= MAX_SAMPLE {
            let mut second = false;
            self.kept.retain(|_| {
                second = !second;
                second
            });
            self.every *= 2;
        }
    }
}

/// What the pilots measured.
#[derive(Debug, Default)]
struct Measured {
    samples: Vec<Sample>,
    tasks: u64,
    failed: u64,
    executed_us: u64,
}

impl Measured {
    #[allow(clippy::cast_precision_loss, reason = "below 2^53")]
    fn task_seconds(&self) -> f64 {
        self.executed_us as f64 / 1e6 / self.tasks.max(1) as f64
    }
}

/// Plans, and runs if asked to; the exit code is that of the run, or 0.
///
/// # Errors
/// Wrong usage, no node, too few tasks, or pilots that could not run.
pub async fn run(args: PlanArgs, json: bool) -> Result<u8, Failure> {
    let command = &args.command;
    if args.history {
        return super::history::show(&command.node, json).await;
    }
    if command.tasks.every_node || command.pipe.pipe {
        return Err(Failure::new("a plan is made for arguments, not for --every-node or --pipe").usage());
    }
    if command.files.travel() {
        return Err(Failure::new("a plan is made for tasks without files of their own")
            .hint("put the files where all nodes have them, and name that with --workdir")
            .usage());
    }
    let plan = Plan::new(command, Vec::new())?;
    if args.run && plan.sources.iter().any(is_standard_input) {
        return Err(Failure::new("--run reads the arguments twice, which standard input does not allow")
            .hint("put them into a file: trine plan --run -a FILE COMMAND")
            .usage());
    }
    let mut spread = Spread::new();
    input::produce(&plan, &Before::Nothing, &mut |prepared| {
        spread.add(prepared);
        ControlFlow::Continue(())
    })?;
    if spread.count < LEAST_TASKS {
        return Err(Failure::new(format!("{} tasks are too few to plan for", spread.count))
            .hint(format!("run them; a plan takes {LEAST_TASKS} or more")));
    }
    let mut api = Api::find(&command.node).await?;
    let nodes: Vec<NodeReport> = api.json(&Ask::get("/v1/nodes")).await?;
    let nodes: Vec<NodeNumber> = nodes
        .iter()
        .filter(|node| node.reachable || node.asked)
        .map(|node| NodeNumber(node.number))
        .collect();
    let spec = plan::job(command, Some(spread.count))?;
    let slots = slots(&spec);
    let mut pilots = Pilots { api, plan: &plan, spec, running: None };
    let mut stop = StopSignal::new()?;
    let outcome = tokio::select! {
        biased;
        () = stop.wait() => None,
        measured = pilots.all(&spread, &nodes, slots) => Some(measured),
    };
    let Some(measured) = outcome else {
        if let Some(job) = pilots.running {
            pilots.api.cancel(job).await?;
        }
        return Ok(super::INTERRUPTED);
    };
    let measured = measured?;
    let local = locally(&plan, &pilots.spec, &spread).await;
    let most = nodes.len() as u64;
    let fit = Fit::new(&measured.samples, most).map_err(Failure::new)?;
    let question = Question {
        tasks: spread.count,
        task_seconds: measured.task_seconds(),
        slots: slots as u64,
        most,
        // Not measured apart: it is within the pilots' times.
        master_seconds: 0.0,
        local,
    };
    let advice = advise(&fit, &question);
    show(json, &advice, &question, (&measured, fit.error))?;
    if args.run { compare(args, json, fit.seconds(most, spread.count)).await } else { Ok(0) }
}

fn is_standard_input(source: &trine_compute::parallel::sources::Source) -> bool {
    source.from == trine_compute::parallel::sources::From::File(b"-".to_vec())
}

/// How many tasks a node like this one runs side by side.
fn slots(spec: &JobSpec) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    match spec.resources.cpu_milli {
        0 => cores,
        milli => (cores * 1000 / milli as usize).max(1),
    }
}

struct Pilots<'a> {
    api: Api,
    plan: &'a Plan,
    spec: JobSpec,
    running: Option<JobId>,
}

impl Pilots<'_> {
    async fn all(
        &mut self,
        spread: &Spread,
        nodes: &[NodeNumber],
        slots: usize,
    ) -> Result<Measured, Failure> {
        let mut measured = Measured::default();
        let mut counts: Vec<usize> = std::iter::successors(Some(1), |count| Some(count * 2))
            .take_while(|count| *count < nodes.len())
            .collect();
        counts.push(nodes.len());
        // The first pilot starts what is started once, and says nothing else.
        let first = spread.kept.iter().take(1);
        self.one(first, nodes, &mut Measured::default()).await?;
        let mut next = 0;
        for count in counts {
            for each in PER_SLOT {
                let tasks = (count * slots * each).min(MAX_PILOT);
                let chosen = spread.kept.iter().cycle().skip(next).take(tasks);
                next = (next + tasks) % spread.kept.len().max(1);
                eprintln!("pilot: {tasks} tasks on {count} of {} nodes", nodes.len());
                self.one(chosen, &nodes[..count.min(nodes.len())], &mut measured).await?;
            }
        }
        Ok(measured)
    }

    /// Runs tasks on these nodes alone.
    async fn one(
        &mut self,
        tasks: impl Iterator<Item = &Prepared>,
        nodes: &[NodeNumber],
        measured: &mut Measured,
    ) -> Result<(), Failure> {
        let started = Instant::now();
        let spec = JobSpec { name: format!("plan: {}", self.spec.name), halt: None, ..self.spec.clone() };
        let job = self.api.create(&spec).await?;
        self.running = Some(job);
        let mut records = BytesMut::new();
        for (prepared, node) in tasks.zip(nodes.iter().cycle()) {
            let pinned = Prepared { node: Some(*node), ..prepared.clone() };
            encode_task(&self.plan.maker.task(&pinned), &mut records);
        }
        self.api.append(job, 0, records.freeze()).await?;
        self.api.close(job).await?;
        let mut results = self.api.results(job);
        let mut tasks = 0;
        while let Some(result) = results.next().await? {
            tasks += 1;
            measured.failed += u64::from(!result.outcome.is_success());
            measured.executed_us += result.stamps.executed;
        }
        self.running = None;
        measured.tasks += tasks;
        let seconds = started.elapsed().as_secs_f64();
        measured.samples.push(Sample { nodes: nodes.len() as u64, tasks, seconds });
        Ok(())
    }
}

/// Runs a few tasks here, as a shell would, one after the other. Nothing if
/// they read data or do not start here.
async fn locally(plan: &Plan, spec: &JobSpec, spread: &Spread) -> Option<Local> {
    let chosen: Vec<&Prepared> =
        spread.kept.iter().step_by((spread.kept.len() / LOCAL_TASKS).max(1)).take(LOCAL_TASKS).collect();
    let started = Instant::now();
    for prepared in &chosen {
        let Work::Process { argv, stdin: None, env } = plan.maker.task(prepared).work else { return None };
        let (program, arguments) = argv.split_first()?;
        let word = |bytes: &Vec<u8>| -> std::ffi::OsString {
            std::os::unix::ffi::OsStringExt::from_vec(bytes.clone())
        };
        let mut command = tokio::process::Command::new(word(program));
        command.args(arguments.iter().map(word)).envs(spec.env.iter().cloned()).envs(env);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        if let Some(workdir) = &spec.workdir {
            command.current_dir(workdir);
        }
        command.status().await.ok().filter(std::process::ExitStatus::success)?;
    }
    let tasks = u32::try_from(chosen.len().max(1)).unwrap_or(1);
    let task_seconds = (started.elapsed() / tasks).as_secs_f64();
    Some(Local { task_seconds, slots: slots(spec) as u64 })
}

fn show(
    json: bool,
    advice: &Advice,
    question: &Question,
    (measured, error): (&Measured, f64),
) -> Result<(), Failure> {
    let text = if json { as_json(advice, question, measured, error) } else { as_table(advice, question) };
    std::io::Write::write_all(&mut std::io::stdout().lock(), text.as_bytes()).map_err(Failure::new)?;
    if measured.failed > 0 {
        eprintln!(
            "{} of the pilots' {} tasks failed: what they took may not be what tasks take",
            measured.failed, measured.tasks
        );
    }
    eprintln!(
        "pilots: {} tasks, mean {:.3} s; typical error of the model at them {:.0} %; nodes are taken to have as many \
         cores as this machine",
        measured.tasks,
        question.task_seconds,
        error * 100.0
    );
    Ok(())
}

fn as_table(advice: &Advice, question: &Question) -> String {
    use std::fmt::Write;
    let mut out = format!("{} tasks\n", question.tasks);
    let _ =
        writeln!(out, "{:>6} {:>6} {:>12} {:>11}  limited by", "nodes", "slots", "predicted s", "efficiency");
    for row in &advice.rows {
        let _ = writeln!(
            out,
            "{:>6} {:>6} {:>12.2} {:>9.0} %  {}",
            row.nodes,
            row.nodes.saturating_mul(question.slots),
            row.seconds,
            row.efficiency * 100.0,
            row.bottleneck.name()
        );
    }
    if let Some(local) = question.local {
        let _ = writeln!(out, "here, without a cluster: {:.2} s", local.seconds(question.tasks));
    }
    let _ = match advice.choice {
        Choice::Local { .. } => writeln!(out, "run it locally: a cluster would win nothing"),
        Choice::Nodes(nodes) => writeln!(out, "take {nodes} nodes: more would save less than a tenth"),
    };
    out
}

fn as_json(advice: &Advice, question: &Question, measured: &Measured, error: f64) -> String {
    let rows: Vec<_> = advice
        .rows
        .iter()
        .map(|row| {
            json!({"nodes": row.nodes, "seconds": row.seconds, "efficiency": row.efficiency,
                   "bottleneck": row.bottleneck.name()})
        })
        .collect();
    let recommended = match advice.choice {
        Choice::Local { .. } => json!("local"),
        Choice::Nodes(nodes) => json!(nodes),
    };
    let local = question.local.map(|local| local.seconds(question.tasks));
    let plan = json!({
        "tasks": question.tasks, "task_seconds": question.task_seconds, "slots_per_node": question.slots,
        "rows": rows, "local_seconds": local, "recommended": recommended,
        "pilots": {"tasks": measured.tasks, "failed": measured.failed, "error": error},
    });
    format!("{plan}\n")
}

/// Runs all of it, and says what it took.
async fn compare(mut args: PlanArgs, json: bool, predicted: f64) -> Result<u8, Failure> {
    let started = Instant::now();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time, saturated")]
    let predicted_ms = (predicted * 1_000.0) as u64;
    args.command.tasks.predicted_ms = Some(predicted_ms);
    let code = super::run(args.command, json).await?;
    let actual = started.elapsed().as_secs_f64();
    let off = (predicted / actual.max(1e-9) - 1.0) * 100.0;
    eprintln!("predicted {predicted:.2} s on all nodes, took {actual:.2} s: {off:+.0} %");
    Ok(code)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::plan::Plan;
    use super::{MAX_SAMPLE, PlanArgs, Spread};

    #[derive(Debug, Parser)]
    struct Whole {
        #[command(flatten)]
        args: PlanArgs,
    }

    #[test]
    fn a_sample_is_spread_over_all_tasks() {
        let whole = Whole::try_parse_from("plan --run -j2 echo {} ::: a".split(' ')).expect("it parses");
        assert!(whole.args.run);
        let plan = Plan::new(&whole.args.command, Vec::new()).expect("a plan");
        let mut spread = Spread::new();
        for sequence in 1..=10_000 {
            spread.add(plan.maker.prepare(sequence, &[b"a".to_vec()], None));
        }
        assert_eq!(spread.count, 10_000);
        assert!((MAX_SAMPLE / 4..MAX_SAMPLE).contains(&spread.kept.len()), "{}", spread.kept.len());
        let last = spread.kept.last().map(|prepared| prepared.sequence);
        assert!(last.is_some_and(|last| last > 9_000), "{last:?}");
        assert_eq!(spread.kept.first().map(|prepared| prepared.sequence), Some(1));
    }
}
