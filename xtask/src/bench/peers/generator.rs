//! Our load program on NATS's own Go client, and what it says.

use std::path::PathBuf;
use std::time::Duration;

use crate::command::{Trouble, command, root, run, target};

/// Measured seconds of one figure, after one of warm-up.
const SECONDS: u64 = 4;
/// How long one run of the program may take.
const LIMIT: Duration = Duration::from_mins(2);

/// What the load program does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// So many publish to one subject, so many get every message.
    Publish { publishers: usize, subscribers: usize, size: usize },
    /// One request of 16 bytes in flight, answered by an echo.
    Request,
    /// The same over a plain TCP connection.
    Tcp,
}

/// What one system did with one kind of work.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figure {
    /// Messages or requests per second.
    pub(crate) rate: f64,
    /// Median of requests, in microseconds.
    pub(crate) p50: f64,
    /// 99th percentile of requests, in microseconds.
    pub(crate) p99: f64,
}

impl Figure {
    /// For messages.
    pub(crate) fn as_rate(&self) -> String {
        format!("{:.0}", self.rate)
    }

    /// For requests.
    pub(crate) fn as_times(&self) -> String {
        format!("{:.1} / {:.1}", self.p50, self.p99)
    }
}

/// The load program, built.
pub(crate) struct Generator {
    binary: PathBuf,
}

impl Generator {
    /// Builds it.
    pub(crate) fn build() -> Result<Self, Trouble> {
        let binary = target().join("xtask/nats-load");
        let mut build = command("go", &["build", "-o"]);
        build.arg(&binary).arg(".").current_dir(root().join("xtask/nats-load"));
        run(&mut build, Duration::from_mins(10))?.required()?;
        Ok(Self { binary })
    }

    /// Runs it against the ports of those who send and of those who receive.
    pub(crate) fn run(&self, mode: Mode, (from, to): &(Vec<u16>, Vec<u16>)) -> Result<Figure, Trouble> {
        let urls = |ports: &[u16]| {
            let urls: Vec<String> = ports.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
            urls.join(",")
        };
        let mut load = command(&self.binary, &["-seconds", &SECONDS.to_string()]);
        load.args(["-publish", &urls(from), "-subscribe", &urls(to)]);
        match mode {
            Mode::Publish { publishers, subscribers, size } => {
                load.args(["-mode", "publish", "-publishers", &publishers.to_string()]);
                load.args(["-subscribers", &subscribers.to_string(), "-size", &size.to_string()]);
            }
            Mode::Request => {
                load.args(["-mode", "request"]);
            }
            Mode::Tcp => {
                load.args(["-mode", "tcp"]);
            }
        }
        let output = run(&mut load, LIMIT)?.required()?;
        figure(&output).ok_or_else(|| Trouble::Unexpected(format!("nats-load said: {output}")))
    }
}

/// What the program printed; none when something was lost.
fn figure(output: &str) -> Option<Figure> {
    let report: serde_json::Value = serde_json::from_str(output.trim()).ok()?;
    let number = |name: &str| report[name].as_f64();
    let complete = report["lost"].as_i64() == Some(0);
    let figure = Figure { rate: number("rate")?, p50: number("p50_us")?, p99: number("p99_us")? };
    complete.then_some(figure)
}

#[cfg(test)]
mod tests {
    use super::figure;

    #[test]
    fn a_run_that_lost_something_is_no_figure() {
        let line = |lost| format!("{{\"rate\":2.5,\"p50_us\":1,\"p99_us\":3,\"lost\":{lost}}}\n");
        assert_eq!(figure(&line(0)).map(|figure| (figure.rate, figure.p99)), Some((2.5, 3.0)));
        assert_eq!(figure(&line(1)), None);
        assert_eq!(figure("no JSON"), None);
    }
}
