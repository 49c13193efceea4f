//! A transaction: what `apply` writes through. It reads through to the rows
//! below, keeps all changes in memory until they become one [`Batch`], and
//! maintains the digest by which replicas compare their states.
//!
//! The digest of a keyspace is the sum, modulo 2^64, of [`row_hash`] over its
//! rows: a put takes the old row's hash out and adds the new one's, so it
//! costs no scan and does not depend on the order of changes.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{Batch, Rows, StateError, View, is_empty_range};

/// What one row adds to the digest of its keyspace.
#[must_use]
pub fn row_hash(key: &[u8], value: &[u8]) -> u64 {
    xxh3_64_with_seed(value, xxh3_64(key))
}

/// Rows read below are remembered while there are fewer than this many, so
/// that reading a row and then writing it reads it once.
const REMEMBERED_READS: usize = 1024;

/// Changes over a [`View`] that are not committed yet. After a read has
/// failed the transaction can no longer become a batch, so that a caller who
/// has no way to report the failure cannot commit a wrong result.
pub struct Transaction<'a> {
    base: &'a dyn View,
    changes: BTreeMap<Bytes, Option<Bytes>>,
    digest_delta: u64,
    // A transaction has one user; the lock (never contended) only lets reads
    // through `&self` be remembered while the type stays `Sync`.
    reads: Mutex<BTreeMap<Bytes, Option<Bytes>>>,
    failure: OnceLock<StateError>,
}

impl<'a> Transaction<'a> {
    /// A transaction over the rows of `base`, which must not change meanwhile.
    pub fn new(base: &'a dyn View) -> Self {
        Self {
            base,
            changes: BTreeMap::new(),
            digest_delta: 0,
            reads: Mutex::default(),
            failure: OnceLock::new(),
        }
    }

    fn reads(&self) -> MutexGuard<'_, BTreeMap<Bytes, Option<Bytes>>> {
        self.reads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn noted<T>(&self, result: Result<T, StateError>) -> Result<T, StateError> {
        result.inspect_err(|error| {
            // Only the first failure counts.
            let _ = self.failure.set(error.clone());
        })
    }

    fn base_row(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        if let Some(known) = self.reads().get(key) {
            return Ok(known.clone());
        }
        let value = self.noted(self.base.get(key))?;
        let mut reads = self.reads();
        if reads.len() >= REMEMBERED_READS {
            reads.clear();
        }
        reads.insert(Bytes::copy_from_slice(key), value.clone());
        Ok(value)
    }

    /// The value of `key`, with this transaction's changes.
    ///
    /// # Errors
    /// [`StateError::Failed`]; the transaction is then lost.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        match self.changes.get(key) {
            Some(changed) => Ok(changed.clone()),
            None => self.base_row(key),
        }
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
        if let Some(old) = self.get(&key)? {
            self.digest_delta = self.digest_delta.wrapping_sub(row_hash(&key, &old));
        }
        if let Some(new) = &value {
            self.digest_delta = self.digest_delta.wrapping_add(row_hash(&key, new));
        }
        self.changes.insert(key, value);
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
        let mut changes = self.changes.range::<[u8], _>((from, to)).peekable();
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
                    push(&mut rows, changed, new.as_ref(), limit);
                }
                match changes.next_if(|(changed, _)| **changed == key) {
                    Some((_, new)) => push(&mut rows, &key, new.as_ref(), limit),
                    None => push(&mut rows, &key, Some(&value), limit),
                }
            }
            match last {
                Some(last) if !exhausted => from = Bound::Excluded(last),
                _ => {
                    changes.by_ref().for_each(|(key, new)| push(&mut rows, key, new.as_ref(), limit));
                    break;
                }
            }
        }
        Ok(rows)
    }

    /// Whether nothing was changed so far.
    pub fn is_unchanged(&self) -> bool {
        self.changes.is_empty()
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
        Ok((Batch { changes: self.changes }, self.digest_delta))
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
