//! `trine demo`: what Trine promises, shown on real input in a minute or two.
//! Three node processes in a temporary folder store real files, read them back
//! through the other nodes, show where time goes, send each other messages, lose
//! a leader under load, see who knew when, and prove that nothing acknowledged
//! was lost.
//!
//! | file | what |
//! |---|---|
//! | [`input`] | which files |
//! | [`files`] | store through one node, read back through others, compare |
//! | [`timing`] | `T = T_r + T_c`, at the owner and forwarded |
//! | [`meeting`], [`messenger`] | messages between all nodes, `T = T_c + T_m` |
//! | [`words`], [`tally`] | word count on all nodes, one killed midway, `T = T_a + T_c` |
//! | [`ledger`] | what a client may conclude from answers and silence; pure |
//! | [`load`] | steady writes and increments, and the audit after them |
//! | [`failover`] | the kill, the outage, the restart, catching up |
//! | [`departure`] | when each node knew of the kill |
//! | [`summary`] | the verdict |

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use rustix::process::Pid;

use crate::cli::DemoArgs;
use crate::dev::StopSignal;
use crate::failure::Failure;
use crate::local::{self, NodeProcess, NodeSpec};
use summary::Summary;

pub mod departure;
pub mod failover;
pub mod files;
pub mod input;
pub mod ledger;
pub mod load;
pub mod meeting;
pub mod messenger;
pub mod summary;
pub mod tally;
pub mod timing;
pub mod words;

/// What the name of the temporary folder begins with; the process id follows.
const FOLDER_PREFIX: &str = "trine-demo-";
/// Nodes of the demo.
const NODES: u16 = 3;
/// How long replicas may take to be where they should be.
const SETTLE_LIMIT: Duration = Duration::from_mins(1);

/// Runs the demo. The temporary folder and the nodes are gone afterwards,
/// also after a failure or Ctrl-C.
///
/// # Errors
/// Something did not work, or a check did not hold.
pub async fn run(args: &DemoArgs, json: bool) -> Result<(), Failure> {
    let mut stop = StopSignal::new()?;
    remove_leftovers();
    let folder = tempfile::Builder::new()
        .prefix(&format!("{FOLDER_PREFIX}{}-", std::process::id()))
        .tempdir()
        .map_err(|error| Failure::new(format!("cannot make a temporary folder: {error}")))?;
    let mut nodes = Vec::new();
    let outcome = tokio::select! {
        biased;
        () = stop.wait() => Err(Failure::new("stopped before the end; nothing was left behind")),
        outcome = show(args, folder.path(), &mut nodes) => outcome,
    };
    local::kill_all(&mut nodes).await;
    let path = folder.path().to_owned();
    folder.close().map_err(|error| Failure::new(format!("cannot remove {}: {error}", path.display())))?;
    let summary = outcome?;
    if json {
        println!("{}", serde_json::to_string(&summary.verdict()).map_err(Failure::new)?);
    } else {
        print!("{}", summary.text());
    }
    match summary.failed() {
        failed if failed.is_empty() => Ok(()),
        failed => Err(Failure::new(format!("checks that did not hold: {}", failed.join("; ")))),
    }
}

/// Removes what a demo left behind that was itself killed by SIGKILL.
fn remove_leftovers() {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(FOLDER_PREFIX)?.split_once('-'));
        let owner = owner.and_then(|(pid, _)| pid.parse().ok()).and_then(Pid::from_raw);
        if owner.is_some_and(|pid| rustix::process::test_kill_process(pid).is_err()) {
            // Somebody else's, perhaps: then it stays.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

async fn show(
    args: &DemoArgs,
    folder: &std::path::Path,
    nodes: &mut Vec<NodeProcess>,
) -> Result<Summary, Failure> {
    let items = input::collect(args)?;
    let began = tokio::time::Instant::now();
    start(folder, nodes).await?;
    let started = began.elapsed();
    let pids = nodes.iter().map(|node| node.pid).collect();
    let doors: Vec<_> = nodes.iter().map(|node| node.spec.redis).collect();

    let stored = files::store(items.clone(), doors[0]).await?;
    let read_back = files::read_back(&stored, &doors[1..]).await?;
    let timing = timing::measure(&doors).await?;
    let mut messages = Vec::new();
    for node in nodes.iter() {
        let status = node.admin()?.status().await?;
        messages.push(status.doors.nats.parse().map_err(Failure::new)?);
    }
    let meeting = meeting::show(&messages).await?;
    let words = words::show(&items, folder, nodes).await?;
    let failover = failover::show(nodes, Duration::from_secs(args.load.into())).await?;
    eprintln!("stopping the nodes");
    local::stop_all(nodes).await;
    Ok(Summary {
        pids,
        started_ms: millis(started),
        stored: stored.report,
        read_back,
        timing,
        meeting,
        words,
        failover,
    })
}

async fn start(folder: &std::path::Path, nodes: &mut Vec<NodeProcess>) -> Result<(), Failure> {
    let bar = spinner("starting three nodes");
    let ports = local::free_ports(usize::from(NODES) * 2)?;
    let specs = ports.chunks_exact(2).zip(1..);
    let spec = |(ports, n): (&[u16], u16)| NodeSpec {
        partitions: Some(local::PARTITIONS_PER_NODE * NODES),
        ..NodeSpec::local(folder, n, ports[0], ports[1])
    };
    let specs = specs.map(spec).collect();
    local::start_cluster(specs, nodes).await?;
    bar.set_message("waiting until every partition has three replicas");
    local::wait_settled(nodes, SETTLE_LIMIT, 1).await?;
    bar.finish_and_clear();
    for node in nodes.iter() {
        eprintln!("node {}  pid {:<7}  redis {}", node.spec.n, node.pid, node.spec.redis);
    }
    Ok(())
}

/// A bar that counts bytes; invisible where there is no terminal.
pub(crate) fn bytes_bar(total: u64, what: &str) -> ProgressBar {
    eprintln_without_terminal(what);
    let template = "{msg:36} {bar:28} {bytes:>10} of {total_bytes:10} {bytes_per_sec:>12} {eta:>4}";
    styled(ProgressBar::new(total), template, what)
}

/// A bar that counts things.
pub(crate) fn count_bar(total: u64, what: &str) -> ProgressBar {
    eprintln_without_terminal(what);
    styled(ProgressBar::new(total), "{msg:36} {bar:28} {pos:>10} of {len:10} {eta:>4}", what)
}

/// Something that takes a moment.
pub(crate) fn spinner(what: &str) -> ProgressBar {
    eprintln_without_terminal(what);
    let bar = styled(ProgressBar::new_spinner(), "{spinner} {msg}", what);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn styled(bar: ProgressBar, template: &str, what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style).with_message(what.to_owned())
}

fn eprintln_without_terminal(what: &str) {
    if !console_is_visible() {
        eprintln!("{what}");
    }
}

fn console_is_visible() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stderr())
}

/// Milliseconds of a duration, for reports.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Microseconds of a duration, for reports.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Microseconds as milliseconds with two digits.
pub(crate) fn milliseconds(microseconds: u64) -> String {
    format!("{}.{:02} ms", microseconds / 1_000, microseconds % 1_000 / 10)
}
