//! What other nodes ask of this one. Handlers only decode and enqueue; the
//! order of arrival is kept for appends and proposals.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use openraft::raft::AppendEntriesRequest;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use trine_transport::{CallRefused, Handler, Service};
use trine_types::{GroupId, NodeId};

use super::front::FrontEvent;
use super::reader::{Ask, Asker};
use crate::bytes_codec::DecodeError;
use crate::engine::network::{APPEND, CONTROL, SNAPSHOT};
use crate::engine::wire::{
    AppendFrame, AppendReply, ControlReply, ControlRequest, decode_chunk, decode_for, encode_reply,
};
use crate::engine::{Types, Vote};
use crate::frames::{LeaderAnswer, decode_propose, decode_query};
use crate::node::{Local, Node};
use crate::planted;

pub(crate) const PROPOSE: Service = Service(0x04);
pub(crate) const QUERY: Service = Service(0x05);
pub(crate) const BEAT: Service = Service(0x06);
pub(crate) const DIGEST: Service = Service(0x07);

type Answer = BoxFuture<'static, Result<Bytes, CallRefused>>;

fn refuse(refused: CallRefused) -> Answer {
    ready(Err(refused)).boxed()
}

fn malformed(error: DecodeError) -> CallRefused {
    tracing::warn!(%error, "a message was not understood");
    CallRefused::Malformed
}

/// One service of this room, as a function. The node holds the endpoint, which
/// holds this: a strong one would keep both for ever.
struct Served<F> {
    node: Weak<Node>,
    serve: F,
}

impl<F> Handler for Served<F>
where
    F: Fn(&Arc<Node>, NodeId, Bytes) -> Answer + Send + Sync + 'static,
{
    fn handle(&self, from: NodeId, body: Bytes) -> Answer {
        match self.node.upgrade() {
            Some(node) => (self.serve)(&node, from, body),
            None => ready(Err(CallRefused::Unavailable)).boxed(),
        }
    }
}

fn add<F>(node: &Arc<Node>, service: Service, serve: F)
where
    F: Fn(&Arc<Node>, NodeId, Bytes) -> Answer + Send + Sync + 'static,
{
    node.endpoint.serve(service, Arc::new(Served { node: Arc::downgrade(node), serve }));
}

/// Begins to serve other nodes.
pub(crate) fn serve(node: &Arc<Node>) {
    add(node, CONTROL, control);
    add(node, APPEND, append);
    add(node, SNAPSHOT, snapshot);
    add(node, PROPOSE, propose);
    add(node, QUERY, query);
    add(node, BEAT, |node, from, body| {
        node.boards.liveness.beat_arrived(node, from, body);
        ready(Ok(Bytes::new())).boxed()
    });
    add(node, DIGEST, |node, from, body| {
        super::maintenance::digest_arrived(node, from, body);
        ready(Ok(Bytes::new())).boxed()
    });
}

fn propose(node: &Arc<Node>, _from: NodeId, body: Bytes) -> Answer {
    let (group, part) = match decode_propose(body) {
        Ok(decoded) => decoded,
        Err(error) => return refuse(malformed(error)),
    };
    let Some(route) = node.known_route(group) else {
        return ready(Ok(LeaderAnswer::<Bytes>::NotLeader(None).encode())).boxed();
    };
    let (reply, answer) = oneshot::channel();
    let event = FrontEvent::Forwarded { part, reply, received: Instant::now() };
    if !route.front.try_send(event) {
        return refuse(CallRefused::Unavailable);
    }
    async move { answer.await.map(|answer| answer.encode()).map_err(|_| CallRefused::Unavailable) }.boxed()
}

fn query(node: &Arc<Node>, _from: NodeId, body: Bytes) -> Answer {
    let (group, queries) = match decode_query(body) {
        Ok(decoded) => decoded,
        Err(error) => return refuse(malformed(error)),
    };
    let Some(route) = node.known_route(group) else {
        return ready(Ok(LeaderAnswer::<Bytes>::NotLeader(None).encode())).boxed();
    };
    let (reply, answer) = oneshot::channel();
    let ask = Ask { queries, asker: Asker::There(reply), since: Instant::now() };
    if !route.reader.try_send(ask) {
        return refuse(CallRefused::Unavailable);
    }
    async move { answer.await.map(|answer| answer.encode()).map_err(|_| CallRefused::Unavailable) }.boxed()
}

/// With the planted bug a follower does not see the members in appends.
fn forget_members(request: &mut AppendEntriesRequest<Types>) {
    if planted::active(planted::STALE_MEMBERSHIP) {
        for entry in &mut request.entries {
            if entry.log_id.index > 1 && matches!(entry.payload, openraft::EntryPayload::Membership(_)) {
                entry.payload = openraft::EntryPayload::Blank;
            }
        }
    }
}

fn append(node: &Arc<Node>, from: NodeId, body: Bytes) -> Answer {
    let mut frame = match AppendFrame::decode(body) {
        Ok(frame) => frame,
        Err(error) => return refuse(malformed(error)),
    };
    let Some(local) = node.local(frame.group) else { return refuse(CallRefused::Unavailable) };
    if !may_lead(node, from, &frame.request.vote) {
        return refuse(CallRefused::Unavailable);
    }
    forget_members(&mut frame.request);
    let mut streams = local.streams.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let result = streams.take(&local.raft, from, frame.stream, frame.request);
    drop(streams);
    async move {
        let result = result.await.map_err(|_| CallRefused::Unavailable)?;
        encode_reply(&AppendReply(result)).map_err(|_| CallRefused::Unavailable)
    }
    .boxed()
}

/// Whether the sender is the node that the vote names, if both are known: a
/// node that took over another's number must not pass for it.
fn may_lead(node: &Node, from: NodeId, vote: &Vote) -> bool {
    let number = trine_types::NodeNumber(vote.leader_id.voted_for);
    node.key_of(number).is_none_or(|known| known == from)
}

fn control(node: &Arc<Node>, from: NodeId, body: Bytes) -> Answer {
    let (group, request) = match decode_for::<ControlRequest>(body) {
        Ok(decoded) => decoded,
        Err(error) => return refuse(malformed(error)),
    };
    let Some(local) = node.local(group) else { return refuse(CallRefused::Unavailable) };
    let node = node.clone();
    async move {
        let reply = answer_control(&node, &local, from, group, request).await?;
        encode_reply(&reply).map_err(|_| CallRefused::Unavailable)
    }
    .boxed()
}

async fn answer_control(
    node: &Arc<Node>,
    local: &Arc<Local>,
    from: NodeId,
    group: GroupId,
    request: ControlRequest,
) -> Result<ControlReply, CallRefused> {
    let unavailable = |_| CallRefused::Unavailable;
    match request {
        ControlRequest::PreVote(request) => {
            // The leader of a hibernating group sends no heartbeats; that its
            // node is alive stands for them.
            if node.boards.liveness.leader_is_alive(local, from) {
                return Ok(ControlReply::NotGranted);
            }
            local.raft.pre_vote(request).await.map(ControlReply::Vote).map_err(unavailable)
        }
        ControlRequest::Vote(request) => {
            if !may_lead(node, from, &request.vote) {
                return Err(CallRefused::Unavailable);
            }
            local.raft.vote(request).await.map(ControlReply::Vote).map_err(unavailable)
        }
        ControlRequest::Heartbeat(frame) => {
            let frame = AppendFrame::decode(frame.into()).map_err(malformed)?;
            if frame.group != group || !may_lead(node, from, &frame.request.vote) {
                return Err(CallRefused::Malformed);
            }
            let mut request = frame.request;
            forget_members(&mut request);
            local.raft.append_entries(request).await.map(ControlReply::Heartbeat).map_err(unavailable)
        }
        ControlRequest::TransferLeader(request) => {
            let result = local.raft.handle_transfer_leader(request).await;
            result.map(ControlReply::TransferLeader).map_err(|_| CallRefused::Unavailable)
        }
    }
}

fn snapshot(node: &Arc<Node>, from: NodeId, body: Bytes) -> Answer {
    let (group, head, rows) = match decode_chunk(body) {
        Ok(decoded) => decoded,
        Err(error) => return refuse(malformed(error)),
    };
    let Some(local) = node.local(group) else { return refuse(CallRefused::Unavailable) };
    let (done, mut finished) = mpsc::channel(1);
    // A task of its own: an installation that has begun must finish even if
    // the connection breaks.
    tokio::spawn(super::snapshot::take_chunk(node.clone(), local, from, head, rows, done));
    async move { finished.recv().await.unwrap_or(Err(CallRefused::Unavailable)) }.boxed()
}
