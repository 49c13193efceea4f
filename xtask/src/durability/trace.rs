//! Reads what strace wrote. The order of its lines is the order in which calls
//! began and ended, which is all that is needed: a sync covers a write when it
//! began after the write had ended.

use std::collections::{BTreeMap, BTreeSet};

/// Connection and number of a write.
type Mark = (usize, usize);

/// What a marked value holds.
pub(super) fn mark(connection: usize, write: usize) -> String {
    format!("<mark:{connection:03}:{write:06}>")
}

/// Marks that occur in a traced string.
fn marks(text: &str) -> Vec<Mark> {
    text.match_indices("<mark:")
        .filter_map(|(at, _)| {
            let body = text.get(at + 6..at + 16)?;
            let (connection, write) = body.split_once(':')?;
            Some((connection.parse().ok()?, write.parse().ok()?))
        })
        .collect()
}

/// One file of the log: marks written but not yet covered, by state of the sync.
#[derive(Default)]
struct LogFile {
    written: BTreeSet<Mark>,
    syncing: BTreeSet<Mark>,
    synced: BTreeSet<Mark>,
}

/// A call that began on a thread and has not ended.
struct Open {
    name: String,
    rest: String,
}

/// How many marked writes were acknowledged, and which of them before
/// `needed` files of the log had them synced. `clients` are the ports of the
/// writing connections; `is_log` says which files are the log.
pub(super) fn judge(
    text: &str,
    clients: &BTreeMap<u16, usize>,
    needed: usize,
    is_log: impl Fn(&str) -> bool,
) -> (usize, Vec<String>) {
    let mut judge =
        Judge { clients, needed, is_log, files: BTreeMap::new(), answered: BTreeMap::new(), early: vec![] };
    let mut open: BTreeMap<&str, Open> = BTreeMap::new();
    for line in text.lines() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        if let Some(resumed) = call.strip_prefix("<... ") {
            if let Some(begun) = open.remove(thread) {
                let rest = resumed.split_once("resumed>").map_or("", |(_, rest)| rest);
                judge.end(&begun.name, &format!("{}{rest}", begun.rest));
            }
            continue;
        }
        let Some((name, rest)) = call.split_once('(') else { continue };
        judge.begin(name, rest);
        match rest.strip_suffix("<unfinished ...>") {
            Some(rest) => {
                open.insert(thread, Open { name: name.to_owned(), rest: rest.to_owned() });
            }
            None => judge.end(name, rest),
        }
    }
    (judge.answered.values().sum(), judge.early)
}

struct Judge<'a, F> {
    clients: &'a BTreeMap<u16, usize>,
    needed: usize,
    is_log: F,
    files: BTreeMap<String, LogFile>,
    /// Answers seen on each connection.
    answered: BTreeMap<usize, usize>,
    early: Vec<String>,
}

/// `12</data/wal/1.seg>, "..."` into the path and the rest.
fn descriptor(rest: &str) -> Option<(&str, &str)> {
    let (_, after) = rest.split_once('<')?;
    // Sockets hold "->": the first '>' that is not part of it ends the name.
    let bytes = after.as_bytes();
    let end = (0..bytes.len()).find(|at| bytes[*at] == b'>' && (*at == 0 || bytes[*at - 1] != b'-'))?;
    Some((&after[..end], &after[end + 1..]))
}

fn is_sync(name: &str) -> bool {
    matches!(name, "fdatasync" | "fsync")
}

fn is_write(name: &str) -> bool {
    matches!(name, "write" | "writev" | "sendto" | "sendmsg" | "pwrite64" | "pwritev" | "pwritev2")
}

impl<F: Fn(&str) -> bool> Judge<'_, F> {
    /// A call begins: a sync covers what was written before; an answer leaves.
    fn begin(&mut self, name: &str, rest: &str) {
        let Some((path, rest)) = descriptor(rest) else { return };
        if is_sync(name) && (self.is_log)(path) {
            let file = self.files.entry(path.to_owned()).or_default();
            file.syncing = file.written.clone();
        } else if is_write(name) && path.starts_with("TCP:") {
            let Some(connection) = self.client(path) else { return };
            for _ in rest.matches("+OK\\r\\n") {
                let number = self.answered.entry(connection).or_default();
                let mark = (connection, *number);
                *number += 1;
                let synced = self.files.values().filter(|file| file.synced.contains(&mark)).count();
                if synced < self.needed {
                    self.early.push(format!(
                        "write {} of connection {connection}: {synced} nodes had synced it",
                        mark.1
                    ));
                }
            }
        }
    }

    /// A call has ended: bytes are written, a sync is complete.
    fn end(&mut self, name: &str, rest: &str) {
        let Some((path, rest)) = descriptor(rest) else { return };
        if !(self.is_log)(path) || rest.contains(") = -1 ") {
            return;
        }
        let file = self.files.entry(path.to_owned()).or_default();
        if is_write(name) {
            file.written.extend(marks(rest));
        } else if is_sync(name) {
            file.synced.append(&mut file.syncing);
        }
    }

    /// `TCP:[127.0.0.1:6379->127.0.0.1:50000]`: the connection at the far end.
    fn client(&self, path: &str) -> Option<usize> {
        let port = path.trim_end_matches(']').rsplit(':').next()?.parse().ok()?;
        self.clients.get(&port).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::judge;

    const READ: &str = r#"7 recvfrom(9<TCP:[127.0.0.1:6379->127.0.0.1:50000]>, "SET <mark:000:000000>", 99, 0, NULL, NULL) = 40"#;
    const WRITE: &str = r#"8 pwrite64(5</d/n1/wal/1.seg>, "\1<mark:000:000000>\0", 4096, 0) = 4096"#;
    const SYNC: &str = "8 fdatasync(5</d/n1/wal/1.seg>) = 0";
    const BEGIN: &str = "8 fdatasync(5</d/n1/wal/1.seg> <unfinished ...>";
    const END: &str = "8 <... fdatasync resumed>) = 0";
    const ACK: &str = r#"7 sendto(9<TCP:[127.0.0.1:6379->127.0.0.1:50000]>, "+OK\r\n", 5, 0, NULL, 0) = 5"#;

    fn early(lines: &[&str], needed: usize) -> (usize, usize) {
        let clients = BTreeMap::from([(50_000, 0)]);
        let (seen, early) = judge(&lines.join("\n"), &clients, needed, |path| path.contains("/wal"));
        (seen, early.len())
    }

    #[test]
    fn an_answer_after_its_sync_is_fine() {
        assert_eq!(early(&[READ, WRITE, SYNC, ACK], 1), (1, 0));
        assert_eq!(early(&[READ, WRITE, BEGIN, END, ACK], 1), (1, 0));
    }

    #[test]
    fn an_answer_before_its_sync_is_caught() {
        assert_eq!(early(&[READ, WRITE, ACK, SYNC], 1), (1, 1));
        assert_eq!(early(&[READ, WRITE, BEGIN, ACK, END], 1), (1, 1));
        assert_eq!(early(&[READ, SYNC, WRITE, ACK], 1), (1, 1));
        assert_eq!(early(&[READ, BEGIN, WRITE, END, ACK], 1), (1, 1));
    }

    #[test]
    fn an_answer_needs_every_traced_node() {
        let other_write = WRITE.replace("n1", "n2");
        let other_sync = SYNC.replace("n1", "n2");
        assert_eq!(early(&[READ, WRITE, SYNC, ACK], 2), (1, 1));
        assert_eq!(early(&[READ, WRITE, SYNC, &other_write, &other_sync, ACK], 2), (1, 0));
    }

    #[test]
    fn a_failed_sync_covers_nothing() {
        let failed = "8 fdatasync(5</d/n1/wal/1.seg>) = -1 EIO (Input/output error)";
        assert_eq!(early(&[READ, WRITE, failed, ACK], 1), (1, 1));
    }
}
