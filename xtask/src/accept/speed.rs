//! The bench's promises. The table itself is written by `cargo xtask bench database`.

use super::Line;
use crate::bench::{Work, measure};
use crate::command::Trouble;

const WRITE_RATIO: f64 = 3.0;
const READ_RATIO: f64 = 4.0;
const PIPELINED_RATE: f64 = 40_000.0;

pub(super) fn thresholds() -> Result<Vec<Line>, Trouble> {
    let rows = measure()?;
    let lines = rows.iter().map(|row| {
        let ratio = row.trine.rate / row.etcd.rate;
        let figure = format!("Trine {}, etcd {}, Redis {}; ratio {ratio:.2}", row.trine, row.etcd, row.redis);
        match row.work {
            Work::ManyWriters => Line::of(
                ratio >= WRITE_RATIO,
                "200 connections unpipelined: at least 3 times etcd's put rate (goal 5)",
                figure,
            ),
            Work::OneWriter => Line::of(
                row.trine.p50 <= row.etcd.p50,
                "one connection: no slower than etcd (goal 0.6 ms median)",
                figure,
            ),
            Work::ManyReaders => Line::of(
                ratio >= READ_RATIO,
                "linearizable GET through any node, 200 connections: at least 4 times etcd's",
                figure,
            ),
            Work::Pipelined => Line::of(
                row.trine.rate >= PIPELINED_RATE,
                "-P 16 with 50 connections: at least 40,000 SET/s",
                figure,
            ),
        }
    });
    Ok(lines.collect())
}
