//! The planted bugs: a fixed list of mistakes that a replicated database can
//! have, each compiled into its room under `cfg(trine_planted)` and switched
//! on by name. A simulator that does not find them would not find others.

use std::process::{Command, ExitCode};

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
    /// What is wrong.
    pub about: &'static str,
}

const fn bug(name: &'static str, scenario: Scenario, about: &'static str) -> Bug {
    Bug { name, scenario, about }
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
    bug(
        trine_database::planted::EXPIRY_BY_LOCAL_CLOCK,
        Scenario::Register,
        "a read decides by the leader's clock whether a key has expired",
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

/// Checks the whole list: each bug is caught within `within` seeds, and the
/// same seeds pass without it.
#[must_use]
pub fn check_all(kind: Kind, within: u64, threads: usize) -> ExitCode {
    if !BUILT_IN {
        return build_and_check(kind, within, threads);
    }
    let mut missed = 0;
    for bug in BUGS {
        choose(Some(bug.name));
        let caught = first_failure(kind, bug.scenario, within, threads);
        choose(None);
        let clean = first_failure(kind, bug.scenario, within, threads);
        let verdict = match (&caught, &clean) {
            (Some(_), None) => "caught",
            (None, _) => "MISSED",
            (_, Some(_)) => "UNCLEAR",
        };
        missed += u64::from(verdict != "caught");
        let by = caught
            .map_or(format!("not within {within} seeds"), |(seed, what)| format!("seed {seed}: {what}"));
        println!("{verdict:<8} {:<24} {:<12} {by}", bug.name, bug.scenario);
        if let Some((seed, what)) = clean {
            println!("         without the bug, seed {seed} fails too: {what}");
        }
    }
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The first seed that fails and the property that it violates.
fn first_failure(kind: Kind, scenario: Scenario, within: u64, threads: usize) -> Option<(u64, String)> {
    let jobs: Vec<_> = (0..within).map(|seed| Job { seed, scenario, print: false }).collect();
    let mut found = None;
    run_all(
        &jobs,
        threads,
        |job| kind.run(job),
        |report| {
            if let Err(failure) = &report.result {
                found = Some((report.seed, format!("{:?} at {} ms", failure.property, failure.at_ms)));
            }
            found.is_none()
        },
    );
    found
}

/// Builds the simulator with the bugs in it and lets that one check.
fn build_and_check(kind: Kind, within: u64, threads: usize) -> ExitCode {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .env("RUSTFLAGS", "--cfg tokio_unstable --cfg trine_planted")
        .env("CARGO_TARGET_DIR", "target/planted")
        .args(["run", "--quiet", "--package", "sim", "--", "--nodes", kind.name()])
        .args(["--threads", &threads.to_string(), "planted", "--within", &within.to_string()])
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
