//! Requests and the exact bytes that Redis 7.0.15 answers to them, recorded in
//! `golden.txt`: a request, then, indented, its reply. Each is sent on a
//! connection of its own to an empty database.
//!
//! Recorded by sending the same lines to `redis-server`; replies in which Trine
//! differs on purpose (limits, cluster mode, HELP texts) are not in the file.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::tests::House;

const GOLDEN: &str = include_str!("golden.txt");

fn unescaped(line: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), line.chars());
    while let Some(character) = rest.next() {
        let byte = match (character, rest.as_str().as_bytes().first()) {
            ('\\', Some(b'r')) => b'\r',
            ('\\', Some(b'n')) => b'\n',
            ('\\', Some(b't')) => b'\t',
            ('\\', Some(b'\\')) => b'\\',
            ('\\', Some(b'x')) => u8::from_str_radix(&rest.as_str()[1..3], 16).unwrap(),
            _ => {
                bytes.extend_from_slice(character.to_string().as_bytes());
                continue;
            }
        };
        let used = if rest.as_str().starts_with('x') { 3 } else { 1 };
        rest = rest.as_str()[used..].chars();
        bytes.push(byte);
    }
    bytes
}

#[tokio::test]
async fn replies_are_those_of_redis() {
    let lines: Vec<&str> = GOLDEN.lines().collect();
    let mut wrong = String::new();
    for pair in lines.chunks_exact(2) {
        let house = House::new();
        let mut client = house.open().await;
        client.stream.write_all(&unescaped(pair[0])).await.unwrap();
        client.stream.shutdown().await.unwrap();
        let mut reply = Vec::new();
        client.stream.read_to_end(&mut reply).await.unwrap();
        if reply != unescaped(pair[1].trim_start()) {
            let reply = reply.escape_ascii();
            wrong += &["\n", pair[0], "\n  redis ", pair[1].trim_start(), "\n  trine ", &reply.to_string()]
                .concat();
        }
    }
    assert!(lines.len() >= 190 && wrong.is_empty(), "{wrong}");
}
