//! The two nodes that a behaviour is tested on.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use trine_types::{Clock, ClusterId, Entropy, NodeId, NodeNumber};

use crate::certificate::{Admission, AdmissionCertificate};
use crate::config::{EndpointConfig, TlsConfig};
use crate::endpoint::Endpoint;
use crate::identity::{Identity, IssuingKey};
use crate::simulated::{SimConfig, SimNet};
use crate::tls::TlsTransport;
use crate::transport::Transport;
use crate::trust::Trust;

/// Two nodes that may connect to each other.
pub(crate) struct Twin {
    pub(crate) one: Arc<dyn Transport>,
    pub(crate) two: Arc<dyn Transport>,
    /// A node that nobody runs, but whose address is known.
    pub(crate) absent: NodeId,
    /// Where node two listens.
    pub(crate) two_address: SocketAddr,
}

impl Twin {
    pub(crate) fn endpoints(&self, config: EndpointConfig) -> (Endpoint, Endpoint) {
        (
            Endpoint::new(self.one.clone(), Arc::new(Seeded::new(1)), config.clone()),
            Endpoint::new(self.two.clone(), Arc::new(Seeded::new(2)), config),
        )
    }
}

/// Seeded entropy: a counter stepped by a large odd number.
pub(crate) struct Seeded(AtomicU64);

impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }
}

impl Entropy for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let number = self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
            let mixed = (number ^ (number >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            chunk.copy_from_slice(&mixed.to_le_bytes()[..chunk.len()]);
        }
    }
}

pub(crate) fn paused_runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

pub(crate) async fn simulated() -> Twin {
    let net = SimNet::new(7, SimConfig::default());
    net.spawn_driver();
    let twin = Twin {
        one: net.transport(NodeId([1; 32])),
        two: net.transport(NodeId([2; 32])),
        absent: NodeId([9; 32]),
        two_address: SocketAddr::from(([127, 0, 0, 1], 1)),
    };
    tokio::task::yield_now().await;
    twin
}

/// A runtime with sockets.
pub(crate) fn real_runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

pub(crate) async fn tls() -> Twin {
    let cluster = Founded::new();
    let (one, _) = cluster.node(1);
    let (two, _) = cluster.node(2);
    one.set_addresses(two.local(), vec![two.address()]);
    two.set_addresses(one.local(), vec![one.address()]);
    let absent = NodeId([9; 32]);
    // A port that was free a moment ago: nobody listens there.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    one.set_addresses(absent, vec![closed]);
    let two_address = two.address();
    Twin { one: Arc::new(one), two: Arc::new(two), absent, two_address }
}

/// A wall clock that stands still.
pub(crate) struct Still(pub(crate) u64);

impl Clock for Still {
    fn wall_ms(&self) -> u64 {
        self.0
    }
}

/// When [`Still`] clocks of these tests stand.
pub(crate) const NOW_MS: u64 = 1_000_000;

/// A cluster that admits nodes.
pub(crate) struct Founded {
    pub(crate) cluster: ClusterId,
    pub(crate) issuer: IssuingKey,
}

impl Founded {
    pub(crate) fn new() -> Self {
        Self { cluster: ClusterId([5; 16]), issuer: IssuingKey::from_seed([200; 32]) }
    }

    pub(crate) fn admission(&self, node: NodeId) -> Admission {
        Admission {
            cluster: self.cluster,
            node,
            number: NodeNumber(1),
            name: "one".into(),
            roles: 0,
            not_before_ms: NOW_MS - 1,
            not_after_ms: NOW_MS + 1,
        }
    }

    pub(crate) fn trust(&self, node: NodeId) -> Trust {
        Trust {
            cluster: Some(self.cluster),
            issuers: BTreeSet::from([self.issuer.public()]),
            revoked: BTreeSet::new(),
            certificate: Some(AdmissionCertificate::issue(self.admission(node), &self.issuer)),
        }
    }

    /// An admitted node; the key comes from `seed`.
    pub(crate) fn node(&self, seed: u8) -> (TlsTransport, watch::Sender<Arc<Trust>>) {
        let identity = Identity::from_seed([seed; 32]);
        bind(seed, self.trust(identity.node_id()), |_| {})
    }
}

/// A node with any trust and settings.
pub(crate) fn bind(
    seed: u8,
    trust: Trust,
    change: impl FnOnce(&mut TlsConfig),
) -> (TlsTransport, watch::Sender<Arc<Trust>>) {
    let (sender, receiver) = watch::channel(Arc::new(trust));
    let mut config = TlsConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    change(&mut config);
    let identity = Identity::from_seed([seed; 32]);
    (TlsTransport::bind(config, &identity, receiver, Arc::new(Still(NOW_MS))).unwrap(), sender)
}
