//! Incoming connections: one task each reads calls, hands them to handlers in
//! order of arrival, and sends replies in order of completion.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use trine_types::NodeId;

use crate::endpoint::handle::Shared;
use crate::envelope::Envelope;
use crate::error::CallRefused;
use crate::frame::{FrameSender, SendError};
use crate::lane::Lane;
use crate::transport::Connection;

/// Accepts until the transport is shut down.
pub(in crate::endpoint) async fn accept_all(shared: Arc<Shared>) {
    while let Some(connection) = shared.transport.accept().await {
        let connection = shared.counters.watch(connection);
        tokio::spawn(serve_connection(connection, shared.clone()));
    }
}

/// A connection of this node to itself, served like any other.
pub(super) fn loopback(shared: &Arc<Shared>, lane: Lane) -> Connection {
    let local = shared.transport.local();
    let (near, far) = Connection::pair(local, local, lane);
    tokio::spawn(serve_connection(far, shared.clone()));
    near
}

/// A call whose handler has not finished. `None` for a notice.
struct Running {
    id: Option<u64>,
    work: BoxFuture<'static, Result<Bytes, CallRefused>>,
}

impl Future for Running {
    type Output = Option<Envelope>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let id = self.id;
        self.work.as_mut().poll(cx).map(|answer| id.map(|id| Envelope::Reply { id, answer }))
    }
}

async fn serve_connection(connection: Connection, shared: Arc<Shared>) {
    let Connection { peer, lane, sender, mut receiver, closer } = connection;
    let serial = shared.served.enter(peer, lane, closer.clone());
    let mut running: FuturesUnordered<Running> = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(reply) = running.next(), if !running.is_empty() => {
                if !answer(&sender, reply).await {
                    break;
                }
            }
            frame = receiver.recv(), if running.len() < shared.config.max_running => {
                let Some(Ok(envelope)) = frame.map(Envelope::decode) else { break };
                let Some(begun) = begin(&shared, peer, envelope) else { break };
                // Many handlers are done at once; they need no place in the set.
                match at_once(begun).await {
                    Ok(reply) => if !answer(&sender, reply).await {
                        break;
                    },
                    Err(unfinished) => running.push(unfinished),
                }
            }
        }
    }
    closer.close();
    shared.served.leave(peer, lane, serial);
}

/// Polls once; the unfinished rest must be polled again.
async fn at_once(mut running: Running) -> Result<Option<Envelope>, Running> {
    let polled = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut running).poll(cx))).await;
    match polled {
        Poll::Ready(reply) => Ok(reply),
        Poll::Pending => Err(running),
    }
}

/// Invokes the handler; `None` when the frame is nothing that a caller sends.
fn begin(shared: &Shared, from: NodeId, envelope: Envelope) -> Option<Running> {
    let (service, id, body) = match envelope {
        Envelope::Call { service, id, body } => (service, Some(id), body),
        Envelope::Notice { service, body } => (service, None, body),
        Envelope::Reply { .. } => return None,
    };
    let work = match shared.served.handler(service) {
        Some(handler) => handler.handle(from, body),
        None => Box::pin(std::future::ready(Err(CallRefused::UnknownService))),
    };
    Some(Running { id, work })
}

/// Sends a reply, waiting for room; false when the connection is over.
async fn answer(sender: &FrameSender, reply: Option<Envelope>) -> bool {
    let Some(reply) = reply else { return true };
    let Envelope::Reply { id, .. } = reply else { return true };
    match sender.send(reply.into_frame()).await {
        Ok(()) => true,
        Err(SendError::TooLarge(bytes)) => {
            tracing::error!(bytes, "a handler's reply is larger than a frame may be");
            let refused = Envelope::Reply { id, answer: Err(CallRefused::Unavailable) };
            sender.send(refused.into_frame()).await.is_ok()
        }
        Err(SendError::Closed | SendError::Full) => false,
    }
}
