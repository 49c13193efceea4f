//! How soon a crash is known: to a crowd in the simulator, with the product's
//! code and virtual time, and to three real processes.

use std::time::Duration;

use crate::accept::Line;
use crate::command::{Trouble, cargo, run};

/// How long one run of the simulator may take.
const LIMIT: Duration = Duration::from_mins(20);
/// False positives beside plain SWIM's.
const SHARE: f64 = 0.02;

/// 50 and 1,000 members.
pub(super) fn simulated() -> Result<Vec<Line>, Trouble> {
    Ok(vec![crash(50, 5, 1.5, "memberlist 8.4 s")?, crash(1_000, 2, 4.0, "memberlist 14.2 s")?])
}

/// 10,000 members.
pub(super) fn simulated_large() -> Result<Vec<Line>, Trouble> {
    Ok(vec![crash(10_000, 1, 6.0, "memberlist 18.3 s")?])
}

fn simulator(words: &[&str]) -> Result<String, Trouble> {
    let mut command = cargo(&["run", "--quiet", "--release", "--package", "sim", "--", "members"]);
    run(command.args(words), LIMIT)?.required()
}

/// The time until all know of a crash, as the median of all crashes.
fn crash(members: u64, crashes: u64, limit: f64, beside: &str) -> Result<Line, Trouble> {
    let (members, crashes) = (members.to_string(), crashes.to_string());
    let words = ["--members", &members, "--seeds", "3", "--crashes", &crashes, "--only-product"];
    let output = simulator(&words)?;
    let row = output.lines().last().unwrap_or_default();
    let figures = numbers(row);
    // Without the name: first, median, 99th percentile, slowest, missed, false.
    let (Some(median), Some(slowest), Some(missed), Some(wrong)) =
        (figures.get(1), figures.get(3), figures.get(4), figures.get(5))
    else {
        return Err(Trouble::Unexpected(format!("sim members said: {output}")));
    };
    let name = format!("all of {members} members know of a crash within {limit} s ({beside})");
    let figure = format!("median {median} s, slowest {slowest} s, {missed} missed, {wrong} false positives");
    Ok(Line::of(*median <= limit && *missed == 0.0, &name, figure))
}

/// The numbers at the end of a row, behind its name.
fn numbers(row: &str) -> Vec<f64> {
    let mut numbers: Vec<f64> = row.split_whitespace().rev().map_while(|word| word.parse().ok()).collect();
    numbers.reverse();
    numbers
}

/// Lifeguard's workload: members that are blocked now and then.
pub(super) fn false_positives() -> Result<Vec<Line>, Trouble> {
    let output = simulator(&["--members", "128", "--seeds", "1", "--slow", "grid"])?;
    let sums: Vec<(String, f64)> = output
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.split_once(", all")?;
            Some((name.trim().to_owned(), *numbers(rest).first()?))
        })
        .collect();
    let [(product, ours), .., (plain, theirs)] = &sums[..] else {
        return Err(Trouble::Unexpected(format!("sim members said: {output}")));
    };
    let name = "with slow members at most 2 % of plain SWIM's false positives about healthy ones";
    let figure = format!("{product}: {ours}, {plain}: {theirs}");
    Ok(vec![Line::of(*theirs > 0.0 && *ours <= theirs * SHARE, name, figure)])
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn the_figures_stand_behind_the_name() {
        assert_eq!(numbers("Trine, 200 ms probes   0.42   1.10 0"), [0.42, 1.10, 0.0]);
        assert_eq!(numbers("no figures"), Vec::<f64>::new());
    }
}
