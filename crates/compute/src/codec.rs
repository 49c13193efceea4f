//! Bytes of group `jobs`: messages on the wire and in the log, rows in the
//! state.
//!
//! ```text
//! message    [version 1][postcard]
//! row        key                                      value
//!            [0x01]                                   [version 1][Totals]
//!            [0x02][job u64 BE]                       [version 1][JobSpec]
//!            [0x03][job u64 BE]                       [version 1][Progress]
//!            [0x04][job u64 BE][chunk u64 BE]         one bit per task that is done
//!            [0x05][job u64 BE][number u64 BE]        [version 1][TaskResult]   in order of commit
//!            [0x06][job u64 BE][first u64 BE]         tasks of a range
//!            [0x07][job u64 BE][first u64 BE]         [count u32 BE][pinned u8]
//!            [0x08][revision u64 BE]                  [job u64 BE]              who changed last
//!            [0x09][job u64 BE][task u64 BE]          [version 1][list of Failed]       those that run again
//!            [0x0A][job u64 BE]                       nothing                 schedules that are not cancelled
//!            [0x0B][job u64 BE][number u64 BE]        [version 1][list of JobId]         copies of a schedule
//! tasks      ([length u32 LE][TaskSpec as a message])…
//! ```
//! The first byte of a key is never 0x00: those rows are replication's.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::limits::{MAX_RANGE_BYTES, MAX_TASK_BYTES, MAX_TASKS_PER_RANGE};
use crate::spec::{BadSpec, BodyKind, JobId, TaskSpec};

const VERSION: u8 = 1;

pub(crate) const TOTALS: u8 = 0x01;
pub(crate) const SPEC: u8 = 0x02;
pub(crate) const PROGRESS: u8 = 0x03;
pub(crate) const DONE: u8 = 0x04;
pub(crate) const RESULT: u8 = 0x05;
pub(crate) const RANGE: u8 = 0x06;
pub(crate) const RANGE_COUNT: u8 = 0x07;
pub(crate) const CHANGED: u8 = 0x08;
pub(crate) const FAILURES: u8 = 0x09;
pub(crate) const SCHEDULE: u8 = 0x0A;
pub(crate) const COPIES: u8 = 0x0B;

/// Bytes that are not what they should be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// Written by a newer version, or not by this room at all.
    #[error("format version {0:?} is not {VERSION}")]
    Version(Option<u8>),
    /// The body does not decode as what it should be.
    #[error("not a {0}")]
    Malformed(&'static str),
}

/// Encodes any message or row value.
pub fn encode<T: Serialize>(value: &T) -> Bytes {
    let bytes =
        postcard::to_extend(value, vec![VERSION]).expect("lists and strings of known length always encode");
    Bytes::from(bytes)
}

/// Decodes what [`encode`] made; `what` names it in the error.
///
/// # Errors
/// [`DecodeError`]: another version, or not a `what`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<T, DecodeError> {
    match bytes.split_first() {
        Some((&VERSION, body)) => match postcard::take_from_bytes(body) {
            Ok((value, [])) => Ok(value),
            _ => Err(DecodeError::Malformed(what)),
        },
        other => Err(DecodeError::Version(other.map(|(version, _)| *version))),
    }
}

/// The key of a row of one job.
pub(crate) fn job_key(kind: u8, job: JobId) -> Bytes {
    let mut key = BytesMut::with_capacity(9);
    key.put_u8(kind);
    key.put_u64(job.0);
    key.freeze()
}

/// The key of one of a job's rows of a kind.
pub(crate) fn part_key(kind: u8, job: JobId, part: u64) -> Bytes {
    let mut key = BytesMut::with_capacity(17);
    key.put_u8(kind);
    key.put_u64(job.0);
    key.put_u64(part);
    key.freeze()
}

/// The key of a change.
pub(crate) fn changed_key(revision: u64) -> Bytes {
    let mut key = BytesMut::with_capacity(9);
    key.put_u8(CHANGED);
    key.put_u64(revision);
    key.freeze()
}

/// The last number in a key.
pub(crate) fn last_number(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>().filter(|_| key.len() >= 9).map(|bytes| u64::from_be_bytes(*bytes))
}

/// Tasks that do not fit into one range.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RangeError {
    /// The range would be too large: send the tasks in several.
    #[error("a range has at most {MAX_TASKS_PER_RANGE} tasks and {MAX_RANGE_BYTES} bytes")]
    Range,
    /// One task is too large by itself.
    #[error("task {0} of the range has {1} bytes; at most {MAX_TASK_BYTES}: put what is large into a blob")]
    Task(usize, usize),
    /// One task cannot be.
    #[error("task {0} of the range: {1}")]
    Bad(usize, BadSpec),
}

/// Encodes the tasks of one range.
///
/// # Errors
/// [`RangeError`].
pub fn encode_tasks(tasks: &[TaskSpec], kind: &BodyKind) -> Result<Bytes, RangeError> {
    if tasks.len() > MAX_TASKS_PER_RANGE {
        return Err(RangeError::Range);
    }
    let mut out = BytesMut::new();
    for (at, task) in tasks.iter().enumerate() {
        task.check(kind).map_err(|bad| RangeError::Bad(at, bad))?;
        let encoded = encode(task);
        if encoded.len() > MAX_TASK_BYTES {
            return Err(RangeError::Task(at, encoded.len()));
        }
        out.put_u32_le(u32::try_from(encoded.len()).map_err(|_| RangeError::Range)?);
        out.put_slice(&encoded);
        if out.len() > MAX_RANGE_BYTES {
            return Err(RangeError::Range);
        }
    }
    Ok(out.freeze())
}

/// Each task of a range, still encoded, so that a reader decodes what it needs.
///
/// # Errors
/// [`DecodeError`]: a length that leads beyond the end.
pub fn split_tasks(mut range: Bytes) -> Result<Vec<Bytes>, DecodeError> {
    let malformed = DecodeError::Malformed("range of tasks");
    let mut tasks = Vec::new();
    while range.has_remaining() {
        let length = range.try_get_u32_le().map_err(|_| malformed.clone())?;
        let length = usize::try_from(length).map_err(|_| malformed.clone())?;
        if length > range.remaining() || tasks.len() >= MAX_TASKS_PER_RANGE {
            return Err(malformed);
        }
        tasks.push(range.split_to(length));
    }
    Ok(tasks)
}

/// Decodes the tasks of a range.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_tasks(range: Bytes) -> Result<Vec<TaskSpec>, DecodeError> {
    split_tasks(range)?.iter().map(|task| decode(task, "task")).collect()
}

#[cfg(test)]
mod tests;
