//! The load generators: redis-benchmark for what speaks Redis's protocol, our
//! small Go program on etcd's own client for etcd.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Work;
use crate::command::{Trouble, command, run, target};

/// Seconds that one measurement takes, about.
const SECONDS: f64 = 5.0;
/// Requests of the short run that finds out how many make [`SECONDS`].
const PROBE: u64 = 4_000;

/// What one system did with one kind of work.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figure {
    /// Requests per second.
    pub(crate) rate: f64,
    /// Median in milliseconds.
    pub(crate) p50: f64,
    /// 99th percentile in milliseconds.
    pub(crate) p99: f64,
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} ({:.2} / {:.2})", self.rate, self.p50, self.p99)
    }
}

/// redis-benchmark against one port.
pub(crate) fn redis(port: u16, work: Work) -> Result<Figure, Trouble> {
    let probe = redis_benchmark(port, work, PROBE)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is positive and small"
    )]
    let requests = (probe.rate * SECONDS) as u64;
    redis_benchmark(port, work, requests.max(PROBE))
}

fn redis_benchmark(port: u16, work: Work, requests: u64) -> Result<Figure, Trouble> {
    let arguments = [
        "-p".to_owned(),
        port.to_string(),
        "--csv".to_owned(),
        "-d".to_owned(),
        "256".to_owned(),
        "-r".to_owned(),
        "1000000".to_owned(),
        "-n".to_owned(),
        requests.to_string(),
        "-c".to_owned(),
        work.connections().to_string(),
        "-P".to_owned(),
        work.pipeline().to_string(),
        "-t".to_owned(),
        if work.writes() { "set" } else { "get" }.to_owned(),
    ];
    let mut command = command("redis-benchmark", &[]);
    let output = run(command.args(arguments), Duration::from_mins(5))?.required()?;
    csv(&output).ok_or_else(|| Trouble::Unexpected(format!("redis-benchmark said: {output}")))
}

/// `"SET","rps","avg","min","p50","p95","p99","max"`.
fn csv(output: &str) -> Option<Figure> {
    let line = output.lines().find(|line| line.starts_with("\"SET\"") || line.starts_with("\"GET\""))?;
    let numbers: Vec<f64> =
        line.split(',').skip(1).filter_map(|cell| cell.trim_matches('"').parse().ok()).collect();
    Some(Figure { rate: *numbers.first()?, p50: *numbers.get(3)?, p99: *numbers.get(5)? })
}

/// Builds the load generator for etcd.
pub(crate) fn etcd_load() -> Result<PathBuf, Trouble> {
    let binary = target().join("xtask/etcd-load");
    let mut build = command("go", &["build", "-o"]);
    build.arg(&binary).arg(".").current_dir(crate::command::root().join("xtask/etcd-load"));
    run(&mut build, Duration::from_mins(10))?.required()?;
    Ok(binary)
}

/// The best of three ways of loading etcd.
pub(crate) fn etcd(generator: &Path, ports: &[u16], work: Work) -> Result<Figure, Trouble> {
    let clients = work.connections() * work.pipeline();
    let all = ports;
    let one = &ports[..1];
    let ways: &[(&[u16], usize)] = if clients == 1 {
        &[(one, 1), (&ports[1..2], 1), (&ports[2..3], 1)]
    } else {
        &[(all, work.connections()), (one, work.connections()), (all, 8)]
    };
    let mut best: Option<Figure> = None;
    for (ports, connections) in ways {
        let figure = etcd_once(generator, ports, *connections, clients, work.writes())?;
        if best.is_none_or(|best| figure.rate > best.rate) {
            best = Some(figure);
        }
    }
    best.ok_or_else(|| Trouble::Unexpected("etcd was not measured".to_owned()))
}

fn etcd_once(
    generator: &Path,
    ports: &[u16],
    connections: usize,
    clients: usize,
    writes: bool,
) -> Result<Figure, Trouble> {
    let endpoints: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let mut load = command(generator, &["-operation", if writes { "put" } else { "get" }]);
    load.args(["-endpoints", &endpoints.join(","), "-seconds", &SECONDS.to_string()]);
    load.args(["-connections", &connections.to_string(), "-clients", &clients.to_string()]);
    let output = run(&mut load, Duration::from_mins(2))?.required()?;
    let broken = || Trouble::Unexpected(format!("etcd-load said: {output}"));
    let report: serde_json::Value = serde_json::from_str(output.trim()).map_err(|_| broken())?;
    let number = |name: &str| report[name].as_f64().ok_or_else(broken);
    if number("errors")? > 0.0 {
        return Err(broken());
    }
    Ok(Figure { rate: number("rate")?, p50: number("p50_ms")?, p99: number("p99_ms")? })
}

/// First line of what a command says; empty when it cannot.
pub(crate) fn first_line(program: &str, arguments: &[&str]) -> String {
    let finished = run(&mut command(program, arguments), Duration::from_secs(10));
    finished.ok().and_then(|finished| finished.output.lines().next().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Figure, csv};

    #[test]
    fn the_figures_of_redis_benchmark_are_understood() {
        let output = "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\"p95_latency_ms\",\"p99_latency_ms\",\"max_latency_ms\"\n\"SET\",\"1000.50\",\"1.0\",\"0.5\",\"0.9\",\"2.0\",\"3.0\",\"4.0\"\n";
        assert_eq!(csv(output), Some(Figure { rate: 1000.5, p50: 0.9, p99: 3.0 }));
    }
}
