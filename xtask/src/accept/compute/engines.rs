//! Existing engines as guests, and what else jobs give to whoever looks on.

use super::{short, unshown};
use crate::accept::{Experiment, Line};
use crate::command::{Trouble, cargo, run};
use crate::parts::clients;
use std::time::Duration;

pub(super) const EXPERIMENTS: &[Experiment] =
    &[short("engines", engines), short("large results", large_results), short("job events", events)];

/// How long one test may take, with what it builds.
const LIMIT: Duration = Duration::from_mins(15);

/// The real Dask, a real client.
fn engines() -> Result<Vec<Line>, Trouble> {
    let count = clients::tests_named("engine")?;
    let name = "trine engine dask: up, a client computes, moved when the scheduler's node dies, down";
    let figure = format!("{} passed, {} failed", count.passed, count.failed);
    let mut lines = vec![Line::of(count.failed == 0 && count.passed > 0, name, figure)];
    lines.extend(unshown(&[("trine engine ray and spark", "by hand, as docs/engines.md says")])?);
    Ok(lines)
}

fn test(target: &str, name: &str) -> Result<bool, Trouble> {
    let finished = run(&mut cargo(&["test", "-q", "-p", "trine", "--test", target, name]), LIMIT)?;
    Ok(finished.success && finished.output.contains("1 passed"))
}

fn large_results() -> Result<Vec<Line>, Trouble> {
    let holds = test("compute", "large_results_outlive_the_node_that_made_them")?;
    let name = "results beyond 64 KiB are read from the second copy, when the first is damaged or gone";
    Ok(vec![Line::of(holds, name, "three nodes, one killed after the job was over, one byte changed")])
}

fn events() -> Result<Vec<Line>, Trouble> {
    let count = clients::tests_named("job_events")?;
    let name = "events of jobs on _job.<id>.>, in few messages; nobody else publishes there";
    let figure = format!("{} passed, {} failed", count.passed, count.failed);
    Ok(vec![Line::of(count.failed == 0 && count.passed > 0, name, figure)])
}
