//! One simulated connection: two ends, two directions of frames in flight.

use std::collections::VecDeque;
use std::time::Duration;

use trine_types::NodeId;

use crate::frame::{Frame, FrameQueue, FrameReceiver, FrameSender, SendError, Taken, frame_queue};
use crate::lane::Lane;
use crate::signal::Closer;
use crate::transport::Connection;

/// Bytes in flight per direction, as a TCP window: a sender ahead of it waits.
const WINDOW_BYTES: usize = 1024 * 1024;

/// What the network does to a frame that is about to leave.
pub(super) enum Fate {
    /// It arrives after this delay.
    Delay(Duration),
    /// The connection breaks instead.
    Break,
}

/// Whether a wire goes on after a step.
#[derive(PartialEq, Eq)]
pub(super) enum Step {
    Alive,
    Over,
}

/// One direction.
#[derive(Debug)]
struct Direction {
    /// Where the sending node puts frames; gone after its end is over.
    queue: Option<FrameQueue>,
    flight: VecDeque<(Duration, Frame)>,
    flight_bytes: usize,
    last_due: Duration,
    /// Where the receiving node takes them, bounded as a socket's receive
    /// buffer; gone after the end was told.
    into: Option<FrameSender>,
}

impl Direction {
    fn launch(&mut self, now: Duration, fate: &mut impl FnMut() -> Fate) -> Step {
        while self.flight_bytes < WINDOW_BYTES {
            let Some(queue) = &mut self.queue else { break };
            match queue.take_now() {
                Taken::Nothing => break,
                Taken::Finished => self.queue = None,
                Taken::Frame(frame) => match fate() {
                    Fate::Break => return Step::Over,
                    Fate::Delay(delay) => self.lift(now + delay, frame),
                },
            }
        }
        Step::Alive
    }

    fn lift(&mut self, due: Duration, frame: Frame) {
        self.last_due = self.last_due.max(due);
        self.flight_bytes += frame.len();
        self.flight.push_back((self.last_due, frame));
    }

    /// Delivers what is due; over when the receiver is gone. Shows each frame
    /// that arrived to `traffic`.
    fn land(&mut self, now: Duration, traffic: &mut impl FnMut(&Frame)) -> Step {
        while let Some(into) = &self.into {
            let Some((due, frame)) = self.flight.pop_front() else { break };
            if due > now {
                self.flight.push_front((due, frame));
                break;
            }
            match into.offer(frame.clone()) {
                Ok(()) => {
                    self.flight_bytes -= frame.len();
                    traffic(&frame);
                }
                Err((SendError::Closed, _)) => return Step::Over,
                Err((SendError::Full | SendError::TooLarge(_), _)) => {
                    self.flight.push_front((due, frame));
                    break;
                }
            }
        }
        if self.queue.is_none() && self.flight.is_empty() {
            self.into = None;
        }
        Step::Alive
    }
}

/// A connection between `nodes[0]`, who dialled, and `nodes[1]`.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) nodes: [NodeId; 2],
    closers: [Closer; 2],
    /// `directions[i]` goes away from `nodes[i]`.
    directions: [Direction; 2],
    /// Since when frames wait on a blocked path.
    stuck_since: Option<Duration>,
    /// When the other end hears that this end was closed.
    reset_due: [Option<Duration>; 2],
    crashed: [bool; 2],
}

/// The state of the paths between the two nodes of a wire.
pub(super) struct Paths {
    /// `blocked[i]`: nothing gets away from `nodes[i]`.
    pub(super) blocked: [bool; 2],
    /// For how long TCP retransmits before it gives up.
    pub(super) give_up_after: Duration,
}

impl Wire {
    /// A new connection and its two ends: the dialler's and the acceptor's.
    pub(super) fn new(from: NodeId, to: NodeId, lane: Lane) -> (Self, Connection, Connection) {
        let closers = [Closer::default(), Closer::default()];
        let (sender_one, queue_one) = frame_queue(closers[0].clone());
        let (sender_two, queue_two) = frame_queue(closers[1].clone());
        // Frames that have landed are the receiver's: only it ends them.
        let (into_two, from_one) = frame_queue(Closer::default());
        let (into_one, from_two) = frame_queue(Closer::default());
        let direction = |queue, into| Direction {
            queue: Some(queue),
            flight: VecDeque::new(),
            flight_bytes: 0,
            last_due: Duration::ZERO,
            into: Some(into),
        };
        let end = |peer, sender, source, closer: &Closer| Connection {
            peer,
            lane,
            sender,
            receiver: FrameReceiver::new(source, closer.clone()),
            closer: closer.clone(),
        };
        let dialler = end(to, sender_one, from_two, &closers[0]);
        let acceptor = end(from, sender_two, from_one, &closers[1]);
        let wire = Self {
            nodes: [from, to],
            closers,
            directions: [direction(queue_one, into_two), direction(queue_two, into_one)],
            stuck_since: None,
            reset_due: [None; 2],
            crashed: [false; 2],
        };
        (wire, dialler, acceptor)
    }

    /// One step of time.
    pub(super) fn step(
        &mut self,
        now: Duration,
        paths: &Paths,
        mut fate: impl FnMut(usize) -> Fate,
        mut traffic: impl FnMut(&Frame),
    ) -> Step {
        if self.closers.iter().any(Closer::is_closed) {
            return self.step_closing(now, paths, fate);
        }
        let mut over = false;
        for (end, direction) in self.directions.iter_mut().enumerate() {
            over |= direction.launch(now, &mut || fate(end)) == Step::Over;
            if !paths.blocked[end] {
                over |= direction.land(now, &mut traffic) == Step::Over;
            }
        }
        if over || self.gave_up(now, paths) {
            self.break_now();
            return Step::Over;
        }
        // Ended in order both ways: what has landed can still be received.
        if self.directions.iter().all(|direction| direction.into.is_none()) {
            Step::Over
        } else {
            Step::Alive
        }
    }

    /// Closes both ends at once.
    pub(super) fn break_now(&self) {
        for closer in &self.closers {
            closer.close();
        }
    }

    /// The process at `node` is gone: what it had not handed to its kernel is
    /// lost, what is in flight arrives, then the peer sees the end.
    pub(super) fn crash(&mut self, node: NodeId) {
        for end in 0..2 {
            if self.nodes[end] == node {
                self.crashed[end] = true;
                self.directions[end].queue = None;
                self.directions[1 - end].into = None;
                self.directions[1 - end].flight.clear();
            }
        }
    }

    /// An end was closed by its node: the other end hears of it after a delay.
    fn step_closing(&mut self, now: Duration, paths: &Paths, mut fate: impl FnMut(usize) -> Fate) -> Step {
        for end in 0..2 {
            if self.closers[end].is_closed() && self.reset_due[end].is_none() {
                let delay = match fate(end) {
                    Fate::Delay(delay) => delay,
                    Fate::Break => Duration::ZERO,
                };
                self.reset_due[end] = Some(now + delay);
            }
        }
        let heard =
            (0..2).any(|end| self.reset_due[end].is_some_and(|due| due <= now) && !paths.blocked[end]);
        if heard || self.closers.iter().all(Closer::is_closed) || self.gave_up(now, paths) {
            self.break_now();
            return Step::Over;
        }
        Step::Alive
    }

    /// Whether something has waited on a blocked path for too long.
    fn gave_up(&mut self, now: Duration, paths: &Paths) -> bool {
        let blocked = paths.blocked.iter().any(|blocked| *blocked);
        let waits = self.directions.iter().any(|direction| !direction.flight.is_empty())
            || self.reset_due.iter().any(Option::is_some)
            || self.crashed.iter().any(|crashed| *crashed);
        if !(blocked && waits) {
            self.stuck_since = None;
            return false;
        }
        let since = *self.stuck_since.get_or_insert(now);
        now.saturating_sub(since) >= paths.give_up_after
    }
}
