//! The product's scheduler: workers that pull, crash and return; a master that
//! changes and learns from the log and from the workers what there is.

use std::collections::BTreeSet;
use std::time::Duration;

use trine_compute::Attempt;
use trine_compute::JobId;
use trine_compute::schedule::{Action, Config, Held, JobFacts, Next, Scheduler, Slots, TICK, Verdict};
use trine_types::NodeNumber;

use super::agenda::{Agenda, Micros};
use super::load::{BACK, Load, micros, seconds};
use super::outcome::Outcome;

/// Time without a master when it changes: an election.
const OUTAGE: Micros = 600_000;
/// How often workers give a sign of life, and how often they tell all.
const BEAT: Micros = 500_000;
const BEATS_PER_TELLING: u64 = 10;
/// After so many idle workers in a row got nothing, the others are not asked
/// in this tick.
const REFUSALS: usize = 64;
const ONE: Slots = Slots::cores(1, 0);

#[derive(Clone, Copy, Debug)]
enum Event {
    Job(u64),
    Tick,
    Beat(u64),
    /// A grant reaches its worker.
    Start {
        worker: usize,
        life: u32,
        attempt: Attempt,
    },
    /// A body ends.
    End {
        worker: usize,
        life: u32,
        attempt: Attempt,
    },
    /// Its result reaches the master.
    Report {
        worker: usize,
        attempt: Attempt,
        spent: Micros,
    },
    /// A cancellation reaches its worker.
    Cancel {
        worker: usize,
        attempt: Attempt,
    },
    /// A worker's pull reaches the master.
    Pull(usize),
    Crash(usize),
    Back(usize),
    MasterLost,
    MasterElected,
    Register(usize),
}

#[derive(Clone, Debug, Default)]
struct Worker {
    /// What it runs, or is about to, and since when.
    held: Option<(Attempt, Option<Micros>)>,
    /// Results that no master took.
    unsent: Vec<(Attempt, Micros)>,
    life: u32,
    dead: bool,
}

struct World<'a> {
    load: &'a Load,
    config: Config,
    slowness: Vec<f64>,
    workers: Vec<Worker>,
    idle: BTreeSet<usize>,
    asked: usize,
    scheduler: Option<Scheduler>,
    jobs: u64,
    agenda: Agenda<Event>,
    outcome: Outcome,
}

/// Runs it, with or without backup attempts.
#[must_use]
pub fn run(load: &Load, backups: bool) -> Outcome {
    let arrivals = load.arrivals();
    let config = Config { backups, ..Config::default() };
    let mut world = World {
        load,
        config,
        slowness: load.slowness(),
        workers: vec![Worker::default(); load.workers],
        idle: BTreeSet::new(),
        asked: 0,
        scheduler: Some(Scheduler::new(config)),
        jobs: 0,
        agenda: Agenda::default(),
        outcome: Outcome::new(arrivals.clone(), load.tasks_per_job()),
    };
    for worker in 0..load.workers {
        world.agenda.plan(0, Event::Register(worker));
    }
    for (job, at) in arrivals.into_iter().enumerate() {
        world.agenda.plan(at, Event::Job(job as u64));
    }
    let (crashes, failovers) = load.faults();
    for (at, worker) in crashes {
        world.agenda.plan(at, Event::Crash(worker));
    }
    for at in failovers {
        world.agenda.plan(at, Event::MasterLost);
    }
    world.agenda.plan(0, Event::Tick);
    world.agenda.plan(0, Event::Beat(0));
    while !world.outcome.is_over() {
        let Some(event) = world.agenda.next() else { break };
        world.handle(event);
    }
    world.outcome
}

fn node(worker: usize) -> NodeNumber {
    NodeNumber(worker as u64 + 1)
}

fn worker(node: NodeNumber) -> usize {
    usize::try_from(node.0 - 1).unwrap_or(0)
}

impl World<'_> {
    fn now(&self) -> Duration {
        Duration::from_micros(self.agenda.now())
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Job(job) => self.submit(job),
            Event::Tick => self.tick(),
            Event::Beat(count) => self.beat(count),
            Event::Start { worker, life, attempt } => self.start(worker, life, attempt),
            Event::End { worker, life, attempt } => self.end(worker, life, attempt),
            Event::Report { worker, attempt, spent } => {
                self.report(worker, attempt, spent);
                self.pull(worker);
            }
            Event::Cancel { worker, attempt } => self.cancelled(worker, attempt),
            Event::Pull(worker) => {
                self.pull(worker);
            }
            Event::Crash(worker) => self.crash(worker),
            Event::Back(worker) => {
                self.workers[worker].dead = false;
                self.agenda.plan(self.load.delay, Event::Register(worker));
            }
            Event::MasterLost => {
                if self.scheduler.take().is_some() {
                    self.idle.clear();
                    self.agenda.plan(OUTAGE, Event::MasterElected);
                }
            }
            Event::MasterElected => self.elect(),
            Event::Register(worker) => self.register(worker),
        }
    }

    fn facts(job: u64) -> JobFacts {
        JobFacts {
            user: format!("user {}", job % 10),
            priority: 0,
            weight: 1,
            retries: 0,
            need: ONE,
            backups: true,
            standing: false,
        }
    }

    fn submit(&mut self, job: u64) {
        let Some(scheduler) = &mut self.scheduler else {
            return self.agenda.plan(OUTAGE, Event::Job(job));
        };
        self.jobs = self.jobs.max(job + 1);
        scheduler.add_job(JobId(job), Self::facts(job));
        scheduler.add_tasks(JobId(job), 0, self.load.tasks_per_job());
        self.wake();
    }

    /// The log has the jobs and which of their tasks are over; the rest the
    /// workers tell.
    fn elect(&mut self) {
        let mut scheduler = Scheduler::new(self.config);
        for job in 0..self.jobs {
            let done = self.outcome.done(job);
            if done.iter().all(|done| *done) {
                continue;
            }
            scheduler.add_job(JobId(job), Self::facts(job));
            let mut from = 0;
            for run in done.chunk_by(|a, b| a == b) {
                let len = run.len() as u64;
                if run.first() == Some(&false) {
                    scheduler.add_tasks(JobId(job), from, len);
                }
                from += len;
            }
        }
        let alive = self.workers.iter().enumerate().filter(|(_, worker)| !worker.dead);
        let alive: Vec<usize> = alive.map(|(at, _)| at).collect();
        scheduler.take_over(alive.iter().map(|at| node(*at)), self.now());
        self.scheduler = Some(scheduler);
        for at in alive {
            self.agenda.plan(self.load.delay, Event::Register(at));
        }
    }

    fn register(&mut self, at: usize) {
        let now = self.now();
        let Some(scheduler) = &mut self.scheduler else { return };
        if self.workers[at].dead {
            return;
        }
        scheduler.worker_up(node(at), ONE, now);
        for (attempt, spent) in std::mem::take(&mut self.workers[at].unsent) {
            self.report(at, attempt, spent);
        }
        self.tell(at);
        self.pull(at);
    }

    fn tell(&mut self, at: usize) {
        let now = self.agenda.now();
        let held = self.workers[at].held.map(|(attempt, started)| Held {
            attempt,
            elapsed: started.map(|started| Duration::from_micros(now - started)),
        });
        if let Some(scheduler) = &mut self.scheduler {
            scheduler.running(node(at), held.as_slice(), Duration::from_micros(now));
        }
        self.act();
    }

    fn tick(&mut self) {
        let now = self.now();
        if let Some(scheduler) = &mut self.scheduler {
            let actions = scheduler.tick(now);
            self.carry_out(actions);
            self.wake();
        }
        self.agenda.plan(u64::try_from(TICK.as_micros()).unwrap_or(u64::MAX), Event::Tick);
    }

    fn beat(&mut self, count: u64) {
        let now = self.now();
        for at in 0..self.workers.len() {
            if self.workers[at].dead {
                continue;
            }
            if count.is_multiple_of(BEATS_PER_TELLING) {
                self.tell(at);
            } else if let Some(scheduler) = &mut self.scheduler {
                scheduler.heard(node(at), now);
            }
        }
        self.agenda.plan(BEAT, Event::Beat(count + 1));
    }

    /// Asks idle workers again, in turn.
    fn wake(&mut self) {
        let mut refused = 0;
        let around: Vec<usize> =
            self.idle.range(self.asked..).chain(self.idle.range(..self.asked)).copied().collect();
        for at in around {
            if refused >= REFUSALS || !self.scheduler.as_ref().is_some_and(Scheduler::has_work) {
                return;
            }
            self.asked = at + 1;
            refused = if self.pull(at) { 0 } else { refused + 1 };
        }
    }

    fn pull(&mut self, at: usize) -> bool {
        let now = self.now();
        let Some(scheduler) = &mut self.scheduler else { return false };
        let worker = &mut self.workers[at];
        if worker.dead || worker.held.is_some() {
            return false;
        }
        if !scheduler.knows(node(at)) {
            self.agenda.plan(self.load.delay, Event::Register(at));
            return false;
        }
        let grants = scheduler.pull(node(at), ONE, 1, now);
        let Some(grant) = grants.first() else {
            self.idle.insert(at);
            return false;
        };
        self.outcome.backups += u64::from(grant.backup);
        self.idle.remove(&at);
        worker.held = Some((grant.attempt, None));
        let start = Event::Start { worker: at, life: worker.life, attempt: grant.attempt };
        self.agenda.plan(self.load.delay, start);
        true
    }

    fn start(&mut self, at: usize, life: u32, attempt: Attempt) {
        let now = self.agenda.now();
        let worker = &mut self.workers[at];
        if worker.life != life || worker.dead || worker.held.map(|(held, _)| held) != Some(attempt) {
            return;
        }
        worker.held = Some((attempt, Some(now)));
        let takes = seconds(self.load.size(attempt.job.0, attempt.index)) * self.slowness[at];
        self.agenda.plan(micros(takes), Event::End { worker: at, life, attempt });
    }

    fn end(&mut self, at: usize, life: u32, attempt: Attempt) {
        let now = self.agenda.now();
        let worker = &mut self.workers[at];
        let Some((held, Some(started))) = worker.held else { return };
        if worker.life != life || worker.dead || held != attempt {
            return;
        }
        worker.held = None;
        self.agenda.plan(self.load.delay, Event::Report { worker: at, attempt, spent: now - started });
    }

    fn report(&mut self, at: usize, attempt: Attempt, spent: Micros) {
        let now = self.now();
        let Some(scheduler) = &mut self.scheduler else {
            if !self.workers[at].dead {
                self.workers[at].unsent.push((attempt, spent));
            }
            return;
        };
        match scheduler.finished(node(at), attempt, Verdict::Done, Duration::from_micros(spent), now) {
            Next::Commit => {
                self.outcome.commit(attempt.job.0, attempt.index, spent, self.agenda.now());
            }
            Next::Again | Next::GiveUp | Next::Stale => self.outcome.doubled += spent,
        }
        self.act();
    }

    fn act(&mut self) {
        let actions = self.scheduler.as_mut().map(Scheduler::take_actions).unwrap_or_default();
        self.carry_out(actions);
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Cancel { node, attempt } => {
                    self.agenda.plan(self.load.delay, Event::Cancel { worker: worker(node), attempt });
                }
                // No task is lost so often, or bound to a node, in these runs.
                Action::GiveUp { job, index, .. } => {
                    self.outcome.commit(job.0, index, 0, self.agenda.now());
                }
            }
        }
    }

    fn cancelled(&mut self, at: usize, attempt: Attempt) {
        let now = self.agenda.now();
        let worker = &mut self.workers[at];
        let Some((held, started)) = worker.held else { return };
        if held == attempt && !worker.dead {
            worker.held = None;
            self.outcome.doubled += started.map_or(0, |started| now - started);
            self.agenda.plan(self.load.delay, Event::Pull(at));
        }
    }

    fn crash(&mut self, at: usize) {
        let now = self.agenda.now();
        let worker = &mut self.workers[at];
        if worker.dead {
            return;
        }
        worker.dead = true;
        worker.life += 1;
        worker.unsent.clear();
        if let Some((_, started)) = worker.held.take() {
            self.outcome.crashed += started.map_or(0, |started| now - started);
        }
        self.idle.remove(&at);
        self.agenda.plan(BACK, Event::Back(at));
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::{Distribution, Load, float, seconds, tests::small};
    use super::run;

    #[test]
    fn backups_end_a_job_within_a_sixth_of_ideal_and_double_little() {
        let load = small();
        let (late, none) = (run(&load, true), run(&load, false));
        let ratio = seconds(late.makespan) / load.ideal_seconds();
        assert!(ratio < 1.15, "{ratio}");
        assert!(late.duplicate_share() < 0.02, "{}", late.duplicate_share());
        assert!(float(none.makespan) > 1.15 * float(late.makespan), "{} {}", none.makespan, late.makespan);
    }

    #[test]
    fn crashes_and_new_masters_lose_and_double_nothing() {
        for seed in 0..4 {
            let distribution = Distribution::Exponential;
            let load = Load { crashes: 100, failovers: 3, jobs: 5, distribution, seed, ..small() };
            let outcome = run(&load, true);
            assert!(outcome.is_over(), "seed {seed}");
            assert_eq!(outcome.twice, 0, "seed {seed}");
            assert!(outcome.crashed > 0, "seed {seed}: nothing was lost, so nothing was shown");
        }
    }

    #[test]
    fn a_seed_repeats() {
        let load = Load { crashes: 20, failovers: 1, ..small() };
        let (one, two) = (run(&load, true), run(&load, true));
        assert_eq!((one.makespan, one.doubled), (two.makespan, two.doubled));
    }
}
