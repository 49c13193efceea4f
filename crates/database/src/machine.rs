//! The machine of a partition: bytes in, the rules on rows, bytes out.

use std::cell::{Cell, RefCell};
use std::ops::Bound;

use bytes::Bytes;
use trine_storage::{Transaction, View};

use crate::codec::{self, Command, Proposal, Query};
use crate::error::{Refusal, reply};
use crate::resp::{Value, encode};
use crate::rows::{DATABASES, MAX_KEY_BYTES, Rows, RowsMut};
use crate::rules::{chores, once, transaction, walk};
use crate::space::{Now, Space, SpaceMut};
use crate::table::{self, Action, Spec};

/// What a read answers: the encoded reply, or the moment that must first
/// have passed for the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// The encoded reply.
    Reply(Bytes),
    /// See [`Space::undecided`].
    NeedsTime(u64),
}

/// Applies a proposal at state time `now_ms`; answers the encoded reply.
/// The rows of a transaction that failed to read cannot be committed, so
/// that the reply is never seen then.
pub fn apply(tx: &mut Transaction<'_>, now_ms: u64, proposal: &[u8]) -> Bytes {
    apply_rows(&mut TransactionRows(tx), now_ms, proposal)
}

fn apply_rows(rows: &mut dyn RowsMut, now_ms: u64, proposal: &[u8]) -> Bytes {
    let value = match codec::decode_proposal(proposal) {
        None => Refusal::Unreadable("unknown form of a proposal").into(),
        Some(Proposal::Command(command)) => change(rows, now_ms, &command),
        Some(Proposal::Once { id, sequence, command }) => {
            return once::apply(rows, now_ms, &id, sequence, |rows| change(rows, now_ms, &command));
        }
        Some(Proposal::DeleteDue(limit)) => chores::delete_due(rows, now_ms, bounded(limit)),
        Some(Proposal::Transaction(transaction)) => {
            transaction::execute(rows, now_ms, &transaction, |rows, command| change(rows, now_ms, command))
        }
        Some(Proposal::Collect(limit)) => chores::collect(rows, bounded(limit)),
    };
    encode::encoded(&value)
}

/// Rows that one chore may change, whatever the proposal says.
const MAX_CHORE_ROWS: u32 = 10_000;

fn bounded(limit: u32) -> usize {
    usize::try_from(limit.min(MAX_CHORE_ROWS)).unwrap_or(usize::MAX)
}

fn change(rows: &mut dyn RowsMut, now_ms: u64, command: &Command) -> Value {
    let spec = match check(command) {
        Ok(spec) => spec,
        Err(refusal) => return refusal.into(),
    };
    let mut space = SpaceMut::new(rows, command.db, now_ms);
    reply(match spec.action {
        Action::Write(rule) => rule(&mut space, &command.argv),
        Action::Read(rule) => rule(&space.read(), &command.argv),
        Action::Session | Action::Walk => Err(Refusal::Unreadable("it is not for a partition")),
    })
}

fn check(command: &Command) -> Result<&'static Spec, Refusal> {
    let spec = table::resolve(&command.argv)?;
    if command.db >= DATABASES {
        return Err(Refusal::DbIndex);
    }
    let too_long = |at: usize| command.argv[at].len() > MAX_KEY_BYTES;
    if spec.key_indexes(command.argv.len()).any(too_long) {
        return Err(Refusal::KeyTooLong);
    }
    Ok(spec)
}

/// Answers a query on a view.
pub fn query(view: &dyn View, now: Now, query: &[u8]) -> Read {
    let rows = ViewRows { view, failure: RefCell::new(None) };
    let undecided = Cell::new(None);
    let space_reply = |db: u8, answer: &dyn Fn(&Space<'_>) -> Value| {
        let space = Space::new(&rows, db, now);
        let value = answer(&space);
        undecided.set(space.undecided());
        encode::encoded(&value)
    };
    let answer = match codec::decode_query(query) {
        None => encode::encoded(&Refusal::Unreadable("unknown form of a query").into()),
        Some(Query::Chores) => chores::Chores::read(&rows).encode(),
        Some(Query::Fingerprint(db, key)) => space_reply(db, &|space| {
            Value::bulk(transaction::fingerprint(space.get(&key).as_ref()).to_string())
        }),
        Some(Query::Counts) => chores::encode_counts(&rows),
        Some(Query::Walk(step)) => space_reply(step.db, &|space| walk::step(space, &step)),
        Some(Query::Command(command)) => match check(&command) {
            Err(refusal) => encode::encoded(&refusal.into()),
            Ok(spec) => space_reply(command.db, &|space| match spec.action {
                Action::Read(rule) => reply(rule(space, &command.argv)),
                _ => Refusal::Unreadable("it is no read").into(),
            }),
        },
    };
    if let Some(failure) = rows.failure.take() {
        return Read::Reply(encode::encoded(&Value::error(format!(
            "ERR reading the state failed: {failure}"
        ))));
    }
    match undecided.get() {
        Some(at_ms) => Read::NeedsTime(at_ms),
        None => Read::Reply(answer),
    }
}

/// A transaction as rows. Its first failed read makes it impossible to
/// commit, so that failures need not be reported here.
struct TransactionRows<'a, 'b>(&'a mut Transaction<'b>);

impl Rows for TransactionRows<'_, '_> {
    fn get(&self, row: &[u8]) -> Option<Bytes> {
        self.0.get(row).ok().flatten()
    }

    fn scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Vec<(Bytes, Bytes)> {
        self.0.scan(from, to, limit).unwrap_or_default()
    }
}

impl RowsMut for TransactionRows<'_, '_> {
    fn put(&mut self, row: Bytes, value: Bytes) {
        let _ = self.0.put(row, value);
    }

    fn delete(&mut self, row: &[u8]) {
        let _ = self.0.delete(Bytes::copy_from_slice(row));
    }
}

/// A view as rows, which remembers the first failure.
struct ViewRows<'a> {
    view: &'a dyn View,
    failure: RefCell<Option<String>>,
}

impl ViewRows<'_> {
    fn noted<T>(&self, error: &dyn std::error::Error, instead: T) -> T {
        self.failure.borrow_mut().get_or_insert_with(|| error.to_string());
        instead
    }
}

impl Rows for ViewRows<'_> {
    fn get(&self, row: &[u8]) -> Option<Bytes> {
        self.view.get(row).unwrap_or_else(|error| self.noted(&error, None))
    }

    fn scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Vec<(Bytes, Bytes)> {
        self.view.scan(from, to, limit).unwrap_or_else(|error| self.noted(&error, Vec::new()))
    }
}
