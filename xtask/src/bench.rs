//! `cargo xtask bench database`: side by side, in one run on one machine, with
//! what a user would pick instead: three etcd members, and one Redis that syncs
//! before each answer. [`peers`] does the same for messages, [`compute`] for
//! jobs.

use std::fmt::Write as _;

use crate::command::{Trouble, installed, root};
use crate::servers::{Dev, Etcd, Redis};

pub(crate) mod compute;
mod load;
pub(crate) mod peers;

pub(crate) use load::Figure;

/// Where the table goes.
const PAGE: &str = "docs/bench/database.md";

/// What is asked of all systems alike.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// 200 connections, one write in flight on each.
    ManyWriters,
    /// One connection, one write in flight.
    OneWriter,
    /// 200 connections, one linearizable read in flight on each.
    ManyReaders,
    /// 50 connections, 16 writes in flight on each.
    Pipelined,
}

impl Work {
    const ALL: [Self; 4] = [Self::ManyWriters, Self::OneWriter, Self::ManyReaders, Self::Pipelined];

    pub(crate) fn connections(self) -> usize {
        match self {
            Self::ManyWriters | Self::ManyReaders => 200,
            Self::OneWriter => 1,
            Self::Pipelined => 50,
        }
    }

    pub(crate) fn pipeline(self) -> usize {
        if self == Self::Pipelined { 16 } else { 1 }
    }

    pub(crate) fn writes(self) -> bool {
        self != Self::ManyReaders
    }

    fn title(self) -> &'static str {
        match self {
            Self::ManyWriters => "SET, 200 connections",
            Self::OneWriter => "SET, 1 connection",
            Self::ManyReaders => "GET (linearizable), 200 connections",
            Self::Pipelined => "SET, 50 connections, 16 in flight on each",
        }
    }
}

/// One row: what each system did with the same work.
pub(crate) struct Row {
    pub(crate) work: Work,
    pub(crate) trine: Figure,
    pub(crate) etcd: Figure,
    pub(crate) redis: Figure,
}

/// Measures everything, one system after another for each kind of work.
pub(crate) fn measure() -> Result<Vec<Row>, Trouble> {
    let trine = installed()?;
    let generator = load::etcd_load()?;
    let redis = Redis::start()?;
    let etcd = Etcd::start()?;
    let dev = Dev::start(&trine, 3)?;
    let mut rows = Vec::new();
    for work in Work::ALL {
        eprintln!("{}: etcd", work.title());
        let etcd = load::etcd(&generator, &etcd.ports, work)?;
        eprintln!("{}: redis", work.title());
        let redis = load::redis(redis.port, work)?;
        eprintln!("{}: trine", work.title());
        // Not the node that starts everything: any node is as good as another.
        let trine = load::redis(dev.doors[1].port, work)?;
        rows.push(Row { work, trine, etcd, redis });
    }
    Ok(rows)
}

/// Measures, prints the table and writes the page.
pub(crate) fn database() -> Result<(), Trouble> {
    let busy = load_average();
    let rows = measure()?;
    let page = page(&rows, &busy);
    println!("{page}");
    let path = root().join(PAGE);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(Trouble::at(PAGE))?;
    }
    std::fs::write(&path, page).map_err(Trouble::at(PAGE))
}

/// The table with its method.
fn page(rows: &[Row], busy: &str) -> String {
    let mut page = String::from(include_str!("bench/method.md"));
    page.push_str("\n## Measured\n");
    let _ =
        writeln!(page, "{} {}. Load average of the machine before the run: {busy}.\n", machine(), rivals());
    page.push_str(
        "| work | Trine, 3 nodes | etcd, 3 members | Redis, 1 node | Trine : etcd | Trine : Redis |\n",
    );
    page.push_str("|---|---|---|---|---|---|\n");
    for row in rows {
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} |",
            row.work.title(),
            row.trine,
            row.etcd,
            row.redis,
            ratio(&row.trine, &row.etcd),
            ratio(&row.trine, &row.redis)
        );
    }
    page.push_str("\nRates are requests per second; in brackets median / 99th percentile in milliseconds.\n");
    page
}

fn ratio(ours: &Figure, other: &Figure) -> String {
    if other.rate > 0.0 { format!("{:.2}", ours.rate / other.rate) } else { "-".to_owned() }
}

/// What else the machine was doing; near zero is a fair run.
fn load_average() -> String {
    let averages = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    averages.split(' ').next().unwrap_or_default().to_owned()
}

/// Versions of what Trine is compared with.
fn rivals() -> String {
    let etcd = load::first_line("etcd", &["--version"]);
    let redis = load::first_line("redis-server", &["--version"]);
    let redis: Vec<&str> = redis.split(' ').take(3).collect();
    format!("{etcd}; {}", redis.join(" "))
}

/// Processor, cores and Trine's version.
fn machine() -> String {
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unnamed processor", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let commit = load::first_line("git", &["log", "-1", "--format=%h of %cs"]);
    format!("{cores} cores of {model}. Trine at {commit}.")
}

#[cfg(test)]
mod tests {
    use super::{Figure, Row, Work, page};

    #[test]
    fn the_page_states_ratios() {
        let figure = |rate| Figure { rate, p50: 1.0, p99: 2.0 };
        let row =
            Row { work: Work::ManyWriters, trine: figure(300.0), etcd: figure(100.0), redis: figure(200.0) };
        let page = page(&[row], "0.1");
        assert!(page.contains("| 3.00 | 1.50 |"), "{page}");
    }
}
