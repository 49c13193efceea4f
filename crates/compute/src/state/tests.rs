//! Stories of jobs, and a model that any sequence of commands must agree with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use trine_storage::{Keyspace, OrderedStore, StateStore};

use super::*;
use crate::limits::KEPT_COPIES;
use crate::spec::{BodyKind, Halt, Schedule, TaskSpec, When};

pub(crate) fn rows() -> Arc<dyn Keyspace> {
    OrderedStore::new(1).keyspace("jobs").expect("opened")
}

pub(crate) fn run(rows: &Arc<dyn Keyspace>, command: Command) -> Result<Answer, Refusal> {
    let mut tx = Transaction::new(&**rows);
    let answer = apply(&mut tx, 7, command);
    let (batch, _) = tx.into_batch().expect("nothing failed");
    rows.commit(batch).expect("committed");
    answer
}

pub(crate) fn create(rows: &Arc<dyn Keyspace>, spec: JobSpec) -> JobId {
    match run(rows, Command::Create { spec: Box::new(spec) }) {
        Ok(Answer::Created(job)) => job,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn range(count: u32) -> Command {
    let tasks: Vec<_> = (0..count).map(|n| TaskSpec::process(["echo".to_owned(), n.to_string()])).collect();
    let tasks = codec::encode_tasks(&tasks, &BodyKind::Process).expect("small");
    Command::Append { job: JobId(0), after: None, count, pinned: false, tasks }
}

pub(crate) fn append(rows: &Arc<dyn Keyspace>, to: JobId, count: u32) -> Result<Answer, Refusal> {
    let Command::Append { after, count, tasks, .. } = range(count) else { panic!("an append") };
    run(rows, Command::Append { job: to, after, count, pinned: false, tasks })
}

fn returned(job: JobId, index: u64, success: bool) -> Returned {
    Returned { job, index, success, result: Bytes::from(format!("{index} {success}")), again: None }
}

fn commit_of(rows: &Arc<dyn Keyspace>, results: Vec<Returned>) -> Vec<Committed> {
    match run(rows, Command::Commit { results }) {
        Ok(Answer::Committed(answers)) => answers,
        other => panic!("{other:?}"),
    }
}

fn phase(rows: &Arc<dyn Keyspace>, job: JobId) -> Phase {
    progress(&**rows, job).expect("decodes").expect("there").phase
}

#[test]
fn jobs_that_are_over_for_long_are_found_part_by_part() {
    let rows = rows();
    let jobs = [(); 3].map(|()| create(&rows, JobSpec::default()));
    for job in [jobs[0], jobs[2]] {
        run(&rows, Command::Cancel { job }).expect("cancelled");
    }
    let found = |from, before_ms| ended_before(&*rows, from, before_ms, 2).expect("reads");
    assert_eq!(found(JobId(0), 8), (vec![jobs[0]], jobs[2]));
    assert_eq!(found(jobs[2], 8), (vec![jobs[2]], JobId(0)));
    assert_eq!(found(JobId(0), 7).0, [], "not yet");
}

#[test]
fn a_job_is_over_when_all_of_its_tasks_are_done() {
    let rows = rows();
    let job = create(&rows, JobSpec::default());
    assert_eq!(append(&rows, job, 2), Ok(Answer::Appended { first: 0 }));
    assert_eq!(append(&rows, job, 1), Ok(Answer::Appended { first: 2 }));
    let (one, two) = (returned(job, 1, true), returned(job, 0, false));
    assert_eq!(
        commit_of(&rows, vec![one.clone(), two, one]),
        [Committed::Counts, Committed::Counts, Committed::Stale]
    );
    assert_eq!(run(&rows, Command::Close { job, submitted: Waited::default() }), Ok(Answer::Done));
    assert_eq!(phase(&rows, job), Phase::Closed);
    assert_eq!(append(&rows, job, 1), Err(Refusal::Closed(job)));
    assert_eq!(
        commit_of(&rows, vec![returned(job, 2, true), returned(job, 3, true)]),
        [Committed::Counts, Committed::Stale]
    );
    let row = progress(&*rows, job).expect("decodes").expect("there");
    assert_eq!((row.phase, row.done, row.failed, row.ended_ms), (Phase::Over, 3, 1, Some(7)));
    assert_eq!(totals(&*rows).expect("decodes").live, 0);
}

#[test]
fn a_range_that_is_sent_again_is_not_added_again() {
    let rows = rows();
    let job = create(&rows, JobSpec::default());
    let Command::Append { count, tasks, .. } = range(3) else { panic!("an append") };
    let mut first = Command::Append { job, after: Some(0), count, pinned: false, tasks };
    assert_eq!(run(&rows, first.clone()), Ok(Answer::Appended { first: 0 }));
    assert_eq!(run(&rows, first.clone()), Ok(Answer::Appended { first: 0 }));
    if let Command::Append { after, .. } = &mut first {
        *after = Some(1);
    }
    assert_eq!(run(&rows, first), Err(Refusal::Outdated { job, tasks: 3 }));
}

#[test]
fn a_job_halts_when_it_has_failed_enough() {
    let rows = rows();
    for (now, expected) in [(true, Phase::Cancelled), (false, Phase::Halting)] {
        let halt = Some(Halt { on: HaltOn::Failures, count: 2, now });
        let job = create(&rows, JobSpec { halt, ..JobSpec::default() });
        append(&rows, job, 5).expect("added");
        commit_of(&rows, vec![returned(job, 0, false), returned(job, 1, true)]);
        assert_eq!(phase(&rows, job), Phase::Open);
        let late = commit_of(&rows, vec![returned(job, 2, false), returned(job, 3, true)]);
        assert_eq!(phase(&rows, job), expected);
        assert_eq!(late[1], if now { Committed::Stale } else { Committed::Counts });
    }
}

#[test]
fn a_forgotten_job_leaves_no_row() {
    let rows = rows();
    let job = create(&rows, JobSpec::default());
    append(&rows, job, 600).expect("added");
    commit_of(&rows, (0..600).map(|n| returned(job, n, true)).collect());
    assert_eq!(run(&rows, Command::Forget { job }), Err(Refusal::NotOver(job)));
    run(&rows, Command::Cancel { job }).expect("cancelled");
    let mut steps = 0;
    while run(&rows, Command::Forget { job }) == Ok(Answer::Forgotten { more: true }) {
        steps += 1;
        assert_eq!(crate::machine::job(&*rows, job), Err(Refusal::NoSuchJob(job)));
    }
    assert!(steps >= 2, "{steps}");
    let left = rows.scan(Bound::Included(&[0x02]), Bound::Unbounded, 100).expect("read");
    assert_eq!(left, vec![]);
    let totals = totals(&*rows).expect("decodes");
    assert_eq!((totals.jobs, totals.bytes, totals.live), (0, 0, 0));
}

#[derive(Debug, Clone)]
enum Step {
    Append(u64, u32),
    Commit(Vec<(u64, u64, bool)>),
    Close(u64),
    Cancel(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let job = || 1_u64..4;
    prop_oneof![
        (job(), 1_u32..5).prop_map(|(job, count)| Step::Append(job, count)),
        prop::collection::vec((job(), 0_u64..12, any::<bool>()), 1..8).prop_map(Step::Commit),
        job().prop_map(Step::Close),
        job().prop_map(Step::Cancel),
    ]
}

proptest! {
    /// Whatever is committed, again and by whom: each task has one result, the
    /// first, and results stand in the order in which they were accepted.
    #[test]
    fn each_task_commits_once(steps in prop::collection::vec(step(), 0..40)) {
        let rows = rows();
        for _ in 0..3 {
            create(&rows, JobSpec::default());
        }
        let mut model: BTreeMap<u64, Vec<(u64, Bytes)>> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Append(job, count) => drop(append(&rows, JobId(job), count)),
                Step::Close(job) => drop(run(&rows, Command::Close { job: JobId(job), submitted: Waited::default() })),
                Step::Cancel(job) => drop(run(&rows, Command::Cancel { job: JobId(job) })),
                Step::Commit(results) => {
                    let results: Vec<_> =
                        results.into_iter().map(|(job, index, ok)| returned(JobId(job), index, ok)).collect();
                    for (sent, answer) in results.iter().zip(commit_of(&rows, results.clone())) {
                        let list = model.entry(sent.job.0).or_default();
                        if answer == Committed::Counts {
                            prop_assert!(list.iter().all(|(index, _)| *index != sent.index));
                            list.push((sent.index, sent.result.clone()));
                        }
                    }
                }
            }
        }
        for job in (1..4).map(JobId) {
            let list = model.remove(&job.0).unwrap_or_default();
            let stored = crate::machine::results(&*rows, job, 0, u32::MAX).expect("reads");
            let read: Vec<_> = stored.results.into_iter().map(|encoded| encoded.0).collect();
            prop_assert_eq!(read, list.iter().map(|(_, result)| result.clone()).collect::<Vec<_>>());
            let mut done = BTreeSet::new();
            done_tasks(&*rows, job, |index| { done.insert(index); }).expect("reads");
            prop_assert_eq!(done, list.iter().map(|(index, _)| *index).collect::<BTreeSet<_>>());
            let row = progress(&*rows, job).expect("decodes").expect("there");
            prop_assert_eq!(row.done, list.len() as u64);
            prop_assert!(row.phase != Phase::Over || row.done == row.tasks);
        }
    }
}

#[test]
fn a_job_does_not_outlive_its_deadline() {
    let rows = rows();
    let [late, soon] = [7, 8].map(|deadline_ms| {
        create(
            &rows,
            JobSpec {
                when: When { deadline_ms: Some(deadline_ms), ..When::default() },
                ..JobSpec::default()
            },
        )
    });
    for job in [late, soon] {
        assert_eq!(run(&rows, Command::Review { job }), Ok(Answer::Done));
    }
    assert_eq!((phase(&rows, late), phase(&rows, soon)), (Phase::Cancelled, Phase::Open));
    let row = progress(&*rows, late).expect("decodes").expect("there");
    assert_eq!((row.ended_ms, row.why.as_deref()), (Some(7), Some("its deadline has passed")));
}

#[test]
fn a_job_comes_after_those_that_succeeded() {
    let rows = rows();
    let named = |name: &str, after: &[JobId]| JobSpec {
        name: name.into(),
        when: When { after: after.to_vec(), ..When::default() },
        ..JobSpec::default()
    };
    let [good, bad] = ["good", "bad"].map(|name| create(&rows, named(name, &[])));
    let spec = named("next", &[good, bad]);
    let next = create(&rows, spec.clone());
    let judged = || turn(&*rows, &spec).expect("decodes");
    for job in [good, bad] {
        append(&rows, job, 1).expect("added");
        run(&rows, Command::Close { job, submitted: Waited::default() }).expect("closed");
        assert_eq!(judged(), Turn::Later);
        commit_of(&rows, vec![returned(job, 0, job == good)]);
    }
    assert_eq!(phase(&rows, next), Phase::Open);
    run(&rows, Command::Review { job: next }).expect("reviewed");
    let row = progress(&*rows, next).expect("decodes").expect("there");
    let why = row.why.expect("a reason");
    assert!(why.contains("job 2 (bad)") && why.contains("1 of 1 tasks failed"), "{why}");
    let last = named("last", &[next]);
    let Turn::Never(why) = turn(&*rows, &last).expect("decodes") else { panic!("never") };
    assert!(why.contains("which was cancelled: it comes after job 2"), "{why}");
    assert_eq!(turn(&*rows, &named("x", &[good])), Ok(Turn::Now));
    let refused = run(&rows, Command::Create { spec: Box::new(named("x", &[JobId(9)])) });
    assert!(matches!(refused, Err(Refusal::Bad(_))), "{refused:?}");
}

/// A schedule of two jobs: the second comes after the first.
fn schedule(rows: &Arc<dyn Keyspace>) -> (JobId, JobId) {
    let when = |schedule, after| When { schedule: Some(schedule), after, ..When::default() };
    let part = create(rows, JobSpec { when: when(Schedule::Part, vec![]), ..JobSpec::default() });
    let cron = Schedule::Cron { text: "* * * * *".into(), zone: "UTC".into(), parts: vec![part] };
    let mut when = when(cron, vec![part]);
    when.deadline_ms = Some(100);
    let job = create(rows, JobSpec { when, ..JobSpec::default() });
    for job in [part, job] {
        append(rows, job, 2).expect("added");
        run(rows, Command::Close { job, submitted: Waited::default() }).expect("closed");
    }
    (part, job)
}

fn job_of(rows: &Arc<dyn Keyspace>, job: u64) -> (JobSpec, Progress) {
    let spec = spec(&**rows, JobId(job)).expect("decodes").expect("there");
    (spec, progress(&**rows, JobId(job)).expect("decodes").expect("there"))
}

#[test]
fn a_schedule_is_copied_once_for_each_due_time() {
    let rows = rows();
    let (part, job) = schedule(&rows);
    let waits = || {
        let scheduled = job_of(&rows, job.0).1.schedule.expect("a schedule");
        (scheduled.next_ms, scheduled.copies, scheduled.last)
    };
    let fire = |due_ms, next_ms| run(&rows, Command::Fire { job, due_ms, next_ms }).expect("looked at");
    fire(Some(5), Some(6));
    assert_eq!(waits(), (None, 0, None), "it does not wait for that");
    fire(None, Some(5));
    fire(None, Some(4));
    assert_eq!(waits(), (Some(5), 0, None));
    for _ in 0..2 {
        // Two masters may say so.
        fire(Some(5), Some(8));
    }
    assert_eq!(waits(), (Some(8), 1, Some(JobId(4))));
    fire(Some(8), Some(9));
    assert_eq!(waits().1, 1, "8 is later than 7");
    let [(first, _), (second, row)] = [3, 4].map(|id| job_of(&rows, id));
    assert_eq!(
        (first.when.after, second.when.after, second.when.deadline_ms),
        (vec![], vec![JobId(3)], Some(105))
    );
    assert_eq!((first.when.schedule, row.phase, row.tasks), (None, Phase::Closed, 2));
    assert_eq!(progress(&*rows, JobId(5)).expect("decodes"), None);
    assert_eq!(due::all(&*rows), Ok(vec![job]));
    run(&rows, Command::Cancel { job }).expect("cancelled");
    assert_eq!((phase(&rows, part), phase(&rows, JobId(3))), (Phase::Cancelled, Phase::Closed));
    assert_eq!(due::all(&*rows), Ok(vec![]));
    fire(Some(8), Some(9));
    assert_eq!(progress(&*rows, JobId(5)).expect("decodes"), None, "it is cancelled");
}

#[test]
fn the_jobs_of_others_are_no_parts_and_old_copies_go() {
    let rows = rows();
    let (part, job) = schedule(&rows);
    let parts = |parts| Schedule::Cron { text: "* * * * *".into(), zone: "UTC".into(), parts };
    for (user, named) in [("eve", part), ("", JobId(9)), ("", job)] {
        let when = When { schedule: Some(parts(vec![named])), ..When::default() };
        let spec = JobSpec { user: user.into(), when, ..JobSpec::default() };
        let refused = run(&rows, Command::Create { spec: Box::new(spec) }).expect_err("not its own");
        assert!(refused.to_string().contains("no part of a schedule"), "{refused}");
    }
    run(&rows, Command::Fire { job, due_ms: None, next_ms: Some(1) }).expect("armed");
    for _ in 0..KEPT_COPIES + 2 {
        run(&rows, Command::Fire { job, due_ms: Some(1), next_ms: Some(1) }).expect("copied");
        let newest = totals(&*rows).expect("decodes").last_job;
        if newest != 4 {
            run(&rows, Command::Cancel { job: JobId(newest) }).expect("cancelled");
        }
    }
    let kept = |job| progress(&*rows, JobId(job)).expect("decodes").is_some();
    assert_eq!([3, 4, 5, 6, 7, 8].map(kept), [true, true, true, false, true, true], "what runs stays");
}
