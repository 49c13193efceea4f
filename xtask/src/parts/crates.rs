//! The tests of all crates: unit, story, property, twin and process tests.

use std::time::Duration;

use crate::command::{Finished, Trouble, cargo, run};
use crate::parts::{Count, Part};

pub(super) struct Crates;

impl Part for Crates {
    fn name(&self) -> &'static str {
        "crates"
    }

    fn run(&self) -> Result<Count, Trouble> {
        let arguments = ["test", "--workspace", "--no-fail-fast", "--", "--format", "terse"];
        let finished = run(&mut cargo(&arguments), Duration::from_mins(40))?;
        let mut count = counted(&finished);
        if count.failed > 0 {
            count.report = failures(&finished.output);
        }
        Ok(count)
    }
}

/// Sums cargo's `test result:` lines; a command that failed without one is a failure.
pub(crate) fn counted(finished: &Finished) -> Count {
    let mut count = Count::default();
    for line in finished.output.lines() {
        let Some(result) = line.trim_start().strip_prefix("test result:") else { continue };
        count.passed += before(result, "passed");
        count.failed += before(result, "failed");
    }
    if !finished.success && count.failed == 0 {
        count.failed = 1;
        count.report = finished.tail(120);
    }
    count
}

/// The number in front of `word`, as in `12 passed; 1 failed`.
pub(crate) fn before(text: &str, word: &str) -> u64 {
    let words: Vec<&str> = text.split([' ', ';', ',', '.']).filter(|part| !part.is_empty()).collect();
    let at = words.iter().position(|candidate| *candidate == word);
    at.and_then(|at| words.get(at.checked_sub(1)?)?.parse().ok()).unwrap_or(0)
}

/// What cargo prints between `failures:` and the result, and compile errors.
fn failures(output: &str) -> String {
    let mut inside = false;
    let mut kept = Vec::new();
    for line in output.lines() {
        if line == "failures:" {
            inside = true;
        }
        if inside || line.starts_with("error") {
            kept.push(line);
        }
        if line.starts_with("test result:") {
            inside = false;
        }
    }
    let most = 400;
    if kept.len() > most {
        kept.truncate(most);
        kept.push("(more failures are not shown)");
    }
    kept.join("\n")
}

#[cfg(test)]
mod tests {
    use super::{before, failures};

    #[test]
    fn numbers_are_read_from_result_lines() {
        let line = " FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; finished in 1.02s";
        assert_eq!((before(line, "passed"), before(line, "failed")), (12, 3));
        assert_eq!(before("nothing ran", "passed"), 0);
    }

    #[test]
    fn only_failures_are_shown() {
        let text =
            "noise\nfailures:\n---- a stdout ----\nbang\ntest result: FAILED. 0 passed; 1 failed\nnoise";
        assert!(failures(text).starts_with("failures:") && !failures(text).contains("noise"));
    }
}
