//! Memory while many tasks are submitted: bounded, however many they are.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::short;
use crate::accept::{Experiment, Line};
use crate::bench::compute::{Nodes, own_memory_mb};
use crate::command::{Trouble, command, product, run};

pub(super) const EXPERIMENTS: &[Experiment] = &[short("memory", submission)];

/// Tasks, and bytes of the argument of each: more than what nodes may grow by.
const TASKS: u32 = 2_000_000;
const ARGUMENT: usize = 200;
/// What the client may take, in MB.
const CLIENT_MB: f64 = 32.0;
/// What any node may grow by, in MB: what it has not written to its disk yet,
/// and ranges at hand. The tasks alone are twice as much.
const NODE_MB: f64 = 256.0;
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(200);
/// Longest that submission may take.
const LIMIT: Duration = Duration::from_mins(3);

/// Submits tasks behind others that take all slots, and looks at memory.
fn submission() -> Result<Vec<Line>, Trouble> {
    let trine = product()?;
    let nodes = Nodes::start(&trine, 3)?;
    let data = &nodes.all[0].data;
    let submit = |words: &[&str]| {
        let mut submit = command(&trine, &["job", "submit", "--data"]);
        submit.arg(data).args(words);
        submit
    };
    let slots = std::thread::available_parallelism().map_or(1, usize::from) * nodes.all.len();
    let long: Vec<String> = (0..slots).map(|_| "300".to_owned()).collect();
    run(submit(&["--priority", "1", "--", "sleep", "{}", ":::"]).args(long), LIMIT)?.required()?;
    let memory = || nodes.pids().iter().map(|pid| own_memory_mb(&[*pid])).collect::<Vec<_>>();
    let before = memory();
    let mut lines = Command::new("seq");
    lines.args(["-f", &format!("%0{ARGUMENT}.0f"), &TASKS.to_string()]).stdout(Stdio::piped());
    let mut lines = Ended(lines.spawn().map_err(Trouble::at("seq"))?);
    let mut client = submit(&["--", "true", "{}"]);
    if let Some(lines) = lines.0.stdout.take() {
        client.stdin(lines);
    }
    let client = client.stdout(Stdio::null()).stderr(Stdio::null());
    let mut client = Ended(client.spawn().map_err(Trouble::at("trine job submit"))?);
    let (mut client_mb, mut grown_mb, begin) = (0.0_f64, 0.0_f64, Instant::now());
    let submitted = loop {
        if let Some(status) = client.0.try_wait().map_err(Trouble::at("trine job submit"))? {
            break status.success();
        }
        if begin.elapsed() > LIMIT {
            break false;
        }
        client_mb = client_mb.max(own_memory_mb(&[client.0.id()]));
        let grown = memory().iter().zip(&before).map(|(now, before)| now - before).fold(0.0, f64::max);
        grown_mb = grown_mb.max(grown);
        std::thread::sleep(LOOK);
    };
    let name = "two million tasks submitted in a stream: memory at client and nodes bounded";
    let figure = format!(
        "client {client_mb:.0} of {CLIENT_MB:.0} MB, a node +{grown_mb:.0} of {NODE_MB:.0} MB for {:.0} MB of arguments",
        f64::from(TASKS) / 1e6 * f64::from(u32::try_from(ARGUMENT).unwrap_or(u32::MAX)),
    );
    Ok(vec![Line::of(submitted && client_mb <= CLIENT_MB && grown_mb <= NODE_MB, name, figure)])
}

/// A process that does not outlive the look at it.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
