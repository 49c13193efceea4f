//! Trine's own tooling, so that every check is one command on every machine:
//! `cargo xtask test`, `check`, `fix`, `tidy`, `bench TOPIC`, `accept TOPIC`.
//!
//! | file | what |
//! |---|---|
//! | [`tidy`] | the house rules, each one small function over the parsed tree |
//! | [`parts`] | `test`: every test of the project in parts, with one total |
//! | [`check`] | `check` and `fix`: what is quick to know before a push |
//! | [`bench`] | `bench`: side by side with what a user would pick instead |
//! | [`accept`] | `accept`: a topic's promises, one line and figure each |
//! | [`durability`] | what a traced node really does |
//! | [`conformance`] | the tests of client libraries, unmodified, against the product |
//! | [`faults`] | SIGKILL, SIGSTOP and cut links under load, and the audit of it |
//! | [`hosts`] | several hosts on one machine, for cutting links |
//! | [`redis`], [`nats`] | small clients that know only what they were told |
//! | [`servers`] | servers on free ports that end with us |
//! | [`command`] | commands with captured output and a deadline |

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod accept;
mod bench;
mod check;
mod command;
mod conformance;
mod durability;
mod faults;
mod hosts;
mod nats;
mod parts;
mod redis;
mod servers;
mod tidy;

/// Trine's tooling.
#[derive(Parser)]
#[command(name = "cargo xtask", disable_version_flag = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs every test, or the parts named, and prints one total.
    Test {
        /// Parts to run; all when none is named.
        #[arg(value_parser = clap::builder::PossibleValuesParser::new(parts::names()))]
        parts: Vec<String>,
    },
    /// Checks format, clippy, house rules, licences and advisories.
    Check,
    /// Measures side by side with what a user would pick instead.
    Bench {
        /// What to measure.
        #[arg(value_parser = ["database", "peers", "compute"])]
        topic: String,
        /// Of `compute` only works whose name holds this word.
        #[arg(long)]
        only: Option<String>,
        /// Of `compute` a fifth of each work: shows that all run, writes no page.
        #[arg(long)]
        brief: bool,
    },
    /// Prints PASS, FAIL or NOT RUN with its figure for each promise of a topic.
    Accept {
        /// Whose promises.
        #[arg(value_parser = accept::TOPICS)]
        topic: String,
        /// Only lines whose name holds this word.
        #[arg(long)]
        only: Option<String>,
        /// Also what takes long: ten minutes of full load, a clean clone.
        #[arg(long)]
        long: bool,
    },
    /// Runs the tests of others against the product.
    Conformance {
        /// Of what: NATS's clients, Python's executors.
        #[arg(value_parser = ["nats", "compute"])]
        topic: String,
        /// Only tests whose name holds this word.
        #[arg(long)]
        only: Option<String>,
        /// Only the share that every change has to pass.
        #[arg(long)]
        share: bool,
    },
    /// Formats, and applies what clippy can fix by itself.
    Fix,
    /// Checks the house rules that no compiler knows.
    Tidy {
        /// Check this checkout instead of the one xtask was built from.
        #[arg(long)]
        root: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Test { parts } => parts::run(&parts),
        Command::Check => check::check(),
        Command::Bench { topic, .. } if topic == "peers" => told(&bench::peers::peers()),
        Command::Bench { topic, only, brief } if topic == "compute" => {
            let part = if brief { bench::compute::Part::Fifth } else { bench::compute::Part::Whole };
            told(&bench::compute::compute(only.as_deref(), part))
        }
        Command::Bench { .. } => told(&bench::database()),
        Command::Accept { topic, only, long } => accept::accept(&topic, only.as_deref(), long),
        Command::Conformance { topic, only, share } => conformance::report(&topic, only.as_deref(), share),
        Command::Fix => check::fix(),
        Command::Tidy { root } => tidy::report(root.as_deref().unwrap_or(command::root())),
    };
    if outcome { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn told(outcome: &Result<(), command::Trouble>) -> bool {
    if let Err(trouble) = outcome {
        eprintln!("{trouble}");
    }
    outcome.is_ok()
}
