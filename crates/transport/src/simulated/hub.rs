//! The hub that all simulated nodes share: who is up, who dials, which paths
//! are blocked or slow, and the step that moves everything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use trine_types::NodeId;

use super::dice::Dice;
use super::node::SimTransport;
use super::wire::{Fate, Paths, Step, Wire};
use crate::error::{OpenError, RefusalReason, UnreachableCause};
use crate::frame::Frame;
use crate::lane::Lane;
use crate::transport::Connection;

/// Connections that wait for a node to accept them, as a listener's backlog.
const BACKLOG: usize = 1024;

/// Joiners that wait for one node.
const JOINS: usize = 8;

/// Step of the driver task.
const DRIVER_STEP: Duration = Duration::from_millis(1);

/// How the simulated network behaves when nothing is wrong, and how often
/// something is.
#[derive(Clone, Debug)]
pub struct SimConfig {
    /// Shortest delay of a frame (50 µs).
    pub delay_min: Duration,
    /// Longest ordinary delay of a frame (500 µs).
    pub delay_max: Duration,
    /// Frames in a million that are delayed by up to `spike` (0).
    pub spikes_per_million: u32,
    /// Longest exceptional delay (50 ms).
    pub spike: Duration,
    /// Frames in a million at which the connection breaks instead (0).
    pub breaks_per_million: u32,
    /// How long frames wait on a blocked path before the connection breaks
    /// (3 s), as `TCP_USER_TIMEOUT`.
    pub give_up_after: Duration,
}

impl Default for SimConfig {
    fn default() -> Self {
        Self {
            delay_min: Duration::from_micros(50),
            delay_max: Duration::from_micros(500),
            spikes_per_million: 0,
            spike: Duration::from_millis(50),
            breaks_per_million: 0,
            give_up_after: Duration::from_secs(3),
        }
    }
}

/// What was carried so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SimTraffic {
    /// Frames delivered.
    pub frames: u64,
    /// Bytes delivered.
    pub bytes: u64,
    /// Connections made.
    pub connections: u64,
    /// Over the content of the frames, in the order of their delivery.
    pub digest: u64,
}

impl SimTraffic {
    fn count(&mut self, frame: &Frame) {
        self.frames += 1;
        self.bytes += frame.len() as u64;
        self.digest = fold(fold(self.digest, frame.head()), frame.body());
    }
}

/// Mixes `bytes` and their number into `digest` (a multiply and a rotation for
/// each eight bytes: what matters is that equal runs are seen to be equal).
fn fold(digest: u64, bytes: &[u8]) -> u64 {
    let mix = |digest: u64, word: u64| (digest ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let words = bytes.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    });
    mix(words.fold(digest, mix), bytes.len() as u64)
}

type Opened = Result<Connection, OpenError>;

#[derive(Debug)]
struct Dial {
    from: NodeId,
    to: NodeId,
    lane: Lane,
    due: Option<Duration>,
    reply: oneshot::Sender<Opened>,
}

/// A joiner's frame on its way to the task that judges it.
pub(super) type Asking = (Bytes, NodeId, oneshot::Sender<Bytes>);

/// One life of a node.
#[derive(Debug)]
struct Life {
    serial: u64,
    backlog: mpsc::Sender<Connection>,
    joins: Option<mpsc::Sender<Asking>>,
}

/// Which paths carry nothing.
#[derive(Debug, Default)]
struct Blocked {
    blocked: BTreeSet<(NodeId, NodeId)>,
    isolated: BTreeSet<NodeId>,
}

impl Blocked {
    fn one_way(&self, from: NodeId, to: NodeId) -> bool {
        self.isolated.contains(&from) || self.isolated.contains(&to) || self.blocked.contains(&(from, to))
    }

    fn either(&self, one: NodeId, other: NodeId) -> bool {
        self.one_way(one, other) || self.one_way(other, one)
    }
}

#[derive(Debug)]
struct Hub {
    config: SimConfig,
    dice: Dice,
    now: Duration,
    lives: u64,
    nodes: BTreeMap<NodeId, Life>,
    dials: Vec<Dial>,
    wires: BTreeMap<u64, Wire>,
    next_wire: u64,
    paths: Blocked,
    slow: BTreeMap<(NodeId, NodeId), Duration>,
    refused: BTreeMap<NodeId, RefusalReason>,
    traffic: SimTraffic,
}

/// A simulated network; clones are the same network. See the module's text.
///
/// The hub is behind a mutex because nodes (which dial) and the simulator
/// (which steps) both reach it without a runtime in common; it exists in tests
/// only.
#[derive(Clone, Debug)]
pub struct SimNet(Arc<Mutex<Hub>>);

impl SimNet {
    /// A network without nodes. The same seed, calls and steps give the same
    /// deliveries.
    #[must_use]
    pub fn new(seed: u64, config: SimConfig) -> Self {
        Self(Arc::new(Mutex::new(Hub {
            config,
            dice: Dice::new(seed),
            now: Duration::ZERO,
            lives: 0,
            nodes: BTreeMap::new(),
            dials: Vec::new(),
            wires: BTreeMap::new(),
            next_wire: 0,
            paths: Blocked::default(),
            slow: BTreeMap::new(),
            refused: BTreeMap::new(),
            traffic: SimTraffic::default(),
        })))
    }

    /// Starts a life of `node`; an earlier life ends as by [`SimNet::crash`].
    #[must_use]
    pub fn transport(&self, node: NodeId) -> Arc<SimTransport> {
        let mut hub = self.lock();
        hub.end_life(node);
        hub.lives += 1;
        let life = hub.lives;
        let (backlog, arrivals) = mpsc::channel(BACKLOG);
        hub.nodes.insert(node, Life { serial: life, backlog, joins: None });
        drop(hub);
        Arc::new(SimTransport::new(self.clone(), node, life, arrivals))
    }

    /// Moves time to `now` (since the start of the simulation; never back):
    /// takes what was sent, delivers what is due, wakes the receivers.
    pub fn advance_to(&self, now: Duration) {
        let mut hub = self.lock();
        hub.now = hub.now.max(now);
        hub.step_wires();
        hub.step_dials();
    }

    /// Spawns a task that calls [`SimNet::advance_to`] each millisecond of the
    /// current runtime's (paused) time, until it is aborted.
    pub fn spawn_driver(&self) -> JoinHandle<()> {
        let net = self.clone();
        let (start, offset) = (Instant::now(), net.lock().now);
        tokio::spawn(async move {
            loop {
                sleep(DRIVER_STEP).await;
                net.advance_to(offset + start.elapsed());
            }
        })
    }

    /// Blocks both paths between two nodes. Frames wait, as TCP retransmits;
    /// connections break after [`SimConfig::give_up_after`].
    pub fn partition(&self, one: NodeId, other: NodeId) {
        self.partition_one_way(one, other);
        self.partition_one_way(other, one);
    }

    /// Blocks the path from `from` to `to` only.
    pub fn partition_one_way(&self, from: NodeId, to: NodeId) {
        self.lock().paths.blocked.insert((from, to));
    }

    /// Blocks every path to and from `node`, also of nodes that start later;
    /// it outlives a crash. Ended by [`SimNet::reconnect`].
    pub fn isolate(&self, node: NodeId) {
        self.lock().paths.isolated.insert(node);
    }

    /// Ends [`SimNet::isolate`].
    pub fn reconnect(&self, node: NodeId) {
        self.lock().paths.isolated.remove(&node);
    }

    /// Opens both paths between two nodes again.
    pub fn heal(&self, one: NodeId, other: NodeId) {
        let mut hub = self.lock();
        hub.paths.blocked.remove(&(one, other));
        hub.paths.blocked.remove(&(other, one));
    }

    /// Opens every path, and makes none slow any more.
    pub fn heal_all(&self) {
        let mut hub = self.lock();
        hub.paths = Blocked::default();
        hub.slow.clear();
    }

    /// From now on no frame is exceptionally late and no connection breaks by
    /// chance.
    pub fn settle(&self) {
        let mut hub = self.lock();
        hub.config.spikes_per_million = 0;
        hub.config.breaks_per_million = 0;
    }

    /// Delays every frame from `from` to `to` by `extra` more; zero ends it.
    pub fn slow(&self, from: NodeId, to: NodeId, extra: Duration) {
        let mut hub = self.lock();
        if extra.is_zero() {
            hub.slow.remove(&(from, to));
        } else {
            hub.slow.insert((from, to), extra);
        }
    }

    /// Breaks every connection between two nodes at once; frames in flight
    /// are lost. New connections can be made.
    pub fn break_connections(&self, one: NodeId, other: NodeId) {
        self.lock().wires.retain(|_, wire| {
            let between = wire.nodes.contains(&one) && wire.nodes.contains(&other);
            if between {
                wire.break_now();
            }
            !between
        });
    }

    /// The process at `node` is gone (as by SIGKILL): what it had not sent is
    /// lost, its peers see their connections end, nobody answers a dial. For
    /// a loss of power, [`SimNet::isolate`] it first. Drop its runtime, then
    /// start the next life with [`SimNet::transport`].
    pub fn crash(&self, node: NodeId) {
        self.lock().end_life(node);
    }

    /// From now on connections to and from `node` are refused with `reason`;
    /// `None` lets it in again. Open connections stay (see `Endpoint::cut`).
    pub fn refuse(&self, node: NodeId, reason: Option<RefusalReason>) {
        let mut hub = self.lock();
        match reason {
            Some(reason) => hub.refused.insert(node, reason),
            None => hub.refused.remove(&node),
        };
    }

    /// What was carried so far.
    #[must_use]
    pub fn traffic(&self) -> SimTraffic {
        self.lock().traffic
    }

    pub(super) fn dial(&self, from: NodeId, life: u64, to: NodeId, lane: Lane) -> oneshot::Receiver<Opened> {
        let (reply, outcome) = oneshot::channel();
        let mut hub = self.lock();
        if hub.is_alive(from, life) {
            hub.dials.push(Dial { from, to, lane, due: None, reply });
        } else {
            let _ = reply.send(Err(OpenError::ShutDown));
        }
        outcome
    }

    pub(super) fn leave(&self, node: NodeId, life: u64) {
        let mut hub = self.lock();
        if hub.is_alive(node, life) {
            hub.end_life(node);
        }
    }

    /// Where joiners' frames for `node` go from now on.
    pub(super) fn accept_joins(&self, node: NodeId, life: u64) -> mpsc::Receiver<Asking> {
        let (sender, receiver) = mpsc::channel(JOINS);
        let mut hub = self.lock();
        if let Some(current) = hub.nodes.get_mut(&node).filter(|current| current.serial == life) {
            current.joins = Some(sender);
        }
        receiver
    }

    /// Hands a joiner's frame to `contact`; a joiner that the network keeps
    /// away, or whom `contact` does not serve, gets an error.
    pub(super) fn ask_to_join(
        &self,
        from: NodeId,
        contact: NodeId,
        frame: Bytes,
    ) -> Result<oneshot::Receiver<Bytes>, OpenError> {
        let hub = self.lock();
        if hub.paths.either(from, contact) {
            return Err(OpenError::Unreachable(UnreachableCause::TimedOut));
        }
        let refused = OpenError::Unreachable(UnreachableCause::Io(std::io::ErrorKind::ConnectionRefused));
        let joins = hub.nodes.get(&contact).and_then(|life| life.joins.as_ref()).ok_or(refused)?;
        let (reply, outcome) = oneshot::channel();
        joins.try_send((frame, from, reply)).map_err(|_| OpenError::Refused(RefusalReason::Busy))?;
        Ok(outcome)
    }

    fn lock(&self) -> MutexGuard<'_, Hub> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hub {
    fn is_alive(&self, node: NodeId, life: u64) -> bool {
        self.nodes.get(&node).is_some_and(|current| current.serial == life)
    }

    fn end_life(&mut self, node: NodeId) {
        self.nodes.remove(&node);
        for wire in self.wires.values_mut() {
            wire.crash(node);
        }
        for dial in self.dials.extract_if(.., |dial| dial.from == node) {
            let _ = dial.reply.send(Err(OpenError::ShutDown));
        }
    }

    fn delay(&mut self, from: NodeId, to: NodeId) -> Duration {
        let Self { config, dice, slow, .. } = self;
        draw_delay(config, dice, slow, from, to)
    }

    fn step_wires(&mut self) {
        let Self { config, dice, slow, paths: blocked, wires, traffic, now, .. } = self;
        wires.retain(|_, wire| {
            let nodes = wire.nodes;
            let between = |end: usize| (nodes[end], nodes[1 - end]);
            let paths = Paths {
                blocked: [0, 1].map(|end| blocked.one_way(nodes[end], nodes[1 - end])),
                give_up_after: config.give_up_after,
            };
            let fate = |end: usize| {
                if dice.strikes(config.breaks_per_million) {
                    return Fate::Break;
                }
                let (from, to) = between(end);
                Fate::Delay(draw_delay(config, dice, slow, from, to))
            };
            wire.step(*now, &paths, fate, |frame| traffic.count(frame)) == Step::Alive
        });
    }

    fn step_dials(&mut self) {
        for mut dial in std::mem::take(&mut self.dials) {
            if dial.reply.is_closed() {
                continue;
            }
            let due = match dial.due {
                Some(due) => due,
                None => self.now + self.delay(dial.from, dial.to) + self.delay(dial.to, dial.from),
            };
            dial.due = Some(due);
            if self.paths.either(dial.from, dial.to) || due > self.now {
                self.dials.push(dial);
            } else {
                let opened = self.connect(dial.from, dial.to, dial.lane);
                // A dialler that has just gone drops the connection.
                let _ = dial.reply.send(opened);
            }
        }
    }

    fn connect(&mut self, from: NodeId, to: NodeId, lane: Lane) -> Opened {
        if let Some(reason) = self.refused.get(&from).or_else(|| self.refused.get(&to)) {
            return Err(OpenError::Refused(*reason));
        }
        let refused = OpenError::Unreachable(UnreachableCause::Io(std::io::ErrorKind::ConnectionRefused));
        let Some(Life { backlog, .. }) = self.nodes.get(&to) else { return Err(refused) };
        let (wire, dialler, acceptor) = Wire::new(from, to, lane);
        backlog.try_send(acceptor).map_err(|_| refused)?;
        self.wires.insert(self.next_wire, wire);
        self.next_wire += 1;
        self.traffic.connections += 1;
        Ok(dialler)
    }
}

fn draw_delay(
    config: &SimConfig,
    dice: &mut Dice,
    slow: &BTreeMap<(NodeId, NodeId), Duration>,
    from: NodeId,
    to: NodeId,
) -> Duration {
    let extra = slow.get(&(from, to)).copied().unwrap_or_default();
    let ordinary = dice.between(config.delay_min, config.delay_max);
    let spike = if dice.strikes(config.spikes_per_million) {
        dice.between(Duration::ZERO, config.spike)
    } else {
        Duration::ZERO
    };
    extra + ordinary + spike
}
