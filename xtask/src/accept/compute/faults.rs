//! Faults at every state of a task, simulated with planted bugs and on real
//! processes whose hosts cannot see each other's files.

use std::time::Duration;

use super::short;
use crate::accept::{Experiment, Line};
use crate::command::{Trouble, cargo, run};
use crate::faults::Fault;
use crate::faults::tasks::{self, Seen};
use crate::parts::simulator;

pub(super) const EXPERIMENTS: &[Experiment] = &[
    short("jobs, simulated", simulated),
    long("planted bugs of jobs", planted),
    short("some faults", some),
    long("SIGKILL at every state", || every(Fault::Kill)),
    long("SIGSTOP at every state", || every(Fault::Pause)),
    long("cut links at every state", || every(Fault::Cut)),
];

/// Seeds of the simulated scenario.
const SEEDS: &str = "50";
/// How long they may take.
const LIMIT: Duration = Duration::from_mins(20);
/// What a lost worker had runs elsewhere within this time.
const ELSEWHERE: Duration = Duration::from_secs(2);

const fn long(name: &'static str, run: super::Run) -> Experiment {
    Experiment { long: true, ..short(name, run) }
}

fn simulated() -> Result<Vec<Line>, Trouble> {
    let words = ["run", "--quiet", "--package", "sim", "--", "--scenario", "jobs", "--seeds", SEEDS];
    let finished = run(&mut cargo(&words), LIMIT)?;
    let name = "simulated: each result committed exactly once, no task lost";
    let line = finished.output.lines().find(|line| line.starts_with("jobs")).unwrap_or_default().to_owned();
    Ok(vec![Line::of(finished.success, name, if line.is_empty() { finished.tail(5) } else { line })])
}

fn planted() -> Result<Vec<Line>, Trouble> {
    let count = simulator::planted()?;
    let report = count.report.lines().next_back().unwrap_or_default().to_owned();
    Ok(vec![Line::of(count.failed == 0, "planted bugs, those of jobs among them", report)])
}

fn some() -> Result<Vec<Line>, Trouble> {
    let name = "kill, pause and cut of worker, master and client: each result exactly once";
    Ok(shown(name, &tasks::some()?))
}

fn every(fault: Fault) -> Result<Vec<Line>, Trouble> {
    let name =
        format!("{} of worker, master and client at every state: each result exactly once", fault.name());
    Ok(shown(&name, &tasks::all(fault)?))
}

fn shown(name: &str, seen: &[Seen]) -> Vec<Line> {
    let figure = |of: fn(&Seen) -> &[String]| {
        let bad = seen.iter().filter(|seen| !of(seen).is_empty());
        let bad: Vec<_> = bad.map(|seen| format!("{}: {}", seen.name(), of(seen).join("; "))).collect();
        (bad.is_empty(), format!("{} trials, {} bad {}", seen.len(), bad.len(), bad.join(" | ")))
    };
    let (exact, results) = figure(|seen| &seen.wrong);
    let (clean, left) = figure(|seen| &seen.left);
    let mut lines = vec![
        Line::of(exact, name, results),
        Line::of(clean, "no process left behind after two lease times", left),
    ];
    if let Some(worst) = seen.iter().filter_map(|seen| seen.elsewhere).max() {
        let holds = worst <= ELSEWHERE;
        lines.push(Line::timed(
            holds,
            "a lost worker's tasks run elsewhere within 2 s",
            format!("{worst:.2?} at worst"),
        ));
    }
    lines
}
