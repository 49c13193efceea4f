//! Known good and known bad histories, and a brute-force search as judge.

use std::collections::BTreeSet;

use super::*;
use crate::random::Rng;
use crate::register::{Counter, CounterOp, Register, RegisterOp as Op};

const PLENTY: u64 = 1_000_000;

fn at<O>(op: O, call: u64, answer: u64) -> Interval<O> {
    Interval { op, call, answer: Some(answer) }
}

fn open<O>(op: O, call: u64) -> Interval<O> {
    Interval { op, call, answer: None }
}

fn illegal<M: Model>(history: &[Interval<M::Op>]) -> bool {
    matches!(check::<M>(history, PLENTY), Verdict::Illegal { .. })
}

fn legal<M: Model>(history: &[Interval<M::Op>]) -> bool {
    check::<M>(history, PLENTY) == Verdict::Linearizable
}

#[test]
fn an_empty_history_is_linearizable() {
    assert!(legal::<Register>(&[]));
}

#[test]
fn a_stale_read_is_found() {
    assert!(illegal::<Register>(&[
        at(Op::Write(1), 0, 1),
        at(Op::Write(2), 2, 3),
        at(Op::Read(Some(1)), 4, 5),
    ]));
}

#[test]
fn overlapping_reads_may_see_either_value_but_never_go_back() {
    let write = at(Op::Write(2), 2, 9);
    let old = |call| at(Op::Read(Some(1)), call, call + 1);
    let new = |call| at(Op::Read(Some(2)), call, call + 1);
    assert!(legal::<Register>(&[at(Op::Write(1), 0, 1), write.clone(), old(3), new(5)]));
    assert!(illegal::<Register>(&[at(Op::Write(1), 0, 1), write, new(3), old(5)]));
}

#[test]
fn a_lost_update_is_found() {
    let swap = |new, call| at(Op::Swap { old: 1, new, done: Some(true) }, call, call + 3);
    assert!(illegal::<Register>(&[at(Op::Write(1), 0, 1), swap(2, 2), swap(3, 3)]));
    assert!(illegal::<Counter>(&[
        at(CounterOp::Increment(Some(1)), 0, 3),
        at(CounterOp::Increment(Some(1)), 1, 4),
    ]));
}

#[test]
fn an_increment_applied_twice_is_found() {
    assert!(illegal::<Counter>(&[at(CounterOp::Increment(Some(1)), 0, 1), at(CounterOp::Read(2), 2, 3),]));
    assert!(legal::<Counter>(&[
        at(CounterOp::Increment(Some(1)), 0, 1),
        open(CounterOp::Increment(None), 0),
        at(CounterOp::Read(2), 2, 3),
    ]));
}

#[test]
fn a_lost_acknowledged_write_is_found() {
    assert!(illegal::<Register>(&[at(Op::Write(1), 0, 1), at(Op::Read(None), 2, 3)]));
}

#[test]
fn an_unanswered_write_may_happen_late_or_never() {
    let write = open(Op::Write(7), 0);
    assert!(legal::<Register>(&[write.clone(), at(Op::Read(None), 5, 6)]));
    assert!(legal::<Register>(&[write.clone(), at(Op::Read(None), 5, 6), at(Op::Read(Some(7)), 7, 8)]));
    let gone_again =
        [write, at(Op::Read(Some(7)), 5, 6), at(Op::Read(None), 7, 8), at(Op::Read(Some(7)), 9, 10)];
    assert!(illegal::<Register>(&gone_again));
}

#[test]
fn a_lapsed_value_stays_gone() {
    let write = at(Op::WriteFor(1), 0, 1);
    let (there, gone) = (Op::Read(Some(1)), Op::Read(None));
    assert!(legal::<Register>(&[write.clone(), at(there, 2, 3), at(gone, 4, 5)]));
    assert!(illegal::<Register>(&[write.clone(), at(gone, 2, 3), at(there, 4, 5)]));
    let missed = at(Op::Swap { old: 1, new: 2, done: Some(false) }, 2, 3);
    assert!(illegal::<Register>(&[write, missed, at(there, 4, 5)]));
}

#[test]
fn nothing_comes_from_the_future() {
    assert!(illegal::<Register>(&[at(Op::Read(Some(4)), 0, 1), at(Op::Write(4), 2, 3)]));
}

#[test]
fn the_step_bound_gives_up_instead_of_guessing() {
    let history = [at(Op::Write(1), 0, 1), at(Op::Read(Some(1)), 2, 3)];
    assert_eq!(check::<Register>(&history, 1), Verdict::Undecided);
}

/// Tries every order of every subset that keeps all answered operations.
fn brute<M: Model>(history: &[Interval<M::Op>], state: &M::State, left: &BTreeSet<usize>) -> bool {
    if left.iter().all(|op| history[*op].answer.is_none()) {
        return true;
    }
    let first_answer = left.iter().filter_map(|op| history[*op].answer).min().unwrap_or(u64::MAX);
    left.iter().any(|op| {
        let interval = &history[*op];
        let mut rest = left.clone();
        rest.remove(op);
        interval.call <= first_answer
            && M::step(state, &interval.op).is_some_and(|next| brute::<M>(history, &next, &rest))
    })
}

fn random_op(rng: &mut Rng, answered: bool) -> Op {
    let value = |rng: &mut Rng| rng.below(3);
    let flag = |rng: &mut Rng| answered.then(|| rng.percent(50));
    match rng.below(if answered { 5 } else { 4 }) {
        0 => Op::Write(value(rng)),
        1 => Op::Swap { old: value(rng), new: value(rng), done: flag(rng) },
        2 => Op::Delete { found: flag(rng) },
        3 => Op::WriteFor(value(rng)),
        _ => Op::Read(rng.percent(70).then(|| rng.below(3))),
    }
}

#[test]
fn agrees_with_brute_force_on_random_histories() {
    let mut rng = Rng::new(1, "histories");
    let mut verdicts = [0_u32; 2];
    for _ in 0..4_000 {
        let len = rng.between(1, 6);
        let history: Vec<_> = (0..len)
            .map(|_| {
                let call = rng.below(12);
                let answer = rng.percent(80).then(|| call + 1 + rng.below(6));
                Interval { op: random_op(&mut rng, answer.is_some()), call, answer }
            })
            .collect();
        let all = (0..history.len()).collect();
        let expected = brute::<Register>(&history, &Register::start(), &all);
        assert_eq!(legal::<Register>(&history), expected, "{history:?}");
        verdicts[usize::from(expected)] += 1;
    }
    assert!(verdicts.iter().all(|count| *count > 200), "both verdicts must occur: {verdicts:?}");
}
