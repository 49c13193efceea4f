//! Sealed sectors. A batch of records is cut into 512-byte sectors, each of
//! which proves by itself what it is: a sector is the unit that a disk writes
//! whole or not at all, so after a crash every sector of the log is either as
//! the last write made it or as it was before. That is what lets recovery
//! tell the torn end of the last write from damage.
//!
//! ```text
//!  0        4         8        12       16                          512
//!  | crc32c | segment | batch  | left   | 496 bytes of the batch    |
//!
//!  crc32c   of all that follows, started from the sector's number, so that
//!           a sector in the wrong place does not verify
//!  segment  number of the segment; recycled files hold sectors of smaller
//!           numbers, which therefore never pass for current ones
//!  batch    number of the batch in its segment, from 0
//!  left     how many sectors of the batch follow this one
//! ```
//! Little-endian. A batch is padded with zeros to a multiple of 4 KiB.

use super::config::BLOCK_BYTES;
use crate::disk::SECTOR_BYTES;

const SEAL_BYTES: usize = 16;

/// Bytes of a batch in each sector.
pub(super) const PAYLOAD_BYTES: usize = SECTOR_BYTES - SEAL_BYTES;

/// Batches start and end at multiples of this many sectors.
pub(super) const BLOCK_SECTORS: u32 = 8;
const _: () = assert!(BLOCK_SECTORS as usize * SECTOR_BYTES == BLOCK_BYTES);

/// How many sectors a batch of `payload` bytes takes, padding included.
pub(super) fn sectors_for(payload: usize) -> u32 {
    let sectors = payload.div_ceil(PAYLOAD_BYTES);
    u32::try_from(sectors).map_or(u32::MAX - BLOCK_SECTORS, |sectors| sectors.next_multiple_of(BLOCK_SECTORS))
}

/// Where sector `number` starts in its file.
pub(super) fn byte_offset(number: u32) -> u64 {
    u64::from(number) * SECTOR_BYTES as u64
}

fn field(sector: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([sector[at], sector[at + 1], sector[at + 2], sector[at + 3]])
}

fn checksum(sector: &[u8], number: u32) -> u32 {
    crc32c::crc32c_append(number, &sector[4..])
}

/// Builds one batch in memory, in place: the only copy that an entry's
/// payload makes on its way to the disk.
#[derive(Default)]
pub(super) struct Sealer {
    buffer: Vec<u8>,
    payload: usize,
}

impl Sealer {
    /// Starts a new batch; keeps at most `keep_bytes` of buffer for it.
    pub(super) fn begin(&mut self, keep_bytes: usize) {
        self.buffer.clear();
        self.buffer.shrink_to(keep_bytes);
        self.payload = 0;
    }

    /// How many bytes were pushed.
    pub(super) fn payload(&self) -> usize {
        self.payload
    }

    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        self.payload += bytes.len();
        while !bytes.is_empty() {
            let used = self.buffer.len() % SECTOR_BYTES;
            if used == 0 {
                self.buffer.extend_from_slice(&[0; SEAL_BYTES]);
                continue;
            }
            let (now, later) = bytes.split_at(bytes.len().min(SECTOR_BYTES - used));
            self.buffer.extend_from_slice(now);
            bytes = later;
        }
    }

    /// Pads and seals the batch for its place; returns the bytes to write.
    pub(super) fn seal(&mut self, segment: u32, batch: u32, first_sector: u32) -> &[u8] {
        let padded = self.buffer.len().next_multiple_of(BLOCK_BYTES);
        self.buffer.resize(padded, 0);
        let sectors = sectors_for(self.payload);
        for (position, sector) in (0..).zip(self.buffer.chunks_exact_mut(SECTOR_BYTES)) {
            sector[4..8].copy_from_slice(&segment.to_le_bytes());
            sector[8..12].copy_from_slice(&batch.to_le_bytes());
            sector[12..16].copy_from_slice(&(sectors - 1 - position).to_le_bytes());
            let checksum = checksum(sector, first_sector + position);
            sector[..4].copy_from_slice(&checksum.to_le_bytes());
        }
        &self.buffer
    }
}

/// What a sector of a segment's file turns out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sector {
    /// Never written: all zero.
    Blank,
    /// Written when the file was an earlier segment.
    Stale,
    /// Part of this segment.
    Live { batch: u32, left: u32 },
    /// Nothing that was ever written there.
    Bad,
}

/// Looks at sector `number` of segment `segment`.
pub(super) fn inspect(sector: &[u8], number: u32, segment: u32) -> Sector {
    if field(sector, 0) == checksum(sector, number) {
        return match field(sector, 4) {
            0 => Sector::Bad,
            found if found == segment => Sector::Live { batch: field(sector, 8), left: field(sector, 12) },
            found if found < segment => Sector::Stale,
            _ => Sector::Bad,
        };
    }
    if sector.iter().all(|byte| *byte == 0) { Sector::Blank } else { Sector::Bad }
}

/// The bytes of the batch in a sector.
pub(super) fn payload(sector: &[u8]) -> &[u8] {
    &sector[SEAL_BYTES..]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_sealed_is_found_again(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..1500), 1..8),
            segment in 1..u32::MAX, batch: u32, first in 0..1_000_000_u32,
        ) {
            let mut sealer = Sealer::default();
            sealer.begin(0);
            for piece in &pieces {
                sealer.push(piece);
            }
            let expected = pieces.concat();
            prop_assert_eq!(sealer.payload(), expected.len());
            let sectors = sectors_for(expected.len());
            let bytes = sealer.seal(segment, batch, first);
            prop_assert_eq!(bytes.len(), sectors as usize * SECTOR_BYTES);
            let mut found = Vec::new();
            for (position, sector) in (0..).zip(bytes.chunks(SECTOR_BYTES)) {
                let live = Sector::Live { batch, left: sectors - 1 - position };
                prop_assert_eq!(inspect(sector, first + position, segment), live);
                prop_assert_eq!(inspect(sector, first + position + 1, segment), Sector::Bad);
                if segment > 1 {
                    prop_assert_eq!(inspect(sector, first + position, segment - 1), Sector::Bad);
                }
                prop_assert_eq!(inspect(sector, first + position, segment + 1), Sector::Stale);
                found.extend_from_slice(payload(sector));
            }
            prop_assert!(found.starts_with(&expected));
            prop_assert!(found[expected.len()..].iter().all(|byte| *byte == 0));
        }

        #[test]
        fn any_changed_byte_is_noticed(content: Vec<u8>, at in 0..SECTOR_BYTES, flip in 1..=255_u8) {
            let mut sealer = Sealer::default();
            sealer.begin(0);
            sealer.push(b"x");
            sealer.push(&content);
            let mut bytes = sealer.seal(7, 1, 8).to_vec();
            bytes[at] ^= flip;
            prop_assert_eq!(inspect(&bytes[..SECTOR_BYTES], 8, 7), Sector::Bad);
        }
    }

    #[test]
    fn zeros_are_blank() {
        assert_eq!(inspect(&[0; SECTOR_BYTES], 8, 1), Sector::Blank);
        assert_eq!(inspect(&[0; SECTOR_BYTES], 0, 1), Sector::Blank);
    }
}
