//! Two wake-up cells for one waiting task each, cheaper than a channel on
//! paths that are polled for every frame: a flag that is raised again and
//! again ([`Signal`]) and a flag that is raised once for good ([`Closer`]).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;

/// A flag with one waiting task; raising it wakes the task, seeing it lowers it.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    raised: AtomicBool,
    waiter: AtomicWaker,
}

impl Signal {
    /// Raises the flag and wakes the waiting task.
    pub(crate) fn raise(&self) {
        self.raised.store(true, Ordering::Release);
        self.waiter.wake();
    }

    /// Ready once the flag is up, and lowers it. Only one task may wait.
    pub(crate) fn poll_raised(&self, cx: &Context<'_>) -> Poll<()> {
        self.waiter.register(cx.waker());
        if self.raised.swap(false, Ordering::AcqRel) { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// The two tasks that may wait for the end of one end of a connection.
#[derive(Debug, Default)]
struct Ending {
    closed: AtomicBool,
    reader: AtomicWaker,
    writer: AtomicWaker,
    opposite: OnceLock<Weak<Ending>>,
}

/// Closes one end of a connection at once: frames not yet sent are dropped,
/// the reader sees the end. A clone closes the same end; closing twice is fine.
#[derive(Clone, Debug, Default)]
pub struct Closer(Arc<Ending>);

impl Closer {
    /// Two ends in one process: closing either closes both.
    pub(crate) fn pair() -> (Self, Self) {
        let (one, other) = (Self::default(), Self::default());
        // Fresh cells are empty, so that neither `set` can fail.
        let _ = one.0.opposite.set(Arc::downgrade(&other.0));
        let _ = other.0.opposite.set(Arc::downgrade(&one.0));
        (one, other)
    }

    /// Closes this end now.
    pub fn close(&self) {
        self.close_here();
        if let Some(other) = self.0.opposite.get().and_then(Weak::upgrade) {
            Self(other).close_here();
        }
    }

    fn close_here(&self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.reader.wake();
        self.0.writer.wake();
    }

    /// A handle that does not keep the end's state alive.
    pub(crate) fn downgrade(&self) -> WeakCloser {
        WeakCloser(Arc::downgrade(&self.0))
    }

    /// Whether this end was closed.
    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Acquire)
    }

    /// For the one task that reads.
    pub(crate) fn poll_closed_reader(&self, cx: &Context<'_>) -> Poll<()> {
        self.0.reader.register(cx.waker());
        if self.is_closed() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// For the one task that writes.
    pub(crate) fn poll_closed_writer(&self, cx: &Context<'_>) -> Poll<()> {
        self.0.writer.register(cx.waker());
        if self.is_closed() { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// As [`Closer`], while anybody still holds the end.
#[derive(Clone, Debug)]
pub(crate) struct WeakCloser(Weak<Ending>);

impl WeakCloser {
    /// Closes the end if it is still held.
    pub(crate) fn close(&self) {
        if let Some(ending) = self.0.upgrade() {
            Closer(ending).close();
        }
    }

    /// Whether anybody still holds the end.
    pub(crate) fn is_alive(&self) -> bool {
        self.0.strong_count() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    #[test]
    fn a_signal_is_seen_once() {
        let signal = Signal::default();
        let cx = Context::from_waker(Waker::noop());
        assert!(signal.poll_raised(&cx).is_pending());
        signal.raise();
        assert!(signal.poll_raised(&cx).is_ready());
        assert!(signal.poll_raised(&cx).is_pending());
    }

    #[test]
    fn closing_one_of_a_pair_closes_both_for_good() {
        let (one, other) = Closer::pair();
        let cx = Context::from_waker(Waker::noop());
        assert!(other.poll_closed_reader(&cx).is_pending());
        one.close();
        assert!(other.poll_closed_reader(&cx).is_ready());
        assert!(other.poll_closed_writer(&cx).is_ready() && one.is_closed());
    }
}
