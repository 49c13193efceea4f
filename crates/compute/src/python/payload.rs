//! The front of a pickled call, the only part of it that a node looks at.
//!
//! ```text
//!  +--------+-------+-------+-----------+---------------+----------------+-----------------+
//!  | "TRN1" | major | minor | flags,u16 | max tasks,u32 | len, u32: hash | len, u32: fn    |
//!  +--------+-------+-------+-----------+---------------+----------------+-----------------+
//!  | hash of the initializer's blob, or nothing | pickled function | pickled arguments      |
//!  +--------------------------------------------------------------------------------------+
//! ```

/// Bytes before the first part of variable length.
const HEAD: usize = 20;
/// What every payload begins with.
const MAGIC: &[u8] = b"TRN1";

/// What the front says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Front {
    /// The interpreter that pickled it.
    pub python: (u8, u8),
    /// Calls after which an interpreter ends; 0: it does not.
    pub max_calls: u32,
}

/// Reads the front; `None` if it is no payload, or one that is shorter than it
/// says.
#[must_use]
pub fn front(payload: &[u8]) -> Option<Front> {
    if payload.len() < HEAD || !payload.starts_with(MAGIC) {
        return None;
    }
    let number = |at: usize| {
        let bytes = payload[at..at + 4].try_into().expect("it is four bytes long");
        u32::from_le_bytes(bytes)
    };
    let parts = (number(12) as usize).checked_add(number(16) as usize)?;
    let front = Front { python: (payload[4], payload[5]), max_calls: number(8) };
    (payload.len() - HEAD >= parts).then_some(front)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_is_read_and_nonsense_refused() {
        let mut payload = b"TRN1\x03\x0d\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00fn".to_vec();
        assert_eq!(front(&payload), Some(Front { python: (3, 13), max_calls: 5 }));
        payload.pop();
        assert_eq!(front(&payload), None);
        assert_eq!(front(b""), None);
        assert_eq!(front(&[0; 64]), None);
        assert_eq!(front(b"TRN1\x03\x0d\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff"), None);
    }
}
