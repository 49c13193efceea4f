//! Tasks and inputs that go wrong: a clear error that names task and node, other jobs unaffected.

use super::{short, tested};
use crate::accept::{Experiment, Line};
use crate::command::Trouble;

pub(super) const EXPERIMENTS: &[Experiment] = &[short("abusive tasks", abuse)];

/// Tests on real nodes.
fn abuse() -> Result<Vec<Line>, Trouble> {
    [
        ("a command that does not exist, unreadable input", "limits", "what_cannot_be_started_or_read"),
        ("a task that fills the disk", "limits", "one_that_fills_the_disk"),
        ("a task that forks without end", "limits", "one_that_forks_without_end"),
        ("a task that prints 1 GB", "limits", "one_that_prints_without_end"),
        ("a pickle that explodes", "interpreters", "a_pickle_that_explodes"),
        ("a million files", "limits", "a_million_files"),
    ]
    .into_iter()
    .map(|(promise, binary, filter)| tested(promise, binary, filter))
    .collect()
}
