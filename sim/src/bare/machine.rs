//! The state machine of the bare node: registers that may lapse, counters,
//! and numbered increments. Small enough to be obviously right, so that what a
//! run finds is a bug of replication, storage or transport.

use std::fmt::Write;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use trine_replication::{Answer as Read, Machine, ReadTime, Stamp};
use trine_storage::{StateError, Transaction, View};

use crate::door::{Answer, Request};

/// Rows of registers and counters; their keys follow.
const CELL: u8 = 0x01;
/// Rows of clients' latest numbers; their names follow.
const CLIENT: u8 = 0x02;

/// A register or counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Cell {
    value: u64,
    /// State time at which it is gone.
    until_ms: Option<u64>,
}

/// See the module.
#[derive(Debug)]
pub struct Registers;

fn row(kind: u8, name: &str) -> Bytes {
    let mut row = Vec::with_capacity(name.len() + 1);
    row.push(kind);
    row.extend_from_slice(name.as_bytes());
    row.into()
}

/// The encoding of requests and answers.
pub fn encode<T: Serialize>(value: &T) -> Bytes {
    postcard::to_stdvec(value).expect("these types have an encoding").into()
}

/// The answer in a reply; `Wrong` if it is none.
#[must_use]
pub fn decode_answer(reply: &[u8]) -> Answer {
    postcard::from_bytes(reply).unwrap_or_else(|error| Answer::Wrong(format!("{reply:?}: {error}")))
}

fn load(view: &dyn View, key: &str) -> Result<Option<Cell>, StateError> {
    let found = view.get(&row(CELL, key))?;
    Ok(found.and_then(|bytes| postcard::from_bytes(&bytes).ok()))
}

/// The live cell at `now_ms`.
fn live(view: &dyn View, key: &str, now_ms: u64) -> Result<Option<Cell>, StateError> {
    Ok(load(view, key)?.filter(|cell| cell.until_ms.is_none_or(|until| until > now_ms)))
}

fn execute(tx: &mut Transaction<'_>, now_ms: u64, request: Request) -> Result<Answer, StateError> {
    let put = |tx: &mut Transaction<'_>, key: &str, value, until_ms| {
        tx.put(row(CELL, key), encode(&Cell { value, until_ms }))
    };
    Ok(match request {
        Request::Set { key, value } => {
            put(tx, &key, value, None)?;
            Answer::Done
        }
        Request::SetFor { key, value, ttl_ms } => {
            put(tx, &key, value, Some(now_ms + ttl_ms))?;
            Answer::Done
        }
        Request::Swap { key, old, new } => {
            let same = live(tx, &key, now_ms)?.is_some_and(|cell| cell.value == old);
            if same {
                put(tx, &key, new, None)?;
            }
            Answer::Swapped(same)
        }
        Request::Delete { key } => {
            let found = live(tx, &key, now_ms)?.is_some();
            tx.delete(row(CELL, &key))?;
            Answer::Deleted(found)
        }
        Request::Increment { key } => {
            let value = live(tx, &key, now_ms)?.map_or(0, |cell| cell.value) + 1;
            put(tx, &key, value, None)?;
            Answer::Count(value.try_into().unwrap_or(i64::MAX))
        }
        Request::IncrementOnce { key, client, seq } => {
            let mark = row(CLIENT, &client);
            let last = tx.get(&mark)?.and_then(|bytes| postcard::from_bytes::<u64>(&bytes).ok());
            let mut value = live(tx, &key, now_ms)?.map_or(0, |cell| cell.value);
            if last.is_none_or(|last| last < seq) {
                value += 1;
                put(tx, &key, value, None)?;
                tx.put(mark, encode(&seq))?;
            }
            Answer::Count(value.try_into().unwrap_or(i64::MAX))
        }
        Request::Get { .. } | Request::Count { .. } => Answer::Wrong("a read as a command".to_owned()),
    })
}

fn broken(error: &StateError) -> Answer {
    let mut text = String::new();
    // Writing into a string cannot fail.
    let _ = write!(text, "state: {error}");
    Answer::Wrong(text)
}

impl Machine for Registers {
    fn apply(&self, tx: &mut Transaction<'_>, stamp: &Stamp, command: &[u8]) -> Bytes {
        let answer = match postcard::from_bytes(command) {
            Ok(request) => execute(tx, stamp.time_ms, request).unwrap_or_else(|error| broken(&error)),
            Err(error) => Answer::Wrong(format!("command: {error}")),
        };
        encode(&answer)
    }

    fn query(&self, view: &dyn View, time: ReadTime, query: &[u8]) -> Read {
        let (key, counts) = match postcard::from_bytes(query) {
            Ok(Request::Get { key }) => (key, false),
            Ok(Request::Count { key }) => (key, true),
            other => return Read::Reply(encode(&Answer::Wrong(format!("query: {other:?}")))),
        };
        let cell = match live(view, &key, time.state_ms) {
            Ok(cell) => cell,
            Err(error) => return Read::Reply(encode(&broken(&error))),
        };
        if let Some(until_ms) = cell.and_then(|cell| cell.until_ms)
            && until_ms <= time.wall_ms
        {
            return Read::NeedsTime(until_ms);
        }
        let value = cell.map(|cell| cell.value);
        let answer = if counts {
            Answer::Count(value.unwrap_or(0).try_into().unwrap_or(i64::MAX))
        } else {
            Answer::Value(value)
        };
        Read::Reply(encode(&answer))
    }
}
