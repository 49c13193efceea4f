//! A task as a record.

use bytes::{Bytes, BytesMut};
use data_encoding::HEXLOWER_PERMISSIVE;
use serde::{Deserialize, Serialize};
use trine_types::NodeNumber;

use super::{Malformed, Record, encode};
use crate::spec::{Input, TaskSpec, Work};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pin: Option<NodeNumber>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    process: Option<Process>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    python: Option<Python>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Process {
    argv: Vec<Word>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    env: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stdin: Option<Stdin>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Python {
    #[serde(default)]
    blobs: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stdin {
    Inline,
    Blob(String),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Word {
    Text(String),
    Bytes(Vec<u8>),
}

impl From<&Vec<u8>> for Word {
    fn from(word: &Vec<u8>) -> Self {
        match std::str::from_utf8(word) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Bytes(word.clone()),
        }
    }
}

impl From<Word> for Vec<u8> {
    fn from(word: Word) -> Self {
        match word {
            Word::Text(text) => text.into_bytes(),
            Word::Bytes(bytes) => bytes,
        }
    }
}

/// Writes a task to the end of `out`.
pub fn encode_task(task: &TaskSpec, out: &mut BytesMut) {
    let mut head = Head { pin: task.pin, process: None, python: None };
    let body: &[u8] = match &task.work {
        Work::Process { argv, stdin, env } => {
            let (stdin, body): (_, &[u8]) = match stdin {
                None => (None, &[]),
                Some(Input::Inline(bytes)) => (Some(Stdin::Inline), bytes),
                Some(Input::Blob(hash)) => (Some(Stdin::Blob(hex(hash))), &[]),
            };
            head.process =
                Some(Process { argv: argv.iter().map(Word::from).collect(), env: env.clone(), stdin });
            body
        }
        Work::Python { payload, blobs } => {
            head.python = Some(Python { blobs: blobs.iter().map(hex).collect() });
            payload
        }
    };
    let head = serde_json::to_vec(&head).expect("text, numbers and lists: nothing that JSON refuses");
    encode(&head, &[body], out);
}

/// Reads a task.
///
/// # Errors
/// [`Malformed`]: it is none.
pub fn decode_task(record: Record) -> Result<TaskSpec, Malformed> {
    let head: Head = record.head()?;
    let body = record.body;
    let work = match (head.process, head.python) {
        (Some(process), None) => {
            let stdin = match process.stdin {
                Some(Stdin::Inline) => Some(Input::Inline(body)),
                other => {
                    empty(&body)?;
                    other.map(Stdin::blob).transpose()?
                }
            };
            let argv = process.argv.into_iter().map(Vec::from).collect();
            Work::Process { argv, stdin, env: process.env }
        }
        (None, Some(python)) => {
            let blobs = python.blobs.iter().map(|text| hash(text)).collect::<Result<_, _>>()?;
            Work::Python { payload: body, blobs }
        }
        _ => return Err(wrong("it names either `process` or `python`")),
    };
    Ok(TaskSpec { pin: head.pin, work })
}

impl Stdin {
    fn blob(self) -> Result<Input, Malformed> {
        match self {
            Self::Inline => Err(wrong("standard input is inline or a blob")),
            Self::Blob(text) => Ok(Input::Blob(hash(&text)?)),
        }
    }
}

fn empty(body: &Bytes) -> Result<(), Malformed> {
    if body.is_empty() { Ok(()) } else { Err(Malformed::Body { bytes: body.len(), said: 0 }) }
}

fn wrong(why: &str) -> Malformed {
    Malformed::Head { why: why.to_owned() }
}

/// A hash as people write it.
#[must_use]
pub fn hex(hash: &[u8; 32]) -> String {
    HEXLOWER_PERMISSIVE.encode(hash)
}

/// Reads a hash: 64 hexadecimal digits.
///
/// # Errors
/// [`Malformed::Head`].
pub fn hash(text: &str) -> Result<[u8; 32], Malformed> {
    let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| Malformed::Head { why: format!("{text:?} is no hash of 64 hexadecimal digits") })
}
