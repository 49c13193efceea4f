//! One call: the task to the interpreter, blobs that it asks for, the reply
//! back, and what the function printed meanwhile.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use super::frame::{self, Hello, Said};
use super::interpreter::{Interpreter, START_LIMIT};
use super::pool::{IDLE_LIMIT, Interpreters};
use crate::body::Stop;
use crate::run::cell::hand;
use crate::spec::Outcome;

/// Most bytes that are kept of what one call prints, of each stream; what is
/// more is read and dropped.
pub const MAX_PRINTED_BYTES: usize = 1024 * 1024;
/// Bytes read from a pipe at once.
pub(super) const PIPE_BYTES: usize = 16 * 1024;

/// A reply that is shorter is read at once,
const SHORT_BYTES: usize = 256;
/// many of them into one buffer.
const BUFFER_BYTES: usize = 4 * 1024;

/// How often idle interpreters are looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// Ends interpreters that were idle for too long, as long as the pool lives.
pub(super) fn sweep(pool: &Interpreters) {
    let pool = pool.downgrade();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            let Some(pool) = pool.upgrade() else { return };
            pool.sweep(IDLE_LIMIT);
        }
    });
}

/// What `work` gives, unless there is a reason to stop it before.
pub(super) async fn unless_stopped<T>(
    work: impl Future<Output = T>,
    mut stop: watch::Receiver<Option<Stop>>,
) -> Result<T, Stop> {
    let stopped = async {
        let reason = stop.wait_for(Option::is_some).await.map(|reason| *reason);
        match reason {
            Ok(reason) => reason.unwrap_or(Stop::Cancelled),
            // The worker is gone: this future is about to be dropped.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        stop = stopped => Err(stop),
        done = work => Ok(done),
    }
}

/// Brings blobs.
pub trait Blobs: Send + Sync {
    /// The bytes of this hash in a file that is not written any more, or why
    /// they are not to be had.
    fn blob(&self, hash: [u8; 32]) -> BoxFuture<'_, Result<File, String>>;
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Returned, raised, not started; or how the interpreter died.
    pub outcome: Outcome,
    /// What was returned or raised, pickled.
    pub value: Bytes,
    /// What was printed.
    pub stdout: Printed,
    /// What was printed as errors.
    pub stderr: Printed,
}

impl Ended {
    /// The call did not begin.
    pub fn not_started(why: impl Into<String>) -> Self {
        let outcome = Outcome::NotStarted { why: why.into() };
        Self { outcome, value: Bytes::new(), stdout: Printed::default(), stderr: Printed::default() }
    }
}

/// What was written to a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Printed {
    /// The first [`MAX_PRINTED_BYTES`].
    pub bytes: Bytes,
    /// Whether there was more.
    pub cut: bool,
}

#[derive(Default)]
struct Printing {
    kept: BytesMut,
    cut: bool,
}

impl Printing {
    fn add(&mut self, piece: &[u8]) {
        let room = MAX_PRINTED_BYTES - self.kept.len();
        self.kept.extend_from_slice(&piece[..piece.len().min(room)]);
        self.cut |= piece.len() > room;
    }

    /// Takes what is in the pipe now: all that was printed before the reply.
    fn drain(&mut self, pipe: &impl AsFd) {
        let mut piece = [0; PIPE_BYTES];
        // Reading at most what a full pipe holds ends, even if threads of the
        // interpreter go on printing.
        for _ in 0..=64 {
            match rustix::io::read(pipe, &mut piece) {
                Ok(count) if count > 0 => self.add(&piece[..count]),
                _ => return,
            }
        }
    }

    fn into_printed(self) -> Printed {
        Printed { bytes: self.kept.freeze(), cut: self.cut }
    }
}

/// What the interpreter said, or `None` once it has closed the socket. Reads
/// its pipes all the while, so that it never waits for us.
async fn listen(
    interpreter: &mut Interpreter,
    out: &mut Printing,
    err: &mut Printing,
) -> io::Result<Option<Said>> {
    let [out_piece, err_piece] = &mut interpreter.pieces;
    let (mut out_open, mut err_open) = (true, true);
    loop {
        let said = frame::take(&mut interpreter.buffer);
        if let Some(said) = said.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))? {
            return Ok(Some(said));
        }
        if interpreter.buffer.capacity() - interpreter.buffer.len() < SHORT_BYTES {
            interpreter.buffer.reserve(BUFFER_BYTES);
        }
        tokio::select! {
            biased;
            read = interpreter.channel.read_buf(&mut interpreter.buffer) => if read? == 0 {
                return Ok(None);
            },
            read = interpreter.stdout.read(out_piece), if out_open => match read? {
                0 => out_open = false,
                count => out.add(&out_piece[..count]),
            },
            read = interpreter.stderr.read(err_piece), if err_open => match read? {
                0 => err_open = false,
                count => err.add(&err_piece[..count]),
            },
        }
    }
}

/// Waits until a fresh interpreter says what it is.
///
/// # Errors
/// Why it does not.
pub async fn greet(interpreter: &mut Interpreter) -> Result<Hello, String> {
    let (mut out, mut err) = (Printing::default(), Printing::default());
    let said = tokio::time::timeout(START_LIMIT, listen(interpreter, &mut out, &mut err)).await;
    err.drain(&interpreter.stderr);
    match said {
        Ok(Ok(Some(Said::Hello(hello)))) => {
            interpreter.hello = Some(hello.clone());
            Ok(hello)
        }
        Err(_) => Err(format!("it said nothing within {} s", START_LIMIT.as_secs())),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(_)) => Err(format!("it ended at once: {}", String::from_utf8_lossy(&err.kept).trim_end())),
    }
}

/// One call. The interpreter comes back if it can take another one.
pub async fn call(
    mut interpreter: Interpreter,
    payload: &Bytes,
    hashes: &[[u8; 32]],
    blobs: &dyn Blobs,
) -> (Ended, Option<Interpreter>) {
    let (mut out, mut err) = (Printing::default(), Printing::default());
    let talked = talk(&mut interpreter, payload, hashes, blobs, &mut out, &mut err).await;
    out.drain(&interpreter.stdout);
    err.drain(&interpreter.stderr);
    let (outcome, value, kept) = match talked {
        Ok(Reply::Done { returned, value, retiring }) => {
            let outcome = if returned { Outcome::Value } else { Outcome::Raised };
            (outcome, value, (!retiring).then_some(interpreter))
        }
        Ok(Reply::Missing { why }) => (Outcome::NotStarted { why }, Bytes::new(), Some(interpreter)),
        Ok(Reply::Gone) | Err(_) => (death(interpreter).await, Bytes::new(), None),
    };
    let ended = Ended { outcome, value, stdout: out.into_printed(), stderr: err.into_printed() };
    (ended, kept)
}

enum Reply {
    Done { returned: bool, value: Bytes, retiring: bool },
    Missing { why: String },
    Gone,
}

async fn talk(
    interpreter: &mut Interpreter,
    payload: &Bytes,
    hashes: &[[u8; 32]],
    blobs: &dyn Blobs,
    out: &mut Printing,
    err: &mut Printing,
) -> io::Result<Reply> {
    let task = frame::task(hashes, payload.len());
    if payload.len() <= PIPE_BYTES {
        // One system call.
        interpreter.channel.write_all(&[&task[..], payload].concat()).await?;
    } else {
        interpreter.channel.write_all(&task).await?;
        interpreter.channel.write_all(payload).await?;
    }
    loop {
        match listen(interpreter, out, err).await? {
            None => return Ok(Reply::Gone),
            Some(Said::Done { returned, value, retiring }) => {
                return Ok(Reply::Done { returned, value, retiring });
            }
            Some(Said::Needs(hashes)) => {
                for hash in hashes {
                    match blobs.blob(hash).await {
                        Ok(file) => {
                            let frame = frame::blob(&hash, file.metadata()?.len());
                            hand(&mut interpreter.channel, &frame, &[file.as_fd()]).await?;
                        }
                        Err(why) => {
                            interpreter.channel.write_all(&frame::head(b'E', 0)).await?;
                            return Ok(Reply::Missing { why });
                        }
                    }
                }
            }
            Some(Said::Hello(_)) => {}
        }
    }
}

/// How the interpreter died.
async fn death(interpreter: Interpreter) -> Outcome {
    let status = match interpreter.end().await {
        Ok(status) => status,
        Err(outcome) => return outcome,
    };
    let narrow = |number: i32| u8::try_from(number).unwrap_or(u8::MAX);
    match status.map(|status| (status.code(), status.signal())) {
        Some((Some(code), _)) => Outcome::Exited { code: narrow(code) },
        Some((None, Some(signal))) => Outcome::Signaled { signal: narrow(signal) },
        _ => Outcome::Killed { reason: "its interpreter does not say how it ended".to_owned() },
    }
}
