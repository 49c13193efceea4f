//! Existing engines as guests.

use super::{short, unshown};
use crate::accept::{Experiment, Line};
use crate::command::Trouble;

pub(super) const EXPERIMENTS: &[Experiment] = &[short("engines", not_yet)];

/// What no code shows yet.
fn not_yet() -> Result<Vec<Line>, Trouble> {
    unshown(&[
        ("trine engine dask, ray and spark: up, down, moved when the scheduler dies", "not built yet"),
        ("large results have a second copy and a time to live", "not built yet"),
        ("events of jobs on _job.<id>.>", "not built yet"),
    ])
}
