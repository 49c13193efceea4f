//! The door for other nodes' questions.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use trine_transport::{CallRefused, Handler};
use trine_types::{GroupId, NodeId};

use super::Event;
use crate::codec;
use crate::command::Refusal;
use crate::handle::Shared;
use crate::machine;
use crate::messages::{Ask, Told};
use crate::spec::JobId;

/// Longest that an answer with results is held back.
const MAX_PATIENCE: Duration = Duration::from_secs(10);

/// Answers other nodes, and this one.
pub(crate) struct Door {
    shared: Arc<Shared>,
    events: mpsc::Sender<Event>,
}

impl Door {
    pub(crate) fn new(shared: Arc<Shared>, events: mpsc::Sender<Event>) -> Self {
        Self { shared, events }
    }
}

fn told(told: &Told) -> BoxFuture<'static, Result<Bytes, CallRefused>> {
    ready(Ok(codec::encode(told))).boxed()
}

impl Handler for Door {
    fn handle(&self, from: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, CallRefused>> {
        let Ok(ask) = codec::decode::<Ask>(&body, "question") else {
            return ready(Err(CallRefused::Malformed)).boxed();
        };
        match ask {
            Ask::Beat(beat) => {
                let (reply, answer) = oneshot::channel();
                let sent = self.events.try_send(Event::Beat { from, beat, reply });
                async move {
                    sent.map_err(|_| CallRefused::Unavailable)?;
                    let told = answer.await.map_err(|_| CallRefused::Unavailable)?;
                    Ok(codec::encode(&told))
                }
                .boxed()
            }
            Ask::Results { job, from, bytes, patience_ms } => {
                let leader = self.shared.replication.leader(GroupId::JOBS);
                if leader != Some(self.shared.number) {
                    return told(&Told::NotMaster(leader));
                }
                let patience = Duration::from_millis(patience_ms.into()).min(MAX_PATIENCE);
                results(self.shared.clone(), (job, from, bytes), patience).boxed()
            }
            Ask::Slots => told(&Told::Slots(self.shared.slots)),
            Ask::Kept { hash, from } => {
                let read = self.shared.shelf.read(hash, from);
                async move { Ok(codec::encode(&Told::Kept(read.await))) }.boxed()
            }
        }
    }
}

/// Results of a job, as soon as there are any beyond `from`, or it is over.
async fn results(
    shared: Arc<Shared>,
    (job, from, bytes): (JobId, u64, u32),
    patience: Duration,
) -> Result<Bytes, CallRefused> {
    let (mut applied, until) = (shared.applied.clone(), Instant::now() + patience);
    loop {
        let rows = applied.borrow_and_update().as_ref().map(|applied| applied.state.clone());
        let rows = rows.ok_or(CallRefused::Unavailable)?;
        let found = machine::results(&*rows.view(), job, from, bytes);
        // A job that this replica has not heard of may be on its way.
        let waits = match &found {
            Ok(found) => found.results.is_empty() && !found.progress.phase.is_over(),
            Err(Refusal::NoSuchJob(_)) => Instant::now() < until,
            Err(_) => false,
        };
        let woken = if waits { timeout_at(until, applied.changed()).await } else { Ok(Ok(())) };
        if !waits || !matches!(woken, Ok(Ok(()))) {
            return Ok(codec::encode(&Told::Results(codec::encode(&found))));
        }
    }
}
