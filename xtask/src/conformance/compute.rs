//! `cargo xtask conformance compute`: Python's own tests of
//! `concurrent.futures` with the product's executor plugged in, and what joblib,
//! scikit-learn and dask make of it, on three real nodes.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::Table;

use super::{Outcome, Score, reasons};
use crate::command::{Trouble, command, product, root, run};
use crate::parts::clients;

/// What is known not to pass, and why.
const LIST: &str = "tests/conformance/compute.toml";
/// What starts the nodes and runs the tests.
const RUNNER: &str = "tests/conformance/compute/run.py";

/// Runs the tests whose name holds `only`, or the share that every change has
/// to pass.
///
/// # Errors
/// They cannot be obtained or run.
pub(super) fn compute(only: Option<&str>, share: bool) -> Result<Score, Trouble> {
    let text = std::fs::read_to_string(root().join(LIST)).map_err(Trouble::at(LIST))?;
    let table: Table = text.parse().map_err(|error| Trouble::Unexpected(format!("{LIST}: {error}")))?;
    let families = table.get("share").and_then(toml::Value::as_array).into_iter().flatten();
    let families: Vec<_> = families.filter_map(toml::Value::as_str).filter(|_| share).collect();
    let python = clients::python()?;
    let mut tests = command(python, &[RUNNER, "--only", only.unwrap_or_default()]);
    tests.args(families).env("TRINE", product()?);
    let finished = run(&mut tests, Duration::from_mins(15))?;
    let mut outcomes = BTreeMap::new();
    for line in finished.output.lines() {
        let Some((name, outcome)) = line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... "))
        else {
            continue;
        };
        let outcome = match outcome.trim() {
            "ok" => Outcome::Passed,
            "skipped" => Outcome::Skipped,
            _ => Outcome::Failed,
        };
        outcomes.insert(name.to_owned(), outcome);
    }
    if outcomes.is_empty() {
        return Err(Trouble::Unexpected(format!("no test ran:\n{}", finished.tail(60))));
    }
    Ok(Score {
        suite: "concurrent.futures",
        list: LIST,
        outcomes,
        expected: reasons(&table, "expected"),
        skipped: reasons(&table, "skipped"),
        output: format!("failures:\n{}", finished.output),
    })
}
