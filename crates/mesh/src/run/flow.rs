//! One flow: tells a node what this one wants and sends it messages, in order,
//! with a bounded number of frames under way. A node that members believe to
//! have failed is given up as soon as the flow does not hear it either; TCP
//! alone would take seconds.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use trine_transport::{CallError, Lane};
use trine_types::NodeId;

use crate::bus::receiver::LINK_HOLD_LIMIT;
use crate::handle::{MESSAGES, Shared};
use crate::link::codec::take_position;
use crate::link::interest::Position;
use crate::link::{Batch, Incoming, Outgoing, Todo};

/// Frames under way without an answer. More of them hide longer round trips;
/// fewer notice a slow receiver sooner.
const WINDOW: usize = 16;

/// How often a quiet flow asks whether the other node still knows what this
/// one wants: how late a one-sided loss is noticed at worst.
const BEAT: Duration = Duration::from_millis(500);

/// Beats wait for a line of this period.
const LINE: Duration = Duration::from_millis(100);

/// A node that members believe to have failed is given up after this long
/// without a frame or an answer: two beats. Shorter would let a busy control
/// lane cut off who is there.
const SILENCE: Duration = BEAT.saturating_mul(2);

/// Pause before the next attempt when the other node was not reached.
const RETRY: Duration = Duration::from_millis(100);

/// Longest wait for an answer: longer than a receiver there may hold it.
const ANSWER_LIMIT: Duration = LINK_HOLD_LIMIT.saturating_add(Duration::from_secs(3));

type Flight = BoxFuture<'static, (Position, Result<Bytes, CallError>)>;

struct Flow {
    shared: Arc<Shared>,
    peer: NodeId,
    outgoing: Arc<Outgoing>,
    incoming: Arc<Incoming>,
    /// Frames without an answer, oldest first.
    flight: FuturesOrdered<Flight>,
    next_beat: Instant,
    /// A stream is not started before this.
    rest_until: Instant,
    /// Nodes that members believe to have failed.
    failed: watch::Receiver<BTreeSet<NodeId>>,
    /// When the node last answered.
    answered_at: Instant,
    /// When to give the node up unless it is heard before: members believe
    /// that it has failed.
    give_up_at: Option<Instant>,
}

/// Runs for as long as the node belongs to the cluster.
pub(super) async fn run_flow(
    shared: Arc<Shared>,
    peer: NodeId,
    outgoing: Arc<Outgoing>,
    incoming: Arc<Incoming>,
) {
    let mut flow = Flow::new(shared, peer, outgoing, incoming, Instant::now());
    let mut timer = pin!(sleep_until(flow.next_beat));
    flow.judge();
    loop {
        let due = flow.give_up_at.map_or(flow.next_beat, |at| at.min(flow.next_beat));
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        let room = flow.flight.len() < WINDOW;
        tokio::select! {
            biased;
            Some((sent, answer)) = flow.flight.next(), if !flow.flight.is_empty() => flow.answered(sent, answer),
            todo = poll_fn(|cx| flow.outgoing.poll_todo(cx)), if room && Instant::now() >= flow.rest_until => {
                flow.act(todo);
            }
            Ok(()) = flow.failed.changed() => flow.judge(),
            () = timer.as_mut() => flow.wake(),
        }
    }
}

impl Flow {
    fn new(
        shared: Arc<Shared>,
        peer: NodeId,
        outgoing: Arc<Outgoing>,
        incoming: Arc<Incoming>,
        now: Instant,
    ) -> Self {
        let failed = shared.failed.clone();
        let flight = FuturesOrdered::new();
        Self {
            shared,
            peer,
            outgoing,
            incoming,
            flight,
            next_beat: now,
            rest_until: now,
            failed,
            answered_at: now,
            give_up_at: None,
        }
    }

    fn wake(&mut self) {
        let now = Instant::now();
        if self.give_up_at.is_some_and(|at| at <= now) {
            self.doubt(now);
        }
        if self.next_beat <= now {
            self.beat();
        }
    }

    /// Members believe that the node has failed, or no longer.
    fn judge(&mut self) {
        let failed = self.failed.borrow_and_update().contains(&self.peer);
        if failed {
            self.doubt(Instant::now());
        } else if self.give_up_at.take().is_some() || self.outgoing.is_silent() {
            (self.rest_until, self.next_beat) = (Instant::now(), Instant::now());
        }
    }

    /// Gives the node up if it is silent here, too; else looks again.
    fn doubt(&mut self, now: Instant) {
        let at = self.answered_at.max(self.incoming.heard()) + SILENCE;
        // It may be heard and cut off again before members change their mind.
        self.give_up_at = Some(at.max(now + RETRY));
        if at <= now && self.shared.bus.wants_of(self.peer) > 0 {
            tracing::debug!(peer = %self.peer.short(), "failed, and silent: its flow is given up");
            self.fail();
        }
    }

    fn act(&mut self, todo: Todo) {
        match todo {
            Todo::Send(batch) => self.send(batch),
            Todo::Start => self.start(),
            Todo::Reset => self.fail(),
        }
    }

    fn send(&mut self, batch: Batch) {
        let Batch { bytes, end } = batch;
        let call = self.shared.endpoint.call(self.peer, Lane::Request, MESSAGES, bytes, ANSWER_LIMIT);
        self.flight.push_back(Box::pin(async move { (end, call.await) }));
        self.next_beat = self.beat_due();
    }

    /// A beat after what is sent now, on the line of all beats.
    fn beat_due(&self) -> Instant {
        self.shared.endpoint.grid().line(Instant::now() + BEAT, LINE)
    }

    fn start(&mut self) {
        let stream = self.shared.entropy.next_u64();
        self.shared.bus.wanted(|wanted| self.outgoing.start(stream, wanted));
    }

    fn answered(&mut self, sent: Position, answer: Result<Bytes, CallError>) {
        let heard = answer.map(|bytes| take_position(&mut &bytes[..]));
        if heard.is_ok() {
            self.answered_at = Instant::now();
        }
        match heard {
            Ok(Ok(heard)) if self.outgoing.answered(sent, heard) => {}
            // The other node does not know this one yet, or forgot it.
            Ok(Ok(_)) => self.rest(),
            Ok(Err(error)) => {
                tracing::warn!(peer = %self.peer.short(), %error, "cannot read an answer");
                self.fail();
            }
            Err(error) => {
                tracing::debug!(peer = %self.peer.short(), %error, "a flow of messages broke");
                self.fail();
            }
        }
    }

    /// Nothing gets through: forget what the other node wants, and what waited
    /// for it, until it is reached or heard again.
    fn fail(&mut self) {
        self.flight = FuturesOrdered::new();
        self.outgoing.fail();
        self.incoming.forget();
        self.rest();
    }

    fn rest(&mut self) {
        self.rest_until = Instant::now() + RETRY;
        self.next_beat = self.rest_until;
    }

    fn beat(&mut self) {
        self.next_beat = self.beat_due();
        if self.outgoing.is_silent() {
            self.start();
        } else if self.flight.is_empty()
            && let Some(beat) = self.outgoing.beat()
        {
            self.send(beat);
        }
    }
}
