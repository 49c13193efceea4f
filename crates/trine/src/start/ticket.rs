//! Where the ticket comes from: a file or standard input, never the command
//! line, which other users of the machine can read.

use std::fs::File;
use std::io::{IsTerminal, Read};

use trine_transport::Ticket;

use crate::failure::Failure;

/// Longest ticket that is read, in bytes.
const MAX_TICKET_BYTES: u64 = 4096;

/// Reads the ticket that `--join` points at.
///
/// # Errors
/// There is none, or it is damaged.
pub(super) fn read_ticket(source: &str) -> Result<Ticket, Failure> {
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
        ticket => ticket.parse().map_err(|error| Failure::new(error).usage()),
    }
}

fn read_bounded(source: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    source.take(MAX_TICKET_BYTES).read_to_string(&mut text)?;
    Ok(text)
}
