//! A subscriber in this process: keeps messages until its owner asks for them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::task::AtomicWaker;

use super::publisher::Publisher;
use super::receiver::{Brake, Receiver, Room};
use super::{Attachment, Bus, SubId, SubscribeError};
use crate::message::{Kept, Message};

/// From this many bytes on, publishers wait (1 MiB).
pub const INBOX_FULL_BYTES: usize = 1024 * 1024;

/// What an inbox holds at most (64 MiB); one with more is closed.
pub const INBOX_MAX_BYTES: usize = 64 * 1024 * 1024;

/// What a message takes beside its own bytes.
const PER_MESSAGE_BYTES: usize = 256;

#[derive(Default)]
struct Queue {
    messages: VecDeque<Kept>,
    bytes: usize,
    closed: bool,
}

#[derive(Default)]
struct Inbox {
    // Filled by publishers on their own tasks; see `Outbox`.
    queue: Mutex<Queue>,
    owner: AtomicWaker,
    brake: Brake,
}

impl Inbox {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.queue().closed = true;
        self.brake.release();
        self.owner.wake();
    }

    fn poll_next(&self, cx: &Context<'_>) -> Poll<Option<Kept>> {
        self.owner.register(cx.waker());
        let mut queue = self.queue();
        let Some(message) = queue.messages.pop_front() else {
            return if queue.closed { Poll::Ready(None) } else { Poll::Pending };
        };
        queue.bytes -= message.bytes() + PER_MESSAGE_BYTES;
        self.brake.moved();
        if queue.bytes < INBOX_FULL_BYTES / 2 {
            self.brake.release();
        }
        Poll::Ready(Some(message))
    }
}

impl Receiver for Inbox {
    fn deliver(&self, _: &Bytes, message: &Message<'_>) -> Room {
        let mut queue = self.queue();
        if queue.closed {
            return Room::NotTaken;
        }
        let message = message.to_kept();
        queue.bytes += message.bytes() + PER_MESSAGE_BYTES;
        let first = queue.messages.is_empty();
        queue.messages.push_back(message);
        if queue.bytes > INBOX_MAX_BYTES {
            drop(queue);
            self.close();
            return Room::NotTaken;
        }
        if queue.bytes >= INBOX_FULL_BYTES {
            self.brake.pull();
            drop(queue);
            self.owner.wake();
            return Room::Full;
        }
        if first { Room::Idle } else { Room::Free }
    }

    fn wake(&self) {
        self.owner.wake();
    }

    fn brake(&self) -> &Brake {
        &self.brake
    }

    fn cut_off(&self) {
        self.close();
    }
}

/// Subscribes and receives within this process; dropping it ends its
/// subscriptions.
pub struct Subscriber {
    inbox: Arc<Inbox>,
    attachment: Attachment,
}

impl Subscriber {
    pub(super) fn new(bus: &Bus) -> Self {
        let inbox = Arc::new(Inbox::default());
        let attachment = bus.attach(inbox.clone());
        Self { inbox, attachment }
    }

    /// See [`Attachment::subscribe`].
    ///
    /// # Errors
    /// [`SubscribeError`]; nothing was subscribed to.
    pub fn subscribe(&mut self, filter: Bytes, queue: Option<Bytes>) -> Result<SubId, SubscribeError> {
        self.attachment.subscribe(filter, queue, Bytes::new())
    }

    /// See [`Attachment::unsubscribe`].
    pub fn unsubscribe(&mut self, id: SubId) {
        self.attachment.unsubscribe(id);
    }

    /// See [`Attachment::publisher`].
    #[must_use]
    pub fn publisher(&self) -> Publisher {
        self.attachment.publisher()
    }

    /// The next message; `None` after this subscriber was cut off because it
    /// took nothing, or too little, for too long: subscribe anew.
    pub async fn next(&mut self) -> Option<Kept> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`Self::next`], polled.
    pub fn poll_next(&mut self, cx: &Context<'_>) -> Poll<Option<Kept>> {
        self.inbox.poll_next(cx)
    }
}

#[cfg(test)]
impl Subscriber {
    pub(super) fn inbox_for_tests(&self) -> &dyn Receiver {
        &*self.inbox
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.inbox.close();
        self.inbox.queue().messages.clear();
    }
}

impl std::fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscriber").field("attachment", &self.attachment).finish_non_exhaustive()
    }
}
