//! The door for other nodes' questions. What needs only facts is answered
//! here; what changes this node goes to its agent.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use trine_transport::{CallRefused, Handler};
use trine_types::NodeId;

use super::Event;
use crate::calls::{Ask, KNOWN_LIMIT, Told};
use crate::codec;
use crate::context::Context;
use crate::directory::StartCount;
use crate::nodes::StartRefused;

/// How long a node that may be running already has to say so.
const PROBE_LIMIT: Duration = Duration::from_millis(300);

/// Answers other nodes.
pub(crate) struct Door {
    pub(crate) context: Arc<Context>,
    pub(crate) events: mpsc::Sender<Event>,
}

impl Handler for Door {
    fn handle(&self, from: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, CallRefused>> {
        let Ok(ask) = codec::decode::<Ask>(&body, "question") else {
            return futures::future::ready(Err(CallRefused::Malformed)).boxed();
        };
        let context = self.context.clone();
        match ask {
            Ask::Who => told(&process(context.start)),
            Ask::Replicas => told(&Told::Replicas(context.replicas())),
            Ask::MayStart { number, incarnation, boot } => {
                let start = StartCount { incarnation, boot };
                async move { Ok(codec::encode(&may_start(&context, number, from, start).await)) }.boxed()
            }
            Ask::Known { revision } => {
                async move { Ok(codec::encode(&known(&context, revision).await)) }.boxed()
            }
            ask => {
                let (reply, answer) = oneshot::channel();
                let sent = self.events.try_send(Event::Asked { from, ask, reply });
                async move {
                    sent.map_err(|_| CallRefused::Unavailable)?;
                    let told = answer.await.map_err(|_| CallRefused::Unavailable)?;
                    Ok(codec::encode(&told))
                }
                .boxed()
            }
        }
    }
}

fn told(told: &Told) -> BoxFuture<'static, Result<Bytes, CallRefused>> {
    futures::future::ready(Ok(codec::encode(told))).boxed()
}

fn process(start: StartCount) -> Told {
    Told::Process { incarnation: start.incarnation, boot: start.boot }
}

/// Waits until this node knows `meta` as far as `revision`.
async fn known(context: &Context, revision: u64) -> Told {
    let mut meta = context.meta.clone();
    let known = meta.wait_for(|meta| meta.revision() >= revision);
    match tokio::time::timeout(KNOWN_LIMIT, known).await {
        Ok(Ok(_)) => Told::Yes,
        _ => Told::No("it does not know that yet".to_owned()),
    }
}

/// Whether a process may go on as node `number`, as far as is known here.
async fn may_start(
    context: &Context,
    number: trine_types::NodeNumber,
    from: NodeId,
    start: StartCount,
) -> Told {
    let meta = context.meta();
    if meta.revoked.contains_key(&from) {
        return Told::MustStop(StartRefused::NotANode(number));
    }
    if let Some(row) = meta.nodes.get(&number) {
        if row.id != from {
            return Told::MustStop(StartRefused::NotANode(number));
        }
        if row.incarnation >= start.incarnation && row.boot != start.boot {
            let (recorded, reported) = (row.incarnation.0, start.incarnation.0);
            return Told::MustStop(StartRefused::OldIncarnation { number, recorded, reported });
        }
    }
    // The node's address still leads to the process that ran before, if it
    // lives: then the one that asks is a copy.
    match context.ask_within(from, &Ask::Who, PROBE_LIMIT).await {
        Ok(Told::Process { boot, .. }) if boot != start.boot => {
            Told::MustStop(StartRefused::AlreadyRunning(number))
        }
        _ => Told::Yes,
    }
}

/// Answers only who runs here: until the node is allowed to start.
pub(crate) struct Doorbell(pub(crate) StartCount);

impl Handler for Doorbell {
    fn handle(&self, _from: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, CallRefused>> {
        match codec::decode::<Ask>(&body, "question") {
            Ok(Ask::Who) => told(&process(self.0)),
            Ok(_) => futures::future::ready(Err(CallRefused::Unavailable)).boxed(),
            Err(_) => futures::future::ready(Err(CallRefused::Malformed)).boxed(),
        }
    }
}
