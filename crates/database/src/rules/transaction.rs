//! MULTI, EXEC and WATCH within one partition: one proposal, executed at once.

use std::hash::Hasher as _;

use trine_types::limits::MAX_VALUE_BYTES;

use crate::codec::{Command, Transaction};
use crate::error::Refusal;
use crate::resp::Value;
use crate::rows::{Entry, RowsMut};
use crate::space::SpaceMut;

/// What WATCH notes of a key: a hash of its value and expiry, 0 for no key.
/// A key that was changed and changed back counts as unchanged.
pub fn fingerprint(entry: Option<&Entry>) -> u64 {
    let Some(entry) = entry else { return 0 };
    // FNV-1a: replicas compare what an entry node was told, so that all nodes
    // must count alike, in every version.
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    hasher.write(&entry.encode());
    hasher.finish().max(1)
}

struct Fnv(u64);

impl std::hash::Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// Executes all commands, or none and answers nil if a watched key changed.
pub fn execute(
    rows: &mut dyn RowsMut,
    now_ms: u64,
    transaction: &Transaction,
    run: impl Fn(&mut dyn RowsMut, &Command) -> Value,
) -> Value {
    for watched in &transaction.watched {
        let entry = SpaceMut::new(rows, watched.db, now_ms).get(&watched.key);
        if fingerprint(entry.as_ref()) != watched.fingerprint {
            return Value::Nil;
        }
    }
    let mut replies = Vec::with_capacity(transaction.commands.len());
    let mut bytes = 0;
    for command in &transaction.commands {
        let reply = run(rows, command);
        bytes += reply.size();
        // All commands are executed, whatever becomes of the replies.
        if bytes <= MAX_VALUE_BYTES {
            replies.push(reply);
        }
    }
    if replies.len() < transaction.commands.len() {
        return Refusal::TooLarge("the transaction was executed, its replies are larger than 16 MiB").into();
    }
    Value::Array(replies)
}
