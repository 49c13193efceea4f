//! The task that lets the machine take part: it feeds it messages, time, what
//! `meta` says and what connections show, and carries out what it wants done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use trine_cluster::MetaState;
use trine_transport::{CallRefused, Endpoint, Handler, Lane, Links, Service};
use trine_types::{Clock, Entropy, Incarnation, NodeId, NodeNumber};

use super::codec;
use super::handle::Peers;
use super::life::{Life, State};
use super::machine::{Change, Effect, Event, Members, Myself};
use super::profile::Profile;
use super::roster::Roster;
use super::timing::Timing;
use super::view::{MemberView, View, numbers};

/// Messages between members, on [`Lane::Control`].
pub const SERVICE: Service = Service(0x70);
/// Messages that wait to be read; those beyond are lost, as on any network.
const MAX_WAITING: usize = 1_024;
/// Orders that wait.
const MAX_ORDERS: usize = 4;
/// How often the list is brought up to date with what probes measured, and
/// this node's load is looked at.
const REFRESH_EVERY: Duration = Duration::from_secs(2);
/// Probes are sent on lines of this period.
const LINE: Duration = Duration::from_millis(100);

/// What the task stands on.
pub struct Parts {
    /// This node's number.
    pub number: NodeNumber,
    /// Which start of its data directory this process is.
    pub incarnation: Incarnation,
    /// The way to the others.
    pub endpoint: Endpoint,
    /// Who belongs.
    pub meta: watch::Receiver<Arc<MetaState>>,
    /// Nodes that are silent elsewhere: these are probed at once.
    pub suspects: watch::Receiver<BTreeSet<NodeNumber>>,
    /// Wall-clock time, for people.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// What this node says about itself.
    pub profile: Profile,
    /// Load of this machine over the last minute, in hundredths of what its
    /// cores can do.
    pub load: fn() -> u16,
}

/// What the handle asks for.
#[derive(Debug)]
pub(super) enum Order {
    /// Say goodbye.
    Leave(oneshot::Sender<()>),
}

/// Takes messages from the connections' tasks.
struct Inbox {
    messages: mpsc::Sender<(NodeId, Bytes)>,
}

impl Handler for Inbox {
    fn handle(&self, from: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, CallRefused>> {
        // Full: the message is lost, and this member looks slow, as it is.
        let _ = self.messages.try_send((from, body));
        Box::pin(std::future::ready(Ok(Bytes::new())))
    }
}

/// Starts to take part; ends with the endpoint's runtime or after a goodbye.
pub fn start(parts: Parts) -> Peers {
    let (messages, inbox) = mpsc::channel(MAX_WAITING);
    let (orders, ordered) = mpsc::channel(MAX_ORDERS);
    let (view, viewed) = watch::channel(Arc::new(View::default()));
    let (failed, gone) = watch::channel(BTreeSet::new());
    parts.endpoint.serve(SERVICE, Arc::new(Inbox { messages }));
    tokio::spawn(Member::new(parts, view, failed).run(inbox, ordered));
    Peers::new(viewed, gone, orders)
}

struct Member {
    parts: Parts,
    machine: Members,
    origin: Instant,
    known: Arc<MetaState>,
    numbers: BTreeMap<NodeId, NodeNumber>,
    links: Links,
    current: View,
    view: watch::Sender<Arc<View>>,
    failed: watch::Sender<BTreeSet<NodeId>>,
}

impl Member {
    fn new(
        mut parts: Parts,
        view: watch::Sender<Arc<View>>,
        failed: watch::Sender<BTreeSet<NodeId>>,
    ) -> Self {
        let known = parts.meta.borrow_and_update().clone();
        let me = Myself {
            number: parts.number,
            life: Life { start: parts.incarnation.0, refuted: 0 },
            load: (parts.load)(),
            profile: parts.profile.encode(),
        };
        let roster = Roster::new(known.nodes.keys().copied());
        let timing = Timing::of(roster.len());
        let seed = parts.entropy.next_u64();
        let machine = Members::new(Duration::ZERO, me, roster, timing, seed);
        let (numbers, links) = (numbers(&known), Links::default());
        // Probes begin on a line, and stay there.
        let first = machine.wake_at().unwrap_or_default();
        let line = parts.endpoint.grid().line(Instant::now() + first, LINE);
        let origin = line.checked_sub(first).unwrap_or(line);
        let current = View::default();
        let mut member = Self { parts, machine, origin, known, numbers, links, current, view, failed };
        member.publish();
        member
    }

    async fn run(mut self, mut inbox: mpsc::Receiver<(NodeId, Bytes)>, mut orders: mpsc::Receiver<Order>) {
        let grid = self.parts.endpoint.grid();
        let mut refresh = grid.ticks(REFRESH_EVERY);
        let mut links = self.parts.endpoint.links();
        loop {
            let wake = self.machine.wake_at().map(|at| self.origin + at);
            let due = async {
                match wake {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                order = orders.recv() => {
                    let now = self.now();
                    self.machine.leave(now);
                    self.carry_out();
                    if let Some(Order::Leave(done)) = order {
                        // Whoever asked may have gone.
                        let _ = done.send(());
                    }
                    return;
                }
                Some((from, bytes)) = inbox.recv() => self.receive(from, &bytes),
                Ok(()) = self.parts.meta.changed() => self.follow_meta(),
                Ok(()) = links.changed() => {
                    let links = links.borrow_and_update().clone();
                    self.follow_links(links);
                }
                Ok(()) = self.parts.suspects.changed() => self.follow_suspects(),
                () = due => {
                    let now = self.now();
                    self.machine.tick(now);
                }
                _ = refresh.tick() => {
                    self.machine.set_load((self.parts.load)());
                    self.publish();
                }
            }
            self.carry_out();
        }
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn receive(&mut self, from: NodeId, bytes: &[u8]) {
        let Some(number) = self.numbers.get(&from).copied() else { return };
        match codec::decode(bytes) {
            Ok(message) => {
                let now = self.now();
                self.machine.receive(now, number, message);
            }
            Err(error) => tracing::debug!(%number, %error, "a member's message"),
        }
    }

    fn follow_meta(&mut self) {
        let meta = self.parts.meta.borrow_and_update().clone();
        if meta.nodes != self.known.nodes {
            let roster = Roster::new(meta.nodes.keys().copied());
            if *self.machine.roster() != roster {
                let timing = Timing::of(roster.len());
                self.machine.set_roster(roster, timing);
            }
            self.numbers = numbers(&meta);
            self.known = meta;
            self.publish();
        }
    }

    /// A connection that broke, or had to be made again, is a reason to look.
    fn follow_links(&mut self, links: Links) {
        let now = self.now();
        for (peer, generation) in std::mem::replace(&mut self.links, links).connected {
            let broke = self.links.connected.get(&peer) != Some(&generation);
            if let (true, Some(number)) = (broke, self.numbers.get(&peer)) {
                self.machine.doubt(now, *number);
            }
        }
    }

    fn follow_suspects(&mut self) {
        let suspects = self.parts.suspects.borrow_and_update().clone();
        let now = self.now();
        for number in suspects {
            self.machine.doubt(now, number);
        }
    }

    fn carry_out(&mut self) {
        let mut told = false;
        for effect in self.machine.effects() {
            match effect {
                Effect::Send { to, message } => {
                    let Some(row) = self.known.nodes.get(&to) else { continue };
                    let bytes = codec::encode(&message);
                    // Lost if there is no connection: that is what probes find.
                    let _ = self.parts.endpoint.notify(row.id, Lane::Control, SERVICE, bytes);
                }
                Effect::Tell(event) => {
                    told = true;
                    self.tell(event);
                }
            }
        }
        if told {
            self.publish();
        }
    }

    fn tell(&mut self, event: Event) {
        let Event { member, change, .. } = event;
        match change {
            Change::Suspect => tracing::debug!(%member, "gives no answer"),
            Change::Fail => tracing::info!(%member, "has failed"),
            Change::Join => tracing::info!(%member, "is there"),
            Change::AliveAgain => tracing::info!(%member, "answers again"),
            Change::Leave => tracing::info!(%member, "has left"),
        }
        self.current.note(event, &self.known, self.parts.clock.wall_ms());
    }

    fn publish(&mut self) {
        self.current.refresh(&self.machine, &self.known);
        let current = &self.current;
        self.view.send_if_modified(|view| {
            let changed = **view != *current;
            if changed {
                *view = Arc::new(current.clone());
            }
            changed
        });
        let failed = |member: &&MemberView| member.state == Some(State::Failed);
        let failed: BTreeSet<NodeId> =
            current.members.iter().filter(failed).map(|member| member.id).collect();
        self.failed.send_if_modified(|known| {
            let changed = *known != failed;
            *known = failed;
            changed
        });
    }
}
