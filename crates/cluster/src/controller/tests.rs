//! Stories of growth, moves and removal, played on the rules alone.

use super::*;
use crate::command::Answer;
use crate::nodes::tests::report;
use crate::state::tests::{created, join};

const PACE: Pace = Pace { growing: 8, moving: 2 };

/// Starts node `n` and lets every group settle what it is asked to.
fn started(meta: &mut MetaState, n: u64) {
    assert_eq!(meta.apply(5_000, Command::Start(report(n, 1, n))), Answer::Done);
}

fn settle(meta: &mut MetaState) {
    let rows: Vec<_> = meta.assignments.iter().map(|(&g, row)| (g, row.revision, row.wanted())).collect();
    for (group, revision, members) in rows {
        assert_eq!(meta.apply(6_000, Command::Settle { group, revision, members }), Answer::Done);
    }
}

/// Steps until nothing is left to do; returns the number of steps.
fn run(meta: &mut MetaState) -> usize {
    for steps in 0.. {
        let Some(command) = next(meta, &OutOfReach::default(), PACE) else { return steps };
        assert!(steps < 200, "the controller does not come to rest: {command:?}");
        assert_eq!(meta.apply(6_000, command), Answer::Done);
        settle(meta);
    }
    0
}

fn of_nodes(count: u8, partitions: u16) -> MetaState {
    let mut meta = created(partitions);
    started(&mut meta, 1);
    settle(&mut meta);
    for n in 2..=count {
        join(&mut meta, n);
        started(&mut meta, u64::from(n));
        run(&mut meta);
    }
    meta
}

#[test]
fn one_two_three_nodes_grow_by_themselves() {
    let mut meta = of_nodes(1, 16);
    assert_eq!(run(&mut meta), 0);
    for (n, size) in [(2, 2), (3, 3)] {
        join(&mut meta, n);
        assert_eq!(run(&mut meta), 0, "a node that never started gets nothing");
        started(&mut meta, u64::from(n));
        assert!(run(&mut meta) <= 3, "8 at a time");
        assert!(meta.assignments.values().all(|row| row.members.len() == size), "{:?}", meta.assignments);
    }
    assert_eq!(tolerance(&meta), 1);
}

#[test]
fn moves_are_few_at_a_time() {
    let mut meta = of_nodes(3, 16);
    join(&mut meta, 4);
    started(&mut meta, 4);
    let Some(Command::Assign { changes }) = next(&meta, &OutOfReach::default(), PACE) else {
        panic!("the new node gets replicas")
    };
    let moved = changes.iter().filter(|(_, _, replicas)| replicas.contains(&NodeNumber(4))).count();
    assert_eq!(moved, 2);
    assert!(run(&mut meta) >= 6);
}

#[test]
fn a_leaving_node_is_emptied_then_removed() {
    let mut meta = of_nodes(4, 8);
    assert_eq!(meta.apply(7_000, Command::Leave { number: NodeNumber(1) }), Answer::Done);
    run(&mut meta);
    assert!(!meta.nodes.contains_key(&NodeNumber(1)));
    assert!(meta.assignments.values().all(|row| row.members.len() == 3));
    assert_eq!(meta.revoked.len(), 1);
}

#[test]
fn growth_towards_a_dead_node_is_taken_back() {
    let mut meta = of_nodes(1, 4);
    join(&mut meta, 2);
    started(&mut meta, 2);
    let grow = next(&meta, &OutOfReach::default(), PACE).expect("growth");
    assert_eq!(meta.apply(7_000, grow), Answer::Done);
    let dead = BTreeSet::from([NodeNumber(2)]);
    let out = OutOfReach { now: dead.clone(), long: dead };
    let back = next(&meta, &out, PACE).expect("taken back");
    assert_eq!(meta.apply(8_000, back), Answer::Done);
    assert!(meta.assignments.values().all(|row| row.replicas == [NodeNumber(1)]), "{:?}", meta.assignments);
    assert_eq!(next(&meta, &out, PACE), None, "and not tried again while it is out of reach");
}

#[test]
fn removing_a_node_that_holds_the_majority_is_dangerous() {
    let meta = of_nodes(3, 4);
    let dead = BTreeSet::from([NodeNumber(3)]);
    assert_eq!(danger(&meta, NodeNumber(2), &BTreeSet::new()), None);
    assert_eq!(danger(&meta, NodeNumber(3), &dead), None, "removing the dead one is what helps");
    let danger = danger(&meta, NodeNumber(2), &dead).expect("1 and a dead node would be left");
    assert_eq!((danger.answering, danger.of), (1, 2));
}

#[test]
fn five_vote_in_meta_from_seven_nodes_on() {
    let meta = of_nodes(7, 1);
    assert_eq!(meta.assignments[&GroupId::META].members.len(), 5);
    assert_eq!(meta.assignments[&GroupId::partition(0)].members.len(), 3);
}
