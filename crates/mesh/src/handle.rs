//! [`Mesh`]: what other rooms hold to send messages between nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::Instant;
use trine_transport::{CallRefused, Endpoint, Handler, Service};
use trine_types::{Entropy, NodeId};

use crate::bus::Bus;
use crate::direct::{DIRECT, Direct};
use crate::link::interest::Position;
use crate::link::{Incoming, Outgoing, answer};
use crate::run;

/// Frames of links.
pub(crate) const MESSAGES: Service = Service(0x60);

/// What a mesh stands on.
pub struct Parts {
    /// Calls to other nodes.
    pub endpoint: Endpoint,
    /// The nodes of the cluster, as of now and later.
    pub peers: watch::Receiver<BTreeSet<NodeId>>,
    /// Those of them that members believe to have failed; see
    /// [`crate::members::Peers::failed`].
    pub failed: watch::Receiver<BTreeSet<NodeId>>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
}

#[derive(Clone)]
struct Link {
    outgoing: Arc<Outgoing>,
    incoming: Arc<Incoming>,
}

/// What the mesh's tasks share.
pub(crate) struct Shared {
    pub(crate) endpoint: Endpoint,
    pub(crate) bus: Bus,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) stopped: watch::Sender<bool>,
    pub(crate) failed: watch::Receiver<BTreeSet<NodeId>>,
    // Read for every frame that comes in, written when a node joins or leaves.
    links: RwLock<BTreeMap<NodeId, Link>>,
}

impl Shared {
    pub(crate) fn add_link(&self, peer: NodeId, outgoing: Arc<Outgoing>, incoming: Arc<Incoming>) {
        let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
        links.insert(peer, Link { outgoing, incoming });
    }

    pub(crate) fn remove_link(&self, peer: NodeId) {
        self.links.write().unwrap_or_else(PoisonError::into_inner).remove(&peer);
    }

    fn link(&self, peer: NodeId) -> Option<Link> {
        self.links.read().unwrap_or_else(PoisonError::into_inner).get(&peer).cloned()
    }
}

/// Takes frames from other nodes.
struct Frames(Arc<Shared>);

impl Handler for Frames {
    fn handle(&self, from: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, CallRefused>> {
        let Some(link) = self.0.link(from) else {
            // Not heard of yet: it will start over.
            return Box::pin(std::future::ready(Ok(answer(Position::default()))));
        };
        link.outgoing.heard();
        match link.incoming.take(&body, Instant::now()) {
            Ok((answer, pressure)) if pressure.is_gone() => Box::pin(std::future::ready(Ok(answer))),
            Ok((answer, pressure)) => Box::pin(async move {
                pressure.relieved().await;
                Ok(answer)
            }),
            Err(error) => {
                tracing::warn!(peer = %from.short(), %error, "cannot read a frame of messages");
                Box::pin(std::future::ready(Err(CallRefused::Malformed)))
            }
        }
    }
}

/// A node's part of the mesh. Cheap to clone.
#[derive(Clone)]
pub struct Mesh {
    shared: Arc<Shared>,
}

impl Mesh {
    /// Starts to follow which nodes there are, and to exchange interest and
    /// messages with them. Must be called within a tokio runtime.
    #[must_use]
    pub fn start(parts: Parts) -> Self {
        let Parts { endpoint, peers, failed, entropy } = parts;
        let bus = Bus::new(entropy.next_u64());
        let stopped = watch::Sender::new(false);
        let shared = Arc::new(Shared { endpoint, bus, entropy, stopped, failed, links: RwLock::default() });
        shared.endpoint.serve(MESSAGES, Arc::new(Frames(shared.clone())));
        let direct = Direct::new(shared.bus.clone(), shared.entropy.clone());
        shared.endpoint.serve(DIRECT, Arc::new(direct));
        run::start(&shared, peers);
        Self { shared }
    }

    /// Subscriptions and publishers of this node; what is published reaches
    /// all nodes.
    #[must_use]
    pub fn bus(&self) -> &Bus {
        &self.shared.bus
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.shared.endpoint
    }

    pub(crate) fn entropy(&self) -> &dyn Entropy {
        &*self.shared.entropy
    }

    /// How many filters `peer` is known to want.
    #[must_use]
    pub fn wants_of(&self, peer: NodeId) -> usize {
        self.shared.bus.wants_of(peer)
    }

    /// Ends the exchange with other nodes; the bus goes on locally.
    pub fn shut_down(&self) {
        self.shared.stopped.send_replace(true);
    }
}

impl std::fmt::Debug for Mesh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mesh").field("bus", &self.shared.bus).finish_non_exhaustive()
    }
}
