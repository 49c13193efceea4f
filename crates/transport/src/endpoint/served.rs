//! What this node serves: the handlers, and the connections that came in.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use futures::future::BoxFuture;
use trine_types::NodeId;

use crate::error::CallRefused;
use crate::lane::{Lane, Service};
use crate::signal::Closer;

/// Serves the calls and notices of one service.
pub trait Handler: Send + Sync + 'static {
    /// Takes one call (or notice: then the answer is dropped) from `from`.
    ///
    /// Invoked in order of arrival per connection. The synchronous part must
    /// be short (decode, enqueue); the future may take long but must neither
    /// block nor compute for long, as it is polled by the connection's task.
    /// It is dropped when the connection ends, so that work which must finish
    /// belongs into a task or queue of its own.
    fn handle(&self, from: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, CallRefused>>;
}

/// Who serves what, and which connections came in.
#[derive(Default)]
pub(super) struct Served {
    // Read for every incoming call, written at start only; a task that owned
    // it would cost each call two wake-ups.
    handlers: RwLock<BTreeMap<Service, Arc<dyn Handler>>>,
    // Touched per connection, never per call; `cut` must find all of them at
    // once from any thread.
    connections: Mutex<Connections>,
}

#[derive(Default)]
struct Connections {
    next_serial: u64,
    open: BTreeMap<(NodeId, Lane), (u64, Closer)>,
    closed: bool,
}

impl Served {
    pub(super) fn add(&self, service: Service, handler: Arc<dyn Handler>) {
        self.handlers.write().unwrap_or_else(PoisonError::into_inner).insert(service, handler);
    }

    pub(super) fn handler(&self, service: Service) -> Option<Arc<dyn Handler>> {
        self.handlers.read().unwrap_or_else(PoisonError::into_inner).get(&service).cloned()
    }

    /// Notes a connection. An older one of the same peer and lane is closed:
    /// the peer has one at a time, so that the older one is dead.
    pub(super) fn enter(&self, peer: NodeId, lane: Lane, closer: Closer) -> u64 {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if connections.closed {
            closer.close();
        }
        connections.next_serial += 1;
        let serial = connections.next_serial;
        let older = connections.open.insert((peer, lane), (serial, closer));
        drop(connections);
        if let Some((_, older)) = older {
            older.close();
        }
        serial
    }

    pub(super) fn leave(&self, peer: NodeId, lane: Lane, serial: u64) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if connections.open.get(&(peer, lane)).is_some_and(|(newest, _)| *newest == serial) {
            connections.open.remove(&(peer, lane));
        }
    }

    pub(super) fn cut(&self, peer: NodeId) {
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let closers: Vec<Closer> = Lane::ALL
            .into_iter()
            .filter_map(|lane| connections.open.get(&(peer, lane)))
            .map(|(_, closer)| closer.clone())
            .collect();
        drop(connections);
        for closer in closers {
            closer.close();
        }
    }

    pub(super) fn shut_down(&self) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.closed = true;
        let closers: Vec<Closer> = connections.open.values().map(|(_, closer)| closer.clone()).collect();
        drop(connections);
        for closer in closers {
            closer.close();
        }
    }
}
