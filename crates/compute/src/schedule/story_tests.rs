//! One story per promise, in the order in which a user would ask.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use trine_types::NodeNumber;

use super::facts::{AVOID_NODE, MAX_LOSSES};
use super::{Action, Config, Grant, Held, JobFacts, Next, Scheduler, Slots, Verdict, Why};
use crate::amounts::Amounts;
use crate::spec::{Attempt, JobId};

const JOB: JobId = JobId(1);
const CORE: Slots = Slots::cores(1, 0);
const A: NodeNumber = NodeNumber(1);
const B: NodeNumber = NodeNumber(2);

fn facts() -> JobFacts {
    JobFacts {
        user: "ann".into(),
        priority: 0,
        weight: 1,
        retries: 1,
        need: CORE,
        backups: true,
        standing: false,
    }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Two workers of one core, one job.
fn two_workers(tasks: u64) -> Scheduler {
    let mut scheduler = Scheduler::new(Config::default());
    scheduler.add_job(JOB, facts());
    scheduler.add_tasks(JOB, 0, tasks);
    scheduler.worker_up(A, CORE, secs(0));
    scheduler.worker_up(B, CORE, secs(0));
    scheduler
}

fn one(grants: &[Grant]) -> Attempt {
    assert_eq!(grants.len(), 1, "{grants:?}");
    grants[0].attempt
}

fn pull(scheduler: &mut Scheduler, node: NodeNumber, now: Duration) -> Vec<Grant> {
    scheduler.pull(node, CORE, 8, now)
}

fn beat(scheduler: &mut Scheduler, nodes: &[NodeNumber], now: Duration) -> Vec<Action> {
    for node in nodes {
        scheduler.heard(*node, now);
    }
    scheduler.tick(now)
}

#[test]
fn small_tasks_leave_room_for_a_large_one_in_the_end() {
    let mut scheduler = Scheduler::new(Config { backups: false, ..Config::default() });
    let whole = Slots::cores(2, 0);
    for node in [A, B] {
        scheduler.worker_up(node, whole, secs(0));
    }
    let mut running: BTreeMap<NodeNumber, VecDeque<Attempt>> = BTreeMap::new();
    for (job, need) in [(JobId(1), CORE), (JobId(2), whole)] {
        scheduler.add_job(job, JobFacts { need, user: format!("{job}"), ..facts() });
        scheduler.add_tasks(job, 0, 1_000);
        for node in [A, B] {
            let grants = scheduler.pull(node, whole, 8, secs(0));
            running.entry(node).or_default().extend(grants.iter().map(|grant| grant.attempt));
        }
    }
    // Small tasks end one by one: no worker has two free cores by itself.
    for step in 1..100_u64 {
        let now = Duration::from_millis(step * 100);
        for node in [A, B] {
            let here = running.entry(node).or_default();
            if let Some(ended) = here.pop_front() {
                scheduler.finished(node, ended, Verdict::Done, secs(1), now);
            }
            let free = whole.minus(Slots::cores(here.len() as u64, 0));
            for grant in scheduler.pull(node, free, 8, now) {
                if grant.attempt.job == JobId(2) {
                    assert!((30..35).contains(&step), "{step}");
                    return;
                }
                here.push_back(grant.attempt);
            }
        }
    }
    panic!("small tasks took every core that was free");
}

fn with_gpus(count: u32) -> Slots {
    let named = [("gpu".to_owned(), count)];
    Slots { named: Amounts::try_from(BTreeMap::from(named)).expect("a name"), ..CORE }
}

#[test]
fn named_resources_are_counted_and_hold_up_nobody_else() {
    let mut scheduler = Scheduler::new(Config { backups: false, ..Config::default() });
    let whole = Slots { named: with_gpus(1).named, ..Slots::cores(4, 0) };
    scheduler.worker_up(A, whole, secs(0));
    scheduler.worker_up(B, Slots::cores(4, 0), secs(0));
    let (gpu, gpus, plain) = (JobId(1), JobId(2), JobId(3));
    for (job, need) in [(gpu, with_gpus(1)), (gpus, with_gpus(2)), (plain, CORE)] {
        scheduler.add_job(job, JobFacts { need, user: format!("{job}"), ..facts() });
        scheduler.add_tasks(job, 0, if job == plain { 100 } else { 2 });
    }
    let jobs = |grants: &[Grant]| grants.iter().map(|grant| grant.attempt.job).collect::<Vec<_>>();
    assert_eq!(jobs(&scheduler.pull(B, whole, 1, secs(0))), [plain], "B has none, whatever it says is free");
    let first = scheduler.pull(A, whole, 1, secs(0));
    assert_eq!(jobs(&first), [gpu]);
    assert!(scheduler.could_fit(gpu) && !scheduler.could_fit(gpus));
    // The only one is taken for long: what needs none goes on, there too.
    let free = whole.minus(with_gpus(1));
    for second in 1..10 {
        let grants = scheduler.pull(A, free, 1, secs(second));
        assert_eq!(jobs(&grants), [plain], "after {second} s");
        scheduler.finished(A, grants[0].attempt, Verdict::Done, secs(1), secs(second));
    }
    scheduler.finished(A, first[0].attempt, Verdict::Done, secs(10), secs(10));
    assert_eq!(jobs(&scheduler.pull(A, whole, 1, secs(10))), [gpu]);
}

#[test]
fn a_failed_task_runs_again_until_no_retry_is_left() {
    let mut scheduler = two_workers(1);
    let first = one(&pull(&mut scheduler, A, secs(0)));
    assert_eq!(scheduler.finished(A, first, Verdict::Failed, secs(1), secs(1)), Next::Again);
    assert_eq!(scheduler.finished(A, first, Verdict::Failed, secs(1), secs(1)), Next::Stale);
    assert!(pull(&mut scheduler, A, secs(1)).is_empty(), "it failed there");
    let second = one(&pull(&mut scheduler, B, secs(1)));
    assert_eq!(scheduler.finished(B, second, Verdict::Failed, secs(1), secs(2)), Next::GiveUp);
    assert!(!scheduler.has_work());
}

#[test]
fn a_silent_worker_is_lost_and_its_task_runs_elsewhere() {
    let mut scheduler = two_workers(1);
    let first = one(&pull(&mut scheduler, A, secs(0)));
    assert!(beat(&mut scheduler, &[B], secs(1)).is_empty());
    assert!(pull(&mut scheduler, B, secs(1)).is_empty());
    beat(&mut scheduler, &[B], secs(2));
    assert!(!scheduler.knows(A));
    let second = one(&pull(&mut scheduler, B, secs(2)));
    assert!(second.attempt > first.attempt);
    // It was only cut off: what it brings first counts, the other is cancelled.
    assert_eq!(scheduler.finished(A, first, Verdict::Done, secs(1), secs(3)), Next::Commit);
    assert_eq!(scheduler.take_actions(), [Action::Cancel { node: B, attempt: second }]);
    assert_eq!(scheduler.finished(B, second, Verdict::Done, secs(1), secs(3)), Next::Stale);
}

#[test]
fn a_task_that_takes_its_workers_down_is_given_up() {
    let mut scheduler = two_workers(1);
    for round in 0..=u64::from(MAX_LOSSES) {
        let now = secs(round * 2);
        scheduler.worker_up(A, CORE, now);
        one(&pull(&mut scheduler, A, now));
        scheduler.worker_lost(A, now);
    }
    let given_up = Action::GiveUp { job: JOB, index: 0, why: Why::LostTooOften };
    assert_eq!(scheduler.take_actions(), [given_up]);
    assert!(!scheduler.has_work());
}

#[test]
fn a_standing_job_is_wanted_until_it_is_cancelled() {
    let mut scheduler = Scheduler::new(Config::default());
    scheduler.worker_up(A, CORE, secs(0));
    scheduler.add_job(JOB, JobFacts { standing: true, ..facts() });
    scheduler.add_tasks(JOB, 0, 1);
    scheduler.add_pinned(JOB, 1, B);
    let mut now = secs(0);
    // Lost with its worker more often than any other task may be.
    for _ in 0..=MAX_LOSSES + 1 {
        now += secs(2);
        scheduler.worker_up(A, CORE, now);
        one(&pull(&mut scheduler, A, now));
        scheduler.worker_lost(A, now);
    }
    // However it ends, it runs again, after a pause.
    for verdict in [Verdict::Done, Verdict::Failed, Verdict::Failed] {
        now += secs(2);
        scheduler.worker_up(A, CORE, now);
        let attempt = one(&pull(&mut scheduler, A, now));
        assert_eq!(scheduler.finished(A, attempt, verdict, secs(0), now), Next::Again);
        assert!(pull(&mut scheduler, A, now + AVOID_NODE / 2).is_empty());
    }
    // The node that the other one is for comes after a long time.
    now += secs(1_000);
    assert_eq!(scheduler.tick(now), []);
    scheduler.worker_up(B, CORE, now);
    assert_eq!(one(&pull(&mut scheduler, B, now)).index, 1);
}

#[test]
fn a_grant_that_did_not_arrive_is_granted_again() {
    let mut scheduler = two_workers(1);
    one(&pull(&mut scheduler, A, secs(0)));
    scheduler.running(A, &[], Duration::from_millis(500));
    assert!(pull(&mut scheduler, B, Duration::from_millis(500)).is_empty(), "it may be on its way");
    scheduler.running(A, &[], secs(1));
    one(&pull(&mut scheduler, B, secs(1)));
}

#[test]
fn a_new_master_takes_over_what_runs() {
    let mut scheduler = Scheduler::new(Config::default());
    scheduler.add_job(JOB, facts());
    scheduler.add_tasks(JOB, 1, 3);
    scheduler.take_over([A, B], secs(10));
    scheduler.worker_up(A, CORE, secs(10));
    assert!(pull(&mut scheduler, A, secs(10)).is_empty(), "b may run all of it");
    let running = Attempt { job: JOB, index: 2, attempt: 7 };
    let done = Attempt { job: JOB, index: 0, attempt: 1 };
    scheduler.worker_up(B, CORE, secs(10));
    let held = |attempt| Held { attempt, elapsed: Some(secs(3)) };
    scheduler.running(B, &[held(running), held(done)], secs(10));
    assert_eq!(scheduler.take_actions(), [Action::Cancel { node: B, attempt: done }]);
    scheduler.running(A, &[], secs(10));
    assert_eq!(one(&pull(&mut scheduler, A, secs(10))).index, 1, "all have told");
    assert!(pull(&mut scheduler, B, secs(10)).is_empty(), "it is busy");
    scheduler.worker_lost(B, secs(11));
    scheduler.worker_lost(A, secs(11));
    scheduler.worker_up(A, CORE, secs(11));
    let again = scheduler.pull(A, Slots::cores(9, 0), 1, secs(13));
    let other = scheduler.pull(A, Slots::cores(9, 0), 1, secs(13));
    assert_eq!((one(&again).index, other.len()), (1, 0));
    scheduler.worker_up(B, CORE, secs(13));
    let adopted = one(&pull(&mut scheduler, B, secs(13)));
    assert_eq!((adopted.index, adopted.attempt), (2, 8), "numbers go on from what was told");
}

#[test]
fn a_new_master_waits_only_so_long_and_not_with_new_jobs() {
    let mut scheduler = Scheduler::new(Config::default());
    scheduler.add_job(JOB, facts());
    scheduler.add_tasks(JOB, 0, 1);
    scheduler.take_over([A, B], secs(10));
    scheduler.worker_up(A, Slots::cores(2, 0), secs(10));
    scheduler.running(A, &[], secs(10));
    scheduler.add_job(JobId(2), facts());
    scheduler.add_tasks(JobId(2), 0, 1);
    assert_eq!(one(&pull(&mut scheduler, A, secs(11))).job, JobId(2));
    assert_eq!(one(&pull(&mut scheduler, A, secs(12))).job, JOB);
}

#[test]
fn a_cancelled_job_is_forgotten_and_its_attempts_are_cancelled() {
    let mut scheduler = two_workers(5);
    let attempt = one(&pull(&mut scheduler, A, secs(0)));
    scheduler.cancel(JOB);
    assert_eq!(scheduler.take_actions(), [Action::Cancel { node: A, attempt }]);
    assert_eq!(scheduler.finished(A, attempt, Verdict::Done, secs(1), secs(1)), Next::Stale);
    assert!(pull(&mut scheduler, A, secs(1)).is_empty() && scheduler.progress(JOB).is_none());
}

#[test]
fn a_task_bound_to_a_node_runs_there_or_not_at_all() {
    let mut scheduler = two_workers(0);
    scheduler.add_pinned(JOB, 0, A);
    scheduler.add_pinned(JOB, 1, NodeNumber(9));
    assert!(pull(&mut scheduler, B, secs(0)).is_empty());
    assert_eq!(one(&pull(&mut scheduler, A, secs(0))).index, 0);
    assert!(beat(&mut scheduler, &[A, B], secs(1)).is_empty());
    assert!(beat(&mut scheduler, &[A, B], secs(30)).is_empty());
    let given_up = Action::GiveUp { job: JOB, index: 1, why: Why::NodeAbsent };
    assert_eq!(beat(&mut scheduler, &[A, B], secs(31)), [given_up]);
}

#[test]
fn a_straggler_gets_a_backup_and_the_first_result_wins() {
    let mut scheduler = two_workers(5);
    let slow = one(&pull(&mut scheduler, A, secs(0)));
    for second in 1..=4 {
        let attempt = one(&pull(&mut scheduler, B, secs(second - 1)));
        let next = scheduler.finished(B, attempt, Verdict::Done, secs(1), secs(second));
        assert_eq!(next, Next::Commit);
        scheduler.heard(A, secs(second));
    }
    beat(&mut scheduler, &[A, B], secs(4));
    assert!(scheduler.prefetch(B, CORE, 8, secs(4)).is_empty(), "it would wait there");
    let grants = pull(&mut scheduler, B, secs(4));
    let backup = one(&grants);
    assert!(grants[0].backup && backup.index == slow.index);
    assert!(pull(&mut scheduler, A, secs(4)).is_empty());
    assert_eq!(scheduler.finished(B, backup, Verdict::Done, secs(1), secs(5)), Next::Commit);
    assert_eq!(scheduler.take_actions(), [Action::Cancel { node: A, attempt: slow }]);
    assert_eq!(scheduler.finished(A, slow, Verdict::Done, secs(9), secs(9)), Next::Stale);
}

#[test]
fn no_backup_for_what_is_not_slow_or_may_not_run_twice() {
    for (backups, runtime) in [(false, 1), (true, 6)] {
        let mut scheduler = Scheduler::new(Config::default());
        scheduler.add_job(JOB, JobFacts { backups, ..facts() });
        scheduler.add_tasks(JOB, 0, 5);
        scheduler.worker_up(A, CORE, secs(0));
        scheduler.worker_up(B, CORE, secs(0));
        one(&pull(&mut scheduler, A, secs(0)));
        for second in 1..=4 {
            let attempt = one(&pull(&mut scheduler, B, secs(second - 1)));
            scheduler.finished(B, attempt, Verdict::Done, secs(runtime), secs(second));
            scheduler.heard(A, secs(second));
        }
        beat(&mut scheduler, &[A, B], secs(4));
        assert!(pull(&mut scheduler, B, secs(4)).is_empty());
    }
}
