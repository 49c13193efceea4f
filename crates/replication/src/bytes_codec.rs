//! Reading integers and byte strings from a [`Bytes`] without panicking on
//! short input. The formats themselves are drawn where they are used.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Why bytes were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    /// The input ended in the middle of a field.
    #[error("the input ends in the middle of a field")]
    Short,
    /// The input went on after its last field.
    #[error("the input goes on after its last field")]
    Trailing,
    /// A count or length is over its bound.
    #[error("a count or length is over its bound")]
    TooMany,
    /// A field has a value that it cannot have.
    #[error("impossible {0}")]
    Invalid(&'static str),
}

pub(crate) fn get_u8(input: &mut Bytes) -> Result<u8, DecodeError> {
    input.try_get_u8().map_err(|_| DecodeError::Short)
}

pub(crate) fn get_u16(input: &mut Bytes) -> Result<u16, DecodeError> {
    input.try_get_u16_le().map_err(|_| DecodeError::Short)
}

pub(crate) fn get_u32(input: &mut Bytes) -> Result<u32, DecodeError> {
    input.try_get_u32_le().map_err(|_| DecodeError::Short)
}

pub(crate) fn get_u64(input: &mut Bytes) -> Result<u64, DecodeError> {
    input.try_get_u64_le().map_err(|_| DecodeError::Short)
}

pub(crate) fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8((value & 0x7f) as u8);
}

pub(crate) fn get_varint(input: &mut Bytes) -> Result<u64, DecodeError> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = get_u8(input)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(DecodeError::TooMany)
}

/// A length and that many bytes, which share the input's memory.
pub(crate) fn get_bytes(input: &mut Bytes) -> Result<Bytes, DecodeError> {
    let length = usize::try_from(get_varint(input)?).map_err(|_| DecodeError::TooMany)?;
    if length > input.remaining() {
        return Err(DecodeError::Short);
    }
    Ok(input.split_to(length))
}

pub(crate) fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
