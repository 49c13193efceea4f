//! What waits for another node: batches of changes and messages, in order.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures::task::AtomicWaker;

use super::codec::{POSITION_BYTES, put_interest, put_message, put_position, put_start};
use super::interest::{Position, Teller};
use crate::bus::outbox::{OUTBOX_FULL_BYTES, OUTBOX_MAX_BYTES};
use crate::bus::receiver::{Brake, Carrier, Interest, Room};
use crate::message::Message;
use crate::planted;

/// A batch with this many bytes (128 KiB) gets nothing more: small enough for
/// several to be under way at once.
const BATCH_BYTES: usize = 128 * 1024;

/// First allocation of a batch: most requests fit.
const FIRST_BYTES: usize = 512;

/// One frame on its way.
#[derive(Debug)]
pub(crate) struct Batch {
    /// The frame.
    pub(crate) bytes: Bytes,
    /// Where its last change stands.
    pub(crate) end: Position,
}

#[derive(Debug)]
struct Open {
    bytes: BytesMut,
    end: Position,
}

#[derive(Debug, Default)]
struct State {
    teller: Teller,
    waiting: VecDeque<Open>,
    bytes: usize,
    /// The other node cannot be reached, or was never heard of.
    down: bool,
    /// Publishers waited in vain, or the other node lost the thread.
    reset: bool,
}

/// The outbox of a link.
#[derive(Debug)]
pub(crate) struct Outgoing {
    // Filled by any publisher and emptied by the link's task; see `Outbox`.
    state: Mutex<State>,
    task: AtomicWaker,
    brake: Brake,
}

/// What the link's task shall do.
#[derive(Debug)]
pub(crate) enum Todo {
    /// Send this.
    Send(Batch),
    /// Start a stream.
    Start,
    /// The link is stuck: start over.
    Reset,
}

impl State {
    /// The batch to append to.
    fn open(&mut self) -> &mut Open {
        let at = self.teller.position();
        let most = if planted::active(planted::NEWEST_MESSAGE_FIRST) { 1 } else { BATCH_BYTES };
        let fits = |open: &Open| open.end.stream == at.stream && open.bytes.len() < most;
        if !self.waiting.back().is_some_and(fits) {
            let mut bytes = BytesMut::with_capacity(FIRST_BYTES);
            put_position(&mut bytes, at);
            self.bytes += bytes.len();
            self.waiting.push_back(Open { bytes, end: at });
        }
        self.waiting.back_mut().expect("one was pushed if there was none that fits")
    }

    fn append(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let open = self.open();
        let before = open.bytes.len();
        write(&mut open.bytes);
        let grown = open.bytes.len() - before;
        self.bytes += grown;
    }

    fn tell(&mut self, interest: &Interest) {
        self.append(|bytes| put_interest(bytes, interest));
        self.teller.tell();
        let end = self.teller.position();
        self.open_end(end);
    }

    fn open_end(&mut self, end: Position) {
        if let Some(open) = self.waiting.back_mut() {
            open.end = end;
        }
    }
}

impl Outgoing {
    /// Nothing waits; the other node was never heard of.
    pub(crate) fn new() -> Self {
        let state = State { down: true, ..State::default() };
        Self { state: Mutex::new(state), task: AtomicWaker::new(), brake: Brake::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The other node was heard: messages may wait for it from now on.
    pub(crate) fn heard(&self) {
        let mut state = self.state();
        if std::mem::take(&mut state.down) {
            drop(state);
            self.task.wake();
        }
    }

    /// Starts a stream with everything that this node wants. Messages that
    /// wait stay behind it. Called while the table is locked.
    pub(crate) fn start(&self, stream: u64, wanted: &mut dyn Iterator<Item = Interest>) {
        let mut state = self.state();
        let later = std::mem::take(&mut state.waiting);
        state.down = false;
        state.teller.start(stream);
        state.append(put_start);
        for interest in wanted {
            state.tell(&interest);
        }
        state.waiting.extend(later);
    }

    /// What to do next; for the link's task.
    pub(crate) fn poll_todo(&self, cx: &Context<'_>) -> Poll<Todo> {
        self.task.register(cx.waker());
        let mut state = self.state();
        if std::mem::take(&mut state.reset) {
            return Poll::Ready(Todo::Reset);
        }
        if state.down {
            return Poll::Pending;
        }
        if state.teller.is_silent() {
            return Poll::Ready(Todo::Start);
        }
        let newest_first = planted::active(planted::NEWEST_MESSAGE_FIRST);
        let next = if newest_first { state.waiting.pop_back() } else { state.waiting.pop_front() };
        let Some(open) = next else { return Poll::Pending };
        state.bytes -= open.bytes.len();
        if state.bytes < OUTBOX_FULL_BYTES / 2 {
            self.brake.release();
        }
        Poll::Ready(Todo::Send(Batch { bytes: open.bytes.freeze(), end: open.end }))
    }

    /// Whether a stream has to be started before anything is told.
    pub(crate) fn is_silent(&self) -> bool {
        self.state().teller.is_silent()
    }

    /// A frame that says nothing, to be answered; `None` while silent.
    pub(crate) fn beat(&self) -> Option<Batch> {
        let state = self.state();
        let end = state.teller.position();
        if state.teller.is_silent() || !state.waiting.is_empty() {
            return None;
        }
        let mut bytes = BytesMut::with_capacity(POSITION_BYTES);
        put_position(&mut bytes, end);
        Some(Batch { bytes: bytes.freeze(), end })
    }

    /// Takes the answer to a frame that ended at `sent`; false if the other
    /// node lost the thread, so that a stream must be started.
    pub(crate) fn answered(&self, sent: Position, heard: Position) -> bool {
        let mut state = self.state();
        let agrees = state.teller.agrees(sent, heard) || planted::active(planted::INTEREST_NOT_RETOLD);
        if !agrees {
            state.teller.silence();
        }
        agrees
    }

    /// The flow broke: what waits is dropped, nothing is taken until the other
    /// node is heard, or a stream started.
    pub(crate) fn fail(&self) {
        let mut state = self.state();
        let teller =
            if planted::active(planted::INTEREST_NOT_RETOLD) { state.teller } else { Teller::default() };
        *state = State { down: true, teller, ..State::default() };
        self.brake.release();
    }
}

impl Carrier for Outgoing {
    fn forward(&self, message: &Message<'_>, plain: bool, groups: &mut dyn Iterator<Item = &Bytes>) -> Room {
        let mut state = self.state();
        if state.down || state.bytes > OUTBOX_MAX_BYTES {
            return Room::NotTaken;
        }
        let first = state.waiting.is_empty();
        state.append(|bytes| put_message(bytes, message, plain, groups));
        if state.bytes < OUTBOX_FULL_BYTES {
            return if first { Room::Idle } else { Room::Free };
        }
        self.brake.pull();
        drop(state);
        self.task.wake();
        Room::Full
    }

    fn tell(&self, change: &Interest) {
        let mut state = self.state();
        if !state.teller.is_silent() {
            state.tell(change);
            drop(state);
            self.task.wake();
        }
    }

    fn wake(&self) {
        self.task.wake();
    }

    fn brake(&self) -> &Brake {
        &self.brake
    }

    fn cut_off(&self) {
        self.state().reset = true;
        self.brake.release();
        self.task.wake();
    }
}
