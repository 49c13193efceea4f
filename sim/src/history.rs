//! What the clients saw: each operation with the moments of its call and of
//! its answer. Moments are positions in the world's single order of events
//! (the simulator has one thread), the strictest notion of "before" there is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::door::{Answer, Request};
use crate::linear::Interval;
use crate::register::{CounterOp, RegisterOp};
use crate::trace::Trace;

/// One operation of one client.
#[derive(Debug, Clone)]
pub struct Record {
    /// Which client.
    pub client: usize,
    /// What it asked.
    pub request: Request,
    /// When.
    pub call: u64,
    /// World time of the call, in milliseconds.
    pub call_ms: u64,
    /// The answer and when it came; `None` while there is none.
    pub answer: Option<(u64, u64, Answer)>,
}

/// How operations ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// With a definite answer.
    pub answered: u64,
    /// With "outcome unknown", a timeout, or the death of the node asked.
    pub unknown: u64,
    /// With a refusal.
    pub refused: u64,
}

#[derive(Debug, Default)]
struct Inner {
    moment: u64,
    records: Vec<Record>,
}

/// A handle to the history of one world.
#[derive(Debug, Clone)]
pub struct History {
    // A lock because client tasks share it; only one thread ever holds it.
    inner: Arc<Mutex<Inner>>,
    trace: Trace,
}

impl History {
    /// An empty history that notes its events in `trace`.
    #[must_use]
    pub fn new(trace: Trace) -> Self {
        Self { inner: Arc::default(), trace }
    }

    fn with<T>(&self, run: impl FnOnce(&mut Inner) -> T) -> T {
        run(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes a call; the number names the operation.
    pub fn called(&self, client: usize, now_ms: u64, request: &Request) -> usize {
        let at = self.with(|inner| {
            inner.moment += 1;
            let call = inner.moment;
            let request = request.clone();
            inner.records.push(Record { client, request, call, call_ms: now_ms, answer: None });
            inner.records.len() - 1
        });
        self.trace.note(format_args!("c{client} #{at} {request:?}"));
        at
    }

    /// Notes the answer of operation `at`.
    pub fn answered(&self, at: usize, now_ms: u64, answer: Answer) {
        self.trace.note(format_args!("#{at} -> {answer:?}"));
        self.with(|inner| {
            inner.moment += 1;
            let moment = inner.moment;
            if let Some(record) = inner.records.get_mut(at) {
                record.answer = Some((moment, now_ms, answer));
            }
        });
    }

    /// All operations in the order of their calls.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        self.with(|inner| inner.records.clone())
    }

    /// How operations ended.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.with(|inner| {
            let mut tally = Tally::default();
            for record in &inner.records {
                match record.answer {
                    None | Some((_, _, Answer::Unknown(_))) => tally.unknown += 1,
                    Some((_, _, Answer::Refused(_))) => tally.refused += 1,
                    Some(_) => tally.answered += 1,
                }
            }
            tally
        })
    }
}

/// The registers' histories, by key, for the checker.
#[must_use]
pub fn registers(records: &[Record]) -> BTreeMap<String, Vec<Interval<RegisterOp>>> {
    let mut by_key: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for record in records {
        let answer = record.answer.as_ref().map(|(moment, _, answer)| (*moment, answer));
        if let Some((key, op)) = register_op(&record.request, answer.map(|(_, answer)| answer)) {
            let known = answer.filter(|(_, a)| !matches!(a, Answer::Unknown(_)));
            let interval = Interval { op, call: record.call, answer: known.map(|(at, _)| at) };
            by_key.entry(key.clone()).or_default().push(interval);
        }
    }
    by_key
}

/// `None` for what says nothing about a register's state.
fn register_op<'a>(request: &'a Request, answer: Option<&Answer>) -> Option<(&'a String, RegisterOp)> {
    if matches!(answer, Some(Answer::Refused(_))) {
        return None;
    }
    match request {
        Request::Get { key } => match answer {
            Some(Answer::Value(value)) => Some((key, RegisterOp::Read(*value))),
            _ => None,
        },
        Request::Set { key, value } => Some((key, RegisterOp::Write(*value))),
        Request::SetFor { key, value, .. } => Some((key, RegisterOp::WriteFor(*value))),
        Request::Swap { key, old, new } => {
            let done = if let Some(Answer::Swapped(done)) = answer { Some(*done) } else { None };
            Some((key, RegisterOp::Swap { old: *old, new: *new, done }))
        }
        Request::Delete { key } => {
            let found = if let Some(Answer::Deleted(found)) = answer { Some(*found) } else { None };
            Some((key, RegisterOp::Delete { found }))
        }
        _ => None,
    }
}

/// The counters' histories, by key, for the checker. Counters with numbered
/// increments are left out: a retry there is no operation of its own.
#[must_use]
pub fn counters(records: &[Record]) -> BTreeMap<String, Vec<Interval<CounterOp>>> {
    let mut by_key: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for record in records {
        let answer = record.answer.as_ref().map(|(moment, _, answer)| (*moment, answer));
        let (key, op) = match (&record.request, answer.map(|(_, answer)| answer)) {
            (_, Some(Answer::Refused(_))) => continue,
            (Request::Increment { key }, Some(Answer::Count(after))) => {
                (key, CounterOp::Increment(Some(*after)))
            }
            (Request::Increment { key }, _) => (key, CounterOp::Increment(None)),
            (Request::Count { key }, Some(Answer::Count(value))) => (key, CounterOp::Read(*value)),
            _ => continue,
        };
        let known = answer.filter(|(_, a)| !matches!(a, Answer::Unknown(_)));
        let interval = Interval { op, call: record.call, answer: known.map(|(at, _)| at) };
        by_key.entry(key.clone()).or_default().push(interval);
    }
    for record in records {
        if let Request::IncrementOnce { key, .. } = &record.request {
            by_key.remove(key);
        }
    }
    by_key
}
