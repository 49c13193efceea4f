//! Messages survive their bytes; any bytes are refused or decoded.

use proptest::prelude::*;
use trine_types::NodeNumber;

use super::*;
use crate::command::{Answer, Command, Failed, Query, Returned};
use crate::limits::MAX_TASK_BYTES;
use crate::spec::{
    Halt, HaltOn, Input, JobSpec, Outcome, Output, Resources, Stamps, TaskResult, TaskSpec, Waited, Work,
};

fn bytes() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn work() -> impl Strategy<Value = Work> {
    let argv = prop::collection::vec(prop::collection::vec(1_u8.., 1..9), 1..4);
    let stdin = prop::option::of(prop_oneof![
        bytes().prop_map(Input::Inline),
        any::<[u8; 32]>().prop_map(Input::Blob)
    ]);
    prop_oneof![
        (argv, stdin).prop_map(|(argv, stdin)| Work::Process { argv, stdin, env: Vec::new() }),
        (bytes(), prop::collection::vec(any::<[u8; 32]>(), 0..3))
            .prop_map(|(payload, blobs)| Work::Python { payload, blobs }),
    ]
}

fn task() -> impl Strategy<Value = TaskSpec> {
    (prop::option::of(1_u64..9), work()).prop_map(|(pin, work)| TaskSpec { pin: pin.map(NodeNumber), work })
}

fn output() -> impl Strategy<Value = Output> {
    prop_oneof![
        bytes().prop_map(Output::Inline),
        (any::<[u8; 32]>(), any::<u64>(), any::<bool>()).prop_map(|(hash, bytes, cut)| Output::Kept {
            hash,
            bytes,
            cut
        }),
    ]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        any::<u8>().prop_map(|code| Outcome::Exited { code }),
        any::<u8>().prop_map(|signal| Outcome::Signaled { signal }),
        Just(Outcome::TimedOut),
        "[a-z ]{0,9}".prop_map(|reason| Outcome::Killed { reason }),
        Just(Outcome::Lost),
        Just(Outcome::Value),
    ]
}

fn result() -> impl Strategy<Value = TaskResult> {
    (any::<u64>(), any::<u32>(), 1_u64..9, outcome(), output(), output()).prop_map(
        |(index, attempt, node, outcome, stdout, value)| TaskResult {
            index,
            attempt,
            node: NodeNumber(node),
            outcome,
            stdout,
            stderr: Output::default(),
            value,
            started_ms: index / 2,
            stamps: Stamps { queued: index, ..Stamps::default() },
        },
    )
}

fn job() -> impl Strategy<Value = JobSpec> {
    (".{0,9}", any::<i32>(), 1_u32..9, prop::option::of(1_u64..9)).prop_map(
        |(name, priority, weight, halt)| JobSpec {
            name,
            priority,
            weight,
            halt: halt.map(|count| Halt { on: HaltOn::Failures, count, now: count > 4 }),
            resources: Resources::of(weight, 7),
            env: vec![("A".into(), "b".into())],
            ..JobSpec::default()
        },
    )
}

fn command() -> impl Strategy<Value = Command> {
    let id = || (1_u64..5).prop_map(JobId);
    prop_oneof![
        job().prop_map(|spec| Command::Create { spec: Box::new(spec) }),
        (id(), prop::option::of(any::<u64>()), any::<u32>(), bytes()).prop_map(
            |(job, after, count, tasks)| Command::Append { job, after, count, pinned: count % 2 == 0, tasks }
        ),
        (id(), any::<u64>(), any::<u64>())
            .prop_map(|(job, tasks, micros)| Command::Close { job, submitted: Waited { tasks, micros } }),
        (id(), any::<u64>(), any::<u64>())
            .prop_map(|(job, tasks, micros)| Command::Account { job, committed: Waited { tasks, micros } }),
        (id(), any::<u64>(), any::<bool>(), bytes()).prop_map(|(job, index, success, result)| {
            let failed = Failed { attempt: 3, node: NodeNumber(index), lost: index % 2 == 0 };
            let again = (index % 2 == 0).then_some(failed);
            Command::Commit { results: vec![Returned { job, index, success, result, again }] }
        }),
        id().prop_map(|job| Command::Cancel { job }),
        id().prop_map(|job| Command::Forget { job }),
    ]
}

proptest! {
    #[test]
    fn commands_survive_their_bytes(command in command()) {
        prop_assert_eq!(decode::<Command>(&encode(&command), "command"), Ok(command));
    }

    #[test]
    fn results_survive_their_bytes(result in result()) {
        prop_assert_eq!(decode::<TaskResult>(&encode(&result), "result"), Ok(result));
    }

    #[test]
    fn ranges_survive_their_bytes(mut tasks in prop::collection::vec(task(), 0..9)) {
        tasks.retain(|task| matches!(task.work, Work::Process { .. }));
        let range = encode_tasks(&tasks, &BodyKind::Process).expect("small tasks of the right kind");
        prop_assert_eq!(decode_tasks(range), Ok(tasks));
    }

    #[test]
    fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = decode::<Command>(&bytes, "command");
        let _ = decode::<Answer>(&bytes, "answer");
        let _ = decode::<Query>(&bytes, "query");
        let _ = decode::<TaskResult>(&bytes, "result");
        let _ = decode_tasks(Bytes::from(bytes));
    }
}

#[test]
fn a_task_that_is_too_large_is_named() {
    let small = TaskSpec::process(["true"]);
    let mut large = small.clone();
    large.work = Work::Process {
        argv: vec![b"cat".to_vec()],
        stdin: Some(Input::Inline(vec![7; MAX_TASK_BYTES].into())),
        env: Vec::new(),
    };
    let refused = encode_tasks(&[small.clone(), large], &BodyKind::Process).expect_err("too large");
    assert!(matches!(refused, RangeError::Task(1, _)), "{refused}");
    let many = vec![small; MAX_TASKS_PER_RANGE + 1];
    assert_eq!(encode_tasks(&many, &BodyKind::Process), Err(RangeError::Range));
}
