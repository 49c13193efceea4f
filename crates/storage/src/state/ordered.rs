//! The twin of the fjall store: ordered maps in memory, with a crash after
//! which each keyspace is back at a seed-chosen batch at or after the last
//! flush.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Batch, Keyspace, Rows, StateError, StateStore, View, check_name, is_empty_range};

type Map = BTreeMap<Bytes, Bytes>;

/// A state store in memory; clones are the same store. It outlives the
/// simulated process that uses it.
#[derive(Clone)]
pub struct OrderedStore {
    // Shared by all keyspace handles, which are synchronous by contract: no
    // task could own it.
    store: Arc<Mutex<Store>>,
}

struct Store {
    random: StdRng,
    created: u64,
    keyspaces: BTreeMap<String, Space>,
    /// How to undo each change since the last flush, oldest first.
    undo: Vec<Undo>,
    fail_flushes: u32,
    fail_commits: u32,
}

#[derive(Clone)]
struct Space {
    id: u64,
    rows: Arc<Map>,
}

enum Undo {
    /// The keyspace was this before (`None`: it did not exist).
    Whole { name: String, before: Option<Space> },
    /// These rows were this before.
    Rows { name: String, before: Vec<(Bytes, Option<Bytes>)> },
}

impl Undo {
    fn name(&self) -> &str {
        match self {
            Self::Whole { name, .. } | Self::Rows { name, .. } => name,
        }
    }
}

impl OrderedStore {
    /// An empty store; `seed` decides what crashes take.
    pub fn new(seed: u64) -> Self {
        Self {
            store: Arc::new(Mutex::new(Store {
                random: StdRng::seed_from_u64(seed),
                created: 0,
                keyspaces: BTreeMap::new(),
                undo: Vec::new(),
                fail_flushes: 0,
                fail_commits: 0,
            })),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Each keyspace falls back to its state after some batch at or after the
    /// last flush, whatever the others do. Handles from before must not be
    /// used any more.
    pub fn crash(&self) {
        let mut store = self.lock();
        let undo = std::mem::take(&mut store.undo);
        let mut changes: BTreeMap<String, usize> = BTreeMap::new();
        for undo in &undo {
            *changes.entry(undo.name().to_owned()).or_default() += 1;
        }
        let mut undone: BTreeMap<String, usize> = BTreeMap::new();
        for (name, changes) in changes {
            let count = store.random.random_range(0..=changes);
            undone.insert(name, count);
        }
        for undo in undo.into_iter().rev() {
            if let Some(left) = undone.get_mut(undo.name()).filter(|left| **left > 0) {
                *left -= 1;
                store.revert(undo);
            }
        }
        store.fail_flushes = 0;
        store.fail_commits = 0;
    }

    /// The next `count` commits fail.
    pub fn fail_commits(&self, count: u32) {
        self.lock().fail_commits = count;
    }

    /// The next `count` flushes fail.
    pub fn fail_flushes(&self, count: u32) {
        self.lock().fail_flushes = count;
    }
}

impl Store {
    fn revert(&mut self, undo: Undo) {
        match undo {
            Undo::Whole { name, before: Some(space) } => {
                self.keyspaces.insert(name, space);
            }
            Undo::Whole { name, before: None } => {
                self.keyspaces.remove(&name);
            }
            Undo::Rows { name, before } => {
                if let Some(space) = self.keyspaces.get_mut(&name) {
                    let rows = Arc::make_mut(&mut space.rows);
                    for (key, value) in before.into_iter().rev() {
                        set(rows, key, value);
                    }
                }
            }
        }
    }

    fn space(&mut self, name: &str, id: u64) -> Result<&mut Space, StateError> {
        self.keyspaces
            .get_mut(name)
            .filter(|space| space.id == id)
            .ok_or_else(|| StateError::Deleted(name.into()))
    }
}

fn set(rows: &mut Map, key: Bytes, value: Option<Bytes>) -> Option<Bytes> {
    match value {
        Some(value) => rows.insert(key, value),
        None => rows.remove(&key),
    }
}

impl StateStore for OrderedStore {
    fn keyspace(&self, name: &str) -> Result<Arc<dyn Keyspace>, StateError> {
        check_name(name)?;
        let mut store = self.lock();
        if !store.keyspaces.contains_key(name) {
            store.created += 1;
            let space = Space { id: store.created, rows: Arc::default() };
            store.keyspaces.insert(name.to_owned(), space);
            store.undo.push(Undo::Whole { name: name.to_owned(), before: None });
        }
        let id = store.keyspaces[name].id;
        Ok(Arc::new(OrderedKeyspace { store: self.clone(), name: name.to_owned(), id }))
    }

    fn list(&self) -> Result<Vec<String>, StateError> {
        Ok(self.lock().keyspaces.keys().cloned().collect())
    }

    fn delete(&self, name: &str) -> Result<(), StateError> {
        let mut store = self.lock();
        if let Some(space) = store.keyspaces.remove(name) {
            store.undo.push(Undo::Whole { name: name.to_owned(), before: Some(space) });
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), StateError> {
        let mut store = self.lock();
        if store.fail_flushes > 0 {
            store.fail_flushes -= 1;
            return Err(StateError::Failed("injected flush failure".into()));
        }
        store.undo.clear();
        Ok(())
    }
}

struct OrderedKeyspace {
    store: OrderedStore,
    name: String,
    id: u64,
}

impl OrderedKeyspace {
    fn rows(&self) -> Result<Arc<Map>, StateError> {
        Ok(self.store.lock().space(&self.name, self.id)?.rows.clone())
    }
}

impl View for OrderedKeyspace {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        Ok(self.store.lock().space(&self.name, self.id)?.rows.get(key).cloned())
    }

    fn scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Rows, StateError> {
        Ok(scan(&self.store.lock().space(&self.name, self.id)?.rows, from, to, limit))
    }
}

fn scan(rows: &Map, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Rows {
    if is_empty_range(from, to) {
        return Rows::new();
    }
    rows.range::<[u8], _>((from, to)).take(limit).map(|(key, value)| (key.clone(), value.clone())).collect()
}

impl Keyspace for OrderedKeyspace {
    fn commit(&self, batch: Batch) -> Result<(), StateError> {
        let mut store = self.store.lock();
        if store.fail_commits > 0 {
            store.fail_commits -= 1;
            return Err(StateError::Failed("injected commit failure".into()));
        }
        let rows = Arc::make_mut(&mut store.space(&self.name, self.id)?.rows);
        let before = batch
            .changes
            .into_iter()
            .map(|(row, value)| {
                let old = set(rows, row.key.clone(), value);
                (row.key, old)
            })
            .collect();
        store.undo.push(Undo::Rows { name: self.name.clone(), before });
        Ok(())
    }

    fn view(&self) -> Arc<dyn View> {
        Arc::new(OrderedView { rows: self.rows() })
    }

    fn clear(&self) -> Result<(), StateError> {
        let mut store = self.store.lock();
        let space = store.space(&self.name, self.id)?;
        let before = Some(space.clone());
        space.rows = Arc::default();
        store.undo.push(Undo::Whole { name: self.name.clone(), before });
        Ok(())
    }
}

struct OrderedView {
    rows: Result<Arc<Map>, StateError>,
}

impl View for OrderedView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        Ok(self.rows.as_ref().map_err(Clone::clone)?.get(key).cloned())
    }

    fn scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Rows, StateError> {
        Ok(scan(self.rows.as_ref().map_err(Clone::clone)?, from, to, limit))
    }
}
