//! Append streams on the follower's side: each stream of a leader is one
//! ordered channel into the replica and one task that returns the results.

use std::collections::BTreeMap;

use futures::StreamExt;
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use tokio::sync::{mpsc, oneshot};
use trine_types::NodeId;

use crate::engine::{Raft, Types};

/// Messages of one stream that wait for the replica; the leader keeps fewer
/// in flight.
const QUEUE: usize = 128;

type Answer = oneshot::Sender<StreamAppendResult<Types>>;

struct AppendStream {
    number: u64,
    messages: mpsc::Sender<(AppendEntriesRequest<Types>, Answer)>,
}

/// The newest stream of each node that ever led.
#[derive(Default)]
pub(crate) struct AppendStreams {
    streams: BTreeMap<NodeId, AppendStream>,
}

impl AppendStreams {
    /// Passes a message on, in order of the calls. The receiver's end closes
    /// without a result when the stream has ended.
    pub(crate) fn take(
        &mut self,
        raft: &Raft,
        from: NodeId,
        number: u64,
        request: AppendEntriesRequest<Types>,
    ) -> oneshot::Receiver<StreamAppendResult<Types>> {
        let (answer, result) = oneshot::channel();
        let known = self.streams.get(&from).map(|stream| stream.number);
        if known.is_none_or(|known| known < number) {
            let (messages, inbox) = mpsc::channel(QUEUE);
            tokio::spawn(run(raft.clone(), inbox));
            self.streams.insert(from, AppendStream { number, messages });
        }
        if let Some(stream) = self.streams.get(&from)
            && stream.number == number
        {
            // Dropped when the queue is full or the stream has ended: the
            // leader then begins another.
            let _ = stream.messages.try_send((request, answer));
        }
        result
    }
}

/// Ends when a newer stream replaces this one, or with its first refusal.
async fn run(raft: Raft, inbox: mpsc::Receiver<(AppendEntriesRequest<Types>, Answer)>) {
    let (answers, mut waiting) = mpsc::channel(QUEUE);
    let requests = futures::stream::unfold((inbox, answers), |(mut inbox, answers)| async move {
        let (request, answer) = inbox.recv().await?;
        answers.send(answer).await.ok()?;
        Some((request, (inbox, answers)))
    });
    let results = raft.stream_append(Box::pin(requests));
    futures::pin_mut!(results);
    while let Some(result) = results.next().await {
        let (Ok(result), Some(answer)) = (result, waiting.recv().await) else { break };
        // The connection may be gone.
        let _ = answer.send(result);
    }
}
