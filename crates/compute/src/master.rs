//! The master's rules: what is durable in group `jobs` goes in, together with
//! what workers tell; orders for workers and results to commit come out. Pure:
//! time is an argument, rows are read through a view.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;
use trine_storage::View;
use trine_types::NodeNumber;

use crate::amounts::Amounts;
use crate::calendar;
use crate::codec::{self, CHANGED, RANGE_COUNT, SPEC, changed_key, job_key, part_key};
use crate::command::{Encoded, Failed, Phase, Progress, Refusal, Returned};
use crate::due::{Cron, Times};
use crate::events::{Chronicle, Event, Fate};
use crate::limits::OPEN_WITHOUT_CLIENT;
use crate::messages::{Beat, Ended, Granted, MAX_ORDERS_BYTES, MAX_RUNNING_TOLD, Orders, RunningTask};
use crate::planted;
use crate::schedule::{self, Action, Grant, JobFacts, Next, Scheduler, Slots, Verdict, Why};
use crate::spec::{Attempt, JobId, JobSpec, Outcome, Output, Schedule, Stamps, TaskResult, TaskSpec, Waited};
use crate::state::{self, RangeRow, Turn};

use cache::Cache;

mod cache;

/// Rows that are read at once while following the log.
const ROWS_AT_ONCE: usize = 1_024;
/// Results in one command, by count and bytes.
const MAX_COMMIT_RESULTS: usize = 1_024;
/// See [`MAX_COMMIT_RESULTS`].
const MAX_COMMIT_BYTES: usize = 4 * 1024 * 1024;

/// So many results that a worker may let go are told at once; fewer travel
/// with its next task, or with the next tick.
const MUCH_SETTLED: usize = 256;

/// A range as it was seen in the log.
#[derive(Debug, Clone, Copy)]
struct Range {
    count: u32,
    /// When this master saw it.
    since: Duration,
}

/// A job that is not over.
#[derive(Debug)]
struct Entry {
    spec: Bytes,
    about: JobSpec,
    need: Slots,
    tasks: u64,
    ranges: BTreeMap<u64, Range>,
}

/// What the master remembers of a worker.
#[derive(Debug, Default)]
struct Worker {
    orders: Orders,
    told: BTreeSet<JobId>,
    registered: Slots,
    free: Slots,
    ahead: u32,
    size: usize,
}

/// A result on its way into the log, and who holds it until then.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    pub(crate) returned: Returned,
    holder: Option<(NodeNumber, Attempt)>,
    /// When it came.
    since: Duration,
}

/// How long the results of a job waited for the log under this master.
#[derive(Debug, Clone, Copy, Default)]
struct Waits {
    committed: Waited,
    /// Results that still wait.
    open: u64,
    /// Nothing more comes.
    over: bool,
}

/// What waits for other jobs, or for its deadline.
#[derive(Debug, Default)]
struct Due {
    /// Jobs that wait for others,
    waiting: BTreeSet<JobId>,
    /// some of which may be over since they were looked at.
    some_are_over: bool,
    /// When jobs must be over, in milliseconds since the epoch; long ago, if
    /// what they wait for has not succeeded.
    deadlines: BTreeMap<JobId, u64>,
    /// Jobs that the log shall review.
    to_review: BTreeSet<JobId>,
    /// Jobs that take more tasks, and when something of them was heard last.
    open: BTreeMap<JobId, Duration>,
    /// Schedules, and what time they wait for.
    schedules: BTreeMap<JobId, (Cron, Option<u64>)>,
    /// What the log shall look at: what is due of a schedule, and what is next.
    to_fire: BTreeMap<JobId, Times>,
}

/// See the module.
pub(crate) struct Master {
    reign: u64,
    me: NodeNumber,
    scheduler: Scheduler,
    jobs: BTreeMap<JobId, Entry>,
    workers: BTreeMap<NodeNumber, Worker>,
    /// The last change of the log that was followed.
    seen: u64,
    granted: BTreeMap<Attempt, Duration>,
    pending: VecDeque<Pending>,
    /// Results that wait to be committed: told again, they are not news.
    committing: BTreeSet<Attempt>,
    /// Jobs that shall end with what runs now.
    halting: BTreeSet<JobId>,
    to_cancel: Vec<JobId>,
    waits: BTreeMap<JobId, Waits>,
    cache: Cache,
    /// What of all this is told to whoever listens.
    chronicle: Chronicle,
    due: Due,
}

impl Master {
    /// Begins a reign over what `view` has; `workers` may be running something.
    ///
    /// # Errors
    /// [`Refusal::Corrupt`].
    pub(crate) fn take_over(
        (reign, me): (u64, NodeNumber),
        config: schedule::Config,
        view: &dyn View,
        workers: impl IntoIterator<Item = NodeNumber>,
        now: Duration,
    ) -> Result<Self, Refusal> {
        let mut master = Self {
            reign,
            me,
            scheduler: Scheduler::new(config),
            jobs: BTreeMap::new(),
            workers: BTreeMap::new(),
            seen: 0,
            granted: BTreeMap::new(),
            pending: VecDeque::new(),
            committing: BTreeSet::new(),
            halting: BTreeSet::new(),
            to_cancel: Vec::new(),
            waits: BTreeMap::new(),
            cache: Cache::default(),
            chronicle: Chronicle::default(),
            due: Due::default(),
        };
        master.follow(view, now)?;
        master.chronicle.awake();
        let jobs: Vec<JobId> = master.jobs.keys().copied().collect();
        for job in jobs {
            state::done_tasks(view, job, |index| master.scheduler.committed(job, index))?;
            state::failures(view, job, |past| master.scheduler.failed_before(job, past))?;
        }
        master.scheduler.take_over(workers, now);
        Ok(master)
    }

    /// Who speaks.
    pub(crate) fn reign(&self) -> u64 {
        self.reign
    }

    /// How many jobs are not over.
    pub(crate) fn live_jobs(&self) -> usize {
        self.jobs.len()
    }

    /// A sign of life of a worker that has nothing to tell.
    pub(crate) fn heard(&mut self, node: NodeNumber, now: Duration) {
        self.scheduler.heard(node, now);
    }

    /// Whether the worker holds a lease.
    pub(crate) fn knows(&self, node: NodeNumber) -> bool {
        self.scheduler.knows(node)
    }

    /// Takes in what has changed in the log since the last call.
    ///
    /// # Errors
    /// [`Refusal::Corrupt`].
    pub(crate) fn follow(&mut self, view: &dyn View, now: Duration) -> Result<(), Refusal> {
        loop {
            let (from, to) = (changed_key(self.seen), [CHANGED + 1]);
            let rows = view.scan(Bound::Excluded(&from), Bound::Excluded(&to), ROWS_AT_ONCE)?;
            for (key, job) in &rows {
                let job = <[u8; 8]>::try_from(&job[..]).map_err(|_| Refusal::Corrupt("a change".into()))?;
                self.follow_job(view, JobId(u64::from_be_bytes(job)), now)?;
                self.seen = codec::last_number(key).unwrap_or(self.seen);
            }
            if rows.len() < ROWS_AT_ONCE {
                break;
            }
        }
        if std::mem::take(&mut self.due.some_are_over) {
            for job in self.due.waiting.clone() {
                self.follow_job(view, job, now)?;
            }
        }
        Ok(())
    }

    fn follow_job(&mut self, view: &dyn View, job: JobId, now: Duration) -> Result<(), Refusal> {
        let Some(progress) = state::progress(view, job)? else { return Ok(()) };
        if progress.schedule.is_some() {
            return self.follow_schedule(view, job, &progress);
        }
        if progress.phase == Phase::Open {
            self.due.open.insert(job, now);
        } else {
            self.due.open.remove(&job);
        }
        if progress.phase.is_over() {
            self.tell_end(view, job, progress)?;
            self.due.some_are_over = true;
            self.due.waiting.remove(&job);
            self.due.deadlines.remove(&job);
            self.due.to_review.remove(&job);
            self.due.schedules.remove(&job);
            self.due.to_fire.remove(&job);
            self.end(job, now);
            return Ok(());
        }
        if !self.jobs.contains_key(&job) {
            let Some(spec) = state::spec(view, job)? else { return Ok(()) };
            self.due.deadlines.extend(spec.when.deadline_ms.map(|deadline| (job, deadline)));
            match state::turn(view, &spec)? {
                Turn::Now => drop(self.due.waiting.remove(&job)),
                Turn::Later => {
                    self.due.waiting.insert(job);
                    return Ok(());
                }
                Turn::Never(_) => {
                    self.due.waiting.insert(job);
                    self.due.deadlines.insert(job, 0);
                    return Ok(());
                }
            }
            self.scheduler.add_job(job, facts(&spec));
            self.chronicle.submitted(job, &spec);
            let need = spec.resources.of_task().into();
            let (about, spec) = (spec, view.get(&job_key(SPEC, job))?.unwrap_or_default());
            self.jobs.insert(job, Entry { spec, about, need, tasks: 0, ranges: BTreeMap::new() });
        }
        if progress.phase == Phase::Halting {
            self.halting.insert(job);
            self.scheduler.halt(job);
        }
        while let Some(known) = self.jobs.get(&job).map(|entry| entry.tasks).filter(|&n| n < progress.tasks) {
            let (from, to) = (part_key(RANGE_COUNT, job, known), part_key(RANGE_COUNT, job, u64::MAX));
            let rows = view.scan(Bound::Included(&from), Bound::Included(&to), ROWS_AT_ONCE)?;
            if rows.is_empty() {
                break;
            }
            for (key, value) in rows {
                self.add_range(view, job, RangeRow::decode(&key, &value)?, now)?;
            }
        }
        Ok(())
    }

    fn follow_schedule(&mut self, view: &dyn View, job: JobId, progress: &Progress) -> Result<(), Refusal> {
        self.due.some_are_over |= progress.phase.is_over();
        self.due.schedules.remove(&job);
        self.due.to_fire.remove(&job);
        let schedule = state::spec(view, job)?.and_then(|spec| spec.when.schedule);
        if let (Some(Schedule::Cron { text, zone, .. }), Phase::Closed) = (schedule, progress.phase) {
            let next = progress.schedule.and_then(|scheduled| scheduled.next_ms);
            self.due.schedules.insert(job, (Cron(text, zone), next));
        }
        Ok(())
    }

    fn add_range(
        &mut self,
        view: &dyn View,
        job: JobId,
        row: RangeRow,
        now: Duration,
    ) -> Result<(), Refusal> {
        if let Some(entry) = self.jobs.get_mut(&job) {
            entry.tasks = row.first + u64::from(row.count);
            entry.ranges.insert(row.first, Range { count: row.count, since: now });
        }
        if planted::active(planted::RANGE_LOST) && row.first > 0 {
            return Ok(());
        }
        if !row.pinned {
            self.scheduler.add_tasks(job, row.first, u64::from(row.count));
            return Ok(());
        }
        let tasks = self.cache.range(view, job, row.first)?;
        for (index, task) in (row.first..).zip(tasks) {
            match codec::decode::<TaskSpec>(task, "task").ok().and_then(|task| task.pin) {
                Some(node) => self.scheduler.add_pinned(job, index, node),
                None => self.scheduler.add_tasks(job, index, 1),
            }
        }
        Ok(())
    }

    fn tell_end(&mut self, view: &dyn View, job: JobId, progress: Progress) -> Result<(), Refusal> {
        if let Some(entry) = self.jobs.get(&job) {
            self.chronicle.over(job, entry.about.clone(), progress);
        } else if let Some(spec) = state::spec(view, job)? {
            // It was submitted, and over, since the log was looked at.
            self.chronicle.submitted(job, &spec);
            self.chronicle.over(job, spec, progress);
        }
        Ok(())
    }

    fn tell_started(&mut self, attempt: Attempt) {
        if let Some(entry) = self.jobs.get(&attempt.job) {
            self.chronicle.started(attempt, &entry.about);
        }
    }

    /// Tasks that nobody wants any more: they do not begin, what runs of them is
    /// killed, and that they were cancelled is their result, unless they have
    /// another one.
    pub(crate) fn drop_tasks(&mut self, job: JobId, tasks: &[u64], now: Duration) {
        for &index in tasks {
            if self.scheduler.is_open(job, index) {
                self.scheduler.committed(job, index);
                self.enqueue(job, &without_run(index, self.me, Outcome::Cancelled), None, now);
            }
        }
        self.act(now);
    }

    /// What of a job runs where.
    pub(crate) fn running(&self, job: JobId, now: Duration) -> Vec<RunningTask> {
        let attempts = self.scheduler.attempts(job).take(MAX_RUNNING_TOLD);
        let told = attempts.map(|(index, running)| RunningTask {
            index,
            attempt: running.number,
            node: running.node,
            ms: u64::try_from(now.saturating_sub(running.since).as_millis()).unwrap_or(u64::MAX),
        });
        told.collect()
    }

    /// What is to be told since this was asked last.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        self.chronicle.take()
    }

    /// The job is over: nothing of it matters any more.
    fn end(&mut self, job: JobId, now: Duration) {
        if self.jobs.remove(&job).is_none() {
            return;
        }
        if let Some(waits) = self.waits.get_mut(&job) {
            waits.over = true;
        }
        self.scheduler.cancel(job);
        self.cache.forget(job);
        self.halting.remove(&job);
        self.granted.retain(|attempt, _| attempt.job != job);
        self.act(now);
        for worker in self.workers.values_mut().filter(|worker| worker.told.contains(&job)) {
            worker.told.remove(&job);
            worker.orders.over.push(job);
        }
    }

    /// Takes in what a worker tells. False: it spoke to another master, and
    /// must be told who this one is.
    pub(crate) fn beat(&mut self, node: NodeNumber, beat: Beat, now: Duration) -> bool {
        if beat.reign != self.reign {
            // It has lost an answer, or never had one: what was in it is told
            // again, tasks by the scheduler.
            if let Some(worker) = self.workers.get_mut(&node) {
                worker.told.clear();
                (worker.orders, worker.size) = (Orders::default(), 0);
            }
            return false;
        }
        let slots = Slots::from(beat.slots);
        // What it takes ahead, and what of that waits there already.
        let waiting = beat.held.iter().filter(|held| held.elapsed.is_none()).count() as u64;
        let tasks = u64::from(beat.ahead).saturating_add(waiting);
        let ahead = Slots {
            cpu_milli: tasks.saturating_mul(slots.cpu_milli.max(1_000)),
            memory_bytes: tasks.saturating_mul(slots.memory_bytes),
            named: Amounts::NONE,
        };
        let registered = slots.plus(ahead);
        let worker = self.workers.entry(node).or_default();
        if !self.scheduler.knows(node) || worker.registered != registered {
            self.scheduler.worker_up(node, registered, now);
        }
        (worker.registered, worker.free, worker.ahead) = (registered, beat.free.into(), beat.ahead);
        for ended in beat.ended {
            self.tell_started(ended.attempt);
            self.chronicle.ended(&ended.attempt);
            self.ended(node, ended, now);
        }
        for held in beat.held.iter().filter(|held| held.elapsed.is_some()) {
            self.tell_started(held.attempt);
        }
        let held: Vec<schedule::Held> = beat
            .held
            .iter()
            .map(|held| schedule::Held { attempt: held.attempt, elapsed: held.elapsed })
            .collect();
        self.scheduler.running(node, &held, now);
        self.act(now);
        true
    }

    fn ended(&mut self, node: NodeNumber, ended: Ended, now: Duration) {
        let Ended { attempt, mut result } = ended;
        if self.committing.contains(&attempt) {
            return;
        }
        let stamps = &mut result.stamps;
        let here = stamps.prepared.saturating_add(stamps.executed).saturating_add(stamps.returned);
        if let Some(since) = self.granted.remove(&attempt) {
            stamps.passing = micros(now.saturating_sub(since)).saturating_sub(here);
            stamps.queued = micros(since.saturating_sub(self.known_since(attempt)));
        }
        let runtime = Duration::from_micros(result.stamps.executed);
        let verdict = match &result.outcome {
            outcome if outcome.is_success() => Verdict::Done,
            Outcome::Lost | Outcome::Cancelled | Outcome::NotStaged { .. } => Verdict::Lost,
            _ => Verdict::Failed,
        };
        match self.scheduler.finished(node, attempt, verdict, runtime, now) {
            Next::Commit | Next::GiveUp => {
                self.committing.insert(attempt);
                self.enqueue(attempt.job, &result, Some((node, attempt)), now);
            }
            Next::Stale if planted::active(planted::STALE_ATTEMPT_COUNTS) => {
                self.enqueue(attempt.job, &result, Some((node, attempt)), now);
            }
            // Its worker keeps it until it counts, whoever is the master then.
            Next::Again if verdict == Verdict::Failed => {
                self.committing.insert(attempt);
                self.count_failure(node, attempt, now);
            }
            Next::Again | Next::Stale => self.settle(node, attempt),
        }
    }

    fn known_since(&self, attempt: Attempt) -> Duration {
        let range = self.jobs.get(&attempt.job).and_then(|entry| range_of(entry, attempt.index));
        range.map(|(_, range)| range.since).unwrap_or_default()
    }

    fn enqueue(
        &mut self,
        job: JobId,
        result: &TaskResult,
        holder: Option<(NodeNumber, Attempt)>,
        since: Duration,
    ) {
        if holder.is_some() {
            self.waits.entry(job).or_default().open += 1;
        }
        let returned = Returned {
            job,
            index: result.index,
            success: result.outcome.is_success(),
            result: codec::encode(result),
            again: None,
        };
        self.pending.push_back(Pending { returned, holder, since });
    }

    /// Puts into the log that a task runs again.
    fn count_failure(&mut self, node: NodeNumber, attempt: Attempt, since: Duration) {
        let Attempt { job, index, attempt: number } = attempt;
        let again = Some(Failed { attempt: number, node, lost: false });
        let returned = Returned { job, index, success: false, result: Bytes::new(), again };
        self.pending.push_back(Pending { returned, holder: Some((node, attempt)), since });
    }

    fn settle(&mut self, node: NodeNumber, attempt: Attempt) {
        if let Some(worker) = self.workers.get_mut(&node) {
            worker.orders.settled.push(attempt);
        }
    }

    /// What is due by time.
    pub(crate) fn tick(&mut self, now: Duration) {
        let actions = self.scheduler.tick(now);
        self.perform(actions, now);
        let lost: Vec<NodeNumber> =
            self.workers.keys().copied().filter(|node| !self.scheduler.knows(*node)).collect();
        for node in lost {
            self.workers.remove(&node);
        }
        let idle = |job: &JobId| self.scheduler.progress(*job).is_none_or(|progress| progress.running == 0);
        let done: Vec<JobId> = self.halting.iter().copied().filter(idle).collect();
        for job in done {
            let waits = self.pending.iter().any(|pending| pending.returned.job == job)
                || self.committing.iter().any(|attempt| attempt.job == job);
            if !waits {
                self.halting.remove(&job);
                self.to_cancel.push(job);
            }
        }
    }

    /// Notes which jobs are past their deadlines by this clock; the log decides.
    pub(crate) fn look_at_deadlines(&mut self, wall_ms: u64) {
        let past = self.due.deadlines.iter().filter(|(_, deadline)| **deadline <= wall_ms);
        self.due.to_review.extend(past.map(|(job, _)| *job));
        for (job, (Cron(text, zone), due)) in &self.due.schedules {
            if due.is_some_and(|due| due > wall_ms) {
                continue;
            }
            // However much was missed while there was no master, is one copy.
            let next = calendar::next(text, zone, due.map_or(wall_ms, |due| due.max(wall_ms)));
            if due.is_some() || next.is_some() {
                self.due.to_fire.insert(*job, (*due, next));
            }
        }
    }

    /// A schedule, what is due of it and what is next; the log decides.
    pub(crate) fn next_fire(&mut self) -> Option<(JobId, Times)> {
        self.due.to_fire.pop_first()
    }

    /// The client of a job waits for results.
    pub(crate) fn followed(&mut self, job: JobId, now: Duration) {
        if let Some(heard) = self.due.open.get_mut(&job) {
            *heard = now;
        }
    }

    /// A job that is open although its client is gone: the log shall close it.
    pub(crate) fn next_close(&mut self, now: Duration) -> Option<JobId> {
        let gone = |heard: Duration| now >= heard.saturating_add(OPEN_WITHOUT_CLIENT);
        let (job, _) = self.due.open.iter().find(|(_, heard)| gone(**heard))?;
        let job = *job;
        // If the log does not hear of it, it is named again later.
        self.due.open.insert(job, now);
        Some(job)
    }

    /// A job that the log shall review. What it leaves as it is, is named again.
    pub(crate) fn next_review(&mut self) -> Option<JobId> {
        self.due.to_review.pop_first()
    }

    fn act(&mut self, now: Duration) {
        let actions = self.scheduler.take_actions();
        self.perform(actions, now);
    }

    /// Puts into the log which executions were lost and are repeated, so that a
    /// new master goes on to count.
    fn count_losses(&mut self, since: Duration) {
        for (node, Attempt { job, index, attempt }) in self.scheduler.take_losses() {
            let again = Some(Failed { attempt, node, lost: true });
            let returned = Returned { job, index, success: false, result: Bytes::new(), again };
            self.pending.push_back(Pending { returned, holder: None, since });
        }
    }

    fn perform(&mut self, actions: Vec<Action>, now: Duration) {
        self.count_losses(now);
        for action in actions {
            match action {
                Action::Cancel { node, attempt } => {
                    self.granted.remove(&attempt);
                    if let Some(worker) = self.workers.get_mut(&node) {
                        worker.orders.grants.retain(|grant| grant.attempt != attempt);
                        worker.orders.cancel.push(attempt);
                    }
                }
                Action::GiveUp { job, index, why } => {
                    let outcome = match why {
                        Why::LostTooOften => Outcome::Lost,
                        Why::NodeAbsent => {
                            Outcome::NotStarted { why: "the node that it is for has no worker".into() }
                        }
                    };
                    self.enqueue(job, &without_run(index, self.me, outcome), None, now);
                }
            }
        }
    }

    /// Gives tasks to the workers that wait for orders, evenly: first what they
    /// can run at once, one by one in turn, then what they take ahead.
    pub(crate) fn assign(&mut self, view: &dyn View, waiting: &[NodeNumber], now: Duration) {
        let mut open: Vec<NodeNumber> = waiting.to_vec();
        while !open.is_empty() && self.scheduler.has_work() {
            open.retain(|&node| self.grant_to(view, node, false, now));
        }
        let mut open: Vec<NodeNumber> = waiting.to_vec();
        while !open.is_empty() && self.scheduler.has_work() {
            open.retain(|&node| self.grant_to(view, node, true, now));
        }
        self.act(now);
    }

    /// Grants one task; false if the worker gets no more for now.
    fn grant_to(&mut self, view: &dyn View, node: NodeNumber, ahead: bool, now: Duration) -> bool {
        let Some(worker) = self.workers.get(&node) else { return false };
        if worker.size > MAX_ORDERS_BYTES || (ahead && worker.ahead == 0) {
            return false;
        }
        let free = if ahead { worker.registered } else { worker.free };
        let grants = if ahead {
            self.scheduler.prefetch(node, free, 1, now)
        } else {
            self.scheduler.pull(node, free, 1, now)
        };
        let Some(&Grant { attempt, backup }) = grants.first() else { return false };
        if attempt.attempt > 1
            && !backup
            && let Some(entry) = self.jobs.get(&attempt.job)
        {
            self.chronicle.task((attempt.job, &entry.about), Fate::Retried, attempt.index);
        }
        let need = self.jobs.get(&attempt.job).map(|entry| entry.need).unwrap_or_default();
        if let Some(worker) = self.workers.get_mut(&node) {
            worker.free = worker.free.minus(need);
            worker.ahead = worker.ahead.saturating_sub(u32::from(ahead));
        }
        self.granted.insert(attempt, now);
        match self.task(view, attempt) {
            Ok(task) => self.order(node, Granted { attempt, task }),
            Err(refusal) => {
                let why = format!("its range cannot be read: {refusal}");
                let result = without_run(attempt.index, self.me, Outcome::NotStarted { why });
                self.scheduler.committed(attempt.job, attempt.index);
                self.enqueue(attempt.job, &result, None, now);
            }
        }
        true
    }

    fn task(&mut self, view: &dyn View, attempt: Attempt) -> Result<Bytes, Refusal> {
        let missing = || Refusal::Corrupt(format!("task {} of job {}", attempt.index, attempt.job));
        let entry = self.jobs.get(&attempt.job).ok_or_else(missing)?;
        let (first, _) = range_of(entry, attempt.index).ok_or_else(missing)?;
        let tasks = self.cache.range(view, attempt.job, first)?;
        let at = usize::try_from(attempt.index - first).map_err(|_| missing())?;
        tasks.get(at).cloned().ok_or_else(missing)
    }

    fn order(&mut self, node: NodeNumber, granted: Granted) {
        let job = granted.attempt.job;
        let spec = self.jobs.get(&job).map(|entry| entry.spec.clone());
        if let (Some(worker), Some(spec)) = (self.workers.get_mut(&node), spec) {
            if worker.told.insert(job) {
                worker.size += spec.len();
                worker.orders.over.retain(|over| *over != job);
                worker.orders.jobs.push((job, Encoded(spec)));
            }
            worker.size += granted.task.len() + 32;
            worker.orders.grants.push(granted);
        }
    }

    /// Whether there is anything that a worker shall do.
    pub(crate) fn has_orders(&self, node: NodeNumber) -> bool {
        self.workers.get(&node).is_some_and(|worker| !worker.orders.is_empty())
    }

    /// Whether some of it cannot wait for the next tick. What a worker may let
    /// go can, unless it is much: told at once, it costs two messages a task.
    pub(crate) fn has_urgent_orders(&self, node: NodeNumber) -> bool {
        self.workers.get(&node).is_some_and(|Worker { orders, .. }| {
            !orders.jobs.is_empty()
                || !orders.grants.is_empty()
                || !orders.cancel.is_empty()
                || orders.settled.len() + orders.over.len() >= MUCH_SETTLED
        })
    }

    /// What a worker shall do, if there is anything.
    pub(crate) fn orders(&mut self, node: NodeNumber) -> Option<Orders> {
        let worker = self.workers.get_mut(&node).filter(|worker| !worker.orders.is_empty())?;
        worker.size = 0;
        let mut orders = std::mem::take(&mut worker.orders);
        orders.reign = self.reign;
        Some(orders)
    }

    /// Results to commit together.
    pub(crate) fn next_commit(&mut self) -> Vec<Pending> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < MAX_COMMIT_RESULTS && bytes < MAX_COMMIT_BYTES {
            let Some(pending) = self.pending.pop_front() else { break };
            bytes += pending.returned.result.len();
            if pending.returned.again.is_none() {
                self.chronicle.departs(pending.returned.job);
            }
            batch.push(pending);
        }
        batch
    }

    /// They are in the log, these or others of the same tasks: whoever holds
    /// them may let go.
    pub(crate) fn committed(&mut self, batch: &[Pending], now: Duration) {
        for pending in batch {
            let Returned { job, index, success, again, .. } = pending.returned;
            if again.is_none() {
                let spec = self.jobs.get(&job).map(|entry| &entry.about);
                self.chronicle.arrived((job, spec), success, index);
            }
            if let Some((node, attempt)) = pending.holder {
                if let Some(waits) = self.waits.get_mut(&attempt.job).filter(|_| again.is_none()) {
                    waits.open = waits.open.saturating_sub(1);
                    waits.committed.add(1, now.saturating_sub(pending.since));
                }
                self.committing.remove(&attempt);
                self.settle(node, attempt);
            }
        }
    }

    /// How long the results of a job that is over waited; told once.
    pub(crate) fn next_account(&mut self) -> Option<(JobId, Waited)> {
        let (job, _) = self.waits.iter().find(|(_, waits)| waits.over && waits.open == 0)?;
        let job = *job;
        self.waits.remove(&job).map(|waits| (job, waits.committed))
    }

    /// A job that shall be cancelled in the log.
    pub(crate) fn next_cancel(&mut self) -> Option<JobId> {
        self.to_cancel.pop()
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn range_of(entry: &Entry, index: u64) -> Option<(u64, Range)> {
    let (first, range) = entry.ranges.range(..=index).next_back()?;
    (index < first + u64::from(range.count)).then_some((*first, *range))
}

fn facts(spec: &JobSpec) -> JobFacts {
    JobFacts {
        user: spec.user.clone(),
        priority: spec.priority,
        weight: spec.weight,
        retries: spec.retries,
        need: spec.resources.of_task().into(),
        backups: spec.backups,
        standing: spec.standing,
    }
}

/// The result of a task that did not run to its end anywhere.
fn without_run(index: u64, node: NodeNumber, outcome: Outcome) -> TaskResult {
    TaskResult {
        index,
        attempt: 0,
        node,
        outcome,
        stdout: Output::default(),
        stderr: Output::default(),
        value: Output::default(),
        started_ms: 0,
        stamps: Stamps::default(),
    }
}

#[cfg(test)]
mod tests;
