//! Side by side in one run with Ray, Dask, Celery, process pools, parallel and xargs.

use super::short;
use crate::accept::{Experiment, Line};
use crate::bench::compute::{Figure, Measured, Part, System, Work, measure};
use crate::command::Trouble;

pub(super) const EXPERIMENTS: &[Experiment] = &[short("speed", thresholds)];

/// Times Ray's rate.
const RAY_RATIO: f64 = 5.0;
/// Processor milliseconds of an empty Python function.
const CPU_MS: f64 = 0.2;
/// Milliseconds of a round trip, median.
const TRIP_MS: f64 = 1.5;
/// Part of xargs' rate.
const XARGS_PART: f64 = 0.85;
/// Tasks submitted per second.
const SUBMITTED: f64 = 30_000.0;
/// Megabytes of an idle node: worker and master are in it.
const IDLE_MB: f64 = 40.0;

/// One line for each promise, from one run of the bench.
fn thresholds() -> Result<Vec<Line>, Trouble> {
    Ok(judged(&measure(None, Part::Whole)?.0))
}

fn judged(measured: &Measured) -> Vec<Line> {
    let of = |work, system| measured.get(&(work, system)).and_then(|figure| figure.as_ref().ok());
    let ours = |work| of(work, System::Trine);
    let ratio = |work, other| Some(ours(work)?.rate() / of(work, other)?.rate());
    let rate = |figure: &Figure| figure.rate();
    let mut lines = vec![
        line(
            "10,000 empty Python tasks: 5 times Ray's rate",
            ratio(Work::Empty, System::Ray),
            RAY_RATIO..,
            "x",
        ),
        line(
            "10,000 empty Python tasks: under 0.2 ms of processor each",
            ours(Work::Empty).map(Figure::cpu_ms),
            ..CPU_MS,
            "ms",
        ),
        line(
            "round trip of one Python task under 1.5 ms, median, durable",
            ours(Work::Trip).and_then(|figure| figure.trip).map(|(median, _)| median),
            ..TRIP_MS,
            "ms",
        ),
        line(
            "process tasks at least 85 % of xargs",
            ratio(Work::Processes, System::Xargs),
            XARGS_PART..,
            "x",
        ),
        line(
            "durable submission of 30,000 tasks/s in ranges",
            ours(Work::Submit).map(rate),
            SUBMITTED..,
            "/s",
        ),
        line(
            "worker and master together under 40 MB when idle",
            ours(Work::Idle).and_then(|figure| figure.node_mb),
            ..IDLE_MB,
            "MB for the whole node",
        ),
    ];
    for work in [Work::Wait10, Work::Wait100, Work::Large, Work::Slow, Work::Killed] {
        lines.push(complete(work, measured));
    }
    lines
}

/// A figure that has to lie within a range.
fn line(name: &str, figure: Option<f64>, range: impl std::ops::RangeBounds<f64>, unit: &str) -> Line {
    match figure {
        Some(figure) => Line::timed(range.contains(&figure), name, format!("{figure:.3} {unit}")),
        None => Line::of(false, name, "it was not measured: see the bench"),
    }
}

/// Every result has to come; the rates are told beside the others'.
fn complete(work: Work, measured: &Measured) -> Line {
    let told: Vec<String> = System::PYTHON
        .into_iter()
        .filter_map(|system| {
            let figure = measured.get(&(work, system))?.as_ref().ok()?;
            Some(format!("{} {:.2} s, {} not done", system.title(), figure.wall, figure.missing))
        })
        .collect();
    let ours = measured.get(&(work, System::Trine)).and_then(|figure| figure.as_ref().ok());
    let whole = ours.is_some_and(|figure| figure.missing == 0);
    Line::of(whole, &format!("{}: every result comes", work.title()), told.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_promise_is_judged_by_its_figure() {
        let figure = |wall, spent_ms| Figure { wall, tasks: 10_000, spent_ms, ..Figure::default() };
        let measured = Measured::from([
            ((Work::Empty, System::Trine), Ok(figure(1.0, 1_500))),
            ((Work::Empty, System::Ray), Ok(figure(6.0, 9_000))),
            ((Work::Trip, System::Trine), Ok(Figure { trip: Some((2.0, 3.0)), ..figure(1.0, 0) })),
            ((Work::Killed, System::Trine), Ok(Figure { missing: 1, ..figure(1.0, 0) })),
        ]);
        let lines: Vec<String> = judged(&measured).iter().map(ToString::to_string).collect();
        let starts = |text: &str| lines.iter().any(|line| line.starts_with(text));
        assert!(starts("PASS    10,000 empty Python tasks: 5 times Ray's rate: 6.000 x"), "{lines:?}");
        assert!(
            starts("PASS    10,000 empty Python tasks: under 0.2 ms of processor each: 0.150 ms"),
            "{lines:?}"
        );
        assert!(starts("FAIL    round trip"), "{lines:?}");
        assert!(starts("FAIL    process tasks"), "{lines:?}");
        assert!(starts("FAIL    600 functions that wait 50 ms, one worker of three killed"), "{lines:?}");
    }
}
