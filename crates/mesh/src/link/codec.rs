//! Frames of a link, one per call.
//!
//! ```text
//! frame     | stream u64 | changes u64 | record ...                      |
//! answer    | stream u64 | changes u64 |
//!
//! start     | 0 |                              the stream starts here
//! interest  | 1 | members n | filter b | queue b |     queue may be empty
//! message   | 2 | flags u8 | subject b | reply b if 2 | headers b if 4
//!           | payload b | count n, queue b ... if 8 |
//! ```
//! Integers are little-endian; `n` is a number of 1 to 5 bytes, seven bits
//! each, lowest first; `b` is its length as `n` and the bytes. Flag 1 means
//! for everyone outside groups.

use bytes::{BufMut, Bytes, BytesMut};
use trine_types::subject::MAX_SUBJECT_BYTES;

use super::interest::Position;
use crate::bus::MAX_QUEUE_BYTES;
use crate::bus::receiver::Interest;
use crate::message::Message;

/// Bytes of a position: the head of a frame, and a whole answer.
pub const POSITION_BYTES: usize = 16;

/// Most queue groups that one message may be for at one node.
pub const MAX_GROUPS: usize = 4096;

const START: u8 = 0;
const INTEREST: u8 = 1;
const MESSAGE: u8 = 2;

const PLAIN: u8 = 1;
const REPLY: u8 = 2;
const HEADERS: u8 = 4;
const GROUPS: u8 = 8;

/// The bytes are no frame of this protocol: the peer is of another version,
/// or wrong. Nothing after the bad record was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a frame of this protocol")]
pub struct NotAFrame;

/// One record of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// What the sender wanted before is void.
    Start,
    /// What the sender wants now.
    Interest(Interest),
    /// A message.
    Message {
        /// What it says.
        message: Message<'a>,
        /// Whether it is for everyone outside groups.
        plain: bool,
        /// The groups of which one member gets it.
        groups: Vec<&'a [u8]>,
    },
}

/// Writes a position.
pub fn put_position(into: &mut impl BufMut, position: Position) {
    into.put_u64_le(position.stream);
    into.put_u64_le(position.changes);
}

/// Reads a position off the front.
///
/// # Errors
/// [`NotAFrame`].
pub fn take_position(from: &mut &[u8]) -> Result<Position, NotAFrame> {
    let (head, rest) = from.split_at_checked(POSITION_BYTES).ok_or(NotAFrame)?;
    *from = rest;
    let (stream, changes) = head.split_at(8);
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap_or_default());
    Ok(Position { stream: number(stream), changes: number(changes) })
}

fn put_number(into: &mut BytesMut, mut number: u32) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            return into.put_u8(low & 0x7f);
        }
        into.put_u8(low | 0x80);
    }
}

fn put_bytes(into: &mut BytesMut, bytes: &[u8]) {
    // Whoever writes records checked the sizes: all are far below 4 GiB.
    put_number(into, u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    into.put_slice(bytes);
}

fn take_number(from: &mut &[u8]) -> Result<u32, NotAFrame> {
    let mut number = 0_u32;
    for shift in (0..35).step_by(7) {
        let (byte, rest) = from.split_first().ok_or(NotAFrame)?;
        *from = rest;
        let bits = u32::from(byte & 0x7f);
        if shift == 28 && bits > 0xf {
            return Err(NotAFrame);
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(NotAFrame)
}

fn take_bytes<'a>(from: &mut &'a [u8], most: usize) -> Result<&'a [u8], NotAFrame> {
    let length = usize::try_from(take_number(from)?).map_err(|_| NotAFrame)?;
    let (bytes, rest) = from.split_at_checked(length).filter(|_| length <= most).ok_or(NotAFrame)?;
    *from = rest;
    Ok(bytes)
}

/// Appends the record that starts a stream.
pub fn put_start(into: &mut BytesMut) {
    into.put_u8(START);
}

/// Appends a change of interest.
pub fn put_interest(into: &mut BytesMut, interest: &Interest) {
    into.put_u8(INTEREST);
    put_number(into, interest.members);
    put_bytes(into, &interest.filter);
    put_bytes(into, interest.queue.as_deref().unwrap_or_default());
}

/// Appends a message for everyone outside groups, if `plain`, and for one
/// member of each of `groups`.
pub fn put_message(
    into: &mut BytesMut,
    message: &Message<'_>,
    plain: bool,
    groups: &mut dyn Iterator<Item = &Bytes>,
) {
    into.reserve(message.subject.len() + message.body_bytes() + 16);
    into.put_u8(MESSAGE);
    let flags_at = into.len();
    let mut flags = if plain { PLAIN } else { 0 };
    into.put_u8(0);
    put_bytes(into, message.subject);
    if let Some(reply) = message.reply {
        flags |= REPLY;
        put_bytes(into, reply);
    }
    if !message.headers.is_empty() {
        flags |= HEADERS;
        put_bytes(into, message.headers);
    }
    put_bytes(into, message.payload);
    let groups: Vec<&Bytes> = groups.take(MAX_GROUPS).collect();
    if !groups.is_empty() {
        flags |= GROUPS;
        put_number(into, u32::try_from(groups.len()).unwrap_or(u32::MAX));
        for queue in groups {
            put_bytes(into, queue);
        }
    }
    into[flags_at] = flags;
}

/// Reads the next record off the front; `None` at the end.
///
/// # Errors
/// [`NotAFrame`].
pub fn take_record<'a>(from: &mut &'a [u8]) -> Result<Option<Record<'a>>, NotAFrame> {
    let Some((kind, rest)) = from.split_first() else { return Ok(None) };
    *from = rest;
    match *kind {
        START => Ok(Some(Record::Start)),
        INTEREST => {
            let members = take_number(from)?;
            let filter = Bytes::copy_from_slice(take_bytes(from, MAX_SUBJECT_BYTES)?);
            let queue = take_bytes(from, MAX_QUEUE_BYTES)?;
            let queue = (!queue.is_empty()).then(|| Bytes::copy_from_slice(queue));
            Ok(Some(Record::Interest(Interest { filter, queue, members })))
        }
        MESSAGE => take_message(from).map(Some),
        _ => Err(NotAFrame),
    }
}

fn take_message<'a>(from: &mut &'a [u8]) -> Result<Record<'a>, NotAFrame> {
    let (flags, rest) = from.split_first().ok_or(NotAFrame)?;
    *from = rest;
    if flags & !(PLAIN | REPLY | HEADERS | GROUPS) != 0 {
        return Err(NotAFrame);
    }
    let has = |flag: u8| flags & flag != 0;
    let most = usize::MAX;
    let subject = take_bytes(from, MAX_SUBJECT_BYTES)?;
    let reply = if has(REPLY) { Some(take_bytes(from, MAX_SUBJECT_BYTES)?) } else { None };
    let headers = if has(HEADERS) { take_bytes(from, most)? } else { b"" };
    let payload = take_bytes(from, most)?;
    let mut groups = Vec::new();
    if has(GROUPS) {
        let count = usize::try_from(take_number(from)?).map_err(|_| NotAFrame)?;
        if count > MAX_GROUPS {
            return Err(NotAFrame);
        }
        for _ in 0..count {
            groups.push(take_bytes(from, MAX_QUEUE_BYTES)?);
        }
    }
    let message = Message { subject, reply, headers, payload };
    Ok(Record::Message { message, plain: has(PLAIN), groups })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Put {
        Start,
        Interest(u32, Vec<u8>, Option<Vec<u8>>),
        Message(Vec<u8>, Option<Vec<u8>>, Vec<u8>, Vec<u8>, bool, Vec<Bytes>),
    }

    fn some(most: usize) -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 1..most)
    }

    fn put() -> impl Strategy<Value = Put> {
        let queue = || prop::option::of(some(20));
        let groups = prop::collection::vec(some(9).prop_map(Bytes::from), 0..4);
        let any_bytes = || prop::collection::vec(any::<u8>(), 0..300);
        prop_oneof![
            1 => Just(Put::Start),
            3 => (any::<u32>(), some(200), queue()).prop_map(|(m, f, q)| Put::Interest(m, f, q)),
            4 => (some(50), queue(), any_bytes(), any_bytes(), any::<bool>(), groups)
                .prop_map(|(s, r, h, p, plain, g)| Put::Message(s, r, h, p, plain, g)),
        ]
    }

    proptest! {
        #[test]
        fn round_trip(stream in any::<u64>(), changes in any::<u64>(), records in prop::collection::vec(put(), 0..8)) {
            let (mut bytes, position) = (BytesMut::new(), Position { stream, changes });
            put_position(&mut bytes, position);
            for record in &records {
                match record {
                    Put::Start => put_start(&mut bytes),
                    Put::Interest(members, filter, queue) => put_interest(&mut bytes, &Interest {
                        filter: filter.clone().into(),
                        queue: queue.clone().map(Bytes::from),
                        members: *members,
                    }),
                    Put::Message(subject, reply, headers, payload, plain, groups) => {
                        let message = Message { subject, reply: reply.as_deref(), headers, payload };
                        put_message(&mut bytes, &message, *plain, &mut groups.iter());
                    }
                }
            }
            let mut rest = &bytes[..];
            prop_assert_eq!(take_position(&mut rest), Ok(position));
            for record in &records {
                let taken = take_record(&mut rest).expect("valid").expect("one more");
                match (record, taken) {
                    (Put::Start, Record::Start) => {}
                    (Put::Interest(members, filter, queue), Record::Interest(taken)) => {
                        prop_assert_eq!(*members, taken.members);
                        prop_assert_eq!(&filter[..], &taken.filter[..]);
                        prop_assert_eq!(queue.as_deref(), taken.queue.as_deref());
                    }
                    (Put::Message(s, r, h, p, before, names), Record::Message { message, plain, groups }) => {
                        let expected = Message { subject: s, reply: r.as_deref(), headers: h, payload: p };
                        prop_assert_eq!((message, plain), (expected, *before));
                        prop_assert!(groups.iter().eq(names.iter().map(|name| &name[..]).collect::<Vec<_>>().iter()));
                    }
                    (put, taken) => prop_assert!(false, "{put:?} became {taken:?}"),
                }
            }
            prop_assert_eq!(take_record(&mut rest), Ok(None));
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut rest = &bytes[..];
            if take_position(&mut rest).is_ok() {
                while let Ok(Some(_)) = take_record(&mut rest) {}
            }
        }
    }
}
