//! The planted bugs: a fixed list of mistakes that a replicated database can
//! have, each compiled into its room under `cfg(trine_planted)` and switched
//! on by name. A simulator that does not find them would not find others.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use tokio::time::Instant;

use crate::fleet::run_all;
use crate::job::Job;
use crate::kind::Kind;
use crate::scenario::Scenario;

/// One planted bug.
#[derive(Debug, Clone, Copy)]
pub struct Bug {
    /// Its name.
    pub name: &'static str,
    /// The scenario that has to find it.
    pub scenario: Scenario,
    /// The kind of node that has it.
    pub kind: Kind,
    /// What is wrong.
    pub about: &'static str,
}

const fn bug(name: &'static str, scenario: Scenario, about: &'static str) -> Bug {
    Bug { name, scenario, kind: Kind::Bare, about }
}

/// The fixed list.
pub const BUGS: &[Bug] = &[
    bug(
        trine_storage::planted::ACK_BEFORE_SYNC,
        Scenario::Register,
        "the log acknowledges entries before the sync that covers them",
    ),
    bug(
        trine_replication::planted::READ_WITHOUT_QUORUM,
        Scenario::Register,
        "a leader answers reads without asking a quorum whether it still leads",
    ),
    bug(
        trine_replication::planted::VOTE_NOT_PERSISTED,
        Scenario::Register,
        "a vote is promised without being written down",
    ),
    bug(
        trine_replication::planted::DEDUPE_SKIPPED,
        Scenario::Counter,
        "a command that arrives twice is executed twice",
    ),
    bug(
        trine_replication::planted::LEADER_RESTORE_ON,
        Scenario::Register,
        "a restarted leader leads on without an election",
    ),
    bug(
        trine_replication::planted::STALE_MEMBERSHIP,
        Scenario::Membership,
        "a follower does not hear of membership changes after its start",
    ),
    Bug {
        kind: Kind::Whole, // the database is above what bare nodes have
        ..bug(
            trine_database::planted::EXPIRY_BY_LOCAL_CLOCK,
            Scenario::Register,
            "a read decides by the leader's clock whether a key has expired",
        )
    },
    bug(
        trine_mesh::planted::GROUP_SERVED_TWICE,
        Scenario::Messages,
        "a group's message goes to a member at another node though one here took it",
    ),
    bug(
        trine_mesh::planted::INTEREST_NOT_RETOLD,
        Scenario::Messages,
        "a broken flow goes on telling changes as if nothing had been lost",
    ),
    bug(
        trine_mesh::planted::NEWEST_MESSAGE_FIRST,
        Scenario::Messages,
        "what waits for another node leaves newest first",
    ),
    bug(
        trine_compute::planted::RANGE_LOST,
        Scenario::Jobs,
        "a master forgets the ranges after a job's first",
    ),
    bug(
        trine_compute::planted::RESULT_COMMITTED_TWICE,
        Scenario::Jobs,
        "a second result of a task is committed, too",
    ),
    bug(
        trine_compute::planted::STALE_ATTEMPT_COUNTS,
        Scenario::Jobs,
        "the master commits the result of an attempt that it had given up",
    ),
];

/// Whether this build has the bugs in it.
pub const BUILT_IN: bool = cfg!(trine_planted);

/// Switches bug `name` on in the room that has it, for the whole process.
///
/// # Errors
/// When there is no such bug, or none at all in this build.
pub fn activate(name: &str) -> Result<(), String> {
    if !BUILT_IN {
        return Err("this build has no planted bugs: build with --cfg trine_planted".to_owned());
    }
    if !BUGS.iter().any(|bug| bug.name == name) {
        return Err(format!("no planted bug {name:?}; `cargo run -p sim -- bugs` lists them"));
    }
    choose(Some(name));
    Ok(())
}

fn choose(name: Option<&str>) {
    trine_types::planted::set(name);
}

/// What `seeds` of one scenario found.
#[derive(Debug, Clone)]
struct Finding {
    /// The first seed that failed and the property that it violates.
    failure: Option<(u64, String)>,
    /// How many seeds ran until then.
    seeds: u64,
    /// How long that took, in seconds.
    seconds: f64,
}

/// Checks the list, or only bug `only`: each is caught within `within` seeds,
/// and the same seeds pass without it.
#[must_use]
pub fn check_all(only: Option<&str>, within: u64, threads: usize) -> ExitCode {
    if !BUILT_IN {
        return build_and_check(only, within, threads);
    }
    let mut clean: BTreeMap<(Scenario, &str), Finding> = BTreeMap::new();
    let (mut caught, mut missed) = (0, 0);
    for bug in BUGS.iter().filter(|bug| only.is_none_or(|name| name == bug.name)) {
        choose(Some(bug.name));
        let with = first_failure(bug, within, threads);
        choose(None);
        let without = clean
            .entry((bug.scenario, bug.kind.name()))
            .or_insert_with(|| first_failure(bug, within, threads));
        let verdict = match (&with.failure, &without.failure) {
            (Some(_), None) => "caught",
            (None, _) => "MISSED",
            (_, Some(_)) => "UNCLEAR",
        };
        caught += u64::from(verdict == "caught");
        missed += u64::from(verdict != "caught");
        println!("{verdict:<8} {:<24} {}", bug.name, told(bug, &with));
        if let Some((seed, what)) = &without.failure {
            println!("         without the bug, seed {seed} fails too: {what}");
        }
    }
    for ((scenario, kind), finding) in &clean {
        let (seeds, seconds) = (finding.seeds, finding.seconds);
        println!("clean    {scenario} on {kind} nodes: {seeds} seeds without a bug in {seconds:.0} s");
    }
    println!("{caught} of {} planted bugs caught within {within} seeds", caught + missed);
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How a bug was found, on one line.
fn told(bug: &Bug, with: &Finding) -> String {
    let place = format!("{} on {} nodes", bug.scenario, bug.kind);
    match &with.failure {
        Some((seed, what)) => format!("{place}, seed {seed} after {:.0} s: {what}", with.seconds),
        None => format!("{place}: not within {} seeds, {:.0} s", with.seeds, with.seconds),
    }
}

/// Runs seeds until one fails.
fn first_failure(bug: &Bug, within: u64, threads: usize) -> Finding {
    let jobs: Vec<_> = (0..within).map(|seed| Job { seed, scenario: bug.scenario, print: false }).collect();
    let started = Instant::now();
    let mut finding = Finding { failure: None, seeds: 0, seconds: 0.0 };
    run_all(
        &jobs,
        threads,
        |job| bug.kind.run(job),
        |report| {
            finding.seeds += 1;
            if let Err(failure) = &report.result {
                finding.failure =
                    Some((report.seed, format!("{:?} at {} ms", failure.property, failure.at_ms)));
            }
            finding.failure.is_none()
        },
    );
    finding.seconds = started.elapsed().as_secs_f64();
    finding
}

/// Builds the simulator with the bugs in it and lets that one check.
fn build_and_check(only: Option<&str>, within: u64, threads: usize) -> ExitCode {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let status = Command::new(cargo)
        .env("RUSTFLAGS", "--cfg tokio_unstable --cfg trine_planted")
        .env("CARGO_TARGET_DIR", target.join("planted"))
        .args(["run", "--quiet", "--package", "sim", "--", "--threads", &threads.to_string()])
        .args(only.map(|name| ["--planted", name]).iter().flatten())
        .args(["planted", "--within", &within.to_string()])
        .status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cannot run cargo: {error}");
            ExitCode::from(2)
        }
    }
}
