//! The leader's side of proposals: parts of many entry nodes are collected
//! while earlier batches are on their way, and leave as one Raft entry. Few
//! batches in flight make fat ones: with nothing in flight a command leaves at
//! once, under load each round carries whatever came meanwhile.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::StreamExt;
use futures::stream::FuturesOrdered;
use openraft::errors::{ClientWriteError, ForwardReason};
use openraft::impls::OneshotResponder;
use openraft::raft::ClientWriteResult;
use tokio::sync::oneshot;
use tokio::time::Instant;
use trine_types::{GroupId, NodeNumber};

use crate::batch::{Batch, Content, MAX_BATCH_PARTS, Part, SessionId};
use crate::engine::{Command, Types};
use crate::frames::LeaderAnswer;
use crate::node::{Local, Node};
use crate::session::Outcome;

/// Bytes of commands in one batch, unless a single part is larger.
const BATCH_BYTES: usize = 1 << 20;

/// Who waits for the outcomes of a part.
pub(crate) enum Origin {
    /// This node's own link.
    Link { generation: u64, session: SessionId, first: u64 },
    /// Another node.
    Remote { reply: oneshot::Sender<LeaderAnswer<Outcome>>, received: Instant },
}

/// What a batch that came back tells the front.
pub(crate) enum Finished {
    /// It was applied: outcomes per part.
    Applied(Vec<(Origin, Vec<Outcome>)>),
    /// This node did not lead it to the end; whether it is applied later is
    /// not known.
    NotLeader { origins: Vec<Origin>, leader: Option<NodeNumber>, no_quorum: bool },
}

type Written = openraft::alias::OneshotReceiverOf<Types, ClientWriteResult<Types>>;

struct InFlight {
    written: Written,
    origins: Vec<Origin>,
    control: Vec<oneshot::Sender<()>>,
}

impl Future for InFlight {
    type Output = Finished;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Finished> {
        let result = match Pin::new(&mut self.written).poll(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(result) => result,
        };
        let origins = std::mem::take(&mut self.origins);
        Poll::Ready(match result {
            Ok(Ok(response)) => {
                for waiting in self.control.drain(..) {
                    // Nobody has to wait for it.
                    let _ = waiting.send(());
                }
                Finished::Applied(origins.into_iter().zip(response.data.0).collect())
            }
            Ok(Err(error)) => {
                let (leader, no_quorum) = match error {
                    ClientWriteError::ForwardToLeader(forward)
                    | ClientWriteError::LogEntryDiscarded(forward) => {
                        (forward.leader_id, forward.reason == ForwardReason::LeaseExpired)
                    }
                    _ => (None, false),
                };
                Finished::NotLeader { origins, leader: leader.map(NodeNumber), no_quorum }
            }
            // The replica has stopped.
            Err(_) => Finished::NotLeader { origins, leader: None, no_quorum: false },
        })
    }
}

/// See the module.
pub(crate) struct Proposer {
    node: Arc<Node>,
    group: GroupId,
    parts: Vec<Part>,
    origins: Vec<Origin>,
    bytes: usize,
    in_flight: FuturesOrdered<InFlight>,
}

impl Proposer {
    pub(crate) fn new(node: &Arc<Node>, group: GroupId) -> Self {
        Self {
            node: node.clone(),
            group,
            parts: Vec::new(),
            origins: Vec::new(),
            bytes: 0,
            in_flight: FuturesOrdered::new(),
        }
    }

    /// Whether the batch in the making takes more.
    pub(crate) fn has_room(&self) -> bool {
        self.parts.len() < MAX_BATCH_PARTS && self.bytes < BATCH_BYTES
    }

    /// Whether another batch may leave.
    pub(crate) fn may_write(&self) -> bool {
        self.in_flight.len() < self.node.config.in_flight
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Commands of the batch in the making.
    pub(crate) fn commands(&self) -> usize {
        self.parts.iter().map(|part| part.commands.len()).sum()
    }

    pub(crate) fn collect(&mut self, part: Part, origin: Origin) {
        self.bytes += part.cost();
        self.parts.push(part);
        self.origins.push(origin);
    }

    /// Gives back what was collected and has not left.
    pub(crate) fn take_back(&mut self) -> Vec<Origin> {
        self.parts.clear();
        self.bytes = 0;
        std::mem::take(&mut self.origins)
    }

    /// The next batch that came back; never if none is on its way.
    pub(crate) async fn finished(&mut self) -> Finished {
        match self.in_flight.next().await {
            Some(finished) => finished,
            None => std::future::pending().await,
        }
    }

    /// Sends what was collected as one entry.
    pub(crate) async fn write(&mut self, local: &Local) {
        let parts = self.take_parts();
        let origins = std::mem::take(&mut self.origins);
        let now = self.node.clock.wall_ms();
        self.submit(local, now, Content::Commands(parts), origins, Vec::new()).await;
    }

    fn take_parts(&mut self) -> Vec<Part> {
        self.bytes = 0;
        // The largest prefix that fits a batch; at least one part.
        let mut bytes = 0;
        let fits = |part: &Part| {
            bytes += part.cost();
            bytes <= BATCH_BYTES
        };
        let count = self.parts.iter().map(fits).take_while(|fits| *fits).count().max(1).min(self.parts.len());
        let rest = self.parts.split_off(count);
        let parts = std::mem::replace(&mut self.parts, rest);
        self.bytes = self.parts.iter().map(Part::cost).sum();
        parts
    }

    /// Sends an entry without commands. `done` hears when it is applied, and
    /// is dropped when that is not certain.
    pub(crate) async fn control(
        &mut self,
        local: &Local,
        at_least_ms: u64,
        content: Content,
        done: oneshot::Sender<()>,
    ) {
        let time_ms = self.node.clock.wall_ms().max(at_least_ms);
        self.submit(local, time_ms, content, Vec::new(), vec![done]).await;
    }

    async fn submit(
        &mut self,
        local: &Local,
        time_ms: u64,
        content: Content,
        mut origins: Vec<Origin>,
        control: Vec<oneshot::Sender<()>>,
    ) {
        let rest = match &content {
            Content::Commands(parts) => origins.split_off(parts.len().min(origins.len())),
            Content::Mark | Content::Verdict { .. } => Vec::new(),
        };
        self.origins = rest.into_iter().chain(self.origins.drain(..)).collect();
        let seed = self.node.entropy.next_u64();
        let batch = Batch { semantics: self.node.config.semantics, time_ms, seed, content };
        let (responder, written) = OneshotResponder::new_pair();
        local.wake().await;
        // An error (the replica has stopped) also drops the responder.
        if let Err(error) = local.raft.client_write_ff(Command(batch.encode()), Some(responder)).await {
            tracing::debug!(group = %self.group, %error, "a batch was not taken");
        }
        self.in_flight.push_back(InFlight { written, origins, control });
    }
}
