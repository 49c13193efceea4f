//! Frames and the two ends that carry them. A frame is the unit of a
//! connection: it arrives whole, in order, or the connection is over.
//!
//! A sender's queue is bounded in frames and in bytes; a full queue makes
//! [`FrameSender::send`] wait, which is how a slow peer slows its senders.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::{Semaphore, mpsc};
use trine_types::limits::MAX_FRAME_BYTES;

use crate::signal::Closer;
use crate::traffic::Counter;

/// Most bytes of a frame's head (see [`Frame`]).
pub const MAX_HEAD_BYTES: usize = 16;

/// Most frames that wait in one sender's queue.
pub const QUEUE_FRAMES: usize = 4096;

/// Most bytes that wait in one sender's queue; one larger frame may wait alone.
pub const QUEUE_BYTES: usize = 8 * 1024 * 1024;

/// Bytes to send as one frame: a short head stored inline and a shared body,
/// so that adding an envelope to a body copies nothing. The receiver sees one
/// run of bytes, head first.
#[derive(Clone, Debug)]
pub struct Frame {
    head: [u8; MAX_HEAD_BYTES],
    head_len: u8,
    body: Bytes,
}

impl Frame {
    /// A frame of `head` followed by `body`. A head longer than
    /// [`MAX_HEAD_BYTES`] is joined with the body by copying.
    #[must_use]
    pub fn new(head: &[u8], body: Bytes) -> Self {
        let mut inline = [0; MAX_HEAD_BYTES];
        let Some(slot) = inline.get_mut(..head.len()) else {
            return Self::from(join(head, &body));
        };
        slot.copy_from_slice(head);
        Self { head: inline, head_len: u8::try_from(head.len()).unwrap_or(0), body }
    }

    /// The head; empty for a frame made from plain bytes.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        &self.head[..usize::from(self.head_len)]
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Head and body together, in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.head_len) + self.body.len()
    }

    /// Whether the frame carries no bytes (a valid frame).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The run of bytes that the receiver sees.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        if self.head_len == 0 { self.body } else { join(self.head(), &self.body) }
    }

    /// What the frame takes of a queue's byte budget.
    fn cost(&self) -> u32 {
        u32::try_from(self.len().clamp(1, QUEUE_BYTES)).unwrap_or(u32::MAX)
    }
}

fn join(head: &[u8], body: &[u8]) -> Bytes {
    let mut joined = BytesMut::with_capacity(head.len() + body.len());
    joined.put_slice(head);
    joined.put_slice(body);
    joined.freeze()
}

impl From<Bytes> for Frame {
    fn from(body: Bytes) -> Self {
        Self { head: [0; MAX_HEAD_BYTES], head_len: 0, body }
    }
}

/// Why a frame was not taken. Nothing of it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The connection is over: open another.
    #[error("the connection is closed")]
    Closed,
    /// The queue is full: wait ([`FrameSender::send`]) or drop the frame.
    #[error("the peer does not keep up: the send queue is full")]
    Full,
    /// More than [`MAX_FRAME_BYTES`]: the caller must send less at once.
    #[error("a frame of {0} bytes is over the limit of {MAX_FRAME_BYTES}")]
    TooLarge(usize),
}

/// The sending end of a connection. Clones share one queue; the connection's
/// sending direction ends when the last clone is dropped, after the queue was
/// sent, or at once by its [`Closer`].
#[derive(Clone, Debug)]
pub struct FrameSender {
    queue: mpsc::Sender<Frame>,
    room: Arc<Semaphore>,
    closer: Closer,
    counter: Option<Arc<Counter>>,
}

impl FrameSender {
    /// Counts what this sender and its later clones queue.
    pub(crate) fn counted(mut self, counter: Arc<Counter>) -> Self {
        self.counter = Some(counter);
        self
    }

    fn count(&self, bytes: usize) {
        if let Some(counter) = &self.counter {
            counter.count(bytes);
        }
    }

    /// Queues one frame, waiting while the queue is full. Dropping the future
    /// before it is ready sends nothing.
    ///
    /// # Errors
    /// [`SendError::Closed`] or [`SendError::TooLarge`].
    pub async fn send(&self, frame: impl Into<Frame>) -> Result<(), SendError> {
        let frame = frame.into();
        self.admit(&frame)?;
        let room = self.room.acquire_many(frame.cost()).await.map_err(|_| SendError::Closed)?;
        let slot = self.queue.reserve().await.map_err(|_| SendError::Closed)?;
        room.forget();
        self.count(frame.len());
        slot.send(frame);
        Ok(())
    }

    /// Queues one frame if there is room now.
    ///
    /// # Errors
    /// Any [`SendError`].
    pub fn try_send(&self, frame: impl Into<Frame>) -> Result<(), SendError> {
        self.offer(frame.into()).map_err(|(error, _)| error)
    }

    /// As [`FrameSender::try_send`], but gives a frame back that is not taken.
    pub(crate) fn offer(&self, frame: Frame) -> Result<(), (SendError, Frame)> {
        if let Err(error) = self.admit(&frame) {
            return Err((error, frame));
        }
        let room = match self.room.try_acquire_many(frame.cost()) {
            Ok(room) => room,
            Err(tokio::sync::TryAcquireError::Closed) => return Err((SendError::Closed, frame)),
            Err(tokio::sync::TryAcquireError::NoPermits) => return Err((SendError::Full, frame)),
        };
        let bytes = frame.len();
        self.queue.try_send(frame).map_err(|error| match error {
            mpsc::error::TrySendError::Closed(frame) => (SendError::Closed, frame),
            mpsc::error::TrySendError::Full(frame) => (SendError::Full, frame),
        })?;
        room.forget();
        self.count(bytes);
        Ok(())
    }

    fn admit(&self, frame: &Frame) -> Result<(), SendError> {
        if self.closer.is_closed() {
            Err(SendError::Closed)
        } else if frame.len() > MAX_FRAME_BYTES {
            Err(SendError::TooLarge(frame.len()))
        } else {
            Ok(())
        }
    }
}

/// The far side of a [`FrameSender`]: where a transport takes frames to carry.
#[derive(Debug)]
pub(crate) struct FrameQueue {
    queue: mpsc::Receiver<Frame>,
    room: Arc<Semaphore>,
    closer: Closer,
}

/// What a transport found in a [`FrameQueue`] without waiting.
#[derive(Debug)]
pub(crate) enum Taken {
    /// The next frame.
    Frame(Frame),
    /// None now; more may come.
    Nothing,
    /// Every sender is gone and every frame was taken.
    Finished,
}

impl FrameQueue {
    /// Waits for frames and moves up to `limit` of them into `into`; false
    /// when every sender is gone and the queue is empty, or the end was closed.
    pub(crate) async fn take_many(&mut self, into: &mut Vec<Frame>, limit: usize) -> bool {
        let before = into.len();
        let taken = poll_fn(|cx| {
            if self.closer.poll_closed_writer(cx).is_ready() {
                return Poll::Ready(0);
            }
            self.queue.poll_recv_many(cx, into, limit)
        })
        .await;
        let cost: usize = into[before..].iter().map(|frame| frame.cost() as usize).sum();
        self.room.add_permits(cost);
        taken > 0
    }

    /// Takes the next frame without waiting.
    pub(crate) fn take_now(&mut self) -> Taken {
        match self.queue.try_recv() {
            Ok(frame) => {
                self.room.add_permits(frame.cost() as usize);
                Taken::Frame(frame)
            }
            Err(mpsc::error::TryRecvError::Empty) => Taken::Nothing,
            Err(mpsc::error::TryRecvError::Disconnected) => Taken::Finished,
        }
    }

    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame>> {
        let taken = self.queue.poll_recv(cx);
        if let Poll::Ready(Some(frame)) = &taken {
            self.room.add_permits(frame.cost() as usize);
        }
        taken
    }
}

impl Drop for FrameQueue {
    /// Senders that wait for room learn that nobody will make any.
    fn drop(&mut self) {
        self.room.close();
    }
}

/// A queue of frames: the end that a room holds and the end that a transport
/// empties.
pub(crate) fn frame_queue(closer: Closer) -> (FrameSender, FrameQueue) {
    let (sender, receiver) = mpsc::channel(QUEUE_FRAMES);
    let room = Arc::new(Semaphore::new(QUEUE_BYTES));
    (
        FrameSender { queue: sender, room: room.clone(), closer: closer.clone(), counter: None },
        FrameQueue { queue: receiver, room, closer },
    )
}

/// Where received frames come from: a socket, the simulated network, or a
/// queue in this process.
pub(crate) trait FrameSource: Send {
    /// The next frame; `None` when the connection is over.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>>;
}

impl FrameSource for FrameQueue {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.poll_take(cx).map(|frame| frame.map(Frame::into_bytes))
    }
}

/// The receiving end of a connection. Dropping it ends the connection's
/// receiving direction.
///
/// A frame shares its memory with its neighbours in one read of the socket (up
/// to 64 KiB); whoever keeps a small one for long should copy it.
pub struct FrameReceiver {
    source: Box<dyn FrameSource>,
    closer: Closer,
    over: bool,
    counter: Option<Arc<Counter>>,
}

impl FrameReceiver {
    pub(crate) fn new(source: impl FrameSource + 'static, closer: Closer) -> Self {
        Self { source: Box::new(source), closer, over: false, counter: None }
    }

    /// Counts what comes from now on.
    pub(crate) fn counted(mut self, counter: Arc<Counter>) -> Self {
        self.counter = Some(counter);
        self
    }

    /// The next frame, in the order sent; `None` once the connection is over.
    /// Dropping the future loses nothing.
    pub async fn recv(&mut self) -> Option<Bytes> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// As [`FrameReceiver::recv`], for hand-written futures.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.over || self.closer.poll_closed_reader(cx).is_ready() {
            self.over = true;
            return Poll::Ready(None);
        }
        let frame = self.source.poll_frame(cx);
        self.over = matches!(frame, Poll::Ready(None));
        if let (Poll::Ready(Some(frame)), Some(counter)) = (&frame, &self.counter) {
            counter.count(frame.len());
        }
        frame
    }
}

impl std::fmt::Debug for FrameReceiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameReceiver").field("over", &self.over).finish_non_exhaustive()
    }
}
