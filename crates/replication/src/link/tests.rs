//! The link against the session rules, over a network that loses, repeats
//! and delays frames.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use tokio::time::Instant;
use trine_types::{Incarnation, NodeNumber};

use super::*;
use crate::session::{Admission, SessionRow, enter};

const LIMITS: LinkLimits =
    LinkLimits { commands: 100, bytes: 10_000, window: 8, frame_commands: 3, frame_bytes: 1000 };

fn link() -> Link<u64> {
    Link::new(NodeNumber(1), Incarnation(1), LIMITS)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

/// A state that remembers in which order it executed.
#[derive(Default)]
struct State {
    row: Option<SessionRow>,
    log: Vec<Bytes>,
}

impl State {
    fn apply(&mut self, part: &Part) -> Vec<Outcome> {
        match enter(&mut self.row, part.session, part.acked, part.first) {
            Err(outcome) => vec![outcome; part.commands.len()],
            Ok(row) => (part.first..)
                .zip(&part.commands)
                .map(|(sequence, command)| match row.admit(sequence) {
                    Admission::Answer(outcome) => outcome,
                    Admission::Execute => {
                        self.log.push(command.clone());
                        row.executed(command);
                        Outcome::Done(command.clone())
                    }
                })
                .collect(),
        }
    }
}

fn body(n: u64) -> Bytes {
    Bytes::from(n.to_be_bytes().to_vec())
}

fn deliver(link: &mut Link<u64>, state: &mut State, frame: &Frame) -> Settled<u64> {
    let outcomes = state.apply(&frame.part);
    link.answered(frame.generation, frame.part.session, frame.part.first, outcomes)
}

#[test]
fn replies_come_in_order_and_free_the_window() {
    let (mut link, mut state) = (link(), State::default());
    for n in 1..=20 {
        assert_eq!(link.push(body(n), n, soon()), Ok(()));
    }
    let frames: Vec<Frame> = std::iter::from_fn(|| link.next_frame()).collect();
    assert_eq!(frames.iter().map(|f| f.part.commands.len()).sum::<usize>(), LIMITS.window);
    let settled: Vec<_> = frames.iter().flat_map(|f| deliver(&mut link, &mut state, f)).collect();
    assert_eq!(settled, (1..=8).map(|n| (n, Ok(body(n)))).collect::<Vec<_>>());
    assert_eq!(link.next_frame().map(|f| f.part.first), Some(9));
}

#[test]
fn a_lost_frame_is_sent_again_and_its_duplicate_does_no_harm() {
    let (mut link, mut state) = (link(), State::default());
    for n in 1..=3 {
        assert_eq!(link.push(body(n), n, soon()), Ok(()));
    }
    let first = link.next_frame().unwrap();
    link.lost(first.generation);
    let second = link.next_frame().unwrap();
    assert_eq!(second.part, first.part);
    assert_eq!(deliver(&mut link, &mut state, &first).len(), 3);
    assert_eq!(deliver(&mut link, &mut state, &second).len(), 0);
    assert_eq!(state.log.len(), 3);
    assert!(link.is_idle());
}

#[test]
fn what_never_left_times_out_as_not_sent() {
    let mut link = link();
    for n in 1..=9 {
        assert_eq!(link.push(body(n), n, soon()), Ok(()));
    }
    while link.next_frame().is_some() {}
    let settled = link.expire(soon() + Duration::from_secs(1));
    assert_eq!(settled.iter().filter(|(_, r)| *r == Err(Fault::Unknown)).count(), 8);
    assert_eq!(settled.last(), Some(&(9, Err(Fault::NotSent))));
    // The eight stay in the sequence: later commands depend on them.
    assert!(!link.is_idle());
}

#[test]
fn a_forgotten_session_begins_anew() {
    let (mut link, mut state) = (link(), State::default());
    assert_eq!(link.push(body(1), 1, soon()), Ok(()));
    let frame = link.next_frame().unwrap();
    deliver(&mut link, &mut state, &frame);
    state.row = None; // a majority was lost
    assert_eq!(link.push(body(2), 2, soon()), Ok(()));
    let frame = link.next_frame().unwrap();
    assert_eq!(deliver(&mut link, &mut state, &frame), [(2, Err(Fault::Unknown))]);
    assert_eq!(link.push(body(3), 3, soon()), Ok(()));
    let frame = link.next_frame().unwrap();
    assert_eq!(deliver(&mut link, &mut state, &frame), [(3, Ok(body(3)))]);
}

#[test]
fn a_full_link_gives_the_command_back() {
    let mut link = link();
    for n in 0..100 {
        assert_eq!(link.push(body(n), n, soon()), Ok(()));
    }
    assert_eq!(link.push(body(100), 100, soon()), Err(100));
}

#[derive(Debug, Clone)]
enum Step {
    Push,
    Send,
    Deliver(prop::sample::Index),
    Repeat(prop::sample::Index),
    Drop(prop::sample::Index),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Push),
        3 => Just(Step::Send),
        3 => any::<prop::sample::Index>().prop_map(Step::Deliver),
        1 => any::<prop::sample::Index>().prop_map(Step::Repeat),
        1 => any::<prop::sample::Index>().prop_map(Step::Drop),
    ]
}

proptest! {
    /// Over any interleaving of sends, losses, duplicates and reorderings each
    /// command is executed exactly once, in the order of the calls, and every
    /// caller gets the reply to its own command.
    #[test]
    fn exactly_once_and_in_order(steps in prop::collection::vec(any_step(), 0..300)) {
        let (mut link, mut state) = (link(), State::default());
        let (mut pushed, mut answers) = (0, vec![]);
        let mut flying: Vec<Frame> = vec![];
        for step in steps {
            match step {
                Step::Push => {
                    let taken = link.push(body(pushed + 1), pushed + 1, soon());
                    pushed += u64::from(taken.is_ok());
                }
                Step::Send => flying.extend(link.next_frame()),
                Step::Deliver(at) if !flying.is_empty() => {
                    let frame = flying.remove(at.index(flying.len()));
                    answers.extend(deliver(&mut link, &mut state, &frame));
                }
                Step::Repeat(at) if !flying.is_empty() => {
                    let at = at.index(flying.len());
                    answers.extend(deliver(&mut link, &mut state, &flying[at]));
                }
                Step::Drop(at) if !flying.is_empty() => {
                    let frame = flying.remove(at.index(flying.len()));
                    link.lost(frame.generation);
                }
                _ => {}
            }
        }
        // The network heals.
        for frame in flying.drain(..) {
            link.lost(frame.generation);
        }
        while let Some(frame) = link.next_frame() {
            answers.extend(deliver(&mut link, &mut state, &frame));
        }
        prop_assert!(link.is_idle());
        prop_assert_eq!(&state.log, &(1..=pushed).map(body).collect::<Vec<_>>());
        answers.sort_by_key(|(waiter, _)| *waiter);
        prop_assert_eq!(answers, (1..=pushed).map(|n| (n, Ok(body(n)))).collect::<Vec<_>>());
    }
}
