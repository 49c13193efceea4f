//! What the bus delivers to. A receiver is called on its publisher's task, so
//! that a message is copied once, from the publisher's input into the
//! receiver's outbox, and no task is woken per message.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::message::Message;

/// Longest that publishers wait for a full receiver. One that made no room by
/// then is cut off: it is stuck, and must not stop those who are not.
pub const STALL_LIMIT: Duration = Duration::from_secs(10);

/// What became of one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Taken; the receiver's writer is awake already.
    Free,
    /// Taken; the receiver's writer sleeps. The publisher calls
    /// [`Receiver::wake`] at the end of its burst, so that one wake-up and one
    /// write serve many messages.
    Idle,
    /// Taken, and the outbox is full: the receiver has woken its writer, and
    /// the publisher has to wait at [`Receiver::brake`].
    Full,
    /// Not taken: the receiver is closed, or has no right to this message. It
    /// does not count, and another member of the queue group gets it.
    NotTaken,
}

/// Takes messages: a client's connection, or a subscriber in this process.
///
/// Neither method may block or call the bus. An [`crate::Outbox`] does what
/// most receivers need.
pub trait Receiver: Send + Sync + 'static {
    /// Takes one message for the subscription `sid`: appends it to a bounded
    /// outbox.
    fn deliver(&self, sid: &Bytes, message: &Message<'_>) -> Room;

    /// There are messages in the outbox and a publisher's burst is over.
    fn wake(&self);

    /// Where publishers wait after [`Room::Full`].
    fn brake(&self) -> &Brake;

    /// Publishers waited for [`STALL_LIMIT`] in vain: close, for good. The
    /// receiver answers [`Room::NotTaken`] from now on and releases its brake.
    fn cut_off(&self);
}

/// Carries messages to another node and tells it what this one wants.
pub trait Carrier: Send + Sync + 'static {
    /// Takes one message for the other node's subscribers: all that are in no
    /// group if `plain`, and one member of each of `groups`.
    fn forward(&self, message: &Message<'_>, plain: bool, groups: &mut dyn Iterator<Item = &Bytes>) -> Room;

    /// How many members this node has for a filter (and queue group) now.
    /// Called under the table's lock, in the order of the changes.
    fn tell(&self, change: &Interest);

    /// See [`Receiver::wake`].
    fn wake(&self);

    /// See [`Receiver::brake`].
    fn brake(&self) -> &Brake;

    /// See [`Receiver::cut_off`]; the link starts over.
    fn cut_off(&self);
}

/// How many subscriptions a node has for one filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interest {
    /// A valid filter.
    pub filter: Bytes,
    /// The queue group, if it is one.
    pub queue: Option<Bytes>,
    /// Subscriptions; 0 when the last one is gone. Those outside groups count
    /// as one, however many there are.
    pub members: u32,
}

/// Where the publishers of a full receiver wait.
#[derive(Debug, Default)]
pub struct Brake {
    full: AtomicBool,
    room: Notify,
}

impl Brake {
    /// The outbox is full. Called by whoever filled it, under the lock under
    /// which it is drained, so that no release is lost.
    pub fn pull(&self) {
        self.full.store(true, Ordering::Release);
    }

    /// There is room again (or the receiver is closed): publishers go on.
    pub fn release(&self) {
        if self.full.swap(false, Ordering::AcqRel) {
            self.room.notify_waiters();
        }
    }

    /// Whether publishers have to wait.
    #[must_use]
    pub fn is_pulled(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    /// Waits until there is room.
    pub async fn released(&self) {
        loop {
            // Enlisted before the flag is read: a release in between is seen.
            let mut room = std::pin::pin!(self.room.notified());
            room.as_mut().enable();
            if !self.is_pulled() {
                return;
            }
            room.await;
        }
    }
}
