//! The verdict: everything that the demo saw, on one screen, and which checks
//! held. `--json` prints the same fields.

use std::fmt::Write as _;

use serde::Serialize;

use super::failover::FailoverReport;
use super::files::{ReadReport, StoreReport};
use super::meeting::MeetingReport;
use super::milliseconds;
use super::timing::{Quantiles, TimingRow};
use super::words::WordsReport;
use crate::admin::report::table;

/// Within how many milliseconds every other node should know of a kill.
const KNOWN_WITHIN_MS: u64 = 1_500;

/// Everything that the demo saw.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Process ids of the nodes at first start.
    pub pids: Vec<u32>,
    /// Time until three nodes served with all replicas in place.
    pub started_ms: u64,
    /// Storing through node 1.
    pub stored: StoreReport,
    /// Reading back through nodes 2 and 3.
    pub read_back: Vec<ReadReport>,
    /// `T = T_r + T_c`.
    pub timing: Vec<TimingRow>,
    /// Messages between nodes.
    pub meeting: MeetingReport,
    /// The word count.
    pub words: WordsReport,
    /// The kill of a leader.
    pub failover: FailoverReport,
}

/// What `--json` prints.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict<'a> {
    /// Whether every check held.
    pub ok: bool,
    /// Each check.
    pub checks: Vec<Check>,
    /// Everything that was seen.
    #[serde(flatten)]
    pub summary: &'a Summary,
}

/// One check.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// In words.
    pub check: String,
    /// Whether it held.
    pub held: bool,
}

impl Summary {
    /// The same with the verdict, for machines.
    pub fn verdict(&self) -> Verdict<'_> {
        let checks: Vec<_> = self.checks().into_iter().map(|(check, held)| Check { check, held }).collect();
        Verdict { ok: checks.iter().all(|check| check.held), checks, summary: self }
    }

    /// Every check, in words, and whether it held.
    fn checks(&self) -> Vec<(String, bool)> {
        let (failover, audit) = (&self.failover, &self.failover.audit);
        let mut checks = Vec::new();
        for read in &self.read_back {
            let text = format!("all {} files read back equal through node {}", read.files, read.node);
            checks.push((text, read.different == 0 && read.files == self.stored.files));
        }
        checks.extend(self.peer_checks());
        checks.extend(self.word_checks());
        checks.extend(self.departure_checks());
        let outage = failover.outage_ms.map_or("for good".to_owned(), |ms| format!("for {ms} ms"));
        let text = format!("writes went on after the kill (unavailable {outage})");
        checks.push((text, failover.outage_ms.is_some()));
        let text = format!("no acknowledged write is missing ({} checked)", audit.writes);
        checks.push((text, audit.missing_writes == 0 && audit.writes > 0));
        let text = format!(
            "acknowledged <= counted <= acknowledged + unanswered ({} <= {} <= {})",
            audit.increments,
            audit.counted,
            audit.increments + audit.unanswered_increments
        );
        checks.push((
            text,
            audit.counters_too_low == 0 && audit.counters_too_high == 0 && audit.increments > 0,
        ));
        let restarted = &failover.audit_restarted;
        checks.push(("the same through the restarted node".to_owned(), restarted.holds()));
        let text = format!(
            "the restarted node caught up: {} groups equal in applied index and digest",
            failover.groups_compared
        );
        checks.push((text, failover.caught_up_ms.is_some()));
        checks
    }

    fn peer_checks(&self) -> Vec<(String, bool)> {
        let MeetingReport { pairs, complete, reached, .. } = &self.meeting;
        let text = format!("every message and request between nodes arrived ({complete} of {pairs} pairs)");
        let mut checks = vec![(text, complete == pairs)];
        let once = reached.iter().filter(|subscriber| subscriber.copies == 1).count();
        let text = format!("one publish reached its subscribers once each ({once} of {})", reached.len());
        checks.push((text, once == reached.len()));
        checks
    }

    fn word_checks(&self) -> Vec<(String, bool)> {
        let words = &self.words;
        let each = format!(
            "each task has one result, though node {} was killed midway ({} of {})",
            words.killed, words.succeeded, words.tasks
        );
        let equal = format!(
            "words counted on all nodes as by one thread ({} words, {} counts differ)",
            words.words, words.differing
        );
        vec![
            (each, words.succeeded == words.tasks && words.results_at_kill < words.tasks),
            (equal, words.differing == 0 && words.distinct > 0),
            ("the killed worker's node came back and caught up".to_owned(), words.back_ms.is_some()),
        ]
    }

    fn departure_checks(&self) -> Vec<(String, bool)> {
        let knew = &self.failover.knew;
        let in_time =
            knew.iter().filter(|knew| knew.after_ms.is_some_and(|ms| ms <= KNOWN_WITHIN_MS)).count();
        let text = format!("{in_time} of {} nodes knew of the kill within {KNOWN_WITHIN_MS} ms", knew.len());
        vec![(text, in_time == knew.len())]
    }

    /// The checks that did not hold.
    pub fn failed(&self) -> Vec<String> {
        self.checks().into_iter().filter(|(_, held)| !held).map(|(text, _)| text).collect()
    }

    /// One screen of text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let failover = &self.failover;
        let mib = self.stored.bytes >> 20;
        let _ = writeln!(
            text,
            "\nTrine demo: three nodes, served with all replicas after {} ms",
            self.started_ms
        );
        let _ = writeln!(
            text,
            "\n1. Any node takes any key\n   stored {} files, {mib} MiB, through node 1 in {}",
            self.stored.files,
            speed(self.stored.took_ms, self.stored.bytes)
        );
        for read in &self.read_back {
            let took = speed(read.took_ms, self.stored.bytes);
            let _ = writeln!(
                text,
                "   read back through node {} in {took}, {} differ",
                read.node, read.different
            );
        }
        let _ = writeln!(
            text,
            "\n2. Where time goes: T = T_r (processing at the owner) + T_c (passing between nodes)"
        );
        for line in table(&self.timing_rows()).lines() {
            let _ = writeln!(text, "   {line}");
        }
        text.push_str(&self.meeting_text());
        text.push_str(&self.words_text());
        let _ = writeln!(
            text,
            "\n5. Node {} led the measured keys and was killed (SIGKILL) under load",
            failover.killed
        );
        let _ = writeln!(text, "   known {}", self.knew());
        let outage =
            failover.outage_ms.map_or("until the end of the load".to_owned(), |ms| format!("for {ms} ms"));
        let _ = writeln!(
            text,
            "   writes unavailable {outage}; {} per second before, {} after",
            failover.rate_before, failover.rate_after
        );
        let unanswered = failover.audit.unanswered_increments + failover.audit.unanswered_writes;
        let _ = writeln!(text, "   requests without an answer: {unanswered}");
        let caught_up = failover.caught_up_ms.map_or("not in time".to_owned(), |ms| format!("after {ms} ms"));
        let _ =
            writeln!(text, "   restarted: served after {} ms, caught up {caught_up}\n", failover.restart_ms);
        for (check, held) in self.checks() {
            let _ = writeln!(text, "{}  {check}", if held { "ok  " } else { "FAIL" });
        }
        text
    }

    fn meeting_text(&self) -> String {
        let mut text =
            "\n3. Every node talks to every node: T = T_c (connection) + T_m (message)\n".to_owned();
        let cells = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut rows =
            vec![cells(&["", "", "count", "T median", "p99", "T_c median", "p99", "T_m median", "p99"])];
        for row in self.meeting.timing.iter().filter(|row| row.count > 0) {
            let mut line = cells(&[row.what, if row.cold { "cold" } else { "warm" }]);
            line.push(row.count.to_string());
            for Quantiles { p50_us, p99_us } in [row.total, row.connection, row.message] {
                line.extend([milliseconds(p50_us), milliseconds(p99_us)]);
            }
            rows.push(line);
        }
        for line in table(&rows).lines() {
            let _ = writeln!(text, "   {line}");
        }
        let reached = self.meeting.reached.iter().map(|subscriber| {
            let after =
                subscriber.after_us.map_or("never".to_owned(), |us| format!("after {}", milliseconds(us)));
            format!("node {} {after}", subscriber.node)
        });
        let reached: Vec<_> = reached.collect();
        let _ = writeln!(text, "   one publish on node 1 reached {}", reached.join(", "));
        text
    }

    fn words_text(&self) -> String {
        let words = &self.words;
        let mut text =
            "\n4. A master assigns, workers execute and return: T = T_a + T_c; the words of the same files\n"
                .to_owned();
        let seconds = |ms: u64| format!("{}.{} s", ms / 1_000, ms % 1_000 / 100);
        let _ = writeln!(
            text,
            "   {} words, {} of them different, by {} processes on all nodes in {}, summed up in {}; one thread: {}",
            words.words,
            words.distinct,
            words.tasks,
            seconds(words.counted_ms),
            seconds(words.summed_ms),
            seconds(words.alone_ms)
        );
        let back = words.back_ms.map_or("not in time".to_owned(), |ms| format!("after {ms} ms"));
        let _ = writeln!(
            text,
            "   node {} was killed (SIGKILL) after {} results; {} tasks ran again elsewhere; restarted, caught up {back}",
            words.killed, words.results_at_kill, words.again
        );
        // Cut to what is shown before they are added, so that the parts sum to the whole.
        let mean = |us: u64| us / words.cost.tasks.max(1) / 10 * 10;
        let cost = words.cost;
        let [queue, staging] = [cost.queued_us, cost.prepared_us].map(mean);
        let there = mean(cost.assignment_us - cost.queued_us - cost.prepared_us);
        let [execution, returned] = [cost.executed_us, cost.returned_us].map(mean);
        let back = mean(cost.completion_us - cost.executed_us - cost.returned_us);
        let (assignment, completion) = (queue + staging + there, execution + returned + back);
        let _ = writeln!(
            text,
            "   mean of a task: T {} = T_a {} (queue {}, there {}, staging {}) + T_c {} (execution {}, return {}, back {})",
            milliseconds(assignment + completion),
            milliseconds(assignment),
            milliseconds(queue),
            milliseconds(there),
            milliseconds(staging),
            milliseconds(completion),
            milliseconds(execution),
            milliseconds(returned),
            milliseconds(back)
        );
        for worker in &words.workers {
            let _ = writeln!(text, "   node {} {:>3} tasks |{}|", worker.node, worker.tasks, worker.timeline);
        }
        text
    }

    fn knew(&self) -> String {
        let each = self.failover.knew.iter().map(|knew| match knew.after_ms {
            Some(ms) => format!("to node {} after {ms} ms", knew.node),
            None => format!("to node {} not in time", knew.node),
        });
        each.collect::<Vec<_>>().join(", ")
    }

    fn timing_rows(&self) -> Vec<Vec<String>> {
        let cells = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut rows =
            vec![cells(&["", "", "requests", "T median", "p99", "T_r median", "p99", "T_c median", "p99"])];
        for row in self.timing.iter().filter(|row| row.requests > 0) {
            let place = if row.forwarded { "forwarded" } else { "at the owner" };
            let mut line = cells(&[row.command, place]);
            line.push(row.requests.to_string());
            for Quantiles { p50_us, p99_us } in [row.total, row.processing, row.passing] {
                line.extend([milliseconds(p50_us), milliseconds(p99_us)]);
            }
            rows.push(line);
        }
        rows
    }
}

fn speed(took_ms: u64, bytes: u64) -> String {
    let per_second = (bytes >> 10) * 1_000 / took_ms.max(1) / 1_024;
    format!("{}.{} s ({per_second} MiB/s)", took_ms / 1_000, took_ms % 1_000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::departure::Knew;
    use crate::demo::ledger::Audit;

    fn sample(different: usize) -> Summary {
        let audit =
            Audit { increments: 5, counted: 6, unanswered_increments: 1, writes: 5, ..Audit::default() };
        Summary {
            pids: vec![1, 2, 3],
            started_ms: 900,
            stored: StoreReport { files: 10, bytes: 5 << 20, took_ms: 1_000, sent_again: 0 },
            read_back: vec![ReadReport { node: 2, files: 10, different, took_ms: 500 }],
            timing: vec![],
            meeting: MeetingReport::default(),
            words: WordsReport {
                tasks: 3,
                succeeded: 3,
                words: 9,
                distinct: 7,
                differing: different,
                back_ms: Some(1),
                ..WordsReport::default()
            },
            failover: FailoverReport {
                killed: 2,
                knew: vec![Knew { node: 1, after_ms: Some(700) }],
                outage_ms: Some(350),
                rate_before: 100,
                rate_after: 90,
                audit: audit.clone(),
                audit_restarted: audit,
                restart_ms: 200,
                caught_up_ms: Some(300),
                groups_compared: 17,
            },
        }
    }

    #[test]
    fn one_difference_fails_the_demo() {
        assert!(sample(0).failed().is_empty());
        assert_eq!(sample(1).failed().len(), 2);
    }

    #[test]
    fn the_summary_fits_one_screen() {
        let text = sample(0).text();
        assert!(text.lines().count() <= 50 && text.contains("5 <= 6 <= 6"), "{text}");
    }
}
