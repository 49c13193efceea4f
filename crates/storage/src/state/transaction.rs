//! A transaction: what `apply` writes through. It reads through to the rows
//! below, keeps all changes in memory until they become one [`Batch`], and
//! maintains the digest by which replicas compare their states.
//!
//! The digest of a keyspace is the sum, modulo 2^64, of [`row_hash`] over its
//! rows: a changed row's old hash is taken out and its last one added, so it
//! costs no scan and does not depend on the order of changes.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::row_key::RowKey;
use super::{Batch, Rows, StateError, View, is_empty_range};

/// What one row adds to the digest of its keyspace.
#[must_use]
pub fn row_hash(key: &[u8], value: &[u8]) -> u64 {
    xxh3_64_with_seed(value, xxh3_64(key))
}

/// Rows read below are remembered while there are fewer than this many, so
/// that reading a row and then writing it reads it once.
const REMEMBERED_READS: usize = 1024;

/// What a transaction knows of a row.
enum Row {
    /// What is below, unchanged so far.
    Read(Option<Bytes>),
    /// It was changed; what is below adds `below` to the digest.
    Changed { below: u64, value: Option<Bytes> },
}

impl Row {
    fn value(&self) -> Option<Bytes> {
        match self {
            Self::Read(value) | Self::Changed { value, .. } => value.clone(),
        }
    }
}

#[derive(Default)]
struct Known {
    rows: BTreeMap<RowKey, Row>,
    /// How many of them are unchanged.
    reads: usize,
}

/// What a row adds to the digest; nothing if there is none.
fn share(key: &[u8], value: Option<&Bytes>) -> u64 {
    value.map_or(0, |value| row_hash(key, value))
}

/// Changes over a [`View`] that are not committed yet. After a read has
/// failed the transaction can no longer become a batch, so that a caller who
/// has no way to report the failure cannot commit a wrong result.
pub struct Transaction<'a> {
    base: &'a dyn View,
    // A transaction has one user; the lock (never contended) only lets reads
    // through `&self` be remembered while the type stays `Sync`.
    known: Mutex<Known>,
    failure: OnceLock<StateError>,
}

impl<'a> Transaction<'a> {
    /// A transaction over the rows of `base`, which must not change meanwhile.
    pub fn new(base: &'a dyn View) -> Self {
        Self { base, known: Mutex::default(), failure: OnceLock::new() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn noted<T>(&self, result: Result<T, StateError>) -> Result<T, StateError> {
        result.inspect_err(|error| {
            // Only the first failure counts.
            let _ = self.failure.set(error.clone());
        })
    }

    /// The value of `key`, with this transaction's changes.
    ///
    /// # Errors
    /// [`StateError::Failed`]; the transaction is then lost.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        let row = RowKey::probe(key);
        let mut known = self.known();
        if let Some(row) = known.rows.get(&row) {
            return Ok(row.value());
        }
        let value = self.noted(self.base.get(key))?;
        if known.reads >= REMEMBERED_READS {
            known.rows.retain(|_, row| matches!(row, Row::Changed { .. }));
            known.reads = 0;
        }
        known.reads += 1;
        known.rows.insert(row, Row::Read(value.clone()));
        Ok(value)
    }

    /// Sets `key` to `value`.
    ///
    /// # Errors
    /// [`StateError::Failed`]; the transaction is then lost.
    pub fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<(), StateError> {
        self.change(key.into(), Some(value.into()))
    }

    /// Removes `key`, if it is there.
    ///
    /// # Errors
    /// [`StateError::Failed`]; the transaction is then lost.
    pub fn delete(&mut self, key: impl Into<Bytes>) -> Result<(), StateError> {
        self.change(key.into(), None)
    }

    fn change(&mut self, key: Bytes, value: Option<Bytes>) -> Result<(), StateError> {
        let key = RowKey::new(key);
        let known = self.known.get_mut().unwrap_or_else(PoisonError::into_inner);
        match known.rows.entry(key) {
            Entry::Occupied(mut row) => {
                let below = match row.get() {
                    Row::Changed { below, .. } => *below,
                    Row::Read(old) => {
                        known.reads -= 1;
                        share(&row.key().key, old.as_ref())
                    }
                };
                row.insert(Row::Changed { below, value });
            }
            Entry::Vacant(row) => {
                let old = self.base.get(&row.key().key).inspect_err(|error| {
                    // Only the first failure counts.
                    let _ = self.failure.set(error.clone());
                })?;
                let below = share(&row.key().key, old.as_ref());
                row.insert(Row::Changed { below, value });
            }
        }
        Ok(())
    }

    /// At most `limit` rows between the bounds, ascending, with this
    /// transaction's changes.
    ///
    /// # Errors
    /// [`StateError::Failed`]; the transaction is then lost.
    pub fn scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Rows, StateError> {
        let mut rows = Rows::new();
        if is_empty_range(from, to) {
            return Ok(rows);
        }
        let known = self.known();
        let changes = known.rows.range((from.map(RowKey::probe), to.map(RowKey::probe)));
        let changes = changes.filter_map(|(row, known)| match known {
            Row::Read(_) => None,
            Row::Changed { value, .. } => Some((&row.key, value.as_ref())),
        });
        let mut changes = changes.peekable();
        let mut from = from.map(Bytes::copy_from_slice);
        while rows.len() < limit {
            // Deleted rows below may hide the rest, so ask for more until
            // the rows below are used up.
            let wanted = limit - rows.len();
            let below = self.noted(self.base.scan(as_slice(&from), to, wanted))?;
            let exhausted = below.len() < wanted;
            let last = below.last().map(|(key, _)| key.clone());
            for (key, value) in below {
                while let Some((changed, new)) = changes.next_if(|(changed, _)| **changed < key) {
                    push(&mut rows, changed, new, limit);
                }
                match changes.next_if(|(changed, _)| **changed == key) {
                    Some((_, new)) => push(&mut rows, &key, new, limit),
                    None => push(&mut rows, &key, Some(&value), limit),
                }
            }
            match last {
                Some(last) if !exhausted => from = Bound::Excluded(last),
                _ => {
                    changes.by_ref().for_each(|(key, new)| push(&mut rows, key, new, limit));
                    break;
                }
            }
        }
        Ok(rows)
    }

    /// The changes as one batch, and what they add to the digest of the
    /// keyspace (modulo 2^64).
    ///
    /// # Errors
    /// The first error that any read of this transaction met.
    pub fn into_batch(self) -> Result<(Batch, u64), StateError> {
        if let Some(error) = self.failure.into_inner() {
            return Err(error);
        }
        let known = self.known.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut digest_delta = 0_u64;
        let changes = known.rows.into_iter().filter_map(|(row, known)| match known {
            Row::Read(_) => None,
            Row::Changed { below, value } => {
                let now = share(&row.key, value.as_ref());
                digest_delta = digest_delta.wrapping_add(now).wrapping_sub(below);
                Some((row, value))
            }
        });
        let changes = changes.collect();
        Ok((Batch { changes }, digest_delta))
    }
}

impl View for Transaction<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        Transaction::get(self, key)
    }

    fn scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Rows, StateError> {
        Transaction::scan(self, from, to, limit)
    }
}

fn push(rows: &mut Rows, key: &Bytes, value: Option<&Bytes>, limit: usize) {
    if let Some(value) = value
        && rows.len() < limit
    {
        rows.push((key.clone(), value.clone()));
    }
}

fn as_slice(bound: &Bound<Bytes>) -> Bound<&[u8]> {
    match bound {
        Bound::Included(key) => Bound::Included(key),
        Bound::Excluded(key) => Bound::Excluded(key),
        Bound::Unbounded => Bound::Unbounded,
    }
}
