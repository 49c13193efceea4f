//! Trine's own tooling, so that every check is one command on every machine:
//! `cargo xtask test`, `check`, `fix`, `tidy`, `bench TOPIC`, `accept TOPIC`.
//!
//! | folder | what |
//! |---|---|
//! | [`tidy`] | the house rules, each one small function over the parsed tree |

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    /// Checks the house rules that no compiler knows.
    Tidy {
        /// Check this checkout instead of the one xtask was built from.
        #[arg(long)]
        root: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Tidy { root } => tidy::report(root.as_deref().unwrap_or(project())),
    };
    if outcome { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The checkout that this binary was built from.
fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the workspace")
}
