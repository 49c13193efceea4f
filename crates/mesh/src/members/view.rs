//! What a node tells of its members: a list of how each is now, and the last
//! things that happened. Pure; the task fills it.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use trine_cluster::MetaState;
use trine_types::{NodeId, NodeNumber};

use super::life::{Life, State};
use super::machine::{Change, Event, Members};
use super::profile::Profile;

/// Happenings that are remembered for those who ask what they missed.
pub const MAX_REMEMBERED: usize = 256;

/// One member, as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberView {
    /// Its number.
    pub number: NodeNumber,
    /// Its key.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Whether it is this node itself.
    pub own: bool,
    /// Where its peers reach it.
    pub address: Option<SocketAddr>,
    /// How it is; nothing until somebody heard of it.
    pub state: Option<State>,
    /// Which life of it that is about.
    pub life: Life,
    /// Smoothed round trip of probes.
    pub round_trip: Option<Duration>,
    /// Load over the last minute, in hundredths of what its cores can do.
    pub load: Option<u16>,
    /// What it says about itself.
    pub profile: Option<Profile>,
}

/// Something that happened to a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// Counts what this process has seen happen, from 1.
    pub serial: u64,
    /// Wall-clock time, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// To whom.
    pub number: NodeNumber,
    /// Its name at that time.
    pub name: String,
    /// What.
    pub change: Change,
    /// Which life of it that is about.
    pub life: Life,
}

/// Everything at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// All members, in the order of their numbers.
    pub members: Vec<MemberView>,
    /// The last [`MAX_REMEMBERED`] things that happened, oldest first.
    pub happened: VecDeque<Happening>,
    /// Serial of the newest thing that happened; 0 before the first.
    pub serial: u64,
}

impl View {
    /// What happened after `serial`.
    pub fn since(&self, serial: u64) -> impl Iterator<Item = &Happening> {
        self.happened.iter().filter(move |happening| happening.serial > serial)
    }

    /// A member by its number.
    #[must_use]
    pub fn member(&self, number: NodeNumber) -> Option<&MemberView> {
        self.members.iter().find(|member| member.number == number)
    }

    /// Something happened.
    pub(super) fn note(&mut self, event: Event, meta: &MetaState, at_ms: u64) {
        if self.happened.len() >= MAX_REMEMBERED {
            self.happened.pop_front();
        }
        self.serial += 1;
        self.happened.push_back(Happening {
            serial: self.serial,
            at_ms,
            number: event.member,
            name: meta.nodes.get(&event.member).map(|row| row.name.clone()).unwrap_or_default(),
            change: event.change,
            life: event.belief.life,
        });
    }

    /// Takes over how everybody is now.
    pub(super) fn refresh(&mut self, machine: &Members, meta: &MetaState) {
        self.members = meta.nodes.values().map(|row| member(machine, row)).collect();
    }
}

fn member(machine: &Members, row: &trine_cluster::nodes::NodeRow) -> MemberView {
    let me = machine.me();
    let own = row.number == me.number;
    let heard = machine.heard(row.number);
    let measured = machine.measured().of(row.number);
    let profile = if own { Some(&me.profile) } else { measured.and_then(|it| it.profile.as_ref()) };
    MemberView {
        number: row.number,
        id: row.id,
        name: row.name.clone(),
        own,
        address: row.addresses.first().copied(),
        state: if own { Some(State::Alive) } else { heard.map(|belief| belief.state) },
        life: if own { me.life } else { heard.unwrap_or_default().life },
        round_trip: measured.and_then(|it| it.round_trip),
        load: if own { Some(me.load) } else { measured.and_then(|it| it.load) },
        profile: profile.and_then(|bytes| Profile::decode(bytes)),
    }
}

/// Numbers of the members by their keys.
pub(super) fn numbers(meta: &MetaState) -> BTreeMap<NodeId, NodeNumber> {
    meta.nodes.values().map(|row| (row.id, row.number)).collect()
}
