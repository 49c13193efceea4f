//! The bytes of records and of segment headers.
//!
//! ```text
//! record, anywhere in a batch:
//!  0        4        8       12     13     21      29
//!  | length | crc32c | group | kind | term | index | payload ... |
//!
//!  length   of the whole record; 0 where the padding of the batch begins
//!  crc32c   of the length and of all that follows the checksum
//!
//!  kind          term, index                       payload
//!  1 entry       the entry's log id                the entry
//!  2 vote        -                                 the vote
//!  3 truncate    1, the last index kept; 0, 0: all -
//!  4 purge       the last log id purged            -
//!  5 destroy     -                                 -
//!  6 freed       -, the oldest segment in use      - (group 0)
//!
//! segment header, the first sector of a file:
//!  0       8         12        16        20           24         28
//!  | magic | version | segment | sectors | first_live | prev_end | prev_batches | zeros | crc32c |
//!                                                                               32      508     512
//!  sectors       of the whole file
//!  first_live    the oldest segment in use when this one was begun
//!  prev_end      the sector after the last batch of the previous segment,
//!  prev_batches  and how many batches it has; 0 and 0 in segment 1
//! ```
//! Little-endian. Both formats are covered by [`FORMAT_VERSION`].

use trine_types::GroupId;

use super::LogPosition;
use crate::disk::SECTOR_BYTES;

/// Version of the log's format on disk.
pub(super) const FORMAT_VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"TRINEWAL";
pub(super) const RECORD_HEADER_BYTES: usize = 29;

/// What a record says; the payload is borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body<'a> {
    Entry(LogPosition, &'a [u8]),
    Vote(&'a [u8]),
    TruncateAfter(Option<u64>),
    Purge(LogPosition),
    Destroy,
    Freed { first_live: u32 },
}

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) group: GroupId,
    pub(super) body: Body<'a>,
}

/// The bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadRecord(pub(super) &'static str);

impl<'a> Record<'a> {
    fn fields(&self) -> (u8, u64, u64, &'a [u8]) {
        match self.body {
            Body::Entry(at, payload) => (1, at.term, at.index, payload),
            Body::Vote(vote) => (2, 0, 0, vote),
            Body::TruncateAfter(Some(last)) => (3, 1, last, &[]),
            Body::TruncateAfter(None) => (3, 0, 0, &[]),
            Body::Purge(at) => (4, at.term, at.index, &[]),
            Body::Destroy => (5, 0, 0, &[]),
            Body::Freed { first_live } => (6, 0, u64::from(first_live), &[]),
        }
    }

    /// Length of the whole record.
    pub(super) fn length(&self) -> usize {
        RECORD_HEADER_BYTES + self.fields().3.len()
    }

    /// The record's header; its payload follows it.
    pub(super) fn encode(&self) -> ([u8; RECORD_HEADER_BYTES], &'a [u8]) {
        let (kind, term, index, payload) = self.fields();
        let length = u32::try_from(RECORD_HEADER_BYTES + payload.len()).unwrap_or(u32::MAX);
        let mut header = [0; RECORD_HEADER_BYTES];
        header[..4].copy_from_slice(&length.to_le_bytes());
        header[8..12].copy_from_slice(&self.group.0.to_le_bytes());
        header[12] = kind;
        header[13..21].copy_from_slice(&term.to_le_bytes());
        header[21..29].copy_from_slice(&index.to_le_bytes());
        let checksum = checksum(&header, payload);
        header[4..8].copy_from_slice(&checksum.to_le_bytes());
        (header, payload)
    }

    /// The record at the start of `bytes` and its length; `None` where the
    /// padding begins.
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, BadRecord> {
        let Some(length) = bytes.get(..4) else {
            return if bytes.iter().all(|byte| *byte == 0) { Ok(None) } else { Err(BadRecord("cut off")) };
        };
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
        if length == 0 {
            return if bytes.iter().all(|byte| *byte == 0) {
                Ok(None)
            } else {
                Err(BadRecord("padding is not zero"))
            };
        }
        let record = bytes.get(..length).ok_or(BadRecord("longer than its batch"))?;
        let (header, payload) =
            record.split_first_chunk::<RECORD_HEADER_BYTES>().ok_or(BadRecord("shorter than its header"))?;
        let u32_at =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if u32_at(4) != checksum(header, payload) {
            return Err(BadRecord("checksum"));
        }
        let (term, index) = (u64_at(13), u64_at(21));
        let at = LogPosition { term, index };
        let body = match (header[12], payload.is_empty()) {
            (1, _) => Body::Entry(at, payload),
            (2, _) => Body::Vote(payload),
            (3, true) if term == 1 => Body::TruncateAfter(Some(index)),
            (3, true) if term == 0 && index == 0 => Body::TruncateAfter(None),
            (4, true) => Body::Purge(at),
            (5, true) => Body::Destroy,
            (6, true) => {
                let first_live = u32::try_from(index).map_err(|_| BadRecord("segment number"))?;
                Body::Freed { first_live }
            }
            _ => return Err(BadRecord("unknown kind")),
        };
        Ok(Some((Self { group: GroupId(u32_at(8)), body }, length)))
    }
}

fn checksum(header: &[u8; RECORD_HEADER_BYTES], payload: &[u8]) -> u32 {
    let sum = crc32c::crc32c(&header[..4]);
    let sum = crc32c::crc32c_append(sum, &header[8..]);
    crc32c::crc32c_append(sum, payload)
}

/// The first sector of a segment's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) segment: u32,
    pub(super) sectors: u32,
    pub(super) first_live: u32,
    pub(super) prev_end: u32,
    pub(super) prev_batches: u32,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SECTOR_BYTES] {
        let mut bytes = [0; SECTOR_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        let fields =
            [FORMAT_VERSION, self.segment, self.sectors, self.first_live, self.prev_end, self.prev_batches];
        for (position, field) in fields.into_iter().enumerate() {
            bytes[8 + 4 * position..][..4].copy_from_slice(&field.to_le_bytes());
        }
        let checksum = crc32c::crc32c(&bytes[..SECTOR_BYTES - 4]);
        bytes[SECTOR_BYTES - 4..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The header in the first sector of a file; `None` if the file was never
    /// used as a segment (all zero).
    pub(super) fn decode(bytes: &[u8; SECTOR_BYTES]) -> Result<Option<Self>, BadRecord> {
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if bytes[..8] != MAGIC || u32_at(SECTOR_BYTES - 4) != crc32c::crc32c(&bytes[..SECTOR_BYTES - 4]) {
            return Err(BadRecord("the segment's header does not verify"));
        }
        if u32_at(8) != FORMAT_VERSION {
            return Err(BadRecord("the segment has a format that this version does not know"));
        }
        Ok(Some(Self {
            segment: u32_at(12),
            sectors: u32_at(16),
            first_live: u32_at(20),
            prev_end: u32_at(24),
            prev_batches: u32_at(28),
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn position() -> impl Strategy<Value = LogPosition> {
        any::<(u64, u64)>().prop_map(|(term, index)| LogPosition { term, index })
    }

    fn with_body<T>(test: impl Fn(Body<'_>) -> T, kind: u8, at: LogPosition, payload: &[u8]) -> T {
        test(match kind {
            0 => Body::Entry(at, payload),
            1 => Body::Vote(payload),
            2 => Body::TruncateAfter(Some(at.index)),
            3 => Body::TruncateAfter(None),
            4 => Body::Purge(at),
            5 => Body::Destroy,
            _ => Body::Freed { first_live: u32::try_from(at.term % 1000).expect("small") },
        })
    }

    fn encoded(record: &Record<'_>) -> Vec<u8> {
        let (header, payload) = record.encode();
        [&header[..], payload].concat()
    }

    proptest! {
        #[test]
        fn records_survive_their_bytes(
            group: u32, kind in 0..7_u8, at in position(), payload: Vec<u8>, after in 0..100_usize,
        ) {
            with_body(|body| {
                let record = Record { group: GroupId(group), body };
                let mut bytes = encoded(&record);
                prop_assert_eq!(bytes.len(), record.length());
                let length = bytes.len();
                bytes.resize(length + after, 0);
                prop_assert_eq!(Record::decode(&bytes), Ok(Some((record, length))));
                prop_assert_eq!(Record::decode(&bytes[length..]), Ok(None));
                Ok(())
            }, kind, at, &payload)?;
        }

        #[test]
        fn a_changed_record_is_refused(
            kind in 0..7_u8, at in position(), payload: Vec<u8>, place: prop::sample::Index, flip in 1..=255_u8,
        ) {
            with_body(|body| {
                let mut bytes = encoded(&Record { group: GroupId(7), body });
                let place = place.index(bytes.len());
                bytes[place] ^= flip;
                prop_assert!(Record::decode(&bytes).is_err());
                Ok(())
            }, kind, at, &payload)?;
        }

        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Record::decode(&bytes);
        }

        #[test]
        fn headers_survive_their_bytes(fields: [u32; 5], place in 0..SECTOR_BYTES, flip in 1..=255_u8) {
            let [segment, sectors, first_live, prev_end, prev_batches] = fields;
            let header = SegmentHeader { segment, sectors, first_live, prev_end, prev_batches };
            let mut bytes = header.encode();
            prop_assert_eq!(SegmentHeader::decode(&bytes), Ok(Some(header)));
            bytes[place] ^= flip;
            prop_assert!(SegmentHeader::decode(&bytes).is_err());
        }
    }
}
