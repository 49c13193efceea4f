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

/// How stale an id's place in the age index may be, so that using it often
/// does not rewrite the index each time. An id is kept for the difference.
const AGE_STEP_MS: u64 = 60 * 1000;

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
    let mut ledger = Ledger::read(rows);
    ledger.forget_old(rows, now_ms);
    // It may have been among the old ones itself.
    let before = before.filter(|_| rows.get(&row).is_some());
    if before.is_none() && ledger.ids >= MAX_IDS {
        ledger.write(rows);
        return encode::encoded(&Refusal::TooManyIds.into());
    }
    let reply = encode::encoded(&execute(rows));
    let kept = if reply.len() > MAX_REPLY_BYTES {
        encode::encoded(&Value::error(REPLY_NOT_KEPT))
    } else {
        reply.clone()
    };
    let used_ms = match &before {
        // Its place in the age index is right within a minute: not moved.
        Some(before) if now_ms.saturating_sub(before.used_ms) < AGE_STEP_MS => before.used_ms,
        Some(before) => {
            rows.delete(&rows::once_age_row(before.used_ms, id));
            now_ms
        }
        None => {
            ledger.ids += 1;
            now_ms
        }
    };
    if before.is_none_or(|before| before.used_ms != used_ms) {
        rows.put(rows::once_age_row(used_ms, id), Bytes::new());
    }
    rows.put(row, Remembered { sequence, used_ms, reply: kept }.encode());
    ledger.write(rows);
    reply
}

/// The row about all ids: how many there are, and up to when the age index
/// was swept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ledger {
    ids: u64,
    swept_ms: u64,
    stored: (u64, u64),
}

impl Ledger {
    fn read(rows: &dyn Rows) -> Self {
        let value = rows.get(&rows::ONCE_COUNT_ROW).unwrap_or_default();
        let number = |range: std::ops::Range<usize>| {
            value.get(range).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
        };
        let (ids, swept_ms) = (number(0..8), number(8..16));
        Self { ids, swept_ms, stored: (ids, swept_ms) }
    }

    fn write(&self, rows: &mut dyn RowsMut) {
        if self.stored != (self.ids, self.swept_ms) {
            let value = [self.ids.to_be_bytes(), self.swept_ms.to_be_bytes()].concat();
            rows.put(Bytes::from_static(&rows::ONCE_COUNT_ROW), value.into());
        }
    }

    fn forget_old(&mut self, rows: &mut dyn RowsMut, now_ms: u64) {
        let Some(until) = now_ms.checked_sub(KEPT_MS).filter(|until| *until > self.swept_ms) else { return };
        let (from, to) = rows::once_age_between(self.swept_ms, until);
        let old = rows.scan(Bound::Included(&from), Bound::Excluded(&to), FORGOTTEN_PER_USE);
        let mut last_ms = until;
        for (age, _) in &old {
            rows.delete(age);
            if let Some((used_ms, id)) = rows::split_once_age_row(age) {
                rows.delete(&rows::once_row(&id));
                last_ms = used_ms;
            }
        }
        self.ids = self.ids.saturating_sub(old.len() as u64);
        self.swept_ms = if old.len() < FORGOTTEN_PER_USE { until } else { last_ms };
    }
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
    fn an_id_in_use_is_not_forgotten() {
        let mut story = Story::new();
        for sequence in 1..100 {
            story.once("me", sequence, "INCR n").gives(&format!(":{}", sequence * 2 - 1));
            story
                .wait(AGE_STEP_MS / 2)
                .once("other", sequence, "INCR n")
                .gives(&format!(":{}", sequence * 2));
            story
                .wait(AGE_STEP_MS / 3)
                .once("me", sequence, "INCR n")
                .gives(&format!(":{}", sequence * 2 - 1));
        }
        let with_two = story.rows();
        story.wait(2 * KEPT_MS).once("third", 1, "INCR n").gives(":199");
        assert_eq!(story.rows(), with_two - 2, "two ids were forgotten, one is new");
    }

    #[test]
    fn an_id_that_comes_back_late_is_counted_once() {
        let mut story = Story::new();
        for sequence in 1..5 {
            story.once("me", sequence, "INCR n").gives(&format!(":{sequence}"));
            story.wait(2 * KEPT_MS);
        }
        let ids = story.rows();
        story.once("other", 1, "INCR n").gives(":5");
        assert_eq!(story.rows(), ids, "one forgotten, one new");
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
