//! [`Endpoint`]: what other rooms hold to call other nodes and to be called.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use trine_types::limits::MAX_FRAME_BYTES;
use trine_types::{Entropy, NodeId};

use super::link::{Link, Start};
use super::run::{accept_all, run_link};
use super::served::{Handler, Served};
use crate::config::EndpointConfig;
use crate::endpoint::grid::Grid;
use crate::envelope::ENVELOPE_BYTES;
use crate::error::CallError;
use crate::lane::{Lane, Service};
use crate::traffic::{Counters, LaneTraffic};
use crate::transport::Transport;

/// The peers that this node's [`Lane::Control`] is connected to, each with a
/// generation: it grows with every new connection to the peer, so that a
/// watcher notices a reconnection between two looks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// Connected peers and the generation of their connection, from 1.
    pub connected: BTreeMap<NodeId, u64>,
}

/// What an endpoint's tasks share.
pub(super) struct Shared {
    pub(super) transport: Arc<dyn Transport>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) config: EndpointConfig,
    pub(super) served: Served,
    pub(super) counters: Counters,
    runtime: Handle,
    grid: Grid,
    // Read for every call, written when a peer is first called; owned by a
    // task, it would cost every call two wake-ups.
    links: RwLock<BTreeMap<NodeId, [Arc<Link>; 4]>>,
    connected: watch::Sender<Links>,
    generation: AtomicU64,
    stopped: AtomicBool,
}

impl Shared {
    /// Tells watchers that the link's connection is up; the result is its
    /// generation.
    pub(super) fn note_connected(&self, link: &Link) -> u64 {
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        if link.lane == Lane::Control {
            self.connected.send_modify(|links| {
                links.connected.insert(link.peer, generation);
            });
        }
        generation
    }

    /// Tells watchers that a connection is over, unless a newer one is up.
    pub(super) fn note_disconnected(&self, link: &Link, generation: u64) {
        if link.lane == Lane::Control {
            self.connected.send_if_modified(|links| {
                let current = links.connected.get(&link.peer) == Some(&generation);
                current && links.connected.remove(&link.peer).is_some()
            });
        }
    }

    fn link(&self, peer: NodeId, lane: Lane) -> Result<Arc<Link>, CallError> {
        if let Some(links) = self.links.read().unwrap_or_else(PoisonError::into_inner).get(&peer) {
            return Ok(links[lane.index()].clone());
        }
        let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
        if self.stopped.load(Ordering::Acquire) {
            return Err(CallError::ShutDown);
        }
        let fresh = || Lane::ALL.map(|lane| Arc::new(Link::new(peer, lane)));
        Ok(links.entry(peer).or_insert_with(fresh)[lane.index()].clone())
    }
}

/// A node's calls to and from its peers, over any transport. Cheap to clone.
///
/// One connection per peer and lane is dialled when first needed, kept, and
/// dialled again (after a bounded, jittered pause) when needed after a break.
/// Tasks run on the runtime where it was made, until [`Endpoint::shutdown`].
#[derive(Clone)]
pub struct Endpoint {
    shared: Arc<Shared>,
}

impl Endpoint {
    /// Starts to accept connections from `transport`. Must be called within a
    /// tokio runtime. `entropy` jitters the pauses between attempts.
    #[must_use]
    pub fn new(transport: Arc<dyn Transport>, entropy: Arc<dyn Entropy>, config: EndpointConfig) -> Self {
        let shared = Arc::new(Shared {
            transport,
            entropy,
            config,
            served: Served::default(),
            counters: Counters::default(),
            runtime: Handle::current(),
            grid: Grid::new(Instant::now()),
            links: RwLock::default(),
            connected: watch::Sender::new(Links::default()),
            generation: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        });
        shared.runtime.spawn(accept_all(shared.clone()));
        Self { shared }
    }

    /// The node that this endpoint speaks for.
    #[must_use]
    pub fn local(&self) -> NodeId {
        self.shared.transport.local()
    }

    /// When to do what nobody waits for, so that it wakes this node and its
    /// peers together with the rest.
    #[must_use]
    pub fn grid(&self) -> Grid {
        self.shared.grid
    }

    /// What passed each lane to and from all peers since the start.
    #[must_use]
    pub fn traffic(&self) -> [LaneTraffic; 4] {
        self.shared.counters.read()
    }

    /// Lets `handler` take the calls and notices of `service`, replacing an
    /// earlier one. Calls to a service that nobody serves are refused with
    /// [`crate::CallRefused::UnknownService`].
    pub fn serve(&self, service: Service, handler: Arc<dyn Handler>) {
        self.shared.served.add(service, handler);
    }

    /// Calls `service` at `peer` (which may be this node) and waits for the
    /// reply, for at most `deadline` from now (noticed up to
    /// [`super::SWEEP_GRAIN`] late).
    ///
    /// The request is entered when this function returns, not when the future
    /// is first polled: requests of one peer and lane leave, and are handled,
    /// in the order of these calls. Dropping the future abandons the reply
    /// only; the request may still be executed.
    ///
    /// Errors: [`CallError`]; its variants say whether the request was sent.
    pub fn call(&self, peer: NodeId, lane: Lane, service: Service, body: Bytes, deadline: Duration) -> Call {
        let outcome = check_size(&body).and_then(|()| self.shared.link(peer, lane)).and_then(|link| {
            let (receiver, start) =
                link.call(&self.shared.config, (service, body), Instant::now() + deadline)?;
            self.start(start, link);
            Ok(receiver)
        });
        match outcome {
            Ok(receiver) => Call { state: CallState::Waiting(receiver) },
            Err(error) => Call { state: CallState::Failed(Some(error)) },
        }
    }

    /// Sends a message without a reply. It is lost silently when the
    /// connection breaks or cannot be made.
    ///
    /// # Errors
    /// [`CallError::NotSent`], [`CallError::Busy`] (the queue is full),
    /// [`CallError::TooLarge`] or [`CallError::ShutDown`]; not sent in each.
    pub fn notify(&self, peer: NodeId, lane: Lane, service: Service, body: Bytes) -> Result<(), CallError> {
        check_size(&body)?;
        let link = self.shared.link(peer, lane)?;
        let start = link.notify(&self.shared.config, (service, body))?;
        self.start(start, link);
        Ok(())
    }

    /// Whether a connection to `peer` is up on `lane`; a call does not have to
    /// make one then.
    #[must_use]
    pub fn is_connected(&self, peer: NodeId, lane: Lane) -> bool {
        let links = self.shared.links.read().unwrap_or_else(PoisonError::into_inner);
        links.get(&peer).is_some_and(|links| links[lane.index()].is_connected())
    }

    /// Which peers are connected; see [`Links`].
    #[must_use]
    pub fn links(&self) -> watch::Receiver<Links> {
        self.shared.connected.subscribe()
    }

    /// Closes every connection to and from `peer` at once: its calls in flight
    /// fail with [`CallError::Broken`], its requests are no longer handled.
    /// The next call dials again (and is refused if the peer was revoked).
    pub fn cut(&self, peer: NodeId) {
        let links = self.shared.links.read().unwrap_or_else(PoisonError::into_inner).get(&peer).cloned();
        for link in links.into_iter().flatten() {
            link.cut();
        }
        self.shared.served.cut(peer);
    }

    /// Passes the addresses of a peer on to the transport; see
    /// [`Transport::set_addresses`].
    pub fn set_addresses(&self, peer: NodeId, addresses: Vec<SocketAddr>) {
        self.shared.transport.set_addresses(peer, addresses);
    }

    /// Closes everything for good: calls fail with [`CallError::ShutDown`],
    /// running handlers are dropped, the transport stops listening.
    pub fn shutdown(&self) {
        let links = self.shared.links.write().unwrap_or_else(PoisonError::into_inner);
        self.shared.stopped.store(true, Ordering::Release);
        let all: Vec<Arc<Link>> = links.values().flatten().cloned().collect();
        drop(links);
        for link in all {
            link.shut_down();
        }
        self.shared.served.shut_down();
        self.shared.transport.shutdown();
    }

    fn start(&self, start: Start, link: Arc<Link>) {
        if start == Start::Task {
            self.shared.runtime.spawn(run_link(link, self.shared.clone()));
        }
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("local", &self.local()).finish_non_exhaustive()
    }
}

fn check_size(body: &Bytes) -> Result<(), CallError> {
    let bytes = body.len() + ENVELOPE_BYTES;
    if bytes > MAX_FRAME_BYTES { Err(CallError::TooLarge(bytes)) } else { Ok(()) }
}

/// The reply of an [`Endpoint::call`].
#[derive(Debug)]
#[must_use = "the request is under way, but only this future learns its outcome"]
pub struct Call {
    state: CallState,
}

#[derive(Debug)]
enum CallState {
    Waiting(oneshot::Receiver<Result<Bytes, CallError>>),
    Failed(Option<CallError>),
}

impl Future for Call {
    type Output = Result<Bytes, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.state {
            // The sender is dropped unanswered only when the link's task was
            // dropped with its runtime.
            CallState::Waiting(receiver) => {
                Pin::new(receiver).poll(cx).map(|answer| answer.unwrap_or(Err(CallError::ShutDown)))
            }
            CallState::Failed(error) => Poll::Ready(Err(error.take().unwrap_or(CallError::ShutDown))),
        }
    }
}
