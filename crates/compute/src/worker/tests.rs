//! Stories of a worker that is told what to do.

use super::*;
use crate::command::Encoded;

const JOB: JobId = JobId(1);

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn attempt(index: u64) -> Attempt {
    Attempt { job: JOB, index, attempt: 1 }
}

fn orders(indexes: &[u64]) -> Orders {
    let granted =
        |index: &u64| Granted { attempt: attempt(*index), task: codec::encode(&TaskSpec::process(["true"])) };
    Orders {
        reign: 7,
        jobs: vec![(JOB, Encoded(codec::encode(&JobSpec::default())))],
        grants: indexes.iter().map(granted).collect(),
        ..Orders::default()
    }
}

fn worker() -> Worker {
    let mut worker = Worker::new(NodeNumber(3), Resources::of(2_000, 0));
    assert!(worker.meet(7));
    worker
}

fn start_all(worker: &mut Worker, now: Duration) -> Vec<u64> {
    std::iter::from_fn(|| worker.next(now, 0)).map(|assigned| assigned.attempt.index).collect()
}

#[test]
fn tasks_start_in_order_as_slots_are_free() {
    let mut worker = worker();
    assert_eq!(worker.obey(orders(&[0, 1, 2]), at(0)), []);
    assert_eq!(start_all(&mut worker, at(1)), [0, 1]);
    assert_eq!(worker.beat(at(1)).free.cpu_milli, 0);
    worker.ended(attempt(0), Ran::only(Outcome::Exited { code: 0 }), at(5));
    assert_eq!(start_all(&mut worker, at(5)), [2]);
    let ended = worker.beat(at(9)).ended;
    let stamps = ended[0].result.stamps;
    assert_eq!((stamps.prepared, stamps.executed, stamps.returned), (1_000, 4_000, 4_000));
}

#[test]
fn a_result_is_kept_until_it_is_settled_and_told_to_each_master() {
    let mut worker = worker();
    worker.obey(orders(&[0]), at(0));
    start_all(&mut worker, at(0));
    worker.ended(attempt(0), Ran::only(Outcome::Exited { code: 0 }), at(1));
    assert_eq!(worker.beat(at(1)).ended.len(), 1);
    assert_eq!(worker.tells_at(), None);
    worker.lost_master();
    assert_eq!(worker.beat(at(2)).reign, 0);
    assert!(worker.meet(8) && worker.tells_at().is_some());
    assert_eq!(worker.beat(at(3)).ended.len(), 1);
    worker.obey(Orders { reign: 8, settled: vec![attempt(0)], ..Orders::default() }, at(4));
    assert!(worker.meet(9));
    assert_eq!(worker.beat(at(5)).ended, []);
}

#[test]
fn what_is_cancelled_is_not_begun_or_killed() {
    let mut worker = worker();
    worker.obey(orders(&[0, 1, 2]), at(0));
    start_all(&mut worker, at(0));
    let cancel = Orders { reign: 7, cancel: vec![attempt(1), attempt(2)], ..Orders::default() };
    assert_eq!(worker.obey(cancel, at(1)), [attempt(1)]);
    worker.ended(attempt(1), Ran::only(Outcome::Cancelled), at(2));
    assert_eq!(start_all(&mut worker, at(2)), Vec::<u64>::new());
}

#[test]
fn what_no_master_knows_of_is_let_go_once() {
    let mut worker = worker();
    assert_eq!(worker.lets_go_at(), None, "it holds nothing");
    worker.obey(orders(&[0, 1, 2]), at(100));
    start_all(&mut worker, at(100));
    assert_eq!(worker.lets_go_at(), Some(at(100) + LET_GO));
    worker.obey(Orders { reign: 7, ..Orders::default() }, at(500));
    assert_eq!(worker.let_go(at(3_400)), [], "a master has spoken");
    assert_eq!(worker.let_go(at(3_500)), [attempt(0), attempt(1)]);
    assert_eq!(worker.lets_go_at(), None, "they are being killed");
    for index in [0, 1] {
        worker.ended(attempt(index), Ran::only(Outcome::Lost), at(3_501));
    }
    assert_eq!(start_all(&mut worker, at(3_600)), Vec::<u64>::new(), "what waited is not begun");
}

#[test]
fn only_short_tasks_are_taken_ahead() {
    let mut worker = worker();
    assert_eq!(worker.beat(at(0)).ahead, 0, "nothing is known yet");
    for (index, took) in [(0, 1), (1, 500)] {
        worker.obey(orders(&[index]), at(0));
        start_all(&mut worker, at(0));
        worker.ended(attempt(index), Ran::only(Outcome::Exited { code: 0 }), at(took));
        assert_eq!(worker.beat(at(took)).ahead > 0, took == 1);
    }
}

#[test]
fn results_gather_only_while_enough_is_at_hand() {
    let mut worker = worker();
    let good = || Ran::only(Outcome::Exited { code: 0 });
    worker.obey(orders(&[0]), at(0));
    start_all(&mut worker, at(0));
    worker.ended(attempt(0), good(), at(4));
    assert_eq!(worker.tells_at(), Some(at(4)), "nothing waits");
    assert_eq!(worker.beat(at(4)).ahead, 10, "five rounds of two");
    worker.obey(orders(&[1, 2, 3, 4, 5, 6, 7, 8]), at(5));
    assert_eq!(start_all(&mut worker, at(5)), [1, 2]);
    worker.ended(attempt(1), good(), at(9));
    assert_eq!(worker.tells_at(), Some(at(9) + GATHER), "six wait");
    assert_eq!(start_all(&mut worker, at(9)), [3]);
    worker.ended(attempt(2), good(), at(9));
    assert_eq!(start_all(&mut worker, at(9)), [4]);
    assert_eq!(worker.tells_at(), Some(at(9)), "fewer than half wait");
    assert_eq!((worker.beat(at(9)).ended.len(), worker.tells_at()), (2, None));

    // Another job has no more tasks here: its client may wait for this one.
    let last = Attempt { job: JobId(2), index: 0, attempt: 1 };
    let jobs = vec![(JobId(2), Encoded(codec::encode(&JobSpec::default())))];
    let grants = vec![Granted { attempt: last, task: codec::encode(&TaskSpec::process(["true"])) }];
    worker.obey(Orders { reign: 7, jobs, grants, ..Orders::default() }, at(10));
    worker.obey(orders(&(9..20).collect::<Vec<_>>()), at(10));
    for index in 3..9 {
        worker.ended(attempt(index), good(), at(13));
        start_all(&mut worker, at(13));
    }
    worker.beat(at(13));
    worker.ended(last, good(), at(17));
    assert_eq!(worker.tells_at(), Some(at(17)));
}

#[test]
fn a_beat_without_news_waits_for_what_is_over_soon() {
    let mut worker = worker();
    worker.obey(orders(&[0]), at(5));
    assert_eq!(worker.asks_at(), at(0), "how long it takes is not known");
    start_all(&mut worker, at(5));
    let soon = at(5) + SOON / 2;
    worker.ended(attempt(0), Ran::only(Outcome::Exited { code: 0 }), soon);
    assert_eq!(worker.tells_at(), Some(soon), "news does not wait");
    worker.obey(orders(&[1]), at(9));
    assert_eq!(worker.asks_at(), at(9) + SOON);
    worker.lost_master();
    assert_eq!(worker.asks_at(), at(0), "whoever is the master is to be found");
}

#[test]
fn a_limit_follows_the_median_of_those_that_succeeded() {
    let mut worker = worker();
    let spec = JobSpec {
        when: crate::spec::When { timeout_percent: Some(200), ..Default::default() },
        ..JobSpec::default()
    };
    let jobs = vec![(JOB, Encoded(codec::encode(&spec)))];
    worker.obey(Orders { jobs, ..orders(&[0, 1, 2, 3, 4]) }, at(0));
    let (good, bad) = (Outcome::Exited { code: 0 }, Outcome::Exited { code: 1 });
    assert_eq!(start_all(&mut worker, at(0)), [0, 1]);
    worker.ended(attempt(1), Ran::only(good.clone()), at(100));
    assert_eq!(start_all(&mut worker, at(100)), [2]);
    worker.ended(attempt(2), Ran::only(bad), at(101));
    assert_eq!(start_all(&mut worker, at(101)), [3]);
    worker.ended(attempt(3), Ran::only(good.clone()), at(301));
    assert!(worker.time_left(JOB, at(301)).is_empty(), "two times say nothing");
    assert_eq!(start_all(&mut worker, at(301)), [4]);
    worker.ended(attempt(4), Ran::only(good), at(451));
    assert_eq!(worker.timeout(attempt(0)), Some(at(300)), "twice the median of 100, 150 and 200");
    assert_eq!(worker.time_left(JOB, at(451)), [(attempt(0), at(0))], "it has run for longer");
}
