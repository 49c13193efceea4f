//! What the cluster should change next: a pure function of `meta` and of who
//! is out of reach. It runs on the node where `meta` leads; each step is small
//! and leaves a state from which the next leader goes on.

use std::collections::{BTreeMap, BTreeSet};

use trine_types::{GroupId, NodeNumber};

use crate::assignments::{Assignment, GROUP_REPLICAS, meta_voters};
use crate::command::Command;
use crate::nodes::NodeState;
use crate::placement::{self, Candidate, Places};
use crate::state::MetaState;

/// How many groups may change their replicas at the same time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// Groups that only gain replicas: a young cluster is complete soon.
    pub growing: usize,
    /// Groups that move data between nodes: users should not notice.
    pub moving: usize,
}

/// Who does not answer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OutOfReach {
    /// Suspected right now: gets nothing new.
    pub now: BTreeSet<NodeNumber>,
    /// Suspected for long: what waits for it is taken back.
    pub long: BTreeSet<NodeNumber>,
}

/// The next change, if one is due.
pub fn next(meta: &MetaState, out: &OutOfReach, pace: Pace) -> Option<Command> {
    meta.cluster.as_ref()?;
    if let Some(done) = drained(meta) {
        return Some(Command::Remove { number: done, force: false });
    }
    if let Some(key) = meta.retired_issuer() {
        return Some(Command::RetireIssuer { key });
    }
    let mut changes = take_back(meta, out);
    changes.extend(steps(meta, out, pace, &changes));
    (!changes.is_empty()).then_some(Command::Assign { changes })
}

type Change = (GroupId, u64, Vec<NodeNumber>);

/// A leaving node that holds nothing any more.
fn drained(meta: &MetaState) -> Option<NodeNumber> {
    let leaving = meta.nodes.values().filter(|node| node.state == NodeState::Leaving);
    leaving.map(|node| node.number).find(|&n| !meta.assignments.values().any(|a| a.hosts(n)))
}

/// Growth that waits for a node that is gone is taken back: it would hold up
/// all other changes.
fn take_back(meta: &MetaState, out: &OutOfReach) -> Vec<Change> {
    let stuck = meta.assignments.iter().filter(|(_, row)| {
        !row.unborn
            && row.replicas.iter().any(|n| out.long.contains(n) && !row.members.contains(n))
            && row.members.iter().any(|n| meta.nodes.contains_key(n))
    });
    stuck
        .map(|(&group, row)| {
            let mut kept: Vec<_> = row.replicas.iter().copied().filter(|n| row.members.contains(n)).collect();
            let others = row.members.iter().copied().filter(|n| meta.nodes.contains_key(n));
            let others: Vec<_> = others.filter(|n| !kept.contains(n)).collect();
            kept.extend(others);
            (group, row.revision, kept)
        })
        .collect()
}

/// The target for every group, from the nodes that have started at least once.
pub fn target(meta: &MetaState) -> Places {
    let nodes: Vec<Candidate> = meta
        .active()
        .filter(|node| node.incarnation.0 > 0)
        .map(|node| Candidate { number: node.number, weight: node.weight, zone: node.zone.clone() })
        .collect();
    let current: Places =
        meta.assignments.iter().map(|(&group, row)| (group, row.replicas.clone())).collect();
    let groups = |wanted: fn(GroupId) -> bool| -> Vec<GroupId> {
        current.keys().copied().filter(|&group| wanted(group)).collect()
    };
    let meta = groups(|group| group == GroupId::META);
    let mut target = placement::plan(&nodes, &meta, meta_voters(nodes.len()), &current);
    // Each kind by itself, so that partitions are spread evenly whatever else
    // there is.
    let services = groups(|group| group != GroupId::META && group.as_partition().is_none());
    target.extend(placement::plan(&nodes, &services, GROUP_REPLICAS, &current));
    let partitions = groups(|group| group.as_partition().is_some());
    target.extend(placement::plan(&nodes, &partitions, GROUP_REPLICAS, &current));
    target
}

fn steps(meta: &MetaState, out: &OutOfReach, pace: Pace, taken_back: &[Change]) -> Vec<Change> {
    let in_flight = meta.assignments.values().filter(|row| !row.settled()).count();
    let (mut growing, mut moving) = (in_flight, in_flight);
    let mut changes = Vec::new();
    for (group, wanted) in target(meta) {
        let Some(row) = meta.assignments.get(&group).filter(|row| row.settled()) else { continue };
        let news = || wanted.iter().filter(|n| !row.members.contains(n));
        if wanted.is_empty()
            || wanted == row.replicas
            || news().any(|n| out.now.contains(n))
            || taken_back.iter().any(|(other, ..)| *other == group)
        {
            continue;
        }
        let allowed = match kind(row, &wanted) {
            Kind::Reorder => true,
            Kind::Grow => {
                growing += 1;
                growing <= pace.growing
            }
            Kind::Move => {
                (growing, moving) = (growing + 1, moving + 1);
                moving <= pace.moving
            }
        };
        if allowed {
            changes.push((group, row.revision, wanted));
        }
    }
    changes
}

enum Kind {
    Reorder,
    Grow,
    Move,
}

fn kind(row: &Assignment, wanted: &[NodeNumber]) -> Kind {
    let keeps_all = row.members.iter().all(|n| wanted.contains(n));
    match (keeps_all, wanted.len() == row.members.len()) {
        (true, true) => Kind::Reorder,
        (true, false) => Kind::Grow,
        (false, _) => Kind::Move,
    }
}

/// Why removing a node now would leave some group without a majority.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Danger {
    /// Which group.
    pub group: GroupId,
    /// How many of its members would answer.
    pub answering: usize,
    /// How many it would have.
    pub of: usize,
}

/// The first group that could not finish the removal of `number`, or would be
/// left without a majority by it.
pub fn danger(meta: &MetaState, number: NodeNumber, out: &BTreeSet<NodeNumber>) -> Option<Danger> {
    let mut without = meta.clone();
    without.nodes.get_mut(&number)?.state = NodeState::Leaving;
    let after: BTreeMap<_, _> = target(&without);
    meta.assignments.iter().find_map(|(&group, row)| {
        let short = |members: &mut dyn Iterator<Item = NodeNumber>| {
            let (mut answering, mut of) = (0, 0);
            for node in members {
                of += 1;
                answering += usize::from(!out.contains(&node));
            }
            (answering * 2 <= of).then_some(Danger { group, answering, of })
        };
        let now = short(&mut row.members.iter().copied());
        let then = after.get(&group).and_then(|replicas| short(&mut replicas.iter().copied()));
        now.filter(|_| row.hosts(number)).or(then)
    })
}

/// How many nodes may fail at once without any group losing its majority, as
/// the groups are settled now.
pub fn tolerance(meta: &MetaState) -> usize {
    meta.assignments.values().map(|row| row.members.len().saturating_sub(1) / 2).min().unwrap_or(0)
}

#[cfg(test)]
mod tests;
