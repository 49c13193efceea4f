//! A node's end of the simulated network.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{Mutex, mpsc};
use trine_types::NodeId;

use super::hub::SimNet;
use crate::error::{OpenError, UnreachableCause};
use crate::join::{self, JoinError, JoinHandler};
use crate::lane::Lane;
use crate::ticket::Ticket;
use crate::transport::{Connection, Transport};

/// Where every joiner of the simulated network comes from.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Stands for what only the two ends of a TLS session know.
const SESSION: [u8; 32] = [0; 32];

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

    fn serve_joins(&self, handler: Arc<dyn JoinHandler>) {
        let mut joins = self.net.accept_joins(self.local, self.life);
        tokio::spawn(async move {
            while let Some((frame, joiner, reply)) = joins.recv().await {
                if let Some(attempt) = join::decode_request(&frame, NOWHERE, joiner, SESSION) {
                    // A joiner that has gone does not want the reply.
                    let _ = reply.send(join::encode_reply(&handler.join(attempt).await));
                }
            }
        });
    }

    fn join(&self, ticket: Ticket, request: Bytes) -> BoxFuture<'static, Result<Bytes, JoinError>> {
        let (net, local) = (self.net.clone(), self.local);
        async move {
            let frame = join::encode_request(&ticket.secret, local, &SESSION, &request)?;
            let mut last = OpenError::UnknownAddress;
            for contact in ticket.contacts {
                match net.ask_to_join(local, contact.node, frame.clone()) {
                    Ok(outcome) => {
                        let reply = outcome.await.map_err(|_| JoinError::Interrupted)?;
                        let reply = join::decode_reply(&reply).ok_or(JoinError::Interrupted)?;
                        return reply.map_err(JoinError::Refused);
                    }
                    Err(error) => last = error,
                }
            }
            Err(JoinError::NoContact(last))
        }
        .boxed()
    }

    fn shutdown(&self) {
        self.net.leave(self.local, self.life);
    }
}
