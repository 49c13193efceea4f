//! Submitters submit while faults strike; then they stop, every job ends, and
//! what became of each task is judged. At last one node is cut off while it
//! executes: others execute its tasks soon, and it lets go of them.

use std::collections::BTreeMap;

use trine_compute::{JobId, JobSpec};
use trine_types::{GroupId, NodeNumber};

use super::book::Book;
use super::judge::{Evidence, Final};
use super::outside::{Execution, Outside, Plan};
use super::submitter::Submitter;
use crate::failure::{Failure, Property};
use crate::plan::{Direction, Fault};
use crate::random::Rng;
use crate::scenario::load::Stop;
use crate::scenario::phases::{self, Summary};
use crate::system::System;
use crate::whole::Whole;
use crate::world::World;

/// Nodes of the cluster.
const NODES: u64 = 3;
/// How many submit.
const SUBMITTERS: usize = 3;
/// How long faults strike.
const STORM_MS: u64 = 8_000;
/// How long all that was submitted may take after the last fault.
const END_MS: u64 = 40_000;
/// A worker's lease.
const LEASE_MS: u64 = 1_500;
/// What its two tasks are given to run elsewhere once a worker is lost; a new
/// master needs longer, because it must be elected, and waits for workers.
const ELSEWHERE_MS: u64 = 2_000;
const ELSEWHERE_WITH_NEW_MASTER_MS: u64 = 6_000;
/// How long one node is cut off.
const CUT_MS: u64 = 9_000;
/// How long the tasks of the last act take.
const LONG_MS: u64 = 20_000;

struct Cast {
    book: Book,
    outside: Outside,
}

/// Runs the story.
///
/// # Errors
/// The first violated property.
pub fn run(world: &mut World<Whole>) -> Result<Summary, Failure> {
    let Some(outside) = world.system().outside() else {
        return Err(world.failure(Property::Scenario, "nodes of this kind execute nothing"));
    };
    outside.follow(&world.time);
    Whole::form(world, NODES)?;
    let cast = Cast { book: Book::default(), outside };
    let stop = Stop::default();
    let submitters = (0..SUBMITTERS).map(|index| {
        let submitter = Submitter::new(world.client(index), cast.book.clone());
        world.spawn(submitter.submit(stop.clone()))
    });
    let submitters: Vec<_> = submitters.collect();
    phases::storm(world, STORM_MS)?;
    stop.stop();
    world.calm();
    if !world.run_until(phases::HEAL_MS, |world| world.doors.nodes().len() == world.numbers().len())? {
        return Err(world.failure(Property::Heals, "not all nodes came up again"));
    }
    let mut jobs = 0;
    for submitter in submitters {
        match world.join(END_MS, Property::Heals, "the end of a job", submitter)? {
            Ok(submitted) => jobs += submitted,
            Err(refused) => return Err(world.failure(Property::SaneAnswers, refused.to_string())),
        }
    }
    if jobs == 0 {
        return Err(world.failure(Property::Scenario, "nobody submitted anything"));
    }
    let last = end_all(world, &cast)?;
    nothing_left(world, &cast, &last)?;
    let executions = cast.outside.executions();
    let evidence = Evidence { executions: &executions, faults: world.blows.faults };
    for (job, entry) in cast.book.entries() {
        let Some(last) = last.get(&job) else {
            return Err(world.failure(Property::Durable, format!("job {job} is not there any more")));
        };
        evidence.judge(job, &entry, last).map_err(|(property, what)| world.failure(property, what))?;
    }
    cut_off(world, &cast)?;
    phases::converge(world)?;
    Ok(Summary::default())
}

/// Somebody else closes what lost submitters left open, and reads everything.
fn end_all(world: &mut World<Whole>, cast: &Cast) -> Result<BTreeMap<JobId, Final>, Failure> {
    let mut reader = Submitter::new(world.client(500), cast.book.clone());
    let jobs: Vec<JobId> = cast.book.entries().into_keys().collect();
    let all = async move {
        let mut all = BTreeMap::new();
        for job in jobs {
            reader.close(job).await?;
            reader.read(job).await?;
            let results = reader.read_again(job).await?;
            let view = reader.ask(&|compute| Box::pin(async move { compute.job(job).await })).await?;
            all.insert(job, Final { progress: view.progress, results });
        }
        Ok::<_, trine_compute::ComputeError>(all)
    };
    let all = world.finish(END_MS, Property::Heals, "the end of all jobs", all)?;
    all.map_err(|refused| world.failure(Property::Durable, refused.to_string()))
}

/// Two lease times after the end of all jobs nothing runs.
fn nothing_left(world: &mut World<Whole>, cast: &Cast, last: &BTreeMap<JobId, Final>) -> Result<(), Failure> {
    if let Some((job, last)) = last.iter().find(|(_, last)| !last.progress.phase.is_over()) {
        return Err(world.failure(Property::Heals, format!("job {job} is {:?}", last.progress)));
    }
    if !world.run_until(2 * LEASE_MS, |_| cast.outside.running().is_empty())? {
        let detail = format!("all jobs are over, and these run: {:?}", cast.outside.running());
        return Err(world.failure(Property::Fenced, detail));
    }
    Ok(())
}

fn master(world: &World<Whole>) -> Option<NodeNumber> {
    let leads = |replicas: &[crate::system::ReplicaView]| {
        replicas.iter().any(|replica| replica.group == GroupId::JOBS && replica.leads)
    };
    world.replicas().iter().find(|(_, replicas)| leads(replicas)).map(|(number, _)| *number)
}

/// One node is cut off while it executes.
fn cut_off(world: &mut World<Whole>, cast: &Cast) -> Result<(), Failure> {
    let mut submitter = Submitter::new(world.client(501), cast.book.clone());
    let plan = Plan { ms: LONG_MS, failures: 0 };
    let tasks: Vec<_> = (0..2 * NODES).map(|_| plan.task()).collect();
    let submit = async move {
        let job = submitter
            .ask(&|compute| Box::pin(async move { compute.create(JobSpec::default()).await }))
            .await?;
        submitter
            .ask(&|compute| {
                let tasks = tasks.clone();
                Box::pin(async move { compute.append_after(job, 0, &tasks).await })
            })
            .await?;
        Ok::<_, trine_compute::ComputeError>(job)
    };
    let job = world.finish(phases::HEAL_MS, Property::Heals, "a last job", submit)?;
    let job = job.map_err(|refused| world.failure(Property::SaneAnswers, refused.to_string()))?;
    let all = usize::try_from(2 * NODES).unwrap_or(usize::MAX);
    let outside = cast.outside.clone();
    if !world.run_until(phases::HEAL_MS, |_| outside.running().len() == all)? {
        return Err(world.failure(Property::Heals, format!("these run: {:?}", outside.running())));
    }
    let master = master(world);
    let mut rng = Rng::new(world.seed, "cut");
    let busy: Vec<NodeNumber> = world
        .numbers()
        .into_iter()
        .filter(|number| outside.running().iter().any(|one| one.node == number.0))
        .collect();
    let Some(lone) = rng.pick(&busy).copied() else {
        return Err(world.failure(Property::Scenario, "nobody executes anything"));
    };
    let (began_ms, struck) = (world.time.now_ms(), lone);
    world.suffer(Fault::Partition { side: vec![struck], direction: Direction::Both, ms: CUT_MS }, began_ms);
    let there = |one: &Execution| one.node == lone.0;
    let its = outside.running().iter().filter(|one| there(one)).count();
    let again = |_: &mut World<Whole>| {
        let running = outside.running();
        running.iter().filter(|one| !there(one) && one.began_ms >= began_ms).count() >= its
    };
    // Leadership may have been on its way to the node that was cut off.
    let longer_ms = ELSEWHERE_WITH_NEW_MASTER_MS - ELSEWHERE_MS;
    let elsewhere = world.run_until(ELSEWHERE_MS, again)?
        || (master == Some(lone) || self::master(world) != master) && world.run_until(longer_ms, again)?;
    if !elsewhere {
        let after_ms = world.time.now_ms() - began_ms;
        let detail = format!("{after_ms} ms after {lone} was cut off: {:?}", outside.running());
        return Err(world.failure(Property::Heals, detail));
    }
    // Lost after one lease, and left alone for two.
    let left_ms = (began_ms + 3 * LEASE_MS).saturating_sub(world.time.now_ms());
    if !world.run_until(left_ms, |_| !outside.running().iter().any(there))? {
        let detail = format!("{lone} is lost for two leases and executes: {:?}", outside.running());
        return Err(world.failure(Property::Fenced, detail));
    }
    world.run_for((began_ms + CUT_MS).saturating_sub(world.time.now_ms()))?;
    let mut other = Submitter::new(world.client(502), cast.book.clone());
    let cancelled = async move { other.cancel(job).await };
    let cancelled = world.finish(phases::HEAL_MS, Property::Heals, "a cancellation", cancelled)?;
    cancelled.map_err(|refused| world.failure(Property::SaneAnswers, refused.to_string()))?;
    if !world.run_until(2 * LEASE_MS, |_| outside.running().is_empty())? {
        let detail = format!("their job is cancelled, and these run: {:?}", outside.running());
        return Err(world.failure(Property::Fenced, detail));
    }
    Ok(())
}
