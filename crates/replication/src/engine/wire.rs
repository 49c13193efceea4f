//! Raft's messages as bytes. Appends are written by hand, since every entry
//! passes here and its bytes are shared, not copied; the rest is rare and is
//! postcard of openraft's own types.
//!
//! ```text
//! append  = group:u32 stream:u64 request
//! request = vote prev:id? commit:id? count:varint entry*
//! vote    = term:u64 node:u64 committed:u8
//! id?     = 0:u8 | 1:u8 term:u64 index:u64
//! entry   = term:u64 index:u64 length:varint payload      payload: see entry.rs
//! ```

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, StreamAppendResult};
use openraft::raft::{TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse};
use serde::{Deserialize, Serialize};
use trine_types::GroupId;

use super::entry::{decode_payload, encode_payload};
use super::{Entry, LogId, SnapshotMeta, Types, Vote};
use crate::bytes_codec::{
    DecodeError, get_bytes, get_u8, get_u32, get_u64, get_varint, put_bytes, put_varint,
};

/// Most entries of one append message; a decoder refuses more.
const MAX_APPEND_ENTRIES: u64 = 65_536;

/// One message of an append stream.
pub(crate) struct AppendFrame {
    pub(crate) group: GroupId,
    /// Grows with each stream of the sender, over its restarts.
    pub(crate) stream: u64,
    pub(crate) request: AppendEntriesRequest<Types>,
}

fn put_id(out: &mut BytesMut, id: Option<LogId>) {
    out.put_u8(u8::from(id.is_some()));
    if let Some(id) = id {
        out.put_u64_le(id.leader_id.term);
        out.put_u64_le(id.index);
    }
}

fn get_id(input: &mut Bytes) -> Result<Option<LogId>, DecodeError> {
    match get_u8(input)? {
        0 => Ok(None),
        1 => Ok(Some(LogId::new_term_index(get_u64(input)?, get_u64(input)?))),
        _ => Err(DecodeError::Invalid("option")),
    }
}

impl AppendFrame {
    pub(crate) fn encode(&self) -> io::Result<Bytes> {
        let payloads = self
            .request
            .entries
            .iter()
            .map(|entry| encode_payload(&entry.payload))
            .collect::<io::Result<Vec<_>>>()?;
        let size = payloads.iter().map(|payload| payload.len() + 21).sum::<usize>();
        let mut out = BytesMut::with_capacity(80 + size);
        out.put_u32_le(self.group.0);
        out.put_u64_le(self.stream);
        let vote = &self.request.vote;
        out.put_u64_le(vote.leader_id.term);
        out.put_u64_le(vote.leader_id.voted_for);
        out.put_u8(u8::from(vote.committed));
        put_id(&mut out, self.request.prev_log_id);
        put_id(&mut out, self.request.leader_commit);
        put_varint(&mut out, payloads.len() as u64);
        for (entry, payload) in self.request.entries.iter().zip(&payloads) {
            out.put_u64_le(entry.log_id.leader_id.term);
            out.put_u64_le(entry.log_id.index);
            put_bytes(&mut out, payload);
        }
        Ok(out.freeze())
    }

    pub(crate) fn decode(mut input: Bytes) -> Result<Self, DecodeError> {
        let input = &mut input;
        let (group, stream) = (GroupId(get_u32(input)?), get_u64(input)?);
        let mut vote = Vote::new(get_u64(input)?, get_u64(input)?);
        vote.committed = get_u8(input)? == 1;
        let (prev_log_id, leader_commit) = (get_id(input)?, get_id(input)?);
        let count = get_varint(input)?;
        if count > MAX_APPEND_ENTRIES {
            return Err(DecodeError::TooMany);
        }
        let mut entries = Vec::new();
        for _ in 0..count {
            let log_id = LogId::new_term_index(get_u64(input)?, get_u64(input)?);
            let payload = detached(get_bytes(input)?);
            let payload = decode_payload(payload).map_err(|_| DecodeError::Invalid("payload"))?;
            entries.push(Entry { log_id, payload });
        }
        if input.has_remaining() {
            return Err(DecodeError::Trailing);
        }
        let request = AppendEntriesRequest { vote, prev_log_id, entries, leader_commit };
        Ok(Self { group, stream, request })
    }
}

/// Payloads up to this size are copied out of their frame: an entry stays in
/// the log's memory for long, and would keep the whole read buffer alive.
const COPIED_BYTES: usize = 32 * 1024;

fn detached(payload: Bytes) -> Bytes {
    if payload.len() <= COPIED_BYTES { Bytes::copy_from_slice(&payload) } else { payload }
}

/// A question on the control lane.
#[derive(Serialize, Deserialize)]
pub(crate) enum ControlRequest {
    PreVote(VoteRequest<Types>),
    Vote(VoteRequest<Types>),
    /// A heartbeat, encoded as an [`AppendFrame`].
    Heartbeat(Vec<u8>),
    TransferLeader(TransferLeaderRequest<Types>),
}

/// The answer to a [`ControlRequest`] of the same kind.
#[derive(Serialize, Deserialize)]
pub(crate) enum ControlReply {
    Vote(VoteResponse<Types>),
    Heartbeat(AppendEntriesResponse<Types>),
    TransferLeader(TransferLeaderResponse<Types>),
    /// The node refuses to say yes: it hears from the leader.
    NotGranted,
}

/// The result of one append message.
#[derive(Serialize, Deserialize)]
pub(crate) struct AppendReply(pub(crate) StreamAppendResult<Types>);

/// What goes along with each chunk of a snapshot.
#[derive(Serialize, Deserialize)]
pub(crate) struct ChunkHead {
    /// Grows with each transfer of the sender, over its restarts.
    pub(crate) transfer: u64,
    /// Counts the chunks of the transfer from 0.
    pub(crate) number: u64,
    /// In the last chunk: install now.
    pub(crate) finish: Option<(Vote, SnapshotMeta)>,
}

/// Group, then postcard.
pub(crate) fn encode_for<T: Serialize>(group: GroupId, message: &T) -> io::Result<Bytes> {
    let start = group.0.to_le_bytes().to_vec();
    postcard::to_extend(message, start).map(Bytes::from).map_err(io::Error::other)
}

/// The reverse of [`encode_for`].
pub(crate) fn decode_for<T: for<'de> Deserialize<'de>>(
    mut bytes: Bytes,
) -> Result<(GroupId, T), DecodeError> {
    let group = GroupId(get_u32(&mut bytes)?);
    let message = postcard::from_bytes(&bytes).map_err(|_| DecodeError::Invalid("message"))?;
    Ok((group, message))
}

/// `group:u32 length:varint postcard(head) (key value)*`, keys and values with lengths.
pub(crate) fn encode_chunk(group: GroupId, head: &ChunkHead, rows: &[(Bytes, Bytes)]) -> io::Result<Bytes> {
    let head = postcard::to_stdvec(head).map_err(io::Error::other)?;
    let size = rows.iter().map(|(key, value)| key.len() + value.len() + 10).sum::<usize>();
    let mut out = BytesMut::with_capacity(head.len() + size + 16);
    out.put_u32_le(group.0);
    put_bytes(&mut out, &head);
    for (key, value) in rows {
        put_bytes(&mut out, key);
        put_bytes(&mut out, value);
    }
    Ok(out.freeze())
}

/// A received chunk: the group, what goes along, and the rows.
pub(crate) type Chunk = (GroupId, ChunkHead, Vec<(Bytes, Bytes)>);

/// The reverse of [`encode_chunk`].
pub(crate) fn decode_chunk(mut input: Bytes) -> Result<Chunk, DecodeError> {
    let input = &mut input;
    let group = GroupId(get_u32(input)?);
    let head = postcard::from_bytes(&get_bytes(input)?).map_err(|_| DecodeError::Invalid("chunk"))?;
    let mut rows = Vec::new();
    while input.has_remaining() {
        rows.push((get_bytes(input)?, get_bytes(input)?));
    }
    Ok((group, head, rows))
}

/// postcard of a reply.
pub(crate) fn encode_reply<T: Serialize>(reply: &T) -> io::Result<Bytes> {
    postcard::to_stdvec(reply).map(Bytes::from).map_err(io::Error::other)
}

/// The reverse of [`encode_reply`].
pub(crate) fn decode_reply<T: for<'de> Deserialize<'de>>(bytes: &Bytes) -> Result<T, DecodeError> {
    postcard::from_bytes(bytes).map_err(|_| DecodeError::Invalid("reply"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Command;
    use openraft::EntryPayload;
    use proptest::prelude::*;

    fn any_id() -> impl Strategy<Value = Option<LogId>> {
        any::<Option<(u64, u64)>>().prop_map(|id| id.map(|(term, index)| LogId::new_term_index(term, index)))
    }

    fn any_entry() -> impl Strategy<Value = Entry> {
        let batch = prop::collection::vec(any::<u8>(), 0..50);
        (any::<u64>(), any::<u64>(), prop::option::of(batch)).prop_map(|(term, index, batch)| {
            let payload = batch.map_or(EntryPayload::Blank, |mut batch| {
                batch.insert(0, 0); // a batch starts with its kind
                EntryPayload::Normal(Command(batch.into()))
            });
            Entry { log_id: LogId::new_term_index(term, index), payload }
        })
    }

    proptest! {
        #[test]
        fn appends_survive_their_bytes(
            term in any::<u64>(), node in any::<u64>(), committed in any::<bool>(), stream in any::<u64>(),
            prev_log_id in any_id(), leader_commit in any_id(),
            entries in prop::collection::vec(any_entry(), 0..5)
        ) {
            let mut vote = Vote::new(term, node);
            vote.committed = committed;
            let request = AppendEntriesRequest { vote, prev_log_id, entries, leader_commit };
            let frame = AppendFrame { group: GroupId(7), stream, request };
            let bytes = frame.encode().unwrap();
            let back = AppendFrame::decode(bytes.clone()).unwrap();
            prop_assert_eq!(back.encode().unwrap(), bytes);
            prop_assert_eq!(back.request.prev_log_id, prev_log_id);
            prop_assert_eq!(back.request.entries.len(), frame.request.entries.len());
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let bytes = Bytes::from(bytes);
            let _ = AppendFrame::decode(bytes.clone());
            let _ = decode_chunk(bytes.clone());
            let _ = decode_for::<ControlRequest>(bytes.clone());
            let _ = decode_reply::<AppendReply>(&bytes);
        }
    }
}
