//! What a leader proposes by itself: deleting keys that are due and
//! collecting the rows of flushed databases, in bounded steps.

use std::ops::Bound;

use bytes::{BufMut, Bytes, BytesMut};

use crate::resp::Value;
use crate::rows::{self, Counts, DATABASES, Entry, Position, Rows, RowsMut};
use crate::space::SpaceMut;

/// Deletes up to `limit` keys that are due at `now_ms`. Answers how many
/// index rows it took: fewer than `limit` means that nothing is left.
pub fn delete_due(rows: &mut dyn RowsMut, now_ms: u64, limit: usize) -> Value {
    let (from, to) = rows::due_between(swept_until(rows), now_ms);
    let due = rows.scan(Bound::Included(&from), Bound::Excluded(&to), limit);
    // State time never goes back, so that no row comes before it any more.
    let swept_ms = match due.last().and_then(|(row, _)| rows::split_due_row(row)) {
        Some((last_ms, ..)) if due.len() >= limit => last_ms,
        _ => now_ms,
    };
    for (row, _) in &due {
        let Some((expires_ms, db, epoch, key)) = rows::split_due_row(row) else {
            rows.delete(row);
            continue;
        };
        if epoch == Counts::read(rows, db).epoch {
            // Looking at an expired key deletes it, with its index row.
            if SpaceMut::new(rows, db, now_ms)
                .get(&key)
                .is_none_or(|entry| entry.expires_ms != Some(expires_ms))
            {
                rows.delete(row);
            }
        } else {
            rows.delete(row);
        }
    }
    rows.put(Bytes::from_static(&rows::SWEPT_ROW), Bytes::copy_from_slice(&swept_ms.to_be_bytes()));
    Value::count(due.len())
}

fn swept_until(rows: &dyn Rows) -> u64 {
    let value = rows.get(&rows::SWEPT_ROW);
    value.and_then(|value| value[..].try_into().ok()).map_or(0, u64::from_be_bytes)
}

/// Deletes up to `limit` rows of flushed epochs. Answers how many it took;
/// fewer than `limit` means that nothing is left.
pub fn collect(rows: &mut dyn RowsMut, limit: usize) -> Value {
    let mut left = limit;
    while left > 0 {
        let Some(Flushed { marker, db, epoch, collected }) = first_flushed(rows) else { break };
        let start = rows::key_prefix(db, epoch, Position(0));
        let from =
            if collected.is_empty() { Bound::Included(&start[..]) } else { Bound::Excluded(&collected[..]) };
        let found = rows.scan(from, Bound::Excluded(&rows::key_end(db, epoch)), left.min(CHUNK));
        let Some((last, _)) = found.last() else {
            rows.delete(&marker);
            continue;
        };
        rows.put(marker, last.clone());
        left -= found.len();
        for (row, value) in &found {
            rows.delete(row);
            let due = Entry::decode(value).and_then(|entry| entry.expires_ms).zip(rows::split_key_row(row));
            if let Some((expires_ms, (_, key))) = due {
                rows.delete(&rows::due_row(expires_ms, db, epoch, &key));
            }
        }
    }
    Value::count(limit - left)
}

/// Rows fetched at once while collecting: each may hold a large value.
const CHUNK: usize = 64;

/// A flushed epoch whose rows are being collected.
struct Flushed {
    marker: Bytes,
    db: u8,
    epoch: u32,
    /// The last row that was collected; empty for none.
    collected: Bytes,
}

fn first_flushed(rows: &dyn Rows) -> Option<Flushed> {
    let (from, to) = rows::FLUSHED_ROWS;
    let found = rows.scan(Bound::Included(&from), Bound::Excluded(&to), 1);
    let (marker, collected) = found.into_iter().next()?;
    let (db, epoch) = rows::split_flushed_row(&marker)?;
    Some(Flushed { marker, db, epoch, collected })
}

/// What is to be done in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chores {
    /// When the next key is due.
    pub due_ms: Option<u64>,
    /// Whether there are rows of flushed databases.
    pub flushed: bool,
}

impl Chores {
    /// Looks what is to be done.
    pub fn read(rows: &dyn Rows) -> Self {
        let (from, to) = rows::due_between(swept_until(rows), u64::MAX - 1);
        let next = rows.scan(Bound::Included(&from), Bound::Excluded(&to), 1);
        let due_ms = next.first().and_then(|(row, _)| rows::split_due_row(row)).map(|(due_ms, ..)| due_ms);
        Self { due_ms, flushed: first_flushed(rows).is_some() }
    }

    /// `due 8 | flushed 1`
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(9);
        out.put_u64(self.due_ms.unwrap_or(u64::MAX));
        out.put_u8(u8::from(self.flushed));
        out.freeze()
    }

    /// The reverse of [`Chores::encode`].
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let due_ms = u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?);
        Some(Self { due_ms: (due_ms != u64::MAX).then_some(due_ms), flushed: *bytes.get(8)? != 0 })
    }
}

/// The counts of all databases that have keys: `db 1 | keys 8 | expiring 8` each.
pub fn encode_counts(rows: &dyn Rows) -> Bytes {
    let mut out = BytesMut::new();
    for db in 0..DATABASES {
        let counts = Counts::read(rows, db);
        if counts.keys > 0 {
            out.put_u8(db);
            out.put_u64(counts.keys);
            out.put_u64(counts.expiring);
        }
    }
    out.freeze()
}

/// The reverse of [`encode_counts`]: database, keys, expiring keys.
pub fn decode_counts(bytes: &[u8]) -> Vec<(u8, u64, u64)> {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    bytes.chunks_exact(17).map(|row| (row[0], number(&row[1..9]), number(&row[9..]))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;
    use crate::rules::stories::{START_MS, Story};

    #[test]
    fn due_keys_are_deleted_in_bounded_steps() {
        let mut story = Story::new();
        for n in 0..10 {
            story.run(&format!("SET k{n} v PX {}", 100 + n)).gives("+OK");
        }
        story.run("SET stays v EX 100").gives("+OK");
        assert_eq!(story.chores(), Chores { due_ms: Some(START_MS + 100), flushed: false });
        story.wait(104);
        story.propose(&codec::delete_due(3)).gives(":3");
        story.run("DBSIZE").gives(":8");
        story.propose(&codec::delete_due(30)).gives(":2");
        story.run("DBSIZE").gives(":6");
        assert_eq!(story.chores().due_ms, Some(START_MS + 105));
        story.wait(1000).propose(&codec::delete_due(30)).gives(":5");
        story.run("KEYS *").gives("[stays]");
    }

    #[test]
    fn what_becomes_due_after_a_sweep_is_found_by_the_next() {
        let mut story = Story::new();
        for round in 1..20_u64 {
            story.run("SET a v PX 7").gives("+OK");
            story.run("SET b v PX 7").gives("+OK");
            story.wait(7).propose(&codec::delete_due(1)).gives(":1");
            story.run("SET c v PX 1").gives("+OK");
            story.wait(1).propose(&codec::delete_due(100)).gives(":2");
            story.run("DBSIZE").gives(":0");
            assert_eq!(story.chores().due_ms, None, "round {round}");
        }
    }

    #[test]
    fn a_key_whose_expiry_moved_is_not_deleted() {
        let mut story = Story::new();
        story.run("SET k v PX 100").gives("+OK");
        story.run("PEXPIRE k 5000").gives(":1");
        story.run("SET other v PX 100").gives("+OK");
        story.run("PERSIST other").gives(":1");
        story.wait(100).propose(&codec::delete_due(30)).gives(":0");
        story.run("EXISTS k other").gives(":2");
    }

    #[test]
    fn flushed_rows_are_collected_and_nothing_is_left() {
        let mut story = Story::new();
        let empty = story.rows();
        for n in 0..10 {
            story.run(&format!("SET k{n} v EX 100")).gives("+OK");
        }
        story.run("FLUSHDB").gives("+OK");
        story.run("SET new v").gives("+OK");
        assert!(story.chores().flushed);
        story.propose(&codec::collect(4)).gives(":4");
        story.propose(&codec::collect(100)).gives(":6");
        story.propose(&codec::collect(100)).gives(":0");
        assert_eq!(story.chores(), Chores { due_ms: None, flushed: false });
        story.run("KEYS *").gives("[new]");
        story.run("DEL new").gives(":1");
        assert_eq!(story.rows(), empty + 1, "only the counts stay");
        for n in 0..10 {
            story.run(&format!("SET k{n} v EX 100")).gives("+OK");
        }
        story.run("FLUSHALL").gives("+OK");
        story.propose(&codec::collect(100)).gives(":10");
        assert_eq!(story.rows(), empty + 1, "a second flush is collected from its start");
    }
}
