//! `trine engine`: Dask, Ray or Spark across the cluster, as guests. An engine
//! is two standing jobs, one task for its scheduler and one on each node for a
//! worker: they are durable, belong to a user, take slots, and run again
//! elsewhere when a node dies, like anything else in group `jobs`. What a task
//! runs is in `agent.py`; this file only submits, asks and cancels.
//!
//! | file | what |
//! |---|---|
//! | [`kind`] | the three engines: their programs, ports, and how to connect; pure |
//! | [`check`] | whether each node has what the engine needs |
//! | [`credentials`] | what proves to an engine that one may use it |

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::BytesMut;
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use trine_compute::command::JobView;
use trine_compute::messages::RunningTask;
use trine_compute::record::encode_task;
use trine_compute::{JobId, JobSpec, Resources, TaskSpec};
use trine_types::NodeNumber;

use crate::admin::protocol::NodeReport;
use crate::admin::report::table;
use crate::cli::NodeTarget;
use crate::failure::Failure;
use crate::run::args::parse_memory;
use crate::run::client::{Api, Ask};
use kind::Kind;

mod check;
mod credentials;
pub mod kind;

/// How long an engine may take to be up.
const UP_LIMIT: Duration = Duration::from_mins(2);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(200);
/// What the scheduler's agent says first: 32 bytes of chance, and this.
const UP: u8 = b'+';
/// See [`UP`].
const GREETING_BYTES: usize = 33;
/// How long it may take to answer a look.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// Jobs in one page of the list.
const PAGE: usize = 1_000;
/// What every task of an engine runs.
const AGENT: &str = include_str!("engine/agent.py");
/// Describes to the agent what to run.
const PLAN: &str = "TRINE_ENGINE";
/// Proves agents to each other.
const SECRET: &str = "TRINE_ENGINE_SECRET";

/// Engines of others on all nodes.
#[derive(Debug, Subcommand)]
pub enum EngineCommand {
    /// Dask: its scheduler on one node, a worker on each.
    Dask {
        /// What to do.
        #[command(subcommand)]
        verb: Verb,
    },
    /// Ray: its head on one node, a worker on each.
    Ray {
        /// What to do.
        #[command(subcommand)]
        verb: Verb,
    },
    /// Spark: its master on one node, a worker on each.
    Spark {
        /// What to do.
        #[command(subcommand)]
        verb: Verb,
    },
}

/// What to do with an engine.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Bring it up, wait until it answers, and print where to connect.
    Up(UpArgs),
    /// Take it down.
    Down(NodeTarget),
    /// What of it runs where.
    Status(NodeTarget),
}

/// `trine engine … up`.
#[derive(Debug, Args, Clone)]
pub struct UpArgs {
    /// The environment with the engine, the same path on every node [default: the node's python3].
    #[arg(long, value_name = "DIR")]
    pub env: Option<PathBuf>,
    /// Processors of each worker; they count as taken on its node.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub cpus: u32,
    /// Memory of each worker, as in 2G [default: what the engine takes by itself].
    #[arg(long, value_name = "SIZE", value_parser = parse_memory)]
    pub memory: Option<u64>,
    /// The scheduler's port on whichever node it runs; the two after it are used, too.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..=65_533))]
    pub port: Option<u16>,
    /// Where the files go with which programs prove that they may use it [default: ./trine-ENGINE].
    #[arg(long, value_name = "DIR")]
    pub credentials: Option<PathBuf>,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeTarget,
}

/// What the agents are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Plan {
    engine: Kind,
    role: Role,
    port: u16,
    /// Where the scheduler's agent tells workers where it is.
    meet: u16,
    /// Where each node is reached.
    hosts: BTreeMap<u64, String>,
    cpus: u32,
    /// Bytes; 0: as the engine likes.
    memory: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Role {
    Scheduler,
    Worker,
}

/// Runs the command; the exit code.
///
/// # Errors
/// No node runs here, one lacks the engine, or it does not come up.
pub async fn run(command: EngineCommand, json: bool) -> Result<u8, Failure> {
    let (kind, verb) = match command {
        EngineCommand::Dask { verb } => (Kind::Dask, verb),
        EngineCommand::Ray { verb } => (Kind::Ray, verb),
        EngineCommand::Spark { verb } => (Kind::Spark, verb),
    };
    match verb {
        Verb::Up(args) => up(kind, &args, json).await,
        Verb::Down(target) => down(kind, &target).await,
        Verb::Status(target) => status(kind, &target, json).await,
    }
}

/// The two jobs of an engine that is up.
#[derive(Debug)]
struct Up {
    scheduler: Option<JobView>,
    workers: Option<JobView>,
}

impl Up {
    async fn find(api: &mut Api, kind: Kind) -> Result<Self, Failure> {
        let mut found = Self { scheduler: None, workers: None };
        let mut before = String::new();
        loop {
            let jobs: Vec<JobView> = api.json(&Ask::get(&format!("/v1/jobs?limit={PAGE}{before}"))).await?;
            let (count, oldest) = (jobs.len(), jobs.last().map(|job| job.id));
            for job in jobs.into_iter().filter(|job| !job.progress.phase.is_over()) {
                let place = match plan_of(&job) {
                    Some(Plan { engine, role: Role::Scheduler, .. }) if engine == kind => {
                        &mut found.scheduler
                    }
                    Some(Plan { engine, role: Role::Worker, .. }) if engine == kind => &mut found.workers,
                    _ => continue,
                };
                place.get_or_insert(job);
            }
            match oldest {
                Some(oldest) if count == PAGE => before = format!("&before={oldest}"),
                _ => return Ok(found),
            }
        }
    }

    fn jobs(&self) -> impl Iterator<Item = &JobView> {
        self.scheduler.iter().chain(&self.workers)
    }
}

fn plan_of(job: &JobView) -> Option<Plan> {
    let (_, text) = job.spec.env.iter().find(|(name, _)| name == PLAN)?;
    serde_json::from_str(text).ok()
}

async fn up(kind: Kind, args: &UpArgs, json: bool) -> Result<u8, Failure> {
    let mut api = Api::find(&args.node).await?;
    if let Some(job) = Up::find(&mut api, kind).await?.jobs().next() {
        return Err(Failure::new(format!("{kind} is up: job {} of {}", job.id, job.spec.user)).hint(
            format!("`trine engine {kind} status` says where; `trine engine {kind} down` takes it down"),
        ));
    }
    let nodes: Vec<NodeReport> = api.json(&Ask::get("/v1/nodes")).await?;
    let python = args.env.as_ref().map_or_else(
        || Ok("python3".to_owned()),
        |env| {
            let env = std::path::absolute(env).map_err(Failure::new)?;
            Ok::<_, Failure>(env.join("bin/python").display().to_string())
        },
    )?;
    for node in nodes.iter().filter(|node| !node.reachable) {
        eprintln!("trine: {} is not reachable: its worker starts when it is back", node.name);
    }
    check::every_node(&mut api, kind, &python, &nodes).await?;
    let made = credentials::make(kind, args.credentials.as_deref())?;
    let port = args.port.unwrap_or(kind.port());
    let memory = args.memory.unwrap_or(0);
    let plan = Plan {
        engine: kind,
        role: Role::Scheduler,
        port,
        meet: port + 1,
        hosts: hosts(&nodes)?,
        cpus: args.cpus,
        memory,
    };
    let one = (&plan, &made, python.as_str());
    let scheduler = submit(&mut api, one, Resources::NONE, &[None]).await?;
    let plan = Plan { role: Role::Worker, ..plan.clone() };
    let pins: Vec<_> = nodes.iter().map(|node| Some(NodeNumber(node.number))).collect();
    let need = Resources::of(args.cpus * 1_000, memory);
    let workers = match submit(&mut api, (&plan, &made, &python), need, &pins).await {
        Ok(workers) => workers,
        Err(failure) => {
            api.cancel(scheduler).await?;
            return Err(failure);
        }
    };
    let reachable = nodes.iter().filter(|node| node.reachable).count();
    let address = wait(&mut api, &plan, (scheduler, workers), reachable).await?;
    let url = kind.url(&address.to_string());
    let environment = made.write_environment(kind, &url)?;
    if json {
        println!("{}", serde_json::json!({ "address": url, "environment": environment }));
    } else {
        println!("{url}");
        eprintln!("{}", kind.advice(&url, &environment.display().to_string()));
    }
    Ok(0)
}

/// Where each node is reached by others.
fn hosts(nodes: &[NodeReport]) -> Result<BTreeMap<u64, String>, Failure> {
    let host = |node: &NodeReport| {
        let address = node.peer.iter().find_map(|address| address.parse::<SocketAddr>().ok());
        let address = address.ok_or_else(|| Failure::new(format!("{} has told no address", node.name)))?;
        Ok((node.number, address.ip().to_string()))
    };
    nodes.iter().map(host).collect()
}

async fn submit(
    api: &mut Api,
    (plan, made, python): (&Plan, &credentials::Made, &str),
    resources: Resources,
    pins: &[Option<NodeNumber>],
) -> Result<JobId, Failure> {
    let text = serde_json::to_string(plan).map_err(Failure::new)?;
    let mut env = vec![(PLAN.to_owned(), text), (SECRET.to_owned(), made.secret.clone())];
    env.extend(made.for_agents());
    let role = if plan.role == Role::Scheduler { "scheduler" } else { "workers" };
    let spec = JobSpec {
        name: format!("engine-{}-{role}", plan.engine),
        backups: false,
        standing: true,
        resources,
        env,
        ..JobSpec::default()
    };
    let job = api.create(&spec).await?;
    let mut records = BytesMut::new();
    for pin in pins {
        let task = TaskSpec { pin: *pin, ..TaskSpec::process([python, "-u", "-c", AGENT]) };
        encode_task(&task, &mut records);
    }
    api.append(job, 0, records.freeze()).await?;
    Ok(job)
}

async fn running(api: &mut Api, job: JobId) -> Result<Vec<RunningTask>, Failure> {
    Ok(api.json(&Ask::get(&format!("/v1/jobs/{job}/running"))).await?)
}

/// Waits until the scheduler answers and all workers that can run do.
async fn wait(
    api: &mut Api,
    plan: &Plan,
    (scheduler, workers): (JobId, JobId),
    count: usize,
) -> Result<SocketAddr, Failure> {
    let until = Instant::now() + UP_LIMIT;
    loop {
        let at = running(api, scheduler).await?;
        let address = at.first().and_then(|task| address(plan, task.node));
        let working = running(api, workers).await?.len();
        if let Some(address) = address
            && working >= count
            && answers(SocketAddr::new(address.ip(), plan.meet)).await
        {
            return Ok(address);
        }
        if Instant::now() >= until {
            let engine = plan.engine;
            let place = address.map_or("no node".to_owned(), |address| address.to_string());
            return Err(Failure::new(format!(
                "{engine} did not come up within {} s: its scheduler is at {place}, {working} of {count} \
                 workers run; it is left as it is",
                UP_LIMIT.as_secs()
            ))
            .hint(format!(
                "see whether ports {} to {} are free on every node, and slots for {} processors \
                 (`trine job ls`); `engine.log` in a task's directory says more; `trine engine {engine} down`",
                plan.port,
                plan.port + 2,
                plan.cpus
            )));
        }
        sleep(LOOK).await;
    }
}

/// Whether the scheduler's agent says that its scheduler takes connections: at
/// the scheduler's own port somebody else may be.
async fn answers(meet: SocketAddr) -> bool {
    let greeting = async {
        let mut stream = TcpStream::connect(meet).await?;
        let mut greeting = [0; GREETING_BYTES];
        stream.read_exact(&mut greeting).await?;
        Ok::<_, std::io::Error>(greeting.last() == Some(&UP))
    };
    matches!(timeout(CONNECT_LIMIT, greeting).await, Ok(Ok(true)))
}

fn address(plan: &Plan, node: NodeNumber) -> Option<SocketAddr> {
    let ip = plan.hosts.get(&node.0)?.parse().ok()?;
    Some(SocketAddr::new(ip, plan.port))
}

async fn down(kind: Kind, target: &NodeTarget) -> Result<u8, Failure> {
    let mut api = Api::find(target).await?;
    let found = Up::find(&mut api, kind).await?;
    let mut any = false;
    for job in found.jobs() {
        api.cancel(job.id).await?;
        any = true;
    }
    if any { Ok(0) } else { Err(not_up(kind)) }
}

fn not_up(kind: Kind) -> Failure {
    Failure::new(format!("{kind} is not up")).hint(format!("`trine engine {kind} up` brings it up"))
}

/// What `status --json` prints.
#[derive(Debug, Serialize)]
struct Status {
    engine: Kind,
    user: String,
    address: Option<String>,
    parts: Vec<Part>,
}

/// One part of an engine.
#[derive(Debug, Serialize)]
struct Part {
    role: Role,
    node: u64,
    name: String,
    job: JobId,
    attempt: Option<u32>,
    /// For how long it has been running; nothing: it waits for its node, or a slot.
    ms: Option<u64>,
}

async fn status(kind: Kind, target: &NodeTarget, json: bool) -> Result<u8, Failure> {
    let mut api = Api::find(target).await?;
    let found = Up::find(&mut api, kind).await?;
    let Some((first, plan)) = found.jobs().next().and_then(|job| Some((job, plan_of(job)?))) else {
        return Err(not_up(kind));
    };
    let nodes: Vec<NodeReport> = api.json(&Ask::get("/v1/nodes")).await?;
    let name = |number: u64| {
        let node = nodes.iter().find(|node| node.number == number);
        node.map_or_else(|| format!("n{number}"), |node| node.name.clone())
    };
    let mut status = Status { engine: kind, user: first.spec.user.clone(), address: None, parts: Vec::new() };
    let part = |role, job, RunningTask { node, attempt, ms, .. }| Part {
        role,
        node: node.0,
        name: name(node.0),
        job,
        attempt: Some(attempt),
        ms: Some(ms),
    };
    if let Some(job) = &found.scheduler {
        let at = running(&mut api, job.id).await?;
        let address = at.first().and_then(|task| address(&plan, task.node));
        status.address = address.map(|address| kind.url(&address.to_string()));
        status.parts.extend(at.into_iter().map(|task| part(Role::Scheduler, job.id, task)));
    }
    if let Some(job) = &found.workers {
        let at = running(&mut api, job.id).await?;
        let idle = plan.hosts.keys().filter(|node| !at.iter().any(|task| task.node.0 == **node));
        let waits = idle.map(|&node| Part {
            role: Role::Worker,
            node,
            name: name(node),
            job: job.id,
            attempt: None,
            ms: None,
        });
        let waits: Vec<Part> = waits.collect();
        status.parts.extend(at.into_iter().map(|task| part(Role::Worker, job.id, task)).chain(waits));
    }
    if json {
        println!("{}", serde_json::to_string(&status).map_err(Failure::new)?);
    } else {
        print!("{}", text(&status));
    }
    Ok(0)
}

fn text(status: &Status) -> String {
    let mut rows = vec![["ROLE", "NODE", "JOB", "STARTS", "RUNS FOR"].map(str::to_owned).to_vec()];
    for part in &status.parts {
        let role = if part.role == Role::Scheduler { "scheduler" } else { "worker" };
        let ms = part.ms.map_or("waits".to_owned(), |ms| format!("{}.{} s", ms / 1_000, ms % 1_000 / 100));
        let starts = part.attempt.map_or("-".to_owned(), |attempt| attempt.to_string());
        rows.push(vec![role.to_owned(), part.name.clone(), part.job.to_string(), starts, ms]);
    }
    let address = status.address.as_deref().unwrap_or("nowhere at the moment");
    format!("{} of {}: {address}\n{}", status.engine, status.user, table(&rows))
}
