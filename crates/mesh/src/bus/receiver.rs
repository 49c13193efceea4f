//! What the bus delivers to. A receiver is called on its publisher's task, so
//! that a message is copied once, from the publisher's input into the
//! receiver's outbox, and no task is woken per message.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::leeway::{Leeway, Place};
use crate::message::Message;

/// Looks at a full receiver that takes nothing until publishers go on. More
/// than one, so that a pause of this whole process, after which every timer is
/// late at once, counts as one and not as its receivers' silence.
const STALL_LOOKS: u32 = 4;

/// Pause between two of these looks.
const STALL_LOOK: Duration = Duration::from_millis(250);

/// How long publishers wait for a full receiver that takes nothing at all
/// (1 s; what it took right before a look is seen at the look, which adds one
/// look at most). Then nobody waits for it any more until it takes something,
/// unless too many others are passed over like this:
/// a client that merely pauses finds what its outbox could hold. Cutting it off
/// here already would hit clients that read on: the sender of a TCP connection
/// may see nothing of that for seconds, while the other side's kernel holds
/// megabytes.
pub const STALL_LIMIT: Duration = STALL_LOOK.saturating_mul(STALL_LOOKS);

/// A full receiver that takes nothing for this long (10 s, as nats-server's
/// write deadline), or so little that it makes no room meanwhile, is cut off.
pub const HOLD_LIMIT: Duration = Duration::from_secs(10);

/// The same for a link to another node (12 s). Its answers wait for the
/// receivers there; they, and not the link, are cut off if they are to blame.
pub const LINK_HOLD_LIMIT: Duration = HOLD_LIMIT.saturating_add(Duration::from_secs(2));

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

    /// It is full and made no room for [`HOLD_LIMIT`]: close, for good. The
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
    /// Counts what the receiver took; only whether it changes matters.
    moves: AtomicU32,
    // Touched when it becomes full or gets room, and by publishers that wait;
    // never across an await.
    wait: Mutex<Wait>,
}

/// What publishers know of a receiver that is full.
#[derive(Debug, Default)]
struct Wait {
    /// Since when one waits.
    since: Option<Instant>,
    /// Where its count stood when it had taken nothing for [`STALL_LIMIT`]:
    /// another count means that it goes on.
    stalled: Option<u32>,
    /// What lets publishers pass it over.
    place: Option<Place>,
}

impl Brake {
    fn waiting(&self) -> MutexGuard<'_, Wait> {
        self.wait.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The outbox is full. Called by whoever filled it, under the lock under
    /// which it is drained, so that no release is lost.
    pub fn pull(&self) {
        self.full.store(true, Ordering::Release);
    }

    /// There is room again (or the receiver is closed): publishers go on.
    pub fn release(&self) {
        if self.full.swap(false, Ordering::AcqRel) {
            *self.waiting() = Wait::default();
            self.room.notify_waiters();
        }
    }

    /// The receiver took something, though maybe not enough to make room.
    pub fn moved(&self) {
        self.moves.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until there is room, at most [`STALL_LIMIT`] if nothing moves and
    /// there is a place in `leeway`; false if there was no room for
    /// [`HOLD_LIMIT`], in which the receiver is to be cut off.
    pub(super) async fn yields(&self, leeway: &Leeway) -> bool {
        let (mut moves, mut still) = (self.moves.load(Ordering::Relaxed), 0);
        let (until, passed_over) = {
            let mut wait = self.waiting();
            let since = *wait.since.get_or_insert_with(Instant::now);
            (since + HOLD_LIMIT, wait.stalled == Some(moves))
        };
        if passed_over && self.is_pulled() {
            return Instant::now() < until;
        }
        while Instant::now() < until {
            if timeout(STALL_LOOK, self.released()).await.is_ok() {
                return true;
            }
            let before = std::mem::replace(&mut moves, self.moves.load(Ordering::Relaxed));
            still = if moves == before { still + 1 } else { 0 };
            if still >= STALL_LOOKS && self.is_passed_over(moves, leeway) {
                return true;
            }
        }
        false
    }

    /// The receiver has taken nothing for [`STALL_LIMIT`]; whether publishers
    /// may pass it over from now on.
    fn is_passed_over(&self, moves: u32, leeway: &Leeway) -> bool {
        let mut wait = self.waiting();
        wait.place = wait.place.take().or_else(|| leeway.place());
        wait.stalled = wait.place.is_some().then_some(moves);
        wait.place.is_some()
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
