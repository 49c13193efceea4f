//! One flow: tells a node what this one wants and sends it messages, in order,
//! with a bounded number of frames under way.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use tokio::time::{Instant, sleep_until};
use trine_transport::{CallError, Lane};
use trine_types::NodeId;

use crate::bus::receiver::STALL_LIMIT;
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

/// Pause before the next attempt when the other node was not reached.
const RETRY: Duration = Duration::from_millis(100);

/// Longest wait for an answer: longer than a receiver there may hold it.
const ANSWER_LIMIT: Duration = STALL_LIMIT.saturating_add(Duration::from_secs(5));

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
}

/// Runs for as long as the node belongs to the cluster.
pub(super) async fn run_flow(
    shared: Arc<Shared>,
    peer: NodeId,
    outgoing: Arc<Outgoing>,
    incoming: Arc<Incoming>,
) {
    let now = Instant::now();
    let flight = FuturesOrdered::new();
    let mut flow = Flow { shared, peer, outgoing, incoming, flight, next_beat: now, rest_until: now };
    let mut timer = pin!(sleep_until(now));
    loop {
        if timer.deadline() != flow.next_beat {
            timer.as_mut().reset(flow.next_beat);
        }
        let room = flow.flight.len() < WINDOW;
        tokio::select! {
            biased;
            Some((sent, answer)) = flow.flight.next(), if !flow.flight.is_empty() => flow.answered(sent, answer),
            todo = poll_fn(|cx| flow.outgoing.poll_todo(cx)), if room && Instant::now() >= flow.rest_until => {
                flow.act(todo);
            }
            () = timer.as_mut() => flow.beat(),
        }
    }
}

impl Flow {
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
        self.next_beat = Instant::now() + BEAT;
    }

    fn start(&mut self) {
        let stream = self.shared.entropy.next_u64();
        self.shared.bus.wanted(|wanted| self.outgoing.start(stream, wanted));
    }

    fn answered(&mut self, sent: Position, answer: Result<Bytes, CallError>) {
        let heard = answer.map(|bytes| take_position(&mut &bytes[..]));
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
        self.next_beat = Instant::now() + BEAT;
        if self.outgoing.is_silent() {
            self.start();
        } else if self.flight.is_empty()
            && let Some(beat) = self.outgoing.beat()
        {
            self.send(beat);
        }
    }
}
