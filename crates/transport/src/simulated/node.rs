//! A node's end of the simulated network.

use std::net::SocketAddr;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{Mutex, mpsc};
use trine_types::NodeId;

use super::hub::SimNet;
use crate::error::{OpenError, UnreachableCause};
use crate::lane::Lane;
use crate::transport::{Connection, Transport};

/// A [`Transport`] over a [`SimNet`], for one life of one node: after
/// [`SimNet::crash`] the node needs a new one.
#[derive(Debug)]
pub struct SimTransport {
    net: SimNet,
    local: NodeId,
    life: u64,
    // `accept` takes `&self`; one task at a time holds the receiver while it
    // waits, as the trait says.
    arrivals: Arc<Mutex<mpsc::Receiver<Connection>>>,
}

impl SimTransport {
    pub(super) fn new(net: SimNet, local: NodeId, life: u64, arrivals: mpsc::Receiver<Connection>) -> Self {
        Self { net, local, life, arrivals: Arc::new(Mutex::new(arrivals)) }
    }
}

impl Transport for SimTransport {
    fn local(&self) -> NodeId {
        self.local
    }

    fn open(&self, peer: NodeId, lane: Lane) -> BoxFuture<'static, Result<Connection, OpenError>> {
        let outcome = self.net.dial(self.local, self.life, peer, lane);
        async move { outcome.await.unwrap_or(Err(OpenError::Unreachable(UnreachableCause::Broken))) }.boxed()
    }

    fn accept(&self) -> BoxFuture<'static, Option<Connection>> {
        let arrivals = self.arrivals.clone();
        async move { arrivals.lock().await.recv().await }.boxed()
    }

    fn set_addresses(&self, _peer: NodeId, _addresses: Vec<SocketAddr>) {}

    fn shutdown(&self) {
        self.net.leave(self.local, self.life);
    }
}
