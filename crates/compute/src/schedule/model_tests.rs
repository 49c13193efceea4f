//! The scheduler against simple models, over random events: nothing lost,
//! nothing twice, nobody over their slots, everyone in turn.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use trine_types::NodeNumber;

use super::{Action, Config, Held, JobFacts, Next, Scheduler, Slots, Verdict};
use crate::spec::{Attempt, JobId};

const NODES: u64 = 4;
const SLOTS: Slots = Slots::cores(3, 300);

#[derive(Clone, Debug)]
enum Event {
    Job {
        user: u8,
        priority: i32,
        cores: u64,
        retries: u32,
    },
    Tasks {
        job: u64,
        count: u64,
    },
    Pinned {
        job: u64,
        node: u64,
    },
    Up {
        node: u64,
    },
    Crash {
        node: u64,
    },
    /// The master thinks that it is lost, and it is not.
    Suspect {
        node: u64,
    },
    Pull {
        node: u64,
        limit: usize,
        arrives: bool,
    },
    End {
        node: u64,
        which: usize,
        verdict: Verdict,
        twice: bool,
    },
    Announce {
        node: u64,
    },
    /// A message out of nowhere.
    Noise {
        node: u64,
        job: u64,
        index: u64,
        number: u32,
        verdict: Verdict,
        announced: bool,
    },
    Pass {
        millis: u64,
    },
    Cancel {
        job: u64,
    },
    /// The master changes; what it committed is in the log.
    Failover,
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![4 => Just(Verdict::Done), 1 => Just(Verdict::Failed), 1 => Just(Verdict::Lost)]
}

fn event() -> impl Strategy<Value = Event> {
    let node = || 1..=NODES;
    let job = || 1_u64..6;
    prop_oneof![
        2 => (0_u8..3, 0_i32..3, 1_u64..4, 0_u32..3)
            .prop_map(|(user, priority, cores, retries)| Event::Job { user, priority, cores, retries }),
        4 => (job(), 0_u64..12).prop_map(|(job, count)| Event::Tasks { job, count }),
        1 => (job(), node()).prop_map(|(job, node)| Event::Pinned { job, node }),
        3 => node().prop_map(|node| Event::Up { node }),
        1 => node().prop_map(|node| Event::Crash { node }),
        1 => node().prop_map(|node| Event::Suspect { node }),
        12 => (node(), 0_usize..5, prop::bool::weighted(0.9))
            .prop_map(|(node, limit, arrives)| Event::Pull { node, limit, arrives }),
        12 => (node(), 0_usize..4, verdict(), prop::bool::weighted(0.2))
            .prop_map(|(node, which, verdict, twice)| Event::End { node, which, verdict, twice }),
        3 => node().prop_map(|node| Event::Announce { node }),
        1 => (node(), job(), 0_u64..20, 0_u32..4, verdict(), any::<bool>()).prop_map(
            |(node, job, index, number, verdict, announced)| {
                Event::Noise { node, job, index, number, verdict, announced }
            }
        ),
        4 => (0_u64..1500).prop_map(|millis| Event::Pass { millis }),
        1 => job().prop_map(|job| Event::Cancel { job }),
        1 => Just(Event::Failover),
    ]
}

/// A job as the log has it.
#[derive(Default)]
struct Logged {
    facts: Option<JobFacts>,
    pinned: BTreeMap<u64, NodeNumber>,
    count: u64,
    over: BTreeSet<u64>,
    cancelled: bool,
}

/// The log, the workers as they really are, and the scheduler under test.
struct World {
    scheduler: Scheduler,
    now: Duration,
    log: BTreeMap<JobId, Logged>,
    really: BTreeMap<NodeNumber, BTreeSet<Attempt>>,
}

impl World {
    fn new() -> Self {
        Self {
            scheduler: Scheduler::new(Config::default()),
            now: Duration::ZERO,
            log: BTreeMap::new(),
            really: BTreeMap::new(),
        }
    }

    fn play(&mut self, event: &Event) {
        match *event {
            Event::Job { user, priority, cores, retries } => self.add_job(user, priority, cores, retries),
            Event::Tasks { job, count } => self.add_tasks(JobId(job), count),
            Event::Pinned { job, node } => self.add_pinned(JobId(job), NodeNumber(node)),
            Event::Up { node } => self.up(NodeNumber(node)),
            Event::Crash { node } => {
                self.really.remove(&NodeNumber(node));
                self.scheduler.worker_lost(NodeNumber(node), self.now);
            }
            Event::Suspect { node } => self.scheduler.worker_lost(NodeNumber(node), self.now),
            Event::Pull { node, limit, arrives } => self.pull(NodeNumber(node), limit, arrives),
            Event::End { node, which, verdict, twice } => self.end(NodeNumber(node), which, verdict, twice),
            Event::Announce { node } => self.announce(NodeNumber(node)),
            Event::Noise { node, job, index, number, verdict, announced } => {
                let attempt = Attempt { job: JobId(job), index, attempt: number };
                if announced {
                    let held = [Held { attempt, elapsed: None }];
                    self.scheduler.running(NodeNumber(node), &held, self.now);
                } else {
                    self.report(NodeNumber(node), attempt, verdict);
                }
            }
            Event::Pass { millis } => {
                self.now += Duration::from_millis(millis);
                let actions = self.scheduler.tick(self.now);
                self.act(actions);
            }
            Event::Cancel { job } => {
                if let Some(logged) = self.log.get_mut(&JobId(job)) {
                    logged.cancelled = true;
                }
                self.scheduler.cancel(JobId(job));
            }
            Event::Failover => self.failover(),
        }
        let actions = self.scheduler.take_actions();
        self.act(actions);
    }

    fn add_job(&mut self, user: u8, priority: i32, cores: u64, retries: u32) {
        let id = JobId(self.log.len() as u64 + 1);
        let facts = JobFacts {
            user: format!("u{user}"),
            priority,
            weight: u32::from(user) + 1,
            retries,
            need: Slots::cores(cores, cores * 100),
            backups: true,
            standing: false,
        };
        self.scheduler.add_job(id, facts.clone());
        self.log.insert(id, Logged { facts: Some(facts), ..Logged::default() });
    }

    fn add_tasks(&mut self, id: JobId, count: u64) {
        let Some(logged) = self.log.get_mut(&id).filter(|logged| !logged.cancelled) else { return };
        self.scheduler.add_tasks(id, logged.count, count);
        logged.count += count;
    }

    fn add_pinned(&mut self, id: JobId, node: NodeNumber) {
        let Some(logged) = self.log.get_mut(&id).filter(|logged| !logged.cancelled) else { return };
        self.scheduler.add_pinned(id, logged.count, node);
        logged.pinned.insert(logged.count, node);
        logged.count += 1;
    }

    fn up(&mut self, node: NodeNumber) {
        self.really.entry(node).or_default();
        self.scheduler.worker_up(node, SLOTS, self.now);
        self.announce(node);
    }

    fn announce(&mut self, node: NodeNumber) {
        let Some(really) = self.really.get(&node) else { return };
        let held: Vec<Held> = really
            .iter()
            .map(|attempt| Held { attempt: *attempt, elapsed: Some(Duration::from_millis(500)) })
            .collect();
        self.scheduler.running(node, &held, self.now);
    }

    fn need(&self, attempt: &Attempt) -> Slots {
        self.log.get(&attempt.job).and_then(|logged| logged.facts.as_ref()).map_or(Slots::NONE, |f| f.need)
    }

    fn free(&self, node: NodeNumber) -> Slots {
        let held = self.really.get(&node).into_iter().flatten();
        held.fold(SLOTS, |room, attempt| room.minus(self.need(attempt)))
    }

    fn pull(&mut self, node: NodeNumber, limit: usize, arrives: bool) {
        if !self.really.contains_key(&node) {
            return;
        }
        let mut free = self.free(node);
        let grants = self.scheduler.pull(node, free, limit, self.now);
        assert!(grants.len() <= limit);
        for grant in grants {
            let need = self.need(&grant.attempt);
            assert!(free.fits(need), "{node} is over its slots");
            free = free.minus(need);
            let logged = &self.log[&grant.attempt.job];
            assert!(!logged.cancelled && !logged.over.contains(&grant.attempt.index), "granted what is over");
            let pin = logged.pinned.get(&grant.attempt.index);
            assert!(pin.is_none_or(|pin| *pin == node), "not where it must run");
            if arrives {
                self.really.entry(node).or_default().insert(grant.attempt);
            }
        }
    }

    fn end(&mut self, node: NodeNumber, which: usize, verdict: Verdict, twice: bool) {
        let Some(held) = self.really.get_mut(&node) else { return };
        let Some(attempt) = held.iter().nth(which).copied() else { return };
        held.remove(&attempt);
        self.report(node, attempt, verdict);
        if twice {
            self.report(node, attempt, verdict);
        }
    }

    fn report(&mut self, node: NodeNumber, attempt: Attempt, verdict: Verdict) {
        let runtime = Duration::from_millis(300);
        let next = self.scheduler.finished(node, attempt, verdict, runtime, self.now);
        if matches!(next, Next::Commit | Next::GiveUp) {
            self.over(attempt.job, attempt.index);
        }
    }

    fn over(&mut self, id: JobId, index: u64) {
        let logged = self.log.get_mut(&id).expect("only known jobs have results");
        assert!(index < logged.count, "a task that never was");
        assert!(!logged.cancelled, "a result of a cancelled job");
        assert!(logged.over.insert(index), "{id}/{index} is over twice");
        // As the log applies it, some time later; telling at once covers less.
        if index.is_multiple_of(2) {
            self.scheduler.committed(id, index);
        }
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Cancel { node, attempt } => {
                    if let Some(held) = self.really.get_mut(&node) {
                        held.remove(&attempt);
                    }
                }
                Action::GiveUp { job, index, .. } => self.over(job, index),
            }
        }
    }

    fn failover(&mut self) {
        self.scheduler = Scheduler::new(Config::default());
        for (id, logged) in &self.log {
            let Some(facts) = logged.facts.clone().filter(|_| !logged.cancelled) else { continue };
            self.scheduler.add_job(*id, facts);
            for index in 0..logged.count {
                if logged.over.contains(&index) {
                    continue;
                }
                match logged.pinned.get(&index) {
                    Some(node) => self.scheduler.add_pinned(*id, index, *node),
                    None => self.scheduler.add_tasks(*id, index, 1),
                }
            }
        }
        self.scheduler.take_over(self.really.keys().copied(), self.now);
    }

    /// Faults stop: all must end.
    fn settle(&mut self) {
        let jobs: Vec<JobId> = self.log.keys().copied().collect();
        for _ in 0..1000 {
            self.now += Duration::from_millis(1100);
            for node in (1..=NODES).map(NodeNumber) {
                self.up(node);
            }
            let actions = self.scheduler.tick(self.now);
            self.act(actions);
            for node in (1..=NODES).map(NodeNumber) {
                self.pull(node, 8, true);
                while self.really.get(&node).is_some_and(|held| !held.is_empty()) {
                    self.end(node, 0, Verdict::Done, false);
                    let actions = self.scheduler.take_actions();
                    self.act(actions);
                }
            }
            if !self.scheduler.has_work() && self.scheduler.rows() == 0 {
                break;
            }
        }
        for id in jobs {
            let logged = &self.log[&id];
            if !logged.cancelled {
                assert_eq!(logged.over.len() as u64, logged.count, "tasks of {id} are lost");
                assert_eq!(self.scheduler.progress(id), Some(super::Progress::default()));
            }
        }
        assert_eq!(self.scheduler.rows(), 0);
        for node in (1..=NODES).map(NodeNumber) {
            let worker = self.scheduler.workers.get(node).expect("all are up");
            assert_eq!((worker.used, worker.held.len()), (Slots::NONE, 0), "slots leaked");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_or_over_twice(events in prop::collection::vec(event(), 1..150)) {
        let mut world = World::new();
        for event in &events {
            world.play(event);
        }
        world.settle();
    }
}

/// A task of the model of order: of which user and job.
struct Line {
    facts: JobFacts,
    waiting: std::ops::Range<u64>,
    running: u64,
}

/// Whose turn it is, by looking at everything.
fn turn(lines: &BTreeMap<JobId, Line>, room: Slots) -> Option<(JobId, u64)> {
    let fits = |line: &&Line| !line.waiting.is_empty() && room.fits(line.facts.need);
    let top = lines.values().filter(fits).map(|line| line.facts.priority).max()?;
    let used = |user: &str| -> u64 {
        let of = lines.values().filter(|line| line.facts.user == user);
        of.map(|line| line.running * line.facts.need.cpu_milli).sum()
    };
    let weight = |user: &str| -> u64 {
        let of = lines.values().filter(|line| line.facts.user == user);
        u64::from(of.map(|line| line.facts.weight).max().unwrap_or(1))
    };
    let (id, line) = lines.iter().filter(|(_, line)| fits(line) && line.facts.priority == top).min_by(
        |(a, x), (b, y)| {
            let left = used(&x.facts.user) * weight(&y.facts.user);
            let right = used(&y.facts.user) * weight(&x.facts.user);
            left.cmp(&right)
                .then_with(|| first_job(lines, &x.facts.user).cmp(&first_job(lines, &y.facts.user)))
                .then(a.cmp(b))
        },
    )?;
    Some((*id, line.waiting.start))
}

/// Users are numbered as they come, which decides between equals.
fn first_job(lines: &BTreeMap<JobId, Line>, user: &str) -> Option<JobId> {
    lines.iter().find(|(_, line)| line.facts.user == user).map(|(id, _)| *id)
}

proptest! {
    #[test]
    fn everyone_in_turn(
        jobs in prop::collection::vec((0_u32..4, 0_i32..2, 1_u64..3, 1_u64..30), 1..6),
        steps in prop::collection::vec((1_u64..=3, 1_usize..4, any::<bool>()), 1..120),
    ) {
        let mut scheduler = Scheduler::new(Config { backups: false, ..Config::default() });
        let mut lines = BTreeMap::new();
        for (at, (user, priority, cores, count)) in jobs.into_iter().enumerate() {
            let id = JobId(at as u64 + 1);
            let facts = JobFacts {
                user: format!("u{user}"),
                priority,
                weight: user + 1,
                retries: 0,
                need: Slots::cores(cores, 0),
                backups: false,
                standing: false,
            };
            scheduler.add_job(id, facts.clone());
            scheduler.add_tasks(id, 0, count);
            lines.insert(id, Line { facts, waiting: 0..count, running: 0 });
        }
        let mut held: BTreeMap<NodeNumber, Vec<Attempt>> = BTreeMap::new();
        let now = Duration::ZERO;
        for node in 1..=3 {
            scheduler.worker_up(NodeNumber(node), SLOTS, now);
        }
        for (node, limit, ends) in steps {
            let node = NodeNumber(node);
            let mine = held.entry(node).or_default();
            if ends && !mine.is_empty() {
                let attempt = mine.remove(0);
                let next = scheduler.finished(node, attempt, Verdict::Done, Duration::from_secs(1), now);
                prop_assert_eq!(next, Next::Commit);
                lines.get_mut(&attempt.job).expect("known").running -= 1;
            }
            let used = |attempt: &Attempt| lines[&attempt.job].facts.need;
            let mut room = mine.iter().fold(SLOTS, |room, attempt| room.minus(used(attempt)));
            let grants = scheduler.pull(node, SLOTS, limit, now);
            for grant in &grants {
                let expected = turn(&lines, room);
                prop_assert_eq!(expected, Some((grant.attempt.job, grant.attempt.index)));
                let line = lines.get_mut(&grant.attempt.job).expect("known");
                line.waiting.start += 1;
                line.running += 1;
                room = room.minus(line.facts.need);
                mine.push(grant.attempt);
            }
            if grants.len() < limit {
                prop_assert_eq!(turn(&lines, room), None, "something fits and was not granted");
            }
        }
    }

    #[test]
    fn two_users_stay_within_one_task_of_their_shares(
        weights in (1_u32..5, 1_u32..5),
        slots in 2_u64..16,
        ends in prop::collection::vec(0_usize..64, 1..150),
    ) {
        let mut scheduler = Scheduler::new(Config { backups: false, ..Config::default() });
        for (id, weight) in [(JobId(1), weights.0), (JobId(2), weights.1)] {
            let facts = JobFacts {
                user: id.to_string(),
                priority: 0,
                weight,
                retries: 0,
                need: Slots::cores(1, 0),
                backups: false,
                standing: false,
            };
            scheduler.add_job(id, facts);
            scheduler.add_tasks(id, 0, 1_000_000);
        }
        let (node, now) = (NodeNumber(1), Duration::ZERO);
        scheduler.worker_up(node, Slots::cores(slots, 0), now);
        let mut running: Vec<Attempt> = Vec::new();
        for end in ends {
            running.extend(scheduler.pull(node, Slots::cores(slots, 0), 64, now).iter().map(|g| g.attempt));
            prop_assert_eq!(running.len() as u64, slots);
            let first = running.iter().filter(|attempt| attempt.job == JobId(1)).count() as u64;
            let (mine, all) = (u64::from(weights.0), u64::from(weights.0 + weights.1));
            prop_assert!((first * all).abs_diff(slots * mine) <= all, "{first} of {slots} for {weights:?}");
            let attempt = running.swap_remove(end % running.len());
            scheduler.finished(node, attempt, Verdict::Done, Duration::from_secs(1), now);
        }
        prop_assert!(scheduler.rows() <= 2 + 64, "a million that wait are one row");
    }
}
