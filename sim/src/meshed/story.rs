//! Faults strike while everybody talks; then they stop, and two seconds later
//! every node knows what every other wants, and nothing is lost any more. At
//! last one node is cut off in silence: the others give up what it wants before
//! their connections to it break, and know it again soon after it is back.

use trine_types::NodeNumber;

use super::Meshed;
use super::ledger::Phase;
use crate::bare::key_of;
use crate::failure::{Failure, Property};
use crate::plan::{Direction, Fault};
use crate::scenario::phases::{self, Summary};
use crate::system::System;
use crate::world::World;

/// Nodes of the mesh.
pub const NODES: u64 = 4;
/// How long faults strike.
const STORM_MS: u64 = 8_000;
/// How long processes that died may take to be there again.
const RETURN_MS: u64 = 5_000;
/// Within this time of the last fault, interest is right again.
const INTEREST_MS: u64 = 2_000;
/// How long everything must arrive.
const CALM_MS: u64 = 1_000;
/// How long the last messages may be under way.
const LAST_MS: u64 = 600;

/// Whoever lost probes in the storm mistrusts itself, and gives others more
/// time; by then it does not any more.
const TRUST_MS: u64 = 20_000;
/// Within this time others give up what a node wants that is cut off: before
/// TCP does, after [`trine_transport::SimConfig::give_up_after`].
const GIVEN_UP_MS: u64 = 2_400;
/// How long it is cut off: too short for TCP, and long enough.
const CUTS_MS: [u64; 2] = [2_600, 7_000];

/// Runs the story.
///
/// # Errors
/// The first violated property.
pub fn run(world: &mut World<Meshed>) -> Result<Summary, Failure> {
    Meshed::form(world, NODES)?;
    let ledger = world.system().ledger.clone();
    phases::storm(world, STORM_MS)?;
    held(world)?;
    ledger.with(|ledger| ledger.phase = Phase::Healing);
    world.calm();
    world.settle();
    let all = usize::try_from(NODES).unwrap_or(usize::MAX);
    if !world.run_until(RETURN_MS, |world| world.doors.nodes().len() == all)? {
        return Err(world.failure(Property::Heals, "not all nodes came up again"));
    }
    world.run_for(INTEREST_MS)?;
    let wrong = ignorance(world);
    if !wrong.is_empty() {
        let detail = format!("{INTEREST_MS} ms after the last fault: {wrong}");
        return Err(world.failure(Property::Interest, detail));
    }
    for (phase, ms) in [(Phase::Calm, CALM_MS), (Phase::Silence, LAST_MS)] {
        ledger.with(|ledger| ledger.phase = phase);
        world.run_for(ms)?;
    }
    ledger.with(|ledger| ledger.judge(all));
    held(world)?;
    cut_off(world)?;
    Ok(Summary::default())
}

/// One node is cut off from the others in silence, and comes back.
fn cut_off(world: &mut World<Meshed>) -> Result<(), Failure> {
    world.run_for(TRUST_MS)?;
    let (lone, now_ms) = (NodeNumber(NODES), world.time.now_ms());
    let ms = CUTS_MS[usize::from(world.seed.is_multiple_of(2))];
    world.suffer(Fault::Partition { side: vec![lone], direction: Direction::Both, ms }, now_ms);
    world.run_for(GIVEN_UP_MS)?;
    for (number, (host, _)) in &world.hosts {
        let wants = host.door().map_or(0, |door| door.mesh.wants_of(key_of(lone)));
        if wants > 0 {
            let detail = format!("{GIVEN_UP_MS} ms after {lone} was cut off, {number} forwards to it");
            return Err(world.failure(Property::Interest, detail));
        }
    }
    world.run_for(ms - GIVEN_UP_MS + INTEREST_MS)?;
    match ignorance(world) {
        wrong if wrong.is_empty() => Ok(()),
        wrong => Err(world.failure(Property::Interest, format!("after {ms} ms cut off: {wrong}"))),
    }
}

fn held(world: &World<Meshed>) -> Result<(), Failure> {
    match world.system().ledger.with(|ledger| ledger.violation()) {
        Some((property, what)) => Err(world.failure(property, what)),
        None => Ok(()),
    }
}

/// What some node believes wrongly about what another wants.
fn ignorance(world: &World<Meshed>) -> String {
    let wishes = world.system().ledger.with(|ledger| ledger.wishes.clone());
    for (number, (host, _)) in &world.hosts {
        let Some(door) = host.door() else { return format!("{number} is not there") };
        for (other, wanted) in &wishes {
            let believed = door.mesh.wants_of(key_of(NodeNumber(*other)));
            if *other != number.0 && believed != *wanted {
                return format!(
                    "{number} believes that n{other} wants {believed} filters; it wants {wanted}"
                );
            }
        }
    }
    String::new()
}
