//! Bytes to operations: what a client of the NATS protocol may send.
//!
//! ```text
//! CONNECT {json}\r\n          SUB subject [queue] sid\r\n        PING\r\n
//! PUB subject [reply] size\r\n payload \r\n                       PONG\r\n
//! HPUB subject [reply] header total\r\n header payload \r\n       UNSUB sid [max]\r\n
//! ```
//!
//! A line or a size over its limit is refused when it is seen, before one byte
//! of a payload is buffered. Operations are slices of the input they came in;
//! nothing is copied. Where the input is cut changes nothing.

use crate::message::Message;

/// Longest line before the payload, as in nats-server.
pub const MAX_CONTROL_LINE: usize = 4096;

/// Words in the longest line (`HPUB subject reply header total`).
const MAX_WORDS: usize = 4;

/// One operation of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op<'a> {
    /// Options as JSON.
    Connect(&'a [u8]),
    /// A message.
    Publish(Message<'a>),
    /// Wants messages.
    Subscribe {
        /// Which ones; may have wildcards.
        filter: &'a [u8],
        /// Group of which one member gets each message.
        queue: Option<&'a [u8]>,
        /// The client's name for it.
        sid: &'a [u8],
    },
    /// Wants no more.
    Unsubscribe {
        /// The client's name for the subscription.
        sid: &'a [u8],
        /// Only after so many messages in all.
        max: Option<u64>,
    },
    /// Asks for a sign of life.
    Ping,
    /// Gives one.
    Pong,
    /// Says something that a server has no use for (`+OK`, `INFO`).
    Nothing,
    /// Complains; nothing sensible can follow.
    Complaint(&'a [u8]),
}

/// Why input cannot be understood. The connection is closed, since nobody
/// knows where the next operation starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// No operation starts like this.
    #[error("Unknown Protocol Operation")]
    Unknown,
    /// A line over the limit.
    #[error("maximum control line exceeded")]
    ControlLine,
    /// A payload over the limit.
    #[error("Maximum Payload Violation")]
    Payload,
    /// The operation is known, its words make no sense. nats-server closes
    /// without a word then, and so do we.
    #[error("{0} Parse Error")]
    Arguments(&'static str),
}

/// Limits of one connection.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Longest line.
    pub control_line: usize,
    /// Largest header and payload together.
    pub payload: usize,
}

/// What was found at the start of some input.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// One operation and how many bytes it took.
    Op(Op<'a>, usize),
    /// The operation is incomplete; looking again makes sense once there are
    /// this many bytes.
    More(usize),
}

#[derive(Clone, Copy)]
enum Verb {
    Connect,
    Publish,
    HeaderPublish,
    Subscribe,
    Unsubscribe,
    Ping,
    Pong,
    Info,
    Ok,
    Err,
}

/// Verbs, whether words follow, and what they are.
const VERBS: &[(&[u8], bool, Verb)] = &[
    (b"PUB", true, Verb::Publish),
    (b"HPUB", true, Verb::HeaderPublish),
    (b"PING", false, Verb::Ping),
    (b"PONG", false, Verb::Pong),
    (b"SUB", true, Verb::Subscribe),
    (b"UNSUB", true, Verb::Unsubscribe),
    (b"CONNECT", true, Verb::Connect),
    (b"INFO", true, Verb::Info),
    (b"+OK", false, Verb::Ok),
    (b"-ERR", true, Verb::Err),
];

/// Reads the operation at the start of `input`.
///
/// # Errors
/// [`ParseError`]; the connection must be closed.
pub fn parse(input: &[u8], bounds: Bounds) -> Result<Parsed<'_>, ParseError> {
    let Some((verb, start)) = verb(input)? else { return Ok(Parsed::More(input.len() + 1)) };
    let limit = start + bounds.control_line + 2;
    let Some(end) = input.iter().take(limit).skip(start).position(|byte| *byte == b'\n') else {
        let more = Parsed::More(input.len() + 1);
        return if input.len() >= limit { Err(ParseError::ControlLine) } else { Ok(more) };
    };
    let after = start + end + 1;
    let line = &input[start..start + end];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() > bounds.control_line {
        return Err(ParseError::ControlLine);
    }
    let op = match verb {
        Verb::Publish => return publish(line, false, input, after, bounds.payload),
        Verb::HeaderPublish => return publish(line, true, input, after, bounds.payload),
        Verb::Subscribe => subscribe(line)?,
        Verb::Unsubscribe => unsubscribe(line)?,
        Verb::Connect => Op::Connect(line.trim_ascii()),
        Verb::Err => Op::Complaint(line.trim_ascii()),
        Verb::Ping => Op::Ping,
        Verb::Pong => Op::Pong,
        Verb::Ok | Verb::Info => Op::Nothing,
    };
    Ok(Parsed::Op(op, after))
}

/// The verb at the start of `input` and where its words start; `None` when
/// more is needed to tell.
fn verb(input: &[u8]) -> Result<Option<(Verb, usize)>, ParseError> {
    for (name, words, verb) in VERBS {
        let seen = input.len().min(name.len());
        if !input[..seen].eq_ignore_ascii_case(&name[..seen]) {
            continue;
        }
        if seen < name.len() {
            return Ok(None);
        }
        return match input.get(seen) {
            None => Ok(None),
            Some(b' ' | b'\t') if *words => Ok(Some((*verb, seen + 1))),
            Some(_) if !words => Ok(Some((*verb, seen))),
            Some(_) => Err(ParseError::Unknown),
        };
    }
    Err(ParseError::Unknown)
}

/// The words of a line.
struct Words<'a> {
    words: [&'a [u8]; MAX_WORDS],
    count: usize,
}

impl<'a> Words<'a> {
    /// `None` if there are too many.
    fn of(line: &'a [u8]) -> Option<Self> {
        let mut found = Self { words: [&[]; MAX_WORDS], count: 0 };
        let mut begun = None;
        for (index, byte) in line.iter().enumerate() {
            let blank = matches!(byte, b' ' | b'\t' | b'\r');
            match begun {
                None if !blank => begun = Some(index),
                Some(start) if blank => {
                    found.push(&line[start..index])?;
                    begun = None;
                }
                _ => {}
            }
        }
        if let Some(start) = begun {
            found.push(&line[start..])?;
        }
        Some(found)
    }

    fn push(&mut self, word: &'a [u8]) -> Option<()> {
        *self.words.get_mut(self.count)? = word;
        self.count += 1;
        Some(())
    }

    fn as_slice(&self) -> &[&'a [u8]] {
        &self.words[..self.count]
    }
}

fn publish<'a>(
    line: &'a [u8],
    with_headers: bool,
    input: &'a [u8],
    after: usize,
    max_payload: usize,
) -> Result<Parsed<'a>, ParseError> {
    let wrong = ParseError::Arguments(if with_headers { "processHeaderPub" } else { "processPub" });
    let words = Words::of(line).ok_or(wrong)?;
    let (subject, reply, header, total) = match (with_headers, words.as_slice()) {
        (false, [subject, total]) => (*subject, None, Some(0), number(total)),
        (false, [subject, reply, total]) => (*subject, Some(*reply), Some(0), number(total)),
        (true, [subject, header, total]) => (*subject, None, number(header), number(total)),
        (true, [subject, reply, header, total]) => (*subject, Some(*reply), number(header), number(total)),
        _ => return Err(wrong),
    };
    let size = |number: Option<u64>| number.and_then(|size| usize::try_from(size).ok()).ok_or(wrong);
    let (header, total) = (size(header)?, size(total)?);
    if header > total {
        return Err(wrong);
    }
    if total > max_payload {
        return Err(ParseError::Payload);
    }
    let wanted = after + total + 2;
    // The two bytes after the payload are looked at as soon as they come.
    for (place, expected) in [(wanted - 2, b'\r'), (wanted - 1, b'\n')] {
        if input.get(place).is_some_and(|byte| *byte != expected) {
            return Err(ParseError::Unknown);
        }
    }
    if input.len() < wanted {
        return Ok(Parsed::More(wanted));
    }
    let (headers, payload) = input[after..after + total].split_at(header);
    Ok(Parsed::Op(Op::Publish(Message { subject, reply, headers, payload }), wanted))
}

fn subscribe(line: &[u8]) -> Result<Op<'_>, ParseError> {
    let wrong = ParseError::Arguments("processSub");
    match Words::of(line).ok_or(wrong)?.as_slice() {
        [filter, sid] => Ok(Op::Subscribe { filter, queue: None, sid }),
        [filter, queue, sid] => Ok(Op::Subscribe { filter, queue: Some(queue), sid }),
        _ => Err(wrong),
    }
}

fn unsubscribe(line: &[u8]) -> Result<Op<'_>, ParseError> {
    let wrong = ParseError::Arguments("processUnsub");
    match Words::of(line).ok_or(wrong)?.as_slice() {
        [sid] => Ok(Op::Unsubscribe { sid, max: None }),
        // As in nats-server, what is no number means at once.
        [sid, max] => Ok(Op::Unsubscribe { sid, max: number(max) }),
        _ => Err(wrong),
    }
}

/// Decimal digits, at most nine of them, as in nats-server.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 9 {
        return None;
    }
    text.iter()
        .try_fold(0u64, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests;
