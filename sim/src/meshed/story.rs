//! Faults strike while everybody talks; then they stop, and two seconds later
//! every node knows what every other wants, and nothing is lost any more.

use trine_types::NodeNumber;

use super::Meshed;
use super::ledger::Phase;
use crate::bare::key_of;
use crate::failure::{Failure, Property};
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
    Ok(Summary::default())
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
