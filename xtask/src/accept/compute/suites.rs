//! Others' suites with our executor plugged in.

use super::{short, unshown};
use crate::accept::{Experiment, Line};
use crate::command::Trouble;

pub(super) const EXPERIMENTS: &[Experiment] = &[short("suites of others", not_yet)];

/// What no code shows yet.
fn not_yet() -> Result<Vec<Line>, Trouble> {
    unshown(&[
        ("CPython's test_concurrent_futures with our executor", "by hand: cargo xtask conformance compute"),
        ("joblib's test_parallel with our backend", "by hand: cargo xtask conformance compute"),
        ("scikit-learn GridSearchCV equal to n_jobs=1", "by hand: cargo xtask conformance compute"),
        ("dask collections through our executor", "by hand: cargo xtask conformance compute"),
    ])
}
