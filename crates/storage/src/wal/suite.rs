//! Stories of the log, in a small vocabulary. Most run with the simulator's
//! driver on paused time; the ones about threads run on a real disk.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use tokio::sync::oneshot;
use trine_types::GroupId;

use super::damage::is_segment;
use super::{Done, Driver, GroupLog, LogBounds, LogEntry, LogPosition, Space, Wal, WalConfig, WalError};
use crate::disk::{Disk, DiskFile, RealDisk, SimDisk};

pub(super) const TASK: Driver = Driver::Task { sync_latency: Duration::from_micros(200) };

/// The smallest segments: 64 KiB.
pub(super) fn tiny() -> WalConfig {
    WalConfig { segment_bytes: 64 * 1024, reserve_bytes: 64 * 1024, ..WalConfig::small() }
}

pub(super) fn at(term: u64, index: u64) -> LogPosition {
    LogPosition { term, index }
}

pub(super) fn entry(term: u64, index: u64, size: usize) -> LogEntry {
    let byte = u8::try_from((term * 31 + index) % 251).expect("small");
    LogEntry { at: at(term, index), payload: Bytes::from(vec![byte; size]) }
}

fn entries(term: u64, indexes: std::ops::RangeInclusive<u64>, size: usize) -> Vec<LogEntry> {
    indexes.map(|index| entry(term, index, size)).collect()
}

/// Calls `operation` and waits for its callback.
async fn done<R>(operation: impl FnOnce(Done) -> R) -> Result<(), WalError> {
    let (reply, result) = oneshot::channel();
    operation(Box::new(move |outcome| {
        let _ = reply.send(outcome);
    }));
    result.await.expect("every callback is called")
}

async fn append(log: &GroupLog, entries: Vec<LogEntry>) -> Result<(), WalError> {
    done(|done| log.append(entries, done)).await
}

async fn vote(log: &GroupLog, vote: &'static [u8]) -> Result<(), WalError> {
    done(|done| log.save_vote(Bytes::from_static(vote), done)).await
}

async fn purge(log: &GroupLog, upto: LogPosition) -> Result<(), WalError> {
    done(|done| log.purge(upto, done)).await
}

fn read_all(log: &GroupLog) -> Vec<LogEntry> {
    log.read(0, u64::MAX, usize::MAX).expect("readable")
}

fn open(disk: &SimDisk, config: WalConfig) -> Result<Wal, WalError> {
    Wal::open(disk.mount().expect("one process at a time"), config, TASK)
}

const A: GroupId = GroupId(1);
const B: GroupId = GroupId(2);

#[tokio::test(start_paused = true)]
async fn everything_acknowledged_is_there_after_a_power_failure() {
    let disk = SimDisk::new(1);
    let wal = open(&disk, tiny()).expect("a new log");
    let (a, b) = (wal.group(A), wal.group(B));
    append(&a, entries(1, 1..=5, 100)).await.expect("append");
    append(&b, entries(7, 1..=2, 0)).await.expect("append");
    vote(&b, b"b votes").await.expect("vote");
    done(|done| a.truncate_after(Some(3), done)).await.expect("truncate");
    append(&a, entries(2, 4..=4, 3000)).await.expect("append");
    purge(&a, at(1, 1)).await.expect("purge");
    disk.crash();
    let wal = open(&disk, tiny()).expect("recovers");
    let (a, b) = (wal.group(A), wal.group(B));
    let expected = [entries(1, 2..=3, 100), entries(2, 4..=4, 3000)].concat();
    assert_eq!(read_all(&a), expected);
    assert_eq!(a.bounds(), LogBounds { purged: Some(at(1, 1)), last: Some(at(2, 4)), vote: None });
    assert_eq!(read_all(&b), entries(7, 1..=2, 0));
    assert_eq!(b.bounds().vote.as_deref(), Some(&b"b votes"[..]));
    assert_eq!(wal.groups(), [A, B]);
}

#[tokio::test(start_paused = true)]
async fn changes_are_visible_at_once_and_reads_are_bounded() {
    let disk = SimDisk::new(1);
    let wal = open(&disk, tiny()).expect("a new log");
    let log = wal.group(A);
    assert_eq!(log.bounds(), LogBounds::default());
    log.append(entries(3, 10..=19, 100), Box::new(drop)).expect("taken in");
    assert_eq!(log.bounds().last, Some(at(3, 19)));
    assert_eq!(log.first(), Some(10));
    assert_eq!((log.term_of(15), log.term_of(9), log.term_of(20)), (Some(3), None, None));
    let indexes = |from, to, max| -> Vec<u64> {
        log.read(from, to, max).expect("read").iter().map(|entry| entry.at.index).collect()
    };
    assert_eq!(indexes(12, 14, usize::MAX), [12, 13]);
    assert_eq!(indexes(0, 12, usize::MAX), [10, 11]);
    assert_eq!(indexes(18, 99, usize::MAX), [18, 19]);
    assert_eq!(indexes(12, 19, 250), [12, 13]);
    assert_eq!(indexes(12, 19, 1), [12], "at least one");
    assert_eq!(indexes(20, 30, 1), []);
    assert_eq!(indexes(14, 12, 1), []);
    log.purge(at(3, 30), Box::new(drop));
    let bounds = log.bounds();
    assert_eq!((bounds.purged, bounds.last, log.first()), (Some(at(3, 30)), Some(at(3, 30)), None));
}

#[tokio::test(start_paused = true)]
async fn mistakes_of_the_caller_change_nothing() {
    let disk = SimDisk::new(1);
    let wal = open(&disk, tiny()).expect("a new log");
    let log = wal.group(A);
    append(&log, entries(1, 1..=2, 1)).await.expect("append");
    let gap = |got| Err(WalError::Gap { group: A, expected: 3, got });
    assert_eq!(append(&log, entries(1, 4..=4, 1)).await, gap(4));
    assert_eq!(append(&log, entries(1, 2..=2, 1)).await, gap(2));
    let huge = LogEntry { at: at(1, 3), payload: Bytes::from(vec![0; super::MAX_PAYLOAD_BYTES + 1]) };
    assert!(matches!(append(&log, vec![huge]).await, Err(WalError::TooLarge { .. })));
    assert_eq!(append(&log, Vec::new()).await, Ok(()));
    assert_eq!(read_all(&log), entries(1, 1..=2, 1));
    disk.crash();
    assert_eq!(read_all(&open(&disk, tiny()).expect("recovers").group(A)), entries(1, 1..=2, 1));
}

#[tokio::test(start_paused = true)]
async fn one_sync_serves_all_groups() {
    let disk = SimDisk::new(1);
    let wal = open(&disk, WalConfig::small()).expect("a new log");
    let before = disk.counters().syncs;
    let logs: Vec<_> = (0..100).map(|group| wal.group(GroupId(group))).collect();
    let appends = logs.iter().map(|log| append(log, entries(1, 1..=1, 50)));
    for outcome in futures::future::join_all(appends).await {
        outcome.expect("append");
    }
    assert!(disk.counters().syncs - before <= 2, "{:?}", wal.stats());
    assert_eq!((wal.stats().entries, wal.stats().operations), (100, 100));
}

#[tokio::test(start_paused = true)]
async fn old_entries_are_read_from_the_files() {
    let disk = SimDisk::new(1);
    let config = WalConfig { cache_bytes: 1000, ..tiny() };
    let wal = open(&disk, config).expect("a new log");
    let log = wal.group(A);
    for index in 1..=200 {
        append(&log, vec![entry(1, index, 700)]).await.expect("append");
    }
    assert!(wal.stats().cached_bytes <= 1000);
    assert!(wal.stats().segments > 1);
    assert_eq!(read_all(&log), entries(1, 1..=200, 700));
    assert!(disk.corrupt("wal/00000001.seg", 3 * 4096, 1));
    assert!(matches!(log.read(1, 200, usize::MAX), Err(WalError::Corrupt { .. })));
}

#[tokio::test(start_paused = true)]
async fn segments_are_recycled_and_quiet_groups_keep_their_facts() {
    let disk = SimDisk::new(1);
    let wal = open(&disk, tiny()).expect("a new log");
    let (busy, quiet) = (wal.group(A), wal.group(B));
    vote(&quiet, b"old vote").await.expect("vote");
    append(&quiet, entries(1, 1..=3, 10)).await.expect("append");
    purge(&quiet, at(1, 3)).await.expect("purge");
    for index in 1..=1000_u64 {
        append(&busy, vec![entry(1, index, 1000)]).await.expect("append");
        if index.is_multiple_of(10) {
            purge(&busy, at(1, index - 5)).await.expect("purge");
        }
    }
    assert!(wal.stats().segments <= 2, "{:?}", wal.stats());
    let files = disk.names().iter().filter(|name| is_segment(name)).count();
    assert!(files <= 4, "{files} files");
    disk.crash();
    let wal = open(&disk, tiny()).expect("recovers");
    let bounds = wal.group(B).bounds();
    assert_eq!((bounds.purged, bounds.vote.as_deref()), (Some(at(1, 3)), Some(&b"old vote"[..])));
    assert_eq!(read_all(&wal.group(A)), entries(1, 996..=1000, 1000));
}

#[tokio::test(start_paused = true)]
async fn a_group_that_pins_old_segments_is_named() {
    let disk = SimDisk::new(1);
    let wal = open(&disk, tiny()).expect("a new log");
    let (busy, quiet) = (wal.group(A), wal.group(B));
    append(&quiet, entries(1, 1..=10, 3000)).await.expect("append");
    assert_eq!(wal.pinning_groups(), []);
    for index in 1..=100_u64 {
        append(&busy, vec![entry(1, index, 4000)]).await.expect("append");
        purge(&busy, at(1, index)).await.expect("purge");
    }
    let pins = wal.pinning_groups();
    assert_eq!(pins.iter().map(|pin| (pin.group, pin.oldest)).collect::<Vec<_>>(), [(B, 1)]);
    let reached = wal.stats().segments;
    purge(&quiet, at(1, 10)).await.expect("purge");
    purge(&busy, at(1, 100)).await.expect("another batch says what is free");
    assert_eq!(wal.pinning_groups(), []);
    assert!(wal.stats().segments < reached);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_group_is_carried_forward() {
    let disk = SimDisk::new(1);
    let config = || WalConfig { cache_bytes: 5000, ..tiny() };
    let wal = open(&disk, config()).expect("a new log");
    let (busy, quiet) = (wal.group(A), wal.group(B));
    append(&quiet, entries(1, 1..=5, 10)).await.expect("append");
    purge(&quiet, at(1, 1)).await.expect("purge");
    done(|done| quiet.truncate_after(Some(4), done)).await.expect("truncate");
    append(&quiet, entries(2, 5..=5, 1000)).await.expect("append");
    for index in 1..=200_u64 {
        append(&busy, vec![entry(1, index, 4000)]).await.expect("append");
        purge(&busy, at(1, index)).await.expect("purge");
        if index == 100 {
            append(&quiet, entries(2, 6..=6, 10)).await.expect("append");
        }
    }
    assert_eq!(wal.pinning_groups(), []);
    assert!(wal.stats().segments <= 5, "{:?}", wal.stats());
    let expected = [entries(1, 2..=4, 10), entries(2, 5..=5, 1000), entries(2, 6..=6, 10)].concat();
    assert_eq!(read_all(&quiet), expected);
    disk.crash();
    let wal = open(&disk, config()).expect("recovers");
    let quiet = wal.group(B);
    assert_eq!(read_all(&quiet), expected);
    let bounds = LogBounds { purged: Some(at(1, 1)), last: Some(at(2, 6)), vote: None };
    assert_eq!(quiet.bounds(), bounds);
}

#[tokio::test(start_paused = true)]
async fn a_destroyed_group_starts_afresh() {
    let disk = SimDisk::new(1);
    let wal = open(&disk, tiny()).expect("a new log");
    let log = wal.group(A);
    append(&log, entries(1, 1..=9, 10)).await.expect("append");
    vote(&log, b"v").await.expect("vote");
    log.destroy(Box::new(drop));
    append(&log, entries(5, 3..=4, 20)).await.expect("append");
    let check = |log: &GroupLog| {
        assert_eq!(read_all(log), entries(5, 3..=4, 20));
        assert_eq!(log.bounds(), LogBounds { purged: None, last: Some(at(5, 4)), vote: None });
    };
    check(&log);
    disk.crash();
    check(&open(&disk, tiny()).expect("recovers").group(A));
}

#[tokio::test(start_paused = true)]
async fn an_append_larger_than_a_segment_gets_a_file_of_its_own_size() {
    let disk = SimDisk::new(1);
    let wal = open(&disk, tiny()).expect("a new log");
    let log = wal.group(A);
    append(&log, entries(1, 1..=2, 200_000)).await.expect("append");
    append(&log, entries(1, 3..=3, 10)).await.expect("append");
    drop((log, wal));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let wal = open(&disk, tiny()).expect("recovers");
    let log = wal.group(A);
    assert_eq!(read_all(&log), [entries(1, 1..=2, 200_000), entries(1, 3..=3, 10)].concat());
    for index in 4..100 {
        append(&log, vec![entry(1, index, 10_000)]).await.expect("append");
        purge(&log, at(1, index)).await.expect("purge");
    }
    let sizes: Vec<_> =
        disk.names().iter().filter_map(|name| disk.content(name)).map(|file| file.len()).collect();
    assert!(sizes.iter().all(|size| *size <= 64 * 1024), "the large file was removed: {sizes:?}");
}

#[tokio::test(start_paused = true)]
async fn the_files_of_a_new_log_begin_small_and_double() {
    let disk = SimDisk::new(1);
    let config = || WalConfig { cache_bytes: 1000, ..WalConfig::small() };
    let sizes = || -> Vec<_> {
        let names = disk.names().into_iter().filter(|name| is_segment(name));
        names.filter_map(|name| disk.content(&name)).map(|file| file.len() >> 10).collect()
    };
    let wal = open(&disk, config()).expect("a new log");
    let log = wal.group(A);
    assert_eq!(sizes(), [64]);
    for index in 1..=10 {
        append(&log, vec![entry(1, index, 10_000)]).await.expect("append");
    }
    assert_eq!(sizes(), [64, 128]);
    disk.crash();
    let wal = open(&disk, config()).expect("recovers");
    let log = wal.group(A);
    for index in 11..=45 {
        append(&log, vec![entry(1, index, 10_000)]).await.expect("append");
    }
    assert_eq!(sizes(), [64, 128, 256, 256]);
    purge(&log, at(1, 45)).await.expect("purge");
    append(&log, vec![entry(1, 46, 10)]).await.expect("another batch says what is free");
    assert_eq!(sizes(), [256, 256], "small files are not used again");
}

#[tokio::test(start_paused = true)]
async fn a_failed_sync_stops_the_log_for_good() {
    let disk = SimDisk::new(1);
    let wal = open(&disk, tiny()).expect("a new log");
    let log = wal.group(A);
    append(&log, entries(1, 1..=1, 10)).await.expect("append");
    let failed = wal.failed();
    assert!(wal.failed().now_or_never().is_none());
    disk.fail_syncs(1);
    let other = wal.group(B);
    let outcomes = futures::join!(append(&log, entries(1, 2..=2, 10)), vote(&other, b"v"));
    for outcome in [outcomes.0, outcomes.1] {
        assert!(matches!(outcome, Err(WalError::Failed { .. })), "{outcome:?}");
    }
    let text = failed.await.to_string();
    assert!(text.contains("injected sync failure") && text.contains("must stop"), "{text}");
    assert!(matches!(append(&log, entries(1, 3..=3, 10)).await, Err(WalError::Failed { .. })));
    wal.close().await;
    disk.crash();
    let found = read_all(&open(&disk, tiny()).expect("recovers").group(A));
    assert!(found.starts_with(&entries(1, 1..=1, 10)));
}

#[tokio::test(start_paused = true)]
async fn what_a_failed_sync_left_in_memory_is_synced_at_the_next_start() {
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        let wal = open(&disk, tiny()).expect("a new log");
        append(&wal.group(A), entries(1, 1..=1, 10)).await.expect("append");
        disk.fail_syncs(1);
        append(&wal.group(A), entries(1, 2..=2, 10)).await.expect_err("failed");
        // The process dies, the machine goes on; then the power fails.
        disk.kill();
        let wal = open(&disk, tiny()).expect("recovers");
        let seen = read_all(&wal.group(A));
        disk.crash();
        let wal = open(&disk, tiny()).expect("recovers");
        assert_eq!(read_all(&wal.group(A)), seen, "what was once recovered stays");
    }
}

#[tokio::test(start_paused = true)]
async fn low_space_is_said_early_and_the_reserve_keeps_deletes_going() {
    let disk = SimDisk::new(1);
    let wal = open(&disk, tiny()).expect("a new log");
    let log = wal.group(A);
    append(&log, entries(1, 1..=1, 10)).await.expect("append");
    assert_eq!(wal.space(), Space::Ok);
    assert!(disk.content("wal/reserve").is_some());
    disk.fill_up();
    let mut index = 1;
    while wal.space() == Space::Ok {
        index += 1;
        append(&log, vec![entry(1, index, 20_000)]).await.expect("segments are allocated beforehand");
    }
    assert_eq!(disk.content("wal/reserve"), None, "the reserve was given up");
    purge(&log, at(1, index)).await.expect("deletes go on");
    append(&log, vec![entry(1, index + 1, 20_000)]).await.expect("into the space of the reserve");
    disk.set_capacity(u64::MAX);
    assert_eq!(wal.space(), Space::Ok);
    append(&log, vec![entry(1, index + 2, 100)]).await.expect("append");
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_stops_the_log_and_says_so() {
    let disk = SimDisk::new(1);
    let wal = open(&disk, WalConfig { reserve_bytes: 0, low_space_bytes: 0, ..tiny() }).expect("a new log");
    let log = wal.group(A);
    disk.fill_up();
    let mut acknowledged = 0;
    let error = loop {
        match append(&log, vec![entry(1, acknowledged + 1, 20_000)]).await {
            Ok(()) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("disk is full"), "{error}");
    assert!(acknowledged >= 2);
    wal.close().await;
    disk.crash();
    disk.set_capacity(u64::MAX);
    let found = read_all(&open(&disk, tiny()).expect("recovers").group(A));
    assert_eq!(found, (1..=acknowledged).map(|index| entry(1, index, 20_000)).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_lost_log_is_not_taken_for_a_new_one() {
    let disk = SimDisk::new(1);
    let must_exist = WalConfig { must_exist: true, ..tiny() };
    assert_eq!(open(&disk, must_exist.clone()).err(), Some(WalError::Missing));
    drop(open(&disk, tiny()).expect("a new log"));
    disk.crash();
    drop(open(&disk, must_exist).expect("it is there"));
    disk.crash();
    let mount = disk.mount().expect("mount");
    mount.remove("wal/00000001.seg").expect("remove");
    mount.sync_dir("wal").expect("sync");
    drop(mount);
    assert_eq!(open(&disk, tiny()).err(), Some(WalError::Missing));
}

#[tokio::test(start_paused = true)]
async fn a_closed_log_has_written_everything_and_refuses_more() {
    let disk = SimDisk::new(1);
    let wal = open(&disk, tiny()).expect("a new log");
    let log = wal.group(A);
    let mut outcomes = Vec::new();
    for index in 1..=50 {
        let (reply, result) = oneshot::channel();
        let done = Box::new(move |outcome| drop(reply.send(outcome)));
        log.append(vec![entry(1, index, 5000)], done).expect("taken in");
        outcomes.push(result);
    }
    wal.close().await;
    for outcome in outcomes {
        assert_eq!(outcome.await, Ok(Ok(())));
    }
    assert_eq!(append(&log, entries(1, 51..=51, 1)).await, Err(WalError::Closed));
}

#[tokio::test(start_paused = true)]
async fn ready_holds_callers_back_while_the_queue_is_full() {
    let disk = SimDisk::new(1);
    let wal = open(&disk, WalConfig { queue_bytes: 10_000, ..tiny() }).expect("a new log");
    let log = wal.group(A);
    log.ready().await;
    log.append(entries(1, 1..=1, 20_000), Box::new(drop)).expect("taken in");
    assert!(log.ready().now_or_never().is_none(), "full");
    log.ready().await;
}

#[tokio::test]
async fn a_real_disk_with_a_thread_gives_the_same() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = WalConfig { low_space_bytes: 0, ..tiny() };
    let disk = || -> Arc<dyn Disk> { Arc::new(RealDisk::open(folder.path()).expect("opens")) };
    let wal = Wal::open(disk(), config.clone(), Driver::Thread).expect("a new log");
    let log = wal.group(A);
    for index in 1..=300_u64 {
        append(&log, vec![entry(1, index, 1000)]).await.expect("append");
        if index.is_multiple_of(50) {
            purge(&log, at(1, index - 20)).await.expect("purge");
        }
    }
    vote(&wal.group(B), b"v").await.expect("vote");
    wal.close().await;
    drop(log);
    let wal = Wal::open(disk(), config, Driver::Thread).expect("recovers");
    assert_eq!(read_all(&wal.group(A)), entries(1, 281..=300, 1000));
    assert_eq!(wal.group(B).bounds().vote.as_deref(), Some(&b"v"[..]));
}

/// A disk that knows whether it holds unsynced writes.
struct Watched {
    disk: Arc<dyn Disk>,
    dirty: Arc<AtomicBool>,
    syncs: Arc<Mutex<u64>>,
}

struct WatchedFile {
    file: Box<dyn DiskFile>,
    dirty: Arc<AtomicBool>,
    syncs: Arc<Mutex<u64>>,
}

impl Disk for Watched {
    fn open(&self, name: &str, create: bool) -> std::io::Result<Box<dyn DiskFile>> {
        let file = self.disk.open(name, create)?;
        Ok(Box::new(WatchedFile { file, dirty: self.dirty.clone(), syncs: self.syncs.clone() }))
    }

    fn list(&self, dir: &str) -> std::io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn rename(&self, from: &str, to: &str) -> std::io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> std::io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_dir(&self, dir: &str) -> std::io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn free_bytes(&self) -> std::io::Result<u64> {
        self.disk.free_bytes()
    }
}

impl DiskFile for WatchedFile {
    fn write_at(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.dirty.store(true, Ordering::SeqCst);
        self.file.write_at(offset, data)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<()> {
        self.file.read_at(offset, buffer)
    }

    fn length(&self) -> std::io::Result<u64> {
        self.file.length()
    }

    fn zero_fill(&self, bytes: u64) -> std::io::Result<()> {
        self.file.zero_fill(bytes)
    }

    fn allocate(&self, bytes: u64) -> std::io::Result<()> {
        self.file.allocate(bytes)
    }

    fn set_len(&self, bytes: u64) -> std::io::Result<()> {
        self.file.set_len(bytes)
    }

    fn sync(&self) -> std::io::Result<()> {
        self.file.sync()?;
        self.dirty.store(false, Ordering::SeqCst);
        *self.syncs.lock().expect("not poisoned") += 1;
        Ok(())
    }
}

async fn early_callbacks(driver: Driver) -> u64 {
    let (dirty, syncs) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(0)));
    let disk = SimDisk::new(1).mount().expect("mount");
    let disk = Arc::new(Watched { disk, dirty: dirty.clone(), syncs: syncs.clone() });
    let wal = Wal::open(disk, tiny(), driver).expect("a new log");
    let early = Arc::new(AtomicU64::new(0));
    for round in 1..=50_u64 {
        let before = *syncs.lock().expect("not poisoned");
        for group in 0..4 {
            let (dirty, syncs, early) = (dirty.clone(), syncs.clone(), early.clone());
            let taken = wal.group(GroupId(group)).append(
                vec![entry(1, round, 3000)],
                Box::new(move |_| {
                    let synced = *syncs.lock().expect("not poisoned") > before;
                    if dirty.load(Ordering::SeqCst) || !synced {
                        early.fetch_add(1, Ordering::SeqCst);
                    }
                }),
            );
            taken.expect("taken in");
        }
        vote(&wal.group(A), b"v").await.expect("vote");
    }
    early.load(Ordering::SeqCst)
}

#[tokio::test(start_paused = true)]
async fn no_callback_is_called_before_its_sync() {
    assert_eq!(early_callbacks(TASK).await, 0);
    assert_eq!(early_callbacks(Driver::Thread).await, 0);
    if cfg!(trine_planted) {
        trine_types::planted::set(Some(crate::planted::ACK_BEFORE_SYNC));
        assert!(early_callbacks(TASK).await > 0, "the planted bug is caught");
        trine_types::planted::set(None);
    }
}
