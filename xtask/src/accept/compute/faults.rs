//! Faults at every state of a task, simulated with planted bugs and on real processes whose hosts cannot see each other's files.

use super::{short, unshown};
use crate::accept::{Experiment, Line};
use crate::command::Trouble;

pub(super) const EXPERIMENTS: &[Experiment] = &[short("faults", not_yet)];

/// What no code shows yet.
fn not_yet() -> Result<Vec<Line>, Trouble> {
    unshown(&[
        ("simulated: each result committed exactly once, no task lost", "no scenario yet"),
        ("planted bugs of jobs are caught within 50 seeds", "no scenario yet"),
        ("SIGKILL of worker, master and client at every state of a task", "nothing runs it here yet"),
        ("SIGSTOP of worker, master and client at every state of a task", "nothing runs it here yet"),
        ("cut links of worker, master and client at every state of a task", "nothing runs it here yet"),
        ("a lost worker's tasks run elsewhere within 2 s", "nothing runs it here yet"),
        ("no process left behind after two lease times", "nothing runs it here yet"),
    ])
}
