//! Keys to slots to partitions, as Redis Cluster counts slots: CRC16 of the
//! key, or of its `{hashtag}`, modulo 16,384.

/// Slots of a database.
pub const SLOTS: u16 = 16_384;

/// CRC-16/XMODEM, the polynomial that Redis Cluster uses.
const CRC16: [u16; 256] = crc16_table();

const fn crc16_table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        // The index is below 256, so that the cast keeps it.
        #[allow(clippy::cast_possible_truncation)]
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| (crc << 8) ^ CRC16[usize::from((crc >> 8) ^ u16::from(*byte))])
}

/// The slot of `key`. If the key holds a non-empty `{…}`, only what is inside
/// the first one counts, so that related keys can share a slot.
pub fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let inside = &key[open + 1..];
        let close = inside.iter().position(|byte| *byte == b'}')?;
        (close > 0).then(|| &inside[..close])
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// How the slots are spread over a fixed number of partitions: contiguous
/// ranges whose sizes differ by at most one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partitions(u16);

impl Partitions {
    /// `count` partitions; at least one and at most one per slot.
    #[must_use]
    pub fn new(count: u16) -> Self {
        Self(count.clamp(1, SLOTS))
    }

    /// How many partitions there are.
    pub fn count(self) -> u16 {
        self.0
    }

    /// All partitions in slot order.
    pub fn all(self) -> impl Iterator<Item = u16> + Clone {
        0..self.0
    }

    /// The partition that holds `slot`.
    pub fn of_slot(self, slot: u16) -> u16 {
        let partition = u32::from(slot) * u32::from(self.0) / u32::from(SLOTS);
        u16::try_from(partition).expect("less than the number of partitions")
    }

    /// The partition that holds `key`.
    pub fn of_key(self, key: &[u8]) -> u16 {
        self.of_slot(slot(key))
    }

    /// First and last slot of `partition`.
    pub fn slots(self, partition: u16) -> (u16, u16) {
        let start = |partition: u32| (partition * u32::from(SLOTS)).div_ceil(u32::from(self.0));
        let first = start(u32::from(partition));
        let last = start(u32::from(partition) + 1) - 1;
        let narrow = |slot: u32| u16::try_from(slot).expect("below the number of slots");
        (narrow(first), narrow(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis_cluster() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot(b"foo"), 12_182);
        assert_eq!(slot(b"bar"), 5_061);
        assert_eq!(slot(b""), 0);
    }

    #[test]
    fn only_the_first_non_empty_hashtag_counts() {
        assert_eq!(slot(b"{user1000}.following"), slot(b"user1000"));
        assert_eq!(slot(b"foo{bar}{zap}"), slot(b"bar"));
        assert_eq!(slot(b"foo{{bar}}zap"), slot(b"{bar"));
        assert_ne!(slot(b"foo{}{bar}"), slot(b"bar"));
        assert_ne!(slot(b"foo{bar"), slot(b"bar"));
    }

    #[test]
    fn every_slot_is_in_exactly_the_range_of_its_partition() {
        for count in [1, 2, 3, 7, 16, 100, 16_384] {
            let partitions = Partitions::new(count);
            let mut next = 0;
            for partition in partitions.all() {
                let (first, last) = partitions.slots(partition);
                assert_eq!(first, next, "{count} partitions, number {partition}");
                assert!((first..=last).all(|slot| partitions.of_slot(slot) == partition));
                next = last + 1;
            }
            assert_eq!(next, SLOTS);
        }
    }
}
