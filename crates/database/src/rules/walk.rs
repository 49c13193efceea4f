//! Walking over the keys of a partition in their stable order: one step of
//! SCAN, KEYS or RANDOMKEY.

use bytes::Bytes;
use trine_types::glob;

use crate::codec::Walk;
use crate::resp::Value;
use crate::rows::{Entry, Position};
use crate::space::Space;

/// A kind that no key has: for `SCAN … TYPE nonsense`.
pub const NO_KIND: u8 = u8::MAX;

/// What a key costs in a reply beside its bytes.
const KEY_OVERHEAD_BYTES: usize = 16;

/// Looks at about `limit` keys. Answers an array: the position where to go on
/// (nil at the end), then the keys that match.
///
/// Keys that share a cursor ([`Position::cursor`]) are never torn apart.
pub fn step(space: &Space<'_>, walk: &Walk) -> Value {
    let limit = usize::try_from(walk.limit).unwrap_or(usize::MAX).max(1);
    let bytes = usize::try_from(walk.bytes).unwrap_or(usize::MAX);
    let mut replies = vec![Value::Nil];
    let (mut looked, mut size, mut previous) = (0, 0, None);
    for (position, key, entry) in space.walk(Position(walk.from), Position(walk.to), limit) {
        let cursor = position.cursor();
        if (looked >= limit || size >= bytes) && previous != Some(cursor) {
            replies[0] = Value::bulk(cursor.to_string());
            break;
        }
        previous = Some(cursor);
        looked += 1;
        if entry.is_some_and(|entry| wanted(walk, &key, &entry)) {
            size += key.len() + KEY_OVERHEAD_BYTES;
            replies.push(Value::Bulk(key));
        }
    }
    Value::Array(replies)
}

fn wanted(walk: &Walk, key: &[u8], entry: &Entry) -> bool {
    let kind = walk.kind == 0 || walk.kind == entry.kind as u8;
    kind && (walk.pattern.is_empty() || &walk.pattern[..] == b"*" || glob::matches(&walk.pattern, key))
}

/// Takes a step's reply apart: the cursor where to go on, and the keys.
pub fn split(reply: Value) -> Option<(Option<u64>, Vec<Value>)> {
    let Value::Array(mut items) = reply else { return None };
    if items.is_empty() {
        return None;
    }
    let keys = items.split_off(1);
    match items.pop()? {
        Value::Nil => Some((None, keys)),
        Value::Bulk(next) => Some((Some(std::str::from_utf8(&next).ok()?.parse().ok()?), keys)),
        _ => None,
    }
}

/// Reads the keys of a step as bytes.
pub fn key_bytes(value: &Value) -> Option<&Bytes> {
    match value {
        Value::Bulk(key) => Some(key),
        _ => None,
    }
}
