//! [`Broadcast`]: one member's part. Time and the seed are arguments; what it
//! wants done are effects, in order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use trine_types::NodeNumber;

use super::message::{Message, MessageId};
use super::tree::Tree;
use super::views::{ACTIVE, Views};
use crate::members::roster::Chance;

/// Between two rounds of repair: each replaces what is missing in the active
/// view, one attempt for each free place.
pub const ROUND: Duration = Duration::from_secs(1);
/// Every so many rounds, views are shuffled with another member.
const SHUFFLE_ROUNDS: u32 = 10;
/// Steps of a new member's walk, and on which of them it is remembered.
const JOIN_STEPS: u8 = 6;
const REMEMBER_STEP: u8 = 3;
/// Steps of a shuffle.
const SHUFFLE_STEPS: u8 = 4;
/// Members of each view in a shuffle.
const SHUFFLED: (usize, usize) = (3, 4);
/// Members of a shuffle that are looked at, whoever sent it.
const MAX_SHUFFLED: usize = 8;

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A message is to be sent over a connection that tells, by
    /// [`Broadcast::unreachable`], when it cannot be made or breaks.
    Send {
        /// To whom.
        to: NodeNumber,
        /// What.
        message: Message,
    },
    /// A broadcast message has come, for the first time.
    Deliver {
        /// Which.
        id: MessageId,
        /// Links that it has crossed.
        hops: u16,
        /// What it says.
        payload: Bytes,
    },
}

/// One member's part; see the module.
#[derive(Clone, Debug)]
pub struct Broadcast {
    me: NodeNumber,
    serial: u64,
    views: Views,
    tree: Tree,
    /// Who was asked to become a neighbour, and until when to wait.
    asked: BTreeMap<NodeNumber, Duration>,
    next_round: Duration,
    rounds: u32,
    chance: Chance,
    effects: Vec<Effect>,
}

impl Broadcast {
    /// A member that knows nobody yet. `seed` differs between members.
    #[must_use]
    pub fn new(now: Duration, me: NodeNumber, seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let millis = chance.below(usize::try_from(ROUND.as_millis()).unwrap_or(1));
        let first = Duration::from_millis(u64::try_from(millis).unwrap_or(0));
        Self {
            me,
            serial: 0,
            views: Views::new(me),
            tree: Tree::default(),
            asked: BTreeMap::new(),
            next_round: now + first,
            rounds: u32::try_from(chance.below(10)).unwrap_or(0),
            chance,
            effects: Vec::new(),
        }
    }

    /// What is to be done since the last call, in order.
    pub fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// When [`Broadcast::tick`] is to be called next.
    #[must_use]
    pub fn wake_at(&self) -> Duration {
        self.tree.wake_at().map_or(self.next_round, |at| at.min(self.next_round))
    }

    /// Who is known.
    #[must_use]
    pub fn views(&self) -> &Views {
        &self.views
    }

    /// Enters through a member that is known from elsewhere.
    pub fn join(&mut self, now: Duration, contact: NodeNumber) {
        self.befriend(now, contact);
        self.send(contact, Message::Join);
    }

    /// Sends a message to all.
    pub fn publish(&mut self, now: Duration, payload: &Bytes) -> MessageId {
        self.serial += 1;
        let id = MessageId { origin: self.me, serial: self.serial };
        self.tree.take(now, id, 0, payload);
        self.spread(id, 0, payload, None);
        id
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Duration) {
        for (id, holder) in self.tree.due(now) {
            self.tree.make_eager(holder);
            self.send(holder, Message::Graft { id });
        }
        if self.next_round <= now {
            self.next_round = now + ROUND;
            self.rounds = self.rounds.wrapping_add(1);
            self.asked.retain(|_, until| *until > now);
            self.repair(now);
            if self.rounds.is_multiple_of(SHUFFLE_ROUNDS) {
                self.shuffle();
            }
        }
    }

    /// A member cannot be reached, or the connection to it broke.
    pub fn unreachable(&mut self, now: Duration, member: NodeNumber) {
        self.asked.remove(&member);
        if self.views.forget(member) {
            self.tree.forget(member);
        }
        self.repair(now);
    }

    /// A message came in.
    pub fn receive(&mut self, now: Duration, from: NodeNumber, message: Message) {
        match message {
            Message::Join => self.let_in(now, from),
            Message::ForwardJoin { member, steps } => self.forward_join(now, from, member, steps),
            Message::Neighbour { urgent } => {
                let accepted = urgent || self.views.active().len() < ACTIVE || self.is_neighbour(from);
                if accepted {
                    self.befriend(now, from);
                } else {
                    self.views.add_passive(from, &mut self.chance);
                }
                self.send(from, Message::NeighbourReply { accepted });
            }
            Message::NeighbourReply { accepted } => {
                let expected = self.asked.remove(&from).is_some();
                if accepted && expected {
                    self.befriend(now, from);
                } else if accepted && !self.is_neighbour(from) {
                    // Too late: the other must not count on it.
                    self.send(from, Message::Disconnect);
                }
            }
            Message::Disconnect => {
                if self.views.demote(from, &mut self.chance) {
                    self.tree.forget(from);
                }
            }
            Message::Shuffle { origin, steps, members } => self.pass_shuffle(from, origin, steps, members),
            Message::ShuffleReply { members } => self.remember(&members),
            Message::Push { id, hops, payload } => self.pushed(now, from, id, hops, payload),
            Message::Have { id } => self.tree.exists(now, id, from),
            Message::Graft { id } => {
                self.tree.make_eager(from);
                if let Some((hops, payload)) = self.tree.kept(id) {
                    self.send(from, Message::Push { id, hops: hops.saturating_add(1), payload });
                }
            }
            Message::Prune => self.tree.make_lazy(from),
        }
    }

    fn pushed(&mut self, now: Duration, from: NodeNumber, id: MessageId, hops: u16, payload: Bytes) {
        if self.tree.take(now, id, hops, &payload) {
            self.tree.make_eager(from);
            self.spread(id, hops, &payload, Some(from));
            self.effects.push(Effect::Deliver { id, hops, payload });
        } else if self.is_neighbour(from) {
            self.tree.make_lazy(from);
            self.send(from, Message::Prune);
        }
    }

    fn spread(&mut self, id: MessageId, hops: u16, payload: &Bytes, without: Option<NodeNumber>) {
        let neighbours: Vec<NodeNumber> = self.views.active().iter().copied().collect();
        for neighbour in neighbours.into_iter().filter(|neighbour| Some(*neighbour) != without) {
            let message = if self.tree.is_eager(neighbour) {
                Message::Push { id, hops: hops.saturating_add(1), payload: payload.clone() }
            } else {
                Message::Have { id }
            };
            self.send(neighbour, message);
        }
    }

    fn let_in(&mut self, now: Duration, member: NodeNumber) {
        self.befriend(now, member);
        let others: Vec<NodeNumber> =
            self.views.active().iter().copied().filter(|other| *other != member).collect();
        for other in others {
            self.send(other, Message::ForwardJoin { member, steps: JOIN_STEPS });
        }
    }

    fn forward_join(&mut self, now: Duration, from: NodeNumber, member: NodeNumber, steps: u8) {
        if member == self.me {
            return;
        }
        let next = self.views.any_active(&[from, member], &mut self.chance);
        match next {
            Some(next) if steps > 0 => {
                if steps == REMEMBER_STEP {
                    self.views.add_passive(member, &mut self.chance);
                }
                self.send(next, Message::ForwardJoin { member, steps: steps - 1 });
            }
            _ => {
                if !self.is_neighbour(member) {
                    self.ask(now, member, true);
                }
            }
        }
    }

    /// Asks members from the passive view, one for each free place.
    fn repair(&mut self, now: Duration) {
        while self.views.active().len() + self.asked.len() < ACTIVE {
            let waiting: BTreeSet<NodeNumber> = self.asked.keys().copied().collect();
            let Some(member) = self.views.any_passive(&waiting, &mut self.chance) else { return };
            self.ask(now, member, self.views.active().is_empty());
        }
    }

    fn ask(&mut self, now: Duration, member: NodeNumber, urgent: bool) {
        self.asked.insert(member, now + ROUND);
        self.send(member, Message::Neighbour { urgent });
    }

    fn befriend(&mut self, now: Duration, member: NodeNumber) {
        if self.is_neighbour(member) {
            return;
        }
        if let Some(dropped) = self.views.add_active(member, &mut self.chance) {
            self.tree.forget(dropped);
            self.send(dropped, Message::Disconnect);
        }
        self.tree.make_eager(member);
        for id in self.tree.recent(now) {
            self.send(member, Message::Have { id });
        }
    }

    fn shuffle(&mut self) {
        let Some(to) = self.views.any_active(&[], &mut self.chance) else { return };
        let members = self.views.sample(SHUFFLED.0, SHUFFLED.1, &mut self.chance);
        self.send(to, Message::Shuffle { origin: self.me, steps: SHUFFLE_STEPS, members });
    }

    fn pass_shuffle(&mut self, from: NodeNumber, origin: NodeNumber, steps: u8, members: Vec<NodeNumber>) {
        if origin == self.me {
            return;
        }
        if steps > 0
            && let Some(next) = self.views.any_active(&[from, origin], &mut self.chance)
        {
            self.send(next, Message::Shuffle { origin, steps: steps - 1, members });
            return;
        }
        let (active, passive) = SHUFFLED;
        let reply = self.views.sample(active, passive, &mut self.chance);
        self.send(origin, Message::ShuffleReply { members: reply });
        self.remember(&members);
        self.views.add_passive(origin, &mut self.chance);
    }

    fn remember(&mut self, members: &[NodeNumber]) {
        for member in members.iter().take(MAX_SHUFFLED) {
            self.views.add_passive(*member, &mut self.chance);
        }
    }

    fn is_neighbour(&self, member: NodeNumber) -> bool {
        self.views.active().contains(&member)
    }

    fn send(&mut self, to: NodeNumber, message: Message) {
        self.effects.push(Effect::Send { to, message });
    }
}
