//! One database of one partition: keys as entries, with their counts, their
//! due index and their expiry kept right by one primitive each.
//!
//! Expiry by state time only: a read that would have to decide it by the wall
//! clock notes the moment that must first pass for the group
//! ([`Space::undecided`]).

use std::cell::Cell;
use std::ops::Bound;

use bytes::Bytes;

use crate::error::Refusal;
use crate::planted;
use crate::rows::{self, Counts, Entry, Kind, Position, Rows, RowsMut};

/// The two times of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// What has passed for the group.
    pub state_ms: u64,
    /// The leader's clock.
    pub wall_ms: u64,
}

/// A database that is read.
pub struct Space<'a> {
    rows: &'a dyn Rows,
    db: u8,
    now: Now,
    counts: Counts,
    undecided: Cell<Option<u64>>,
}

impl<'a> Space<'a> {
    /// The database `db` in `rows`.
    pub fn new(rows: &'a dyn Rows, db: u8, now: Now) -> Self {
        Self { rows, db, now, counts: Counts::read(rows, db), undecided: Cell::new(None) }
    }

    /// The database's counts.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What a person would call now: for remaining times to live.
    pub fn wall_ms(&self) -> u64 {
        self.now.wall_ms.max(self.now.state_ms)
    }

    /// The latest moment on which an answer of this space depended and that
    /// has passed on the wall but not for the group.
    pub fn undecided(&self) -> Option<u64> {
        self.undecided.get()
    }

    /// The entry of `key`, if it exists.
    pub fn get(&self, key: &[u8]) -> Option<Entry> {
        let value = self.rows.get(&rows::key_row(self.db, self.counts.epoch, key))?;
        self.alive(Entry::decode(&value)?)
    }

    /// The string at `key`.
    ///
    /// # Errors
    /// When the key holds another type.
    pub fn string(&self, key: &[u8]) -> Result<Option<Bytes>, Refusal> {
        self.get(key).map(string_of).transpose()
    }

    fn alive(&self, entry: Entry) -> Option<Entry> {
        let Some(expires_ms) = entry.expires_ms else { return Some(entry) };
        if planted::active(planted::EXPIRY_BY_LOCAL_CLOCK) {
            return (expires_ms > self.now.wall_ms).then_some(entry);
        }
        if expires_ms <= self.now.state_ms {
            return None;
        }
        if expires_ms <= self.now.wall_ms {
            self.undecided.set(self.undecided.get().max(Some(expires_ms)));
        }
        Some(entry)
    }

    /// The keys from position `from` to position `to` (both included) in
    /// order; `None` in the place of an expired entry. Fetches about
    /// `expected` rows at once, fewer when they are large.
    pub fn walk(&'a self, from: Position, to: Position, expected: usize) -> Walker<'a> {
        let end = match to.0.checked_add(1) {
            Some(after) => rows::key_prefix(self.db, self.counts.epoch, Position(after)),
            None => rows::key_end(self.db, self.counts.epoch),
        };
        let start = rows::key_prefix(self.db, self.counts.epoch, from);
        Walker {
            space: self,
            from: Bound::Included(Bytes::copy_from_slice(&start)),
            end,
            fetched: Vec::new().into_iter(),
            chunk: expected.saturating_add(1).min(FIRST_CHUNK),
        }
    }
}

/// Rows that a walk fetches first: each may hold a value of 16 MiB.
const FIRST_CHUNK: usize = 16;

/// Bytes that a walk wants to fetch at once, once it knows the rows' sizes.
const CHUNK_BYTES: usize = 1024 * 1024;

/// Most rows that a walk fetches at once.
const MAX_CHUNK: usize = 1024;

/// See [`Space::walk`].
pub struct Walker<'a> {
    space: &'a Space<'a>,
    from: Bound<Bytes>,
    end: [u8; 14],
    fetched: std::vec::IntoIter<(Bytes, Bytes)>,
    /// Rows to fetch next; none when the end is reached.
    chunk: usize,
}

impl Walker<'_> {
    fn fetch(&mut self) {
        let from = match &self.from {
            Bound::Included(row) => Bound::Included(&row[..]),
            Bound::Excluded(row) => Bound::Excluded(&row[..]),
            Bound::Unbounded => Bound::Unbounded,
        };
        let rows = self.space.rows.scan(from, Bound::Excluded(&self.end), self.chunk);
        match rows.last() {
            Some((last, _)) if rows.len() >= self.chunk => {
                let bytes: usize = rows.iter().map(|(row, value)| row.len() + value.len()).sum();
                self.chunk = (CHUNK_BYTES / (bytes / rows.len()).max(1)).clamp(1, MAX_CHUNK);
                self.from = Bound::Excluded(last.clone());
            }
            _ => self.chunk = 0,
        }
        self.fetched = rows.into_iter();
    }
}

impl Iterator for Walker<'_> {
    type Item = (Position, Bytes, Option<Entry>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((row, value)) = self.fetched.next() {
                let Some((position, key)) = rows::split_key_row(&row) else { continue };
                let entry = Entry::decode(&value).and_then(|entry| self.space.alive(entry));
                return Some((position, key, entry));
            }
            if self.chunk == 0 {
                return None;
            }
            self.fetch();
        }
    }
}

/// The string in an entry.
///
/// # Errors
/// When the entry is of another kind.
pub fn string_of(entry: Entry) -> Result<Bytes, Refusal> {
    match entry.kind {
        Kind::String => Ok(entry.body),
    }
}

/// A database that is changed.
pub struct SpaceMut<'a> {
    rows: &'a mut dyn RowsMut,
    db: u8,
    now_ms: u64,
    counts: Counts,
}

impl<'a> SpaceMut<'a> {
    /// The database `db` in `rows`, at state time `now_ms`.
    pub fn new(rows: &'a mut dyn RowsMut, db: u8, now_ms: u64) -> Self {
        let counts = Counts::read(&*rows, db);
        Self { rows, db, now_ms, counts }
    }

    /// State time.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Its number.
    pub fn db(&self) -> u8 {
        self.db
    }

    /// The same for reading.
    pub fn read(&self) -> Space<'_> {
        Space::new(&*self.rows, self.db, Now { state_ms: self.now_ms, wall_ms: self.now_ms })
    }

    /// Another database of the same partition.
    pub fn other(&mut self, db: u8) -> SpaceMut<'_> {
        SpaceMut::new(&mut *self.rows, db, self.now_ms)
    }

    /// The entry of `key`, if it exists; an expired one is deleted.
    pub fn get(&mut self, key: &[u8]) -> Option<Entry> {
        let value = self.rows.get(&rows::key_row(self.db, self.counts.epoch, key))?;
        let entry = Entry::decode(&value)?;
        if entry.expires_ms.is_some_and(|expires_ms| expires_ms <= self.now_ms) {
            self.replace(key, Some(&entry), None);
            return None;
        }
        Some(entry)
    }

    /// The string at `key`.
    ///
    /// # Errors
    /// When the key holds another type.
    pub fn string(&mut self, key: &[u8]) -> Result<Option<Bytes>, Refusal> {
        self.get(key).map(string_of).transpose()
    }

    /// Puts `new` in the place of `old`, which must be what is there, and
    /// keeps counts and due index right. An entry that is already due is
    /// not written at all.
    pub fn replace(&mut self, key: &[u8], old: Option<&Entry>, new: Option<&Entry>) {
        let new = new.filter(|new| new.expires_ms.is_none_or(|expires_ms| expires_ms > self.now_ms));
        let before = self.counts;
        let (old_due, new_due) = (old.and_then(|old| old.expires_ms), new.and_then(|new| new.expires_ms));
        if old_due != new_due {
            if let Some(expires_ms) = old_due {
                self.rows.delete(&rows::due_row(expires_ms, self.db, self.counts.epoch, key));
                self.counts.expiring = self.counts.expiring.saturating_sub(1);
            }
            if let Some(expires_ms) = new_due {
                self.rows.put(rows::due_row(expires_ms, self.db, self.counts.epoch, key), Bytes::new());
                self.counts.expiring += 1;
            }
        }
        let row = rows::key_row(self.db, self.counts.epoch, key);
        match (old, new) {
            (None, None) => {}
            (Some(_), None) => {
                self.rows.delete(&row);
                self.counts.keys = self.counts.keys.saturating_sub(1);
            }
            (old, Some(new)) => {
                self.rows.put(row, new.encode());
                self.counts.keys += u64::from(old.is_none());
            }
        }
        if self.counts != before {
            self.write_counts();
        }
    }

    /// Deletes `key`; says whether it existed.
    pub fn delete(&mut self, key: &[u8]) -> bool {
        let old = self.get(key);
        self.replace(key, old.as_ref(), None);
        old.is_some()
    }

    /// Empties the database by moving to the next epoch.
    pub fn flush(&mut self) {
        if self.counts.keys == 0 {
            return;
        }
        let flushed = rows::flushed_row(self.db, self.counts.epoch);
        self.rows.put(Bytes::copy_from_slice(&flushed), Bytes::new());
        self.counts = Counts { epoch: self.counts.epoch.wrapping_add(1), ..Counts::default() };
        self.write_counts();
    }

    fn write_counts(&mut self) {
        self.rows.put(Bytes::copy_from_slice(&rows::counts_row(self.db)), self.counts.encode());
    }
}
