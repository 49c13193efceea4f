//! Tasks and inputs that go wrong: a clear error that names task and node, other jobs unaffected.

use super::{short, unshown};
use crate::accept::{Experiment, Line};
use crate::command::Trouble;

pub(super) const EXPERIMENTS: &[Experiment] = &[short("abusive tasks", not_yet)];

/// What no code shows yet.
fn not_yet() -> Result<Vec<Line>, Trouble> {
    unshown(&[
        ("a command that does not exist", "nothing runs it here yet"),
        ("unreadable input", "nothing runs it here yet"),
        ("a task that fills the disk", "nothing runs it here yet"),
        ("a task that forks without end", "nothing runs it here yet"),
        ("a task that prints 1 GB", "nothing runs it here yet"),
        ("a pickle that explodes", "nothing runs it here yet"),
        ("a million files", "nothing runs it here yet"),
    ])
}
