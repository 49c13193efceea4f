//! [`Compute`]: what other rooms hold to submit jobs and to collect results.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};
use trine_cluster::MetaState;
use trine_replication::{ProposeError, Replication};
use trine_transport::{Endpoint, Lane};
use trine_types::{Clock, Entropy, GroupId, NodeId, NodeNumber};

use crate::blobs::Blobs;
use crate::body::{Bodies, Hands};
use crate::calendar;
use crate::codec::{self, RangeError};
use crate::command::{Answer, Command, JobView, Progress, Query, Refusal, Results, Tasks};
use crate::error::ComputeError;
use crate::events::Event;
use crate::guide::Guide;
use crate::limits::{MAX_RANGE_BYTES, MAX_TASKS_PER_RANGE};
use crate::machine::Applied;
use crate::messages::{Ask, MAX_DROPPED, PASSING, RunningTask, SERVICE, Told};
use crate::run;
use crate::run::shelf::Shelf;
use crate::spec::{BadSpec, BodyKind, JobId, JobSpec, Resources, Schedule, TaskResult, TaskSpec, Waited};
use crate::tokens::TaskTokens;

/// How long a submitter is slowed down before it is told so.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between attempts to submit when too much is waiting.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a node that has no results yet holds its answer back.
pub(crate) const RESULTS_PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of results that are asked for at once.
const RESULTS_BYTES: u32 = 1024 * 1024;
/// Pause before the next node is asked for results.
const RESULTS_PAUSE: Duration = Duration::from_millis(50);
/// How long results are sought before their reader is told.
const RESULTS_LIMIT: Duration = Duration::from_mins(1);
/// Jobs of which a handle remembers something.
const REMEMBERED_JOBS: usize = 1_024;

/// What this room stands on.
pub struct Parts {
    /// This node.
    pub number: NodeNumber,
    /// Calls to and from other nodes.
    pub endpoint: Endpoint,
    /// Groups.
    pub replication: Replication,
    /// The cluster's nodes and placement.
    pub meta: watch::Receiver<Arc<MetaState>>,
    /// What [`crate::machine::JobsMachine::new`] gave beside the machine.
    pub applied: watch::Receiver<Option<Applied>>,
    /// Wall clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// What this node gives to the execution of tasks.
    pub hands: Hands,
    /// Where what becomes of jobs is told. What finds no room is not told.
    pub events: mpsc::Sender<Event>,
}

/// What the tasks of this room share.
pub(crate) struct Shared {
    pub(crate) number: NodeNumber,
    pub(crate) endpoint: Endpoint,
    pub(crate) replication: Replication,
    pub(crate) meta: watch::Receiver<Arc<MetaState>>,
    pub(crate) applied: watch::Receiver<Option<Applied>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) slots: Resources,
    pub(crate) bodies: Bodies,
    pub(crate) shelf: Shelf,
    pub(crate) events: mpsc::Sender<Event>,
    tokens: Option<TaskTokens>,
    // Touched once per range, by whichever task submits.
    known: Mutex<BTreeMap<JobId, Known>>,
}

/// What a handle remembers of a job that is submitted through it.
struct Known {
    kind: BodyKind,
    /// How long its ranges took to become durable.
    submitted: Waited,
}

/// Master and worker on one node, and the way to the master from here. Cheap to
/// clone.
#[derive(Clone)]
pub struct Compute {
    shared: Arc<Shared>,
    stop: Arc<watch::Sender<bool>>,
}

impl Compute {
    /// Starts the worker, and the master that wakes when this node leads. Must
    /// be called within a tokio runtime.
    #[must_use]
    pub fn start(parts: Parts) -> Self {
        let shared = Arc::new(Shared {
            number: parts.number,
            endpoint: parts.endpoint,
            replication: parts.replication,
            meta: parts.meta,
            applied: parts.applied,
            clock: parts.clock,
            entropy: parts.entropy,
            slots: parts.hands.slots,
            bodies: parts.hands.bodies,
            shelf: parts.hands.shelf,
            events: parts.events,
            tokens: parts.hands.tokens,
            known: Mutex::default(),
        });
        let stop = Arc::new(watch::Sender::new(false));
        run::start(&shared, &stop.subscribe());
        Self { shared, stop }
    }

    /// Ends master and worker; what runs here is killed, and runs elsewhere.
    pub fn shut_down(&self) {
        self.stop.send_replace(true);
    }

    async fn propose(&self, command: &Command) -> Result<Answer, ComputeError> {
        let (command, began) = (codec::encode(command), Instant::now());
        loop {
            match self.shared.replication.propose(GroupId::JOBS, command.clone()).await {
                Ok(reply) => {
                    return match codec::decode(&reply.body, "answer")? {
                        Answer::Refused(refusal) => Err(refusal.into()),
                        answer => Ok(answer),
                    };
                }
                // Not executed: the submitter waits, so that nothing piles up.
                Err(ProposeError::Overloaded(_)) if began.elapsed() < PATIENCE => sleep(PAUSE).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn query<T: DeserializeOwned>(&self, query: &Query) -> Result<T, ComputeError> {
        let reply = self.shared.replication.query(GroupId::JOBS, codec::encode(query)).await?;
        let answer: Result<T, Refusal> = codec::decode(&reply.body, "answer")?;
        Ok(answer?)
    }

    /// Submits a job without tasks; durable before the answer.
    ///
    /// # Errors
    /// [`ComputeError`].
    pub async fn create(&self, spec: JobSpec) -> Result<JobId, ComputeError> {
        if let Some(Schedule::Cron { text, zone, .. }) = &spec.when.schedule {
            let wrong = |why| Refusal::Bad(BadSpec::Field { field: "when.schedule".into(), why });
            calendar::check(text, zone).map_err(wrong)?;
        }
        let kind = spec.body.clone();
        match self.propose(&Command::Create { spec: Box::new(spec) }).await? {
            Answer::Created(job) => {
                self.remember(job, kind);
                Ok(job)
            }
            _ => Err(codec::DecodeError::Malformed("job id").into()),
        }
    }

    fn remember(&self, job: JobId, kind: BodyKind) {
        let mut known = self.known();
        if known.len() >= REMEMBERED_JOBS {
            known.pop_first();
        }
        known.insert(job, Known { kind, submitted: Waited::default() });
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<JobId, Known>> {
        self.shared.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn kind(&self, job: JobId) -> Result<BodyKind, ComputeError> {
        let known = self.known().get(&job).map(|known| known.kind.clone());
        if let Some(known) = known {
            return Ok(known);
        }
        let kind = self.job(job).await?.spec.body;
        self.remember(job, kind.clone());
        Ok(kind)
    }

    /// Adds tasks to an open job; durable before the answer, which is the index
    /// of the first. Many tasks are several ranges, one after the other.
    ///
    /// # Errors
    /// [`ComputeError`]; after [`ComputeError::Unknown`] some or all may have
    /// been added: look at the job, or use [`Compute::append_after`].
    pub async fn append(&self, job: JobId, tasks: &[TaskSpec]) -> Result<u64, ComputeError> {
        self.append_from(job, None, tasks).await
    }

    /// The same if the job has exactly `after` tasks so far: repeated after a
    /// lost answer, it adds nothing twice.
    ///
    /// # Errors
    /// [`ComputeError`].
    pub async fn append_after(
        &self,
        job: JobId,
        after: u64,
        tasks: &[TaskSpec],
    ) -> Result<u64, ComputeError> {
        self.append_from(job, Some(after), tasks).await
    }

    async fn append_from(
        &self,
        job: JobId,
        after: Option<u64>,
        mut tasks: &[TaskSpec],
    ) -> Result<u64, ComputeError> {
        let kind = self.kind(job).await?;
        let (mut first, mut after) = (None, after);
        while !tasks.is_empty() {
            let (count, encoded) = longest_range(tasks, &kind)?;
            let (now, later) = tasks.split_at(count);
            let pinned = now.iter().any(|task| task.pin.is_some());
            let count = u32::try_from(count).map_err(|_| RangeError::Range)?;
            let command = Command::Append { job, after, count, pinned, tasks: encoded };
            let began = Instant::now();
            let Answer::Appended { first: at } = self.propose(&command).await? else {
                return Err(codec::DecodeError::Malformed("index of a task").into());
            };
            if let Some(known) = self.known().get_mut(&job) {
                known.submitted.add(count.into(), began.elapsed());
            }
            first.get_or_insert(at);
            after = after.map(|after| after + u64::from(count));
            tasks = later;
        }
        match first {
            Some(first) => Ok(first),
            None => Ok(self.job(job).await?.progress.tasks),
        }
    }

    /// No more tasks come: the job is over once all are done.
    ///
    /// # Errors
    /// [`ComputeError`]; it may be repeated.
    pub async fn close(&self, job: JobId) -> Result<(), ComputeError> {
        let submitted = self.known().get(&job).map(|known| known.submitted).unwrap_or_default();
        self.propose(&Command::Close { job, submitted }).await.map(drop)
    }

    /// What of the job is not done yet shall not be done: running tasks are
    /// killed.
    ///
    /// # Errors
    /// [`ComputeError`]; it may be repeated.
    pub async fn cancel(&self, job: JobId) -> Result<(), ComputeError> {
        self.propose(&Command::Cancel { job }).await.map(drop)
    }

    /// Removes a job that is over, with tasks and results.
    ///
    /// # Errors
    /// [`ComputeError`]; it may be repeated.
    pub async fn forget(&self, job: JobId) -> Result<(), ComputeError> {
        while let Answer::Forgotten { more: true } = self.propose(&Command::Forget { job }).await? {}
        Ok(())
    }

    /// One job.
    ///
    /// # Errors
    /// [`ComputeError`].
    pub async fn job(&self, job: JobId) -> Result<JobView, ComputeError> {
        self.query(&Query::Job { job }).await
    }

    /// Jobs, newest first, those before `before` only.
    ///
    /// # Errors
    /// [`ComputeError`].
    pub async fn jobs(&self, before: Option<JobId>, limit: u32) -> Result<Vec<JobView>, ComputeError> {
        self.query(&Query::Jobs { before, limit }).await
    }

    /// The schedules that are not cancelled.
    ///
    /// # Errors
    /// [`ComputeError`].
    pub async fn schedules(&self) -> Result<Vec<JobView>, ComputeError> {
        self.query(&Query::Schedules).await
    }

    /// The range of a job's tasks that contains task `from`, as submitted; the
    /// index of its first, and the tasks. `None`: there is no such task.
    ///
    /// # Errors
    /// [`ComputeError`].
    pub async fn tasks(&self, job: JobId, from: u64) -> Result<Option<(u64, Vec<TaskSpec>)>, ComputeError> {
        let range: Option<Tasks> = self.query(&Query::Tasks { job, from }).await?;
        let decode = |range: Tasks| Ok((range.first, codec::decode_tasks(range.tasks)?));
        range.map(decode).transpose()
    }

    /// Follows the results of a job in the order in which they are committed,
    /// from the `from`th on: whoever comes back says how many it has.
    #[must_use]
    pub fn results(&self, job: JobId, from: u64) -> ResultStream {
        let guide = Guide::new(self.shared.replication.clone(), self.shared.meta.clone());
        ResultStream { shared: self.shared.clone(), guide, job, next: from }
    }

    /// What of a job runs where now, as the master knows it.
    ///
    /// # Errors
    /// [`ComputeError::Unavailable`].
    pub async fn running(&self, job: JobId) -> Result<Vec<RunningTask>, ComputeError> {
        match self.ask_master(&Ask::Running { job }).await? {
            Told::Running(running) => Ok(running),
            _ => Err(codec::DecodeError::Malformed("list of running tasks").into()),
        }
    }

    /// Nobody wants these tasks of a job any more: what has not begun does not,
    /// what runs is killed, and their results say so; but for those that have
    /// another result. A master that dies now may have forgotten it.
    ///
    /// # Errors
    /// [`ComputeError::Unavailable`]; it may be repeated.
    pub async fn drop_tasks(&self, job: JobId, tasks: &[u64]) -> Result<(), ComputeError> {
        for tasks in tasks.chunks(MAX_DROPPED) {
            self.ask_master(&Ask::Drop { job, tasks: tasks.to_vec() }).await?;
        }
        Ok(())
    }

    async fn ask_master(&self, ask: &Ask) -> Result<Told, ComputeError> {
        let mut guide = Guide::new(self.shared.replication.clone(), self.shared.meta.clone());
        let (ask, until) = (codec::encode(ask), Instant::now() + PATIENCE);
        while Instant::now() < until {
            if let Some((asked, id)) = guide.target() {
                let told = self.shared.endpoint.call(id, Lane::Request, SERVICE, ask.clone(), PASSING).await;
                match told.ok().and_then(|answer| codec::decode(&answer, "answer").ok()) {
                    Some(Told::NotMaster(leader)) => guide.not_master(asked, leader),
                    Some(told) => return Ok(told),
                    None => guide.failed(asked),
                }
            }
            sleep(RESULTS_PAUSE).await;
        }
        Err(ComputeError::Unavailable)
    }

    /// Blobs and kept outputs of all nodes.
    #[must_use]
    pub fn blobs(&self) -> Blobs {
        Blobs::new(self.shared.clone())
    }

    /// Where this node puts blobs.
    #[must_use]
    pub fn shelf(&self) -> &Shelf {
        &self.shared.shelf
    }

    /// What tasks of this node log in with, if it executes any.
    #[must_use]
    pub fn tokens(&self) -> Option<TaskTokens> {
        self.shared.tokens.clone()
    }

    /// The workers that answer, and what each can run side by side.
    pub async fn workers(&self) -> Vec<(NodeNumber, Resources)> {
        let nodes: Vec<_> =
            self.shared.meta.borrow().nodes.iter().map(|(number, node)| (*number, node.id)).collect();
        let ask = codec::encode(&Ask::Slots);
        let asked = nodes.into_iter().map(async |(number, id)| {
            let answer = self.shared.endpoint.call(id, Lane::Request, SERVICE, ask.clone(), PASSING).await;
            match codec::decode(&answer.ok()?, "answer") {
                Ok(Told::Slots(slots)) if slots.cpu_milli > 0 => Some((number, slots)),
                _ => None,
            }
        });
        join_all(asked).await.into_iter().flatten().collect()
    }
}

/// As many of the first tasks as fit into one range, encoded.
fn longest_range(tasks: &[TaskSpec], kind: &BodyKind) -> Result<(usize, Bytes), RangeError> {
    let mut count = tasks.len().min(MAX_TASKS_PER_RANGE);
    loop {
        match codec::encode_tasks(&tasks[..count], kind) {
            Ok(encoded) => return Ok((count, encoded)),
            // Halving wastes at most as much work as the range itself takes.
            Err(RangeError::Range) if count > 1 => count = count.div_ceil(2),
            Err(RangeError::Range) => return Err(RangeError::Task(0, MAX_RANGE_BYTES)),
            Err(other) => return Err(other),
        }
    }
}

/// See [`Compute::results`].
pub struct ResultStream {
    shared: Arc<Shared>,
    guide: Guide,
    job: JobId,
    next: u64,
}

/// What a reader of results gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// How far the job is.
    pub progress: Progress,
    /// More results; none: the job is over, and all have been read.
    pub results: Vec<TaskResult>,
}

impl ResultStream {
    /// How many results have been passed: where to go on later.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.next
    }

    /// The next results, as soon as there are any. A part without results is
    /// the last: the job is over.
    ///
    /// # Errors
    /// [`ComputeError`]; call again to go on.
    pub async fn next(&mut self) -> Result<Part, ComputeError> {
        let mut until = Instant::now() + RESULTS_LIMIT;
        loop {
            let Some(found) = self.ask().await? else {
                if Instant::now() >= until {
                    return Err(ComputeError::Unavailable);
                }
                sleep(RESULTS_PAUSE).await;
                continue;
            };
            until = Instant::now() + RESULTS_LIMIT;
            if found.results.is_empty() && !found.progress.phase.is_over() {
                continue;
            }
            let decode = |row: &crate::command::Encoded| codec::decode::<TaskResult>(&row.0, "result");
            let results = found.results.iter().map(decode).collect::<Result<Vec<_>, _>>()?;
            self.next += results.len() as u64;
            return Ok(Part { progress: found.progress, results });
        }
    }

    /// Asks the master; `None`: it was not found, ask again.
    async fn ask(&mut self) -> Result<Option<Results>, ComputeError> {
        let Some((asked, id)): Option<(NodeNumber, NodeId)> = self.guide.target() else { return Ok(None) };
        let patience_ms = u32::try_from(RESULTS_PATIENCE.as_millis()).unwrap_or(u32::MAX);
        let ask = Ask::Results { job: self.job, from: self.next, bytes: RESULTS_BYTES, patience_ms };
        let (body, limit) = (codec::encode(&ask), RESULTS_PATIENCE + PASSING);
        let Ok(answer) = self.shared.endpoint.call(id, Lane::Request, SERVICE, body, limit).await else {
            self.guide.failed(asked);
            return Ok(None);
        };
        match codec::decode(&answer, "answer")? {
            Told::Results(results) => {
                self.guide.confirmed(asked);
                let results: Result<Results, Refusal> = codec::decode(&results, "results")?;
                Ok(Some(results?))
            }
            Told::NotMaster(leader) => {
                self.guide.not_master(asked, leader);
                Ok(None)
            }
            _ => Err(codec::DecodeError::Malformed("results").into()),
        }
    }
}
