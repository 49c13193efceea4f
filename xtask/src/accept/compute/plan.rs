//! How good predictions are, and backups of stragglers.

use super::{short, unshown};
use crate::accept::{Experiment, Line};
use crate::command::Trouble;

pub(super) const EXPERIMENTS: &[Experiment] = &[short("plan", not_yet)];

/// What no code shows yet.
fn not_yet() -> Result<Vec<Line>, Trouble> {
    unshown(&[
        ("trine plan: median error at most 20 % on 1, 2 and 3 nodes", "nothing runs it here yet"),
        (
            "trine plan: median error at most 20 % on the simulator at 10,000 workers",
            "nothing runs it here yet",
        ),
        ("LATE within 15 % of ideal at no more than 2 % duplicate work", "nothing runs it here yet"),
    ])
}
