//! Plumtree's part: which neighbours get whole messages, which get ids, what
//! was seen, and what is known to exist but has not come.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use trine_types::NodeNumber;

use super::message::MessageId;

/// Whole messages that are kept for those who missed them, at most.
pub const MAX_KEPT: usize = 64;
/// For how long they are kept.
pub const KEPT_FOR: Duration = Duration::from_secs(10);
/// Messages whose ids are remembered, so that none is delivered twice.
pub const MAX_SEEN: usize = 4_096;
/// Messages that are waited for at once, at most.
pub const MAX_MISSING: usize = 256;
/// How long a message may take along the tree after its id came another way:
/// the tree is deeper than the shortest path.
const FIRST_PATIENCE: Duration = Duration::from_millis(600);
/// How long a neighbour that was asked for it may take.
const NEXT_PATIENCE: Duration = Duration::from_millis(150);

/// A message that exists and has not come.
#[derive(Clone, Debug)]
struct Missing {
    ask_at: Duration,
    /// Neighbours that have it.
    at: VecDeque<NodeNumber>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// Neighbours that get ids only; all others get whole messages.
    lazy: BTreeSet<NodeNumber>,
    seen: BTreeSet<MessageId>,
    order: VecDeque<MessageId>,
    kept: VecDeque<(Duration, MessageId, u16, Bytes)>,
    missing: BTreeMap<MessageId, Missing>,
}

impl Tree {
    /// Whether this neighbour gets whole messages.
    #[must_use]
    pub fn is_eager(&self, neighbour: NodeNumber) -> bool {
        !self.lazy.contains(&neighbour)
    }

    /// It gets whole messages from now on.
    pub fn make_eager(&mut self, neighbour: NodeNumber) {
        self.lazy.remove(&neighbour);
    }

    /// It gets ids from now on.
    pub fn make_lazy(&mut self, neighbour: NodeNumber) {
        self.lazy.insert(neighbour);
    }

    /// It is no neighbour any more.
    pub fn forget(&mut self, neighbour: NodeNumber) {
        self.lazy.remove(&neighbour);
        for missing in self.missing.values_mut() {
            missing.at.retain(|holder| *holder != neighbour);
        }
    }

    /// A whole message came. The result says whether it is new.
    pub fn take(&mut self, now: Duration, id: MessageId, hops: u16, payload: &Bytes) -> bool {
        self.missing.remove(&id);
        if !self.seen.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > MAX_SEEN
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        if self.kept.len() >= MAX_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back((now, id, hops, payload.clone()));
        true
    }

    /// A neighbour says that it has a message.
    pub fn exists(&mut self, now: Duration, id: MessageId, at: NodeNumber) {
        if self.seen.contains(&id) || (self.missing.len() >= MAX_MISSING && !self.missing.contains_key(&id)) {
            return;
        }
        let fresh = || Missing { ask_at: now + FIRST_PATIENCE, at: VecDeque::new() };
        let missing = self.missing.entry(id).or_insert_with(fresh);
        // As many as there can be neighbours.
        if !missing.at.contains(&at) && missing.at.len() < super::views::ACTIVE {
            missing.at.push_back(at);
        }
    }

    /// Whom to ask for what now. A message that nobody is left to be asked for
    /// is given up until somebody announces it again.
    pub fn due(&mut self, now: Duration) -> Vec<(MessageId, NodeNumber)> {
        let due: Vec<MessageId> =
            self.missing.iter().filter(|(_, missing)| missing.ask_at <= now).map(|(id, _)| *id).collect();
        let mut asks = Vec::new();
        for id in due {
            let holder = self.missing.get_mut(&id).and_then(|missing| {
                missing.ask_at = now + NEXT_PATIENCE;
                missing.at.pop_front()
            });
            match holder {
                Some(holder) => asks.push((id, holder)),
                None => {
                    self.missing.remove(&id);
                }
            }
        }
        asks
    }

    /// When somebody is to be asked next.
    #[must_use]
    pub fn wake_at(&self) -> Option<Duration> {
        self.missing.values().map(|missing| missing.ask_at).min()
    }

    /// A message that is still kept, and the links that it had crossed.
    #[must_use]
    pub fn kept(&self, id: MessageId) -> Option<(u16, Bytes)> {
        self.kept.iter().find(|kept| kept.1 == id).map(|(_, _, hops, payload)| (*hops, payload.clone()))
    }

    /// What is kept and young enough to be worth announcing to a new neighbour.
    pub fn recent(&mut self, now: Duration) -> Vec<MessageId> {
        while self.kept.front().is_some_and(|(since, ..)| *since + KEPT_FOR < now) {
            self.kept.pop_front();
        }
        self.kept.iter().map(|kept| kept.1).collect()
    }
}
