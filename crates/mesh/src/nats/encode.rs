//! What a client is sent, as bytes.
//!
//! ```text
//! INFO {json}\r\n     MSG subject sid [reply] size\r\n payload \r\n                      PING\r\n
//! +OK\r\n             HMSG subject sid [reply] header total\r\n header payload \r\n      PONG\r\n
//! -ERR 'text'\r\n
//! ```

/// Bytes that a message takes beside its words: verb, blanks, line ends.
const FRAME: usize = 16 + 3 * DIGITS;

/// Digits of the largest number.
const DIGITS: usize = 20;

/// A sign of life is wanted.
pub const PING: &[u8] = b"PING\r\n";
/// Here it is.
pub const PONG: &[u8] = b"PONG\r\n";
/// What a verbose client hears after each operation.
pub const OK: &[u8] = b"+OK\r\n";

/// A message as its receiver will see it.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// Where it was sent to.
    pub subject: &'a [u8],
    /// The receiver's name for the subscription.
    pub sid: &'a [u8],
    /// Where an answer goes.
    pub reply: Option<&'a [u8]>,
    /// Header block, or nothing.
    pub headers: &'a [u8],
    /// What was sent.
    pub payload: &'a [u8],
}

/// Appends a message; without its headers if the client does not know them.
pub fn message(out: &mut Vec<u8>, delivery: &Delivery<'_>, knows_headers: bool) {
    let Delivery { subject, sid, reply, headers, payload } = *delivery;
    let headers = if knows_headers { headers } else { &[] };
    let words = subject.len() + sid.len() + reply.map_or(0, <[u8]>::len);
    out.reserve(FRAME + words + headers.len() + payload.len());
    out.extend_from_slice(if headers.is_empty() { b"MSG " } else { b"HMSG " });
    out.extend_from_slice(subject);
    out.push(b' ');
    out.extend_from_slice(sid);
    out.push(b' ');
    if let Some(reply) = reply {
        out.extend_from_slice(reply);
        out.push(b' ');
    }
    if !headers.is_empty() {
        number(out, headers.len());
        out.push(b' ');
    }
    number(out, headers.len() + payload.len());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(headers);
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// Appends an error.
pub fn error(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(b"-ERR '");
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"'\r\n");
}

/// Appends what a server says about itself.
pub fn info(out: &mut Vec<u8>, json: &str) {
    out.extend_from_slice(b"INFO ");
    out.extend_from_slice(json.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn number(out: &mut Vec<u8>, mut value: usize) {
    let mut digits = [0; DIGITS];
    let mut at = DIGITS;
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Delivery, error, info, message, number};

    fn encoded(reply: Option<&[u8]>, headers: &[u8], knows_headers: bool) -> String {
        let mut out = Vec::new();
        message(
            &mut out,
            &Delivery { subject: b"a.b", sid: b"9", reply, headers, payload: b"hi" },
            knows_headers,
        );
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn messages_as_nats_server_writes_them() {
        assert_eq!(encoded(None, b"", true), "MSG a.b 9 2\r\nhi\r\n");
        assert_eq!(encoded(Some(b"r"), b"", true), "MSG a.b 9 r 2\r\nhi\r\n");
        let headers = b"NATS/1.0\r\n\r\n";
        assert_eq!(encoded(Some(b"r"), headers, true), "HMSG a.b 9 r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n");
        assert_eq!(encoded(Some(b"r"), headers, false), "MSG a.b 9 r 2\r\nhi\r\n");
    }

    #[test]
    fn the_other_lines() {
        let mut out = Vec::new();
        error(&mut out, "Stale Connection");
        info(&mut out, "{}");
        assert_eq!(out, b"-ERR 'Stale Connection'\r\nINFO {}\r\n");
    }

    proptest! {
        #[test]
        fn numbers_are_decimal(value: usize) {
            let mut out = Vec::new();
            number(&mut out, value);
            prop_assert_eq!(String::from_utf8(out).expect("digits"), value.to_string());
        }
    }
}
