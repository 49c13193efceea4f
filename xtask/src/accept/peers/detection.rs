//! How soon a crash is known: to a crowd in the simulator, with the product's
//! code and virtual time, and to three real processes. And what a broadcast to
//! a crowd costs.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use crate::accept::Line;
use crate::command::{Trouble, cargo, run};
use crate::faults::cluster::{Cluster, NODES};
use crate::servers::wait_for;

/// How long one run of the simulator may take.
const LIMIT: Duration = Duration::from_mins(20);
/// What is promised after a SIGKILL of a real process.
const KNOWN_WITHIN: Duration = Duration::from_millis(1_500);
/// Processes that are killed, each back before the next.
const KILLS: usize = 5;
/// How long nodes may take to meet, or to hear of a crash at all.
const GIVE_UP: Duration = Duration::from_secs(20);
/// Events that may wait for us.
const EVENTS_WAITING: usize = 1_000;
/// Copies of a message beside the first.
const REDUNDANCY: f64 = 0.1;
/// Rounds of repair after half of the nodes crashed.
const REPAIR_ROUNDS: usize = 3;
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
    let mut command = cargo(&["run", "--quiet", "--release", "--package", "sim", "--"]);
    run(command.args(words), LIMIT)?.required()
}

/// The time until all know of a crash, as the median of all crashes.
fn crash(members: u64, crashes: u64, limit: f64, beside: &str) -> Result<Line, Trouble> {
    let (members, crashes) = (members.to_string(), crashes.to_string());
    let words = ["members", "--members", &members, "--seeds", "3", "--crashes", &crashes, "--only-product"];
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
    let output = simulator(&["members", "--members", "128", "--seeds", "1", "--slow", "grid"])?;
    let sums: Vec<(String, f64)> = output
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.split_once(", all")?;
            Some((name.trim().to_owned(), *numbers(rest).first()?))
        })
        .collect();
    let of = |name: &str| sums.iter().find(|(found, _)| found.contains(name));
    let (Some((product, ours)), Some((plain, theirs))) = (of("Lifeguard"), of("the same times")) else {
        return Err(Trouble::Unexpected(format!("sim members said: {output}")));
    };
    let name = "with slow members at most 2 % of plain SWIM's false positives about healthy ones";
    let share = ours / theirs * 100.0;
    let figure = format!("{product}: {ours}, {plain}: {theirs} ({share:.2} %)");
    Ok(vec![Line::of(*theirs > 0.0 && *ours <= theirs * SHARE, name, figure)])
}

/// Ten thousand members over a partial view.
pub(super) fn broadcast() -> Result<Vec<Line>, Trouble> {
    let output = simulator(&["broadcast", "--members", "10000", "--seeds", "2"])?;
    let mut redundancy = Vec::new();
    let mut late = Vec::new();
    for line in output.lines() {
        if let Some((_, rest)) = line.split_once("redundancy (RMR) ") {
            redundancy.extend(rest.split_whitespace().filter_map(|word| word.parse::<f64>().ok()).take(2));
        }
        if let Some((_, rest)) = line.split_once("half crash; sent ") {
            let words: Vec<f64> =
                rest.split_whitespace().filter_map(|word| word.parse::<f64>().ok()).collect();
            let [round, _, finally] = words[..] else { continue };
            if round >= f64::from(u32::try_from(REPAIR_ROUNDS).unwrap_or(u32::MAX)) {
                late.push(finally);
            }
        }
    }
    let all = |list: &[f64]| list.iter().map(f64::to_string).collect::<Vec<_>>().join(", ");
    let low = !redundancy.is_empty() && redundancy.iter().all(|rate| *rate <= REDUNDANCY);
    let reached = !late.is_empty() && late.iter().all(|share| *share >= 100.0);
    Ok(vec![
        Line::of(low, "broadcast to 10,000 nodes: redundancy at most 0.1", all(&redundancy)),
        Line::of(
            reached,
            "broadcast after half of 10,000 nodes crashed: all reached from the third round on",
            format!("{} % of the survivors", all(&late)),
        ),
    ])
}

/// Somebody who watches a node's members.
struct Watcher {
    child: Child,
    failed: Receiver<Instant>,
}

impl Watcher {
    fn start(trine: &Path, data: &Path, victim: u64) -> Result<Self, Trouble> {
        let mut command = Command::new(trine);
        command.args(["peer", "watch", "--json", "--data"]).arg(data);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(Trouble::at("trine peer watch"))?;
        let output = child.stdout.take();
        let (tell, failed) = sync_channel(EVENTS_WAITING);
        std::thread::spawn(move || output.map(|output| follow(BufReader::new(output), victim, &tell)));
        Ok(Self { child, failed })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tells when the victim has failed.
fn follow(output: impl BufRead, victim: u64, tell: &SyncSender<Instant>) {
    for line in output.lines().map_while(Result::ok) {
        let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        if event["event"] == "fail" && event["number"].as_u64() == Some(victim) {
            // Nobody waits any more once the first was told.
            let _ = tell.try_send(Instant::now());
        }
    }
}

/// SIGKILL of one of three real processes.
pub(super) fn real() -> Result<Vec<Line>, Trouble> {
    let mut cluster = Cluster::start()?;
    let mut times = Vec::new();
    for trial in 0..KILLS {
        let victim = 1 + trial % NODES;
        times.push(one_kill(&mut cluster, victim)?);
        cluster.restart(victim)?;
        cluster.wait_until_whole()?;
    }
    times.sort_unstable();
    let slowest = times.last().copied().unwrap_or(Duration::MAX);
    let median = times.get(times.len() / 2).copied().unwrap_or(Duration::MAX);
    let name = "a SIGKILL of one of three nodes is known to all within 1.5 s";
    let figure = format!("median {median:.2?}, slowest {slowest:.2?} of {KILLS}");
    Ok(vec![Line::timed(slowest <= KNOWN_WITHIN, name, figure)])
}

/// From the kill until both others have told those who watch them.
fn one_kill(cluster: &mut Cluster, victim: usize) -> Result<Duration, Trouble> {
    if !wait_for(GIVE_UP, || (1..=NODES).all(|n| has_met(cluster, n))) {
        return Err(Trouble::Unexpected("three nodes did not meet".to_owned()));
    }
    let number = u64::try_from(victim).unwrap_or(0);
    let others = (1..=NODES).filter(|n| *n != victim);
    let watchers: Result<Vec<_>, _> =
        others.map(|n| Watcher::start(cluster.trine(), &cluster.data(n), number)).collect();
    let watchers = watchers?;
    // Until those who watch are connected; nothing says when.
    std::thread::sleep(Duration::from_secs(1));
    let begin = Instant::now();
    cluster.kill(victim);
    let mut known = begin;
    for watcher in &watchers {
        let told = watcher.failed.recv_timeout(GIVE_UP);
        known = known.max(told.map_err(|_| Trouble::Unexpected("a node never heard of it".to_owned()))?);
    }
    Ok(known - begin)
}

/// Whether a node has measured both others.
fn has_met(cluster: &Cluster, n: usize) -> bool {
    let Ok(list) = cluster.ask(n, &["peer", "ls", "--json"]) else { return false };
    let list = list.as_array().cloned().unwrap_or_default();
    let known = |peer: &serde_json::Value| {
        peer["state"] == "alive" && (peer["asked"] == true || peer["rtt_us"].as_u64().is_some())
    };
    list.len() == NODES && list.iter().all(known)
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
