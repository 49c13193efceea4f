//! Crashes against a model: random operations of several groups, a power
//! failure at a random moment, and what is found must be the state after some
//! prefix of the operations that includes every acknowledged one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use trine_types::GroupId;

use super::suite::{TASK, at, entry, tiny};
use super::{Done, LogEntry, LogPosition, Wal, WalConfig};
use crate::disk::SimDisk;

const GROUPS: u32 = 3;
const SEEDS: u64 = 150;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Model {
    entries: BTreeMap<u64, LogEntry>,
    purged: Option<LogPosition>,
    vote: Option<Bytes>,
}

impl Model {
    fn last(&self) -> Option<LogPosition> {
        self.entries.values().next_back().map(|entry| entry.at).or(self.purged)
    }

    fn of(wal: &Wal, group: GroupId) -> Self {
        let log = wal.group(group);
        let bounds = log.bounds();
        let entries = log.read(0, u64::MAX, usize::MAX).expect("readable");
        let entries = entries.into_iter().map(|entry| (entry.at.index, entry)).collect();
        let model = Self { entries, purged: bounds.purged, vote: bounds.vote };
        assert_eq!(model.last(), bounds.last);
        model
    }
}

type State = BTreeMap<GroupId, Model>;

fn found(wal: &Wal) -> State {
    (0..GROUPS).map(GroupId).map(|group| (group, Model::of(wal, group))).collect()
}

/// Performs one random operation on the log and on the model.
fn operate(random: &mut StdRng, wal: &Wal, state: &mut State, term: u64, done: Done) {
    // Group 0 does most of the work; the others get carried forward.
    let group = GroupId(random.random_range(0..GROUPS) * u32::from(random.random_bool(0.3)));
    let log = wal.group(group);
    let model = state.entry(group).or_default();
    let last = model.last().map_or(0, |last| last.index);
    match random.random_range(0..20) {
        0..=10 => {
            let size = if random.random_bool(0.1) { 20_000 } else { 700 };
            let count = random.random_range(1..=3);
            let new: Vec<_> = (last + 1..=last + count)
                .map(|index| entry(term, index, random.random_range(0..size)))
                .collect();
            model.entries.extend(new.iter().map(|entry| (entry.at.index, entry.clone())));
            let _ = log.append(new, done);
        }
        11..=12 => {
            let vote = Bytes::from(random.random::<u64>().to_le_bytes().to_vec());
            model.vote = Some(vote.clone());
            log.save_vote(vote, done);
        }
        13..=14 => {
            let first = model.entries.keys().next().copied();
            let kept = first.map(|first| random.random_range(first.saturating_sub(1)..=last));
            model.entries.retain(|index, _| kept.is_some_and(|kept| *index <= kept));
            log.truncate_after(kept, done);
        }
        15..=18 => {
            let upto = at(term, last.saturating_sub(random.random_range(0..4)));
            model.entries.retain(|index, _| *index > upto.index);
            if model.purged.is_none_or(|purged| purged.index < upto.index) {
                model.purged = Some(upto);
            }
            log.purge(upto, done);
        }
        _ => {
            *model = Model::default();
            log.destroy(done);
        }
    }
}

/// One life of a process: recovers, checks, works, dies. Returns the states
/// that the next life may find.
async fn live(seed: u64, life: u64, disk: &SimDisk, allowed: Vec<State>) -> Vec<State> {
    let mut random = StdRng::seed_from_u64(seed * 1000 + life);
    // Every other log begins with the smallest segments and grows them.
    let sizes = if seed.is_multiple_of(2) { tiny() } else { WalConfig::small() };
    let config = WalConfig { cache_bytes: 4000, batch_bytes: 8000, pinned_segments: 2, ..sizes };
    let wal = Wal::open(disk.mount().expect("mount"), config, TASK)
        .unwrap_or_else(|error| panic!("seed {seed}, life {life}: {error}"));
    let state = found(&wal);
    assert!(allowed.contains(&state), "seed {seed}, life {life}: not a prefix with all acknowledged");
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let out_of_order = Arc::new(Mutex::new(0));
    let mut states = vec![state];
    for step in 1..=random.random_range(1..60_usize) {
        let (acknowledged, out_of_order) = (acknowledged.clone(), out_of_order.clone());
        let done: Done = Box::new(move |outcome| {
            if outcome.is_ok() && acknowledged.swap(step, Ordering::SeqCst) != step - 1 {
                *out_of_order.lock().expect("not poisoned") += 1;
            }
        });
        let mut next = states[step - 1].clone();
        operate(&mut random, &wal, &mut next, life + 1, done);
        states.push(next);
        if random.random_bool(0.3) {
            tokio::time::sleep(Duration::from_micros(random.random_range(0..900))).await;
            if wal.failed().now_or_never().is_some() {
                break;
            }
            assert_eq!(found(&wal), states[step], "changes are visible at once");
        }
        if random.random_bool(0.01) {
            disk.fail_syncs(1);
        }
    }
    tokio::time::sleep(Duration::from_micros(random.random_range(0..3000))).await;
    if random.random_bool(0.3) {
        disk.kill();
    } else {
        disk.crash();
    }
    assert_eq!(*out_of_order.lock().expect("not poisoned"), 0, "callbacks come in order");
    states.split_off(acknowledged.load(Ordering::SeqCst))
}

#[tokio::test(start_paused = true)]
async fn a_crash_loses_nothing_acknowledged_and_invents_nothing() {
    for seed in 0..SEEDS {
        let disk = SimDisk::new(seed);
        let empty = (0..GROUPS).map(|group| (GroupId(group), Model::default())).collect();
        let mut allowed = vec![empty];
        for life in 0..6 {
            allowed = live(seed, life, &disk, allowed).await;
        }
    }
}
