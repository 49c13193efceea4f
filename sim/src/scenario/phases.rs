//! The phases that all scenarios share, and the judgement at the end.

use std::collections::BTreeMap;

use tokio::task::JoinHandle;
use trine_types::NodeNumber;

use super::load::{self, Stop};
use crate::door::{Answer, Request};
use crate::failure::{Failure, Property};
use crate::history::{self, Record};
use crate::linear::{Model, Verdict, check};
use crate::plan::{PlanShape, draw};
use crate::register::{Counter, Register};
use crate::system::{ReplicaView, System};
use crate::world::World;

/// How long after the faults stopped the cluster may take to serve again.
pub const HEAL_MS: u64 = 15_000;
/// How long replicas may take to become equal without load.
pub const CONVERGE_MS: u64 = 15_000;
/// How long requests in progress may take to end after the load stops.
const DRAIN_MS: u64 = 20_000;
/// Steps of the checker per key.
const CHECK_STEPS: u64 = 3_000_000;

/// What a good run reports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Histories that the checker gave up on.
    pub undecided: u64,
    /// Milliseconds without service, one per measured interruption.
    pub gaps_ms: Vec<u64>,
}

/// Draws the faults of the seed for the next `load_ms` and runs through them.
///
/// # Errors
/// The first violated property.
pub fn storm<S: System>(world: &mut World<S>, load_ms: u64) -> Result<(), Failure> {
    let now_ms = world.time.now_ms();
    let mut rng = crate::random::Rng::new(world.seed, "storm");
    let shape = PlanShape {
        nodes: world.numbers(),
        window_ms: (now_ms + 200, now_ms + load_ms),
        pause_ms: rng.between(150, 900),
    };
    world.plan(draw(world.seed, &shape));
    world.run_for(load_ms)
}

/// Stops the faults; the cluster must serve through every node.
///
/// # Errors
/// `Heals` if it does not in time.
pub fn heal<S: System>(world: &mut World<S>) -> Result<(), Failure> {
    world.calm();
    let all = world.numbers().len();
    let up = world.run_until(HEAL_MS, |world| world.doors.nodes().len() == all)?;
    if !up {
        return Err(world.failure(Property::Heals, "not all nodes came up again"));
    }
    for node in world.numbers() {
        let mut client = world.client(1_000);
        world.finish(HEAL_MS, Property::Heals, &format!("a write through {node}"), async move {
            loop {
                let request = Request::Set { key: "heal".to_owned(), value: node.0 };
                if client.ask(node, request).await == Answer::Done {
                    return;
                }
                client.think(100).await;
            }
        })?;
    }
    Ok(())
}

/// Ends the load and waits for the clients.
///
/// # Errors
/// `Heals` if a client gets no answer.
pub fn drain<S: System, T>(
    world: &mut World<S>,
    stop: &Stop,
    clients: Vec<JoinHandle<T>>,
) -> Result<Vec<T>, Failure> {
    stop.stop();
    let join = |client| world.join(DRAIN_MS, Property::Heals, "the end of a client", client);
    clients.into_iter().map(join).collect()
}

/// Waits until all replicas of each group are equal.
///
/// # Errors
/// `Converges` if they do not become equal in time.
pub fn converge<S: System>(world: &mut World<S>) -> Result<(), Failure> {
    let mut why = String::new();
    let equal = world.run_until(CONVERGE_MS, |world| match difference(&world.replicas()) {
        Some(difference) => {
            why = difference;
            false
        }
        None => true,
    })?;
    if equal { Ok(()) } else { Err(world.failure(Property::Converges, why)) }
}

/// Why the replicas are not equal yet.
fn difference(nodes: &BTreeMap<NodeNumber, Vec<ReplicaView>>) -> Option<String> {
    let mut groups: BTreeMap<_, BTreeMap<NodeNumber, &ReplicaView>> = BTreeMap::new();
    for (node, replicas) in nodes {
        for replica in replicas {
            groups.entry(replica.group).or_default().insert(*node, replica);
        }
    }
    for (group, replicas) in &groups {
        let Some(leader) = replicas.values().filter(|r| r.leads).max_by_key(|r| r.term) else {
            return Some(format!("{group} has no leader"));
        };
        for member in leader.voters.iter().chain(&leader.learners) {
            let Some(replica) = replicas.get(member) else {
                return Some(format!("{group}: {member} is a member without a replica"));
            };
            if (replica.applied, replica.digest) != (leader.applied, leader.digest) {
                return Some(format!("{group}: {member} differs from its leader: {replica:?} / {leader:?}"));
            }
        }
        if leader.applied != leader.committed || leader.committed != leader.last_index {
            return Some(format!("{group}: its leader has not applied its log: {leader:?}"));
        }
    }
    groups.is_empty().then(|| "no replicas at all".to_owned())
}

/// Reads every register once more, through any node.
///
/// # Errors
/// `Heals` if the reads do not end.
pub fn read_back<S: System>(world: &mut World<S>, keys: Vec<String>) -> Result<(), Failure> {
    let mut client = world.client(1_001);
    world.finish(HEAL_MS, Property::Heals, "reading everything back", async move {
        for key in keys {
            load::insist(&mut client, Request::Get { key }).await;
        }
    })
}

/// Judges all registers.
///
/// # Errors
/// `Linearizable` with the operations around the contradiction.
pub fn judge_registers<S: System>(world: &World<S>) -> Result<u64, Failure> {
    let records = world.history.records();
    sane(world, &records)?;
    let mut undecided = 0;
    for (key, intervals) in history::registers(&records) {
        undecided += judge::<S, Register>(world, &key, &intervals)?;
    }
    Ok(undecided)
}

/// Judges all counters.
///
/// # Errors
/// `Linearizable` with the operations around the contradiction.
pub fn judge_counters<S: System>(world: &World<S>) -> Result<u64, Failure> {
    let records = world.history.records();
    sane(world, &records)?;
    let mut undecided = 0;
    for (key, intervals) in history::counters(&records) {
        undecided += judge::<S, Counter>(world, &key, &intervals)?;
    }
    Ok(undecided)
}

/// Judges one object; 1 if the checker gave up.
fn judge<S: System, M: Model>(
    world: &World<S>,
    key: &str,
    intervals: &[crate::linear::Interval<M::Op>],
) -> Result<u64, Failure>
where
    M::Op: std::fmt::Debug,
{
    let (explained, stuck) = match check::<M>(intervals, CHECK_STEPS) {
        Verdict::Linearizable => return Ok(0),
        Verdict::Undecided => return Ok(1),
        Verdict::Illegal { explained, stuck } => (explained, stuck),
    };
    let mut lines = vec![format!("no order explains what clients saw of {key:?}")];
    for op in explained.iter().rev().take(12).rev() {
        lines.push(format!("  fits:      {:?}", intervals[*op]));
    }
    lines.push(format!("  fits not:  {:?}", intervals[stuck]));
    Err(world.failure(Property::Linearizable, lines.join("\n")))
}

/// No client saw an answer that no client should see.
fn sane<S: System>(world: &World<S>, records: &[Record]) -> Result<(), Failure> {
    let wrong = records.iter().find_map(|record| match &record.answer {
        Some((_, _, Answer::Wrong(text))) => Some(format!("{:?} answered {text}", record.request)),
        _ => None,
    });
    wrong.map_or(Ok(()), |detail| Err(world.failure(Property::SaneAnswers, detail)))
}
