//! Others' suites with our executor plugged in.

use super::short;
use crate::accept::{Experiment, Line};
use crate::command::Trouble;
use crate::conformance;

pub(super) const EXPERIMENTS: &[Experiment] = &[short("suites of others", suites)];

/// What shows each promise: how the names of its tests begin.
const PROMISES: &[(&str, &[&str])] = &[
    (
        "CPython's test_concurrent_futures with our executor",
        &[
            "executor ",
            "wait ",
            "as_completed ",
            "shutdown ",
            "future ",
            "init ",
            "failing_init ",
            "deadlock ",
            "process_pool ",
        ],
    ),
    ("joblib's test_parallel with our backend", &["joblib "]),
    ("scikit-learn GridSearchCV equal to n_jobs=1", &["users sklearn_grid_search"]),
    ("dask collections through our executor", &["users dask_"]),
];

/// All of them, as `cargo xtask conformance compute` runs them. A failure that
/// the list explains counts as what it is: the figure has it.
fn suites() -> Result<Vec<Line>, Trouble> {
    let tallies = conformance::tallies(PROMISES)?;
    let line = |(name, tally): (&str, conformance::Tally)| {
        let conformance::Tally { passed, explained, failed, skipped } = tally;
        let figure =
            format!("{passed} passed, {explained} failed with a reason, {failed} without, {skipped} skipped");
        Line::of(passed > 0 && failed == 0, name, figure)
    };
    Ok(tallies.into_iter().map(line).collect())
}
