//! `TRINE.ONCE id sequence COMMAND …`: a client that does not know whether its
//! write happened sends the same again, and it happens once.
//!
//! The partition remembers, per id, the last sequence number and its reply.
//! A sequence number below is refused, one above is a new command. An id that
//! was not used for [`KEPT_MS`] of state time is forgotten.

use std::ops::Bound;

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::Refusal;
use crate::resp::{Value, encode};
use crate::rows::{self, Rows, RowsMut};

/// How long an id is remembered after its last use, in state time.
pub const KEPT_MS: u64 = 15 * 60 * 1000;

/// Ids that a partition remembers. More are refused, since forgetting one
/// early would break its promise.
pub const MAX_IDS: u64 = 100_000;

/// Longest id.
pub const MAX_ID_BYTES: usize = 128;

/// Longest reply that is kept.
const MAX_REPLY_BYTES: usize = 4096;

/// Ids that each use of an id may forget: two, so that forgetting is faster
/// than remembering.
const FORGOTTEN_PER_USE: usize = 2;

/// What a repeated command with a long reply gets.
const REPLY_NOT_KEPT: &str = "DONE the command was executed before; its reply was too long to be kept";

struct Remembered {
    sequence: u64,
    used_ms: u64,
    reply: Bytes,
}

impl Remembered {
    fn encode(&self) -> Bytes {
        let mut value = BytesMut::with_capacity(16 + self.reply.len());
        value.put_u64(self.sequence);
        value.put_u64(self.used_ms);
        value.extend_from_slice(&self.reply);
        value.freeze()
    }

    fn decode(value: &Bytes) -> Option<Self> {
        let number =
            |range: std::ops::Range<usize>| value.get(range)?.try_into().ok().map(u64::from_be_bytes);
        Some(Self { sequence: number(0..8)?, used_ms: number(8..16)?, reply: value.slice(16..) })
    }
}

/// Executes `execute` unless the id did this sequence number before.
/// Answers an encoded reply.
pub fn apply(
    rows: &mut dyn RowsMut,
    now_ms: u64,
    id: &[u8],
    sequence: u64,
    execute: impl FnOnce(&mut dyn RowsMut) -> Value,
) -> Bytes {
    let row = rows::once_row(id);
    let before = rows.get(&row).and_then(|value| Remembered::decode(&value));
    if let Some(before) = &before {
        if before.sequence == sequence {
            return before.reply.clone();
        }
        if before.sequence > sequence {
            return encode::encoded(&Refusal::SequencePassed(sequence, before.sequence).into());
        }
    }
    forget_old(rows, now_ms);
    let ids = id_count(rows);
    if before.is_none() && ids >= MAX_IDS {
        return encode::encoded(&Refusal::TooManyIds.into());
    }
    let reply = encode::encoded(&execute(rows));
    if let Some(before) = &before {
        rows.delete(&rows::once_age_row(before.used_ms, id));
    } else {
        let ids = id_count(rows);
        set_id_count(rows, ids + 1);
    }
    let kept = if reply.len() > MAX_REPLY_BYTES {
        encode::encoded(&Value::error(REPLY_NOT_KEPT))
    } else {
        reply.clone()
    };
    rows.put(rows::once_age_row(now_ms, id), Bytes::new());
    rows.put(row, Remembered { sequence, used_ms: now_ms, reply: kept }.encode());
    reply
}

fn forget_old(rows: &mut dyn RowsMut, now_ms: u64) {
    let Some(until) = now_ms.checked_sub(KEPT_MS) else { return };
    let (from, to) = rows::once_age_until(until);
    let old = rows.scan(Bound::Included(&from), Bound::Excluded(&to), FORGOTTEN_PER_USE);
    for (age, _) in &old {
        rows.delete(age);
        if let Some(id) = rows::split_once_age_row(age) {
            rows.delete(&rows::once_row(&id));
        }
    }
    if !old.is_empty() {
        let ids = id_count(rows).saturating_sub(old.len() as u64);
        set_id_count(rows, ids);
    }
}

fn id_count(rows: &dyn Rows) -> u64 {
    let value = rows.get(&rows::ONCE_COUNT_ROW);
    value.and_then(|value| value[..].try_into().ok()).map_or(0, u64::from_be_bytes)
}

fn set_id_count(rows: &mut dyn RowsMut, count: u64) {
    rows.put(Bytes::from_static(&rows::ONCE_COUNT_ROW), Bytes::copy_from_slice(&count.to_be_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::stories::Story;

    #[test]
    fn the_same_sequence_is_executed_once() {
        let mut story = Story::new();
        story.once("me", 1, "INCR n").gives(":1");
        story.once("me", 1, "INCR n").gives(":1");
        story.once("me", 2, "INCR n").gives(":2");
        story.once("other", 1, "INCR n").gives(":3");
        story
            .once("me", 1, "INCR n")
            .gives("-ERR TRINE.ONCE: sequence 1 of this id was already followed by 2");
        story.run("GET n").gives("3");
    }

    #[test]
    fn refusals_are_remembered_too() {
        let mut story = Story::new();
        story.run("SET k abc").gives("+OK");
        story.once("me", 5, "INCR k").gives("-ERR value is not an integer or out of range");
        story.run("DEL k").gives(":1");
        story.once("me", 5, "INCR k").gives("-ERR value is not an integer or out of range");
        story.once("me", 9, "INCR k").gives(":1");
    }

    #[test]
    fn an_id_is_kept_for_its_time_and_then_forgotten() {
        let mut story = Story::new();
        story.once("old", 1, "INCR n").gives(":1");
        story.wait(KEPT_MS - 1).once("other", 1, "INCR n").gives(":2");
        story.once("old", 1, "INCR n").gives(":1");
        story.wait(1).once("other", 2, "INCR n").gives(":3");
        story.once("old", 1, "INCR n").gives(":4");
    }

    #[test]
    fn a_long_reply_is_not_kept_but_not_repeated_either() {
        let mut story = Story::new();
        let long = "x".repeat(5000);
        story.run(&format!("SET k {long}")).gives("+OK");
        story.once("me", 1, "GETDEL k").gives(&long);
        story.once("me", 1, "GETDEL k").gives(&format!("-{REPLY_NOT_KEPT}"));
    }
}
