//! The machine answers whatever it is asked, and publishes what it applied.

use proptest::prelude::*;

use super::*;
use crate::spec::JobSpec;
use crate::state::tests::{append, create, rows};

const STAMP: Stamp = Stamp { time_ms: 7, seed: 0, semantics: 1 };
const NOW: ReadTime = ReadTime { state_ms: 7, wall_ms: 7 };

fn ask<T: serde::de::DeserializeOwned>(view: &dyn View, query: &Query) -> Result<T, Refusal> {
    let (machine, _) = JobsMachine::new();
    let Read::Reply(reply) = machine.query(view, NOW, &codec::encode(query)) else {
        panic!("no time needed")
    };
    codec::decode(&reply, "answer").expect("a result")
}

#[test]
fn jobs_are_listed_from_the_newest() {
    let rows = rows();
    for name in ["a", "b", "c"] {
        create(&rows, JobSpec { name: name.into(), ..JobSpec::default() });
    }
    let names = |before, limit| -> Vec<String> {
        let jobs: Vec<JobView> = ask(&*rows, &Query::Jobs { before, limit }).expect("listed");
        jobs.into_iter().map(|job| job.spec.name).collect()
    };
    assert_eq!(names(None, 2), ["c", "b"]);
    assert_eq!(names(Some(JobId(2)), 9), ["a"]);
    let none: Result<JobView, _> = ask(&*rows, &Query::Job { job: JobId(9) });
    assert_eq!(none, Err(Refusal::NoSuchJob(JobId(9))));
}

#[test]
fn the_range_of_a_task_is_found() {
    let rows = rows();
    let job = create(&rows, JobSpec::default());
    for count in [3, 1, 4] {
        append(&rows, job, count).expect("added");
    }
    for (index, expected) in [(0, Some(0)), (2, Some(0)), (3, Some(3)), (4, Some(4)), (7, Some(4)), (8, None)]
    {
        let found: Option<Tasks> = ask(&*rows, &Query::Tasks { job, from: index }).expect("answered");
        assert_eq!(found.map(|range| range.first), expected, "{index}");
    }
}

#[test]
fn what_is_applied_is_published() {
    let rows = rows();
    let (machine, mut applied) = JobsMachine::new();
    machine.applied(&rows, 3);
    let seen = applied.borrow_and_update().as_ref().map(|applied| applied.index);
    assert_eq!(seen, Some(3));
}

proptest! {
    #[test]
    fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let (machine, rows) = (JobsMachine::new().0, rows());
        let mut tx = Transaction::new(&*rows);
        let answer = machine.apply(&mut tx, &STAMP, &bytes);
        prop_assert!(codec::decode::<Answer>(&answer, "answer").is_ok());
        prop_assert!(matches!(machine.query(&*rows, NOW, &bytes), Read::Reply(_)));
    }
}
