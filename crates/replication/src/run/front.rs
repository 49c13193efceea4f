//! One task per group on every node that uses it: takes this node's
//! proposals, brings them to the leader (itself or another node) by a
//! [`Link`], and, where this node leads, collects everyone's into batches.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::oneshot;
use tokio::time::Instant;
use trine_transport::{Call, CallError, Lane};
use trine_types::{GroupId, NodeNumber};

use super::door::{Arrival, Came, Inbox};
use super::proposer::{Finished, Origin, Proposer};
use super::server::PROPOSE;
use super::target::{Finder, Target};
use crate::batch::{Content, Part, SessionId};
use crate::error::ProposeError;
use crate::frames::{LeaderAnswer, encode_propose};
use crate::gather::Gather;
use crate::handle::{Reply, Timing};
use crate::link::{DEADLINE_GRAIN, Fault, Link, LinkLimits, Settled};
use crate::node::{Node, RETRY_PAUSE};
use crate::session::Outcome;

/// What a front is told.
pub(crate) enum FrontEvent {
    /// A proposal of this node.
    Propose { command: Bytes, waiter: Waiter },
    /// A part from another node, which takes this one for the leader.
    Forwarded { part: Part, reply: oneshot::Sender<LeaderAnswer<Outcome>>, received: Instant },
    /// If this node leads: commit an entry without commands.
    Control { at_least_ms: u64, content: Content, done: oneshot::Sender<()> },
}

impl Arrival for FrontEvent {
    fn is_single(&self) -> bool {
        matches!(self, Self::Propose { .. })
    }
}

/// Who waits for a proposal's reply.
pub(crate) struct Waiter {
    pub(crate) reply: oneshot::Sender<Result<Reply, ProposeError>>,
    pub(crate) since: Instant,
}

/// Events that are taken in one go.
const DRAIN: usize = 1024;
/// How long events wait at most before they are looked at, when what is on
/// its way takes long.
const REST: Duration = Duration::from_millis(2);
/// The first pause after a write was refused for want of a quorum; doubles.
const QUORUM_PAUSE: Duration = Duration::from_millis(2);

/// A frame on its way to another node.
struct FrameInFlight {
    call: Call,
    asked: NodeNumber,
    generation: u64,
    session: SessionId,
    first: u64,
}

struct FrameAnswered {
    asked: NodeNumber,
    generation: u64,
    session: SessionId,
    first: u64,
    answer: Result<Bytes, CallError>,
}

impl Future for FrameInFlight {
    type Output = FrameAnswered;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<FrameAnswered> {
        Pin::new(&mut self.call).poll(cx).map(|answer| FrameAnswered {
            asked: self.asked,
            generation: self.generation,
            session: self.session,
            first: self.first,
            answer,
        })
    }
}

/// See the module.
pub(crate) struct Front {
    node: Arc<Node>,
    group: GroupId,
    finder: Finder,
    target: Target,
    link: Link<Waiter>,
    proposer: Proposer,
    frames: FuturesUnordered<FrameInFlight>,
    /// Nothing is sent before this moment.
    hold_until: Option<Instant>,
    /// How long the last hold was.
    pause: Duration,
    /// How many commands the next batch or frame waits for.
    gather: Gather,
    /// Until when that is waited for, and how many are missing.
    company: Option<(Instant, usize)>,
    /// When callers' deadlines are looked at next.
    next_expiry: Option<Instant>,
    /// Until when new events wait in the inbox; see [`Front::rest`].
    rest_until: Option<Instant>,
}

impl Front {
    pub(crate) fn new(node: &Arc<Node>, group: GroupId, finder: Finder) -> Self {
        let limits = LinkLimits {
            commands: node.config.waiting_commands,
            bytes: node.config.waiting_bytes,
            window: 2048,
            frame_commands: 512,
            frame_bytes: 512 * 1024,
        };
        Self {
            node: node.clone(),
            group,
            finder,
            target: Target::Nobody,
            link: Link::new(node.number, node.incarnation, limits),
            proposer: Proposer::new(node, group),
            frames: FuturesUnordered::new(),
            hold_until: None,
            pause: Duration::ZERO,
            gather: Gather::default(),
            company: None,
            next_expiry: None,
            rest_until: None,
        }
    }

    /// After events were taken: while something is on its way that they would
    /// wait for anyway, more of them gather in the inbox without waking this
    /// task for each.
    fn rest(&mut self, inbox: &Inbox<FrontEvent>) {
        let under_way = !self.frames.is_empty() || !self.proposer.may_write();
        let company = self.company.map(|(until, _)| until);
        self.rest_until = company.or_else(|| under_way.then(|| Instant::now() + REST));
        inbox.ring_at(self.company.map(|(_, missing)| missing));
    }

    async fn event(&mut self, event: FrontEvent) {
        match event {
            FrontEvent::Propose { command, waiter } => {
                let deadline = waiter.since + self.node.config.propose_deadline;
                if let Err(waiter) = self.link.push(command, waiter, deadline) {
                    let _ = waiter.reply.send(Err(ProposeError::Overloaded(self.group)));
                }
            }
            FrontEvent::Forwarded { part, reply, received } => {
                if matches!(self.target, Target::Here(_)) {
                    self.proposer.collect(part, Origin::Remote { reply, received });
                } else {
                    let leader = self.target.number(self.node.number);
                    let _ = reply.send(LeaderAnswer::NotLeader(leader));
                }
            }
            FrontEvent::Control { at_least_ms, content, done } => {
                // Elsewhere `done` is dropped: the caller asks again or gives up.
                if let Target::Here(local) = self.target.clone() {
                    self.proposer.control(&local, at_least_ms, content, done).await;
                }
            }
        }
    }

    /// Looks again who leads; what was under way to someone else is resent.
    fn retarget(&mut self) {
        let before = self.target.number(self.node.number);
        self.target = self.finder.target();
        if self.target.number(self.node.number) == before {
            return;
        }
        self.link.lost_all();
        // A frame that hangs at a paused node must not hold up the next one.
        // Its commands are sent again; sessions drop what arrives twice.
        self.frames.clear();
        self.hold_until = None;
        self.pause = Duration::ZERO;
        if !matches!(self.target, Target::Here(_)) {
            let leader = self.target.number(self.node.number);
            for origin in self.proposer.take_back() {
                self.give_back(origin, leader);
            }
        }
    }

    fn give_back(&mut self, origin: Origin, leader: Option<NodeNumber>) {
        match origin {
            Origin::Link { generation, .. } => {
                self.link.lost(generation);
            }
            Origin::Remote { reply, .. } => {
                let _ = reply.send(LeaderAnswer::NotLeader(leader));
            }
        }
    }

    fn hold(&mut self, pause: Duration) {
        self.pause = (self.pause * 2).clamp(pause, RETRY_PAUSE * 5);
        self.hold_until = Some(Instant::now() + self.pause);
        // Nothing leaves before that: nobody must wake the task for company.
        self.company = None;
    }

    /// Looks for whom to ask next after one that was of no use. There is no
    /// pause before one who was named; before one whose turn it is there is,
    /// or nodes that are all down would be asked in turn without end.
    fn look_on(&mut self, pause: Duration, named: bool) {
        self.hold(pause);
        let (until, pause) = (self.hold_until, self.pause);
        self.retarget();
        if !named {
            (self.hold_until, self.pause) = (until, pause);
        }
    }

    /// A batch of this leader came back.
    fn finished(&mut self, finished: Finished) {
        match finished {
            Finished::Applied(parts) => {
                self.pause = Duration::ZERO;
                let answered = parts.iter().map(|(_, results)| results.len()).sum();
                self.gather.came_back(Instant::now(), answered, self.waiting());
                for (origin, results) in parts {
                    match origin {
                        Origin::Remote { reply, received } => {
                            let processing = received.elapsed();
                            let _ = reply.send(LeaderAnswer::Results { processing, results });
                        }
                        Origin::Link { generation, session, first } => {
                            let settled = self.link.answered(generation, session, first, results);
                            self.settle(settled, None);
                        }
                    }
                }
            }
            Finished::NotLeader { origins, leader, no_quorum } => {
                for origin in origins {
                    self.give_back(origin, leader);
                }
                self.hold(if no_quorum { QUORUM_PAUSE } else { RETRY_PAUSE / 4 });
                self.retarget();
            }
        }
    }

    /// A frame to another node was answered.
    fn answered(&mut self, frame: FrameAnswered) {
        let decoded = frame
            .answer
            .map_err(|error| error.to_string())
            .and_then(|bytes| LeaderAnswer::<Outcome>::decode(bytes).map_err(|error| error.to_string()));
        match decoded {
            Ok(LeaderAnswer::Results { processing, results }) => {
                self.pause = Duration::ZERO;
                self.gather.came_back(Instant::now(), results.len(), self.waiting());
                let settled = self.link.answered(frame.generation, frame.session, frame.first, results);
                self.settle(settled, Some(processing));
            }
            Ok(LeaderAnswer::NotLeader(leader)) => {
                if self.link.lost(frame.generation) {
                    self.finder.not_leader(frame.asked, leader);
                    self.look_on(RETRY_PAUSE / 4, leader.is_some());
                }
            }
            Err(error) => {
                if self.link.lost(frame.generation) {
                    tracing::debug!(group = %self.group, asked = %frame.asked, error, "a frame was lost");
                    self.finder.failed(frame.asked);
                    self.look_on(RETRY_PAUSE, false);
                }
            }
        }
    }

    fn settle(&self, settled: Settled<Waiter>, processing: Option<Duration>) {
        for (waiter, result) in settled {
            let total = waiter.since.elapsed();
            let timing = Timing {
                total,
                processing: processing.map_or(total, |processing| processing.min(total)),
                forwarded: processing.is_some(),
            };
            let reply = match result {
                Ok(body) => Ok(Reply { body, timing }),
                Err(Fault::NotSent) => Err(ProposeError::Unavailable(self.group)),
                Err(Fault::Unknown) => Err(ProposeError::OutcomeUnknown(self.group)),
            };
            // Whoever waited may have given up.
            let _ = waiter.reply.send(reply);
        }
    }

    /// Commands that the next batch or frame would carry.
    fn waiting(&self) -> usize {
        self.proposer.commands() + self.link.unsent()
    }

    /// Whether what may leave waits for company; sets for how much.
    fn waits_for_company(&mut self) -> bool {
        let limit = self.node.config.in_flight;
        let may_send = match &self.target {
            Target::Here(_) => self.proposer.may_write(),
            Target::There(..) => self.frames.len() < limit,
            Target::Nobody => false,
        };
        self.company = if may_send { self.gather.wait(Instant::now(), self.waiting()) } else { None };
        self.company.is_some()
    }

    /// Sends whatever may leave now.
    async fn pump(&mut self) {
        if self.hold_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        self.hold_until = None;
        if self.waits_for_company() {
            return;
        }
        match self.target.clone() {
            Target::Here(local) => {
                while self.proposer.may_write() {
                    while self.proposer.has_room() {
                        let Some(frame) = self.link.next_frame() else { break };
                        let part = &frame.part;
                        let (session, first) = (part.session, part.first);
                        let origin = Origin::Link { generation: frame.generation, session, first };
                        self.proposer.collect(frame.part, origin);
                    }
                    if self.proposer.is_empty() {
                        break;
                    }
                    self.gather.left(Instant::now());
                    self.proposer.write(&local).await;
                }
            }
            Target::There(asked, key) => {
                let limit = self.node.config.in_flight;
                while self.frames.len() < limit {
                    let Some(frame) = self.link.next_frame() else { break };
                    let (session, first) = (frame.part.session, frame.part.first);
                    let body = encode_propose(self.group, &frame.part);
                    let deadline = self.node.config.frame_deadline;
                    let call = self.node.endpoint.call(key, Lane::Request, PROPOSE, body, deadline);
                    self.gather.left(Instant::now());
                    let generation = frame.generation;
                    self.frames.push(FrameInFlight { call, asked, generation, session, first });
                }
            }
            Target::Nobody => {
                if !self.link.is_idle() {
                    self.hold(RETRY_PAUSE);
                }
            }
        }
    }

    fn expire(&mut self) {
        let now = Instant::now();
        if self.next_expiry.is_some_and(|at| now < at) {
            return;
        }
        let settled = self.link.expire(now);
        self.settle(settled, None);
        // Looked at no more often than the grain, so that a timer is not set
        // for each command.
        self.next_expiry = self.link.next_deadline().map(|at| at.max(now) + DEADLINE_GRAIN);
    }

    fn wake_at(&self) -> Option<Instant> {
        [self.hold_until, self.next_expiry, self.rest_until].into_iter().flatten().min()
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Runs until the route is dropped.
pub(crate) async fn run(mut front: Front, mut inbox: Inbox<FrontEvent>) {
    let mut events = Vec::with_capacity(DRAIN);
    front.retarget();
    loop {
        let wake_at = front.wake_at();
        let (mut woken, mut took) = (false, false);
        tokio::select! {
            biased;
            finished = front.proposer.finished() => {
                front.rest_until = None;
                front.finished(finished);
            }
            Some(answered) = front.frames.next(), if !front.frames.is_empty() => {
                front.rest_until = None;
                front.answered(answered);
            }
            () = front.finder.changed() => front.retarget(),
            came = inbox.next(front.rest_until.is_some(), &mut events, DRAIN) => match came {
                Came::End => break,
                Came::Bell => front.rest_until = None,
                Came::Arrivals => {
                    took = true;
                    for event in events.drain(..) {
                        front.event(event).await;
                    }
                }
            },
            () = sleep_until(wake_at) => woken = true,
        }
        if front.rest_until.is_some_and(|until| Instant::now() >= until) {
            front.rest_until = None;
        }
        let mut gathered = took;
        while !took
            && front.rest_until.is_none()
            && let Some(event) = inbox.try_recv()
        {
            gathered = true;
            front.event(event).await;
        }
        if woken && front.hold_until.is_some() && !matches!(front.target, Target::Here(_)) {
            front.retarget();
        }
        front.expire();
        front.pump().await;
        if gathered || front.company.is_some() {
            front.rest(&inbox);
        }
    }
    for (waiter, _) in front.link.close() {
        let _ = waiter.reply.send(Err(ProposeError::ShutDown));
    }
}
