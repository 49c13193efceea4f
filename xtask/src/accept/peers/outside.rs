//! What others see, and what the tests of the rooms show.

use std::time::Duration;

use crate::accept::Line;
use crate::command::{Trouble, cargo, run};
use crate::conformance;
use crate::parts::simulator;
use crate::parts::{clients, crates};

/// How long the tests of one room may take.
const LIMIT: Duration = Duration::from_mins(15);

/// Seeds of the scenario about messages.
const MESSAGES_SEEDS: &str = "100";

/// A promise that tests of a room show: those whose name holds `filter`.
struct Shown {
    promise: &'static str,
    package: &'static str,
    /// Test binary, or none for the room's own.
    binary: Option<&'static str>,
    filter: &'static str,
}

const SECURITY: &[Shown] = &[
    Shown {
        promise: "an unknown key gets no application byte",
        package: "trine-transport",
        binary: None,
        filter: "an_unknown_key",
    },
    Shown {
        promise: "strangers who are silent, or make noise, get nothing and keep nobody out",
        package: "trine-transport",
        binary: None,
        filter: "tls::tests",
    },
    Shown { promise: "a revoked node is cut off", package: "trine-transport", binary: None, filter: "revok" },
    Shown {
        promise: "used, expired and foreign tickets admit nobody",
        package: "trine-cluster",
        binary: None,
        filter: "ticket",
    },
    Shown {
        promise: "a join that was overheard is worth nothing in another session",
        package: "trine-transport",
        binary: None,
        filter: "a_proof_holds_for_its_secret_session_and_joiner_only",
    },
    Shown {
        promise: "stolen and expired tokens, removed users: refused, and open logins end",
        package: "trine",
        binary: Some("login"),
        filter: "a_",
    },
    Shown {
        promise: "guesses are slowed for whoever guesses, and for nobody else",
        package: "trine",
        binary: Some("login"),
        filter: "whoever_guesses",
    },
    Shown {
        promise: "NATS door: a subscriber to `>` sees nothing that it has no right to",
        package: "trine-mesh",
        binary: None,
        filter: "sees_only_what_it_may",
    },
    Shown {
        promise: "NATS door: nobody gets in without the right password, or in silence",
        package: "trine-mesh",
        binary: None,
        filter: "nats::run::tests::nobody_gets_in",
    },
    Shown {
        promise: "NATS door: any bytes, cut anywhere, do not harm it",
        package: "trine-mesh",
        binary: None,
        filter: "nats::parser",
    },
    Shown {
        promise: "admin API: nothing but health without a credential",
        package: "trine",
        binary: Some("http"),
        filter: "without_a_credential",
    },
    Shown {
        promise: "admin API: guesses are slowed and bounded",
        package: "trine",
        binary: Some("http"),
        filter: "guesses",
    },
    Shown {
        promise: "admin API: Host and Origin of others are refused",
        package: "trine",
        binary: Some("http"),
        filter: "other_sites",
    },
    Shown {
        promise: "admin API: slow-loris is closed by a named limit",
        package: "trine",
        binary: Some("http"),
        filter: "slow_clients",
    },
    Shown {
        promise: "admin API: random bytes",
        package: "trine",
        binary: Some("http"),
        filter: "without_sense",
    },
];

/// The client library's own tests.
pub(super) fn conformance() -> Result<Vec<Line>, Trouble> {
    let promise = "at least 95 % of async-nats' own core tests pass";
    let (enough, figure) = conformance::verdict(95.0)?;
    Ok(vec![Line::of(enough, promise, figure)])
}

/// Unmodified clients in three languages.
pub(super) fn clients() -> Result<Vec<Line>, Trouble> {
    let promise = "unmodified nats-py, nats.js and nats.go";
    let count = clients::tests_named("nats")?;
    if count.report.contains("NOT RUN") {
        return Ok(vec![Line::not_run(promise, count.report)]);
    }
    Ok(vec![Line::of(count.failed == 0 && count.passed > 0, promise, count.report)])
}

/// Each attack as a test.
pub(super) fn security() -> Result<Vec<Line>, Trouble> {
    SECURITY.iter().map(shown).collect()
}

fn shown(promise: &Shown) -> Result<Line, Trouble> {
    let Shown { promise, package, binary, filter } = promise;
    let mut tests = cargo(&["test", "--quiet", "--package", package]);
    match binary {
        Some(binary) => tests.args(["--test", binary]),
        None => tests.arg("--lib"),
    };
    let finished = run(tests.arg(filter), LIMIT)?;
    let count = crates::counted(&finished);
    if count.passed + count.failed == 0 {
        return Ok(Line::not_run(promise, format!("no test of {package} is called so ({filter})")));
    }
    let figure = format!("{} passed, {} failed ({package}: {filter})", count.passed, count.failed);
    Ok(Line::of(count.failed == 0, promise, figure))
}

/// Bugs that the simulator must catch.
pub(super) fn planted() -> Result<Vec<Line>, Trouble> {
    let count = simulator::planted()?;
    Ok(vec![Line::of(count.failed == 0, "each planted bug is caught within 50 seeds", count.report)])
}

/// Programs on simulated nodes, and a node that is cut off at last.
pub(super) fn scenarios() -> Result<Vec<Line>, Trouble> {
    let mut command = cargo(&["run", "--quiet", "--package", "sim", "--"]);
    let finished = run(command.args(["--scenario", "messages", "--seeds", MESSAGES_SEEDS]), LIMIT)?;
    let promise = "simulated scenarios for interest and ordering, each in 100 seeds";
    Ok(vec![Line::of(finished.success, promise, finished.tail(if finished.success { 2 } else { 40 }))])
}
