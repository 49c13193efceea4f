//! Side by side in one run with Ray, Dask, Celery, process pools, parallel and xargs.

use super::{short, unshown};
use crate::accept::{Experiment, Line};
use crate::command::Trouble;

pub(super) const EXPERIMENTS: &[Experiment] = &[short("speed", not_yet)];

/// What no code shows yet.
fn not_yet() -> Result<Vec<Line>, Trouble> {
    unshown(&[
        ("10,000 empty Python tasks: 5 times Ray's rate", "no bench compute yet"),
        ("10,000 empty Python tasks: under 0.2 ms of processor each", "no bench compute yet"),
        ("round trip of one Python task under 1.5 ms, median, durable", "no bench compute yet"),
        ("1,000 tasks of 10 ms and of 100 ms", "no bench compute yet"),
        ("500 arguments of 1 MB", "no bench compute yet"),
        ("process tasks at least 85 % of xargs", "no bench compute yet"),
        ("one worker killed half way", "no bench compute yet"),
        ("one worker six times slower", "no bench compute yet"),
        ("durable submission of 30,000 tasks/s in ranges", "no bench compute yet"),
        ("worker and master together under 40 MB when idle", "no bench compute yet"),
    ])
}
