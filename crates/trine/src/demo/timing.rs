//! Where time goes: single requests, one after the other, each with the parts
//! that the owner reported, sorted by whether they met the owner or were
//! forwarded to it.

use std::net::SocketAddr;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::count_bar;
use crate::db::{Timing, split_timing};
use crate::failure::Failure;
use crate::resp::{Client, Value};

/// Requests of each kind through each node.
const SAMPLES: usize = 400;
/// Bytes of a measured value.
const VALUE_BYTES: usize = 256;

/// Longest time that is told apart, in microseconds: one minute.
const LONGEST_US: u64 = 60_000_000;

/// Median and 99th percentile in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Quantiles {
    /// Median.
    pub p50_us: u64,
    /// 99th percentile.
    pub p99_us: u64,
}

/// One kind of request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimingRow {
    /// `SET` or `GET`, of 256 bytes.
    pub command: &'static str,
    /// Whether the asked node passed it on to the owner.
    pub forwarded: bool,
    /// How many were measured.
    pub requests: u64,
    /// `T`.
    pub total: Quantiles,
    /// `T_r`, processing at the owner.
    pub processing: Quantiles,
    /// `T_c`, passing between nodes.
    pub passing: Quantiles,
}

/// Collects the timings of one kind of request.
#[derive(Debug)]
struct Collected {
    total: Histogram<u64>,
    processing: Histogram<u64>,
    passing: Histogram<u64>,
}

impl Collected {
    fn new() -> Self {
        let empty = || Histogram::new_with_bounds(1, LONGEST_US, 3).expect("the bounds are in order");
        Self { total: empty(), processing: empty(), passing: empty() }
    }

    fn add(&mut self, timing: Timing) {
        self.total.saturating_record(timing.total_us());
        self.processing.saturating_record(timing.processing_us);
        self.passing.saturating_record(timing.passing_us);
    }

    fn row(&self, command: &'static str, forwarded: bool) -> TimingRow {
        let quantiles = |of: &Histogram<u64>| Quantiles {
            p50_us: of.value_at_quantile(0.5),
            p99_us: of.value_at_quantile(0.99),
        };
        TimingRow {
            command,
            forwarded,
            requests: self.total.len(),
            total: quantiles(&self.total),
            processing: quantiles(&self.processing),
            passing: quantiles(&self.passing),
        }
    }
}

/// Measures writes and reads of small values through all doors.
///
/// # Errors
/// A node cannot be reached or refuses.
pub async fn measure(doors: &[SocketAddr]) -> Result<Vec<TimingRow>, Failure> {
    let bar = count_bar((doors.len() * SAMPLES * 2) as u64, "measuring T = T_r + T_c");
    let mut kinds = [Collected::new(), Collected::new(), Collected::new(), Collected::new()];
    let value = [b'v'; VALUE_BYTES];
    for door in doors {
        let mut client = Client::connect(*door).await.map_err(Failure::new)?;
        for at in 0..SAMPLES {
            let key = format!("timing:{at}");
            let write: [&[u8]; 4] = [b"TRINE.TIMING", b"SET", key.as_bytes(), &value];
            let timing = timed(&mut client, &write).await?;
            kinds[usize::from(timing.forwarded)].add(timing);
            let read: [&[u8]; 3] = [b"TRINE.TIMING", b"GET", key.as_bytes()];
            let timing = timed(&mut client, &read).await?;
            kinds[2 + usize::from(timing.forwarded)].add(timing);
            bar.inc(2);
        }
    }
    bar.finish_and_clear();
    let names = [("SET", false), ("SET", true), ("GET", false), ("GET", true)];
    Ok(kinds.iter().zip(names).map(|(kind, (command, forwarded))| kind.row(command, forwarded)).collect())
}

async fn timed(client: &mut Client, command: &[&[u8]]) -> Result<Timing, Failure> {
    let (reply, timing) = split_timing(client.command(command).await.map_err(Failure::new)?)?;
    match reply {
        Value::Error(text) => Err(Failure::new(format!("a measured request was refused: {text}"))),
        _ => Ok(timing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_all_parts() {
        let mut kind = Collected::new();
        for us in (1..=100).map(|step| step * 1_000) {
            kind.add(Timing { processing_us: us, passing_us: 2 * us, forwarded: true });
        }
        let row = kind.row("SET", true);
        assert_eq!(
            (row.requests, row.processing.p50_us / 1_000, row.processing.p99_us / 1_000),
            (100, 50, 99)
        );
        assert_eq!(row.total.p50_us / 1_000, 150);
    }
}
