//! The parser against what nats-server accepts, and against any cut of it.

use proptest::prelude::*;

use super::{Bounds, MAX_CONTROL_LINE, Op, ParseError, Parsed, parse};
use crate::message::Message;

const BOUNDS: Bounds = Bounds { control_line: MAX_CONTROL_LINE, payload: 64 };

/// Everything in `pieces`, as a connection would take it; operations as text.
fn read(pieces: &[&[u8]]) -> (Vec<String>, Option<ParseError>) {
    let (mut input, mut ops) = (Vec::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        let mut at = 0;
        while at < input.len() {
            match parse(&input[at..], BOUNDS) {
                Ok(Parsed::Op(op, taken)) => {
                    ops.push(format!("{op:?}"));
                    at += taken;
                }
                Ok(Parsed::More(wanted)) => {
                    assert!(wanted > input.len() - at, "it would be asked for ever");
                    break;
                }
                Err(error) => return (ops, Some(error)),
            }
        }
        input.drain(..at);
    }
    (ops, None)
}

fn one(text: &str) -> Result<Op<'_>, ParseError> {
    match parse(text.as_bytes(), BOUNDS)? {
        Parsed::Op(op, taken) => {
            assert_eq!(taken, text.len());
            Ok(op)
        }
        Parsed::More(_) => panic!("one operation"),
    }
}

fn bytes(text: &'static str) -> &'static [u8] {
    text.as_bytes()
}

fn message(
    subject: &'static str,
    reply: Option<&'static str>,
    headers: &'static str,
    text: &'static str,
) -> Op<'static> {
    let (subject, reply) = (subject.as_bytes(), reply.map(str::as_bytes));
    Op::Publish(Message { subject, reply, headers: headers.as_bytes(), payload: text.as_bytes() })
}

#[test]
fn every_operation() {
    assert_eq!(one("PUB a 2\r\nhi\r\n"), Ok(message("a", None, "", "hi")));
    assert_eq!(one("pub  a\tb  0\r\n\r\n"), Ok(message("a", Some("b"), "", "")));
    assert_eq!(
        one("HPUB a b 12 14\r\nNATS/1.0\r\n\r\nhi\r\n"),
        Ok(message("a", Some("b"), "NATS/1.0\r\n\r\n", "hi"))
    );
    assert_eq!(
        one("SUB a.> q 7\r\n"),
        Ok(Op::Subscribe { filter: bytes("a.>"), queue: Some(bytes("q")), sid: bytes("7") })
    );
    assert_eq!(one("SUB a x1\r\n"), Ok(Op::Subscribe { filter: bytes("a"), queue: None, sid: bytes("x1") }));
    assert_eq!(one("UNSUB 7 3\n"), Ok(Op::Unsubscribe { sid: bytes("7"), max: Some(3) }));
    assert_eq!(one("UNSUB 7\r\n"), Ok(Op::Unsubscribe { sid: bytes("7"), max: None }));
    assert_eq!(one("CONNECT  {\"a\": 1} \r\n"), Ok(Op::Connect(bytes("{\"a\": 1}"))));
    assert_eq!(one("ping\r\n"), Ok(Op::Ping));
    assert_eq!(one("PONG\r\n"), Ok(Op::Pong));
    assert_eq!(one("+OK\r\n"), Ok(Op::Nothing));
    assert_eq!(one("-ERR 'x'\r\n"), Ok(Op::Complaint(bytes("'x'"))));
}

#[test]
fn what_makes_no_sense_is_refused() {
    assert_eq!(one("GET / HTTP/1.1\r\n"), Err(ParseError::Unknown));
    assert_eq!(one("PUBx"), Err(ParseError::Unknown));
    assert_eq!(one("\r\n"), Err(ParseError::Unknown));
    assert_eq!(one("PUB a\r\n"), Err(ParseError::Arguments("processPub")));
    assert_eq!(one("PUB a b c 2\r\nhi\r\n"), Err(ParseError::Arguments("processPub")));
    assert_eq!(one("PUB a -2\r\nhi\r\n"), Err(ParseError::Arguments("processPub")));
    assert_eq!(one("HPUB a 3 2\r\n"), Err(ParseError::Arguments("processHeaderPub")));
    assert_eq!(one("SUB a\r\n"), Err(ParseError::Arguments("processSub")));
    assert_eq!(one("UNSUB\t\r\n"), Err(ParseError::Arguments("processUnsub")));
    assert_eq!(one("PUB a 2\r\nhixx"), Err(ParseError::Unknown));
}

#[test]
fn limits_are_seen_before_anything_is_buffered() {
    assert_eq!(one("PUB a 65\r\n"), Err(ParseError::Payload));
    assert_eq!(one("HPUB a 1 65\r\n"), Err(ParseError::Payload));
    let line = format!("SUB {}", "a".repeat(MAX_CONTROL_LINE + 2));
    assert_eq!(one(&line), Err(ParseError::ControlLine));
    let line = format!("SUB {} 1\r\n", "a".repeat(MAX_CONTROL_LINE - 2));
    assert!(one(&line).is_ok());
    let line = format!("SUB {} 1\r\n", "a".repeat(MAX_CONTROL_LINE - 1));
    assert_eq!(one(&line), Err(ParseError::ControlLine));
}

fn operation() -> impl Strategy<Value = Vec<u8>> {
    let word = "[a-z.*>]{1,8}";
    prop_oneof![
        (word, proptest::option::of(word), proptest::collection::vec(any::<u8>(), 0..20)).prop_map(
            |(subject, reply, payload)| {
                let reply = reply.map(|reply| format!("{reply} ")).unwrap_or_default();
                let mut text = format!("PUB {subject} {reply}{}\r\n", payload.len()).into_bytes();
                text.extend_from_slice(&payload);
                text.extend_from_slice(b"\r\n");
                text
            }
        ),
        (word, 0..9u8).prop_map(|(filter, sid)| format!("SUB {filter} {sid}\r\n").into_bytes()),
        Just(b"HPUB a 12 14\r\nNATS/1.0\r\n\r\nhi\r\n".to_vec()),
        Just(b"PING\r\n".to_vec()),
        Just(b"CONNECT {}\r\n".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..6),
    ]
}

proptest! {
    #[test]
    fn where_it_is_cut_changes_nothing(ops in proptest::collection::vec(operation(), 1..6)) {
        let whole = ops.concat();
        let expected = read(&[&whole]);
        let single: Vec<&[u8]> = whole.chunks(1).collect();
        prop_assert_eq!(&read(&single), &expected);
        for cut in 0..whole.len() {
            prop_assert_eq!(&read(&[&whole[..cut], &whole[cut..]]), &expected);
        }
    }

    #[test]
    fn it_never_panics(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..6)) {
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        read(&pieces);
    }
}
