//! Opening: which files are segments, what they say, where the log ends.
//!
//! Strictness. The writer syncs each batch before it writes the next, and a
//! segment's end before it begins the next segment. So only the last batch of
//! the last segment may be torn: some of its sectors as written, the others
//! as they were before. It was never acknowledged, and is cut. Everything
//! else that does not verify is damage, and refuses to open.
//!
//! The one thing that cannot be told from a torn write is a last batch of
//! which the disk has *lost whole sectors* that it had promised to keep.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use trine_types::GroupId;

use super::codec::{Body, Record, SegmentHeader};
use super::config::{BLOCK_BYTES, MIN_SEGMENT_BYTES};
use super::extents::Extents;
use super::index::{GroupIndex, Place};
use super::pool::{DIR, SegmentFile, slot_name};
use super::reader::SectorReader;
use super::sector::{BLOCK_SECTORS, PAYLOAD_BYTES, Sector, byte_offset, inspect};
use super::{LogPosition, WalError};
use crate::disk::{Disk, SECTOR_BYTES};

/// What was found.
pub(super) struct Recovered {
    pub(super) indexes: BTreeMap<GroupId, GroupIndex>,
    pub(super) extents: Extents,
    /// The segments in use, by number; the last one is being written.
    pub(super) segments: BTreeMap<u32, SegmentFile>,
    /// Files that may be used for new segments.
    pub(super) spares: Vec<SegmentFile>,
    pub(super) next_slot: u64,
    /// Where the last segment goes on.
    pub(super) next_sector: u32,
    pub(super) next_batch: u32,
    /// Segments before this one are durably out of use.
    pub(super) first_live: u32,
}

impl Recovered {
    /// A new log in `file`, whose header says segment 1.
    pub(super) fn fresh(file: SegmentFile, next_slot: u64) -> Self {
        Self {
            indexes: BTreeMap::new(),
            extents: Extents::default(),
            segments: BTreeMap::from([(1, file)]),
            spares: Vec::new(),
            next_slot,
            next_sector: BLOCK_SECTORS,
            next_batch: 0,
            first_live: 1,
        }
    }
}

struct Found {
    file: SegmentFile,
    header: SegmentHeader,
}

fn read_failed(error: &io::Error) -> WalError {
    WalError::open("a segment could not be read", error)
}

/// Recovers the log; `None` if there is no segment at all.
pub(super) fn recover(disk: &dyn Disk) -> Result<Option<Recovered>, WalError> {
    let (found, mut spares, next_slot) = find_files(disk)?;
    let Some((&last, newest)) = found.last_key_value() else {
        return Ok(None);
    };
    let declared = newest.header.first_live;
    let mut oldest = last;
    while oldest > declared && found.contains_key(&(oldest - 1)) {
        oldest -= 1;
    }
    let mut replay = Replay { first_live: declared, ..Replay::default() };
    let mut segments = BTreeMap::new();
    let mut end = (BLOCK_SECTORS, 0);
    for (number, Found { file, header }) in &found {
        if *number < oldest {
            spares.push(file.clone());
            continue;
        }
        let known = found.get(&(number + 1)).map(|next| (next.header.prev_end, next.header.prev_batches));
        end = replay.segment(file, header, known)?;
        segments.insert(*number, file.clone());
    }
    if oldest > replay.first_live {
        return Err(WalError::corrupt(format!("segment {} is missing", oldest - 1)));
    }
    replay.check_groups()?;
    let unused =
        segments.keys().copied().take_while(|number| *number < replay.first_live).collect::<Vec<_>>();
    spares.extend(unused.iter().filter_map(|number| segments.remove(number)));
    Ok(Some(Recovered {
        indexes: replay.indexes,
        extents: replay.extents,
        segments,
        spares,
        next_slot,
        next_sector: end.0,
        next_batch: end.1,
        first_live: replay.first_live,
    }))
}

type Files = (BTreeMap<u32, Found>, Vec<SegmentFile>, u64);

fn find_files(disk: &dyn Disk) -> Result<Files, WalError> {
    let mut found = BTreeMap::new();
    let mut spares = Vec::new();
    let mut next_slot = 1;
    for name in disk.list(DIR).map_err(|error| WalError::open("its directory could not be read", &error))? {
        let Some((slot, suffix)) = name.split_once('.') else { continue };
        let Ok(slot) = slot.parse::<u64>() else { continue };
        next_slot = next_slot.max(slot + 1);
        if suffix == "new" {
            // Was being made when the node stopped.
            disk.remove(&slot_name(slot, "new")).map_err(|error| WalError::open(&name, &error))?;
        }
        if suffix != "seg" {
            continue;
        }
        let (file, header) = open_segment(disk, slot, &name)?;
        match header {
            None => spares.push(file),
            Some(header) => {
                let number = header.segment;
                if found.insert(number, Found { file, header }).is_some() {
                    return Err(WalError::corrupt(format!("two files are segment {number}")));
                }
            }
        }
    }
    Ok((found, spares, next_slot))
}

fn open_segment(
    disk: &dyn Disk,
    slot: u64,
    name: &str,
) -> Result<(SegmentFile, Option<SegmentHeader>), WalError> {
    let damaged = |what: &str| WalError::corrupt(format!("{DIR}/{name}: {what}"));
    let file = disk.open(&slot_name(slot, "seg"), false).map_err(|error| WalError::open(name, &error))?;
    let bytes = file.length().map_err(|error| WalError::open(name, &error))?;
    if bytes < MIN_SEGMENT_BYTES || !bytes.is_multiple_of(BLOCK_BYTES as u64) {
        return Err(damaged("the file was cut"));
    }
    let sectors = u32::try_from(bytes / SECTOR_BYTES as u64).map_err(|_| damaged("the file is too large"))?;
    let mut first = [0; SECTOR_BYTES];
    file.read_at(0, &mut first).map_err(|error| read_failed(&error))?;
    let header = SegmentHeader::decode(&first).map_err(|bad| damaged(bad.0))?;
    match header {
        Some(header) if header.sectors != sectors => return Err(damaged("the file was cut")),
        Some(header) if header.segment == 0 || header.first_live > header.segment => {
            return Err(damaged("the segment's header makes no sense"));
        }
        Some(_) => {}
        None => {
            let mut block = [0; SECTOR_BYTES];
            file.read_at(byte_offset(BLOCK_SECTORS), &mut block).map_err(|error| read_failed(&error))?;
            if block.iter().any(|byte| *byte != 0) {
                return Err(damaged("the segment's header is gone"));
            }
        }
    }
    Ok((SegmentFile { slot, file: Arc::from(file), sectors }, header))
}

/// The log as far as it was replayed.
#[derive(Default)]
struct Replay {
    indexes: BTreeMap<GroupId, GroupIndex>,
    extents: Extents,
    first_live: u32,
    batch: Vec<u8>,
}

impl Replay {
    /// Replays one segment; `known` is where it must end, unless it is the
    /// last. Returns the sector after its last batch and how many it has.
    fn segment(
        &mut self,
        file: &SegmentFile,
        header: &SegmentHeader,
        known: Option<(u32, u32)>,
    ) -> Result<(u32, u32), WalError> {
        let number = header.segment;
        let mut reader = SectorReader::new(&*file.file, file.sectors);
        let mut batch = std::mem::take(&mut self.batch);
        let (mut sector, mut batches, mut last) = (BLOCK_SECTORS, 0, BLOCK_SECTORS);
        while known != Some((sector, batches)) {
            let read = reader.batch(sector, number, batches, &mut batch);
            let Some(count) = read.map_err(|error| read_failed(&error))? else {
                if known.is_some() {
                    return Err(WalError::corrupt(format!(
                        "segment {number}, sector {sector}: batch {batches} does not verify, \
                         and later segments exist"
                    )));
                }
                let torn = torn_end(&mut reader, number, sector, batches)?;
                settle(file, header, last..sector, torn).map_err(|error| {
                    WalError::open("the end of the log could not be made durable", &error)
                })?;
                break;
            };
            self.records(&batch, number, sector)?;
            last = sector;
            sector += count;
            batches += 1;
        }
        self.batch = batch;
        Ok((sector, batches))
    }

    fn records(&mut self, batch: &[u8], segment: u32, first: u32) -> Result<(), WalError> {
        let mut offset = 0;
        loop {
            let damaged = |what: &str| {
                WalError::corrupt(format!(
                    "segment {segment}, batch at sector {first}, byte {offset}: {what}"
                ))
            };
            let Some((record, length)) = Record::decode(&batch[offset..]).map_err(|bad| damaged(bad.0))?
            else {
                return Ok(());
            };
            let place = place(segment, first, offset, length).ok_or_else(|| damaged("its place"))?;
            self.record(&record, place).map_err(|error| damaged(&error.to_string()))?;
            offset += length;
        }
    }

    fn record(&mut self, record: &Record<'_>, place: Place) -> Result<(), WalError> {
        let group = record.group;
        if let Body::Freed { first_live } = record.body {
            self.first_live = self.first_live.max(first_live);
            return Ok(());
        }
        let index = self.indexes.entry(group).or_insert_with(|| GroupIndex::new(group));
        match record.body {
            Body::Entry(at, _) => {
                index.restore(at, place)?;
                self.extents.add(group, place.segment, at.index);
            }
            Body::Vote(vote) => index.set_vote(bytes::Bytes::copy_from_slice(vote)),
            Body::TruncateAfter(last_kept) => {
                index.truncate_after(last_kept);
                self.extents.truncate_after(group, last_kept);
            }
            Body::Purge(upto) => {
                index.purge(upto);
                self.extents.purge(group, upto.index);
            }
            Body::Destroy => {
                index.destroy();
                self.extents.destroy(group);
            }
            Body::Freed { .. } => {}
        }
        Ok(())
    }

    /// A group's entries must begin right after its purged position.
    fn check_groups(&self) -> Result<(), WalError> {
        for (group, index) in &self.indexes {
            if let (Some(LogPosition { index: purged, .. }), Some(first)) =
                (index.bounds().purged, index.first_entry())
                && first != purged + 1
            {
                return Err(WalError::corrupt(format!(
                    "{group}: entries after {purged}, the last purged one, and before {first} are missing"
                )));
            }
        }
        Ok(())
    }
}

/// The place of a record `offset` bytes into the batch at sector `first`.
pub(super) fn place(segment: u32, first: u32, offset: usize, length: usize) -> Option<Place> {
    Some(Place {
        segment,
        sector: first.checked_add(u32::try_from(offset / PAYLOAD_BYTES).ok()?)?,
        offset: u16::try_from(offset % PAYLOAD_BYTES).ok()?,
        length: u32::try_from(length).ok()?,
    })
}

/// Checks that what lies from `from` on can only be the torn batch `batch`,
/// and returns the sector after the last one that has a part of it.
fn torn_end(reader: &mut SectorReader<'_>, segment: u32, from: u32, batch: u32) -> Result<u32, WalError> {
    let mut end = from;
    let mut size = None;
    for number in from..reader.sectors() {
        let sector = reader.get(number, 1).map_err(|error| read_failed(&error))?;
        match inspect(sector, number, segment) {
            Sector::Blank | Sector::Stale => {}
            Sector::Live { batch: found, left } if found == batch => {
                let count = u64::from(number - from) + u64::from(left) + 1;
                if *size.get_or_insert(count) != count {
                    return Err(WalError::corrupt(format!(
                        "segment {segment}, sector {number}: not part of the batch that it claims"
                    )));
                }
                end = number + 1;
            }
            Sector::Live { .. } => {
                return Err(WalError::corrupt(format!(
                    "segment {segment}, sector {from}: batch {batch} does not verify, and later batches exist"
                )));
            }
            Sector::Bad => {
                return Err(WalError::corrupt(format!(
                    "segment {segment}, sector {number} holds nothing that was ever written there"
                )));
            }
        }
    }
    Ok(end)
}

/// Makes the end of the log durable as it was read: the process before may
/// have died between a write and its sync, or of a failed sync, and then what
/// was read may be in memory only. Wipes the torn batch.
fn settle(
    file: &SegmentFile,
    header: &SegmentHeader,
    last_batch: std::ops::Range<u32>,
    torn_end: u32,
) -> io::Result<()> {
    file.file.write_at(0, &header.encode())?;
    let mut bytes = vec![0; (last_batch.end - last_batch.start) as usize * SECTOR_BYTES];
    file.file.read_at(byte_offset(last_batch.start), &mut bytes)?;
    bytes.resize((torn_end - last_batch.start) as usize * SECTOR_BYTES, 0);
    file.file.write_at(byte_offset(last_batch.start), &bytes)?;
    file.file.sync()
}
