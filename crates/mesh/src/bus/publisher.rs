//! The sending side of the bus: one publisher per connection, owned by the
//! task that reads from it.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use tokio::time::timeout;
use trine_types::NodeId;
use trine_types::subject::is_valid_subject;

use super::Shared;
use super::cache::Cache;
use super::leeway::Leeway;
use super::receiver::{Brake, Carrier, LINK_HOLD_LIMIT, Receiver, Room};
use super::routes::{Group, Local, Routes};
use crate::message::Message;
use crate::planted;

/// Full receivers that one publisher waits for at a time; more of them are
/// found full again by its next messages.
const MAX_NOTED_FULL: usize = 64;

/// What became of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "a publisher that is pressed has to wait"]
pub struct Published {
    /// Local subscriptions and other nodes that took it; 0 means that nobody
    /// anywhere wants it ("no responders").
    pub receivers: u32,
    /// Someone is full: read nothing more from this sender before
    /// [`Publisher::relieved`] returns.
    pub pressed: bool,
}

/// Whoever has an outbox.
#[derive(Clone)]
enum Outlet {
    Local(Arc<dyn Receiver>),
    Link(Arc<dyn Carrier>),
}

impl Outlet {
    fn wake(&self) {
        match self {
            Self::Local(receiver) => receiver.wake(),
            Self::Link(carrier) => carrier.wake(),
        }
    }

    fn brake(&self) -> &Brake {
        match self {
            Self::Local(receiver) => receiver.brake(),
            Self::Link(carrier) => carrier.brake(),
        }
    }

    fn cut_off(&self) {
        match self {
            Self::Local(receiver) => receiver.cut_off(),
            Self::Link(carrier) => carrier.cut_off(),
        }
    }

    /// Waits until there is room, for a bounded time; cuts off who has gone
    /// without for too long.
    async fn relieved(self, leeway: &Leeway) {
        let (what, yields) = match &self {
            Self::Local(receiver) => ("a receiver", receiver.brake().yields(leeway).await),
            Self::Link(carrier) => {
                ("a link", timeout(LINK_HOLD_LIMIT, carrier.brake().released()).await.is_ok())
            }
        };
        if !yields {
            tracing::warn!("cutting off {what} that is full and takes too little");
            self.cut_off();
        }
    }
}

/// What the messages of a burst leave to be done.
#[derive(Default)]
struct Aftermath {
    /// Receivers to wake at the end of the burst.
    idle: Vec<Outlet>,
    /// Receivers to wait for.
    full: Vec<Outlet>,
}

impl Aftermath {
    /// Notes a delivery's outcome; true if the message was taken.
    fn note(&mut self, room: Room, published: &mut Published, outlet: impl FnOnce() -> Outlet) -> bool {
        match room {
            Room::NotTaken => return false,
            Room::Free => {}
            Room::Idle => self.idle.push(outlet()),
            Room::Full => {
                published.pressed = true;
                let outlet = outlet();
                let known = self.full.iter().any(|known| std::ptr::eq(known.brake(), outlet.brake()));
                if !known && self.full.len() < MAX_NOTED_FULL {
                    self.full.push(outlet);
                }
            }
        }
        published.receivers += 1;
        true
    }

    fn deliver(&mut self, local: &Local, message: &Message<'_>, published: &mut Published) -> bool {
        let room = local.receiver.deliver(&local.sid, message);
        self.note(room, published, || Outlet::Local(local.receiver.clone()))
    }
}

/// Publishes for one sender, in order. Not to be shared: its cache and its
/// order are the sender's.
pub struct Publisher {
    shared: Arc<Shared>,
    cache: Cache,
    after: Aftermath,
    /// The attachment that must not hear what it says itself.
    silent: Option<u64>,
    owner: Option<u64>,
    chance: u64,
    /// Nodes chosen for groups by the message in hand, with the group's place.
    chosen: Vec<(NodeId, usize)>,
}

impl Publisher {
    pub(super) fn new(shared: Arc<Shared>, owner: Option<u64>, seed: u64) -> Self {
        Self {
            shared,
            cache: Cache::default(),
            after: Aftermath::default(),
            silent: None,
            owner,
            chance: seed | 1,
            chosen: Vec::new(),
        }
    }

    /// Whether the sender's own subscriptions get its messages (they do unless
    /// this was called with `false`).
    pub fn set_echo(&mut self, echo: bool) {
        self.silent = if echo { None } else { self.owner };
    }

    /// Publishes to every subscription that matches, here and at other nodes,
    /// and to one member of each queue group: a local one if there is one.
    /// A message to an invalid subject reaches nobody.
    ///
    /// At the end of a burst (when the sender has nothing more to say for the
    /// moment) call [`Self::flush`], without which receivers sleep on.
    pub fn publish(&mut self, message: &Message<'_>) -> Published {
        let shared = &self.shared;
        let routes = self.cache.find(&shared.versions, message.subject, || shared.routes(message.subject));
        let mut published = Published::default();
        let after = &mut self.after;
        for local in routes.plain.iter().filter(|local| Some(local.owner) != self.silent) {
            after.deliver(local, message, &mut published);
        }
        self.chosen.clear();
        for (place, group) in routes.groups.iter().enumerate() {
            let chance = next(&mut self.chance);
            let here = one_of(group, chance, self.silent, message, after, &mut published);
            if (!here || planted::active(planted::GROUP_SERVED_TWICE))
                && let Some(peer) = group.choose(chance)
            {
                self.chosen.push((peer, place));
            }
        }
        if !routes.links.is_empty() {
            forward(routes, &self.chosen, message, after, &mut published);
        }
        published
    }

    /// Delivers a message that another node sent, to local subscriptions only:
    /// to all outside groups if `plain`, to one of each of `groups`.
    pub fn relay(&mut self, message: &Message<'_>, plain: bool, groups: &[&[u8]]) -> Published {
        let shared = &self.shared;
        let routes = self.cache.find(&shared.versions, message.subject, || shared.routes(message.subject));
        let mut published = Published::default();
        for local in routes.plain.iter().filter(|_| plain) {
            self.after.deliver(local, message, &mut published);
        }
        for group in routes.groups.iter().filter(|group| groups.contains(&&group.queue[..])) {
            let chance = next(&mut self.chance);
            one_of(group, chance, None, message, &mut self.after, &mut published);
        }
        published
    }

    /// Delivers to this node's subscriptions only: to all outside groups, to
    /// one of each group.
    pub fn publish_here(&mut self, message: &Message<'_>) -> Published {
        let shared = &self.shared;
        let routes = self.cache.find(&shared.versions, message.subject, || shared.routes(message.subject));
        let mut published = Published::default();
        for local in &routes.plain {
            self.after.deliver(local, message, &mut published);
        }
        for group in &routes.groups {
            let chance = next(&mut self.chance);
            one_of(group, chance, None, message, &mut self.after, &mut published);
        }
        published
    }

    /// Ends a burst: wakes the receivers that got something to write.
    pub fn flush(&mut self) {
        for outlet in self.after.idle.drain(..) {
            outlet.wake();
        }
    }

    /// Flushes, then waits until all who were full have room, or need not be
    /// waited for any longer: those who take nothing for
    /// [`super::receiver::STALL_LIMIT`], those who take too little for
    /// [`super::receiver::HOLD_LIMIT`]. The waits run side by side, so that many
    /// who are stuck hold a publisher no longer than one.
    pub async fn relieved(&mut self) {
        self.take_pressure().relieved().await;
    }

    /// Flushes, and hands over who was full since the last time.
    pub fn take_pressure(&mut self) -> Pressure {
        self.flush();
        Pressure { full: std::mem::take(&mut self.after.full), leeway: self.shared.leeway.clone() }
    }
}

/// Receivers that were full, to be waited for.
#[must_use = "who does not wait fills them further"]
pub struct Pressure {
    full: Vec<Outlet>,
    leeway: Leeway,
}

impl Pressure {
    /// Whether there is nobody to wait for.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.full.is_empty()
    }

    /// See [`Publisher::relieved`].
    pub async fn relieved(self) {
        join_all(self.full.into_iter().map(|outlet| outlet.relieved(&self.leeway))).await;
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.flush();
    }
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").field("owner", &self.owner).finish_non_exhaustive()
    }
}

/// The next of a row of numbers without pattern; from the seed alone.
fn next(chance: &mut u64) -> u64 {
    *chance ^= *chance << 13;
    *chance ^= *chance >> 7;
    *chance ^= *chance << 17;
    *chance >> 1
}

/// Gives the message to one local member, beginning with any; false if none
/// took it.
fn one_of(
    group: &Group,
    chance: u64,
    silent: Option<u64>,
    message: &Message<'_>,
    after: &mut Aftermath,
    published: &mut Published,
) -> bool {
    let count = group.locals.len();
    let Some(first) = usize::try_from(chance).unwrap_or(0).checked_rem(count) else { return false };
    let (before, from) = group.locals.split_at(first);
    let mut members = from.iter().chain(before).filter(|local| Some(local.owner) != silent);
    members.any(|local| after.deliver(local, message, published))
}

/// Sends the message over each link that wants it, once.
fn forward(
    routes: &Routes,
    chosen: &[(NodeId, usize)],
    message: &Message<'_>,
    after: &mut Aftermath,
    published: &mut Published,
) {
    for link in &routes.links {
        let groups = || chosen.iter().filter(|(peer, _)| *peer == link.peer);
        if !link.plain && groups().next().is_none() {
            continue;
        }
        let mut queues = groups().map(|(_, place)| -> &Bytes { &routes.groups[*place].queue });
        let room = link.carrier.forward(message, link.plain, &mut queues);
        after.note(room, published, || Outlet::Link(link.carrier.clone()));
    }
}

impl Shared {
    fn routes(&self, subject: &[u8]) -> Routes {
        if is_valid_subject(subject) { self.read().routes(subject) } else { Routes::default() }
    }
}
