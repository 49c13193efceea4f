//! The entry node's end of a session: go-back-N. Commands get consecutive
//! sequence numbers when they first leave; several frames may be in flight;
//! when anything breaks, everything that is not acknowledged is sent again in
//! order. Pure: the task that drives it is in `run/`.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use trine_types::{Incarnation, NodeNumber};

use crate::batch::{PART_OVERHEAD_BYTES, Part, SessionId};
use crate::session::Outcome;

/// How much one link holds and sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LinkLimits {
    /// Commands that wait or are under way.
    pub(crate) commands: usize,
    /// Bytes of them.
    pub(crate) bytes: usize,
    /// Commands under way: so many replies a session has to keep.
    pub(crate) window: usize,
    /// Commands in one frame.
    pub(crate) frame_commands: usize,
    /// Bytes in one frame, unless it holds a single command.
    pub(crate) frame_bytes: usize,
}

/// Why a command has no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It never left this node and never will.
    NotSent,
    /// It may or may not be executed, now or later.
    Unknown,
}

struct Command<W> {
    body: Bytes,
    deadline: Instant,
    /// Whoever waits; gone after an answer or a timeout.
    waiter: Option<W>,
    /// It needs no answer any more.
    settled: bool,
    /// How often it has left this node.
    copies: u32,
}

/// A frame to send: a part, and the generation to give back with its answer.
pub(crate) struct Frame {
    pub(crate) generation: u64,
    pub(crate) part: Part,
}

/// What waiters are told, oldest first.
pub(crate) type Settled<W> = Vec<(W, Result<Bytes, Fault>)>;

/// The state of one link; `W` is whoever waits for a reply.
pub(crate) struct Link<W> {
    session: SessionId,
    limits: LinkLimits,
    /// Have a sequence number: `base`, `base + 1`, ...
    sent: VecDeque<Command<W>>,
    /// Have none yet.
    waiting: VecDeque<Command<W>>,
    base: u64,
    /// The next sequence number to put into a frame.
    cursor: u64,
    /// Counts resends: an answer to an older frame does not trigger another.
    generation: u64,
    bytes: usize,
}

impl<W> Link<W> {
    pub(crate) fn new(node: NodeNumber, incarnation: Incarnation, limits: LinkLimits) -> Self {
        Self {
            session: SessionId { node, incarnation, epoch: 1 },
            limits,
            sent: VecDeque::new(),
            waiting: VecDeque::new(),
            base: 1,
            cursor: 1,
            generation: 0,
            bytes: 0,
        }
    }

    /// Takes a command; gives it back if the link is full.
    pub(crate) fn push(&mut self, body: Bytes, waiter: W, deadline: Instant) -> Result<(), W> {
        let full = self.sent.len() + self.waiting.len() >= self.limits.commands
            || (self.bytes > 0 && self.bytes + body.len() > self.limits.bytes);
        if full {
            return Err(waiter);
        }
        self.bytes += body.len();
        self.waiting.push_back(Command { body, deadline, waiter: Some(waiter), settled: false, copies: 0 });
        Ok(())
    }

    /// Whether nobody waits for anything.
    pub(crate) fn is_idle(&self) -> bool {
        self.sent.is_empty() && self.waiting.is_empty()
    }

    /// Commands that have to leave, for the first time or again.
    pub(crate) fn unsent(&self) -> usize {
        let again = usize::try_from(self.base + self.sent.len() as u64 - self.cursor).unwrap_or(usize::MAX);
        self.waiting.len() + again
    }

    /// The next frame, if there is anything to send within the window.
    pub(crate) fn next_frame(&mut self) -> Option<Frame> {
        let first = self.cursor;
        let mut commands = Vec::new();
        let mut bytes = PART_OVERHEAD_BYTES;
        while commands.len() < self.limits.frame_commands {
            let at = usize::try_from(self.cursor - self.base).unwrap_or(usize::MAX);
            if at == self.sent.len() {
                if self.sent.len() >= self.limits.window {
                    break;
                }
                let Some(next) = self.waiting.front() else { break };
                if !commands.is_empty() && bytes + next.body.len() > self.limits.frame_bytes {
                    break;
                }
                let next = self.waiting.pop_front();
                self.sent.extend(next);
            }
            let Some(command) = self.sent.get_mut(at) else { break };
            if !commands.is_empty() && bytes + command.body.len() > self.limits.frame_bytes {
                break;
            }
            command.copies += 1;
            bytes += command.body.len();
            commands.push(command.body.clone());
            self.cursor += 1;
        }
        if commands.is_empty() {
            return None;
        }
        let part = Part { session: self.session, acked: self.base - 1, first, commands };
        Some(Frame { generation: self.generation, part })
    }

    /// A frame was answered.
    pub(crate) fn answered(
        &mut self,
        generation: u64,
        session: SessionId,
        first: u64,
        outcomes: Vec<Outcome>,
    ) -> Settled<W> {
        let mut settled = Vec::new();
        if session != self.session {
            return settled;
        }
        let (mut again, mut anew) = (false, false);
        for (sequence, outcome) in (first..).zip(outcomes) {
            let result = match outcome {
                Outcome::Done(reply) => Ok(reply),
                Outcome::ReplyLost => Err(Fault::Unknown),
                Outcome::Gap => {
                    again = true;
                    continue;
                }
                Outcome::Forgotten | Outcome::Superseded => {
                    anew = true;
                    continue;
                }
            };
            let at = sequence.checked_sub(self.base).and_then(|at| usize::try_from(at).ok());
            if let Some(command) = at.and_then(|at| self.sent.get_mut(at)) {
                command.settled = true;
                settled.extend(command.waiter.take().map(|waiter| (waiter, result)));
            }
        }
        self.advance();
        if anew {
            settled.extend(self.start_anew());
        } else if again && generation == self.generation {
            self.resend();
        }
        settled
    }

    fn advance(&mut self) {
        while self.sent.front().is_some_and(|command| command.settled) {
            if let Some(command) = self.sent.pop_front() {
                self.bytes -= command.body.len();
                self.base += 1;
            }
        }
        self.cursor = self.cursor.max(self.base);
    }

    /// A frame of this generation got no answer: everything that is not
    /// acknowledged will be sent again, in order. `false`: that was decided
    /// before, by another frame of the same generation.
    pub(crate) fn lost(&mut self, generation: u64) -> bool {
        let news = generation == self.generation;
        if news {
            self.resend();
        }
        news
    }

    /// Nothing that is under way will be answered.
    pub(crate) fn lost_all(&mut self) {
        if !self.sent.is_empty() {
            self.resend();
        }
    }

    fn resend(&mut self) {
        self.generation += 1;
        self.cursor = self.base;
    }

    /// The state has lost this session: begin another. What was under way may
    /// or may not have been executed.
    fn start_anew(&mut self) -> Settled<W> {
        let mut settled = Vec::new();
        for command in self.sent.drain(..) {
            self.bytes -= command.body.len();
            settled.extend(command.waiter.map(|waiter| (waiter, Err(Fault::Unknown))));
        }
        self.session.epoch += 1;
        self.base = 1;
        self.cursor = 1;
        self.generation += 1;
        settled
    }

    /// When the next waiting caller's time is over, if anyone waits.
    /// Deadlines are a constant after arrival, so the oldest is first.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let waits = |command: &&Command<W>| command.waiter.is_some();
        let sent = self.sent.iter().find(waits).map(|command| command.deadline);
        let waiting = self.waiting.front().map(|command| command.deadline);
        match (sent, waiting) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Tells those whose time is over. Commands that have left stay in the
    /// sequence, since later ones depend on them; the others are dropped.
    pub(crate) fn expire(&mut self, now: Instant) -> Settled<W> {
        let mut settled = Vec::new();
        for command in &mut self.sent {
            if command.deadline <= now {
                settled.extend(command.waiter.take().map(|waiter| (waiter, Err(Fault::Unknown))));
            }
        }
        while self.waiting.front().is_some_and(|command| command.deadline <= now) {
            if let Some(command) = self.waiting.pop_front() {
                self.bytes -= command.body.len();
                settled.extend(command.waiter.map(|waiter| (waiter, Err(Fault::NotSent))));
            }
        }
        settled
    }

    /// Ends the link: what never left is not executed, the rest is in doubt.
    pub(crate) fn close(&mut self) -> Settled<W> {
        let mut settled = self.start_anew();
        for command in self.waiting.drain(..) {
            self.bytes -= command.body.len();
            settled.extend(command.waiter.map(|waiter| (waiter, Err(Fault::NotSent))));
        }
        settled
    }
}

/// Deadlines are this coarse, so that one timer serves many commands.
pub(crate) const DEADLINE_GRAIN: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests;
