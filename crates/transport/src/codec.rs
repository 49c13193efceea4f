//! Frames on a byte stream.
//!
//! ```text
//! 0        4                     4 + length
//! +--------+----------------------+
//! | length | head, body           |   length: u32, little-endian, at most
//! +--------+----------------------+   MAX_FRAME_BYTES; zero is allowed
//! ```
//!
//! The length is checked before a byte of the frame is buffered.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use trine_types::limits::MAX_FRAME_BYTES;

use crate::frame::Frame;

/// Bytes of the length in front of each frame.
pub const LENGTH_BYTES: usize = 4;

/// The peer announced a frame over the limit: the stream cannot be followed
/// any further and must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {announced} bytes was announced; the limit is {limit}")]
pub struct FrameTooLarge {
    /// What the peer announced.
    pub announced: usize,
    /// What was allowed.
    pub limit: usize,
}

/// Appends `frame` with its length, body included, to `out`.
pub fn encode(frame: &Frame, out: &mut BytesMut) {
    encode_without_body(frame, out);
    out.put_slice(frame.body());
}

/// Appends the length and the head only; the body must follow on the stream.
pub fn encode_without_body(frame: &Frame, out: &mut BytesMut) {
    // FrameSender takes no frame over MAX_FRAME_BYTES, which fits.
    out.put_u32_le(u32::try_from(frame.len()).unwrap_or(u32::MAX));
    out.put_slice(frame.head());
}

/// Cuts frames out of a byte stream.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::with_limit(MAX_FRAME_BYTES)
    }
}

impl Decoder {
    /// A decoder that refuses frames over `limit` bytes.
    #[must_use]
    pub const fn with_limit(limit: usize) -> Self {
        Self { limit }
    }

    /// Takes the next whole frame off the front of `buffer`; `None` when more
    /// bytes must be read first, and then `buffer` has room reserved for the
    /// frame that has begun.
    ///
    /// # Errors
    /// [`FrameTooLarge`], for good: the stream must be closed.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, FrameTooLarge> {
        let Some(length) = buffer.first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*length) as usize;
        if length > self.limit {
            return Err(FrameTooLarge { announced: length, limit: self.limit });
        }
        let whole = LENGTH_BYTES + length;
        if buffer.len() < whole {
            buffer.reserve(whole - buffer.len());
            return Ok(None);
        }
        buffer.advance(LENGTH_BYTES);
        Ok(Some(buffer.split_to(length).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_oversized_frame_is_refused_from_its_length_alone() {
        let mut buffer = BytesMut::new();
        buffer.put_u32_le(u32::try_from(MAX_FRAME_BYTES).unwrap_or(u32::MAX) + 1);
        assert!(Decoder::default().next(&mut buffer).is_err());
        assert!(buffer.capacity() < 4096, "nothing was reserved for it");
    }

    proptest! {
        #[test]
        fn frames_survive_any_fragmentation(
            frames in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 0..20), prop::collection::vec(any::<u8>(), 0..300)), 0..20),
            cut in 1usize..64,
        ) {
            let mut stream = BytesMut::new();
            let mut expected = Vec::new();
            for (head, body) in frames {
                expected.push([head.clone(), body.clone()].concat());
                encode(&Frame::new(&head, Bytes::from(body)), &mut stream);
            }
            let (mut buffer, mut decoder, mut seen) = (BytesMut::new(), Decoder::default(), Vec::new());
            for chunk in stream.chunks(cut) {
                buffer.extend_from_slice(chunk);
                while let Some(frame) = decoder.next(&mut buffer).unwrap() {
                    seen.push(frame.to_vec());
                }
            }
            prop_assert_eq!(seen, expected);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), limit in 0usize..100) {
            let mut buffer = BytesMut::from(&bytes[..]);
            let mut decoder = Decoder::with_limit(limit);
            while let Ok(Some(frame)) = decoder.next(&mut buffer) {
                prop_assert!(frame.len() <= limit);
            }
        }
    }
}
