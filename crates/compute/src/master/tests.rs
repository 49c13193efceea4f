//! Stories of a master over rows and beats, without a network.

use std::sync::Arc;

use trine_storage::Keyspace;

use super::*;
use crate::command::{Answer, Command};
use crate::messages::Held;
use crate::spec::{Halt, HaltOn, Resources, When};
use crate::state::tests::{append, create, rows, run};

const ONE: NodeNumber = NodeNumber(1);
const TWO: NodeNumber = NodeNumber(2);

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn reign(rows: &Arc<dyn Keyspace>, reign: u64, workers: &[NodeNumber], now: Duration) -> Master {
    let config = schedule::Config { backups: false, ..schedule::Config::default() };
    Master::take_over((reign, ONE), config, &**rows, workers.iter().copied(), now).expect("rows decode")
}

fn beat(master: &Master, held: &[Attempt], ended: Vec<Ended>) -> Beat {
    let slots = Resources::of(2_000, 0);
    let busy = u32::try_from(held.len()).unwrap_or(u32::MAX) * 1_000;
    let free = Resources::of(2_000_u32.saturating_sub(busy), 0);
    let held = held.iter().map(|attempt| Held { attempt: *attempt, elapsed: Some(at(1)) }).collect();
    Beat { reign: master.reign(), slots, free, ahead: 0, held, ended }
}

fn ended(attempt: Attempt, code: u8) -> Ended {
    let mut result = without_run(attempt.index, TWO, Outcome::Exited { code });
    result.attempt = attempt.attempt;
    Ended { attempt, result }
}

fn grants(master: &mut Master, rows: &Arc<dyn Keyspace>, node: NodeNumber, now: Duration) -> Vec<Attempt> {
    master.assign(&**rows, &[node], now);
    let orders = master.orders(node).unwrap_or_default();
    orders.grants.iter().map(|granted| granted.attempt).collect()
}

/// Commits what waits; returns how many results count.
fn commit(master: &mut Master, rows: &Arc<dyn Keyspace>) -> usize {
    let batch = master.next_commit();
    let results = batch.iter().map(|pending| pending.returned.clone()).collect();
    let Ok(Answer::Committed(answers)) = run(rows, Command::Commit { results }) else { panic!("committed") };
    master.committed(&batch, at(20));
    answers.iter().filter(|answer| **answer == crate::command::Committed::Counts).count()
}

#[test]
fn a_task_goes_to_a_worker_and_its_result_into_the_log() {
    let rows = rows();
    let job = create(&rows, JobSpec::default());
    append(&rows, job, 3).expect("added");
    let mut master = reign(&rows, 7, &[], at(0));
    let stranger = Beat { reign: 0, ..beat(&master, &[], vec![]) };
    assert!(!master.beat(TWO, stranger, at(1)), "it must hear first who the master is");
    assert!(master.beat(TWO, beat(&master, &[], vec![]), at(1)));
    let first = grants(&mut master, &rows, TWO, at(2));
    assert_eq!(first.iter().map(|attempt| attempt.index).collect::<Vec<_>>(), [0, 1], "two slots");
    let done = ended(first[0], 0);
    assert!(master.beat(TWO, beat(&master, &first[1..], vec![done.clone()]), at(12)));
    assert_eq!(grants(&mut master, &rows, TWO, at(12)).len(), 1);
    // Told again before it is committed, it is no news and not settled either.
    master.beat(TWO, beat(&master, &first[1..], vec![done]), at(13));
    assert!(master.orders(TWO).is_none_or(|orders| orders.settled.is_empty()));
    assert_eq!(commit(&mut master, &rows), 1);
    // Letting go waits for company.
    assert!(master.has_orders(TWO) && !master.has_urgent_orders(TWO));
    assert_eq!(master.orders(TWO).map(|orders| orders.settled), Some(vec![first[0]]));
    assert_eq!(commit(&mut master, &rows), 0);
}

#[test]
fn how_long_results_waited_is_told_when_their_job_is_over() {
    let rows = rows();
    let job = create(&rows, JobSpec::default());
    append(&rows, job, 2).expect("added");
    let mut master = reign(&rows, 7, &[], at(0));
    master.beat(TWO, beat(&master, &[], vec![]), at(1));
    let running = grants(&mut master, &rows, TWO, at(2));
    master.beat(TWO, beat(&master, &[], running.iter().map(|attempt| ended(*attempt, 0)).collect()), at(12));
    run(&rows, Command::Close { job, submitted: Waited { tasks: 2, micros: 9 } }).expect("closed");
    assert_eq!(master.next_account(), None);
    assert_eq!(commit(&mut master, &rows), 2);
    assert_eq!(master.next_account(), None, "it is not known to be over");
    master.follow(&*rows, at(21)).expect("rows decode");
    let told = master.next_account().expect("it is over");
    assert_eq!((told, master.next_account()), ((job, Waited { tasks: 2, micros: 16_000 }), None));
    run(&rows, Command::Account { job, committed: told.1 }).expect("kept");
    let progress = state::progress(&*rows, job).expect("decodes").expect("there");
    assert_eq!((progress.committed, progress.submitted.micros), (told.1, 9));
    master.follow(&*rows, at(22)).expect("rows decode");
    assert_eq!(master.next_account(), None);
}

#[test]
fn a_new_master_learns_what_runs_and_gives_it_to_nobody_else() {
    let rows = rows();
    let job = create(&rows, JobSpec::default());
    append(&rows, job, 2).expect("added");
    let mut old = reign(&rows, 7, &[], at(0));
    old.beat(TWO, beat(&old, &[], vec![]), at(1));
    let running = grants(&mut old, &rows, TWO, at(1));
    assert_eq!(running.len(), 2);
    let mut new = reign(&rows, 8, &[TWO, ONE], at(0));
    new.beat(ONE, beat(&new, &[], vec![]), at(1));
    assert_eq!(grants(&mut new, &rows, ONE, at(1)), [], "it waits for what the other one tells");
    new.beat(TWO, beat(&new, &running, vec![]), at(2));
    assert_eq!(grants(&mut new, &rows, ONE, at(3)), []);
    new.beat(TWO, beat(&new, &[], running.iter().map(|attempt| ended(*attempt, 0)).collect()), at(9));
    assert_eq!(commit(&mut new, &rows), 2);
    // What the old one had collected, too, changes nothing.
    old.beat(TWO, beat(&old, &[], running.iter().map(|attempt| ended(*attempt, 1)).collect()), at(9));
    assert_eq!(commit(&mut old, &rows), 0);
}

#[test]
fn failures_count_over_changes_of_the_master() {
    let rows = rows();
    let job = create(&rows, JobSpec { retries: 2, ..JobSpec::default() });
    append(&rows, job, 1).expect("added");
    let mut first = reign(&rows, 7, &[], at(0));
    first.beat(TWO, beat(&first, &[], vec![]), at(1));
    let one = grants(&mut first, &rows, TWO, at(1));
    first.beat(TWO, beat(&first, &[], vec![ended(one[0], 1)]), at(2));
    assert!(first.orders(TWO).is_none_or(|orders| orders.settled.is_empty()), "not durable yet");
    assert_eq!(commit(&mut first, &rows), 1);
    assert_eq!(first.orders(TWO).map(|orders| orders.settled), Some(one));
    // The second failure is told to a master that ends before it is durable.
    let mut second = reign(&rows, 8, &[], at(0));
    second.beat(TWO, beat(&second, &[], vec![]), at(1));
    let two = grants(&mut second, &rows, TWO, at(1));
    assert_eq!(two.first().map(|attempt| attempt.attempt), Some(2), "a number is not given again");
    second.beat(TWO, beat(&second, &[], vec![ended(two[0], 1)]), at(2));
    let mut third = reign(&rows, 9, &[TWO], at(0));
    third.beat(TWO, beat(&third, &[], vec![ended(two[0], 1)]), at(1));
    assert_eq!(commit(&mut third, &rows), 1);
    assert_eq!(commit(&mut second, &rows), 0, "it counts once");
    let three = grants(&mut third, &rows, TWO, at(2_000));
    assert_eq!(three.len(), 1);
    third.beat(TWO, beat(&third, &[], vec![ended(three[0], 1)]), at(2_001));
    assert_eq!(commit(&mut third, &rows), 1);
    let progress = state::progress(&*rows, job).expect("rows decode").expect("a job");
    assert_eq!((progress.done, progress.failed), (1, 1), "two retries are three attempts in all");
}

#[test]
fn tasks_that_claim_to_take_nothing_are_bounded() {
    let rows = rows();
    let resources = Resources::NONE;
    let job = create(&rows, JobSpec { resources, ..JobSpec::default() });
    append(&rows, job, 1_000).expect("added");
    let mut master = reign(&rows, 7, &[], at(0));
    master.beat(TWO, beat(&master, &[], vec![]), at(1));
    assert_eq!(grants(&mut master, &rows, TWO, at(1)).len(), 200, "a hundred per processor");
}

#[test]
fn a_silent_worker_s_tasks_go_to_another() {
    let rows = rows();
    let job = create(&rows, JobSpec::default());
    append(&rows, job, 1).expect("added");
    let mut master = reign(&rows, 7, &[], at(0));
    master.beat(TWO, beat(&master, &[], vec![]), at(1));
    assert_eq!(grants(&mut master, &rows, TWO, at(1)).len(), 1);
    let mut again = Vec::new();
    for ms in (100..2_000).step_by(100) {
        master.beat(ONE, beat(&master, &again, vec![]), at(ms));
        master.tick(at(ms));
        again.extend(grants(&mut master, &rows, ONE, at(ms)));
    }
    assert_eq!(again.iter().map(|attempt| (attempt.index, attempt.attempt)).collect::<Vec<_>>(), [(0, 2)]);
}

#[test]
fn what_ends_in_the_log_ends_at_the_workers() {
    let rows = rows();
    let job = create(&rows, JobSpec::default());
    append(&rows, job, 2).expect("added");
    let mut master = reign(&rows, 7, &[], at(0));
    master.beat(TWO, beat(&master, &[], vec![]), at(1));
    let running = grants(&mut master, &rows, TWO, at(1));
    run(&rows, Command::Cancel { job }).expect("cancelled");
    master.follow(&*rows, at(2)).expect("rows decode");
    let orders = master.orders(TWO).expect("something to do");
    assert_eq!(orders.cancel, running);
    assert_eq!((orders.over, master.live_jobs()), (vec![job], 0));
}

#[test]
fn a_halted_job_ends_with_what_runs() {
    let rows = rows();
    let halt = Some(Halt { on: HaltOn::Failures, count: 1, now: false });
    let job = create(&rows, JobSpec { halt, ..JobSpec::default() });
    append(&rows, job, 9).expect("added");
    let mut master = reign(&rows, 7, &[], at(0));
    master.beat(TWO, beat(&master, &[], vec![]), at(1));
    let running = grants(&mut master, &rows, TWO, at(1));
    master.beat(TWO, beat(&master, &running[1..], vec![ended(running[0], 1)]), at(2));
    assert_eq!(commit(&mut master, &rows), 1);
    master.follow(&*rows, at(3)).expect("rows decode");
    assert_eq!(grants(&mut master, &rows, TWO, at(3)), []);
    master.tick(at(4));
    assert_eq!(master.next_cancel(), None, "one still runs");
    master.beat(TWO, beat(&master, &[], vec![ended(running[1], 0)]), at(5));
    assert_eq!(commit(&mut master, &rows), 1);
    master.tick(at(6));
    assert_eq!(master.next_cancel(), Some(job));
}

#[test]
fn an_idle_worker_loses_its_lease_only_after_a_grant() {
    let rows = rows();
    let mut master = reign(&rows, 7, &[], at(0));
    master.beat(TWO, beat(&master, &[], vec![]), at(1));
    for ms in (0..10_000).step_by(500) {
        master.heard(TWO, at(ms));
        master.tick(at(ms));
        assert!(master.knows(TWO), "its answer is held back, and nobody suspects it: {ms}");
    }
    let job = create(&rows, JobSpec::default());
    append(&rows, job, 1).expect("added");
    master.follow(&*rows, at(10_000)).expect("rows decode");
    let first = grants(&mut master, &rows, TWO, at(10_000));
    assert_eq!(first.len(), 1, "at once");
    master.tick(at(11_400));
    assert!(master.knows(TWO), "the lease began with the grant");
    master.tick(at(11_600));
    assert!(!master.knows(TWO));
    let three = NodeNumber(3);
    master.beat(three, beat(&master, &[], vec![]), at(11_601));
    assert_eq!(grants(&mut master, &rows, three, at(11_602)).len(), 1, "runs elsewhere within two seconds");
}

#[test]
fn tasks_that_nobody_wants_do_not_begin() {
    let rows = rows();
    let job = create(&rows, JobSpec::default());
    append(&rows, job, 4).expect("added");
    let mut master = reign(&rows, 7, &[], at(0));
    assert!(master.beat(TWO, beat(&master, &[], vec![]), at(1)));
    let first = grants(&mut master, &rows, TWO, at(2));
    assert_eq!(first.len(), 2);
    master.beat(TWO, beat(&master, &first[1..], vec![ended(first[0], 0)]), at(3));
    // Done, running, waiting, and one that there is not.
    master.drop_tasks(job, &[0, 1, 2, 9], at(2));
    assert_eq!(master.orders(TWO).map(|orders| orders.cancel), Some(vec![first[1]]));
    assert_eq!(commit(&mut master, &rows), 3, "one result for each task");
    let done = crate::machine::results(&*rows.view(), job, 0, 1_000_000).expect("results").results;
    let outcome = |row: &Encoded| codec::decode::<TaskResult>(&row.0, "result").expect("decodes").outcome;
    let cancelled = Outcome::Cancelled;
    assert_eq!(
        done.iter().map(outcome).collect::<Vec<_>>(),
        [Outcome::Exited { code: 0 }, cancelled.clone(), cancelled]
    );
    assert!(master.beat(TWO, beat(&master, &[], vec![]), at(4)));
    let left = grants(&mut master, &rows, TWO, at(5));
    assert_eq!(left.iter().map(|attempt| attempt.index).collect::<Vec<_>>(), [3]);
}

#[test]
fn a_job_waits_for_those_before_it_also_after_a_change_of_master() {
    let rows = rows();
    let first = create(&rows, JobSpec::default());
    let next =
        create(&rows, JobSpec { when: When { after: vec![first], ..When::default() }, ..JobSpec::default() });
    let doomed = create(
        &rows,
        JobSpec {
            when: When { after: vec![next], deadline_ms: Some(50), ..When::default() },
            ..JobSpec::default()
        },
    );
    for job in [first, next] {
        append(&rows, job, 1).expect("added");
        run(&rows, Command::Close { job, submitted: Waited::default() }).expect("closed");
    }
    let mut master = reign(&rows, 7, &[], at(0));
    let hello = beat(&master, &[], vec![]);
    assert!(master.beat(ONE, hello, at(1)));
    let granted = grants(&mut master, &rows, ONE, at(1));
    assert_eq!(granted.iter().map(|attempt| attempt.job).collect::<Vec<_>>(), [first]);
    let told = beat(&master, &[], vec![ended(granted[0], 0)]);
    master.beat(ONE, told, at(2));
    assert_eq!(commit(&mut master, &rows), 1);
    for (number, mut master) in [(7, master), (8, reign(&rows, 8, &[], at(3)))] {
        master.follow(&*rows, at(3)).expect("rows decode");
        let hello = beat(&master, &[], vec![]);
        assert!(master.beat(ONE, hello, at(4)));
        let granted = grants(&mut master, &rows, ONE, at(4));
        assert_eq!(granted.iter().map(|attempt| attempt.job).collect::<Vec<_>>(), [next], "{number}");
        master.look_at_deadlines(49);
        assert_eq!(master.next_review(), None);
        master.look_at_deadlines(50);
        assert_eq!((master.next_review(), master.next_review()), (Some(doomed), None));
    }
}

#[test]
fn each_master_says_what_is_due_and_nobody_executes_a_schedule() {
    let rows = rows();
    let cron = Schedule::Cron { text: "* * * * *".into(), zone: "UTC".into(), parts: Vec::new() };
    let when = When { schedule: Some(cron), ..When::default() };
    let job = create(&rows, JobSpec { when, ..JobSpec::default() });
    append(&rows, job, 1).expect("added");
    run(&rows, Command::Close { job, submitted: Waited::default() }).expect("closed");
    let mut master = reign(&rows, 7, &[], at(0));
    let hello = beat(&master, &[], vec![]);
    assert!(master.beat(ONE, hello, at(1)) && grants(&mut master, &rows, ONE, at(1)).is_empty());
    master.look_at_deadlines(1);
    assert_eq!(master.next_fire(), Some((job, (None, Some(60_000)))));
    run(&rows, Command::Fire { job, due_ms: None, next_ms: Some(5) }).expect("armed");
    for number in [8, 9] {
        let mut master = reign(&rows, number, &[], at(0));
        master.look_at_deadlines(4);
        assert_eq!(master.next_fire(), None);
        master.look_at_deadlines(7);
        assert_eq!(master.next_fire(), Some((job, (Some(5), Some(60_000)))));
        master.look_at_deadlines(10 * 60_000);
        assert_eq!(master.next_fire(), Some((job, (Some(5), Some(11 * 60_000)))), "one for all missed");
    }
    run(&rows, Command::Fire { job, due_ms: Some(5), next_ms: Some(60_000) }).expect("copied");
    master.follow(&*rows, at(2)).expect("rows decode");
    let granted = grants(&mut master, &rows, ONE, at(2));
    assert_eq!(granted.iter().map(|attempt| attempt.job).collect::<Vec<_>>(), [JobId(2)]);
    run(&rows, Command::Cancel { job }).expect("cancelled");
    master.follow(&*rows, at(3)).expect("rows decode");
    master.look_at_deadlines(100_000);
    assert_eq!(master.next_fire(), None);
}

#[test]
fn lost_workers_are_counted_over_masters_and_staging_is_not_the_tasks_failure() {
    let rows = rows();
    let job = create(&rows, JobSpec::default());
    append(&rows, job, 1).expect("added");
    run(&rows, Command::Close { job, submitted: Waited::default() }).expect("closed");
    let row = || state::progress(&*rows, job).expect("decodes").expect("there");
    for number in 1..=u64::from(schedule::MAX_LOSSES) + 1 {
        assert_eq!(row().done, 0, "it is tried again");
        let mut master = reign(&rows, number, &[], at(0));
        let hello = beat(&master, &[], vec![]);
        assert!(master.beat(ONE, hello, at(1)));
        let [attempt] = grants(&mut master, &rows, ONE, at(2))[..] else { panic!("one, {number}") };
        if number % 2 == 0 {
            master.tick(at(10_000));
        } else {
            let mut unstaged = ended(attempt, 0);
            unstaged.result.outcome = Outcome::NotStaged { why: "nobody has it".into() };
            let told = beat(&master, &[], vec![unstaged]);
            assert!(master.beat(ONE, told, at(3)));
        }
        assert_eq!(commit(&mut master, &rows), 1, "the loss, or at last the result");
    }
    assert_eq!((row().done, row().failed, row().phase), (1, 1, Phase::Over));
}

#[test]
fn a_job_whose_client_is_gone_is_closed() {
    let rows = rows();
    let [gone, reads] = [(); 2].map(|()| create(&rows, JobSpec::default()));
    append(&rows, gone, 1).expect("added");
    let hour = OPEN_WITHOUT_CLIENT;
    let mut master = reign(&rows, 7, &[], at(0));
    assert_eq!(master.next_close(hour.saturating_sub(at(1))), None);
    append(&rows, gone, 1).expect("added");
    master.follow(&*rows, at(5)).expect("rows decode");
    master.followed(reads, hour);
    assert_eq!(master.next_close(hour + at(4)), None);
    assert_eq!(master.next_close(hour + at(5)), Some(gone));
    assert_eq!(master.next_close(hour + at(6)), None, "it was just named");
    run(&rows, Command::Close { job: gone, submitted: Waited::default() }).expect("closed");
    master.follow(&*rows, hour + at(7)).expect("rows decode");
    assert_eq!(master.next_close(hour * 2), Some(reads));
    assert_eq!(master.next_close(hour * 4), Some(reads), "the log did not hear of it");
}
