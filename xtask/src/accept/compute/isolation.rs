//! What a task cannot read or exceed, and what it is given: tests on real nodes.

use super::{short, tested};
use crate::accept::{Experiment, Line};
use crate::command::Trouble;

pub(super) const EXPERIMENTS: &[Experiment] = &[short("isolation", isolation)];

/// Each as root, whose tasks are users of their own, and as an ordinary user,
/// whose tasks are behind a fence.
fn isolation() -> Result<Vec<Line>, Trouble> {
    [
        (
            "a task cannot read its node's data directory or keys",
            "isolation",
            "a_task_reaches_nothing_of_its_node",
        ),
        ("a task cannot reach another task", "isolation", "a_task_reaches_nothing_of_another"),
        (
            "nothing is left of a task that detached itself, nor of a killed node",
            "isolation",
            "nothing_is_left",
        ),
        ("tasks of a stopped node end, and run again", "isolation", "tasks_of_a_stopped_node_end"),
        ("limits of memory are enforced, and a result says so", "limits", "memory_is_limited"),
        ("a task's token is scoped and expires", "limits", "a_task_has_a_token"),
    ]
    .into_iter()
    .map(|(promise, binary, filter)| tested(promise, binary, filter))
    .collect()
}
