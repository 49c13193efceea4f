//! Golden logs: the logs of real groups, recorded with a released version of
//! the rules and kept in `sim/golden/VERSION`. Today's code must make the same
//! rows of them, whatever it has learned since.
//!
//! ```text
//! # a comment
//! digest HEX              of the rows after the last entry
//! TERM INDEX HEX          an entry of the group's log, in order
//! ```
//!
//! | what | how |
//! |---|---|
//! | record | `sim/golden/record.sh`: a cluster, work of every kind, then [`record`] |
//! | check | the tests of this file |

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use trine_cluster::machine::MetaMachine;
use trine_compute::machine::JobsMachine;
use trine_replication::{Machine, replay};
use trine_storage::{Driver, LogEntry, LogPosition, OrderedStore, RealDisk, StateStore, Wal, WalConfig};
use trine_types::GroupId;

/// The groups whose logs are kept; one partition stands for all.
const GROUPS: [GroupId; 3] = [GroupId::META, GroupId::JOBS, GroupId::partition(0)];
/// Entries of one transaction, as a replica that catches up applies them.
const RUN: usize = 256;
/// Bytes that are read from a log at once.
const READ_BYTES: usize = 1 << 20;

/// What a file of this kind says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoldenLog {
    /// Of the rows after the last entry.
    pub digest: u64,
    /// From the group's first entry on.
    pub entries: Vec<LogEntry>,
}

impl GoldenLog {
    /// Reads a file's text.
    ///
    /// # Errors
    /// Which line is wrong, and how.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#') && !line.is_empty());
        let mut log = Self { digest: 0, entries: Vec::new() };
        let mut seen_digest = false;
        for (number, line) in lines {
            let wrong = |what: &str| format!("line {}: {what}", number + 1);
            match *line.split(' ').collect::<Vec<_>>() {
                ["digest", digest] => {
                    log.digest =
                        u64::from_str_radix(digest, 16).map_err(|error| wrong(&error.to_string()))?;
                    seen_digest = true;
                }
                [term, index, payload] => {
                    let number = |text: &str| text.parse().map_err(|_| wrong("not a number"));
                    let at = LogPosition { term: number(term)?, index: number(index)? };
                    let payload =
                        HEXLOWER.decode(payload.as_bytes()).map_err(|error| wrong(&error.to_string()))?;
                    log.entries.push(LogEntry { at, payload: Bytes::from(payload) });
                }
                _ => return Err(wrong("neither a digest nor an entry")),
            }
        }
        if seen_digest { Ok(log) } else { Err("no digest".to_owned()) }
    }

    /// The reverse of [`GoldenLog::parse`], but for comments.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = format!("digest {:016x}\n", self.digest);
        for entry in &self.entries {
            let payload = HEXLOWER.encode(&entry.payload);
            let _ = writeln!(out, "{} {} {payload}", entry.at.term, entry.at.index);
        }
        out
    }
}

/// What the entries of `group` make of nothing, `run` at a time.
///
/// # Errors
/// As [`replay`].
///
/// # Panics
/// For a group that has no machine.
pub fn digest(group: GroupId, entries: &[LogEntry], run: usize) -> io::Result<u64> {
    let keyspace = OrderedStore::new(0).keyspace("golden").map_err(io::Error::other)?;
    replay(machine_of(group), keyspace, entries.to_vec(), run)
}

fn machine_of(group: GroupId) -> Arc<dyn Machine> {
    match group {
        GroupId::META => MetaMachine::new().0,
        GroupId::JOBS => JobsMachine::new().0,
        _ => {
            assert!(group.as_partition().is_some(), "{group} has no machine here");
            trine_database::partition_machine()
        }
    }
}

/// Writes the logs of the stopped node whose data is in `data` to the folder
/// `to`, one file per group.
///
/// # Errors
/// When `data` is not that of a stopped node, when a log no longer has its
/// first entry, or when a file cannot be written.
pub fn record(data: &Path, to: &Path) -> io::Result<()> {
    let config = WalConfig { must_exist: true, ..WalConfig::default() };
    let wal = Wal::open(Arc::new(RealDisk::open(data)?), config, Driver::Thread).map_err(io::Error::other)?;
    for group in GROUPS {
        let entries = whole_log(&wal, group)?;
        let log = GoldenLog { digest: digest(group, &entries, RUN)?, entries };
        let file = to.join(format!("{group}.log"));
        fs::write(&file, log.text())?;
        println!("{}: {} entries, digest {:016x}", file.display(), log.entries.len(), log.digest);
    }
    Ok(())
}

fn whole_log(wal: &Wal, group: GroupId) -> io::Result<Vec<LogEntry>> {
    let log = wal.group(group);
    let bounds = log.bounds();
    let (None, Some(first), Some(last)) = (bounds.purged, log.first(), bounds.last) else {
        return Err(io::Error::other(format!("the log of {group} is empty or was purged: record earlier")));
    };
    let mut entries: Vec<LogEntry> = Vec::new();
    while entries.last().is_none_or(|entry| entry.at != last) {
        let from = entries.last().map_or(first, |entry| entry.at.index + 1);
        let read = log.read(from, last.index + 1, READ_BYTES).map_err(io::Error::other)?;
        if read.is_empty() {
            return Err(io::Error::other(format!("the log of {group} ends before its end")));
        }
        entries.extend(read);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log of semantics 1, with the group that it is of.
    const KEPT: [(GroupId, &str); 3] = [
        (GroupId::META, include_str!("../golden/1/meta.log")),
        (GroupId::JOBS, include_str!("../golden/1/jobs.log")),
        (GroupId::partition(0), include_str!("../golden/1/partition-0.log")),
    ];

    #[test]
    fn kept_logs_come_to_the_digests_that_they_came_to() {
        for (group, text) in KEPT {
            let log = GoldenLog::parse(text).expect("the file is well-formed");
            for run in [1, 7, RUN, log.entries.len()] {
                let found = digest(group, &log.entries, run).expect("it replays");
                assert_eq!(
                    found, log.digest,
                    "{group}, {run} entries at a time: the rules of semantics 1 have changed; \
                     give the change a new semantics version"
                );
            }
        }
    }

    #[test]
    fn a_log_that_lacks_an_entry_comes_to_another_digest() {
        for (group, text) in KEPT {
            let mut log = GoldenLog::parse(text).expect("the file is well-formed");
            let largest = (0..log.entries.len()).max_by_key(|&place| log.entries[place].payload.len());
            log.entries.remove(largest.expect("a log has entries"));
            assert_ne!(digest(group, &log.entries, RUN).expect("it replays"), log.digest, "{group}");
        }
    }

    #[test]
    fn text_and_log_are_each_others_reverse() {
        for (group, text) in KEPT {
            let log = GoldenLog::parse(text).expect("the file is well-formed");
            assert_eq!(GoldenLog::parse(&log.text()), Ok(log), "{group}");
        }
    }

    #[test]
    fn a_wrong_line_is_named() {
        let parse = |text| GoldenLog::parse(text).expect_err("it is wrong");
        assert_eq!(parse("1 1 00\n"), "no digest");
        assert_eq!(parse("digest 0\n1 x 00\n"), "line 2: not a number");
        assert_eq!(parse("digest 0\n\nhello\n"), "line 3: neither a digest nor an entry");
    }
}
