//! `trine start`: one node of the product. Settings, lock, runtimes and
//! signals are here; what a node is made of is in [`crate::node`].

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{IsTerminal, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::FlockOperation;
use rustix::process::Signal;
use tracing_subscriber::EnvFilter;

use crate::cli::StartArgs;
use crate::config::Config;
use crate::failure::Failure;

/// File that a node keeps in its data directory once it belongs to a cluster.
pub const MEMBER_FILE: &str = "node/membership";
/// File whose lock says that a process uses the data directory.
const LOCK_FILE: &str = "lock";
/// Longest ticket that is read, in bytes.
const MAX_TICKET_BYTES: u64 = 4096;

/// Runs the node until it is told to stop.
///
/// # Errors
/// The settings or the data directory cannot be used, or the node fails.
pub fn run(args: &StartArgs) -> Result<(), Failure> {
    if let Some(parent) = args.parent {
        die_with(parent)?;
    }
    let config =
        Config::from_args(args).and_then(Config::validate).map_err(|error| Failure::new(error).usage())?;
    let _ticket = args.join.as_deref().map(read_ticket).transpose()?;
    log_to_standard_error(&config.log);
    make_private(&config.data)?;
    let _lock = lock(&config.data)?;
    Err(Failure::new("not wired yet"))
}

/// Asks the kernel to kill this process when the thread that started it ends.
fn die_with(parent: u32) -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(Failure::new)?;
    let actual = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().cast_unsigned());
    // It may have died before the kernel was asked.
    if actual == Some(parent) {
        Ok(())
    } else {
        Err(Failure::new("the process that started this one is gone"))
    }
}

/// Reads the ticket that `--join` points at.
fn read_ticket(source: &str) -> Result<String, Failure> {
    let text = if source == "-" {
        if std::io::stdin().is_terminal() {
            eprintln!("paste the ticket, then press Enter and Ctrl-D:");
        }
        read_bounded(std::io::stdin()).map_err(|error| Failure::new(format!("standard input: {error}")))
    } else if let Some(path) = source.strip_prefix('@') {
        let file = File::open(path).and_then(read_bounded);
        file.map_err(|error| Failure::new(format!("cannot read the ticket in {path}: {error}")))
    } else {
        Err(Failure::new("a ticket on the command line could be read by other users of this machine")
            .hint("put it into a file and use --join @FILE, or --join - to read it from standard input"))
    };
    let text = text.map_err(Failure::usage)?;
    match text.trim() {
        "" => Err(Failure::new(format!("there is no ticket in {source}"))
            .hint("print one with `trine ticket` on a node of the cluster")
            .usage()),
        ticket => Ok(ticket.to_owned()),
    }
}

fn read_bounded(source: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    source.take(MAX_TICKET_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

fn log_to_standard_error(filter: &str) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    // A second logger can only be a test's: it stays.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .try_init();
}

/// Makes the data directory, for its owner only: the node's key is in it.
fn make_private(data: &Path) -> Result<(), Failure> {
    DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(|error| {
        Failure::new(format!("cannot make the data directory {}: {error}", data.display()))
            .hint("name a folder that can be written with --data DIR")
    })
}

/// Locks the data directory for this process; the kernel unlocks it when the
/// process ends, however it ends.
fn lock(data: &Path) -> Result<File, Failure> {
    let path = data.join(LOCK_FILE);
    let cannot = |error: std::io::Error| Failure::new(format!("cannot use {}: {error}", path.display()));
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(cannot)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(Failure::new(format!("another process uses the data directory {}", data.display()))
                .hint("stop it, or give this node a directory of its own with --data DIR"))
        }
        Err(error) => Err(cannot(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_has_one_user_at_a_time() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let held = lock(dir.path()).expect("free");
        let refused = lock(dir.path()).expect_err("held");
        assert!(refused.to_string().contains("another process"), "{refused}");
        drop(held);
        lock(dir.path()).expect("free again");
    }
}
