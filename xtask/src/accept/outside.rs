//! What others see: client libraries, the kernel, strangers.

use super::Line;
use crate::command::{Trouble, cargo, root, run};
use crate::durability;
use crate::parts::{clients, crates, simulator};

/// redis-py plain and cluster, redis-cli, redis-benchmark, on each node.
pub(super) fn clients() -> Result<Vec<Line>, Trouble> {
    let count = clients::tests()?;
    let name = "redis-py (plain, RedisCluster), redis-cli, redis-benchmark on any node";
    let figure = format!("{} passed, {} failed", count.passed, count.failed);
    Ok(vec![Line::of(count.failed == 0, name, figure)])
}

/// No acknowledgement before the fdatasync that covers it.
pub(super) fn trace() -> Result<Vec<Line>, Trouble> {
    let verdict = durability::observe()?;
    let good = verdict.acknowledged == durability::EXPECTED && verdict.early.is_empty();
    let figure = format!("{} acknowledgements traced, {} early", verdict.acknowledged, verdict.early.len());
    Ok(vec![Line::of(good, "no acknowledgement before its fdatasync, on a traced majority", figure)])
}

/// Two hundred seeds of whole clusters.
pub(super) fn simulator() -> Result<Vec<Line>, Trouble> {
    let begin = std::time::Instant::now();
    let count = simulator::seeds("200")?;
    let figure = format!("{} s\n{}", begin.elapsed().as_secs(), count.report);
    Ok(vec![Line::of(count.failed == 0, "200 seeds of the simulator pass", figure)])
}

/// Bugs that the simulator must catch.
pub(super) fn planted() -> Result<Vec<Line>, Trouble> {
    let count = simulator::planted()?;
    Ok(vec![Line::of(count.failed == 0, "each planted bug is caught within 50 seeds", count.report)])
}

/// Unknown, expired and revoked certificates, tickets: the suites of their rooms.
pub(super) fn certificates() -> Result<Vec<Line>, Trouble> {
    let mut lines = Vec::new();
    for (package, name) in [
        ("trine-transport", "peers with an unknown, expired or revoked certificate (suite of transport)"),
        ("trine-cluster", "used, expired and foreign tickets (suite of cluster)"),
    ] {
        let arguments = ["test", "--quiet", "--package", package];
        let finished = run(&mut cargo(&arguments), std::time::Duration::from_mins(15))?;
        let count = crates::counted(&finished);
        let good = count.failed == 0 && count.passed > 0;
        lines.push(Line::of(good, name, format!("{} passed, {} failed", count.passed, count.failed)));
    }
    Ok(lines)
}

/// Every file that parses bytes has a property test beside it.
pub(super) fn fuzzed() -> Result<Vec<Line>, Trouble> {
    let listed =
        run(&mut crate::command::command("git", &["ls-files", "crates"]), std::time::Duration::from_mins(1))?
            .required()?;
    let parsers: Vec<&str> = listed.lines().filter(|path| is_parser(path)).collect();
    let mut bare = Vec::new();
    for parser in &parsers {
        let room: String = parser.split('/').take(2).collect::<Vec<_>>().join("/");
        let tests = listed.lines().filter(|path| path.starts_with(&room));
        let stem = parser.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
        let folder = parser.replace(".rs", "/");
        let fuzzed = tests.into_iter().any(|path| {
            let text = std::fs::read_to_string(root().join(path)).unwrap_or_default();
            text.contains("proptest!")
                && (path.starts_with(&folder) || path == *parser || text.contains(stem))
        });
        if !fuzzed {
            bare.push(*parser);
        }
    }
    let figure = match bare.as_slice() {
        [] => format!("{} files", parsers.len()),
        bare => format!("without one: {}", bare.join(", ")),
    };
    Ok(vec![Line::of(bare.is_empty(), "property tests fuzz every parser", figure)])
}

fn is_parser(path: &str) -> bool {
    let stem = path.rsplit('/').next().unwrap_or_default();
    // The binary's own parsers read what its own nodes and its user write.
    path.contains("/src/")
        && !path.starts_with("crates/trine/")
        && matches!(stem, "codec.rs" | "frame.rs" | "frames.rs" | "resp.rs" | "ticket.rs" | "certificate.rs")
}

#[cfg(test)]
mod tests {
    use super::is_parser;

    #[test]
    fn parsers_are_known_by_their_names() {
        assert!(is_parser("crates/storage/src/wal/codec.rs"));
        assert!(!is_parser("crates/storage/src/wal.rs"));
    }
}
