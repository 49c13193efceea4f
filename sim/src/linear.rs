//! The linearizability checker: Wing and Gong's search with Lowe's memory of
//! visited configurations, for one key (the caller splits a history by key:
//! linearizability is local, so each key may be judged alone).
//!
//! An operation without an answer may take effect at any time after its call,
//! or never: it has no return entry, and the search ends as soon as all
//! *answered* operations have their place.
//!
//! The search is bounded by a number of steps, never by time, so that a seed
//! gives the same verdict on every machine. Own code and not the crate
//! `porcupine-rs`: that one (0.3.0) bounds by wall time, runs threads, and
//! needs a benchmark framework at run time. The tests hold this one against a
//! brute-force search over all orders.

use std::collections::HashSet;
use std::hash::Hash;

/// Sequential behaviour of one object.
pub trait Model {
    /// The object's state.
    type State: Clone + Eq + Hash;
    /// An operation together with its answer (or with the fact that it has none).
    type Op;

    /// The state before the first operation.
    fn start() -> Self::State;

    /// The state after `op`, or `None` if `op`'s answer cannot come from `state`.
    fn step(state: &Self::State, op: &Self::Op) -> Option<Self::State>;
}

/// One operation of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interval<Op> {
    /// What was asked and answered.
    pub op: Op,
    /// When it was called, in the world's order of events.
    pub call: u64,
    /// When it was answered; `None` if never, or with "outcome unknown".
    pub answer: Option<u64>,
}

/// What the search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order that explains all answers.
    Linearizable,
    /// There is none. `explained` are the operations (by index) of the longest
    /// order found, `stuck` one that could not follow.
    Illegal {
        /// Indices of the longest explained sequence.
        explained: Vec<usize>,
        /// The operation whose answer came before it could be explained.
        stuck: usize,
    },
    /// The bound on steps was reached first.
    Undecided,
}

/// Sentinel index: the end of the list.
const END: usize = usize::MAX;

#[derive(Clone, Copy)]
struct Entry {
    op: usize,
    is_call: bool,
    next: usize,
    prev: usize,
}

/// Entries of a history in order of time; `lift` takes an operation out.
struct Entries {
    list: Vec<Entry>,
    first: usize,
    call_at: Vec<usize>,
    answer_at: Vec<usize>,
}

impl Entries {
    fn new<Op>(history: &[Interval<Op>]) -> Self {
        let mut events: Vec<(u64, bool, usize)> = Vec::with_capacity(history.len() * 2);
        for (op, interval) in history.iter().enumerate() {
            events.push((interval.call, false, op));
            if let Some(at) = interval.answer {
                events.push((at, true, op));
            }
        }
        events.sort_unstable(); // at equal times calls come first: the lenient order
        let mut call_at = vec![END; history.len()];
        let mut answer_at = vec![END; history.len()];
        let end = events.len().wrapping_sub(1);
        let list = events
            .iter()
            .enumerate()
            .map(|(at, (_, is_answer, op))| {
                if *is_answer {
                    answer_at[*op] = at;
                } else {
                    call_at[*op] = at;
                }
                let next = if at == end { END } else { at + 1 };
                Entry { op: *op, is_call: !is_answer, next, prev: at.wrapping_sub(1) }
            })
            .collect::<Vec<_>>();
        let first = if list.is_empty() { END } else { 0 };
        Self { list, first, call_at, answer_at }
    }

    fn unlink(&mut self, at: usize) {
        let Entry { next, prev, .. } = self.list[at];
        if prev == END {
            self.first = next;
        } else {
            self.list[prev].next = next;
        }
        if next != END {
            self.list[next].prev = prev;
        }
    }

    fn relink(&mut self, at: usize) {
        let Entry { next, prev, .. } = self.list[at];
        if prev == END {
            self.first = at;
        } else {
            self.list[prev].next = at;
        }
        if next != END {
            self.list[next].prev = at;
        }
    }

    fn lift(&mut self, op: usize) {
        self.unlink(self.call_at[op]);
        if self.answer_at[op] != END {
            self.unlink(self.answer_at[op]);
        }
    }

    /// Undoes the latest `lift` that is not undone yet.
    fn drop_back(&mut self, op: usize) {
        if self.answer_at[op] != END {
            self.relink(self.answer_at[op]);
        }
        self.relink(self.call_at[op]);
    }
}

/// A set of operations, one bit each.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Bits(Vec<u64>);

impl Bits {
    fn flip(&mut self, at: usize) {
        self.0[at / 64] ^= 1 << (at % 64);
    }
}

/// Judges the history of one object within `budget` steps.
pub fn check<M: Model>(history: &[Interval<M::Op>], budget: u64) -> Verdict {
    let mut entries = Entries::new(history);
    let mut answers_left = history.iter().filter(|i| i.answer.is_some()).count();
    let mut state = M::start();
    let mut placed = Bits(vec![0; history.len().div_ceil(64)]);
    let mut visited: HashSet<(Bits, M::State)> = HashSet::new();
    let mut stack: Vec<(usize, M::State)> = Vec::new();
    let mut longest: (Vec<usize>, usize) = (Vec::new(), 0);
    let mut at = entries.first;
    for _ in 0..budget {
        if answers_left == 0 {
            return Verdict::Linearizable;
        }
        let entry = entries.list[at];
        if entry.is_call {
            let Some(after) = M::step(&state, &history[entry.op].op) else {
                at = entry.next;
                continue;
            };
            placed.flip(entry.op);
            if visited.insert((placed.clone(), after.clone())) {
                stack.push((entry.op, std::mem::replace(&mut state, after)));
                entries.lift(entry.op);
                answers_left -= usize::from(history[entry.op].answer.is_some());
                at = entries.first;
            } else {
                placed.flip(entry.op);
                at = entry.next;
            }
            continue;
        }
        // An answer whose operation has no place yet: the last choice was wrong.
        if stack.len() >= longest.0.len() {
            longest = (stack.iter().map(|(op, _)| *op).collect(), entry.op);
        }
        let Some((op, before)) = stack.pop() else {
            return Verdict::Illegal { explained: longest.0, stuck: longest.1 };
        };
        state = before;
        placed.flip(op);
        entries.drop_back(op);
        answers_left += usize::from(history[op].answer.is_some());
        at = entries.list[entries.call_at[op]].next;
    }
    if answers_left == 0 { Verdict::Linearizable } else { Verdict::Undecided }
}

#[cfg(test)]
#[path = "linear_tests.rs"]
mod tests;
