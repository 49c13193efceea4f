//! The bus's table: who subscribed to what, here and at other nodes, and what
//! this node tells others that it wants. Rules only; [`super::Bus`] locks it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Place;
use std::sync::Arc;

use bytes::Bytes;
use trine_types::NodeId;

use super::receiver::{Carrier, Interest};
use super::routes::{Group, Local, Remote, Routes};
use crate::sublist::Sublist;

/// One subscription.
enum Entry {
    Local(Local),
    Link { peer: NodeId, members: u32 },
}

/// A filter with its queue group.
type Wanted = (Bytes, Option<Bytes>);

/// See the file's head.
#[derive(Default)]
pub(super) struct Table {
    sublist: Sublist<Entry>,
    own: BTreeMap<Wanted, u32>,
    links: BTreeMap<NodeId, Link>,
    last_id: u64,
}

struct Link {
    carrier: Arc<dyn Carrier>,
    /// Ids of the peer's subscriptions in the sublist.
    wants: BTreeMap<Wanted, u64>,
}

impl Table {
    /// A number that was not given before.
    pub(super) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// How many subscriptions there are, those of other nodes included.
    pub(super) fn len(&self) -> usize {
        self.sublist.len()
    }

    /// Adds a local subscription and tells the links.
    pub(super) fn subscribe(&mut self, filter: &Bytes, queue: Option<&Bytes>, local: Local) -> u64 {
        let id = self.next_id();
        self.sublist.insert(filter, queue, id, Entry::Local(local));
        let members = self.own.entry((filter.clone(), queue.cloned())).or_insert(0);
        *members = members.saturating_add(1);
        if *members == 1 || queue.is_some() {
            let members = *members;
            self.tell(filter, queue, members);
        }
        id
    }

    /// Removes a local subscription and tells the links.
    pub(super) fn unsubscribe(&mut self, filter: &Bytes, queue: Option<&Bytes>, id: u64) {
        if self.sublist.remove(filter, queue, id).is_none() {
            return;
        }
        let Place::Occupied(mut members) = self.own.entry((filter.clone(), queue.cloned())) else { return };
        *members.get_mut() -= 1;
        let left = *members.get();
        if left == 0 {
            members.remove();
        }
        if left == 0 || queue.is_some() {
            self.tell(filter, queue, left);
        }
    }

    fn tell(&self, filter: &Bytes, queue: Option<&Bytes>, members: u32) {
        if self.links.is_empty() {
            return;
        }
        let members = if queue.is_some() { members } else { members.min(1) };
        let change = Interest { filter: filter.clone(), queue: queue.cloned(), members };
        for link in self.links.values() {
            link.carrier.tell(&change);
        }
    }

    /// What this node wants, for a link that starts.
    pub(super) fn wanted(&self) -> impl Iterator<Item = Interest> + '_ {
        self.own.iter().map(|((filter, queue), members)| Interest {
            filter: filter.clone(),
            queue: queue.clone(),
            members: if queue.is_some() { *members } else { 1 },
        })
    }

    /// Adds the link to `peer`, which is told of changes from now on; an
    /// earlier one and what it wanted are gone.
    pub(super) fn link(&mut self, peer: NodeId, carrier: Arc<dyn Carrier>) {
        self.unlink(peer);
        self.links.insert(peer, Link { carrier, wants: BTreeMap::new() });
    }

    /// Removes the link to `peer` and what it wanted.
    pub(super) fn unlink(&mut self, peer: NodeId) {
        self.forget(peer);
        self.links.remove(&peer);
    }

    /// Forgets what `peer` wants; its link stays.
    pub(super) fn forget(&mut self, peer: NodeId) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        for ((filter, queue), id) in std::mem::take(&mut link.wants) {
            self.sublist.remove(&filter, queue.as_ref(), id);
        }
    }

    /// How many filters `peer` wants.
    pub(super) fn wants(&self, peer: NodeId) -> usize {
        self.links.get(&peer).map_or(0, |link| link.wants.len())
    }

    /// Notes what `peer` wants; its filter must be valid. Without a link to
    /// `peer` nothing is noted.
    pub(super) fn want(&mut self, peer: NodeId, interest: Interest) {
        let next = self.last_id + 1;
        let Some(link) = self.links.get_mut(&peer) else { return };
        let Interest { filter, queue, members } = interest;
        let wanted = (filter, queue);
        if members == 0 {
            if let Some(id) = link.wants.remove(&wanted) {
                self.sublist.remove(&wanted.0, wanted.1.as_ref(), id);
            }
            return;
        }
        let id = match link.wants.entry(wanted.clone()) {
            Place::Occupied(known) => *known.get(),
            Place::Vacant(place) => {
                self.last_id = next;
                *place.insert(next)
            }
        };
        self.sublist.insert(&wanted.0, wanted.1.as_ref(), id, Entry::Link { peer, members });
    }

    /// Where a message to `subject` goes. The subject must be valid.
    pub(super) fn routes(&self, subject: &[u8]) -> Routes {
        let (mut plain, mut links, mut groups) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        self.sublist.visit(subject, |queue, _, entry| match (queue, entry) {
            (None, Entry::Local(local)) => plain.push(local.clone()),
            (None, Entry::Link { peer, .. }) => {
                links.insert(*peer, true);
            }
            (Some(queue), Entry::Local(local)) => {
                groups.entry(queue).or_insert_with(|| Group::new(queue)).locals.push(local.clone());
            }
            (Some(queue), Entry::Link { peer, members }) => {
                links.entry(*peer).or_insert(false);
                let group: &mut Group = groups.entry(queue).or_insert_with(|| Group::new(queue));
                group.remotes.push((*peer, *members));
            }
        });
        let mut routes = Routes { plain, ..Routes::default() };
        for (peer, plain) in links {
            let Some(link) = self.links.get(&peer) else { continue };
            routes.links.push(Remote { peer, carrier: link.carrier.clone(), plain });
        }
        routes.groups = groups.into_values().collect();
        routes
    }
}
