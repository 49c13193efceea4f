//! The command line's words, and the demo's third part.

use std::time::Duration;

use super::{short, unshown};
use crate::accept::{Experiment, Line};
use crate::command::{Trouble, cargo, command, product, run};
use crate::parts::crates;

pub(super) const EXPERIMENTS: &[Experiment] =
    &[short("command line", command_line), short("word count", word_count)];

/// Stories of `trine run` and `trine job` on three real nodes, each a promise.
const STORIES: &[(&str, &str)] = &[
    ("files_travel", "files of tasks: --transferfile, --return, --basefile, --trc"),
    ("results_are_filed", "--results: the same files as GNU parallel's"),
    ("takes_far_longer", "--timeout N%: a task that hangs is killed, others are not"),
    ("stages_come_after", "stages and deadlines: --from FILE.toml"),
];

fn command_line() -> Result<Vec<Line>, Trouble> {
    let mut lines = Vec::new();
    for (story, name) in STORIES {
        let arguments = ["test", "--quiet", "--package", "trine", "--test", "run_cluster", story];
        let finished = run(&mut cargo(&arguments), Duration::from_mins(15))?;
        let count = crates::counted(&finished);
        let good = count.failed == 0 && count.passed > 0;
        lines.push(Line::of(good, name, format!("{} passed, {} failed", count.passed, count.failed)));
    }
    lines.extend(unshown(&[("cron: a schedule makes one instance for each due time", "not built yet")])?);
    Ok(lines)
}

/// The demo on a small input, of which this is the third part.
fn word_count() -> Result<Vec<Line>, Trouble> {
    let arguments = ["demo", "--input", "crates", "--max-files", "300", "--load", "2", "--json"];
    let finished = run(&mut command(product()?, &arguments), Duration::from_mins(5))?;
    let report = finished.output.lines().find(|line| line.starts_with('{')).unwrap_or_default();
    let said: serde_json::Value = serde_json::from_str(report).unwrap_or_default();
    let held = |what: &str| {
        let mut checks = said["checks"].as_array().into_iter().flatten();
        let check = checks.find(|check| check["check"].as_str().is_some_and(|text| text.contains(what)));
        check.is_some_and(|check| check["held"] == true)
    };
    let words = &said["words"];
    let figure = format!(
        "{} words, {} differ; node {} killed after {} of {} results, {} tasks ran again",
        words["words"],
        words["differing"],
        words["killed"],
        words["results_at_kill"],
        words["tasks"],
        words["again"]
    );
    let good = held("words counted on all nodes") && held("each task has one result");
    Ok(vec![Line::of(good, "demo: word count with a worker killed equals a single-threaded count", figure)])
}
