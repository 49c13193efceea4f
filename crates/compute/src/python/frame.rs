//! The bytes between a node and one of its interpreters, over the socket that
//! is the interpreter's standard input.
//!
//! ```text
//!  +----------------+----------+------------------------+
//!  | u32 LE: 1 + n  | kind, u8 | n bytes                |
//!  +----------------+----------+------------------------+
//! ```
//! | kind | to | bytes |
//! |---|---|---|
//! | `T` | interpreter | u16 LE count of blobs, their hashes, the payload |
//! | `F` | interpreter | hash, u64 LE length; with its first byte comes a file: the blob |
//! | `E` | interpreter | nothing: a blob is not to be had, the task is off |
//! | `H` | node | JSON: what the interpreter is |
//! | `N` | node | hashes of the blobs that it does not have |
//! | `V` `X` `U` `I` | node | flags, then: the value; the exception; why the call cannot be unpickled; why the initializer failed |

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Deserialize;

/// Longest frame: a value, or a blob.
pub const MAX_FRAME_BYTES: usize = 1024 * 1024 * 1024 + 64;
/// Bytes before those of a frame.
pub const HEAD_BYTES: usize = 5;
/// Bytes of a hash.
const HASH: usize = 32;
/// Bytes of the length of a blob.
const LENGTH: usize = 8;
/// Flag of a reply: the interpreter takes no further task.
const RETIRING: u8 = 1;

/// What an interpreter says.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// What it is; the first that it says.
    Hello(Hello),
    /// Blobs that it does not have.
    Needs(Vec<[u8; HASH]>),
    /// The call is over.
    Done {
        /// Whether the function returned.
        returned: bool,
        /// The value; or what was raised, its kind (`X`, `U`, `I`) first.
        value: Bytes,
        /// Whether it takes no further task.
        retiring: bool,
    },
}

/// What an interpreter is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Hello {
    /// As in `[3, 13, 1]`.
    pub python: [u32; 3],
    /// Where it is installed.
    pub executable: String,
    /// The version of cloudpickle, if it is there.
    pub cloudpickle: Option<String>,
}

/// What came is no frame of an interpreter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the interpreter says what is no frame: {what}")]
pub struct Garbled {
    what: String,
}

fn garbled(what: impl Into<String>) -> Garbled {
    Garbled { what: what.into() }
}

/// The head of a frame with `bytes` after its kind.
#[must_use]
pub fn head(kind: u8, bytes: usize) -> [u8; HEAD_BYTES] {
    let length = u32::try_from(bytes + 1).expect("frames are bounded far below 4 GiB");
    let [a, b, c, d] = length.to_le_bytes();
    [a, b, c, d, kind]
}

/// A call: all but the payload, which follows as it is.
#[must_use]
pub fn task(blobs: &[[u8; HASH]], payload: usize) -> Bytes {
    let mut out = BytesMut::with_capacity(HEAD_BYTES + 2 + blobs.len() * HASH);
    out.put_slice(&head(b'T', 2 + blobs.len() * HASH + payload));
    out.put_u16_le(u16::try_from(blobs.len()).expect("a task names far fewer blobs than 65,536"));
    for blob in blobs {
        out.put_slice(blob);
    }
    out.freeze()
}

/// A blob of so many bytes: all but its file.
#[must_use]
pub fn blob(hash: &[u8; HASH], bytes: u64) -> Bytes {
    let mut out = BytesMut::with_capacity(HEAD_BYTES + HASH + LENGTH);
    out.put_slice(&head(b'F', HASH + LENGTH));
    out.put_slice(hash);
    out.put_u64_le(bytes);
    out.freeze()
}

/// Cuts the next frame off the front of `buffer`; `None` until it is whole.
///
/// # Errors
/// [`Garbled`]: nothing after it can be read.
pub fn take(buffer: &mut BytesMut) -> Result<Option<Said>, Garbled> {
    let Some(length) = buffer.get(..4) else { return Ok(None) };
    let length = u32::from_le_bytes(length.try_into().expect("it is four bytes long")) as usize;
    if length == 0 || length > MAX_FRAME_BYTES {
        return Err(garbled(format!("a frame of {length} bytes")));
    }
    if buffer.len() < 4 + length {
        buffer.reserve(4 + length - buffer.len());
        return Ok(None);
    }
    buffer.advance(4);
    let mut frame = buffer.split_to(length).freeze();
    match frame.get_u8() {
        b'H' => serde_json::from_slice(&frame)
            .map(|hello| Some(Said::Hello(hello)))
            .map_err(|error| garbled(error.to_string())),
        b'N' if frame.len().is_multiple_of(HASH) => {
            let hashes =
                frame.chunks_exact(HASH).map(|hash| hash.try_into().expect("chunks are of that length"));
            Ok(Some(Said::Needs(hashes.collect())))
        }
        kind @ (b'V' | b'X' | b'U' | b'I') if !frame.is_empty() => {
            let retiring = frame.get_u8() & RETIRING != 0;
            let returned = kind == b'V';
            let value = if returned { frame } else { [&[kind], &frame[..]].concat().into() };
            Ok(Some(Said::Done { returned, value, retiring }))
        }
        kind => Err(garbled(format!("a frame of kind {kind}"))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, bytes: &[u8]) -> BytesMut {
        let mut out = BytesMut::from(&head(kind, bytes.len())[..]);
        out.extend_from_slice(bytes);
        out
    }

    #[test]
    fn what_an_interpreter_says_is_read() {
        let hello = br#"{"python":[3,13,1],"executable":"/usr/bin/python3","cloudpickle":null}"#;
        let mut buffer = frame(b'H', hello);
        buffer.unsplit(frame(b'N', &[7; 64]));
        buffer.unsplit(frame(b'V', b"\x01value"));
        buffer.unsplit(frame(b'X', b"\x00error"));
        let mut said = || take(&mut buffer).expect("frames").expect("whole");
        assert!(matches!(said(), Said::Hello(Hello { python: [3, 13, 1], cloudpickle: None, .. })));
        assert_eq!(said(), Said::Needs(vec![[7; 32]; 2]));
        assert_eq!(said(), Said::Done { returned: true, value: "value".into(), retiring: true });
        assert_eq!(said(), Said::Done { returned: false, value: "Xerror".into(), retiring: false });
        assert_eq!(take(&mut buffer), Ok(None));
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for (kind, bytes) in [(b'Q', &b""[..]), (b'N', b"short"), (b'V', b""), (b'H', b"{}")] {
            assert!(take(&mut frame(kind, bytes)).is_err(), "{kind}");
        }
        assert!(take(&mut BytesMut::from(&[0, 0, 0, 0][..])).is_err());
        assert!(take(&mut BytesMut::from(&[255, 255, 255, 255][..])).is_err());
    }

    proptest! {
        #[test]
        fn a_part_of_a_frame_waits_and_nonsense_does_no_harm(bytes in vec(any::<u8>(), 0..80), cut in 0..80_usize) {
            let whole = frame(b'V', &[&[0], &bytes[..]].concat());
            let mut part = BytesMut::from(&whole[..cut.min(whole.len() - 1)]);
            prop_assert_eq!(take(&mut part), Ok(None));
            let _ = take(&mut BytesMut::from(&bytes[..]));
        }
    }
}
