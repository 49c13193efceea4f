//! What entry nodes and leaders say to each other on the `request` lane.
//!
//! ```text
//! propose       = group:u32 part                      part: see batch.rs
//! propose reply = 0:u8 processing_us:u32 count:varint outcome*
//!               | 1:u8 leader:u64                     not the leader; 0: unknown
//! outcome       = 0:u8 length:varint byte* | 1..=4:u8
//! query         = group:u32 count:varint (length:varint byte*)*
//! query reply   = 0:u8 processing_us:u32 count:varint (length:varint byte*)*
//!               | 1:u8 leader:u64
//! ```

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use trine_types::{GroupId, NodeNumber};

use crate::batch::{MAX_PART_COMMANDS, Part};
use crate::bytes_codec::{
    DecodeError, get_bytes, get_u8, get_u32, get_u64, get_varint, put_bytes, put_varint,
};
use crate::session::Outcome;

/// What a node that was taken for the leader answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LeaderAnswer<T> {
    /// It led: the results, and how long they took it.
    Results { processing: Duration, results: Vec<T> },
    /// It does not lead (or lost its quorum); who does, as far as it knows.
    NotLeader(Option<NodeNumber>),
}

/// Something that a [`LeaderAnswer`] holds many of.
pub(crate) trait Item: Sized {
    fn put(&self, out: &mut BytesMut);
    fn get(input: &mut Bytes) -> Result<Self, DecodeError>;
    fn size(&self) -> usize;
}

impl Item for Bytes {
    fn put(&self, out: &mut BytesMut) {
        put_bytes(out, self);
    }

    fn get(input: &mut Bytes) -> Result<Self, DecodeError> {
        get_bytes(input)
    }

    fn size(&self) -> usize {
        self.len() + 5
    }
}

impl Item for Outcome {
    fn put(&self, out: &mut BytesMut) {
        match self {
            Self::Done(reply) => {
                out.put_u8(0);
                put_bytes(out, reply);
            }
            Self::Gap => out.put_u8(1),
            Self::ReplyLost => out.put_u8(2),
            Self::Forgotten => out.put_u8(3),
            Self::Superseded => out.put_u8(4),
        }
    }

    fn get(input: &mut Bytes) -> Result<Self, DecodeError> {
        Ok(match get_u8(input)? {
            0 => Self::Done(get_bytes(input)?),
            1 => Self::Gap,
            2 => Self::ReplyLost,
            3 => Self::Forgotten,
            4 => Self::Superseded,
            _ => return Err(DecodeError::Invalid("outcome")),
        })
    }

    fn size(&self) -> usize {
        match self {
            Self::Done(reply) => reply.len() + 6,
            _ => 1,
        }
    }
}

impl<T: Item> LeaderAnswer<T> {
    pub(crate) fn encode(&self) -> Bytes {
        match self {
            Self::Results { processing, results } => {
                let size = results.iter().map(Item::size).sum::<usize>();
                let mut out = BytesMut::with_capacity(size + 16);
                out.put_u8(0);
                out.put_u32_le(u32::try_from(processing.as_micros()).unwrap_or(u32::MAX));
                put_varint(&mut out, results.len() as u64);
                for result in results {
                    result.put(&mut out);
                }
                out.freeze()
            }
            Self::NotLeader(leader) => {
                let mut out = BytesMut::with_capacity(9);
                out.put_u8(1);
                out.put_u64_le(leader.map_or(0, |leader| leader.0));
                out.freeze()
            }
        }
    }

    pub(crate) fn decode(mut input: Bytes) -> Result<Self, DecodeError> {
        let input = &mut input;
        let answer = match get_u8(input)? {
            0 => {
                let processing = Duration::from_micros(u64::from(get_u32(input)?));
                let count = get_varint(input)?;
                if count > input.remaining() as u64 {
                    return Err(DecodeError::TooMany);
                }
                let results = (0..count).map(|_| T::get(input)).collect::<Result<_, _>>()?;
                Self::Results { processing, results }
            }
            1 => {
                let leader = get_u64(input)?;
                Self::NotLeader((leader != 0).then_some(NodeNumber(leader)))
            }
            _ => return Err(DecodeError::Invalid("answer")),
        };
        if input.has_remaining() { Err(DecodeError::Trailing) } else { Ok(answer) }
    }
}

pub(crate) fn encode_propose(group: GroupId, part: &Part) -> Bytes {
    let mut out = BytesMut::with_capacity(part.cost() + 8);
    out.put_u32_le(group.0);
    part.encode(&mut out);
    out.freeze()
}

pub(crate) fn decode_propose(mut input: Bytes) -> Result<(GroupId, Part), DecodeError> {
    let group = GroupId(get_u32(&mut input)?);
    let part = Part::decode(&mut input)?;
    if input.has_remaining() { Err(DecodeError::Trailing) } else { Ok((group, part)) }
}

pub(crate) fn encode_query(group: GroupId, queries: &[Bytes]) -> Bytes {
    let size = queries.iter().map(Item::size).sum::<usize>();
    let mut out = BytesMut::with_capacity(size + 12);
    out.put_u32_le(group.0);
    put_varint(&mut out, queries.len() as u64);
    for query in queries {
        put_bytes(&mut out, query);
    }
    out.freeze()
}

pub(crate) fn decode_query(mut input: Bytes) -> Result<(GroupId, Vec<Bytes>), DecodeError> {
    let input = &mut input;
    let group = GroupId(get_u32(input)?);
    let count = get_varint(input)?;
    if count > MAX_PART_COMMANDS as u64 || count > input.remaining() as u64 {
        return Err(DecodeError::TooMany);
    }
    let queries = (0..count).map(|_| get_bytes(input)).collect::<Result<_, _>>()?;
    if input.has_remaining() { Err(DecodeError::Trailing) } else { Ok((group, queries)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::tests::any_part;
    use proptest::prelude::*;

    fn any_outcome() -> impl Strategy<Value = Outcome> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..30).prop_map(|reply| Outcome::Done(reply.into())),
            Just(Outcome::Gap),
            Just(Outcome::ReplyLost),
            Just(Outcome::Forgotten),
            Just(Outcome::Superseded),
        ]
    }

    proptest! {
        #[test]
        fn frames_survive_their_bytes(part in any_part(), group in any::<u32>()) {
            let group = GroupId(group);
            prop_assert_eq!(decode_propose(encode_propose(group, &part)), Ok((group, part.clone())));
            let queries = part.commands;
            prop_assert_eq!(decode_query(encode_query(group, &queries)), Ok((group, queries)));
        }

        #[test]
        fn answers_survive_their_bytes(
            micros in any::<u32>(), results in prop::collection::vec(any_outcome(), 0..9), leader in 1u64..9
        ) {
            let processing = Duration::from_micros(u64::from(micros));
            let answer = LeaderAnswer::Results { processing, results };
            prop_assert_eq!(LeaderAnswer::decode(answer.encode()), Ok(answer));
            let answer = LeaderAnswer::<Bytes>::NotLeader(Some(NodeNumber(leader)));
            prop_assert_eq!(LeaderAnswer::decode(answer.encode()), Ok(answer));
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let bytes = Bytes::from(bytes);
            let _ = decode_propose(bytes.clone());
            let _ = decode_query(bytes.clone());
            let _ = LeaderAnswer::<Outcome>::decode(bytes.clone());
            let _ = LeaderAnswer::<Bytes>::decode(bytes);
        }
    }
}
