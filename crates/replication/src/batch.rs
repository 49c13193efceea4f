//! One Raft entry is one batch: the commands that the leader collected from
//! many entry nodes while the previous batch was on its way.
//!
//! ```text
//! batch   = kind:u8 semantics:u16 time_ms:u64 seed:u64 rest
//! rest    = kind 0: count:varint part*            commands (no part: a tick)
//!           kind 1:                               mark: compare digests here
//!           kind 2: index:u64 known:u8 digest:u64 verdict about a mark
//! part    = node:u64 incarnation:u64 epoch:u32 acked:u64 first:u64
//!           count:varint (length:varint byte*)*
//! ```
//! Integers are little-endian; a varint is LEB128.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use trine_types::{Incarnation, NodeNumber};

use crate::bytes_codec::{DecodeError, get_bytes, get_u8, get_u16, get_u32, get_u64, get_varint, put_varint};

/// Largest number of commands in one part; a decoder refuses more.
pub(crate) const MAX_PART_COMMANDS: usize = 4096;
/// Largest number of parts in one batch; a decoder refuses more.
pub(crate) const MAX_BATCH_PARTS: usize = 4096;
/// Bytes of a part or batch besides its commands, rounded up.
pub(crate) const PART_OVERHEAD_BYTES: usize = 64;

/// One life of one entry node's link to one group. Sequence numbers count from
/// 1 within it. A larger session of the same node ends the smaller ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionId {
    /// The entry node.
    pub(crate) node: NodeNumber,
    /// Its incarnation.
    pub(crate) incarnation: Incarnation,
    /// Counts the sessions of this incarnation, from 1.
    pub(crate) epoch: u32,
}

/// Consecutive commands of one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) session: SessionId,
    /// The entry node has the replies up to here and needs them no more.
    pub(crate) acked: u64,
    /// Sequence number of the first command.
    pub(crate) first: u64,
    pub(crate) commands: Vec<Bytes>,
}

impl Part {
    /// Bytes that the part takes in a batch, at most.
    pub(crate) fn cost(&self) -> usize {
        PART_OVERHEAD_BYTES + self.commands.iter().map(|c| c.len() + 5).sum::<usize>()
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        out.reserve(self.cost());
        out.put_u64_le(self.session.node.0);
        out.put_u64_le(self.session.incarnation.0);
        out.put_u32_le(self.session.epoch);
        out.put_u64_le(self.acked);
        out.put_u64_le(self.first);
        put_varint(out, self.commands.len() as u64);
        for command in &self.commands {
            put_varint(out, command.len() as u64);
            out.extend_from_slice(command);
        }
    }

    pub(crate) fn decode(input: &mut Bytes) -> Result<Self, DecodeError> {
        let session = SessionId {
            node: NodeNumber(get_u64(input)?),
            incarnation: Incarnation(get_u64(input)?),
            epoch: get_u32(input)?,
        };
        let (acked, first) = (get_u64(input)?, get_u64(input)?);
        let count = usize::try_from(get_varint(input)?).map_err(|_| DecodeError::TooMany)?;
        // Each command takes at least its length byte.
        if count > MAX_PART_COMMANDS || count > input.remaining() {
            return Err(DecodeError::TooMany);
        }
        if first == 0 || acked >= first || first.checked_add(count as u64).is_none() {
            return Err(DecodeError::Invalid("sequence numbers"));
        }
        let commands = (0..count).map(|_| get_bytes(input)).collect::<Result<_, _>>()?;
        Ok(Self { session, acked, first, commands })
    }
}

/// What a batch asks the replicas to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// Execute commands; none at all only moves state time.
    Commands(Vec<Part>),
    /// Remember the digest at this index and report it to the leader.
    Mark,
    /// What the majority had at a mark: a replica that had something else
    /// stops. `None`: there was no majority, everyone stops.
    Verdict { index: u64, digest: Option<u64> },
}

/// The content of one Raft entry, stamped by the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) semantics: u16,
    pub(crate) time_ms: u64,
    pub(crate) seed: u64,
    pub(crate) content: Content,
}

impl Batch {
    pub(crate) fn encode(&self) -> Bytes {
        let size = match &self.content {
            Content::Commands(parts) => parts.iter().map(Part::cost).sum(),
            Content::Mark | Content::Verdict { .. } => 0,
        };
        let mut out = BytesMut::with_capacity(PART_OVERHEAD_BYTES + size);
        out.put_u8(match &self.content {
            Content::Commands(_) => 0,
            Content::Mark => 1,
            Content::Verdict { .. } => 2,
        });
        out.put_u16_le(self.semantics);
        out.put_u64_le(self.time_ms);
        out.put_u64_le(self.seed);
        match &self.content {
            Content::Commands(parts) => {
                put_varint(&mut out, parts.len() as u64);
                for part in parts {
                    part.encode(&mut out);
                }
            }
            Content::Mark => {}
            Content::Verdict { index, digest } => {
                out.put_u64_le(*index);
                out.put_u8(u8::from(digest.is_some()));
                out.put_u64_le(digest.unwrap_or(0));
            }
        }
        out.freeze()
    }

    /// Decodes a batch; commands share the input's memory.
    pub(crate) fn decode(mut input: Bytes) -> Result<Self, DecodeError> {
        let input = &mut input;
        let kind = get_u8(input)?;
        let semantics = get_u16(input)?;
        let (time_ms, seed) = (get_u64(input)?, get_u64(input)?);
        let content = match kind {
            0 => {
                let count = usize::try_from(get_varint(input)?).map_err(|_| DecodeError::TooMany)?;
                if count > MAX_BATCH_PARTS {
                    return Err(DecodeError::TooMany);
                }
                Content::Commands((0..count).map(|_| Part::decode(input)).collect::<Result<_, _>>()?)
            }
            1 => Content::Mark,
            2 => {
                let (index, known, digest) = (get_u64(input)?, get_u8(input)?, get_u64(input)?);
                Content::Verdict { index, digest: (known == 1).then_some(digest) }
            }
            _ => return Err(DecodeError::Invalid("batch kind")),
        };
        if input.has_remaining() {
            return Err(DecodeError::Trailing);
        }
        Ok(Self { semantics, time_ms, seed, content })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn any_part() -> impl Strategy<Value = Part> {
        let commands = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6);
        (any::<u64>(), any::<u64>(), any::<u32>(), 0u64..1000, 1u64..1000, commands).prop_map(
            |(node, incarnation, epoch, acked, ahead, commands)| Part {
                session: SessionId { node: NodeNumber(node), incarnation: Incarnation(incarnation), epoch },
                acked,
                first: acked + ahead,
                commands: commands.into_iter().map(Bytes::from).collect(),
            },
        )
    }

    fn any_content() -> impl Strategy<Value = Content> {
        prop_oneof![
            prop::collection::vec(any_part(), 0..5).prop_map(Content::Commands),
            Just(Content::Mark),
            (any::<u64>(), any::<Option<u64>>())
                .prop_map(|(index, digest)| Content::Verdict { index, digest }),
        ]
    }

    proptest! {
        #[test]
        fn batches_survive_their_bytes(
            semantics in any::<u16>(), time_ms in any::<u64>(), seed in any::<u64>(), content in any_content()
        ) {
            let batch = Batch { semantics, time_ms, seed, content };
            prop_assert_eq!(Batch::decode(batch.encode()), Ok(batch));
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Batch::decode(Bytes::from(bytes));
        }

        #[test]
        fn a_cut_batch_is_refused(content in any_content(), cut in any::<prop::sample::Index>()) {
            let bytes = Batch { semantics: 1, time_ms: 2, seed: 3, content }.encode();
            let cut = cut.index(bytes.len());
            prop_assert!(Batch::decode(bytes.slice(..cut)).is_err());
        }
    }
}
