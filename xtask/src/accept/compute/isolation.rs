//! What a task cannot read or exceed, and what it is given.

use super::{short, unshown};
use crate::accept::{Experiment, Line};
use crate::command::Trouble;

pub(super) const EXPERIMENTS: &[Experiment] = &[short("isolation", not_yet)];

/// What no code shows yet.
fn not_yet() -> Result<Vec<Line>, Trouble> {
    unshown(&[
        ("a task cannot read its node's data directory or keys", "not built yet"),
        ("limits of CPU and memory are enforced, and a result says so", "not built yet"),
        ("a task's token is scoped and expires", "not built yet"),
    ])
}
