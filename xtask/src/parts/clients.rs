//! Unmodified clients against three real nodes: redis-py, its cluster client,
//! redis-cli and redis-benchmark; nats-py, NATS for Node and nats.go. Their
//! packages live below `target/`.

use std::path::PathBuf;
use std::time::Duration;

use crate::command::{Trouble, command, product, root, run, target};
use crate::parts::crates::before;
use crate::parts::{Count, Part};

pub(super) struct Clients;

impl Part for Clients {
    fn name(&self) -> &'static str {
        "clients"
    }

    fn run(&self) -> Result<Count, Trouble> {
        tests()
    }
}

/// Runs them against a build.
pub(crate) fn tests() -> Result<Count, Trouble> {
    tests_named("")
}

/// Those whose name holds `word`.
pub(crate) fn tests_named(word: &str) -> Result<Count, Trouble> {
    let python = python()?;
    let trine = product()?;
    let options = ["-m", "pytest", "-q", "--color=no", "-rfs", "-k", word, "tests/python"];
    let mut tests = command(python, &options);
    let finished = run(tests.env("TRINE", trine), Duration::from_mins(15))?;
    let closing = finished.tail(1);
    let failed = before(&closing, "failed") + before(&closing, "error") + before(&closing, "errors");
    let passed = before(&closing, "passed");
    let silent = u64::from(failed == 0 && (!finished.success || passed == 0));
    let report = if finished.success { closing + &not_run(&finished.output) } else { finished.tail(150) };
    Ok(Count { passed, failed: failed + silent, report })
}

/// What was not run and why, as pytest says at its end.
fn not_run(output: &str) -> String {
    let lines = output.lines().filter_map(|line| line.split_once("NOT RUN: "));
    lines.map(|(_, why)| ["\nNOT RUN: ", why].concat()).collect()
}

/// A Python with the packages of `tests/python/requirements.txt`.
pub(crate) fn python() -> Result<PathBuf, Trouble> {
    let home = target().join("venv");
    let python = home.join("bin/python");
    let wanted = root().join("tests/python/requirements.txt");
    let text = std::fs::read_to_string(&wanted).map_err(Trouble::at(wanted.display().to_string()))?;
    let stamp = home.join("installed.txt");
    if python.exists() && std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == text) {
        return Ok(python);
    }
    let home_text = home.display().to_string();
    run(&mut command("python3", &["-m", "venv", "--clear", &home_text]), Duration::from_mins(5))?
        .required()?;
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
    run(command(&python, &install).arg(&wanted), Duration::from_mins(10))?.required()?;
    std::fs::write(&stamp, text).map_err(Trouble::at(stamp.display().to_string()))?;
    Ok(python)
}
