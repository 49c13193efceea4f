//! The apply path on its own: one keyspace, entries made by hand.

use std::sync::Arc;

use bytes::Bytes;
use openraft::EntryPayload;
use trine_storage::{OrderedStore, StateStore, Transaction, View};
use trine_types::Incarnation;

use super::*;
use crate::batch::SessionId;
use crate::engine::Command;
use crate::machine::{Answer, ReadTime};

/// Appends each command to one row and replies with the row.
struct Scroll;

impl Machine for Scroll {
    fn apply(&self, tx: &mut Transaction<'_>, stamp: &Stamp, command: &[u8]) -> Bytes {
        let mut row = tx.get(b"\x01row").expect("in memory").unwrap_or_default().to_vec();
        row.extend_from_slice(command);
        row.extend_from_slice(&stamp.time_ms.to_be_bytes());
        tx.put(&b"\x01row"[..], row.clone()).expect("in memory");
        row.into()
    }

    fn query(&self, _view: &dyn View, _time: ReadTime, _query: &[u8]) -> Answer {
        Answer::Reply(Bytes::new())
    }
}

fn entry(index: u64, time_ms: u64, content: Content) -> Entry {
    let batch = Batch { semantics: 1, time_ms, seed: index, content };
    Entry { log_id: LogId::new_term_index(1, index), payload: EntryPayload::Normal(Command(batch.encode())) }
}

fn part(first: u64, commands: &[&'static str]) -> Content {
    Content::Commands(vec![Part {
        session: SessionId { node: NodeNumber(1), incarnation: Incarnation(1), epoch: 1 },
        acked: 0,
        first,
        commands: commands.iter().map(|command| Bytes::from_static(command.as_bytes())).collect(),
    }])
}

fn core(store: &OrderedStore) -> ApplyCore {
    ApplyCore::open(Arc::new(Scroll), store.keyspace("g").expect("it opens")).expect("it opens")
}

fn entries() -> Vec<Entry> {
    vec![
        Entry { log_id: LogId::new_term_index(1, 0), payload: EntryPayload::Blank },
        entry(1, 100, part(1, &["a", "b"])),
        entry(2, 50, part(3, &["c"])), // a leader whose clock is behind
        entry(3, 60, Content::Mark),
        entry(4, 200, part(2, &["b", "c", "d"])), // a retry with news
        entry(5, 300, Content::Commands(Vec::new())), // a tick
    ]
}

fn apply_all(core: &mut ApplyCore, mut entries: &[Entry]) -> (Vec<Outcomes>, Vec<Event>) {
    let (mut outcomes, mut events) = (Vec::new(), Vec::new());
    while !entries.is_empty() {
        let (results, more) = core.apply_run(entries).expect("it applies");
        entries = &entries[results.len()..];
        outcomes.extend(results);
        events.extend(more);
    }
    (outcomes, events)
}

#[test]
fn state_time_never_goes_back_and_retries_do_nothing() {
    let mut core = core(&OrderedStore::new(1));
    let (outcomes, events) = apply_all(&mut core, &entries());
    assert_eq!(core.applied.time_ms, 300);
    let first = &outcomes[1].0[0];
    let retried = &outcomes[4].0[0];
    assert_eq!(retried[0], first[1], "the retry of b gets the first reply");
    let view = core.keyspace().view();
    let row = view.get(b"\x01row").expect("in memory").expect("it is there");
    let commands: Vec<u8> = row.chunks(9).map(|chunk| chunk[0]).collect();
    assert_eq!(commands, b"abcd");
    let third = u64::from_be_bytes(row[19..27].try_into().expect("eight bytes"));
    assert_eq!(third, 100, "stamped 50, after 100");
    assert!(matches!(events[..], [Event::Mark { index: 3, .. }]));
}

#[test]
fn the_digest_does_not_depend_on_how_entries_are_grouped() {
    let entries = entries();
    let (mut one, mut other) = (core(&OrderedStore::new(1)), core(&OrderedStore::new(2)));
    let (_, events) = apply_all(&mut one, &entries);
    let mut events_of_other = Vec::new();
    for entry in &entries {
        events_of_other.extend(other.apply_run(std::slice::from_ref(entry)).expect("it applies").1);
    }
    assert_eq!(one.applied, other.applied);
    assert_eq!(events, events_of_other);
}

#[test]
fn a_crash_leaves_a_state_that_a_replay_completes() {
    let entries = entries();
    let mut whole = core(&OrderedStore::new(1));
    apply_all(&mut whole, &entries);
    for seed in 0..20 {
        let store = OrderedStore::new(seed);
        let mut before = core(&store);
        for entry in &entries {
            before.apply_run(std::slice::from_ref(entry)).expect("it applies");
        }
        store.crash();
        let mut after = core(&store);
        let from = after.applied.last.map_or(0, |last| last.index + 1);
        apply_all(&mut after, &entries[usize::try_from(from).expect("small")..]);
        assert_eq!(after.applied, whole.applied, "seed {seed}");
    }
}

#[test]
fn an_entry_that_does_not_decode_stops_the_replica_and_changes_nothing() {
    let mut core = core(&OrderedStore::new(1));
    let payload = EntryPayload::Normal(Command(Bytes::from_static(b"\x07nonsense")));
    let broken = Entry { log_id: LogId::new_term_index(1, 0), payload };
    assert!(core.apply_run(&[broken]).is_err());
    assert!(core.keyspace().get(APPLIED_KEY).expect("in memory").is_none());
}
