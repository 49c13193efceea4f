//! A link: everything between this node and one peer on one lane. The rules
//! of waiting, sending and failing; the task that moves it is in `run`.
//!
//! The state is behind a mutex and not owned by a task, because every caller
//! must enter its call in order without a hand-over to a task in between:
//! that hand-over would cost each small call a wake-up. Nothing awaits and no
//! foreign code runs while it is held.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;
use trine_types::NodeId;

use super::backoff::Backoff;
use super::pending::{Answer, Pending};
use crate::config::EndpointConfig;
use crate::envelope::Envelope;
use crate::error::{CallError, CallRefused, OpenError, UnreachableCause};
use crate::frame::{Frame, FrameSender, SendError};
use crate::lane::{Lane, Service};
use crate::signal::{Closer, Signal};

/// Where a link stands.
#[derive(Debug)]
enum Phase {
    /// No connection; the next call dials.
    Idle,
    /// The link's task dials; calls wait.
    Dialling,
    /// Up. While `draining`, calls wait behind those that waited before.
    Connected { sender: FrameSender, draining: bool },
    /// The last attempt failed; calls fail at once until then.
    Resting { until: Instant, reason: OpenError },
    /// Shut down for good.
    Closed,
}

/// A frame that waits for the connection or for room in its queue.
#[derive(Debug)]
struct Queued {
    id: Option<u64>,
    frame: Frame,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    pending: Pending,
    queued: VecDeque<Queued>,
    queued_bytes: usize,
    backoff: Backoff,
    closer: Option<Closer>,
    cut: bool,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) peer: NodeId,
    pub(super) lane: Lane,
    /// Raised for the link's task when there is something new to do.
    pub(super) signal: Signal,
    state: Mutex<State>,
}

/// Whether the caller must start the link's task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// It runs already.
    Running,
    /// Start it: the link has just begun to dial.
    Task,
}

/// What the link's task has to do next.
#[derive(Debug)]
pub(super) struct Todo {
    /// When to sweep deadlines.
    pub(super) sweep: Option<Instant>,
    /// The oldest frame that waits for room.
    pub(super) send: Option<Frame>,
    /// Give up: the link was cut or shut down.
    pub(super) stop: bool,
}

impl Link {
    pub(super) fn new(peer: NodeId, lane: Lane) -> Self {
        let state = State {
            phase: Phase::Idle,
            pending: Pending::default(),
            queued: VecDeque::new(),
            queued_bytes: 0,
            backoff: Backoff::default(),
            closer: None,
            cut: false,
        };
        Self { peer, lane, signal: Signal::default(), state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic of another thread does not make the table wrong: every
        // change below is complete before the guard is dropped.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the connection is up.
    pub(super) fn is_connected(&self) -> bool {
        matches!(self.lock().phase, Phase::Connected { .. })
    }

    /// Enters a call; the answer arrives on the receiver.
    pub(super) fn call(
        &self,
        config: &EndpointConfig,
        (service, body): (Service, Bytes),
        deadline: Instant,
    ) -> Result<(oneshot::Receiver<Result<Bytes, CallError>>, Start), CallError> {
        let (answer, receiver) = oneshot::channel();
        let mut state = self.lock();
        if state.pending.len() >= config.max_calls {
            return Err(CallError::Busy);
        }
        let (id, sooner) = state.pending.insert(answer, deadline);
        let frame = Envelope::Call { service, id, body }.into_frame();
        match state.enter(config, Queued { id: Some(id), frame }) {
            Ok((start, waits)) => {
                drop(state);
                if sooner || waits {
                    self.signal.raise();
                }
                Ok((receiver, start))
            }
            Err(error) => {
                state.pending.remove(id);
                Err(error)
            }
        }
    }

    /// Enters a notice.
    pub(super) fn notify(
        &self,
        config: &EndpointConfig,
        (service, body): (Service, Bytes),
    ) -> Result<Start, CallError> {
        let frame = Envelope::Notice { service, body }.into_frame();
        let mut state = self.lock();
        let (start, waits) = state.enter(config, Queued { id: None, frame })?;
        drop(state);
        if waits {
            self.signal.raise();
        }
        Ok(start)
    }

    /// The connection is up: calls that waited go first.
    pub(super) fn connected(&self, sender: FrameSender, closer: Closer) {
        let mut state = self.lock();
        if matches!(state.phase, Phase::Closed) {
            closer.close();
        } else {
            let draining = !state.queued.is_empty();
            state.phase = Phase::Connected { sender, draining };
            state.closer = Some(closer);
        }
    }

    /// What the task shall do next.
    pub(super) fn todo(&self) -> Todo {
        let mut state = self.lock();
        let send = state.flush_queued();
        Todo {
            sweep: state.pending.next_sweep(),
            send,
            stop: state.cut || matches!(state.phase, Phase::Closed),
        }
    }

    /// The frame of [`Todo::send`] found room.
    pub(super) fn sent_front(&self) {
        self.lock().pop_queued();
    }

    /// Answers calls; `replies` is emptied. One lock for the whole batch.
    pub(super) fn complete(&self, replies: &mut Vec<(u64, Result<Bytes, CallRefused>)>) {
        let mut state = self.lock();
        let answers: Vec<_> = replies
            .drain(..)
            .filter_map(|(id, reply)| state.pending.remove(id).map(|answer| (answer, reply)))
            .collect();
        drop(state);
        for (answer, reply) in answers {
            // The caller may have gone; then nobody wants the reply.
            let _ = answer.send(reply.map_err(CallError::Refused));
        }
    }

    /// Fails the calls whose deadline is over; one that still waited for the
    /// connection, or for room in its queue, was certainly not sent.
    pub(super) fn sweep(&self, now: Instant) {
        let mut state = self.lock();
        let due = state.pending.sweep(now);
        let unsent = state.unqueue(&due);
        drop(state);
        let (unsent, sent) = due.into_iter().partition(|(id, _)| unsent.contains(id));
        fail(unsent, &CallError::NotSent(OpenError::Unreachable(UnreachableCause::TimedOut)));
        fail(sent, &CallError::TimedOut);
    }

    /// The attempt to dial failed: everything that waits fails, and calls of
    /// the next moments fail at once.
    pub(super) fn not_connected(&self, config: &EndpointConfig, reason: OpenError, chance: u64) {
        let mut state = self.lock();
        let waiting = state.pending.drain();
        state.forget_queued();
        if std::mem::take(&mut state.cut) {
            state.leave(Phase::Idle);
        } else {
            let rest = state.backoff.failed(config.backoff_min, config.backoff_max, chance);
            state.leave(Phase::Resting { until: Instant::now() + rest, reason: reason.clone() });
        }
        let closed = matches!(state.phase, Phase::Closed);
        drop(state);
        fail(waiting, &if closed { CallError::ShutDown } else { CallError::NotSent(reason) });
    }

    /// The connection is over after `lived`: every call in flight fails.
    pub(super) fn disconnected(&self, config: &EndpointConfig, lived: Duration, chance: u64) {
        let reason = OpenError::Unreachable(UnreachableCause::Broken);
        let mut state = self.lock();
        let mut unsent = Vec::new();
        for id in state.queued.iter().filter_map(|queued| queued.id).collect::<Vec<_>>() {
            unsent.extend(state.pending.remove(id).map(|answer| (id, answer)));
        }
        let sent = state.pending.drain();
        state.forget_queued();
        state.closer = None;
        if std::mem::take(&mut state.cut) || lived >= config.settled_after {
            state.backoff.reset();
            state.leave(Phase::Idle);
        } else {
            let rest = state.backoff.failed(config.backoff_min, config.backoff_max, chance);
            state.leave(Phase::Resting { until: Instant::now() + rest, reason: reason.clone() });
        }
        let closed = matches!(state.phase, Phase::Closed);
        drop(state);
        fail(unsent, &if closed { CallError::ShutDown } else { CallError::NotSent(reason) });
        fail(sent, &if closed { CallError::ShutDown } else { CallError::Broken });
    }

    /// Breaks the connection, or the attempt to make one, at once. The next
    /// call dials again without a pause.
    pub(super) fn cut(&self) {
        let mut state = self.lock();
        match state.phase {
            Phase::Dialling | Phase::Connected { .. } => state.cut = true,
            Phase::Resting { .. } => {
                state.backoff.reset();
                state.phase = Phase::Idle;
            }
            Phase::Idle | Phase::Closed => {}
        }
        self.close_and_wake(state);
    }

    /// As [`Link::cut`], for good.
    pub(super) fn shut_down(&self) {
        let mut state = self.lock();
        let idle = matches!(state.phase, Phase::Idle | Phase::Resting { .. });
        state.phase = Phase::Closed;
        debug_assert!(!idle || state.pending.len() == 0, "nothing waits without a task");
        self.close_and_wake(state);
    }

    fn close_and_wake(&self, state: MutexGuard<'_, State>) {
        let closer = state.closer.clone();
        drop(state);
        if let Some(closer) = closer {
            closer.close();
        }
        self.signal.raise();
    }
}

impl State {
    /// Sends or queues a frame. The second value is true when the link's task
    /// must look at the queue.
    fn enter(&mut self, config: &EndpointConfig, entry: Queued) -> Result<(Start, bool), CallError> {
        match &self.phase {
            Phase::Closed => Err(CallError::ShutDown),
            Phase::Resting { until, reason } if Instant::now() < *until => {
                Err(CallError::NotSent(reason.clone()))
            }
            Phase::Idle | Phase::Resting { .. } => {
                self.queue(config, entry)?;
                self.phase = Phase::Dialling;
                Ok((Start::Task, false))
            }
            Phase::Dialling | Phase::Connected { draining: true, .. } => {
                self.queue(config, entry)?;
                Ok((Start::Running, false))
            }
            Phase::Connected { sender, .. } => match sender.offer(entry.frame) {
                Ok(()) => Ok((Start::Running, false)),
                Err((SendError::Full, frame)) => {
                    self.queue(config, Queued { id: entry.id, frame })?;
                    if let Phase::Connected { draining, .. } = &mut self.phase {
                        *draining = true;
                    }
                    Ok((Start::Running, true))
                }
                Err((SendError::TooLarge(bytes), _)) => Err(CallError::TooLarge(bytes)),
                Err((SendError::Closed, _)) => {
                    Err(CallError::NotSent(OpenError::Unreachable(UnreachableCause::Broken)))
                }
            },
        }
    }

    fn queue(&mut self, config: &EndpointConfig, entry: Queued) -> Result<(), CallError> {
        if self.queued_bytes + entry.frame.len() > config.max_waiting_bytes
            || self.queued.len() >= config.max_calls
        {
            return Err(CallError::Busy);
        }
        self.queued_bytes += entry.frame.len();
        self.queued.push_back(entry);
        Ok(())
    }

    /// Sends what waits, in order, as far as there is room; the first frame
    /// that found none is returned as well as kept.
    fn flush_queued(&mut self) -> Option<Frame> {
        loop {
            let Phase::Connected { sender, draining } = &mut self.phase else { return None };
            let Some(queued) = self.queued.front() else {
                *draining = false;
                return None;
            };
            let frame = queued.frame.clone();
            match sender.offer(frame) {
                Ok(()) => self.pop_queued(),
                Err((_, frame)) => return Some(frame),
            }
        }
    }

    /// Takes calls out of the queue; the result is which of them were in it.
    fn unqueue(&mut self, due: &[(u64, Answer)]) -> BTreeSet<u64> {
        let mut unsent = BTreeSet::new();
        if due.is_empty() || self.queued.is_empty() {
            return unsent;
        }
        let gone: BTreeSet<u64> = due.iter().map(|(id, _)| *id).collect();
        self.queued.retain(|queued| match queued.id {
            Some(id) if gone.contains(&id) => {
                unsent.insert(id);
                false
            }
            _ => true,
        });
        self.queued_bytes = self.queued.iter().map(|queued| queued.frame.len()).sum();
        unsent
    }

    fn pop_queued(&mut self) {
        if let Some(queued) = self.queued.pop_front() {
            self.queued_bytes -= queued.frame.len();
        }
    }

    fn forget_queued(&mut self) {
        self.queued = VecDeque::new();
        self.queued_bytes = 0;
    }

    /// Changes the phase unless the link is shut down.
    fn leave(&mut self, next: Phase) {
        if !matches!(self.phase, Phase::Closed) {
            self.phase = next;
        }
    }
}

fn fail(waiting: Vec<(u64, Answer)>, error: &CallError) {
    for (_, answer) in waiting {
        let _ = answer.send(Err(error.clone()));
    }
}
