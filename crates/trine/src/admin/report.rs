//! Reports as text for people: short tables on standard output.

use std::fmt::Write as _;

use super::protocol::{GroupReport, NodeReport, RecoveryReport, StatusReport};

/// Lays out rows in columns; the first row is the heading.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn numbers(list: &[u64]) -> String {
    let names: Vec<String> = list.iter().map(|n| format!("n{n}")).collect();
    if names.is_empty() { "-".to_owned() } else { names.join(" ") }
}

fn heading(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// `trine status`.
pub fn status(report: &StatusReport) -> String {
    let mut text = String::new();
    let state = if report.ready { "serving" } else { "NOT READY" };
    let _ = writeln!(text, "node       n{} \"{}\" ({})", report.number, report.name, short(&report.id));
    let _ = writeln!(text, "state      {state}, pid {}, up {} s", report.pid, report.uptime_ms / 1_000);
    let _ = writeln!(
        text,
        "cluster    {} with {} nodes, {} partitions",
        report.cluster, report.nodes, report.partitions
    );
    let _ = writeln!(text, "redis      {}", report.doors.redis);
    let _ = writeln!(text, "nats       {}", report.doors.nats);
    let _ = writeln!(text, "admin      {}", report.doors.admin);
    let _ = writeln!(text, "peer       {}", report.doors.peer);
    let _ = writeln!(text, "tolerates  {}", tolerance(report.tolerates));
    if !report.unreachable.is_empty() {
        let _ = writeln!(text, "not heard  {}", numbers(&report.unreachable));
    }
    for problem in &report.problems {
        let _ = writeln!(text, "problem    {problem}");
    }
    text
}

/// What the cluster survives, in words.
pub fn tolerance(nodes: usize) -> String {
    match nodes {
        0 => "no further failure: the loss of one more node stops some or all data".to_owned(),
        1 => "the loss of any one node".to_owned(),
        more => format!("the loss of any {more} nodes"),
    }
}

fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// `trine nodes`.
pub fn nodes(list: &[NodeReport]) -> String {
    let mut rows = vec![heading(&["NODE", "NAME", "ID", "PEER", "REDIS", "VOTER OF", "STATE"])];
    for node in list {
        let state = match (node.asked, node.reachable) {
            (true, _) => "this node",
            (false, true) => "reachable",
            (false, false) => "NOT HEARD",
        };
        rows.push(vec![
            format!("n{}", node.number),
            node.name.clone(),
            short(&node.id).to_owned(),
            node.peer.join(","),
            node.redis.clone().unwrap_or_else(|| "-".to_owned()),
            format!("{} groups", node.voter_of),
            state.to_owned(),
        ]);
    }
    table(&rows)
}

/// `trine groups`.
pub fn groups(list: &[GroupReport]) -> String {
    let mut rows = vec![heading(&[
        "GROUP", "ROLE", "LEADER", "TERM", "VOTERS", "LEARNERS", "LOG", "APPLIED", "DIGEST", "AT", "",
    ])];
    for group in list {
        rows.push(vec![
            group.group.clone(),
            group.role.clone(),
            group.leader.map_or_else(|| "NONE".to_owned(), |n| format!("n{n}")),
            group.term.to_string(),
            numbers(&group.voters),
            numbers(&group.learners),
            group.log.to_string(),
            group.applied.to_string(),
            group.digest.clone(),
            group.digest_at.to_string(),
            if group.hibernating { "idle".to_owned() } else { String::new() },
        ]);
    }
    table(&rows)
}

/// `trine recover`: the plan or what was done.
pub fn recovery(report: &RecoveryReport) -> String {
    let mut text = String::new();
    let verb = if report.done { "Gave up" } else { "Giving up" };
    let _ = writeln!(text, "{verb} {} for good.", numbers(&report.lost));
    if report.groups.is_empty() {
        let _ = writeln!(text, "Every group keeps a majority: nothing is missing.");
    }
    if report.groups.is_empty() {
        return text;
    }
    let mut rows = vec![heading(&["GROUP", "VOTERS", "REMAINING", "LOG UP TO", "WHAT MAY BE MISSING"])];
    for group in &report.groups {
        rows.push(vec![
            group.group.clone(),
            numbers(&group.voters),
            numbers(&group.remaining),
            group.log.to_string(),
            group.may_miss.clone(),
        ]);
    }
    text.push_str(&table(&rows));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_have_no_tail() {
        let rows = vec![heading(&["A", "B"]), heading(&["long", "x"]), heading(&["y", ""])];
        assert_eq!(table(&rows), "A     B\nlong  x\ny\n");
    }
}
