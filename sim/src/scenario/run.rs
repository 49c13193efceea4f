//! The scenarios themselves, each a short story in phases.

use tokio::task::JoinHandle;
use trine_types::NodeNumber;

use super::Scenario;
use super::load::{self, Stop};
use super::phases::{self, Summary};
use crate::door::{Answer, Request};
use crate::failure::{Failure, Property};
use crate::plan::Fault;
use crate::random::Rng;
use crate::system::System;
use crate::world::World;

/// How long clients work under faults.
const LOAD_MS: u64 = 8_000;
/// Clients of the register scenario.
const CLIENTS: usize = 6;
/// How long writes may be unavailable after the death of a leader.
const FAILOVER_LIMIT_MS: u64 = 3_000;

/// Runs `scenario` in a fresh world.
///
/// # Errors
/// The first violated property.
pub fn run<S: System>(scenario: Scenario, world: &mut World<S>) -> Result<Summary, Failure> {
    match scenario {
        Scenario::Register => register(world),
        Scenario::Counter => counter(world),
        Scenario::Failover => failover(world),
        Scenario::Membership => membership(world),
        Scenario::Messages => S::messages(world),
        Scenario::Jobs => S::jobs(world),
    }
}

fn register_clients<S: System>(world: &World<S>, stop: &Stop) -> Vec<JoinHandle<()>> {
    // Writes carry state time along and hide what a read without it does
    // wrong: some seeds have few of them.
    let reads = if Rng::new(world.seed, "reads").percent(50) { 45 } else { 92 };
    (0..CLIENTS)
        .map(|index| {
            let client = world.client(index);
            world.spawn(load::use_registers(client, load::register_keys(), reads, stop.clone()))
        })
        .collect()
}

fn finish_registers<S: System>(
    world: &mut World<S>,
    stop: &Stop,
    clients: Vec<JoinHandle<()>>,
) -> Result<Summary, Failure> {
    phases::heal(world)?;
    world.run_for(500)?;
    phases::drain(world, stop, clients)?;
    phases::converge(world)?;
    phases::read_back(world, load::register_keys())?;
    let undecided = phases::judge_registers(world)?;
    Ok(Summary { undecided, gaps_ms: Vec::new() })
}

fn register<S: System>(world: &mut World<S>) -> Result<Summary, Failure> {
    // Mostly three nodes; sometimes five, where two may fail.
    let nodes = if Rng::new(world.seed, "size").percent(80) { 3 } else { 5 };
    S::form(world, nodes)?;
    let stop = Stop::default();
    let clients = register_clients(world, &stop);
    phases::storm(world, LOAD_MS)?;
    finish_registers(world, &stop, clients)
}

fn counter<S: System>(world: &mut World<S>) -> Result<Summary, Failure> {
    S::form(world, 3)?;
    let stop = Stop::default();
    let plain = (0..4).map(|index| world.spawn(load::count(world.client(index), stop.clone())));
    let plain: Vec<_> = plain.collect();
    let once = (4..6).map(|index| world.spawn(load::count_once(world.client(index), stop.clone())));
    let once: Vec<_> = once.collect();
    phases::storm(world, LOAD_MS)?;
    phases::heal(world)?;
    phases::drain(world, &stop, plain)?;
    let sent: u64 = phases::drain(world, &stop, once)?.into_iter().sum();
    phases::converge(world)?;
    let counted = |world: &mut World<S>, key: &str| {
        let (mut client, key) = (world.client(1_001), key.to_owned());
        world.finish(phases::HEAL_MS, Property::Heals, "reading a counter", async move {
            load::insist(&mut client, Request::Count { key }).await
        })
    };
    let once = counted(world, load::ONCE)?;
    if once != Answer::Count(sent.try_into().unwrap_or(i64::MAX)) {
        let detail = format!("{sent} numbered increments were sent, the counter says {once:?}");
        return Err(world.failure(Property::ExactlyOnce, detail));
    }
    let Answer::Count(value) = counted(world, load::COUNTER)? else {
        return Err(world.failure(Property::SaneAnswers, "a counter is no number"));
    };
    exactly_once(world, value)?;
    let undecided = phases::judge_counters(world)?;
    Ok(Summary { undecided, gaps_ms: Vec::new() })
}

/// Acknowledged increments <= value <= acknowledged + unanswered.
fn exactly_once<S: System>(world: &World<S>, value: i64) -> Result<(), Failure> {
    let (mut acknowledged, mut unanswered) = (0, 0);
    for record in world.history.records() {
        if !matches!(record.request, Request::Increment { .. }) {
            continue;
        }
        match record.answer {
            Some((_, _, Answer::Count(_))) => acknowledged += 1,
            Some((_, _, Answer::Refused(_))) => {}
            _ => unanswered += 1,
        }
    }
    if (acknowledged..=acknowledged + unanswered).contains(&value) {
        return Ok(());
    }
    let detail = format!("{acknowledged} acknowledged, {unanswered} unanswered, counter {value}");
    Err(world.failure(Property::ExactlyOnce, detail))
}

fn failover<S: System>(world: &mut World<S>) -> Result<Summary, Failure> {
    S::form(world, 3)?;
    let stop = Stop::default();
    let clients = register_clients(world, &stop);
    let mut rng = Rng::new(world.seed, "failover");
    let mut gaps_ms = Vec::new();
    for _ in 0..5 {
        world.run_for(rng.between(300, 1_500))?;
        let Some(victim) = world.leader() else { continue };
        gaps_ms.push(gap_after(world, victim, &mut rng)?);
        let all = world.numbers().len();
        if !world.run_until(phases::HEAL_MS, |world| world.doors.nodes().len() == all)? {
            return Err(world.failure(Property::Heals, format!("{victim} did not come back")));
        }
    }
    let summary = finish_registers(world, &stop, clients)?;
    Ok(Summary { gaps_ms, ..summary })
}

/// Takes the leader away in one of three ways; how long until every key can be
/// written through the other nodes again.
fn gap_after<S: System>(world: &mut World<S>, victim: NodeNumber, rng: &mut Rng) -> Result<u64, Failure> {
    let ms = rng.between(3_500, 4_500);
    let fault = match rng.below(3) {
        0 => Fault::Crash { node: victim, down_ms: ms },
        1 => Fault::Pause { node: victim, ms },
        _ => {
            let direction = crate::plan::Direction::Both;
            Fault::Partition { side: vec![victim], direction, ms }
        }
    };
    let struck_ms = world.time.now_ms();
    world.suffer(fault.clone(), struck_ms);
    let mut client = world.client(2_000);
    client.rng = Rng::new(rng.draw(), "probe");
    client.patience = std::time::Duration::from_millis(FAILOVER_LIMIT_MS);
    let others: Vec<_> = world.numbers().into_iter().filter(|n| *n != victim).collect();
    let what = format!("writes to every key after {fault:?}");
    let probe = async move {
        for key in (0..8).map(|key| format!("probe{key}")) {
            loop {
                let Some(node) = client.rng.pick(&others).copied() else { return };
                let request = Request::Set { key: key.clone(), value: 1 };
                if client.ask(node, request).await == Answer::Done {
                    break;
                }
                client.think(20).await;
            }
        }
    };
    world.finish(FAILOVER_LIMIT_MS, Property::Heals, &what, probe)?;
    let gap_ms = world.time.now_ms() - struck_ms;
    world.run_for(ms.saturating_sub(gap_ms) + 10)?;
    Ok(gap_ms)
}

fn membership<S: System>(world: &mut World<S>) -> Result<Summary, Failure> {
    S::form(world, 1)?;
    let stop = Stop::default();
    let clients = register_clients(world, &stop);
    let mut rng = Rng::new(world.seed, "membership");
    let numbers = |list: &[u64]| list.iter().copied().map(NodeNumber).collect::<Vec<_>>();
    let mut steps = vec![(numbers(&[2, 3]), numbers(&[])), (numbers(&[4, 5]), numbers(&[]))];
    let gone = rng.between(1, 5);
    steps.push((numbers(&[]), numbers(&[gone])));
    let replaced = (1..=5).filter(|n| *n != gone).nth(rng.below(4).try_into().unwrap_or(0));
    steps.push((numbers(&[6]), numbers(replaced.as_slice())));
    for (add, remove) in steps {
        world.run_for(rng.between(50, 800))?;
        // A member may be away for a moment just then.
        if let Some(node) = rng.pick(&world.numbers()).copied().filter(|_| rng.percent(40)) {
            let fault = if rng.percent(50) {
                Fault::Crash { node, down_ms: rng.between(1, 600) }
            } else {
                Fault::Pause { node, ms: rng.between(20, 600) }
            };
            let now_ms = world.time.now_ms();
            world.suffer(fault, now_ms);
        }
        S::change(world, &add, &remove)?;
    }
    phases::storm(world, LOAD_MS / 2)?;
    finish_registers(world, &stop, clients)
}
