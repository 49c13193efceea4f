//! Messages to one node, named by its id: nobody subscribes on the way. The
//! node answers an echo itself; a message goes to its own subscribers, a
//! request to one of them.
//!
//! ```text
//! call     | op u8 | patience ms u32 | message record |     op 1 send, 2 request
//!          | 0 | bytes ... |                                echo
//! answer   | receivers u32 |                                to send
//!          | 0 | message record |  or  | 1 |  or  | 2 |     to request: no responders, too late
//!          | bytes ... |                                    to echo
//! ```

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use tokio::time::{Instant, timeout};
use trine_transport::{CallError, CallRefused, Handler, Lane, Service};
use trine_types::{Entropy, NodeId};

use crate::bus::publisher::Publisher;
use crate::bus::{Bus, SubscribeError};
use crate::handle::Mesh;
use crate::link::codec::{NotAFrame, Record, put_message, take_record};
use crate::message::{Kept, MAX_MESSAGE_BYTES, Message};

/// Calls to one node.
pub(crate) const DIRECT: Service = Service(0x61);

/// Longest that anybody may wait for a reply.
pub const MAX_PATIENCE: Duration = Duration::from_mins(1);

/// What the way there and back may take beside the other node's patience.
const PASSING: Duration = Duration::from_secs(5);

const ECHO: u8 = 0;
const SEND: u8 = 1;
const REQUEST: u8 = 2;

const REPLIED: u8 = 0;
const NOBODY: u8 = 1;
const TOO_LATE: u8 = 2;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DirectError {
    /// Nobody subscribed to this: start who shall answer.
    #[error("nobody there answers this")]
    NoResponders,
    /// Somebody got the request and has not answered yet: ask again if it may
    /// be done twice.
    #[error("no reply in time; somebody got the request")]
    TooLate,
    /// The node was not reached, or the connection broke; see [`CallError`].
    #[error(transparent)]
    Call(#[from] CallError),
    /// The node answered something else: it is of another version.
    #[error("the answer of the node is not understood")]
    NotUnderstood,
    /// More than [`MAX_MESSAGE_BYTES`]: nothing was sent.
    #[error("a message has at most {MAX_MESSAGE_BYTES} bytes")]
    TooLarge,
    /// This node can bear no more subscriptions: nothing was sent.
    #[error(transparent)]
    NoInbox(#[from] SubscribeError),
}

impl From<NotAFrame> for DirectError {
    fn from(_: NotAFrame) -> Self {
        Self::NotUnderstood
    }
}

impl Mesh {
    /// Makes sure that there is a connection to `peer`; says how long that
    /// took: nothing if there was one.
    ///
    /// # Errors
    /// [`DirectError::Call`]: the node cannot be reached.
    pub async fn connect(&self, peer: NodeId, lane: Lane) -> Result<Duration, DirectError> {
        if self.endpoint().is_connected(peer, lane) {
            return Ok(Duration::ZERO);
        }
        // The first echo makes the connection, the second only uses it.
        let begun = Instant::now();
        self.echo(peer, lane, Bytes::new()).await?;
        let first = begun.elapsed();
        let begun = Instant::now();
        self.echo(peer, lane, Bytes::new()).await?;
        Ok(first.saturating_sub(begun.elapsed()))
    }

    /// Lets `peer` itself send `payload` back.
    ///
    /// # Errors
    /// [`DirectError`].
    pub async fn echo(&self, peer: NodeId, lane: Lane, payload: Bytes) -> Result<Bytes, DirectError> {
        if payload.len() > MAX_MESSAGE_BYTES {
            return Err(DirectError::TooLarge);
        }
        let mut body = BytesMut::with_capacity(1 + payload.len());
        body.put_u8(ECHO);
        body.put_slice(&payload);
        Ok(self.endpoint().call(peer, lane, DIRECT, body.freeze(), PASSING).await?)
    }

    /// Gives a message to the subscribers at `peer`; says how many took it.
    ///
    /// # Errors
    /// [`DirectError`].
    pub async fn send_to(&self, peer: NodeId, message: &Message<'_>) -> Result<u32, DirectError> {
        let body = encode(SEND, Duration::ZERO, message)?;
        let answer = self.endpoint().call(peer, Lane::Request, DIRECT, body, PASSING).await?;
        let bytes: [u8; 4] = (&answer[..]).try_into().map_err(|_| DirectError::NotUnderstood)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Asks the subscribers at `peer` and waits for the first reply.
    ///
    /// # Errors
    /// [`DirectError`].
    pub async fn request_of(
        &self,
        peer: NodeId,
        message: &Message<'_>,
        patience: Duration,
    ) -> Result<Kept, DirectError> {
        let patience = patience.min(MAX_PATIENCE);
        let body = encode(REQUEST, patience, message)?;
        let answer = self.endpoint().call(peer, Lane::Request, DIRECT, body, patience + PASSING).await?;
        let (status, mut record) = answer.split_first().ok_or(DirectError::NotUnderstood)?;
        match *status {
            REPLIED => match take_record(&mut record)? {
                Some(Record::Message { message, .. }) => Ok(message.to_kept()),
                _ => Err(DirectError::NotUnderstood),
            },
            NOBODY => Err(DirectError::NoResponders),
            TOO_LATE => Err(DirectError::TooLate),
            _ => Err(DirectError::NotUnderstood),
        }
    }

    /// Publishes to subscribers on all nodes; says how many subscriptions here
    /// and other nodes took it.
    pub async fn publish(&self, message: &Message<'_>) -> u32 {
        let mut publisher = self.bus().publisher();
        let outcome = publisher.publish(message);
        publisher.relieved().await;
        outcome.receivers
    }

    /// Asks the subscribers on all nodes and waits for the first reply.
    ///
    /// # Errors
    /// [`DirectError`].
    pub async fn request(&self, message: &Message<'_>, patience: Duration) -> Result<Kept, DirectError> {
        if message.body_bytes() > MAX_MESSAGE_BYTES {
            return Err(DirectError::TooLarge);
        }
        ask(self.bus(), self.entropy(), message, patience.min(MAX_PATIENCE), false).await
    }
}

fn encode(op: u8, patience: Duration, message: &Message<'_>) -> Result<Bytes, DirectError> {
    if message.body_bytes() > MAX_MESSAGE_BYTES {
        return Err(DirectError::TooLarge);
    }
    let mut body = BytesMut::with_capacity(64 + message.body_bytes());
    body.put_u8(op);
    body.put_u32_le(u32::try_from(patience.as_millis()).unwrap_or(u32::MAX));
    put_message(&mut body, message, true, &mut std::iter::empty());
    Ok(body.freeze())
}

/// Asks with an inbox of its own: subscribers here only, or on all nodes.
async fn ask(
    bus: &Bus,
    entropy: &dyn Entropy,
    message: &Message<'_>,
    patience: Duration,
    here: bool,
) -> Result<Kept, DirectError> {
    let inbox = format!("_INBOX.trine.{:016x}{:016x}", entropy.next_u64(), entropy.next_u64());
    let mut replies = bus.subscriber();
    replies.subscribe(Bytes::from(inbox.clone()), None)?;
    let message = Message { reply: Some(inbox.as_bytes()), ..*message };
    let mut publisher = bus.publisher();
    let outcome = if here { publisher.publish_here(&message) } else { publisher.publish(&message) };
    if outcome.receivers == 0 {
        return Err(DirectError::NoResponders);
    }
    publisher.flush();
    match timeout(patience, replies.next()).await {
        Ok(Some(reply)) => Ok(reply),
        Ok(None) | Err(_) => Err(DirectError::TooLate),
    }
}

/// Serves calls to this node.
pub(crate) struct Direct {
    bus: Bus,
    entropy: Arc<dyn Entropy>,
    // Handlers run on the tasks of several connections; each holds it for one
    // message, and nothing awaits meanwhile.
    publisher: Mutex<Publisher>,
}

impl Direct {
    pub(crate) fn new(bus: Bus, entropy: Arc<dyn Entropy>) -> Self {
        let publisher = Mutex::new(bus.publisher());
        Self { bus, entropy, publisher }
    }

    fn send(&self, message: &Message<'_>) -> BoxFuture<'static, Result<Bytes, CallRefused>> {
        let mut publisher = self.publisher.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = publisher.publish_here(message);
        let pressure = publisher.take_pressure();
        drop(publisher);
        let answer = Bytes::copy_from_slice(&outcome.receivers.to_le_bytes());
        if pressure.is_gone() {
            return ready(Ok(answer)).boxed();
        }
        pressure.relieved().map(|()| Ok(answer)).boxed()
    }

    fn request(
        &self,
        message: &Message<'_>,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallRefused>> {
        let (bus, entropy, message) = (self.bus.clone(), self.entropy.clone(), message.to_kept());
        async move {
            let mut answer = BytesMut::new();
            match ask(&bus, &*entropy, &message.as_message(), patience, true).await {
                Ok(reply) => {
                    answer.put_u8(REPLIED);
                    put_message(&mut answer, &reply.as_message(), true, &mut std::iter::empty());
                }
                Err(DirectError::NoResponders) => answer.put_u8(NOBODY),
                Err(DirectError::TooLate) => answer.put_u8(TOO_LATE),
                Err(_) => return Err(CallRefused::Unavailable),
            }
            Ok(answer.freeze())
        }
        .boxed()
    }
}

impl Handler for Direct {
    fn handle(&self, _: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, CallRefused>> {
        let malformed = || ready(Err(CallRefused::Malformed)).boxed();
        if body.first() == Some(&ECHO) {
            return ready(Ok(body.slice(1..))).boxed();
        }
        let Some(([op, a, b, c, d], mut record)) = body.split_first_chunk::<5>() else { return malformed() };
        let patience = Duration::from_millis(u32::from_le_bytes([*a, *b, *c, *d]).into()).min(MAX_PATIENCE);
        match (*op, take_record(&mut record)) {
            (SEND, Ok(Some(Record::Message { message, .. }))) => self.send(&message),
            (REQUEST, Ok(Some(Record::Message { message, .. }))) => self.request(&message, patience),
            _ => malformed(),
        }
    }
}
