//! One beat per pair of nodes instead of heartbeats per group. Each node tells
//! the nodes that it shares groups with, every 50 ms, that it is alive, what
//! its clock says, and which groups it leads in which term. From that follows:
//!
//! - A follower's ticker is parked while its leader's node is alive and says
//!   that it leads; a leader's ticker is parked when the group was idle for
//!   [`HIBERNATE_AFTER`]. A group without work costs nothing.
//! - When the leader's node falls silent, its followers look for a new leader
//!   one after the other, as soon as its lease has run out.
//! - A node whose groups have had no work for [`HIBERNATE_AFTER`] leaves out
//!   every second beat.
//! - A node whose clock is far off its peers', or whose disk is far slower
//!   than theirs, hands its leaderships over.
//!
//! Nothing here is needed for safety: an election that is begun by mistake
//! costs a hand-over, one that is begun too late costs time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver as _;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use trine_transport::Lane;
use trine_types::limits::{ELECTION_TIMEOUT_MAX, HIBERNATE_AFTER, LIVENESS_INTERVAL, MAX_CLOCK_SKEW};
use trine_types::{GroupId, Incarnation, NodeId, NodeNumber};

use super::server::BEAT;
use crate::disk_pace::{self, DiskPace};
use crate::node::{Local, Node};
use crate::pulse::{Pulse, Situation, Step};

/// Intervals between two beats of a node without work. Three of these beats
/// fit into the time after which a peer is suspected.
const QUIET_EVERY: u64 = 2;
/// Beats between two that go to nodes with which this one only shares groups
/// that one of them just listens to.
const SLOW_EVERY: u64 = 10;
/// Silence after which a slow peer is suspected, in intervals.
const SLOW_SUSPECT: u32 = 60;
/// Margin after a lease before an election is begun, and between the members.
const ELECTION_MARGIN: Duration = Duration::from_millis(20);
const ELECTION_STAGGER: Duration = Duration::from_millis(75);
/// Clock offsets of a peer that are looked at: the largest is the one that
/// was delayed least.
const OFFSETS: usize = 16;

/// What one node tells another.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Beat {
    number: u64,
    incarnation: u64,
    wall_ms: u64,
    /// Whether the next beat comes after [`SLOW_EVERY`] intervals.
    slow: bool,
    /// How long the sender's syncs take lately, in microseconds.
    sync_us: Option<u32>,
    /// Groups that the sender leads, with the term.
    leads: Vec<(u32, u64)>,
}

/// What was heard of a peer.
#[derive(Debug, Clone)]
struct Heard {
    at: Instant,
    incarnation: Incarnation,
    slow: bool,
    sync: Option<Duration>,
    leads: BTreeMap<GroupId, u64>,
    offsets: Vec<i64>,
}

impl Heard {
    fn offset_ms(&self) -> Option<i64> {
        self.offsets.iter().max().copied()
    }
}

/// What is known about other nodes' lives; written by beats that arrive.
#[derive(Default)]
pub(crate) struct LivenessView {
    // Beats arrive on the connections' tasks, 20 a second and peer; votes and
    // the liveness task read it.
    heard: Mutex<BTreeMap<NodeNumber, Heard>>,
    pub(crate) suspects: watch::Sender<BTreeSet<NodeNumber>>,
}

impl LivenessView {
    fn heard(&self) -> MutexGuard<'_, BTreeMap<NodeNumber, Heard>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A peer's beat came in.
    pub(crate) fn beat_arrived(&self, node: &Node, from: NodeId, body: Bytes) {
        let Ok(beat) = postcard::from_bytes::<Beat>(&body) else { return };
        drop(body);
        let number = NodeNumber(beat.number);
        if node.key_of(number).is_some_and(|known| known != from) || number == node.number {
            return;
        }
        let wall = i64::try_from(node.clock.wall_ms()).unwrap_or(i64::MAX);
        let offset = i64::try_from(beat.wall_ms).unwrap_or(i64::MAX).saturating_sub(wall);
        let mut heard = self.heard();
        let known = heard.remove(&number).filter(|known| known.incarnation.0 <= beat.incarnation);
        let mut offsets = known.map(|known| known.offsets).unwrap_or_default();
        if offsets.len() >= OFFSETS {
            offsets.remove(0);
        }
        offsets.push(offset);
        let leads = beat.leads.into_iter().map(|(group, term)| (GroupId(group), term)).collect();
        let entry = Heard {
            at: Instant::now(),
            incarnation: Incarnation(beat.incarnation),
            slow: beat.slow,
            sync: beat.sync_us.map(|us| Duration::from_micros(us.into())),
            leads,
            offsets,
        };
        heard.insert(number, entry);
    }

    /// How long syncs take at those peers that have told.
    fn syncs(&self, among: impl Fn(NodeNumber) -> bool) -> BTreeMap<NodeNumber, Duration> {
        let heard = self.heard();
        let told = heard.iter().filter(|(number, _)| among(**number));
        told.filter_map(|(number, heard)| Some((*number, heard.sync?))).collect()
    }

    /// See [`crate::Replication::slow_disks`].
    pub(crate) fn slow_disks(&self, node: &Node) -> BTreeSet<NodeNumber> {
        disk_pace::slow_peers(node.wal.sync_pace(), &self.syncs(|_| true))
    }

    /// Whether the leader that `local` follows was heard of lately and says
    /// that it leads. `asker` is who wants to take its place.
    pub(crate) fn leader_is_alive(&self, local: &Local, asker: NodeId) -> bool {
        let metrics = local.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let Some(leader) = metrics.current_leader.map(NodeNumber) else { return false };
        let is_asker =
            metrics.membership_config.get_node(&leader.0).is_some_and(|member| member.key == asker);
        let term = metrics.vote.leader_id.term;
        let heard = self.heard();
        !is_asker
            && heard.get(&leader).is_some_and(|heard| {
                heard.at.elapsed() < LIVENESS_INTERVAL * 4
                    && heard.leads.get(&local.replica.group) == Some(&term)
            })
    }
}

/// The members that a node exchanges beats with.
#[derive(Default)]
struct Peers {
    fast: BTreeMap<NodeNumber, NodeId>,
    slow: BTreeMap<NodeNumber, NodeId>,
}

/// What the liveness task remembers.
struct Liveness {
    node: Arc<Node>,
    started: Instant,
    /// Intervals that have passed.
    count: u64,
    /// Whether this beat goes to slow peers, too.
    slow_turn: bool,
    /// What was applied here, all groups together, and when it last changed.
    applied: (u64, Instant),
    peers: Peers,
    /// Since when a peer is expected to be heard of.
    expected: BTreeMap<NodeNumber, Instant>,
    /// The incarnation of each peer that its groups were woken for.
    greeted: BTreeMap<NodeNumber, Incarnation>,
    pulses: BTreeMap<GroupId, Pulse>,
    skewed: bool,
    disk_pace: DiskPace,
}

/// Runs as long as the node.
pub(crate) async fn run(node: Arc<Node>, mut stop: watch::Receiver<bool>) {
    let mut liveness = Liveness {
        node,
        started: Instant::now(),
        count: 0,
        slow_turn: true,
        applied: (0, Instant::now()),
        peers: Peers::default(),
        expected: BTreeMap::new(),
        greeted: BTreeMap::new(),
        pulses: BTreeMap::new(),
        skewed: false,
        disk_pace: DiskPace::new(Instant::now()),
    };
    let grid = liveness.node.endpoint.grid();
    let mut next = Instant::now();
    loop {
        tokio::select! {
            biased;
            _ = stop.changed() => return,
            () = sleep_until(next) => {
                let intervals = liveness.beat().await;
                let pause = LIVENESS_INTERVAL.saturating_mul(u32::try_from(intervals).unwrap_or(1));
                next = grid.line(Instant::now() + pause, pause);
            }
        }
    }
}

impl Liveness {
    /// Returns after how many intervals the next beat is due.
    async fn beat(&mut self) -> u64 {
        let locals = self.node.locals();
        if self.slow_turn {
            self.find_peers(&locals);
        }
        self.send(&locals);
        let silent = self.judge();
        self.mind_clock(&locals, &silent).await;
        self.mind_disk(&locals, &silent).await;
        let known: BTreeSet<GroupId> = locals.iter().map(|(group, _)| *group).collect();
        self.pulses.retain(|group, _| known.contains(group));
        let returned = self.returned();
        for (group, local) in locals {
            self.tend(group, &local, &silent, &returned).await;
        }
        let intervals = if self.is_quiet(&silent) { QUIET_EVERY } else { 1 };
        let turns = self.count / SLOW_EVERY;
        self.count += intervals;
        self.slow_turn = self.count / SLOW_EVERY != turns;
        intervals
    }

    /// Whether nothing happens here or at a peer that would not stand waiting
    /// for the beat after the next.
    fn is_quiet(&mut self, silent: &BTreeMap<NodeNumber, Instant>) -> bool {
        let (now, locals) = (Instant::now(), self.node.locals());
        let applied =
            locals.iter().filter_map(|(_, local)| local.replica.applied().last).map(|last| last.index);
        let applied = applied.fold(0, u64::wrapping_add);
        if applied != self.applied.0 {
            self.applied = (applied, now);
        }
        let parked = locals.iter().all(|(_, local)| local.parked.load(Ordering::Relaxed));
        parked && silent.is_empty() && now.duration_since(self.applied.1) >= HIBERNATE_AFTER
    }

    fn find_peers(&mut self, locals: &[(GroupId, Arc<Local>)]) {
        let me = self.node.number.0;
        let mut peers = Peers::default();
        for (_, local) in locals {
            let metrics = local.raft.server_metrics();
            let metrics = metrics.borrow_watched();
            let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
            for (number, member) in metrics.membership_config.nodes() {
                if *number == me {
                    continue;
                }
                let both_vote = voters.contains(&me) && voters.contains(number);
                let list = if both_vote { &mut peers.fast } else { &mut peers.slow };
                list.insert(NodeNumber(*number), member.key);
            }
        }
        peers.slow.retain(|number, _| !peers.fast.contains_key(number));
        let now = Instant::now();
        let all: BTreeSet<NodeNumber> = peers.fast.keys().chain(peers.slow.keys()).copied().collect();
        self.expected.retain(|number, _| all.contains(number));
        for number in &all {
            self.expected.entry(*number).or_insert(now);
        }
        self.peers = peers;
    }

    fn send(&self, locals: &[(GroupId, Arc<Local>)]) {
        let leads =
            locals.iter().filter_map(|(group, local)| Some((group.0, local.leading_term(self.node.number)?)));
        let mut beat = Beat {
            number: self.node.number.0,
            incarnation: self.node.incarnation.0,
            wall_ms: self.node.clock.wall_ms(),
            slow: false,
            sync_us: self.node.wal.sync_pace().map(|pace| micros(pace.latency)),
            leads: leads.collect(),
        };
        self.send_to(&beat, &self.peers.fast);
        if self.slow_turn {
            beat.slow = true;
            self.send_to(&beat, &self.peers.slow);
        }
    }

    fn send_to(&self, beat: &Beat, peers: &BTreeMap<NodeNumber, NodeId>) {
        let Ok(bytes) = postcard::to_stdvec(beat) else { return };
        let bytes = Bytes::from(bytes);
        for key in peers.values() {
            // A beat that cannot leave is a missed beat.
            let _ = self.node.endpoint.notify(*key, Lane::Control, BEAT, bytes.clone());
        }
    }

    /// Who has been silent for too long; the rest of silence of each.
    fn judge(&self) -> BTreeMap<NodeNumber, Instant> {
        let now = Instant::now();
        let heard = self.node.boards.liveness.heard();
        let mut silent = BTreeMap::new();
        for (number, expected) in &self.expected {
            let last = heard.get(number).map_or(*expected, |heard| heard.at.max(self.started));
            let slow = heard.get(number).map_or(self.peers.slow.contains_key(number), |heard| heard.slow);
            let patience =
                if slow { LIVENESS_INTERVAL * SLOW_SUSPECT } else { self.node.config.suspect_after };
            if now.duration_since(last) > patience {
                silent.insert(*number, last);
            }
        }
        drop(heard);
        let suspects: BTreeSet<NodeNumber> = silent.keys().copied().collect();
        self.node.boards.liveness.suspects.send_if_modified(|known| {
            let changed = *known != suspects;
            if changed {
                tracing::info!(?suspects, "suspected nodes");
                *known = suspects;
            }
            changed
        });
        silent
    }

    /// Peers that are heard of with a new incarnation: they know no leaders.
    fn returned(&mut self) -> BTreeSet<NodeNumber> {
        let heard = self.node.boards.liveness.heard();
        let mut returned = BTreeSet::new();
        for (number, heard) in heard.iter() {
            if self.greeted.get(number) != Some(&heard.incarnation) {
                self.greeted.insert(*number, heard.incarnation);
                returned.insert(*number);
            }
        }
        returned
    }

    /// The clock-skew rule: with two or more peers to compare with, a node
    /// that is far off their median must not stamp commands.
    async fn mind_clock(&mut self, locals: &[(GroupId, Arc<Local>)], silent: &BTreeMap<NodeNumber, Instant>) {
        let mut offsets: Vec<i64> = {
            let heard = self.node.boards.liveness.heard();
            let alive = heard.iter().filter(|(number, _)| !silent.contains_key(number));
            alive.filter_map(|(_, heard)| heard.offset_ms()).collect()
        };
        offsets.sort_unstable();
        let limit = i64::try_from(MAX_CLOCK_SKEW.as_millis()).unwrap_or(i64::MAX);
        let skewed = offsets.len() >= 2
            && offsets.get(offsets.len() / 2).is_some_and(|median| median.abs() > limit)
            && offsets.first().is_some_and(|least| least.abs() > limit);
        if skewed != self.skewed {
            tracing::warn!(?offsets, skewed, "this node's clock and its peers' clocks, in ms");
            self.skewed = skewed;
            for (_, local) in locals {
                local.raft.runtime_config().elect(!skewed);
            }
        }
        if skewed && self.slow_turn {
            for (group, local) in locals {
                super::members::hand_over(&self.node, *group, local, |_| true).await;
            }
        }
    }

    /// The rule of slow disks; see [`DiskPace`].
    async fn mind_disk(&mut self, locals: &[(GroupId, Arc<Local>)], silent: &BTreeMap<NodeNumber, Instant>) {
        let own = self.node.wal.sync_pace();
        let alive = |number| self.expected.contains_key(&number) && !silent.contains_key(&number);
        let peers = self.node.boards.liveness.syncs(alive);
        let leads = locals.iter().any(|(_, local)| local.leading_term(self.node.number).is_some());
        let faster = self.disk_pace.judge(Instant::now(), own, &peers, leads);
        if faster.is_empty() {
            return;
        }
        tracing::warn!(?own, ?peers, "this node's disk is far slower than its peers'");
        for (group, local) in locals {
            super::members::hand_over(&self.node, *group, local, |node| faster.contains(&node)).await;
        }
    }

    /// Parks or wakes one replica's ticker.
    async fn tend(
        &mut self,
        group: GroupId,
        local: &Local,
        silent: &BTreeMap<NodeNumber, Instant>,
        returned: &BTreeSet<NodeNumber>,
    ) {
        let situation = self.situation(group, local, silent, returned);
        let pulse = self.pulses.entry(group).or_insert_with(|| Pulse::new(Instant::now()));
        match pulse.step(Instant::now(), &situation) {
            Step::Stay => {}
            Step::Park => {
                local.parked.store(true, Ordering::Relaxed);
                local.raft.runtime_config().tick(false);
            }
            Step::Wake => local.wake().await,
            Step::Elect => {
                tracing::info!(%group, "looks for a new leader");
                local.wake().await;
                // An error: the replica has stopped.
                let _ = local.raft.trigger().elect(true).await;
            }
        }
    }

    fn situation(
        &self,
        group: GroupId,
        local: &Local,
        silent: &BTreeMap<NodeNumber, Instant>,
        returned: &BTreeSet<NodeNumber>,
    ) -> Situation {
        let metrics = local.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let me = self.node.number;
        let leader = metrics.current_leader.map(NodeNumber);
        let term = metrics.vote.leader_id.term;
        let members: BTreeSet<NodeNumber> =
            metrics.membership_config.nodes().map(|(number, _)| NodeNumber(*number)).collect();
        let voters: Vec<NodeNumber> = metrics.membership_config.voter_ids().map(NodeNumber).collect();
        let may_elect = voters.contains(&me) && !self.skewed;
        drop(metrics);
        let applied = local.replica.applied().last.map_or(0, |last| last.index);
        let busy = local.log.bounds().last.map_or(0, |last| last.index) != applied;
        let parked = local.parked.load(Ordering::Relaxed);
        match leader {
            None => Situation::NoLeader { parked },
            Some(leader) if leader == me => {
                let data = local.raft.data_metrics();
                let data = data.borrow_watched();
                let behind = data.replication.iter().flatten().any(|(number, matched)| {
                    !silent.contains_key(&NodeNumber(*number))
                        && matched.is_none_or(|matched| matched.index < applied)
                });
                let someone_returned = returned.iter().any(|number| members.contains(number));
                Situation::Leads { parked, applied, busy: busy || behind, someone_returned }
            }
            Some(leader) => {
                let asserted = self
                    .node
                    .boards
                    .liveness
                    .heard()
                    .get(&leader)
                    .and_then(|heard| heard.leads.get(&group).copied());
                let silent_since = silent.get(&leader).copied();
                let rank = rank(&voters, leader, me, group);
                let elect_at = silent_since
                    .filter(|_| may_elect)
                    .map(|since| since + ELECTION_TIMEOUT_MAX + ELECTION_MARGIN + ELECTION_STAGGER * rank);
                let confirmed = silent_since.is_none() && asserted == Some(term);
                Situation::Follows { parked, confirmed, elect_at }
            }
        }
    }
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

/// Which of the voters asks first when the leader is gone: they begin at a
/// different one in each group, so that one node's groups are spread.
fn rank(voters: &[NodeNumber], leader: NodeNumber, me: NodeNumber, group: GroupId) -> u32 {
    let others: Vec<NodeNumber> = voters.iter().copied().filter(|voter| *voter != leader).collect();
    let count = u32::try_from(others.len()).unwrap_or(u32::MAX).max(1);
    let own = others.iter().position(|voter| *voter == me).unwrap_or(0);
    (u32::try_from(own).unwrap_or(0) + count - group.0 % count) % count
}

/// A group without work for this long may hibernate.
pub(crate) const IDLE_AFTER: Duration = HIBERNATE_AFTER;
