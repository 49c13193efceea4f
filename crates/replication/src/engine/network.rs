//! openraft's network over the node's lanes: appends of a leader's stream on
//! `log` (pipelined), votes, heartbeats and hand-overs on `control`, snapshots
//! chunk by chunk on `bulk`. A broken connection ends a stream with an error,
//! since openraft itself never times one out.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, Either};
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, stream_append_sequential};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use tokio::time::{Instant, Sleep, sleep_until};
use trine_storage::Workers;
use trine_transport::{Call, Endpoint, Lane, Service};
use trine_types::{GroupId, NodeId};

use super::acks::Acks;
use super::snapshot::{SnapshotData, next_chunk};
use super::wire::{
    AppendFrame, AppendReply, ChunkHead, ControlReply, ControlRequest, decode_reply, encode_chunk, encode_for,
};
use super::{Member, Types, Vote};
use crate::config::ValidConfig;
use crate::proof::Turn;

pub(crate) const CONTROL: Service = Service(0x01);
pub(crate) const APPEND: Service = Service(0x02);
pub(crate) const SNAPSHOT: Service = Service(0x03);

/// Append messages of one stream under way at once. openraft's server side
/// keeps at most 64.
const STREAM_WINDOW: usize = 32;

type Rpc<T> = Result<T, RPCError<Types>>;
type Snapshot = openraft::alias::SnapshotOf<Types, SnapshotData>;

fn unreachable_because(error: &(impl std::error::Error + 'static)) -> RPCError<Types> {
    RPCError::Unreachable(Unreachable::new(error))
}

/// Makes the connections of one group.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) endpoint: Endpoint,
    pub(crate) group: GroupId,
    pub(crate) workers: Workers,
    pub(crate) config: Arc<ValidConfig>,
    /// Numbers streams and transfers; starts at the incarnation times 2^32.
    pub(crate) serial: Arc<AtomicU64>,
    /// Who answered what.
    pub(crate) acks: Arc<Acks>,
}

/// A way to one peer.
pub(crate) struct Peer {
    network: Network,
    number: u64,
    key: NodeId,
    /// Heartbeats are single messages on the control lane.
    for_heartbeats: bool,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Peer;

    async fn new_client(&mut self, number: u64, node: &Member) -> Peer {
        Peer { network: self.clone(), number, key: node.key, for_heartbeats: false }
    }

    async fn new_heartbeat_client(&mut self, number: u64, node: &Member) -> Peer {
        Peer { network: self.clone(), number, key: node.key, for_heartbeats: true }
    }
}

impl Peer {
    fn control(
        &self,
        request: &ControlRequest,
        option: &RPCOption,
    ) -> impl Future<Output = Rpc<ControlReply>> + Send + 'static {
        let call = encode_for(self.network.group, request).map(|body| {
            let deadline = option.hard_ttl().max(self.network.config.heartbeat);
            self.network.endpoint.call(self.key, Lane::Control, CONTROL, body, deadline)
        });
        async move {
            let reply = call.map_err(|error| unreachable_because(&error))?.await;
            let reply = reply.map_err(|error| unreachable_because(&error))?;
            decode_reply(&reply).map_err(|error| unreachable_because(&error))
        }
    }

    fn frame(&self, stream: u64, request: AppendEntriesRequest<Types>) -> io::Result<Bytes> {
        AppendFrame { group: self.network.group, stream, request }.encode()
    }

    async fn send_chunk(
        &self,
        head: &ChunkHead,
        rows: &[(Bytes, Bytes)],
    ) -> Result<Bytes, StreamingError<Types>> {
        let body = encode_chunk(self.network.group, head, rows)
            .map_err(|error| StreamingError::Unreachable(Unreachable::new(&error)))?;
        let deadline = self.network.config.chunk_deadline;
        let reply = self.network.endpoint.call(self.key, Lane::Bulk, SNAPSHOT, body, deadline).await;
        reply.map_err(|error| StreamingError::Unreachable(Unreachable::new(&error)))
    }

    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: Snapshot,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let SnapshotData::Rows(view) = snapshot.snapshot else {
            let error = io::Error::other("a snapshot that was received is not sent on");
            return Err(StreamingError::Unreachable(Unreachable::new(&error)));
        };
        let transfer = self.network.serial.fetch_add(1, Ordering::Relaxed);
        let (mut number, mut after) = (0, None::<Bytes>);
        loop {
            let (source, from) = (view.clone(), after.clone());
            let chunk = self.network.workers.run(move || next_chunk(&*source, from.as_deref())).await;
            let chunk = chunk.map_err(|error| StreamingError::Unreachable(Unreachable::new(&error)))?;
            let (rows, last) =
                chunk.map_err(|error| StreamingError::Unreachable(Unreachable::new(&error)))?;
            let finish = last.then(|| (vote, snapshot.meta.clone()));
            let reply = self.send_chunk(&ChunkHead { transfer, number, finish }, &rows).await?;
            if last {
                return decode_reply(&reply)
                    .map_err(|error| StreamingError::Unreachable(Unreachable::new(&error)));
            }
            after = rows.last().map(|(key, _)| key.clone());
            number += 1;
        }
    }
}

fn unexpected() -> RPCError<Types> {
    unreachable_because(&io::Error::other("an answer of another kind"))
}

impl RaftNetworkV2<Types> for Peer {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Rpc<AppendEntriesResponse<Types>> {
        let (term, sent) = (rpc.vote.leader_id.term, self.network.acks.turn());
        let frame = self.frame(0, rpc).map_err(|error| unreachable_because(&error))?;
        let ControlReply::Heartbeat(response) =
            self.control(&ControlRequest::Heartbeat(frame.to_vec()), &option).await?
        else {
            return Err(unexpected());
        };
        if !matches!(response, AppendEntriesResponse::HigherVote(_)) {
            self.network.acks.answered(self.number, term, sent);
        }
        Ok(response)
    }

    fn stream_append<S>(
        &mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'_, Rpc<BoxStream<'_, Rpc<StreamAppendResult<Types>>>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        if self.for_heartbeats {
            return stream_append_sequential(self, input, option);
        }
        let stream = self.network.serial.fetch_add(1, Ordering::Relaxed);
        let stream = AppendStream {
            peer: self,
            stream,
            input: Some(input),
            calls: VecDeque::new(),
            begun: false,
            held: None,
            patience: None,
        };
        async move { Ok(stream.boxed()) }.boxed()
    }

    async fn vote(&mut self, rpc: VoteRequest<Types>, option: RPCOption) -> Rpc<VoteResponse<Types>> {
        match self.control(&ControlRequest::Vote(rpc), &option).await? {
            ControlReply::Vote(response) => Ok(response),
            _ => Err(unexpected()),
        }
    }

    async fn pre_vote(&mut self, rpc: VoteRequest<Types>, option: RPCOption) -> Rpc<VoteResponse<Types>> {
        match self.control(&ControlRequest::PreVote(rpc), &option).await? {
            ControlReply::Vote(response) => Ok(response),
            _ => Err(unexpected()),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let send = self.send_snapshot(vote, snapshot);
        match futures::future::select(pin!(cancel), pin!(send)).await {
            Either::Left((closed, _)) => Err(StreamingError::Closed(closed)),
            Either::Right((result, _)) => result,
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Rpc<TransferLeaderResponse<Types>> {
        match self.control(&ControlRequest::TransferLeader(req), &option).await? {
            ControlReply::TransferLeader(response) => Ok(response),
            _ => Err(unexpected()),
        }
    }
}

/// How long news of what is committed, and nothing else, waits for entries to
/// travel with: longer than the pause between two batches under load.
const COMMIT_PATIENCE: Duration = Duration::from_millis(10);

/// A leader's stream of appends to one follower: up to [`STREAM_WINDOW`] calls
/// in flight, answers in order; the first error ends it.
struct AppendStream<'s, S> {
    peer: &'s Peer,
    stream: u64,
    /// `None` once it ended.
    input: Option<S>,
    calls: VecDeque<Sent>,
    /// Whether something was sent.
    begun: bool,
    /// A message without entries that need not leave yet. openraft takes an
    /// answer for all messages up to what it acknowledges.
    held: Option<Held>,
    /// Wakes the stream when `held` has waited long enough, or before.
    patience: Option<Pin<Box<Sleep>>>,
}

/// A message on its way, or its answer.
struct Sent {
    call: Call,
    term: u64,
    turn: Turn,
}

struct Held {
    request: AppendEntriesRequest<Types>,
    until: Instant,
}

impl<S: Stream<Item = AppendEntriesRequest<Types>> + Unpin> AppendStream<'_, S> {
    /// Starts calls for what the leader has to send.
    fn fill(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while let Some(input) = &mut self.input {
            if self.calls.len() >= STREAM_WINDOW {
                return Ok(());
            }
            match input.poll_next_unpin(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => self.input = None,
                Poll::Ready(Some(request)) if request.entries.is_empty() && self.begun => {
                    let until = self.held.as_ref().map(|held| held.until);
                    let until = until.unwrap_or_else(|| Instant::now() + COMMIT_PATIENCE);
                    self.held = Some(Held { request, until });
                }
                Poll::Ready(Some(request)) => {
                    // It says what the one that was held says.
                    self.held = None;
                    self.send(request)?;
                }
            }
        }
        if self.is_held_no_longer(cx)
            && let Some(held) = self.held.take()
        {
            self.send(held.request)?;
        }
        Ok(())
    }

    /// Whether what is held has to leave now; if not, wakes the task when it has.
    fn is_held_no_longer(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(held) = &self.held else { return false };
        if self.input.is_none() {
            return true;
        }
        loop {
            if Instant::now() >= held.until {
                return true;
            }
            // It may have been set for one that did not have to wait so long.
            let sleep = self.patience.get_or_insert_with(|| Box::pin(sleep_until(held.until)));
            if sleep.as_mut().poll(cx).is_pending() {
                return false;
            }
            sleep.as_mut().reset(held.until);
        }
    }

    /// The deadline is long: an append may be large, and a dead peer breaks the
    /// connection sooner.
    fn send(&mut self, request: AppendEntriesRequest<Types>) -> io::Result<()> {
        let network = &self.peer.network;
        let (term, turn) = (request.vote.leader_id.term, network.acks.turn());
        let body = self.peer.frame(self.stream, request)?;
        let deadline = network.config.append_deadline.max(Duration::from_millis(1));
        let call = network.endpoint.call(self.peer.key, Lane::Log, APPEND, body, deadline);
        self.calls.push_back(Sent { call, term, turn });
        self.begun = true;
        Ok(())
    }

    fn fail(&mut self, error: &(impl std::error::Error + 'static)) -> RPCError<Types> {
        self.input = None;
        self.held = None;
        self.calls.clear();
        unreachable_because(error)
    }
}

impl<S: Stream<Item = AppendEntriesRequest<Types>> + Unpin> Stream for AppendStream<'_, S> {
    type Item = Rpc<StreamAppendResult<Types>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Err(error) = self.fill(cx) {
            return Poll::Ready(Some(Err(self.fail(&error))));
        }
        let Some(Sent { call, term, turn }) = self.calls.front_mut() else {
            return if self.input.is_none() { Poll::Ready(None) } else { Poll::Pending };
        };
        let (term, turn) = (*term, *turn);
        let answer = match Pin::new(call).poll(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(answer) => answer,
        };
        self.calls.pop_front();
        let item = match answer {
            Err(error) => Err(self.fail(&error)),
            Ok(bytes) => match decode_reply::<AppendReply>(&bytes) {
                Err(error) => Err(self.fail(&error)),
                Ok(AppendReply(result)) => {
                    if !matches!(result, Err(StreamAppendError::HigherVote(_))) {
                        self.peer.network.acks.answered(self.peer.number, term, turn);
                    }
                    if result.is_err() {
                        self.input = None;
                        self.held = None;
                        self.calls.clear();
                    }
                    Ok(result)
                }
            },
        };
        Poll::Ready(Some(item))
    }
}
