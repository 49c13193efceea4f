//! Tasks and results as they travel between a node and its clients, over HTTP:
//! one record after the other, each a head for what programs look at and a body
//! for bytes that nobody should have to quote.
//!
//! ```text
//!  +-------------+-------------------+-------------+----------------+
//!  | u32 LE: n   | n bytes: the head | u32 LE: m   | m bytes: body  |
//!  |             | (JSON, an object) |             |                |
//!  +-------------+-------------------+-------------+----------------+
//! ```
//! A record with `n = m = 0` says only that the sender is alive.
//!
//! | record | head | body |
//! |---|---|---|
//! | process | `{"process":{"argv":["sort"],"env":[["K","V"]],"stdin":"inline"},"pin":2}` | its standard input |
//! | function | `{"python":{"blobs":["<hex>"]},"pin":2}` | the payload |
//! | result | `{"index":0,"attempt":1,"node":2,"outcome":{"exited":{"code":0}},"stdout":{"inline":3},…}` | stdout, stderr and value, those that are inline, one after the other |
//!
//! A word of `argv` that is no UTF-8 is an array of its bytes.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::de::DeserializeOwned;

pub mod result;
pub mod task;

pub use result::{decode_result, encode_result};
pub use task::{decode_task, encode_task};

/// Longest head: a process with a long command line.
pub const MAX_HEAD_BYTES: usize = 1024 * 1024;
/// Longest body: the payload of a task, or three inline outputs.
pub const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of one length.
const LENGTH: usize = 4;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// JSON.
    pub head: Bytes,
    /// Anything.
    pub body: Bytes,
}

/// What arrived is no record. The rest of it cannot be read either.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A length is over its bound.
    #[error("a {part} of {bytes} bytes; at most {limit}")]
    TooLong {
        /// Head or body.
        part: &'static str,
        /// What was announced.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// It ended within a record.
    #[error("it ends within a record")]
    Cut,
    /// The head is not what it should be.
    #[error("the head of a record: {why}")]
    Head {
        /// In the words of the JSON reader.
        why: String,
    },
    /// The body is not as long as the head says.
    #[error("a body of {bytes} bytes where the head says {said}")]
    Body {
        /// What there is.
        bytes: usize,
        /// What there should be.
        said: usize,
    },
}

impl Record {
    /// Whether it says only that the sender is alive.
    #[must_use]
    pub fn is_sign_of_life(&self) -> bool {
        self.head.is_empty()
    }

    /// The head, read.
    fn head<T: DeserializeOwned>(&self) -> Result<T, Malformed> {
        serde_json::from_slice(&self.head).map_err(|error| Malformed::Head { why: error.to_string() })
    }
}

/// Writes one record to the end of `out`.
pub fn encode(head: &[u8], body: &[&[u8]], out: &mut BytesMut) {
    let length = body.iter().map(|part| part.len()).sum::<usize>();
    out.reserve(2 * LENGTH + head.len() + length);
    put_length(head.len(), out);
    out.put_slice(head);
    put_length(length, out);
    for part in body {
        out.put_slice(part);
    }
}

/// The record that says only that the sender is alive.
#[must_use]
pub fn sign_of_life() -> Bytes {
    Bytes::from_static(&[0; 2 * LENGTH])
}

fn put_length(length: usize, out: &mut BytesMut) {
    out.put_u32_le(u32::try_from(length).expect("heads and bodies are bounded far below 4 GiB"));
}

/// Cuts records out of pieces as they arrive; holds at most one record that is
/// not whole, and what was fed.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    /// Adds what arrived.
    pub fn feed(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// The next whole record, `None` until more is fed.
    ///
    /// # Errors
    /// [`Malformed`]: nothing after it can be read.
    pub fn next_record(&mut self) -> Result<Option<Record>, Malformed> {
        let Some(head) = self.length(0, "head", MAX_HEAD_BYTES)? else { return Ok(None) };
        let Some(body) = self.length(LENGTH + head, "body", MAX_BODY_BYTES)? else { return Ok(None) };
        if self.buffer.len() < 2 * LENGTH + head + body {
            return Ok(None);
        }
        self.buffer.advance(LENGTH);
        let head = self.buffer.split_to(head).freeze();
        self.buffer.advance(LENGTH);
        let body = self.buffer.split_to(body).freeze();
        Ok(Some(Record { head, body }))
    }

    /// Nothing more arrives.
    ///
    /// # Errors
    /// [`Malformed::Cut`].
    pub fn finish(&self) -> Result<(), Malformed> {
        if self.buffer.is_empty() { Ok(()) } else { Err(Malformed::Cut) }
    }

    fn length(&self, at: usize, part: &'static str, limit: usize) -> Result<Option<usize>, Malformed> {
        let Some(bytes) = self.buffer.get(at..at + LENGTH) else { return Ok(None) };
        let bytes = u32::from_le_bytes(bytes.try_into().expect("it is four bytes long")) as usize;
        if bytes > limit { Err(Malformed::TooLong { part, bytes, limit }) } else { Ok(Some(bytes)) }
    }
}

#[cfg(test)]
mod tests;
