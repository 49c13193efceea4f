//! Frames over an open TLS session. Reading happens in the task that wants
//! frames: no task and no queue of its own stand between the socket and the
//! receiver. Writing has a task: it takes all frames that wait, joins them and
//! writes them at once.

use std::future::{Future, poll_fn};
use std::io;
use std::net::Shutdown;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use socket2::Socket;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::{Instant, sleep_until, timeout};
use trine_types::NodeId;

use super::pace::Pace;
use crate::codec::{Decoder, encode, encode_without_body};
use crate::config::TlsConfig;
use crate::frame::{Frame, FrameQueue, FrameReceiver, FrameSource, frame_queue};
use crate::lane::Lane;
use crate::signal::Closer;
use crate::transport::Connection;

/// Frames joined into one write, at most.
const BATCH_FRAMES: usize = 256;

/// Bytes joined before they are written, about.
const BATCH_BYTES: usize = 128 * 1024;

/// A body this large is written from where it lies instead of being copied.
const OWN_WRITE_BYTES: usize = 32 * 1024;

/// Room made for one read of the socket.
const READ_BYTES: usize = 64 * 1024;

/// Less room than this is not worth a read.
const MIN_READ_BYTES: usize = 4 * 1024;

/// How long a last flush may take when the sender was dropped.
const LINGER: Duration = Duration::from_secs(2);

/// Turns an open session, past its greetings, into a connection; `buffered`
/// has the bytes that were read beyond the greeting, `socket` is a second
/// handle to the session's socket, to end it at once.
pub(super) fn connection<S>(
    config: &TlsConfig,
    (peer, lane): (NodeId, Lane),
    session: S,
    socket: Socket,
    buffered: BytesMut,
) -> Connection
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let pace = Pace::new((lane == Lane::Bulk).then_some(config.bulk_bytes_per_second));
    let closer = Closer::default();
    let (read, write) = tokio::io::split(session);
    let (sender, queue) = frame_queue(closer.clone());
    let writing = write_frames(write, queue, closer.clone(), pace);
    tokio::spawn(async move {
        if writing.await == Ended::AtOnce {
            // Whatever the reader does: the peer must see the end now.
            let _ = socket.shutdown(Shutdown::Both);
        }
    });
    let source = Reader { read, buffer: buffered, decoder: Decoder::default(), peer, lane };
    Connection { peer, lane, sender, receiver: FrameReceiver::new(source, closer.clone()), closer }
}

/// Reads one frame of at most `limit` bytes, for greetings and joining.
pub(super) async fn read_frame<S>(session: &mut S, buffer: &mut BytesMut, limit: usize) -> io::Result<Bytes>
where
    S: AsyncRead + Unpin,
{
    let mut decoder = Decoder::with_limit(limit);
    loop {
        if let Some(frame) =
            decoder.next(buffer).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?
        {
            return Ok(frame);
        }
        buffer.reserve(MIN_READ_BYTES);
        if session.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Writes one frame, for greetings and joining.
pub(super) async fn write_frame<S>(session: &mut S, frame: Bytes) -> io::Result<()>
where
    S: AsyncWrite + Unpin,
{
    let mut out = BytesMut::new();
    encode(&Frame::from(frame), &mut out);
    session.write_all(&out).await?;
    session.flush().await
}

struct Reader<S> {
    read: ReadHalf<S>,
    buffer: BytesMut,
    decoder: Decoder,
    peer: NodeId,
    lane: Lane,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> FrameSource for Reader<S> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            match self.decoder.next(&mut self.buffer) {
                Ok(Some(frame)) => return Poll::Ready(Some(frame)),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(peer = %self.peer.short(), lane = ?self.lane, %error, "closing");
                    return Poll::Ready(None);
                }
            }
            if self.buffer.capacity() - self.buffer.len() < MIN_READ_BYTES {
                self.buffer.reserve(READ_BYTES);
            }
            // The future holds nothing between polls: making it anew is free.
            match pin!(self.read.read_buf(&mut self.buffer)).poll(cx) {
                Poll::Ready(Ok(bytes)) if bytes > 0 => {}
                Poll::Ready(Ok(_)) => return Poll::Ready(None),
                Poll::Ready(Err(error)) => {
                    tracing::debug!(peer = %self.peer.short(), lane = ?self.lane, %error, "connection broke");
                    return Poll::Ready(None);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// How writing ended.
#[derive(PartialEq, Eq)]
enum Ended {
    /// All was sent, and the end of it was said.
    InOrder,
    /// The end was closed, or the socket failed.
    AtOnce,
}

/// Carries frames until every sender is gone, the end is closed, or the
/// socket fails.
async fn write_frames<S>(
    mut write: WriteHalf<S>,
    mut queue: FrameQueue,
    closer: Closer,
    mut pace: Pace,
) -> Ended
where
    S: AsyncRead + AsyncWrite,
{
    let mut frames = Vec::with_capacity(BATCH_FRAMES);
    let mut out = BytesMut::with_capacity(BATCH_BYTES);
    while queue.take_many(&mut frames, BATCH_FRAMES).await {
        let bytes = frames.iter().map(|frame| frame.len() as u64).sum();
        if !write_batch(&mut write, &mut frames, &mut out, &closer).await {
            closer.close();
        } else if let Some(until) = pace.sent(bytes, Instant::now()) {
            until_closed(&closer, sleep_until(until).map(Ok)).await;
        }
    }
    let said = until_closed(&closer, write.shutdown());
    if timeout(LINGER, said).await == Ok(true) { Ended::InOrder } else { Ended::AtOnce }
}

/// Writes and flushes `frames`, leaving both buffers empty; false when the
/// connection is over.
async fn write_batch<W>(write: &mut W, frames: &mut Vec<Frame>, out: &mut BytesMut, closer: &Closer) -> bool
where
    W: AsyncWrite + Unpin,
{
    let writing = async {
        for frame in frames.drain(..) {
            if frame.body().len() >= OWN_WRITE_BYTES {
                encode_without_body(&frame, out);
                write.write_all(out).await?;
                out.clear();
                write.write_all(frame.body()).await?;
            } else {
                encode(&frame, out);
                if out.len() >= BATCH_BYTES {
                    write.write_all(out).await?;
                    out.clear();
                }
            }
        }
        write.write_all(out).await?;
        out.clear();
        write.flush().await
    };
    until_closed(closer, writing).await
}

/// Runs `work`; false when it failed or the end was closed meanwhile.
async fn until_closed(closer: &Closer, work: impl Future<Output = io::Result<()>>) -> bool {
    let mut work = pin!(work);
    poll_fn(|cx| {
        if closer.poll_closed_writer(cx).is_ready() {
            return Poll::Ready(false);
        }
        work.as_mut().poll(cx).map(|outcome| outcome.is_ok())
    })
    .await
}
