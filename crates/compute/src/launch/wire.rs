//! What a node and its launcher tell each other over their socket: frames, one
//! after the other, each way. Descriptors come with a frame's first byte.
//!
//! ```text
//! +--------------+------------------+
//! | length (u32) | postcard message |
//! +--------------+------------------+
//! ```

use std::io;
use std::path::PathBuf;

use bytes::{Buf, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::confine::Confinement;
use crate::codec;

/// Longest frame: arguments and environment of one task.
pub const MAX_FRAME_BYTES: usize = 16 * 1024 * 1024;
/// Bytes of a frame's length.
pub const HEAD_BYTES: usize = 4;
/// Descriptors that come with a start: standard input, output and error.
pub const STREAMS: usize = 3;

/// The first that a launcher hears. The lease under which its tasks run, a
/// number to read, comes with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// How it shuts itself in.
    pub confinement: Confinement,
    /// Trees of programs in closed folders that stay open to its user.
    pub open: Vec<PathBuf>,
    /// Its folder; what is in it is of tasks that are gone.
    pub folder: PathBuf,
    /// Most processes and threads of its user; `None`: a control group says.
    pub processes: Option<u64>,
}

/// What a launcher is asked to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Start this; its three streams come with it.
    Start(Box<Start>),
    /// Kill what runs.
    Stop,
}

/// A process to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Program and arguments.
    pub argv: Vec<Vec<u8>>,
    /// Its whole environment.
    pub env: Vec<(String, String)>,
    /// Name of its directory in the folder: made for it, or left as it was made
    /// by the task before.
    pub name: String,
    /// Where it runs; `None`: there.
    pub workdir: Option<PathBuf>,
    /// Most bytes of data of each of its processes; `None`: any, or a control
    /// group says.
    pub data: Option<u64>,
}

/// What a launcher tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum News {
    /// It has shut itself in, and starts what it is told to.
    Ready,
    /// It cannot shut itself in; it ends.
    Unfit(String),
    /// The process was not started.
    NotStarted(NotStarted),
    /// The process has ended, and all that it has started.
    Ended {
        /// As the system says it.
        status: i32,
        /// Whether its directory is as it was made, and stays for the next; else
        /// it is removed, and [`News::Clean`] follows.
        clean: bool,
        /// Whether it was killed because the node had not renewed the lease.
        lapsed: bool,
    },
    /// The directory is gone.
    Clean,
}

/// Why a process was not started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NotStarted {
    /// No such program.
    NoProgram,
    /// No such working directory.
    NoWorkdir,
    /// The working directory is closed to tasks.
    ClosedWorkdir,
    /// Something else, in the system's words.
    Other(String),
}

/// A message as a frame.
#[must_use]
pub fn frame<T: Serialize>(message: &T) -> Vec<u8> {
    let body = codec::encode(message);
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
    [&length[..], &body].concat()
}

/// Takes the first whole frame out of `buffer`, if there is one.
///
/// # Errors
/// It is too long, or is no message: the other side is another version.
pub fn take<T: DeserializeOwned>(buffer: &mut BytesMut) -> io::Result<Option<T>> {
    let Some(head) = buffer.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
    let length = body_length(*head)?;
    if buffer.len() < HEAD_BYTES + length {
        return Ok(None);
    }
    buffer.advance(HEAD_BYTES);
    message(&buffer.split_to(length)).map(Some)
}

/// The length of the message behind a head.
///
/// # Errors
/// It is too long.
pub fn body_length(head: [u8; HEAD_BYTES]) -> io::Result<usize> {
    let length = usize::try_from(u32::from_le_bytes(head)).unwrap_or(usize::MAX);
    if length > MAX_FRAME_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame of a launcher is too long"));
    }
    Ok(length)
}

/// The message that these bytes are.
///
/// # Errors
/// They are none.
pub fn message<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    codec::decode(body, "launcher").map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let start = Start {
            argv: vec![b"sh".to_vec(), vec![0xff, 0]],
            env: vec![("PATH".into(), "/bin".into())],
            name: "1-2-3".into(),
            workdir: Some("/srv".into()),
            data: None,
        };
        let orders = [Order::Stop, Order::Start(Box::new(start)), Order::Stop];
        let bytes: Vec<u8> = orders.iter().flat_map(frame).collect();
        for step in [1, 3, bytes.len()] {
            let (mut buffer, mut seen) = (BytesMut::new(), Vec::new());
            for piece in bytes.chunks(step) {
                buffer.extend_from_slice(piece);
                while let Some(order) = take::<Order>(&mut buffer).expect("frames") {
                    seen.push(order);
                }
            }
            assert_eq!(seen, orders);
        }
        let mut long = BytesMut::from(&u32::MAX.to_le_bytes()[..]);
        assert!(take::<Order>(&mut long).is_err());
    }
}
