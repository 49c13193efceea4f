//! Bytes to requests: arrays of bulk strings, and inline commands as people
//! type them.
//!
//! ```text
//! *2\r\n $3\r\nGET\r\n $3\r\nkey\r\n        an array of bulk strings
//! GET "a key"\r\n                          inline: words, quotes as in a shell
//! ```
//!
//! A length over the limit is refused when its header is read, before one
//! byte of it is buffered. Parsing resumes where it stopped, so that a large
//! request that arrives in many pieces costs each piece once.

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use trine_types::limits::{MAX_COMMAND_BYTES, MAX_VALUE_BYTES};

/// Most arguments of one request, as in Redis.
pub const MAX_ARGUMENTS: usize = 1024 * 1024;

/// Longest inline request and longest length header, as in Redis.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// Arguments for which room is made before they have arrived.
const ARGUMENTS_RESERVED: usize = 64;

/// The request cannot be understood. The connection gets the text as an
/// error and is closed, because nobody knows where the next request starts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// Not a number, or more than [`MAX_ARGUMENTS`].
    #[error("ERR Protocol error: invalid multibulk length")]
    MultibulkLength,
    /// Not a number, or negative.
    #[error("ERR Protocol error: invalid bulk length")]
    BulkLength,
    /// More than a value may have.
    #[error("ERR Protocol error: invalid bulk length (a value has at most {MAX_VALUE_BYTES} bytes)")]
    BulkTooLong,
    /// All arguments together are more than a command may have.
    #[error("ERR Protocol error: too big request (a command has at most {MAX_COMMAND_BYTES} bytes)")]
    RequestTooLong,
    /// An argument did not start with `$`.
    #[error("ERR Protocol error: expected '$', got '{0}'")]
    ExpectedBulk(char),
    /// A length header without end.
    #[error("ERR Protocol error: too big mbulk count string")]
    HeaderTooLong,
    /// An inline request without end.
    #[error("ERR Protocol error: too big inline request")]
    InlineTooLong,
    /// An inline request whose quotes do not close.
    #[error("ERR Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
}

/// Takes requests out of a connection's input buffer.
#[derive(Debug, Default)]
pub struct RequestParser {
    /// Arguments of the current array that are still missing.
    missing: usize,
    /// Where the finished arguments of the current array are in the buffer.
    finished: Vec<Range<usize>>,
    /// Up to here the buffer has been understood.
    at: usize,
    /// Length of the bulk string that is arriving.
    arriving: Option<usize>,
    /// Sum of the arguments' lengths, for the limit.
    bytes: usize,
}

impl RequestParser {
    /// The next whole request in `input`, which loses its bytes; `None` if
    /// more must arrive first. An empty request is skipped.
    ///
    /// # Errors
    /// When the bytes are no request; the connection must then be closed.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        loop {
            if self.missing > 0 {
                return self.array(input);
            }
            match input.first() {
                None => return Ok(None),
                Some(b'*') => {
                    let Some((count, after)) = header(input, 1, ProtocolError::MultibulkLength)? else {
                        return Ok(None);
                    };
                    match usize::try_from(count) {
                        Ok(count) if count > MAX_ARGUMENTS => return Err(ProtocolError::MultibulkLength),
                        Ok(0) | Err(_) => input.advance(after),
                        Ok(count) => self.begin(count, after),
                    }
                }
                Some(_) => match inline(input)? {
                    Some(words) if words.is_empty() => {}
                    other => return Ok(other),
                },
            }
        }
    }

    /// How many more bytes the request needs at least, to read them in one go.
    pub fn wanted(&self, input: &BytesMut) -> usize {
        self.arriving.map_or(0, |length| (self.at + length + 2).saturating_sub(input.len()))
    }

    fn begin(&mut self, count: usize, after: usize) {
        self.missing = count;
        self.at = after;
        self.bytes = 0;
        self.finished.reserve(count.min(ARGUMENTS_RESERVED));
    }

    fn array(&mut self, input: &mut BytesMut) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        while self.missing > 0 {
            let length = match self.arriving {
                Some(length) => length,
                None => match self.bulk_header(input)? {
                    Some(length) => length,
                    None => return Ok(None),
                },
            };
            if input.len() < self.at + length + 2 {
                return Ok(None);
            }
            self.finished.push(self.at..self.at + length);
            self.at += length + 2;
            self.arriving = None;
            self.missing -= 1;
        }
        let request = input.split_to(self.at).freeze();
        self.at = 0;
        Ok(Some(self.finished.drain(..).map(|range| request.slice(range)).collect()))
    }

    fn bulk_header(&mut self, input: &BytesMut) -> Result<Option<usize>, ProtocolError> {
        match input.get(self.at) {
            None => return Ok(None),
            Some(b'$') => {}
            Some(other) => return Err(ProtocolError::ExpectedBulk(char::from(*other))),
        }
        let Some((length, after)) = header(input, self.at + 1, ProtocolError::BulkLength)? else {
            return Ok(None);
        };
        let length = usize::try_from(length).map_err(|_| ProtocolError::BulkLength)?;
        if length > MAX_VALUE_BYTES {
            return Err(ProtocolError::BulkTooLong);
        }
        self.bytes += length;
        if self.bytes > MAX_COMMAND_BYTES {
            return Err(ProtocolError::RequestTooLong);
        }
        self.at = after;
        self.arriving = Some(length);
        Ok(Some(length))
    }
}

/// Reads `digits\r\n` at `from`: the number and where the line ends.
fn header(input: &[u8], from: usize, wrong: ProtocolError) -> Result<Option<(i64, usize)>, ProtocolError> {
    let rest = &input[from..];
    let window = &rest[..rest.len().min(MAX_LINE_BYTES)];
    let Some(end) = window.iter().position(|byte| *byte == b'\r') else {
        return if rest.len() >= MAX_LINE_BYTES { Err(ProtocolError::HeaderTooLong) } else { Ok(None) };
    };
    if rest.len() < end + 2 {
        return Ok(None);
    }
    match crate::args::integer(&rest[..end]) {
        Some(number) => Ok(Some((number, from + end + 2))),
        None => Err(wrong),
    }
}

fn inline(input: &mut BytesMut) -> Result<Option<Vec<Bytes>>, ProtocolError> {
    let window = &input[..input.len().min(MAX_LINE_BYTES)];
    let Some(end) = window.iter().position(|byte| *byte == b'\n') else {
        return if input.len() >= MAX_LINE_BYTES { Err(ProtocolError::InlineTooLong) } else { Ok(None) };
    };
    let line = input.split_to(end + 1);
    let line = &line[..end];
    words(line.strip_suffix(b"\r").unwrap_or(line)).map(Some)
}

/// Splits a line into words. Double quotes know `\n \r \t \b \a \\ \" \xHH`,
/// single quotes know `\'`; a closing quote must end its word.
fn words(line: &[u8]) -> Result<Vec<Bytes>, ProtocolError> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        let start = rest.iter().position(|byte| !byte.is_ascii_whitespace() && *byte != 0);
        let Some(start) = start else { return Ok(words) };
        rest = &rest[start..];
        let mut word = Vec::new();
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            match byte {
                b'"' | b'\'' => {
                    rest = quoted(byte, rest, &mut word)?;
                    if rest.first().is_some_and(|next| !next.is_ascii_whitespace()) {
                        return Err(ProtocolError::UnbalancedQuotes);
                    }
                    break;
                }
                byte if byte.is_ascii_whitespace() || byte == 0 => break,
                byte => word.push(byte),
            }
        }
        words.push(word.into());
    }
}

/// Reads up to the closing quote; answers what follows it.
fn quoted<'a>(quote: u8, mut rest: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    loop {
        let (&byte, after) = rest.split_first().ok_or(ProtocolError::UnbalancedQuotes)?;
        rest = after;
        if byte == quote {
            return Ok(rest);
        }
        if byte != b'\\' {
            word.push(byte);
            continue;
        }
        let Some((&escaped, after)) = rest.split_first() else {
            return Err(ProtocolError::UnbalancedQuotes);
        };
        match (quote, escaped) {
            (b'\'', b'\'') => word.push(b'\''),
            (b'\'', _) => {
                word.push(b'\\');
                continue;
            }
            (_, b'x') if hex_byte(after).is_some() => {
                word.extend(hex_byte(after));
                rest = &after[2..];
                continue;
            }
            (_, b'n') => word.push(b'\n'),
            (_, b'r') => word.push(b'\r'),
            (_, b't') => word.push(b'\t'),
            (_, b'b') => word.push(8),
            (_, b'a') => word.push(7),
            (_, other) => word.push(other),
        }
        rest = after;
    }
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    let digits = digits.get(..2)?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Encodes a request the way clients send it.
pub fn encode(argv: &[Bytes], out: &mut BytesMut) {
    let put_size = |kind: u8, length: usize, out: &mut BytesMut| {
        out.extend_from_slice(&[kind]);
        super::encode::put_decimal(i64::try_from(length).unwrap_or(i64::MAX), out);
        out.extend_from_slice(b"\r\n");
    };
    put_size(b'*', argv.len(), out);
    for argument in argv {
        put_size(b'$', argument.len(), out);
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse_all(input: &[u8]) -> Result<Vec<Vec<Bytes>>, ProtocolError> {
        parse_in_pieces(input, input.len().max(1))
    }

    fn parse_in_pieces(input: &[u8], piece: usize) -> Result<Vec<Vec<Bytes>>, ProtocolError> {
        let mut parser = RequestParser::default();
        let mut buffer = BytesMut::new();
        let mut requests = Vec::new();
        for piece in input.chunks(piece) {
            buffer.extend_from_slice(piece);
            while let Some(request) = parser.next(&mut buffer)? {
                requests.push(request);
            }
        }
        Ok(requests)
    }

    fn error(input: &[u8]) -> String {
        parse_all(input).expect_err("must be refused").to_string()
    }

    #[test]
    fn errors_read_as_in_redis() {
        assert_eq!(error(b"*99999999999\r\n"), "ERR Protocol error: invalid multibulk length");
        assert_eq!(error(b"*x\r\n"), "ERR Protocol error: invalid multibulk length");
        assert_eq!(error(b"*1\r\n$-5\r\n"), "ERR Protocol error: invalid bulk length");
        assert_eq!(error(b"*1\r\n$abc\r\n"), "ERR Protocol error: invalid bulk length");
        assert_eq!(error(b"*2\r\n+foo\r\n"), "ERR Protocol error: expected '$', got '+'");
        assert_eq!(error(b"GET \"a\r\n"), "ERR Protocol error: unbalanced quotes in request");
        assert_eq!(error(b"GET \"a\"b\r\n"), "ERR Protocol error: unbalanced quotes in request");
        assert_eq!(error(&vec![b'a'; 70_000]), "ERR Protocol error: too big inline request");
        assert_eq!(error(&vec![b'*'; 70_000]), "ERR Protocol error: too big mbulk count string");
    }

    #[test]
    fn too_large_is_refused_when_its_header_is_read() {
        assert_eq!(parse_all(b"*1\r\n$16777217\r\n"), Err(ProtocolError::BulkTooLong));
        assert_eq!(parse_all(b"*3\r\n$16777216\r\n"), Ok(vec![]));
        let mut parser = RequestParser { missing: 2, bytes: MAX_VALUE_BYTES, ..RequestParser::default() };
        let mut input = BytesMut::from(&b"$16777216\r\n"[..]);
        assert_eq!(parser.next(&mut input), Err(ProtocolError::RequestTooLong));
    }

    #[test]
    fn empty_requests_are_skipped() {
        let ping = vec![Bytes::from_static(b"PING")];
        assert_eq!(parse_all(b"*0\r\n\r\n*-1\r\n  \r\nPING\r\n"), Ok(vec![ping]));
    }

    #[test]
    fn inline_words_know_quotes_and_escapes() {
        let words = words(br#"set "a\x41\n" 'it\'s \n' plain"#).unwrap();
        let expected: [&[u8]; 4] = [b"set", b"aA\n", b"it's \\n", b"plain"];
        assert_eq!(words, expected);
    }

    proptest! {
        #[test]
        fn requests_round_trip_in_any_pieces(
            requests in proptest::collection::vec(
                proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 1..5), 0..5),
            piece in 1_usize..40,
        ) {
            let requests: Vec<Vec<Bytes>> =
                requests.into_iter().map(|argv| argv.into_iter().map(Bytes::from).collect()).collect();
            let mut bytes = BytesMut::new();
            for argv in &requests {
                encode(argv, &mut bytes);
            }
            prop_assert_eq!(parse_in_pieces(&bytes, piece), Ok(requests));
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), piece in 1_usize..40) {
            let _ = parse_in_pieces(&bytes, piece);
        }

        #[test]
        fn nearly_requests_never_panic(text in r#"[*$0-9\r\n"'\\xGETa -]{0,60}"#, piece in 1_usize..20) {
            let whole = parse_all(text.as_bytes());
            let pieces = parse_in_pieces(text.as_bytes(), piece);
            prop_assert_eq!(whole.is_err(), pieces.is_err());
        }
    }
}
