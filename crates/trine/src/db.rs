//! `trine db get|set|del`: single key commands through any node's Redis door,
//! with the parts of their time when asked for.

use std::io::{Read, Write};

use bytes::Bytes;
use serde::Serialize;

use crate::cli::{DbCommand, DbTarget};
use crate::failure::Failure;
use crate::resp::Value;

mod login;

/// The parts of one operation's time, in microseconds: `T = T_r + T_c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Timing {
    /// `T_r`: processing at the owner.
    pub processing_us: u64,
    /// `T_c`: passing between nodes.
    pub passing_us: u64,
    /// Whether the asked node was not the owner.
    pub forwarded: bool,
}

impl Timing {
    /// `T`.
    pub fn total_us(&self) -> u64 {
        self.processing_us + self.passing_us
    }
}

/// Takes the answer of `TRINE.TIMING` apart.
///
/// # Errors
/// The command was refused, or the answer has another form.
pub fn split_timing(value: Value) -> Result<(Value, Timing), Failure> {
    let parts = match value {
        Value::Array(parts) => <[Value; 4]>::try_from(parts).ok(),
        Value::Error(text) => return Err(Failure::new(text)),
        _ => None,
    };
    let microseconds = |value: &Value| match value {
        Value::Integer(number) => u64::try_from(*number).ok(),
        _ => None,
    };
    parts
        .and_then(|[reply, processing, passing, forwarded]| {
            let timing = Timing {
                processing_us: microseconds(&processing)?,
                passing_us: microseconds(&passing)?,
                forwarded: microseconds(&forwarded)? != 0,
            };
            Some((reply, timing))
        })
        .ok_or_else(|| Failure::new("the door does not answer TRINE.TIMING as Trine does"))
}

/// What `--json` prints.
#[derive(Debug, Default, Serialize)]
struct Outcome {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timing: Option<Timing>,
}

/// Runs one of the commands.
///
/// # Errors
/// No door there, the door refuses, or the key does not exist.
pub async fn run(command: DbCommand, json: bool) -> Result<(), Failure> {
    match command {
        DbCommand::Get { key, door } => get(key, &door, json).await,
        DbCommand::Set { key, value, door } => set(key, value, &door, json).await,
        DbCommand::Del { keys, door } => del(keys, &door, json).await,
    }
}

async fn get(key: String, door: &DbTarget, json: bool) -> Result<(), Failure> {
    let (reply, timing) = execute(door, &[b"GET", key.as_bytes()]).await?;
    let value = match reply {
        Value::Bulk(value) => Some(value),
        Value::Nil => None,
        other => return Err(unexpected(other)),
    };
    if json {
        let found = value.is_some();
        let (text, base64) = value.as_ref().map_or((None, None), printable);
        print_json(&Outcome {
            key: Some(key),
            found: Some(found),
            value: text,
            value_base64: base64,
            timing,
            ..Outcome::default()
        })?;
        return if found { Ok(()) } else { Err(Failure::new("no such key")) };
    }
    print_timing(timing);
    let Some(value) = value else { return Err(Failure::new(format!("no such key: {key}"))) };
    let mut out = std::io::stdout().lock();
    out.write_all(&value).and_then(|()| out.write_all(b"\n")).map_err(Failure::new)
}

async fn set(key: String, value: String, door: &DbTarget, json: bool) -> Result<(), Failure> {
    let mut bytes = value.into_bytes();
    if bytes == b"-" {
        bytes.clear();
        let limit = trine_types::limits::MAX_VALUE_BYTES as u64;
        let read = std::io::stdin().take(limit + 1).read_to_end(&mut bytes).map_err(Failure::new)?;
        if read as u64 > limit {
            return Err(Failure::new(format!("a value is at most {limit} bytes")));
        }
    }
    let (reply, timing) = execute(door, &[b"SET", key.as_bytes(), &bytes]).await?;
    match reply {
        Value::Simple(_) if json => print_json(&Outcome { key: Some(key), timing, ..Outcome::default() }),
        Value::Simple(text) => {
            print_timing(timing);
            println!("{text}");
            Ok(())
        }
        other => Err(unexpected(other)),
    }
}

async fn del(keys: Vec<String>, door: &DbTarget, json: bool) -> Result<(), Failure> {
    let mut args: Vec<&[u8]> = vec![b"DEL"];
    args.extend(keys.iter().map(String::as_bytes));
    let (reply, timing) = execute(door, &args).await?;
    match reply {
        Value::Integer(deleted) if json => {
            print_json(&Outcome { deleted: Some(deleted), timing, ..Outcome::default() })
        }
        Value::Integer(deleted) => {
            print_timing(timing);
            println!("{deleted}");
            Ok(())
        }
        other => Err(unexpected(other)),
    }
}

async fn execute(door: &DbTarget, args: &[&[u8]]) -> Result<(Value, Option<Timing>), Failure> {
    let mut client = login::open(door).await?;
    if door.db != 0 {
        match client.command(&[b"SELECT", door.db.to_string().as_bytes()]).await.map_err(Failure::new)? {
            Value::Simple(_) => {}
            other => return Err(unexpected(other)),
        }
    }
    if !door.timing {
        return Ok((client.command(args).await.map_err(Failure::new)?, None));
    }
    let mut timed: Vec<&[u8]> = vec![b"TRINE.TIMING"];
    timed.extend_from_slice(args);
    let (reply, timing) = split_timing(client.command(&timed).await.map_err(Failure::new)?)?;
    Ok((reply, Some(timing)))
}

fn unexpected(reply: Value) -> Failure {
    match reply {
        Value::Error(text) => login::refused(text),
        other => Failure::new(format!("the door answered something unexpected: {other:?}")),
    }
}

fn printable(value: &Bytes) -> (Option<String>, Option<String>) {
    match String::from_utf8(value.to_vec()) {
        Ok(text) => (Some(text), None),
        Err(_) => (None, Some(data_encoding::BASE64.encode(value))),
    }
}

fn print_json(outcome: &Outcome) -> Result<(), Failure> {
    println!("{}", serde_json::to_string(outcome).map_err(Failure::new)?);
    Ok(())
}

fn print_timing(timing: Option<Timing>) {
    let Some(timing) = timing else { return };
    let [total, processing, passing] =
        [timing.total_us(), timing.processing_us, timing.passing_us].map(crate::demo::milliseconds);
    let way = if timing.forwarded { "forwarded to the owner" } else { "at the owner" };
    eprintln!("T {total} = T_r {processing} + T_c {passing} ({way})");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timing_replies_come_apart_and_others_do_not_panic() {
        let reply = Value::Array(vec![Value::Nil, Value::Integer(5), Value::Integer(7), Value::Integer(1)]);
        let (value, timing) = split_timing(reply).expect("as documented");
        assert_eq!((value, timing.total_us(), timing.forwarded), (Value::Nil, 12, true));
        for bad in [Value::Nil, Value::Array(vec![]), Value::Error("ERR".into())] {
            assert!(split_timing(bad).is_err());
        }
    }
}
