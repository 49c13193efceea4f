//! Sequential models of the two objects that scenarios use: a register with
//! reads, writes, compare-and-set and deletion, and a counter.

use crate::linear::Model;

/// A register's operation with its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegisterOp {
    /// `GET`: what it answered.
    Read(Option<u64>),
    /// `SET`.
    Write(u64),
    /// `SET … PX ttl`: lapses by itself at some later time.
    WriteFor(u64),
    /// `SET … IFEQ old`: `done` is the answer, `None` without one.
    Swap {
        /// The value that had to be there.
        old: u64,
        /// The value to write.
        new: u64,
        /// Whether it was written.
        done: Option<bool>,
    },
    /// `DEL`: `found` is the answer, `None` without one.
    Delete {
        /// Whether there was something to delete.
        found: Option<bool>,
    },
}

/// A register: empty at first.
#[derive(Debug, Clone, Copy)]
pub struct Register;

/// What a register holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Held {
    value: Option<u64>,
    /// The value may be gone at any later time, and then stays gone. (How long
    /// it had to live is not judged: clocks are allowed to differ.)
    lapses: bool,
}

impl Held {
    const EMPTY: Self = Self { value: None, lapses: false };

    fn of(value: u64) -> Self {
        Self { value: Some(value), lapses: false }
    }

    /// The state in which the register is seen empty, if that is possible.
    fn seen_empty(self) -> Option<Self> {
        (self.value.is_none() || self.lapses).then_some(Self::EMPTY)
    }
}

impl Model for Register {
    type State = Held;
    type Op = RegisterOp;

    fn start() -> Self::State {
        Held::EMPTY
    }

    fn step(state: &Self::State, op: &Self::Op) -> Option<Self::State> {
        match *op {
            RegisterOp::Read(None) | RegisterOp::Delete { found: Some(false) } => state.seen_empty(),
            RegisterOp::Read(value) => (value == state.value).then_some(*state),
            RegisterOp::Write(value) => Some(Held::of(value)),
            RegisterOp::WriteFor(value) => Some(Held { value: Some(value), lapses: true }),
            RegisterOp::Swap { old, new, done } => match done {
                _ if state.value == Some(old) && done != Some(false) => Some(Held::of(new)),
                Some(true) => None,
                // Not swapped: another value is there, or the old one lapsed.
                _ if state.value == Some(old) => state.seen_empty(),
                _ => Some(*state),
            },
            RegisterOp::Delete { found: Some(true) } if state.value.is_none() => None,
            RegisterOp::Delete { .. } => Some(Held::EMPTY),
        }
    }
}

/// A counter's operation with its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CounterOp {
    /// `INCR`: the value after it, `None` without an answer.
    Increment(Option<i64>),
    /// `GET`.
    Read(i64),
}

/// A counter: zero at first.
#[derive(Debug, Clone, Copy)]
pub struct Counter;

impl Model for Counter {
    type State = i64;
    type Op = CounterOp;

    fn start() -> Self::State {
        0
    }

    fn step(state: &Self::State, op: &Self::Op) -> Option<Self::State> {
        match *op {
            CounterOp::Increment(Some(after)) => (after == state + 1).then_some(after),
            CounterOp::Increment(None) => Some(state + 1),
            CounterOp::Read(value) => (value == *state).then_some(value),
        }
    }
}
