//! The command line's words, and the demo's third part.

use super::{short, unshown};
use crate::accept::{Experiment, Line};
use crate::command::Trouble;

pub(super) const EXPERIMENTS: &[Experiment] = &[short("command line", not_yet)];

/// What no code shows yet.
fn not_yet() -> Result<Vec<Line>, Trouble> {
    unshown(&[
        ("files of tasks: --transferfile, --return, --basefile", "not built yet"),
        ("stages, deadlines and cron: --from FILE.toml", "not built yet"),
        ("demo: word count with a worker killed equals a single-threaded count", "not built yet"),
    ])
}
