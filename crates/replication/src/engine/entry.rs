//! How a Raft entry is kept in the shared log: its position is the log's own,
//! its payload is an encoded batch as it stands, or starts with a byte that no
//! batch starts with.
//!
//! ```text
//! payload = batch                          its first byte is its kind, 0..=2
//!         | 0xff                           blank: a leader's first entry
//!         | 0xfe postcard(Membership)
//! ```

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use openraft::EntryPayload;
use trine_storage::{LogEntry, LogPosition};

use super::{Command, Entry, LogId, Membership};

const BLANK: u8 = 0xff;
const MEMBERSHIP: u8 = 0xfe;

pub(crate) fn position(id: LogId) -> LogPosition {
    LogPosition { term: id.leader_id.term, index: id.index }
}

pub(crate) fn log_id(at: LogPosition) -> LogId {
    LogId::new_term_index(at.term, at.index)
}

/// The bytes that stand for a payload in the log and on the wire.
pub(crate) fn encode_payload(payload: &EntryPayload<Command, u64, super::Member>) -> io::Result<Bytes> {
    match payload {
        EntryPayload::Blank => Ok(Bytes::from_static(&[BLANK])),
        EntryPayload::Normal(command) => Ok(command.0.clone()),
        EntryPayload::Membership(membership) => {
            let mut out = BytesMut::new();
            out.put_u8(MEMBERSHIP);
            out.extend_from_slice(&postcard::to_stdvec(membership).map_err(io::Error::other)?);
            Ok(out.freeze())
        }
    }
}

/// The reverse of [`encode_payload`]. A batch is not decoded any further here.
pub(crate) fn decode_payload(bytes: Bytes) -> io::Result<EntryPayload<Command, u64, super::Member>> {
    match bytes.first() {
        None => Err(io::Error::new(io::ErrorKind::InvalidData, "an entry without a byte")),
        Some(&BLANK) => Ok(EntryPayload::Blank),
        Some(&MEMBERSHIP) => {
            let membership: Membership = postcard::from_bytes(&bytes[1..])
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            Ok(EntryPayload::Membership(membership))
        }
        Some(_) => Ok(EntryPayload::Normal(Command(bytes))),
    }
}

pub(crate) fn to_log(entry: &Entry) -> io::Result<LogEntry> {
    Ok(LogEntry { at: position(entry.log_id), payload: encode_payload(&entry.payload)? })
}

pub(crate) fn from_log(entry: LogEntry) -> io::Result<Entry> {
    Ok(Entry { log_id: log_id(entry.at), payload: decode_payload(entry.payload)? })
}
