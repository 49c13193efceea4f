//! Trine's own tooling, so that every check is one command on every machine:
//! `cargo xtask test`, `check`, `fix`, `tidy`, `bench TOPIC`, `accept TOPIC`.
//!
//! | file | what |
//! |---|---|
//! | [`tidy`] | the house rules, each one small function over the parsed tree |
//! | [`parts`] | `test`: every test of the project in parts, with one total |
//! | [`check`] | `check` and `fix`: what is quick to know before a push |
//! | [`command`] | commands with captured output and a deadline |

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod check;
mod command;
mod parts;
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
        Command::Fix => check::fix(),
        Command::Tidy { root } => tidy::report(root.as_deref().unwrap_or(command::root())),
    };
    if outcome { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
