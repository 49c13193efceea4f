//! What others do: a task is placed on a worker's queue as it comes, at random
//! or on the shorter of two random queues, and stays there.

use std::collections::VecDeque;

use super::agenda::{Agenda, Micros};
use super::load::{BACK, Load, index, micros, seconds};
use super::outcome::Outcome;
use crate::random::Rng;

/// As the product's lease: after so long a crash is noticed.
const NOTICED: Micros = 1_500_000;

#[derive(Clone, Copy, Debug)]
enum Event {
    Job(u64),
    End { worker: usize, life: u32 },
    Crash(usize),
    Noticed(usize),
    Back(usize),
}

#[derive(Clone, Debug, Default)]
struct Worker {
    queue: VecDeque<(u64, u64)>,
    lost: Vec<(u64, u64)>,
    started: Micros,
    life: u32,
    dead: bool,
}

struct World<'a> {
    load: &'a Load,
    choices: u32,
    slowness: Vec<f64>,
    workers: Vec<Worker>,
    agenda: Agenda<Event>,
    outcome: Outcome,
    rng: Rng,
}

/// Runs it: each task goes to the shortest of `choices` queues.
#[must_use]
pub fn run(load: &Load, choices: u32) -> Outcome {
    let arrivals = load.arrivals();
    let mut world = World {
        load,
        choices,
        slowness: load.slowness(),
        workers: vec![Worker::default(); load.workers],
        agenda: Agenda::default(),
        outcome: Outcome::new(arrivals.clone(), load.tasks_per_job()),
        rng: Rng::new(load.seed, "placement"),
    };
    for (job, at) in arrivals.into_iter().enumerate() {
        world.agenda.plan(at, Event::Job(job as u64));
    }
    for (at, worker) in load.faults().0 {
        world.agenda.plan(at, Event::Crash(worker));
    }
    while !world.outcome.is_over() {
        let Some(event) = world.agenda.next() else { break };
        world.handle(event);
    }
    world.outcome
}

impl World<'_> {
    fn handle(&mut self, event: Event) {
        match event {
            Event::Job(job) => (0..self.load.tasks_per_job()).for_each(|index| self.place(job, index)),
            Event::End { worker, life } => self.end(worker, life),
            Event::Crash(worker) => self.crash(worker),
            Event::Noticed(worker) => {
                for (job, index) in std::mem::take(&mut self.workers[worker].lost) {
                    self.place(job, index);
                }
            }
            Event::Back(worker) => self.workers[worker].dead = false,
        }
    }

    fn place(&mut self, job: u64, task: u64) {
        let mut best = index(&mut self.rng, self.workers.len());
        for _ in 1..self.choices {
            let other = index(&mut self.rng, self.workers.len());
            if self.workers[other].queue.len() < self.workers[best].queue.len() {
                best = other;
            }
        }
        let worker = &mut self.workers[best];
        if worker.dead {
            // Nobody knows yet; what is noticed later is placed again.
            worker.lost.push((job, task));
            if worker.lost.len() == 1 {
                self.agenda.plan(NOTICED, Event::Noticed(best));
            }
            return;
        }
        worker.queue.push_back((job, task));
        if worker.queue.len() == 1 {
            self.start(best);
        }
    }

    fn start(&mut self, worker: usize) {
        let Some((job, index)) = self.workers[worker].queue.front().copied() else { return };
        let takes = micros(seconds(self.load.size(job, index)) * self.slowness[worker]);
        self.workers[worker].started = self.agenda.now();
        self.agenda.plan(takes, Event::End { worker, life: self.workers[worker].life });
    }

    fn end(&mut self, at: usize, life: u32) {
        let now = self.agenda.now();
        let worker = &mut self.workers[at];
        if worker.life != life || worker.dead {
            return;
        }
        if let Some((job, index)) = worker.queue.pop_front() {
            self.outcome.commit(job, index, now - worker.started, now + self.load.delay);
        }
        self.start(at);
    }

    fn crash(&mut self, at: usize) {
        let now = self.agenda.now();
        let worker = &mut self.workers[at];
        if worker.dead {
            return;
        }
        worker.dead = true;
        worker.life += 1;
        if !worker.queue.is_empty() {
            self.outcome.crashed += now - worker.started;
        }
        worker.lost.extend(worker.queue.drain(..));
        self.agenda.plan(NOTICED, Event::Noticed(at));
        self.agenda.plan(BACK, Event::Back(at));
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::{Load, tests::small};
    use super::run;

    #[test]
    fn all_tasks_end_once_and_two_choices_beat_one() {
        let load = Load { crashes: 50, ..small() };
        let (random, two) = (run(&load, 1), run(&load, 2));
        for outcome in [&random, &two] {
            assert!(outcome.is_over());
            assert_eq!(outcome.twice, 0);
        }
        assert!(two.makespan < random.makespan);
    }
}
