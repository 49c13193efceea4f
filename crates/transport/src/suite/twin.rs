//! The two nodes that a behaviour is tested on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::runtime::{Builder, Runtime};
use trine_types::{Entropy, NodeId};

use crate::config::EndpointConfig;
use crate::endpoint::Endpoint;
use crate::simulated::{SimConfig, SimNet};
use crate::transport::Transport;

/// Two nodes that may connect to each other.
pub(crate) struct Twin {
    pub(crate) one: Arc<dyn Transport>,
    pub(crate) two: Arc<dyn Transport>,
    /// A node that nobody runs, but whose address is known.
    pub(crate) absent: NodeId,
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
    };
    tokio::task::yield_now().await;
    twin
}
