//! Damage: a small log, cut at every byte, and with every sector corrupted or
//! zeroed. Opening either refuses or finds everything acknowledged.

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use trine_types::GroupId;

use super::suite::{TASK, entry, tiny};
use super::{GroupLog, LogEntry, Wal, WalError};
use crate::disk::{SECTOR_BYTES, SimDisk};

const GROUPS: [GroupId; 2] = [GroupId(0), GroupId::partition(3)];

type Content = Vec<(Option<Bytes>, Vec<LogEntry>)>;

fn content(wal: &Wal) -> Content {
    let read = |log: GroupLog| (log.bounds().vote, log.read(0, u64::MAX, usize::MAX).expect("readable"));
    GROUPS.iter().map(|group| read(wal.group(*group))).collect()
}

fn open(disk: &SimDisk) -> Result<Wal, WalError> {
    Wal::open(disk.mount().expect("mount"), tiny(), TASK)
}

async fn acknowledged<R>(submit: impl FnOnce(super::Done) -> R) {
    let (reply, result) = tokio::sync::oneshot::channel();
    submit(Box::new(move |outcome| drop(reply.send(outcome))));
    result.await.expect("called").expect("acknowledged");
}

/// Two segments, the second half full. Returns the content before the last
/// batch and after it.
async fn small_log() -> (SimDisk, Content, Content) {
    let disk = SimDisk::new(1);
    let wal = open(&disk).expect("a new log");
    let vote = Bytes::from_static(b"a vote");
    acknowledged(|done| wal.group(GROUPS[0]).save_vote(vote, done)).await;
    for index in 1..=12 {
        for group in GROUPS {
            acknowledged(|done| wal.group(group).append(vec![entry(1, index, 2500)], done)).await;
        }
    }
    let before = content(&wal);
    let last = (13..=14).map(|index| entry(2, index, 2500)).collect();
    acknowledged(|done| wal.group(GROUPS[1]).append(last, done)).await;
    let after = content(&wal);
    assert_eq!(wal.stats().segments, 2);
    wal.close().await;
    disk.crash();
    (disk, before, after)
}

pub(super) fn is_segment(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, suffix)| suffix == "seg")
}

fn segments(disk: &SimDisk) -> Vec<(String, usize)> {
    let names = disk.names().into_iter().filter(|name| is_segment(name));
    names.map(|name| (name.clone(), disk.content(&name).map_or(0, |bytes| bytes.len()))).collect()
}

#[tokio::test(start_paused = true)]
async fn a_segment_cut_at_any_byte_is_refused() {
    let (disk, _, after) = small_log().await;
    assert_eq!(content(&open(&disk).expect("intact")), after);
    disk.kill();
    for (name, length) in segments(&disk) {
        let copy = disk.copy(1);
        for cut in (0..length).rev() {
            assert!(copy.truncate(&name, cut));
            let error = open(&copy).err();
            assert!(matches!(error, Some(WalError::Corrupt { .. })), "{name} cut at {cut}: {error:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_corrupt_sector_is_refused_wherever_it_matters() {
    let (disk, _, after) = small_log().await;
    let (mut refused, mut harmless) = (0, 0);
    for (name, length) in segments(&disk) {
        for offset in (0..length).step_by(SECTOR_BYTES) {
            for within in [0, 5, 13, 300, 511] {
                let copy = disk.copy(1);
                assert!(copy.corrupt(&name, (offset + within) as u64, 1));
                match open(&copy) {
                    Err(WalError::Corrupt { .. }) => refused += 1,
                    Err(error) => panic!("{name} at {offset}: {error}"),
                    Ok(wal) => {
                        assert_eq!(content(&wal), after, "{name} at {offset}");
                        harmless += 1;
                    }
                }
            }
        }
    }
    // Only the unused rest of the first segment and of the header blocks.
    assert!(refused > 4 * harmless, "{refused} {harmless}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_sector_costs_at_most_the_last_batch() {
    let (disk, before, after) = small_log().await;
    let (mut refused, mut cut) = (0, 0);
    for (name, length) in segments(&disk) {
        for offset in (0..length).step_by(SECTOR_BYTES) {
            let copy = disk.copy(1);
            assert!(copy.zero(&name, offset as u64, SECTOR_BYTES));
            match open(&copy) {
                Err(WalError::Corrupt { .. }) => refused += 1,
                Err(error) => panic!("{name} at {offset}: {error}"),
                Ok(wal) => {
                    let found = content(&wal);
                    assert!(found == after || found == before, "{name} at {offset}");
                    cut += usize::from(found == before);
                }
            }
        }
    }
    // The last batch is 2 * 2529 bytes long.
    assert!(refused > 100 && cut == 16, "{refused} {cut}");
}

#[tokio::test(start_paused = true)]
async fn a_missing_segment_is_refused() {
    let (disk, ..) = small_log().await;
    let (first, _) = &segments(&disk)[0];
    let mount = disk.mount().expect("mount");
    mount.remove(first).expect("remove");
    drop(mount);
    assert!(matches!(open(&disk).err(), Some(WalError::Corrupt { .. })));
}

#[tokio::test(start_paused = true)]
async fn random_bytes_never_panic_and_never_pass() {
    let (disk, before, after) = small_log().await;
    let mut random = StdRng::seed_from_u64(1);
    let files = segments(&disk);
    for _ in 0..300 {
        let copy = disk.copy(1);
        let (name, length) = &files[random.random_range(0..files.len())];
        let from = random.random_range(0..*length);
        let size = random.random_range(1..=8192).min(length - from);
        let noise: Vec<u8> = (0..size).map(|_| random.random()).collect();
        let mount = copy.mount().expect("mount");
        let offset = u64::try_from(from).expect("small");
        mount.open(name, false).expect("open").write_at(offset, &noise).expect("write");
        drop(mount);
        match open(&copy) {
            Err(WalError::Corrupt { .. }) => {}
            Err(error) => panic!("{name}, {size} bytes at {from}: {error}"),
            Ok(wal) => {
                let found = content(&wal);
                assert!(found == after || found == before, "{name}, {size} bytes at {from}");
            }
        }
    }
}
