//! How good predictions are, and backups of stragglers.

use std::time::Duration;

use super::short;
use crate::accept::{Experiment, Line};
use crate::bench::compute::Nodes;
use crate::command::{Trouble, cargo, command, product, run};
use crate::servers::ask;

pub(super) const EXPERIMENTS: &[Experiment] =
    &[short("plan", real), short("plan, simulated", simulated), short("backups", backups)];

/// Percent, median.
const ERROR: f64 = 20.0;
/// Times ideal.
const OF_IDEAL: f64 = 1.15;
/// Percent of the time that counted.
const DUPLICATE: f64 = 2.0;
/// What is planned: how often, and the command. They wait, so that nodes that
/// share their cores are as good as nodes that do not.
const WORKLOADS: [(u32, &str); 3] = [(400, "sleep 0.05"), (120, "sleep 0.2"), (120, "sleep 0.{}")];
/// Longest that planning and running one may take.
const LIMIT: Duration = Duration::from_mins(3);
/// Longest that the simulator may be built and run.
const SIMULATOR_LIMIT: Duration = Duration::from_mins(20);

/// `trine plan --run` on one, two and three nodes; what it has kept is judged.
fn real() -> Result<Vec<Line>, Trouble> {
    let trine = product()?;
    let (mut errors, mut told) = (Vec::new(), Vec::new());
    for count in 1..=3 {
        let nodes = Nodes::start(&trine, count)?;
        let data = &nodes.all[0].data;
        for (tasks, work) in WORKLOADS {
            let arguments: Vec<String> = (0..tasks).map(|n| (n % 4 + 1).to_string()).collect();
            let line = if work.contains("{}") { work.to_owned() } else { format!("{work} && : {{}}") };
            let mut plan = command(&trine, &["plan", "--run", "--data"]);
            plan.arg(data).args(["-j", "2", &line, ":::"]).args(&arguments);
            run(&mut plan, LIMIT)?.required()?;
        }
        let history = ask(&trine, data, &["plan", "--history", "--json"])?;
        let jobs = history["jobs"].as_array().into_iter().flatten();
        let found: Vec<f64> = jobs.filter_map(|job| job["off_percent"].as_f64()).collect();
        told.push(format!(
            "{count} nodes: {}",
            found.iter().map(|off| format!("{off:+.0} %")).collect::<Vec<_>>().join(", ")
        ));
        errors.extend(found.into_iter().map(f64::abs));
    }
    errors.sort_by(f64::total_cmp);
    let name = "trine plan: median error at most 20 % on 1, 2 and 3 nodes";
    let all = errors.len() == 3 * WORKLOADS.len();
    let median = errors.get(errors.len() / 2).copied().unwrap_or(f64::INFINITY);
    let figure = format!(
        "median {median:.0} %; {}; tasks wait: the nodes share this machine's cores",
        told.join("; ")
    );
    Ok(vec![Line::timed(all && median <= ERROR, name, figure)])
}

fn sim(words: &[&str]) -> Result<String, Trouble> {
    let mut sim = cargo(&["run", "--quiet", "--release", "--package", "sim", "--", "schedule"]);
    run(sim.args(words), SIMULATOR_LIMIT)?.required()
}

/// Predictions for 10,000 simulated workers, of five distributions.
fn simulated() -> Result<Vec<Line>, Trouble> {
    let output = sim(&["--plan"])?;
    let name = "trine plan: median error at most 20 % on the simulator at 10,000 workers";
    let median: Option<f64> =
        output.lines().find_map(|line| line.strip_prefix("median error ")?.strip_suffix(" %")?.parse().ok());
    let median = median.ok_or_else(|| Trouble::Unexpected(format!("sim said: {output}")))?;
    Ok(vec![Line::of(median <= ERROR, name, format!("{median:.1} %"))])
}

/// Backup attempts among 10,000 simulated workers, 1 % of them slow.
fn backups() -> Result<Vec<Line>, Trouble> {
    let output = sim(&["--only-product"])?;
    let name = "LATE within 15 % of ideal at no more than 2 % duplicate work";
    let (ideal, duplicate) =
        late(&output).ok_or_else(|| Trouble::Unexpected(format!("sim said: {output}")))?;
    let figure = format!("{ideal:.3} times ideal, {duplicate:.3} % duplicate (100,000 tasks of 7 to 13 s)");
    Ok(vec![Line::of(ideal <= OF_IDEAL && duplicate <= DUPLICATE, name, figure)])
}

/// Times ideal and the share of duplicate work, from the product's line.
fn late(output: &str) -> Option<(f64, f64)> {
    let line = output.lines().find_map(|line| line.strip_prefix("pull, backups by LATE"))?;
    let cells: Vec<f64> = line.split_whitespace().filter_map(|cell| cell.parse().ok()).collect();
    Some((*cells.get(1)?, *cells.get(6)?))
}

#[cfg(test)]
mod tests {
    use super::late;

    #[test]
    fn the_simulators_line_is_understood() {
        let line = "pull, backups by LATE       109.2    1.092      60.10      60.00     109.00       320       0.302       0.000";
        assert_eq!(late(line), Some((1.092, 0.302)));
    }
}
