//! A result as a record.

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use trine_types::NodeNumber;

use super::task::{hash, hex};
use super::{Malformed, Record, encode};
use crate::spec::{Outcome, Output, Stamps, TaskResult};

#[derive(Serialize, Deserialize)]
struct Head {
    index: u64,
    attempt: u32,
    node: NodeNumber,
    outcome: Ending,
    #[serde(default, skip_serializing_if = "Where::is_nothing")]
    stdout: Where,
    #[serde(default, skip_serializing_if = "Where::is_nothing")]
    stderr: Where,
    #[serde(default, skip_serializing_if = "Where::is_nothing")]
    value: Where,
    started_ms: u64,
    stamps: Stamps,
}

/// An [`Outcome`], as it is written for others.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Ending {
    Exited { code: u8 },
    Signaled { signal: u8 },
    TimedOut,
    Killed { reason: String },
    Lost,
    Cancelled,
    NotStarted { why: String },
    Value,
    Raised,
}

/// An [`Output`], without its bytes.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Where {
    Inline(usize),
    Kept { hash: String, bytes: u64, cut: bool },
}

impl Default for Where {
    fn default() -> Self {
        Self::Inline(0)
    }
}

impl Where {
    fn is_nothing(&self) -> bool {
        matches!(self, Self::Inline(0))
    }

    fn of(output: &Output) -> (Self, &[u8]) {
        match output {
            Output::Inline(bytes) => (Self::Inline(bytes.len()), bytes),
            Output::Kept { hash, bytes, cut } => {
                (Self::Kept { hash: hex(hash), bytes: *bytes, cut: *cut }, &[])
            }
        }
    }

    /// The output; its bytes are cut from the front of `body`.
    fn output(self, body: &mut Bytes) -> Result<Output, Malformed> {
        match self {
            Self::Inline(said) if said <= body.len() => Ok(Output::Inline(body.split_to(said))),
            Self::Inline(said) => Err(Malformed::Body { bytes: body.len(), said }),
            Self::Kept { hash: text, bytes, cut } => Ok(Output::Kept { hash: hash(&text)?, bytes, cut }),
        }
    }
}

impl From<&Outcome> for Ending {
    fn from(outcome: &Outcome) -> Self {
        match outcome.clone() {
            Outcome::Exited { code } => Self::Exited { code },
            Outcome::Signaled { signal } => Self::Signaled { signal },
            Outcome::TimedOut => Self::TimedOut,
            Outcome::Killed { reason } => Self::Killed { reason },
            Outcome::Lost => Self::Lost,
            Outcome::Cancelled => Self::Cancelled,
            Outcome::NotStarted { why } | Outcome::NotStaged { why } => Self::NotStarted { why },
            Outcome::Value => Self::Value,
            Outcome::Raised => Self::Raised,
        }
    }
}

impl From<Ending> for Outcome {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Exited { code } => Self::Exited { code },
            Ending::Signaled { signal } => Self::Signaled { signal },
            Ending::TimedOut => Self::TimedOut,
            Ending::Killed { reason } => Self::Killed { reason },
            Ending::Lost => Self::Lost,
            Ending::Cancelled => Self::Cancelled,
            Ending::NotStarted { why } => Self::NotStarted { why },
            Ending::Value => Self::Value,
            Ending::Raised => Self::Raised,
        }
    }
}

/// Writes a result to the end of `out`.
pub fn encode_result(result: &TaskResult, out: &mut BytesMut) {
    let (stdout, stdout_bytes) = Where::of(&result.stdout);
    let (stderr, stderr_bytes) = Where::of(&result.stderr);
    let (value, value_bytes) = Where::of(&result.value);
    let head = Head {
        index: result.index,
        attempt: result.attempt,
        node: result.node,
        outcome: Ending::from(&result.outcome),
        stdout,
        stderr,
        value,
        started_ms: result.started_ms,
        stamps: result.stamps,
    };
    let head = serde_json::to_vec(&head).expect("text and numbers: nothing that JSON refuses");
    encode(&head, &[stdout_bytes, stderr_bytes, value_bytes], out);
}

/// Reads a result.
///
/// # Errors
/// [`Malformed`]: it is none.
pub fn decode_result(record: Record) -> Result<TaskResult, Malformed> {
    let head: Head = record.head()?;
    let mut body = record.body;
    let result = TaskResult {
        index: head.index,
        attempt: head.attempt,
        node: head.node,
        outcome: head.outcome.into(),
        stdout: head.stdout.output(&mut body)?,
        stderr: head.stderr.output(&mut body)?,
        value: head.value.output(&mut body)?,
        started_ms: head.started_ms,
        stamps: head.stamps,
    };
    if body.is_empty() { Ok(result) } else { Err(Malformed::Body { bytes: body.len(), said: 0 }) }
}
