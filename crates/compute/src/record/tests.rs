//! Records survive the way, however they are cut on it.

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use trine_types::NodeNumber;

use super::*;
use crate::spec::{Input, Outcome, Output, Stamps, TaskResult, TaskSpec, Work};

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..64).prop_map(Bytes::from)
}

fn tasks() -> impl Strategy<Value = TaskSpec> {
    let stdin = prop_oneof![
        Just(None),
        bytes().prop_map(|bytes| Some(Input::Inline(bytes))),
        any::<[u8; 32]>().prop_map(|hash| Some(Input::Blob(hash))),
    ];
    let process = (vec(vec(any::<u8>(), 0..8), 0..4), stdin, vec((".*", ".*"), 0..3))
        .prop_map(|(argv, stdin, env)| Work::Process { argv, stdin, env });
    let python =
        (bytes(), vec(any::<[u8; 32]>(), 0..4)).prop_map(|(payload, blobs)| Work::Python { payload, blobs });
    let pin = proptest::option::of(any::<u16>().prop_map(|number| NodeNumber(number.into())));
    (pin, prop_oneof![process, python]).prop_map(|(pin, work)| TaskSpec { pin, work })
}

fn outputs() -> impl Strategy<Value = Output> {
    prop_oneof![
        bytes().prop_map(Output::Inline),
        (any::<[u8; 32]>(), any::<u64>(), any::<bool>()).prop_map(|(hash, bytes, cut)| Output::Kept {
            hash,
            bytes,
            cut
        }),
    ]
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        any::<u8>().prop_map(|code| Outcome::Exited { code }),
        any::<u8>().prop_map(|signal| Outcome::Signaled { signal }),
        ".*".prop_map(|reason| Outcome::Killed { reason }),
        ".*".prop_map(|why| Outcome::NotStarted { why }),
        Just(Outcome::TimedOut),
        Just(Outcome::Lost),
        Just(Outcome::Cancelled),
        Just(Outcome::Value),
        Just(Outcome::Raised),
    ]
}

fn results() -> impl Strategy<Value = TaskResult> {
    let outputs = (outputs(), outputs(), outputs());
    (any::<u64>(), any::<u32>(), any::<u16>(), outcomes(), outputs, any::<[u64; 5]>()).prop_map(
        |(index, attempt, node, outcome, (stdout, stderr, value), stamps)| TaskResult {
            index,
            attempt,
            node: NodeNumber(node.into()),
            outcome,
            stdout,
            stderr,
            value,
            started_ms: stamps[0],
            stamps: Stamps {
                queued: stamps[0],
                passing: stamps[1],
                prepared: stamps[2],
                executed: stamps[3],
                returned: stamps[4],
            },
        },
    )
}

/// Feeds `bytes` in pieces of these lengths, over and over.
fn cut(bytes: &[u8], lengths: &[usize]) -> Result<Vec<Record>, Malformed> {
    let (mut decoder, mut records, mut at) = (Decoder::default(), Vec::new(), 0);
    for length in lengths.iter().cycle() {
        if at == bytes.len() {
            break;
        }
        let end = (at + length).min(bytes.len());
        decoder.feed(&bytes[at..end]);
        at = end;
        while let Some(record) = decoder.next_record()? {
            records.push(record);
        }
    }
    decoder.finish().map(|()| records)
}

proptest! {
    #[test]
    fn tasks_survive(tasks in vec(tasks(), 0..6), lengths in vec(1..40_usize, 1..8)) {
        let mut out = BytesMut::new();
        for task in &tasks {
            encode_task(task, &mut out);
            out.extend_from_slice(&sign_of_life());
        }
        let records = cut(&out, &lengths).expect("whole records");
        let alive = records.iter().filter(|record| record.is_sign_of_life()).count();
        prop_assert_eq!(alive, tasks.len());
        let records = records.into_iter().filter(|record| !record.is_sign_of_life());
        let read: Vec<_> = records.map(|record| decode_task(record).expect("a task")).collect();
        prop_assert_eq!(read, tasks);
    }

    #[test]
    fn results_survive(results in vec(results(), 0..6), lengths in vec(1..40_usize, 1..8)) {
        let mut out = BytesMut::new();
        for result in &results {
            encode_result(result, &mut out);
        }
        let records = cut(&out, &lengths).expect("whole records").into_iter();
        let read: Vec<_> = records.map(|record| decode_result(record).expect("a result")).collect();
        prop_assert_eq!(read, results);
    }

    #[test]
    fn nonsense_is_refused_or_waits_for_more(nonsense in vec(any::<u8>(), 0..200)) {
        let mut decoder = Decoder::default();
        decoder.feed(&nonsense);
        while let Ok(Some(record)) = decoder.next_record() {
            let _ = decode_task(record.clone());
            let _ = decode_result(record);
        }
    }
}

#[test]
fn lengths_are_bounded_before_anything_is_kept() {
    let mut decoder = Decoder::default();
    decoder.feed(&u32::MAX.to_le_bytes());
    assert!(matches!(decoder.next_record(), Err(Malformed::TooLong { part: "head", .. })));
    let mut decoder = Decoder::default();
    decoder.feed(&[2, 0, 0, 0, b'{', b'}', 255, 255, 255, 255]);
    assert!(matches!(decoder.next_record(), Err(Malformed::TooLong { part: "body", .. })));
}

#[test]
fn a_head_says_what_is_wrong_with_it() {
    let task = |head: &str, body: &str| {
        let record = Record { head: head.to_owned().into(), body: body.to_owned().into() };
        decode_task(record).expect_err("no task").to_string()
    };
    assert!(task("{}", "").contains("either"));
    assert!(task(r#"{"process":{"argv":["a"]},"python":{}}"#, "").contains("either"));
    assert!(task(r#"{"process":{"argv":["a"]}}"#, "input").contains("5 bytes"));
    assert!(task(r#"{"python":{"blobs":["12"]}}"#, "").contains("64"));
    assert!(task(r#"{"python":{"blob":[]}}"#, "").contains("blob"));
    assert!(task("[]", "").contains("head"));
}
