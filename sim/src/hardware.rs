//! What outlives a process: its machine's disk and state store, and the
//! network between the machines.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use trine_storage::{OrderedStore, SimDisk};
use trine_transport::{SimConfig, SimNet, SimTransport};
use trine_types::{NodeId, NodeNumber};

use crate::plan::Direction;
use crate::random::Rng;
use crate::trace::Trace;

/// Room on each disk, in bytes: far more than any run writes.
const DISK_BYTES: u64 = 1 << 30;

/// One machine: its key and its storage. Clones are the same machine.
#[derive(Clone)]
pub struct Hardware {
    /// The seed of the key that its node proves.
    pub key_seed: [u8; 32],
    /// Where the log and small files are.
    pub disk: SimDisk,
    /// Where the state of groups is.
    pub state: OrderedStore,
    full: Arc<AtomicBool>,
}

impl Hardware {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let mut key_seed = [0; 32];
        for chunk in key_seed.chunks_mut(8) {
            chunk.copy_from_slice(&rng.draw().to_le_bytes());
        }
        let disk = SimDisk::new(rng.draw());
        disk.set_capacity(DISK_BYTES);
        let state = OrderedStore::new(rng.draw());
        Self { key_seed, disk, state, full: Arc::default() }
    }

    /// Loses what is not synced, and what is not flushed.
    pub(crate) fn crash(&self) {
        self.disk.crash();
        self.state.crash();
    }

    pub(crate) fn fail_sync(&self) {
        self.disk.fail_syncs(1);
    }

    pub(crate) fn fill_up(&self) {
        self.full.store(true, Ordering::Relaxed);
        self.disk.fill_up();
    }

    pub(crate) fn make_room(&self) {
        self.full.store(false, Ordering::Relaxed);
        self.disk.set_capacity(DISK_BYTES);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    pub(crate) fn repair(&self) {
        self.make_room();
        self.disk.fail_syncs(0);
    }
}

/// The network: the simulated twin of `transport`, in terms of node numbers.
pub struct Network {
    net: SimNet,
    ids: BTreeMap<NodeNumber, NodeId>,
}

impl Network {
    /// A network whose weather follows from `rng`.
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let calm = rng.percent(40);
        let config = SimConfig {
            delay_max: Duration::from_micros(rng.between(100, if calm { 1_000 } else { 8_000 })),
            spikes_per_million: if calm { 0 } else { 3_000 },
            breaks_per_million: if calm { 0 } else { 300 },
            ..SimConfig::default()
        };
        Self { net: SimNet::new(rng.draw(), config), ids: BTreeMap::new() }
    }

    /// Moves frames on and mixes what arrived into the trace.
    pub(crate) fn deliver_due(&mut self, now_ms: u64, trace: &Trace) {
        self.net.advance_to(Duration::from_millis(now_ms));
        let traffic = self.net.traffic();
        let seen = [traffic.frames, traffic.bytes, traffic.connections, traffic.digest];
        trace.bytes(2, &seen.map(u64::to_le_bytes).concat());
    }

    /// The transport of a new life of `node`, which proves the key `id`.
    pub fn attach(&mut self, node: NodeNumber, id: NodeId) -> Arc<SimTransport> {
        self.ids.insert(node, id);
        self.net.transport(id)
    }

    fn id(&self, node: NodeNumber) -> NodeId {
        // A node that never started has no key yet: nobody talks to it.
        self.ids.get(&node).copied().unwrap_or_default()
    }

    pub(crate) fn crash(&mut self, node: NodeNumber) {
        self.net.crash(self.id(node));
    }

    pub(crate) fn break_link(&mut self, a: NodeNumber, b: NodeNumber) {
        self.net.break_connections(self.id(a), self.id(b));
    }

    /// Connections no longer break by chance.
    pub(crate) fn settle(&mut self) {
        self.net.settle();
    }

    pub(crate) fn heal(&mut self) {
        self.net.heal_all();
    }

    pub(crate) fn partition(&mut self, side: &[NodeNumber], all: &[NodeNumber], direction: Direction) {
        for inner in side {
            for outer in all.iter().filter(|outer| !side.contains(outer)) {
                let (inner, outer) = (self.id(*inner), self.id(*outer));
                if direction != Direction::In {
                    self.net.partition_one_way(inner, outer);
                }
                if direction != Direction::Out {
                    self.net.partition_one_way(outer, inner);
                }
            }
        }
    }

    pub(crate) fn slow(&mut self, a: NodeNumber, b: NodeNumber, delay_ms: u64) {
        let (a, b, extra) = (self.id(a), self.id(b), Duration::from_millis(delay_ms));
        self.net.slow(a, b, extra);
        self.net.slow(b, a, extra);
    }
}
