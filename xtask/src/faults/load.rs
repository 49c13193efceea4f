//! Writers that remember what they were told, and the audit of it afterwards.
//! A writer never retries, except through `TRINE.ONCE`, which exists for that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Verdict;
use crate::command::Trouble;
use crate::hosts::{door, enter};
use crate::redis::{Connection, Reply};

/// Writers connected to each node.
const WRITERS_PER_NODE: usize = 2;
/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long one increment through `TRINE.ONCE` is sent again.
const ONCE_LIMIT: Duration = Duration::from_mins(1);
/// Keys of one question of the audit.
const AUDIT_BATCH: usize = 500;
/// Keys tried to find one that a certain node owns.
const KEYS_TRIED: usize = 200;
/// Acknowledgements that a probe may be ahead of its reader.
const ACKS_WAITING: usize = 100_000;

/// Number and host of a node.
pub(crate) type Place = (usize, String);

/// What one writer knows.
#[derive(Debug, Default)]
pub(crate) struct Record {
    name: String,
    node: usize,
    /// Sequence numbers of acknowledged SETs.
    sets: Vec<u64>,
    increments: u64,
    /// Increments without an answer that says what happened.
    unanswered: u64,
    once_sent: u64,
}

/// Writers on every node, until stopped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Record>>,
}

impl Load {
    pub(crate) fn start(places: &[Place], trial: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for (node, host) in places {
            for writer in 0..WRITERS_PER_NODE {
                let name = format!("t{trial}n{node}w{writer}");
                let (stop, host, node) = (Arc::clone(&stop), host.clone(), *node);
                threads.push(std::thread::spawn(move || write(name, node, &host, &stop)));
            }
            let name = format!("t{trial}n{node}once");
            let (stop, places, node) = (Arc::clone(&stop), places.to_vec(), *node);
            threads.push(std::thread::spawn(move || write_once(name, node, &places, &stop)));
        }
        Self { stop, threads }
    }

    pub(crate) fn stop(self) -> Vec<Record> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    }
}

fn connect(host: &str) -> Option<Connection> {
    enter(host).ok()?;
    Connection::open(door(), PATIENCE).ok()
}

/// SET of a new key, INCR of the writer's counter, and so on.
fn write(name: String, node: usize, host: &str, stop: &AtomicBool) -> Record {
    let mut record = Record { name, node, ..Record::default() };
    let mut connection = None;
    let mut sequence = 0;
    while !stop.load(Ordering::Relaxed) {
        let Some(open) = connection.as_mut() else {
            connection = connect(host);
            if connection.is_none() {
                std::thread::sleep(Duration::from_millis(20));
            }
            continue;
        };
        sequence += 1;
        let key = format!("{}:{sequence}", record.name);
        match open.call(&["SET", &key, &sequence.to_string()]) {
            Ok(reply) if reply.is_ok() => record.sets.push(sequence),
            Ok(_) => {}
            Err(_) => {
                connection = None;
                continue;
            }
        }
        match open.call(&["INCR", &format!("{}:counter", record.name)]) {
            Ok(Reply::Integer(_)) => record.increments += 1,
            Ok(_) => record.unanswered += 1,
            Err(_) => {
                record.unanswered += 1;
                connection = None;
            }
        }
    }
    record
}

/// Increments with an id and a sequence number, sent again, to any node, until answered.
fn write_once(name: String, node: usize, places: &[Place], stop: &AtomicBool) -> Record {
    let mut record = Record { name, node, ..Record::default() };
    let mut connection = None;
    let mut at = node;
    while !stop.load(Ordering::Relaxed) {
        record.once_sent += 1;
        let sequence = record.once_sent.to_string();
        let key = format!("{}:counter", record.name);
        let words = ["TRINE.ONCE", &record.name, &sequence, "INCR", &key];
        let give_up = Instant::now() + ONCE_LIMIT;
        while Instant::now() < give_up {
            let answer = connection.as_mut().map(|open: &mut Connection| open.call(&words));
            if let Some(Ok(Reply::Integer(_))) = answer {
                break;
            }
            if !matches!(answer, Some(Ok(_))) {
                at += 1;
                connection = connect(&places[at % places.len()].1);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    record
}

/// Compares what writers were told with what is there.
pub(crate) fn audit(
    records: &[Record],
    places: &[Place],
    victim: usize,
    verdict: &mut Verdict,
) -> Result<(), Trouble> {
    let audit = |records: &[Record], verdict: &mut Verdict| -> Result<(), Trouble> {
        let place = places.iter().find(|(n, _)| *n != victim).ok_or_else(no_node)?;
        let mut connection = connect(&place.1).ok_or_else(no_node)?;
        for record in records {
            audit_one(record, &mut connection, victim, verdict)?;
        }
        Ok(())
    };
    // On a thread of its own: a thread that has entered a host stays there.
    std::thread::scope(|scope| scope.spawn(|| audit(records, verdict)).join())
        .map_err(|_| Trouble::Unexpected("the audit panicked".to_owned()))?
}

fn no_node() -> Trouble {
    Trouble::Unexpected("no node answers".to_owned())
}

fn audit_one(
    record: &Record,
    connection: &mut Connection,
    victim: usize,
    verdict: &mut Verdict,
) -> Result<(), Trouble> {
    let failed = || Trouble::at(format!("audit of {}", record.name));
    for sequences in record.sets.chunks(AUDIT_BATCH) {
        let questions: Vec<_> =
            sequences.iter().map(|n| vec!["GET".to_owned(), format!("{}:{n}", record.name)]).collect();
        let answers = connection.pipeline(&questions).map_err(failed())?;
        for (sequence, answer) in sequences.iter().zip(answers) {
            verdict.acknowledged += 1;
            verdict.lost += u64::from(answer.number() != i64::try_from(*sequence).ok());
        }
    }
    let counter = connection.call(&["GET", &format!("{}:counter", record.name)]).map_err(failed())?;
    let counter = u64::try_from(counter.number().unwrap_or(0)).unwrap_or(0);
    if record.name.ends_with("once") {
        verdict.once += record.once_sent;
        if counter != record.once_sent {
            verdict.wrong_once.push(format!("{}: sent {}, is {counter}", record.name, record.once_sent));
        }
        return Ok(());
    }
    verdict.acknowledged += record.increments;
    let most = record.increments + record.unanswered;
    let line = format!("{}: acknowledged {}, at most {most}, is {counter}", record.name, record.increments);
    if !(record.increments..=most).contains(&counter) {
        verdict.lost += record.increments.saturating_sub(counter);
        verdict.wrong_counters.push(line);
    } else if record.node != victim && counter != record.increments {
        verdict.inexact_counters.push(line);
    }
    Ok(())
}

/// A node, another one in each trial, and a key that it owns. A node that owns
/// nothing is passed over.
pub(crate) fn owned_key(places: Vec<Place>, trial: usize) -> Result<(usize, String), Trouble> {
    let search = move || {
        for turn in 0..places.len() {
            let (node, host) = &places[(trial + turn) % places.len()];
            let mut connection = connect(host)?;
            for number in 0..KEYS_TRIED {
                let key = format!("measured:{trial}:{number}");
                let timed = connection.call(&["TRINE.TIMING", "SET", &key, "0"]).ok()?;
                let Reply::Array(parts) = timed else { return None };
                if parts.last().and_then(Reply::number) == Some(0) {
                    return Some((*node, key));
                }
            }
        }
        None
    };
    std::thread::spawn(search).join().ok().flatten().ok_or_else(|| {
        Trouble::Unexpected("no node owns any measured key, or TRINE.TIMING failed".to_owned())
    })
}

/// Writers of one key through several nodes, one write in flight on each.
pub(crate) struct Probe {
    stop: Arc<AtomicBool>,
    acks: Receiver<Instant>,
    threads: Vec<JoinHandle<()>>,
}

impl Probe {
    pub(crate) fn start(places: Vec<Place>, key: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, acks) = sync_channel(ACKS_WAITING);
        let spawn = |(_, host): Place| {
            let (stop, key, sender) = (Arc::clone(&stop), key.to_owned(), sender.clone());
            std::thread::spawn(move || probe(&host, &key, &stop, &sender))
        };
        let threads = places.into_iter().map(spawn).collect();
        Self { stop, acks, threads }
    }

    /// Waits for the first acknowledgements.
    pub(crate) fn settled(&self) -> Result<Instant, Trouble> {
        let mut last = Err(RecvTimeoutError::Timeout);
        for _ in 0..50 {
            last = self.acks.recv_timeout(PATIENCE);
        }
        last.map_err(|_| {
            Trouble::Unexpected("the measured key cannot be written before the fault".to_owned())
        })
    }

    /// Acknowledgements for `watch`, or longer until there is one, up to `give_up`.
    pub(crate) fn watch(self, after: Instant, watch: Duration, give_up: Duration) -> Vec<Instant> {
        let begin = Instant::now();
        let mut acks = Vec::new();
        while begin.elapsed() < watch || (acks.is_empty() && begin.elapsed() < give_up) {
            match self.acks.recv_timeout(Duration::from_millis(100)) {
                Ok(ack) if ack > after => acks.push(ack),
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            let _ = thread.join();
        }
        acks
    }
}

fn probe(host: &str, key: &str, stop: &AtomicBool, acks: &SyncSender<Instant>) {
    let mut connection = None;
    while !stop.load(Ordering::Relaxed) {
        match connection.as_mut().map(|open: &mut Connection| open.call(&["SET", key, "x"])) {
            Some(Ok(reply)) if reply.is_ok() => {
                // A full queue means that nobody reads any more.
                let _ = acks.try_send(Instant::now());
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => connection = connect(host),
        }
    }
}

/// The longest time without an acknowledgement, from `begin` on; `None` without any.
pub(crate) fn longest_gap(begin: Instant, acks: &[Instant]) -> Option<Duration> {
    let mut acks: Vec<Instant> = acks.iter().copied().filter(|ack| *ack >= begin).collect();
    acks.sort();
    let mut last = begin;
    let mut longest = Duration::ZERO;
    for ack in &acks {
        longest = longest.max(*ack - last);
        last = *ack;
    }
    (!acks.is_empty()).then_some(longest)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::longest_gap;

    #[test]
    fn an_outage_is_the_longest_gap_after_the_fault() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let acks = [at(700), at(5), at(710)];
        assert_eq!(longest_gap(begin, &acks), Some(Duration::from_millis(695)));
        assert_eq!(longest_gap(begin, &[]), None);
    }
}
