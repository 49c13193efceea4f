//! Measures the log alone, on a real disk:
//! `cargo run --release -p trine-storage --example log_rate -- DIR GROUPS ENTRIES BYTES SECONDS`
//! appends ENTRIES entries of BYTES at a time to each of GROUPS groups, each
//! waiting for its callback before the next append, and purging as it goes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;
use trine_storage::{Driver, GroupLog, LogEntry, LogPosition, RealDisk, Wal, WalConfig};
use trine_types::GroupId;

/// Entries kept behind the newest one.
const KEPT: u64 = 10_000;

async fn load(log: GroupLog, entries: u64, payload: Bytes, until: Instant) -> Vec<Duration> {
    let mut times = Vec::new();
    let mut next = log.bounds().last.map_or(1, |last| last.index + 1);
    while Instant::now() < until {
        let batch = (next..next + entries)
            .map(|index| LogEntry { at: LogPosition { term: 1, index }, payload: payload.clone() })
            .collect();
        next += entries;
        let (reply, result) = oneshot::channel();
        let started = Instant::now();
        log.append(batch, Box::new(move |outcome| drop(reply.send(outcome)))).expect("the log takes it in");
        result.await.expect("called").expect("written");
        times.push(started.elapsed());
        if next > KEPT && next.is_multiple_of(1000) {
            log.purge(LogPosition { term: 1, index: next - KEPT }, Box::new(drop));
        }
    }
    times
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir, numbers @ ..] = &arguments[..] else { return Err("which directory?".into()) };
    let numbers = numbers.iter().map(|text| text.parse()).collect::<Result<Vec<u64>, _>>()?;
    let [groups, entries, bytes, seconds] = numbers[..] else { return Err("four numbers, please".into()) };
    let opened = Instant::now();
    let disk = Arc::new(RealDisk::open(dir.as_ref())?);
    let wal = Wal::open(disk, WalConfig::default(), Driver::Thread)?;
    println!("opened in {:?}", opened.elapsed());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build()?;
    let until = Instant::now() + Duration::from_secs(seconds);
    let payload = Bytes::from(vec![7; usize::try_from(bytes)?]);
    let tasks: Vec<_> = (0..groups)
        .map(|group| {
            let log = wal.group(GroupId(u32::try_from(group).unwrap_or(0)));
            runtime.spawn(load(log, entries, payload.clone(), until))
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(runtime.block_on(task)?);
    }
    times.sort();
    let stats = wal.stats();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!("p50 {:?}  p99 {:?}  max {:?}", at(50), at(99), at(100));
    println!(
        "{} syncs/s of {} us  {} entries/s  {} MB/s  {} segments",
        stats.syncs / seconds,
        stats.sync_nanos / 1000 / stats.syncs.max(1),
        stats.entries / seconds,
        stats.bytes / 1_000_000 / seconds,
        stats.segments,
    );
    runtime.block_on(wal.close());
    Ok(())
}
