//! The log of what ran, in parallel's format: one line per task with tabs
//! between nine columns, so that its tools and `--resume` of either read both.
//! A line end within a command is written as a zero byte.

use std::collections::BTreeMap;

use super::halt::Ended;

/// The first line.
pub const HEADING: &str = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n";

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Which task, from 1.
    pub sequence: u64,
    /// Where it ran.
    pub host: String,
    /// When it began, in milliseconds since 1970.
    pub start_ms: u64,
    /// How long it ran, in milliseconds.
    pub runtime_ms: u64,
    /// Bytes that were sent to it.
    pub sent: u64,
    /// Bytes that came back.
    pub received: u64,
    /// How it ended.
    pub ended: Ended,
    /// What ran.
    pub command: Vec<u8>,
}

impl Row {
    /// The line.
    #[must_use]
    pub fn line(&self) -> Vec<u8> {
        let seconds = |ms: u64| format!("{}.{:03}", ms / 1_000, ms % 1_000);
        let Ended { exit, signal } = self.ended;
        let mut line = format!(
            "{}\t{}\t{}\t{:>10}\t{}\t{}\t{exit}\t{signal}\t",
            self.sequence,
            self.host.replace(['\t', '\n'], " "),
            seconds(self.start_ms),
            seconds(self.runtime_ms),
            self.sent,
            self.received,
        )
        .into_bytes();
        line.extend(self.command.iter().map(|byte| if *byte == b'\n' { 0 } else { *byte }));
        line.push(b'\n');
        line
    }

    /// Reads a line without its end; `None` if it is none, as the heading.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        let mut columns = line.splitn(9, |byte| *byte == b'\t');
        let mut text = || std::str::from_utf8(columns.next()?).ok().map(str::trim);
        let sequence = text()?.parse().ok()?;
        let host = text()?.to_owned();
        let (start_ms, runtime_ms) = (milliseconds(text()?)?, milliseconds(text()?)?);
        let (sent, received) = (text()?.parse().ok()?, text()?.parse().ok()?);
        let ended = Ended { exit: text()?.parse().ok()?, signal: text()?.parse().ok()? };
        let command = columns.next()?.iter().map(|byte| if *byte == 0 { b'\n' } else { *byte }).collect();
        Some(Self { sequence, host, start_ms, runtime_ms, sent, received, ended, command })
    }
}

fn milliseconds(text: &str) -> Option<u64> {
    let (seconds, rest) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = rest.chars().chain("000".chars()).take(3).collect();
    seconds.parse::<u64>().ok()?.checked_mul(1_000)?.checked_add(digits.parse().ok()?)
}

/// What an earlier run did: which tasks are not to be run again, and which
/// command lines failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Earlier {
    // Per task: whether any run of it succeeded, and its last command.
    tasks: BTreeMap<u64, (bool, Vec<u8>)>,
}

impl Earlier {
    /// Reads a whole log; lines that are none are passed over, as parallel does.
    #[must_use]
    pub fn read(log: &[u8]) -> Self {
        let mut earlier = Self::default();
        for row in log.split(|byte| *byte == b'\n').filter_map(Row::parse) {
            let known = earlier.tasks.entry(row.sequence).or_default();
            known.0 |= row.ended.is_success();
            known.1 = row.command;
        }
        earlier
    }

    /// Whether `--resume` leaves a task out: it ran.
    #[must_use]
    pub fn ran(&self, sequence: u64) -> bool {
        self.tasks.contains_key(&sequence)
    }

    /// Whether `--resume-failed` leaves a task out: it succeeded once.
    #[must_use]
    pub fn succeeded(&self, sequence: u64) -> bool {
        self.tasks.get(&sequence).is_some_and(|(succeeded, _)| *succeeded)
    }

    /// The tasks that never succeeded and their commands, for `--retry-failed`.
    pub fn failed(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let failed = self.tasks.iter().filter(|(_, (succeeded, _))| !succeeded);
        failed.map(|(sequence, (_, command))| (*sequence, command.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A line that parallel 20221122 wrote.
    const SEEN: &[u8] =
        b"1\t:\t1795441628.137\t     0.006\t0\t8\t1\t0\tsleep 0.3 x;echo 3 x \"a\tb\"; exit 3 x";

    #[test]
    fn parallels_own_lines_are_read_and_written() {
        let row = Row::parse(SEEN).expect("a line");
        assert_eq!((row.sequence, row.start_ms, row.runtime_ms, row.received), (1, 1_795_441_628_137, 6, 8));
        assert_eq!(row.ended, Ended { exit: 1, signal: 0 });
        assert_eq!(row.line(), [SEEN, b"\n"].concat());
        assert_eq!(Row::parse(HEADING.trim_end().as_bytes()), None);
        assert_eq!(Row::parse(b"garbage"), None);
        let killed = Row::parse(b"2\t:\t1.2\t     1.891\t0\t0\t-1\t15\tsleep 3").expect("a line");
        assert_eq!((killed.ended, killed.start_ms), (Ended { exit: -1, signal: 15 }, 1_200));
    }

    /// As parallel 20221122 did with this very log.
    #[test]
    fn resuming_leaves_out_what_parallel_leaves_out() {
        let ends = [(1, 1, 0), (1, 0, 0), (2, 0, 0), (2, 1, 0), (3, 0, 9), (4, -1, 15)];
        let lines = ends.map(|(n, exit, signal)| format!("{n}\t:\t1.0\t0.0\t0\t0\t{exit}\t{signal}\tx\n"));
        let earlier = Earlier::read((HEADING.to_owned() + &lines.concat()).as_bytes());
        let out = |is_out: &dyn Fn(u64) -> bool| (1..=6).filter(|n| is_out(*n)).collect::<Vec<_>>();
        assert_eq!(out(&|n| earlier.ran(n)), [1, 2, 3, 4]);
        assert_eq!(out(&|n| earlier.succeeded(n)), [1, 2]);
        assert_eq!(earlier.failed().map(|(n, _)| n).collect::<Vec<_>>(), [3, 4]);
    }

    proptest! {
        #[test]
        fn a_line_is_read_back(
            numbers in any::<[u32; 4]>(),
            exit in -1_i32..256,
            signal in any::<u8>(),
            command in proptest::collection::vec(1_u8.., 0..40),
        ) {
            let [sequence, start_ms, runtime_ms, sent] = numbers.map(u64::from);
            let row = Row {
                sequence, host: "n1".to_owned(), start_ms, runtime_ms, sent, received: sent,
                ended: Ended { exit, signal }, command,
            };
            let line = row.line();
            prop_assert_eq!(Row::parse(&line[..line.len() - 1]), Some(row));
        }
    }
}
