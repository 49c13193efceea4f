//! Reading segments: whole batches in order while opening, single records
//! later.

use std::io;

use trine_types::GroupId;

use super::codec::{Body, Record};
use super::index::Place;
use super::sector::{self, PAYLOAD_BYTES, Sector, byte_offset, inspect};
use super::{LogEntry, LogPosition, WalError};
use crate::disk::{DiskFile, SECTOR_BYTES};

/// Sectors read ahead while opening.
const WINDOW_SECTORS: u32 = 1024;

/// Sectors of one file, read in large pieces.
pub(super) struct SectorReader<'a> {
    file: &'a dyn DiskFile,
    sectors: u32,
    start: u32,
    window: Vec<u8>,
}

impl<'a> SectorReader<'a> {
    pub(super) fn new(file: &'a dyn DiskFile, sectors: u32) -> Self {
        Self { file, sectors, start: 0, window: Vec::new() }
    }

    pub(super) fn sectors(&self) -> u32 {
        self.sectors
    }

    /// `count` sectors from `first`, all of which must be in the file.
    pub(super) fn get(&mut self, first: u32, count: u32) -> io::Result<&[u8]> {
        let held = u32::try_from(self.window.len() / SECTOR_BYTES).unwrap_or(u32::MAX);
        if first < self.start || first + count > self.start + held {
            let wanted = count.max(WINDOW_SECTORS).min(self.sectors - first);
            self.window.resize(wanted.max(count) as usize * SECTOR_BYTES, 0);
            self.start = first;
            self.file.read_at(byte_offset(first), &mut self.window)?;
        }
        let from = (first - self.start) as usize * SECTOR_BYTES;
        Ok(&self.window[from..from + count as usize * SECTOR_BYTES])
    }

    /// The batch number `batch` of `segment`, if it starts at `first` and is
    /// whole: how many sectors it has; its bytes are put into `into`.
    pub(super) fn batch(
        &mut self,
        first: u32,
        segment: u32,
        batch: u32,
        into: &mut Vec<u8>,
    ) -> io::Result<Option<u32>> {
        into.clear();
        if first >= self.sectors {
            return Ok(None);
        }
        let count = match inspect(self.get(first, 1)?, first, segment) {
            Sector::Live { batch: found, left } if found == batch && left < self.sectors - first => left + 1,
            _ => return Ok(None),
        };
        let bytes = self.get(first, count)?;
        for (position, bytes) in (0..count).zip(bytes.chunks_exact(SECTOR_BYTES)) {
            let expected = Sector::Live { batch, left: count - 1 - position };
            if inspect(bytes, first + position, segment) != expected {
                return Ok(None);
            }
            into.extend_from_slice(sector::payload(bytes));
        }
        Ok(Some(count))
    }
}

/// Why a record could not be read back.
pub(super) enum ReadBack {
    /// The disk failed.
    Disk(io::Error),
    /// What is there is not the record; it may have been purged meanwhile.
    Other(&'static str),
}

/// Reads the entry `at` of `group` from its place.
pub(super) fn read_entry(
    file: &dyn DiskFile,
    group: GroupId,
    at: LogPosition,
    place: Place,
) -> Result<LogEntry, ReadBack> {
    let end = usize::from(place.offset) + place.length as usize;
    let sectors = end.div_ceil(PAYLOAD_BYTES);
    let mut bytes = vec![0; sectors * SECTOR_BYTES];
    file.read_at(byte_offset(place.sector), &mut bytes).map_err(ReadBack::Disk)?;
    let mut record = Vec::with_capacity(sectors * PAYLOAD_BYTES);
    for (number, bytes) in (place.sector..).zip(bytes.chunks_exact(SECTOR_BYTES)) {
        if !matches!(inspect(bytes, number, place.segment), Sector::Live { .. }) {
            return Err(ReadBack::Other("a sector does not verify"));
        }
        record.extend_from_slice(sector::payload(bytes));
    }
    let record = &record[usize::from(place.offset)..end];
    match Record::decode(record) {
        Ok(Some((Record { group: found, body: Body::Entry(position, payload) }, _)))
            if found == group && position == at =>
        {
            Ok(LogEntry { at, payload: bytes::Bytes::copy_from_slice(payload) })
        }
        Ok(_) => Err(ReadBack::Other("another record is in its place")),
        Err(bad) => Err(ReadBack::Other(bad.0)),
    }
}

impl ReadBack {
    pub(super) fn into_error(self, group: GroupId, at: LogPosition, place: Place) -> WalError {
        match self {
            Self::Disk(error) => WalError::failed("an entry could not be read", &error),
            Self::Other(what) => WalError::corrupt(format!(
                "{group}, entry {}, in segment {} at sector {}: {what}",
                at.index, place.segment, place.sector
            )),
        }
    }
}
