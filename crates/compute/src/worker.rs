//! A worker's rules: what it holds, what it starts next, what it tells the
//! master. Pure: time is an argument, bodies run elsewhere.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use trine_types::NodeNumber;

use crate::body::{Assigned, Ran};
use crate::codec;
use crate::messages::{Beat, Ended, Granted, Held, LET_GO, MAX_BEAT_BYTES, MAX_BEAT_RESULTS, Orders};
use crate::parallel::patience::MEDIAN_OF_AT_LEAST;
use crate::spec::{Attempt, JobId, JobSpec, Outcome, Output, Resources, Stamps, TaskResult, TaskSpec};

/// Most processes and interpreters at once, whatever little they take.
const MAX_RUNNING: usize = 1_024;
/// A worker takes tasks ahead for about so long: enough to hide the way to the
/// master and back.
const AHEAD: Duration = Duration::from_millis(20);
/// Most tasks that are taken ahead.
const MAX_AHEAD: u32 = 128;
/// A result waits at most so long for others, and only while enough is at hand:
/// short tasks share messages, entries of the log and syncs.
const GATHER: Duration = Duration::from_millis(10);
/// Tasks that lately took less will soon be over: a beat without news waits for
/// their results, but not longer.
const SOON: Duration = Duration::from_millis(1);
/// A worker with more results that are not committed takes no more tasks.
const MAX_UNSETTLED: usize = 8_192;
/// The same in bytes.
const MAX_UNSETTLED_BYTES: usize = 64 * 1024 * 1024;

/// Times of tasks of one job that a median is made of: the first ones.
const MAX_TIMES: usize = 1_024;

struct Waiting {
    granted: Granted,
    since: Duration,
}

struct Running {
    need: Resources,
    received: Duration,
    started: Duration,
    started_ms: u64,
}

struct Kept {
    ended: Ended,
    at: Duration,
}

/// See the module.
pub(crate) struct Worker {
    me: NodeNumber,
    slots: Resources,
    reign: u64,
    jobs: BTreeMap<JobId, Arc<JobSpec>>,
    over: BTreeSet<JobId>,
    waiting: VecDeque<Waiting>,
    running: BTreeMap<Attempt, Running>,
    kept: BTreeMap<Attempt, Kept>,
    kept_bytes: usize,
    unsent: VecDeque<Attempt>,
    /// Something of that is not to wait for others.
    pressing: bool,
    /// Until then a beat without news waits.
    rests_until: Duration,
    /// When a master last spoke; `None`: what it knew of has been let go.
    heard: Option<Duration>,
    /// How long bodies take lately.
    typical: Option<Duration>,
    /// How long tasks took that succeeded, shortest first, of jobs whose limit
    /// depends on it.
    times: BTreeMap<JobId, Vec<Duration>>,
}

impl Worker {
    pub(crate) fn new(me: NodeNumber, slots: Resources) -> Self {
        Self {
            me,
            slots,
            reign: 0,
            jobs: BTreeMap::new(),
            over: BTreeSet::new(),
            waiting: VecDeque::new(),
            running: BTreeMap::new(),
            kept: BTreeMap::new(),
            kept_bytes: 0,
            unsent: VecDeque::new(),
            pressing: false,
            rests_until: Duration::ZERO,
            heard: None,
            typical: None,
            times: BTreeMap::new(),
        }
    }

    /// When the master is to be told what has ended; `None`: nothing has. At
    /// once, but for what may gather: tasks of the same job wait here, and no
    /// slot will be empty before the answer comes.
    pub(crate) fn tells_at(&self) -> Option<Duration> {
        let since = self.kept.get(self.unsent.front()?).map(|kept| kept.at).unwrap_or_default();
        let (ahead, waiting) = (self.ahead(), u32::try_from(self.waiting.len()).unwrap_or(u32::MAX));
        let plenty = ahead > 0 && waiting >= ahead.div_ceil(2) && self.unsent.len() < MAX_BEAT_RESULTS;
        let gathers = plenty && !self.pressing;
        Some(if gathers { since.saturating_add(GATHER) } else { since })
    }

    /// When a beat without news is due, if none is under way.
    pub(crate) fn asks_at(&self) -> Duration {
        self.rests_until
    }

    /// The attempts that run.
    pub(crate) fn running(&self) -> impl Iterator<Item = Attempt> + '_ {
        self.running.keys().copied()
    }

    fn free(&self) -> Resources {
        let mut free = self.slots;
        for running in self.running.values() {
            free = free.minus(running.need);
        }
        free
    }

    /// What the master shall know; what has ended counts as sent.
    pub(crate) fn beat(&mut self, now: Duration) -> Beat {
        let full = self.kept.len() >= MAX_UNSETTLED || self.kept_bytes >= MAX_UNSETTLED_BYTES;
        let mut free = if full { Resources::NONE } else { self.free() };
        for waiting in &self.waiting {
            free = free.minus(self.need(waiting.granted.attempt.job));
        }
        let waiting = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
        let ahead = if full { 0 } else { self.ahead().saturating_sub(waiting) };
        let ended = if self.reign == 0 { Vec::new() } else { self.take_ended(now) };
        let running = self.running.iter().map(|(attempt, running)| Held {
            attempt: *attempt,
            elapsed: Some(now.saturating_sub(running.started)),
        });
        let queued =
            self.waiting.iter().map(|waiting| Held { attempt: waiting.granted.attempt, elapsed: None });
        // What could not be sent yet, is not lost.
        let ending = self.unsent.iter().map(|attempt| Held { attempt: *attempt, elapsed: None });
        let held = running.chain(queued).chain(ending).collect();
        Beat { reign: self.reign, slots: self.slots, free, ahead, held, ended }
    }

    fn take_ended(&mut self, now: Duration) -> Vec<Ended> {
        let (mut ended, mut bytes) = (Vec::new(), 0);
        while ended.len() < MAX_BEAT_RESULTS && bytes < MAX_BEAT_BYTES {
            let Some(attempt) = self.unsent.pop_front() else { break };
            let Some(kept) = self.kept.get(&attempt) else { continue };
            let mut told = kept.ended.clone();
            told.result.stamps.returned = micros(now.saturating_sub(kept.at));
            bytes += size(&told.result);
            ended.push(told);
        }
        self.pressing &= !self.unsent.is_empty();
        ended
    }

    /// How many tasks it is worth to have at hand: none that take long, since
    /// another worker may be free for them sooner.
    fn ahead(&self) -> u32 {
        let Some(typical) = self.typical.filter(|typical| *typical < AHEAD) else { return 0 };
        let side_by_side = (self.slots.cpu_milli / 1_000).max(1);
        let rounds = AHEAD.as_micros() / typical.as_micros().max(1);
        u32::try_from(rounds).unwrap_or(MAX_AHEAD).saturating_mul(side_by_side).clamp(1, MAX_AHEAD)
    }

    /// The answer did not come, or from somebody who is not the master: whoever
    /// is, is told everything again.
    pub(crate) fn lost_master(&mut self) {
        self.reign = 0;
        self.rests_until = Duration::ZERO;
    }

    /// Somebody answers as the master. True if that is another one than before.
    pub(crate) fn meet(&mut self, reign: u64) -> bool {
        if self.reign == reign {
            return false;
        }
        self.reign = reign;
        self.unsent = self.kept.keys().copied().collect();
        self.pressing = true;
        true
    }

    /// When what this worker holds is let go, unless a master speaks before.
    pub(crate) fn lets_go_at(&self) -> Option<Duration> {
        let holds = !self.running.is_empty() || !self.waiting.is_empty();
        self.heard.filter(|_| holds).map(|heard| heard.saturating_add(LET_GO))
    }

    /// No master has spoken for too long: nothing more is begun, and the
    /// attempts that run are to be killed. They are others' by now.
    pub(crate) fn let_go(&mut self, now: Duration) -> Vec<Attempt> {
        if self.lets_go_at().is_none_or(|at| now < at) {
            return Vec::new();
        }
        self.heard = None;
        self.waiting.clear();
        self.running().collect()
    }

    /// Does what the master says; returns the attempts to kill.
    pub(crate) fn obey(&mut self, orders: Orders, now: Duration) -> Vec<Attempt> {
        self.heard = Some(now);
        for attempt in orders.settled {
            if let Some(kept) = self.kept.remove(&attempt) {
                self.kept_bytes = self.kept_bytes.saturating_sub(size(&kept.ended.result));
            }
        }
        for (job, spec) in orders.jobs {
            self.over.remove(&job);
            if let Ok(spec) = codec::decode::<JobSpec>(&spec.0, "job") {
                self.jobs.insert(job, Arc::new(spec));
            }
        }
        if !orders.grants.is_empty() && self.typical.is_some_and(|typical| typical < SOON) {
            self.rests_until = now.saturating_add(SOON);
        }
        for granted in orders.grants {
            self.waiting.push_back(Waiting { granted, since: now });
        }
        let mut kill = Vec::new();
        for attempt in orders.cancel {
            self.waiting.retain(|waiting| waiting.granted.attempt != attempt);
            if self.running.contains_key(&attempt) {
                kill.push(attempt);
            }
        }
        self.over.extend(orders.over);
        self.forget_jobs();
        kill
    }

    fn forget_jobs(&mut self) {
        let Self { over, jobs, running, waiting, times, .. } = self;
        over.retain(|job| {
            let used = running.keys().any(|attempt| attempt.job == *job)
                || waiting.iter().any(|waiting| waiting.granted.attempt.job == *job);
            if !used {
                jobs.remove(job);
                times.remove(job);
            }
            used
        });
    }

    fn need(&self, job: JobId) -> Resources {
        self.jobs.get(&job).map(|spec| spec.resources.of_task()).unwrap_or_default()
    }

    /// The next task to start, if there is one and room for it. Tasks start in
    /// the order in which they came; one that needs more than there is runs
    /// alone.
    pub(crate) fn next(&mut self, now: Duration, wall_ms: u64) -> Option<Assigned> {
        while self.running.len() < MAX_RUNNING {
            let attempt = self.waiting.front()?.granted.attempt;
            let (need, free) = (self.need(attempt.job), self.free());
            if !free.fits(need) && !self.running.is_empty() {
                return None;
            }
            let Waiting { granted, since } = self.waiting.pop_front()?;
            let task = codec::decode::<TaskSpec>(&granted.task, "task");
            let run = Running { need, received: since, started: now, started_ms: wall_ms };
            self.running.insert(attempt, run);
            match (task, self.jobs.get(&attempt.job)) {
                (Ok(task), Some(job)) => return Some(Assigned { attempt, job: job.clone(), task }),
                (Ok(_), None) => self.ended(attempt, Ran::only(Outcome::Lost), now),
                (Err(error), _) => {
                    let why = error.to_string();
                    self.ended(attempt, Ran::only(Outcome::NotStarted { why }), now);
                }
            }
        }
        None
    }

    /// A body has ended. What nobody wants any more is kept, too, until the
    /// master says so.
    pub(crate) fn ended(&mut self, attempt: Attempt, ran: Ran, now: Duration) {
        let Some(run) = self.running.remove(&attempt) else { return };
        let executed = now.saturating_sub(run.started);
        self.typical = Some(self.typical.map_or(executed, |typical| (typical * 7 + executed) / 8));
        if ran.outcome.is_success() {
            self.took(attempt.job, executed);
        }
        let result = TaskResult {
            index: attempt.index,
            attempt: attempt.attempt,
            node: self.me,
            outcome: ran.outcome,
            stdout: ran.stdout,
            stderr: ran.stderr,
            value: ran.value,
            started_ms: run.started_ms,
            stamps: Stamps {
                prepared: micros(run.started.saturating_sub(run.received)),
                executed: micros(executed),
                ..Stamps::default()
            },
        };
        self.kept_bytes += size(&result);
        // Nobody here goes on with its job: somebody may wait for this one.
        self.pressing |= !self.waiting.iter().any(|waiting| waiting.granted.attempt.job == attempt.job);
        self.kept.insert(attempt, Kept { ended: Ended { attempt, result }, at: now });
        self.unsent.push_back(attempt);
        self.forget_jobs();
    }

    /// The timeout of a task that has begun.
    pub(crate) fn timeout(&self, attempt: Attempt) -> Option<Duration> {
        let job = self.jobs.get(&attempt.job)?;
        job.timeout().or_else(|| {
            let times = self.times.get(&attempt.job).filter(|times| times.len() >= MEDIAN_OF_AT_LEAST)?;
            Some(times[times.len() / 2].saturating_mul(job.when.timeout_percent?) / 100)
        })
    }

    fn took(&mut self, job: JobId, time: Duration) {
        if self.jobs.get(&job).is_none_or(|job| job.when.timeout_percent.is_none()) {
            return;
        }
        let times = self.times.entry(job).or_default();
        if times.len() < MAX_TIMES {
            times.insert(times.partition_point(|other| *other <= time), time);
        }
    }

    /// What is left of the time of the tasks of a job, if that depends on how
    /// long others took.
    pub(crate) fn time_left(&self, job: JobId, now: Duration) -> Vec<(Attempt, Duration)> {
        if !self.times.contains_key(&job) {
            return Vec::new();
        }
        let left = |(attempt, running): (&Attempt, &Running)| {
            let end = running.started.saturating_add(self.timeout(*attempt)?);
            Some((*attempt, end.saturating_sub(now)))
        };
        self.running.iter().filter(|(attempt, _)| attempt.job == job).filter_map(left).collect()
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn size(result: &TaskResult) -> usize {
    let inline = |output: &Output| match output {
        Output::Inline(bytes) => bytes.len(),
        Output::Kept { .. } => 0,
    };
    256 + inline(&result.stdout) + inline(&result.stderr) + inline(&result.value)
}

#[cfg(test)]
mod tests;
