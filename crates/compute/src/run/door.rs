//! The door for other nodes' questions.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use trine_transport::{CallRefused, Handler};
use trine_types::{GroupId, NodeId};

use super::Event;
use crate::blobs::{Blobs, Uncopied};
use crate::codec;
use crate::command::Refusal;
use crate::handle::Shared;
use crate::machine;
use crate::messages::{Ask, MAX_DROPPED, Told};
use crate::spec::JobId;

/// Longest that an answer with results is held back.
const MAX_PATIENCE: Duration = Duration::from_secs(10);

/// Copies of other nodes' outputs that are fetched at once; more wait, as long
/// as those who asked do.
const COPIES: usize = 4;

/// Answers other nodes, and this one.
pub(crate) struct Door {
    shared: Arc<Shared>,
    events: mpsc::Sender<Event>,
    copies: Arc<Semaphore>,
}

impl Door {
    pub(crate) fn new(shared: Arc<Shared>, events: mpsc::Sender<Event>) -> Self {
        Self { shared, events, copies: Arc::new(Semaphore::new(COPIES)) }
    }

    /// Has the master's task answer.
    fn master(
        &self,
        event: impl FnOnce(oneshot::Sender<Told>) -> Event,
    ) -> BoxFuture<'static, Result<Bytes, CallRefused>> {
        let (reply, answer) = oneshot::channel();
        let sent = self.events.try_send(event(reply));
        async move {
            sent.map_err(|_| CallRefused::Unavailable)?;
            let told = answer.await.map_err(|_| CallRefused::Unavailable)?;
            Ok(codec::encode(&told))
        }
        .boxed()
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
            Ask::Beat(beat) => self.master(|reply| Event::Beat { from, beat, reply }),
            Ask::Drop { tasks, .. } if tasks.len() > MAX_DROPPED => {
                ready(Err(CallRefused::Malformed)).boxed()
            }
            Ask::Drop { job, tasks } => self.master(|reply| Event::Drop { job, tasks, reply }),
            Ask::Running { job } => self.master(|reply| Event::Running { job, reply }),
            Ask::Results { job, from, bytes, patience_ms } => {
                let leader = self.shared.replication.leader(GroupId::JOBS);
                if leader != Some(self.shared.number) {
                    return told(&Told::NotMaster(leader));
                }
                let patience = Duration::from_millis(patience_ms.into()).min(MAX_PATIENCE);
                let events = self.events.clone();
                results((self.shared.clone(), events), (job, from, bytes), patience).boxed()
            }
            Ask::Slots => told(&Told::Slots(self.shared.slots)),
            Ask::Kept { hash, from } => {
                let read = self.shared.shelf.read(hash, from);
                async move { Ok(codec::encode(&Told::Kept(read.await))) }.boxed()
            }
            Ask::Copy { hash } => {
                let holder = self.shared.meta.borrow().node_by_id(&from).map(|node| node.number);
                let (blobs, turns) = (Blobs::new(self.shared.clone()), self.copies.clone());
                async move {
                    let _turn = turns.acquire_owned().await.map_err(|_| CallRefused::Unavailable)?;
                    let copied = blobs.copy(hash, holder).await;
                    if let Err(Uncopied::Why(why)) = &copied {
                        tracing::warn!(%why, "the copy of a large output cannot be kept here");
                    }
                    Ok(codec::encode(&Told::Copied(copied.is_ok())))
                }
                .boxed()
            }
        }
    }
}

/// Results of a job, as soon as there are any beyond `from`, or it is over.
async fn results(
    (shared, events): (Arc<Shared>, mpsc::Sender<Event>),
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
        if waits && woken.is_err() {
            // No room: the master hears it when the client asks again.
            let _ = events.try_send(Event::Followed { job });
        }
        if !waits || !matches!(woken, Ok(Ok(()))) {
            return Ok(codec::encode(&Told::Results(codec::encode(&found))));
        }
    }
}
