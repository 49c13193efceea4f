//! [`TlsTransport`]: the handle, what its tasks share, and the task that
//! applies new trust to open connections.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use rustls::ServerConfig;
use tokio::sync::{mpsc, watch};
use trine_types::{Clock, NodeId};

use super::keys::Keys;
use super::{dial, listen, socket};
use crate::certificate::AdmissionCertificate;
use crate::config::TlsConfig;
use crate::error::OpenError;
use crate::identity::Identity;
use crate::join::{JoinError, JoinHandler};
use crate::lane::Lane;
use crate::signal::{Closer, WeakCloser};
use crate::ticket::Ticket;
use crate::transport::{Connection, Transport};
use crate::trust::Trust;

/// Connections that wait to be accepted; more are dropped.
const ARRIVALS: usize = 1024;

/// Nodes over TLS and TCP; see the module's text.
pub struct TlsTransport {
    shared: Arc<Shared>,
    address: SocketAddr,
    // `accept` takes `&self`; one task at a time holds the receiver while it
    // waits, as the trait says.
    arrivals: Arc<tokio::sync::Mutex<mpsc::Receiver<Connection>>>,
}

/// What the transport's tasks share.
pub(super) struct Shared {
    pub(super) local: NodeId,
    pub(super) config: TlsConfig,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) keys: Keys,
    pub(super) server: Arc<ServerConfig>,
    trust: watch::Receiver<Arc<Trust>>,
    stop: watch::Sender<bool>,
    // Both are read when a connection is made and written when the cluster
    // changes: too rarely for a task of their own.
    addresses: RwLock<BTreeMap<NodeId, Vec<SocketAddr>>>,
    join_handler: RwLock<Option<Arc<dyn JoinHandler>>>,
    // Touched when a connection begins; new trust must find all of them.
    open: Mutex<Vec<Open>>,
}

/// An open connection, as far as trust is concerned.
struct Open {
    peer: NodeId,
    certificate: AdmissionCertificate,
    closer: WeakCloser,
}

impl Shared {
    pub(super) fn trust(&self) -> Arc<Trust> {
        self.trust.borrow().clone()
    }

    pub(super) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    pub(super) fn addresses(&self, peer: NodeId) -> Vec<SocketAddr> {
        self.addresses.read().unwrap_or_else(PoisonError::into_inner).get(&peer).cloned().unwrap_or_default()
    }

    pub(super) fn join_handler(&self) -> Option<Arc<dyn JoinHandler>> {
        self.join_handler.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes a connection that was admitted by `certificate`.
    pub(super) fn enter(&self, peer: NodeId, certificate: &AdmissionCertificate, closer: &Closer) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|other| other.closer.is_alive());
        open.push(Open { peer, certificate: certificate.clone(), closer: closer.downgrade() });
        drop(open);
        // Trust may have changed, or all may have stopped, since it was asked.
        if self.is_stopped() || !self.trust().keeps(peer, certificate) {
            closer.close();
        }
    }

    fn close_unless(&self, keeps: impl Fn(NodeId, &AdmissionCertificate) -> bool) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let closers: Vec<WeakCloser> = open
            .iter()
            .filter(|open| !keeps(open.peer, &open.certificate))
            .map(|open| open.closer.clone())
            .collect();
        drop(open);
        for closer in closers {
            closer.close();
        }
    }
}

impl TlsTransport {
    /// Listens at `config.listen` and accepts from now on. Must be called
    /// within a tokio runtime with IO. `identity` is proven to peers; `trust`
    /// says whom to let in: a change closes the connections of peers that it
    /// revokes at once. `clock` dates certificates.
    ///
    /// # Errors
    /// When the address cannot be listened at.
    pub fn bind(
        config: TlsConfig,
        identity: &Identity,
        trust: watch::Receiver<Arc<Trust>>,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let keys = Keys::new(identity).map_err(io::Error::other)?;
        let server = Arc::new(keys.server().map_err(io::Error::other)?);
        let listener = socket::listen(config.listen)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(Shared {
            local: identity.node_id(),
            config,
            clock,
            keys,
            server,
            trust: trust.clone(),
            stop,
            addresses: RwLock::default(),
            join_handler: RwLock::default(),
            open: Mutex::default(),
        });
        let (sender, arrivals) = mpsc::channel(ARRIVALS);
        tokio::spawn(listen::accept_all(listener, shared.clone(), sender, stopped.clone()));
        tokio::spawn(apply_trust(shared.clone(), trust, stopped));
        Ok(Self { shared, address, arrivals: Arc::new(tokio::sync::Mutex::new(arrivals)) })
    }

    /// Where it listens; of use when port 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Closes what new trust does not keep.
async fn apply_trust(
    shared: Arc<Shared>,
    mut trust: watch::Receiver<Arc<Trust>>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            biased;
            () = listen::stopped(&mut stop) => break,
            changed = trust.changed() => {
                if changed.is_err() {
                    break;
                }
                let now = trust.borrow_and_update().clone();
                shared.close_unless(|peer, certificate| now.keeps(peer, certificate));
            }
        }
    }
}

impl Transport for TlsTransport {
    fn local(&self) -> NodeId {
        self.shared.local
    }

    fn open(&self, peer: NodeId, lane: Lane) -> BoxFuture<'static, Result<Connection, OpenError>> {
        dial::open(self.shared.clone(), peer, lane).boxed()
    }

    fn accept(&self) -> BoxFuture<'static, Option<Connection>> {
        let arrivals = self.arrivals.clone();
        async move { arrivals.lock().await.recv().await }.boxed()
    }

    fn set_addresses(&self, peer: NodeId, addresses: Vec<SocketAddr>) {
        let mut known = self.shared.addresses.write().unwrap_or_else(PoisonError::into_inner);
        if addresses.is_empty() {
            known.remove(&peer);
        } else {
            known.insert(peer, addresses);
        }
    }

    fn serve_joins(&self, handler: Arc<dyn JoinHandler>) {
        *self.shared.join_handler.write().unwrap_or_else(PoisonError::into_inner) = Some(handler);
    }

    fn join(&self, ticket: Ticket, request: Bytes) -> BoxFuture<'static, Result<Bytes, JoinError>> {
        dial::join(self.shared.clone(), ticket, request).boxed()
    }

    fn shutdown(&self) {
        self.shared.stop.send_replace(true);
        self.shared.close_unless(|_, _| false);
    }
}

impl Drop for TlsTransport {
    /// Nobody can accept any more.
    fn drop(&mut self) {
        self.shared.stop.send_replace(true);
    }
}

impl std::fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsTransport")
            .field("local", &self.shared.local)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}
