//! How the database lies in ordered rows. All numbers are big-endian, so that
//! byte order is number order.
//!
//! ```text
//! 01 | db | epoch 4 | slot 2 | hash 6 | key        -> kind, flags, [expiry 8], body     a key
//! 02 | db                                          -> epoch 4, keys 8, expiring 8       counts
//! 03 | expiry 8 | db | epoch 4 | slot 2 | hash 6 | key -> (empty)                       due index
//! 04 | id                                          -> sequence 8, time 8, reply         TRINE.ONCE
//! 05 | time 8 | id                                 -> (empty)                           its age index
//! 06 | db | epoch 4                                -> row                               flushed, collected up to row
//! 07                                               -> ids 8, time 8                     TRINE.ONCE ids, swept up to time
//! 08                                               -> time 8                            due index, swept up to time
//! ```
//!
//! A database is flushed by moving to its next epoch; the rows of the old one
//! are collected later in bounded steps. Where rows are deleted from the front,
//! a row remembers how far: an ordered store passes deleted rows slowly.
//! The hash gives SCAN an order that no
//! insertion or deletion disturbs. Byte `00` in front belongs to replication.

use std::ops::Bound;

use bytes::{BufMut, Bytes, BytesMut};

use crate::slots;

/// Longest key. The state store takes rows of up to 64 KiB in all.
pub const MAX_KEY_BYTES: usize = 32 * 1024;

/// Databases that SELECT knows.
pub const DATABASES: u8 = 16;

const KEY: u8 = 0x01;
const COUNTS: u8 = 0x02;
const DUE: u8 = 0x03;
const ONCE: u8 = 0x04;
const ONCE_AGE: u8 = 0x05;
const FLUSHED: u8 = 0x06;
const ONCE_COUNT: u8 = 0x07;
const SWEPT: u8 = 0x08;

/// Bytes of a key row's name before the key itself.
const KEY_PREFIX: usize = 14;

/// Rows that can be read: a view, or a transaction.
pub trait Rows {
    /// The value of one row.
    fn get(&self, row: &[u8]) -> Option<Bytes>;
    /// Rows in ascending order, at most `limit`.
    fn scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Vec<(Bytes, Bytes)>;
}

/// Rows that can be changed: a transaction.
pub trait RowsMut: Rows {
    /// Writes one row.
    fn put(&mut self, row: Bytes, value: Bytes);
    /// Deletes one row.
    fn delete(&mut self, row: &[u8]);
}

/// Where a key stands in its database's order: its slot, then 48 bits of hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl Position {
    /// Bits of the hash.
    const HASH_BITS: u32 = 48;
    /// Hash bits that a SCAN cursor carries: with the slot's 14 they make 53,
    /// which is what a client that keeps numbers as doubles can hold.
    const CURSOR_HASH_BITS: u32 = 39;
    const DROPPED: u32 = Self::HASH_BITS - Self::CURSOR_HASH_BITS;

    /// The position of `key`.
    pub fn of(key: &[u8]) -> Self {
        Self(u64::from(slots::slot(key)) << Self::HASH_BITS | hash48(key))
    }

    /// The first position of `slot`.
    pub fn start_of(slot: u16) -> Self {
        Self(u64::from(slot) << Self::HASH_BITS)
    }

    /// The slot.
    pub fn slot(self) -> u16 {
        u16::try_from(self.0 >> Self::HASH_BITS).unwrap_or(slots::SLOTS)
    }

    /// Where `cursor` resumes; `None` after the last position.
    pub fn from_cursor(cursor: u64) -> Option<Self> {
        let slots = u64::from(slots::SLOTS);
        (cursor < slots << Self::CURSOR_HASH_BITS).then_some(Self(cursor << Self::DROPPED))
    }

    /// The part of the position that a cursor keeps. Keys that share it are
    /// always returned by the same SCAN call.
    pub fn cursor(self) -> u64 {
        self.0 >> Self::DROPPED
    }
}

/// 48 bits of FNV-1a, stirred so that short keys spread. Stored: it can never
/// change.
fn hash48(key: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in key {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    (hash ^ (hash >> 33)) >> 16
}

/// The name of a key's row.
pub fn key_row(db: u8, epoch: u32, key: &[u8]) -> Bytes {
    let mut row = BytesMut::with_capacity(KEY_PREFIX + key.len());
    put_key_row(&mut row, db, epoch, key);
    row.freeze()
}

fn put_key_row(row: &mut BytesMut, db: u8, epoch: u32, key: &[u8]) {
    row.extend_from_slice(&key_prefix(db, epoch, Position::of(key)));
    row.extend_from_slice(key);
}

/// The first bytes of all rows of a database's epoch from `position` on.
pub fn key_prefix(db: u8, epoch: u32, position: Position) -> [u8; KEY_PREFIX] {
    let mut prefix = [KEY; KEY_PREFIX];
    prefix[1] = db;
    prefix[2..6].copy_from_slice(&epoch.to_be_bytes());
    prefix[6..].copy_from_slice(&position.0.to_be_bytes());
    prefix
}

/// First bytes beyond all rows of a database's epoch.
pub fn key_end(db: u8, epoch: u32) -> [u8; KEY_PREFIX] {
    key_prefix(db, epoch, Position(u64::MAX))
}

/// Position and key of a key row.
pub fn split_key_row(row: &Bytes) -> Option<(Position, Bytes)> {
    let position = row.get(6..KEY_PREFIX)?.try_into().ok()?;
    Some((Position(u64::from_be_bytes(position)), row.slice(KEY_PREFIX..)))
}

/// The row of a database's counts.
pub fn counts_row(db: u8) -> [u8; 2] {
    [COUNTS, db]
}

/// The due-index row of a key.
pub fn due_row(expires_ms: u64, db: u8, epoch: u32, key: &[u8]) -> Bytes {
    let mut row = BytesMut::with_capacity(9 + KEY_PREFIX + key.len());
    row.put_u8(DUE);
    row.put_u64(expires_ms);
    put_key_row(&mut row, db, epoch, key);
    row.freeze()
}

/// Bounds of the due index from one time up to another, both included.
pub fn due_between(from_ms: u64, until_ms: u64) -> ([u8; 9], [u8; 9]) {
    (timed(DUE, from_ms), timed(DUE, until_ms.saturating_add(1)))
}

/// The row that says up to when the due index was swept.
pub const SWEPT_ROW: [u8; 1] = [SWEPT];

/// A due-index row taken apart: expiry, database, epoch, key.
pub fn split_due_row(row: &Bytes) -> Option<(u64, u8, u32, Bytes)> {
    let expires_ms = u64::from_be_bytes(row.get(1..9)?.try_into().ok()?);
    let epoch = u32::from_be_bytes(row.get(11..15)?.try_into().ok()?);
    (row.len() >= 9 + KEY_PREFIX).then(|| (expires_ms, row[10], epoch, row.slice(9 + KEY_PREFIX..)))
}

fn timed(kind: u8, time_ms: u64) -> [u8; 9] {
    let mut row = [kind; 9];
    row[1..].copy_from_slice(&time_ms.to_be_bytes());
    row
}

/// The row that remembers what an id of `TRINE.ONCE` did last.
pub fn once_row(id: &[u8]) -> Bytes {
    [&[ONCE], id].concat().into()
}

/// The age-index row of an id of `TRINE.ONCE`.
pub fn once_age_row(time_ms: u64, id: &[u8]) -> Bytes {
    [&timed(ONCE_AGE, time_ms)[..], id].concat().into()
}

/// Bounds of the age index from one time up to another, both included.
pub fn once_age_between(from_ms: u64, until_ms: u64) -> ([u8; 9], [u8; 9]) {
    (timed(ONCE_AGE, from_ms), timed(ONCE_AGE, until_ms.saturating_add(1)))
}

/// Time and id in an age-index row.
pub fn split_once_age_row(row: &Bytes) -> Option<(u64, Bytes)> {
    let time_ms = u64::from_be_bytes(row.get(1..9)?.try_into().ok()?);
    Some((time_ms, row.slice(9..)))
}

/// The row that counts the ids of `TRINE.ONCE` and says up to when their age
/// index was swept.
pub const ONCE_COUNT_ROW: [u8; 1] = [ONCE_COUNT];

/// The row that says that an epoch was flushed and is to be collected.
pub fn flushed_row(db: u8, epoch: u32) -> [u8; 6] {
    let mut row = [FLUSHED; 6];
    row[1] = db;
    row[2..].copy_from_slice(&epoch.to_be_bytes());
    row
}

/// Bounds of all rows that name flushed epochs.
pub const FLUSHED_ROWS: ([u8; 1], [u8; 1]) = ([FLUSHED], [FLUSHED + 1]);

/// Database and epoch of a row that names a flushed epoch.
pub fn split_flushed_row(row: &[u8]) -> Option<(u8, u32)> {
    Some((*row.get(1)?, u32::from_be_bytes(row.get(2..6)?.try_into().ok()?)))
}

/// What a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A string, in the body of its row.
    String = 1,
}

impl Kind {
    /// The name that TYPE answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "string",
        }
    }
}

/// The value of a key row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What the key holds.
    pub kind: Kind,
    /// When it stops existing, in state time.
    pub expires_ms: Option<u64>,
    /// The value, for kinds that are stored inline.
    pub body: Bytes,
}

const HAS_EXPIRY: u8 = 1;

impl Entry {
    /// A string that never expires.
    pub fn string(body: Bytes) -> Self {
        Self { kind: Kind::String, expires_ms: None, body }
    }

    /// The row's value.
    pub fn encode(&self) -> Bytes {
        let mut value = BytesMut::with_capacity(10 + self.body.len());
        value.put_u8(self.kind as u8);
        match self.expires_ms {
            None => value.put_u8(0),
            Some(expires_ms) => {
                value.put_u8(HAS_EXPIRY);
                value.put_u64(expires_ms);
            }
        }
        value.extend_from_slice(&self.body);
        value.freeze()
    }

    /// The reverse of [`Entry::encode`]; `None` for bytes of another version.
    pub fn decode(value: &Bytes) -> Option<Self> {
        let (kind, flags) = (*value.first()?, *value.get(1)?);
        if kind != Kind::String as u8 || flags > HAS_EXPIRY {
            return None;
        }
        let (expires_ms, body) = match flags {
            0 => (None, value.slice(2..)),
            _ => (Some(u64::from_be_bytes(value.get(2..10)?.try_into().ok()?)), value.slice(10..)),
        };
        Some(Self { kind: Kind::String, expires_ms, body })
    }
}

/// The counts of one database in one partition, and its epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// How often it was flushed.
    pub epoch: u32,
    /// Keys, including expired ones that are not deleted yet.
    pub keys: u64,
    /// Keys with an expiry.
    pub expiring: u64,
}

impl Counts {
    /// The row's value.
    pub fn encode(&self) -> Bytes {
        let mut value = BytesMut::with_capacity(20);
        value.put_u32(self.epoch);
        value.put_u64(self.keys);
        value.put_u64(self.expiring);
        value.freeze()
    }

    /// The reverse of [`Counts::encode`].
    pub fn decode(value: &[u8]) -> Option<Self> {
        let number =
            |range: std::ops::Range<usize>| value.get(range)?.try_into().ok().map(u64::from_be_bytes);
        Some(Self {
            epoch: u32::from_be_bytes(value.get(..4)?.try_into().ok()?),
            keys: number(4..12)?,
            expiring: number(12..20)?,
        })
    }

    /// Reads the counts of `db`.
    pub fn read(rows: &dyn Rows, db: u8) -> Self {
        rows.get(&counts_row(db)).and_then(|value| Self::decode(&value)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn entries_and_counts_round_trip(
            body in proptest::collection::vec(any::<u8>(), 0..40), expires_ms in any::<Option<u64>>(),
            epoch in any::<u32>(), keys in any::<u64>(), expiring in any::<u64>(),
        ) {
            let entry = Entry { kind: Kind::String, expires_ms, body: body.into() };
            prop_assert_eq!(Entry::decode(&entry.encode()), Some(entry));
            let counts = Counts { epoch, keys, expiring };
            prop_assert_eq!(Counts::decode(&counts.encode()), Some(counts));
        }

        #[test]
        fn row_names_come_apart(key in proptest::collection::vec(any::<u8>(), 0..40), epoch in any::<u32>(), at in any::<u64>()) {
            let key = Bytes::from(key);
            prop_assert_eq!(split_key_row(&key_row(3, epoch, &key)), Some((Position::of(&key), key.clone())));
            prop_assert_eq!(split_due_row(&due_row(at, 3, epoch, &key)), Some((at, 3, epoch, key.clone())));
            let row = key_row(3, epoch, &key);
            prop_assert!(row[..] >= key_prefix(3, epoch, Position(0))[..] && row[..] < key_end(3, epoch)[..]);
        }

        #[test]
        fn random_values_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let bytes = Bytes::from(bytes);
            let _ = (Entry::decode(&bytes), Counts::decode(&bytes), split_due_row(&bytes), split_key_row(&bytes));
            let _ = (split_flushed_row(&bytes), split_once_age_row(&bytes));
        }
    }

    #[test]
    fn a_cursor_fits_a_double_and_resumes_where_it_says() {
        let last = Position(u64::from(slots::SLOTS - 1) << 48 | 0xffff_ffff_ffff);
        assert!(last.cursor() < 1 << 53);
        assert_eq!(Position::from_cursor(last.cursor() + 1), None);
        let position = Position::of(b"foo");
        assert!(Position::from_cursor(position.cursor()) <= Some(position));
        assert!(Position::from_cursor(position.cursor() + 1) > Some(position));
        assert_eq!(position.slot(), 12_182);
    }

    #[test]
    fn the_hash_is_what_is_stored_on_disks_already() {
        assert_eq!(Position::of(b"foo").0 & 0xffff_ffff_ffff, hash48(b"foo"));
        assert_eq!(hash48(b""), 0xefd0_1f60_ba99);
        assert_eq!(hash48(b"foo"), 0xaf85_ea55_6958);
    }
}
