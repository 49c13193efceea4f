//! The node's side: pings, messages, and inboxes that the command line empties.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use trine_mesh::{DirectError, Kept, Message, Subscriber};
use trine_transport::Lane;
use trine_types::NodeId;
use trine_types::subject::{is_reserved, is_valid_subject};

use super::copy;
use super::words::{
    CopyReport, MessageReport, ReplyReport, TakenReport, TalkAnswer, TalkRequest, TimingReport,
};
use crate::admin::protocol::{Refusal, RefusalKind};
use crate::node::Node;

/// Most inboxes at once; each holds at most 64 MiB.
const MAX_INBOXES: usize = 16;
/// An inbox that nobody empties for this long is closed.
const INBOX_IDLE: Duration = Duration::from_mins(1);
/// Longest wait for a message before the answer is that there is none.
const MAX_WAIT: Duration = Duration::from_secs(20);
/// Messages in one answer.
const MAX_TAKEN: usize = 256;
/// Exchanges that are measured at once.
const MAX_COUNT: u32 = 1_000_000;
/// Longest that one request may be busy; the command line waits two minutes.
const BUSY_LIMIT: Duration = Duration::from_secs(90);
/// Largest ping.
const MAX_PING_BYTES: u32 = 1024 * 1024;

struct Inbox {
    subscriber: Subscriber,
    used: Instant,
}

/// See the module.
pub struct Talk {
    node: Node,
    // Requests of several connections empty the same inboxes, each for itself;
    // held while one waits for its message, never by the node's own work.
    inboxes: Mutex<(u64, BTreeMap<u64, Inbox>)>,
}

impl Talk {
    /// Talks for `node`.
    pub fn new(node: Node) -> Self {
        Self { node, inboxes: Mutex::default() }
    }

    /// Answers one request.
    ///
    /// # Errors
    /// Nothing was sent, or its outcome is unknown: the refusal says which.
    pub async fn answer(&self, request: TalkRequest) -> Result<TalkAnswer, Refusal> {
        match request {
            TalkRequest::Ping { node, bytes, count, cold } => {
                let lane = if cold { Lane::Bulk } else { Lane::Request };
                self.ping(self.peer(&node)?, lane, bytes, count).await.map(TalkAnswer::Pinged)
            }
            TalkRequest::Send { node, subject, payload } => {
                let peer = self.peer(&node)?;
                let message = message(&subject, &payload)?;
                let connection = self.connect(peer, Lane::Request).await?;
                let begun = Instant::now();
                let receivers = self.node.mesh.send_to(peer, &message).await.map_err(refusal)?;
                let timing = timing(connection, vec![begun.elapsed()]);
                Ok(TalkAnswer::Taken(TakenReport { receivers, timing }))
            }
            TalkRequest::Request { node, subject, payload, patience_ms, count } => {
                let patience = Duration::from_millis(patience_ms);
                let message = message(&subject, &payload)?;
                self.request(node, &message, patience, count).await.map(TalkAnswer::Replied)
            }
            TalkRequest::Publish { subject, payload } => {
                let message = message(&subject, &payload)?;
                let begun = Instant::now();
                let receivers = self.node.mesh.publish(&message).await;
                let timing = timing(Duration::ZERO, vec![begun.elapsed()]);
                Ok(TalkAnswer::Taken(TakenReport { receivers, timing }))
            }
            TalkRequest::Subscribe { filter, queue } => self.subscribe(filter, queue).await,
            TalkRequest::Take { inbox, wait_ms } => self.take(inbox, Duration::from_millis(wait_ms)).await,
            TalkRequest::Copy { file, node, path, hash, bytes } => {
                let hash = blake3::Hash::from_hex(&hash).map_err(|error| invalid(&error))?;
                let offer = copy::Offer { path, bytes, hash: *hash.as_bytes() };
                let sent =
                    copy::send(&self.node.endpoint, self.peer(&node)?, PathBuf::from(file), offer).await;
                let (there, done) = sent.map_err(|error| {
                    Refusal::new(error)
                        .hint("what arrived is kept; the same command goes on where this one stopped")
                        .kind(RefusalKind::Failed)
                })?;
                Ok(TalkAnswer::Copied(CopyReport { there, done }))
            }
        }
    }

    fn peer(&self, text: &str) -> Result<NodeId, Refusal> {
        let cluster = &self.node.cluster;
        let number = cluster.find_node(text).map_err(|error| {
            Refusal::new(error).hint("`trine nodes` lists the nodes").kind(RefusalKind::NotFound)
        })?;
        let id = cluster.meta().borrow().nodes.get(&number).map(|node| node.id);
        id.ok_or_else(|| Refusal::new(format!("{number} has just left")).kind(RefusalKind::NotFound))
    }

    async fn connect(&self, peer: NodeId, lane: Lane) -> Result<Duration, Refusal> {
        self.node.mesh.connect(peer, lane).await.map_err(refusal)
    }

    async fn ping(&self, peer: NodeId, lane: Lane, bytes: u32, count: u32) -> Result<TimingReport, Refusal> {
        let connection = self.connect(peer, lane).await?;
        let size = usize::try_from(bytes.min(MAX_PING_BYTES)).unwrap_or(0);
        let payload = Bytes::from(vec![b'.'; size]);
        let begun = Instant::now();
        let mut times = Vec::new();
        while times.len() < usize::try_from(count.clamp(1, MAX_COUNT)).unwrap_or(1)
            && begun.elapsed() < BUSY_LIMIT
        {
            let sent = Instant::now();
            self.node.mesh.echo(peer, lane, payload.clone()).await.map_err(refusal)?;
            times.push(sent.elapsed());
        }
        Ok(timing(connection, times))
    }

    async fn request(
        &self,
        node: Option<String>,
        message: &Message<'_>,
        patience: Duration,
        count: u32,
    ) -> Result<ReplyReport, Refusal> {
        let peer = node.map(|node| self.peer(&node)).transpose()?;
        let connection = match peer {
            Some(peer) => self.connect(peer, Lane::Request).await?,
            None => Duration::ZERO,
        };
        let begun = Instant::now();
        let (mut times, mut last) = (Vec::new(), Kept::default());
        while times.len() < usize::try_from(count.clamp(1, MAX_COUNT)).unwrap_or(1)
            && begun.elapsed() < BUSY_LIMIT
        {
            let sent = Instant::now();
            let reply = match peer {
                Some(peer) => self.node.mesh.request_of(peer, message, patience).await,
                None => self.node.mesh.request(message, patience).await,
            };
            last = reply.map_err(refusal)?;
            times.push(sent.elapsed());
        }
        Ok(ReplyReport { reply: report(&last), timing: timing(connection, times) })
    }

    async fn subscribe(&self, filter: String, queue: Option<String>) -> Result<TalkAnswer, Refusal> {
        let mut inboxes = self.inboxes.lock().await;
        let (last, inboxes) = &mut *inboxes;
        inboxes.retain(|_, inbox| inbox.used.elapsed() < INBOX_IDLE);
        if inboxes.len() >= MAX_INBOXES {
            let message = format!("{MAX_INBOXES} subscribers use this socket already");
            return Err(Refusal::new(message).hint("end one of them").kind(RefusalKind::Unavailable));
        }
        let mut subscriber = self.node.mesh.bus().subscriber();
        let outcome = subscriber.subscribe(Bytes::from(filter), queue.map(Bytes::from));
        outcome.map_err(|error| invalid(&error))?;
        *last += 1;
        inboxes.insert(*last, Inbox { subscriber, used: Instant::now() });
        Ok(TalkAnswer::Subscribed { inbox: *last })
    }

    async fn take(&self, number: u64, wait: Duration) -> Result<TalkAnswer, Refusal> {
        // Taken out meanwhile, so that nobody else waits for this one.
        let taken = self.inboxes.lock().await.1.remove(&number);
        let Some(mut inbox) = taken else {
            return Err(Refusal::new("no such inbox: it was closed, or is being emptied")
                .hint("subscribe anew")
                .kind(RefusalKind::NotFound));
        };
        let mut messages = Vec::new();
        match timeout(wait.min(MAX_WAIT), inbox.subscriber.next()).await {
            Ok(Some(message)) => messages.push(report(&message)),
            Ok(None) => {
                return Err(Refusal::new("this subscriber was too slow and was cut off")
                    .hint("subscribe anew")
                    .kind(RefusalKind::Failed));
            }
            Err(_) => {}
        }
        let mut bytes = messages.iter().map(|message| message.payload.len()).sum::<usize>();
        while messages.len() < MAX_TAKEN
            && bytes < trine_mesh::MAX_MESSAGE_BYTES
            && let Ok(Some(message)) = timeout(Duration::ZERO, inbox.subscriber.next()).await
        {
            bytes += message.payload.len();
            messages.push(report(&message));
        }
        inbox.used = Instant::now();
        self.inboxes.lock().await.1.insert(number, inbox);
        Ok(TalkAnswer::Messages(messages))
    }
}

fn message<'a>(subject: &'a str, payload: &'a str) -> Result<Message<'a>, Refusal> {
    if !is_valid_subject(subject.as_bytes()) {
        return Err(invalid(&format!("`{subject}` is no subject: tokens separated by dots, no wildcards")));
    }
    if is_reserved(subject.as_bytes()) {
        return Err(invalid(&format!("only nodes publish to `{subject}`: it tells what becomes of jobs")));
    }
    Ok(Message { subject: subject.as_bytes(), payload: payload.as_bytes(), ..Message::default() })
}

fn report(message: &Kept) -> MessageReport {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    MessageReport {
        subject: text(&message.subject),
        reply: message.reply.as_ref().map(text),
        payload: text(&message.payload),
    }
}

fn invalid(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(error).kind(RefusalKind::Invalid)
}

fn refusal(error: DirectError) -> Refusal {
    let kind = match error {
        DirectError::NoResponders => RefusalKind::NotFound,
        DirectError::TooLarge => RefusalKind::Invalid,
        DirectError::TooLate | DirectError::Call(_) | DirectError::NoInbox(_) => RefusalKind::Unavailable,
        DirectError::NotUnderstood => RefusalKind::Failed,
    };
    Refusal::new(error).kind(kind)
}

fn timing(connection: Duration, mut times: Vec<Duration>) -> TimingReport {
    times.sort_unstable();
    let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let at = |percent: usize| times.get((times.len().saturating_sub(1)) * percent / 100).copied();
    TimingReport {
        connection_ns: ns(connection),
        count: u32::try_from(times.len()).unwrap_or(u32::MAX),
        fastest_ns: ns(at(0).unwrap_or_default()),
        median_ns: ns(at(50).unwrap_or_default()),
        p99_ns: ns(at(99).unwrap_or_default()),
        slowest_ns: ns(at(100).unwrap_or_default()),
    }
}
