//! An outbox: the bytes that wait to be written to one receiver. Publishers
//! append under a short lock; the receiver's writer takes everything at once
//! and gives an empty buffer back, so that neither waits for the other's IO
//! and nothing is allocated while traffic flows.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;

use super::receiver::{Brake, Room};

/// From this many bytes on, publishers wait (1 MiB): enough to fill a write
/// while the next is encoded, small enough that a slow receiver is noticed
/// before it holds much.
pub const OUTBOX_FULL_BYTES: usize = 1024 * 1024;

/// What an outbox may hold at most (64 MiB). Each publisher may add what it
/// has in hand to a full outbox before it waits, and nobody waits for a
/// receiver that takes nothing; one for which that is too much is closed.
pub const OUTBOX_MAX_BYTES: usize = 64 * 1024 * 1024;

/// A buffer that grew beyond this (256 KiB) is given back to the allocator
/// when it is empty, so that one burst does not stay in memory for good.
const KEEP_BYTES: usize = 256 * 1024;

/// Bytes on their way to one receiver.
#[derive(Debug, Default)]
pub struct Outbox {
    // Filled by any publisher and emptied by one writer: a task that owned it
    // would have to be woken for every message.
    queue: Mutex<Queue>,
    writer: AtomicWaker,
    brake: Brake,
}

#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    closed: bool,
}

/// The outbox is closed; nothing more comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the outbox is closed")]
pub struct OutboxClosed;

impl Outbox {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets `write` append to the bytes that wait; not called when closed.
    /// `write` must only append.
    pub fn append(&self, write: impl FnOnce(&mut Vec<u8>)) -> Room {
        let mut queue = self.queue();
        if queue.closed {
            return Room::NotTaken;
        }
        let before = queue.bytes.len();
        write(&mut queue.bytes);
        let after = queue.bytes.len();
        if after < OUTBOX_FULL_BYTES {
            return if before == 0 && after > 0 { Room::Idle } else { Room::Free };
        }
        if after > OUTBOX_MAX_BYTES {
            drop(queue);
            self.close();
            return Room::NotTaken;
        }
        self.brake.pull();
        drop(queue);
        self.writer.wake();
        Room::Full
    }

    /// Wakes the writer.
    pub fn wake(&self) {
        self.writer.wake();
    }

    /// Where publishers wait while it is full.
    pub fn brake(&self) -> &Brake {
        &self.brake
    }

    /// Takes everything that waits; for the one writer. `emptied` is what was
    /// taken before, now written, and comes back holding the new bytes.
    ///
    /// # Errors
    /// [`OutboxClosed`] once it is closed and empty.
    pub fn poll_take(&self, cx: &Context<'_>, emptied: &mut Vec<u8>) -> Poll<Result<(), OutboxClosed>> {
        // Enlisted first: bytes that come after the look below wake the writer.
        self.writer.register(cx.waker());
        emptied.clear();
        let mut queue = self.queue();
        if queue.bytes.is_empty() {
            emptied.shrink_to(KEEP_BYTES);
            return if queue.closed { Poll::Ready(Err(OutboxClosed)) } else { Poll::Pending };
        }
        std::mem::swap(&mut queue.bytes, emptied);
        queue.bytes.shrink_to(KEEP_BYTES);
        self.brake.release();
        Poll::Ready(Ok(()))
    }

    /// As [`Self::poll_take`], to wait for.
    ///
    /// # Errors
    /// [`OutboxClosed`] once it is closed and empty.
    pub async fn take(&self, emptied: &mut Vec<u8>) -> Result<(), OutboxClosed> {
        std::future::poll_fn(|cx| self.poll_take(cx, emptied)).await
    }

    /// Bytes that wait now.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.queue().bytes.len()
    }

    /// Takes nothing more: what waits can still be taken, publishers go on.
    pub fn close(&self) {
        self.queue().closed = true;
        self.brake.release();
        self.writer.wake();
    }

    /// Closes it and drops what waits: its receiver is gone. (Publishers may
    /// remember a receiver for a while; what it held they must not keep.)
    pub fn discard(&self) {
        self.queue().bytes = Vec::new();
        self.close();
    }

    /// Whether it was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.queue().closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    fn take(outbox: &Outbox, into: &mut Vec<u8>) -> Poll<Result<(), OutboxClosed>> {
        outbox.poll_take(&Context::from_waker(Waker::noop()), into)
    }

    #[test]
    fn bytes_come_out_in_order_and_once() {
        let (outbox, mut bytes) = (Outbox::default(), Vec::new());
        assert!(take(&outbox, &mut bytes).is_pending());
        assert_eq!(outbox.append(|queue| queue.extend(b"one ")), Room::Idle);
        assert_eq!(outbox.append(|queue| queue.extend(b"two")), Room::Free);
        assert_eq!((take(&outbox, &mut bytes), &bytes[..]), (Poll::Ready(Ok(())), &b"one two"[..]));
        assert!(take(&outbox, &mut bytes).is_pending());
        assert_eq!(outbox.append(|queue| queue.extend(b"three")), Room::Idle);
        outbox.close();
        assert_eq!(outbox.append(|_| panic!("closed")), Room::NotTaken);
        assert_eq!((take(&outbox, &mut bytes), &bytes[..]), (Poll::Ready(Ok(())), &b"three"[..]));
        assert_eq!(take(&outbox, &mut bytes), Poll::Ready(Err(OutboxClosed)));
    }

    #[test]
    fn a_full_outbox_pulls_the_brake_until_it_is_taken() {
        let (outbox, mut bytes) = (Outbox::default(), Vec::new());
        assert_eq!(outbox.append(|queue| queue.resize(OUTBOX_FULL_BYTES - 1, 0)), Room::Idle);
        assert_eq!(outbox.append(|queue| queue.push(0)), Room::Full);
        assert!(outbox.brake().is_pulled());
        assert!(take(&outbox, &mut bytes).is_ready());
        assert!(!outbox.brake().is_pulled() && bytes.len() == OUTBOX_FULL_BYTES);
        assert!(take(&outbox, &mut bytes).is_pending() && bytes.capacity() <= 2 * KEEP_BYTES);
    }

    #[test]
    fn nobody_holds_more_than_the_most() {
        let outbox = Outbox::default();
        assert_eq!(outbox.append(|queue| queue.resize(OUTBOX_MAX_BYTES, 0)), Room::Full);
        assert_eq!(outbox.append(|queue| queue.push(0)), Room::NotTaken);
        assert!(outbox.is_closed() && !outbox.brake().is_pulled());
    }
}
