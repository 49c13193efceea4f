//! One suite for both state stores, then crashes of the twin and the
//! transaction against a model.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::{
    Batch, FjallConfig, FjallStore, Keyspace, OrderedStore, StateError, StateStore, Transaction, View,
    row_hash,
};

fn with_twins(story: impl Fn(&dyn StateStore)) {
    // All in memory, every commit to disk at once, and something of both.
    for recent_bytes in [FjallConfig::default().recent_bytes, 1, 150] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = FjallConfig { recent_bytes, ..FjallConfig::default() };
        story(&FjallStore::open(folder.path(), config).expect("opens"));
    }
    story(&OrderedStore::new(1));
}

fn put(keyspace: &dyn Keyspace, rows: &[(&str, &str)]) {
    let mut batch = Batch::new();
    for (key, value) in rows {
        batch.put(Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(value.as_bytes()));
    }
    keyspace.commit(batch).expect("commit");
}

fn all(view: &dyn View) -> Vec<(String, String)> {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).expect("text");
    let rows = view.scan(Bound::Unbounded, Bound::Unbounded, usize::MAX).expect("scan");
    rows.iter().map(|(key, value)| (text(key), text(value))).collect()
}

fn rows(rows: &[(&str, &str)]) -> Vec<(String, String)> {
    rows.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn rows_are_set_replaced_and_removed() {
    with_twins(|store| {
        let keyspace = store.keyspace("g1").expect("opens");
        put(&*keyspace, &[("b", "1"), ("a", "2"), ("c", "")]);
        let mut batch = Batch::new();
        batch.put(&b"b"[..], &b"9"[..]);
        batch.put(&b"b"[..], &b"10"[..]);
        batch.delete(&b"a"[..]);
        batch.delete(&b"never there"[..]);
        keyspace.commit(batch).expect("commit");
        keyspace.commit(Batch::new()).expect("an empty batch");
        assert_eq!(all(&*keyspace), rows(&[("b", "10"), ("c", "")]));
        assert_eq!(keyspace.get(b"b").expect("get").as_deref(), Some(&b"10"[..]));
        assert_eq!(keyspace.get(b"a").expect("get"), None);
    });
}

#[test]
fn scans_respect_bounds_order_and_limit() {
    with_twins(|store| {
        let keyspace = store.keyspace("g").expect("opens");
        put(&*keyspace, &[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]);
        let scan = |from, to, limit| {
            let rows = keyspace.scan(from, to, limit).expect("scan");
            rows.iter().map(|(key, _)| char::from(key[0])).collect::<String>()
        };
        let (b, d): (&[u8], &[u8]) = (b"b", b"d");
        assert_eq!(scan(Bound::Included(b), Bound::Excluded(d), 9), "bc");
        assert_eq!(scan(Bound::Excluded(b), Bound::Included(d), 9), "cd");
        assert_eq!(scan(Bound::Unbounded, Bound::Unbounded, 2), "ab");
        assert_eq!(scan(Bound::Included(d), Bound::Included(b), 9), "");
        assert_eq!(scan(Bound::Excluded(b), Bound::Excluded(b), 9), "");
        assert_eq!(scan(Bound::Unbounded, Bound::Unbounded, 0), "");
    });
}

#[test]
fn a_view_does_not_change() {
    with_twins(|store| {
        let keyspace = store.keyspace("g").expect("opens");
        put(&*keyspace, &[("a", "1")]);
        let view = keyspace.view();
        put(&*keyspace, &[("a", "2"), ("b", "3")]);
        assert_eq!(all(&*view), rows(&[("a", "1")]));
        assert_eq!(view.get(b"b").expect("get"), None);
        keyspace.clear().expect("clear");
        assert_eq!(all(&*keyspace), rows(&[]));
    });
}

#[test]
fn keyspaces_are_separate_and_can_be_deleted() {
    with_twins(|store| {
        let (one, two) = (store.keyspace("one").expect("opens"), store.keyspace("two").expect("opens"));
        put(&*one, &[("k", "1")]);
        put(&*two, &[("k", "2")]);
        assert_eq!(store.list().expect("list"), ["one", "two"]);
        store.delete("one").expect("delete");
        store.delete("one").expect("deleting nothing is fine");
        assert_eq!(store.list().expect("list"), ["two"]);
        assert!(matches!(one.commit(Batch::new()), Err(StateError::Deleted(_))));
        assert_eq!(all(&*store.keyspace("one").expect("a new one")), rows(&[]));
        assert_eq!(all(&*two), rows(&[("k", "2")]));
        assert!(matches!(store.keyspace(""), Err(StateError::BadName(_))));
    });
}

#[test]
fn fjall_keeps_flushed_rows_over_a_restart() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = FjallStore::open(folder.path(), FjallConfig::default()).expect("opens");
    put(&*store.keyspace("g").expect("opens"), &[("a", "1")]);
    store.flush().expect("flush");
    assert!(FjallStore::open(folder.path(), FjallConfig::default()).is_err(), "one process at a time");
    drop(store);
    let store = FjallStore::open(folder.path(), FjallConfig::default()).expect("opens again");
    assert_eq!(store.list().expect("list"), ["g"]);
    assert_eq!(all(&*store.keyspace("g").expect("opens")), rows(&[("a", "1")]));
}

#[test]
fn the_newest_layer_counts_over_restarts() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = FjallConfig { recent_bytes: 2000, ..FjallConfig::default() };
    let mut model = BTreeMap::new();
    for round in 0..12_u32 {
        let store = FjallStore::open(folder.path(), config.clone()).expect("opens");
        let keyspace = store.keyspace("g").expect("opens");
        let found = all(&*keyspace);
        assert_eq!(found, model.clone().into_iter().collect::<Vec<_>>(), "round {round}");
        for step in 0..40 {
            let (key, value) = (format!("key {:02}", (round * 7 + step * 3) % 50), format!("{round} {step}"));
            let mut batch = Batch::new();
            if step % 5 == 0 {
                batch.delete(key.clone().into_bytes());
                model.remove(&key);
            } else {
                batch.put(key.clone().into_bytes(), value.clone().into_bytes());
                model.insert(key, value);
            }
            keyspace.commit(batch).expect("commit");
        }
        assert_eq!(all(&*keyspace.view()), model.clone().into_iter().collect::<Vec<_>>());
        store.flush().expect("flush");
    }
}

#[test]
fn rows_are_found_while_layers_are_written() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = FjallConfig { recent_bytes: 4000, ..FjallConfig::default() };
    let store = FjallStore::open(folder.path(), config).expect("opens");
    let keyspace = store.keyspace("g").expect("opens");
    // Enough layers to reach the bound on overlapping tables, too.
    for number in 0..3000_u32 {
        let (key, value) = (format!("{:04}", number % 700), number.to_string());
        put(&*keyspace, &[(&key, &value)]);
        let asked = number.saturating_sub(number % 699);
        let found = keyspace.get(format!("{:04}", asked % 700).as_bytes()).expect("get").expect("a row");
        let found: u32 = std::str::from_utf8(&found).expect("text").parse().expect("a number");
        assert_eq!(found % 700, asked % 700);
        assert!(found >= asked, "{found} is older than {asked}");
    }
}

#[test]
fn a_crash_of_the_twin_keeps_a_prefix_after_the_flush() {
    let mut lengths = BTreeMap::new();
    for seed in 0..300 {
        let store = OrderedStore::new(seed);
        let keyspace = store.keyspace("g").expect("opens");
        put(&*keyspace, &[("0", "x"), ("k", "0")]);
        store.flush().expect("flush");
        for step in 1..=4 {
            put(&*keyspace, &[(&step.to_string(), "x"), ("k", &step.to_string())]);
        }
        keyspace.clear().expect("clear");
        store.crash();
        let found = all(&*store.keyspace("g").expect("opens"));
        let length = found.len();
        if length > 0 {
            let last = length - 2;
            let mut expected: Vec<_> = (0..=last).map(|n| (n.to_string(), "x".to_owned())).collect();
            expected.push(("k".to_owned(), last.to_string()));
            assert_eq!(found, expected);
        }
        *lengths.entry(length).or_insert(0) += 1;
    }
    assert_eq!(lengths.len(), 6, "every prefix occurs: {lengths:?}");
}

fn digest(view: &dyn View) -> u64 {
    let rows = view.scan(Bound::Unbounded, Bound::Unbounded, usize::MAX).expect("scan");
    rows.iter().fold(0, |sum, (key, value)| sum.wrapping_add(row_hash(key, value)))
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    Get(u8),
    Scan(u8, u8, usize),
    Commit,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..16_u8, any::<u8>()).prop_map(|(key, value)| Step::Put(key, value)),
        2 => (0..16_u8).prop_map(Step::Delete),
        2 => (0..16_u8).prop_map(Step::Get),
        3 => (0..18_u8, 0..18_u8, 0..12_usize).prop_map(|(from, to, limit)| Step::Scan(from, to, limit)),
        1 => Just(Step::Commit),
    ]
}

proptest! {
    #[test]
    fn a_transaction_reads_like_the_state_it_becomes(steps in prop::collection::vec(step(), 1..80)) {
        let store = OrderedStore::new(1);
        let keyspace = store.keyspace("g").expect("opens");
        let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let mut sum = 0_u64;
        for steps in steps.split_inclusive(|step| matches!(step, Step::Commit)) {
            let mut transaction = Transaction::new(&*keyspace);
            for step in steps {
                match *step {
                    Step::Put(key, value) => {
                        transaction.put(vec![key], vec![value]).expect("put");
                        model.insert(vec![key], vec![value]);
                    }
                    Step::Delete(key) => {
                        transaction.delete(vec![key]).expect("delete");
                        model.remove(&vec![key]);
                    }
                    Step::Get(key) => {
                        let got = transaction.get(&[key]).expect("get");
                        prop_assert_eq!(got.as_deref(), model.get(&vec![key]).map(Vec::as_slice));
                    }
                    Step::Scan(from, to, limit) => {
                        let found = transaction
                            .scan(Bound::Included(&[from]), Bound::Excluded(&[to]), limit)
                            .expect("scan");
                        let expected: Vec<_> = model
                            .iter()
                            .filter(|(key, _)| key[0] >= from && key[0] < to)
                            .take(limit)
                            .map(|(key, value)| (Bytes::from(key.clone()), Bytes::from(value.clone())))
                            .collect();
                        prop_assert_eq!(found, expected);
                    }
                    Step::Commit => {}
                }
            }
            let (batch, delta) = transaction.into_batch().expect("no read failed");
            keyspace.commit(batch).expect("commit");
            sum = sum.wrapping_add(delta);
            prop_assert_eq!(digest(&*keyspace), sum);
        }
    }
}

struct Broken;

impl View for Broken {
    fn get(&self, _: &[u8]) -> Result<Option<Bytes>, StateError> {
        Err(StateError::Failed(Arc::from("planned")))
    }

    fn scan(&self, _: Bound<&[u8]>, _: Bound<&[u8]>, _: usize) -> Result<super::Rows, StateError> {
        Err(StateError::Failed(Arc::from("planned")))
    }
}

#[test]
fn a_transaction_whose_read_failed_cannot_be_committed() {
    let mut transaction = Transaction::new(&Broken);
    assert!(transaction.put(&b"k"[..], &b"v"[..]).is_err());
    assert_eq!(transaction.into_batch().err(), Some(StateError::Failed(Arc::from("planned"))));
}
