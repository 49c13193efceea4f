//! Kill, pause and cut a node under load, twenty times each; load both cores.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Line;
use crate::command::{Trouble, product};
use crate::faults::{Fault, Verdict, trials};
use crate::redis::Connection;
use crate::servers::{Dev, ask};

const TRIALS: usize = 20;
const MEDIAN_LIMIT: Duration = Duration::from_secs(1);
const WORST_LIMIT: Duration = Duration::from_secs(2);
const FULL_LOAD: Duration = Duration::from_mins(10);
/// Pause between two writes under full load.
const WRITE_EVERY: Duration = Duration::from_millis(50);

pub(super) fn kill() -> Result<Vec<Line>, Trouble> {
    let verdict = trials(Fault::Kill, TRIALS)?;
    let mut lines = safety(Fault::Kill, &verdict);
    let good = verdict.median() <= MEDIAN_LIMIT && verdict.worst() <= WORST_LIMIT;
    lines.push(Line::of(
        good,
        "writes available again after the kill of their leader (1 s median, 2 s worst)",
        format!("median {:.2?}, worst {:.2?} of {TRIALS}", verdict.median(), verdict.worst()),
    ));
    let figure = first(verdict.inexact(Fault::Kill), "every counter equals what was acknowledged");
    let name = "counter = acknowledged for clients of nodes that were not killed";
    lines.push(Line::of(verdict.inexact(Fault::Kill).is_empty(), name, figure));
    Ok(lines)
}

pub(super) fn pause() -> Result<Vec<Line>, Trouble> {
    let verdict = trials(Fault::Pause, TRIALS)?;
    Ok(safety(Fault::Pause, &verdict))
}

pub(super) fn cut() -> Result<Vec<Line>, Trouble> {
    let verdict = trials(Fault::Cut, TRIALS)?;
    Ok(safety(Fault::Cut, &verdict))
}

/// The three lines that every fault has.
fn safety(fault: Fault, verdict: &Verdict) -> Vec<Line> {
    let name = fault.name();
    let lost = format!(
        "{} acknowledged, {} lost; longest time without writes: median {:.2?}, worst {:.2?}",
        verdict.acknowledged,
        verdict.lost,
        verdict.median(),
        verdict.worst()
    );
    let wrong = first(&verdict.wrong_counters, "all within");
    let once = first(&verdict.wrong_once, &format!("{} sent, all once", verdict.once));
    vec![
        Line::of(
            verdict.lost == 0 && verdict.acknowledged > 0,
            &format!("{name}, {TRIALS} times under load: no acknowledged write lost"),
            lost,
        ),
        Line::of(
            verdict.wrong_counters.is_empty(),
            &format!("{name}: acknowledged <= counter <= acknowledged + unanswered"),
            wrong,
        ),
        Line::of(
            verdict.wrong_once.is_empty() && verdict.once > 0,
            &format!("{name}: through TRINE.ONCE exactly the number sent"),
            once,
        ),
    ]
}

fn first(lines: &[String], good: &str) -> String {
    match lines {
        [] => good.to_owned(),
        [line, rest @ ..] => format!("{line} (and {} more)", rest.len()),
    }
}

/// Ten minutes of full load on every core change no leader.
pub(super) fn full_load() -> Result<Vec<Line>, Trouble> {
    let trine = product()?;
    let dev = Dev::start(&trine, 3)?;
    let mut connection = Connection::local(dev.doors[0].port).map_err(Trouble::at("connect"))?;
    for n in 0..64 {
        connection.call(&["SET", &format!("load:{n}"), "x"]).map_err(Trouble::at("warm-up"))?;
    }
    let before = leaders(&trine, &dev)?;
    let stop = Arc::new(AtomicBool::new(false));
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let burners: Vec<_> = (0..cores).map(|_| burn(Arc::clone(&stop))).collect();
    let begin = Instant::now();
    let (mut written, mut refused, mut slowest) = (0_u64, 0_u64, Duration::ZERO);
    while begin.elapsed() < FULL_LOAD {
        let sent = Instant::now();
        match connection.call(&["SET", &format!("load:{}", written % 64), "x"]) {
            Ok(reply) if reply.is_ok() => written += 1,
            _ => refused += 1,
        }
        slowest = slowest.max(sent.elapsed());
        std::thread::sleep(WRITE_EVERY);
    }
    stop.store(true, Ordering::Relaxed);
    for burner in burners {
        let _ = burner.join();
    }
    let after = leaders(&trine, &dev)?;
    let changed = before.iter().filter(|(group, leader)| after.get(*group) != Some(leader)).count();
    let figure = format!(
        "{changed} of {} groups changed leader or term; {written} writes, {refused} refused, slowest {slowest:.2?}",
        before.len()
    );
    let good = changed == 0 && !before.is_empty();
    Ok(vec![Line::of(good, "ten minutes of full CPU load change no leader", figure)])
}

fn burn(stop: Arc<AtomicBool>) -> std::thread::JoinHandle<u64> {
    std::thread::spawn(move || {
        let mut x = 1_u64;
        while !stop.load(Ordering::Relaxed) {
            for _ in 0..10_000 {
                x = std::hint::black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
            }
        }
        x
    })
}

/// Leader and term of every group.
fn leaders(trine: &Path, dev: &Dev) -> Result<BTreeMap<String, (u64, u64)>, Trouble> {
    let mut leaders = BTreeMap::new();
    for door in &dev.doors {
        let list = ask(trine, &door.data, &["groups", "--json"])?;
        for group in list.as_array().into_iter().flatten() {
            if let (Some(name), Some(leader), Some(term)) =
                (group["group"].as_str(), group["leader"].as_u64(), group["term"].as_u64())
            {
                leaders.insert(name.to_owned(), (leader, term));
            }
        }
    }
    Ok(leaders)
}
