//! What one node must do so that its replicas follow `meta`: a pure function
//! of `meta`, of the replicas that are open here, and of who is out of reach.
//! Every action may be repeated: a crash between two of them loses nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use trine_types::{GroupId, NodeNumber};

use crate::state::MetaState;

/// A group led here since less than this is not handed to its preferred leader.
pub const LEADER_REST: Duration = Duration::from_secs(10);
/// A preferred leader that lacks more entries than this is not caught up.
pub const CAUGHT_UP_ENTRIES: u64 = 64;

/// One replica that is open here.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LocalGroup {
    /// Whether it knows any membership.
    pub initialised: bool,
    /// If it leads: since when, and whom.
    pub leads: Option<Lead>,
    /// Who votes, by its own latest membership.
    pub voters: BTreeSet<NodeNumber>,
    /// Who only learns.
    pub learners: BTreeSet<NodeNumber>,
    /// Whether a change of members is half done (old and new ones vote).
    pub changing: bool,
}

/// What a leader knows beyond its followers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Lead {
    /// How long it has led in this term.
    pub lasted: Duration,
    /// It has just changed the members by itself: hand over without rest.
    pub fresh: bool,
    /// How many entries each peer lacks.
    pub lag: BTreeMap<NodeNumber, u64>,
}

/// Something to do here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Open the replica; it waits until a leader adds it.
    Open(GroupId),
    /// Give birth to a group: this node is its only member.
    Initialise(GroupId),
    /// The group has moved away: drop the replica.
    Destroy(GroupId),
    /// Lead the membership to what is wanted.
    ChangeMembers {
        /// Which group.
        group: GroupId,
        /// Who shall vote.
        voters: BTreeSet<NodeNumber>,
        /// Who shall only learn.
        learners: BTreeSet<NodeNumber>,
    },
    /// Tell `meta` that the wish is fulfilled.
    Settle {
        /// Which group.
        group: GroupId,
        /// The revision of the wish.
        revision: u64,
        /// Who votes.
        members: BTreeSet<NodeNumber>,
    },
    /// Hand the group to the node that should lead it.
    Transfer {
        /// Which group.
        group: GroupId,
        /// To whom.
        to: NodeNumber,
    },
}

impl Action {
    /// The group that it is about.
    pub fn group(&self) -> GroupId {
        match *self {
            Self::Open(group) | Self::Initialise(group) | Self::Destroy(group) => group,
            Self::ChangeMembers { group, .. } | Self::Settle { group, .. } | Self::Transfer { group, .. } => {
                group
            }
        }
    }
}

/// Everything that `me` should do now; at most one action per group. Nodes
/// that are `unfit`, silent or with a slow disk, are not made leaders.
pub fn actions(
    meta: &MetaState,
    me: NodeNumber,
    local: &BTreeMap<GroupId, LocalGroup>,
    unfit: &BTreeSet<NodeNumber>,
) -> Vec<Action> {
    if meta.cluster.is_none() || !meta.nodes.contains_key(&me) {
        return Vec::new();
    }
    let mut actions = Vec::new();
    for (&group, row) in &meta.assignments {
        let Some(replica) = local.get(&group) else {
            if row.hosts(me) {
                actions.push(Action::Open(group));
            }
            continue;
        };
        let keeps = group == GroupId::META || row.hosts(me);
        if !keeps {
            if row.settled() {
                actions.push(Action::Destroy(group));
            }
        } else if row.unborn && !replica.initialised && row.preferred_leader() == Some(me) {
            actions.push(Action::Initialise(group));
        } else if let Some(lead) = &replica.leads {
            actions.extend(while_leading(meta, me, group, (replica, lead), unfit));
        }
    }
    actions
}

fn while_leading(
    meta: &MetaState,
    me: NodeNumber,
    group: GroupId,
    (replica, lead): (&LocalGroup, &Lead),
    unfit: &BTreeSet<NodeNumber>,
) -> Option<Action> {
    let row = meta.assignments.get(&group)?;
    let voters: BTreeSet<_> = row.wanted().into_iter().filter(|n| meta.nodes.contains_key(n)).collect();
    if voters.is_empty() {
        return None;
    }
    // Every node follows `meta`, voter or not.
    let learners: BTreeSet<_> = if group == GroupId::META {
        meta.nodes.keys().copied().filter(|n| !voters.contains(n)).collect()
    } else {
        BTreeSet::new()
    };
    if replica.voters != voters || replica.changing {
        return Some(Action::ChangeMembers { group, voters, learners });
    }
    if !row.settled() {
        return Some(Action::Settle { group, revision: row.revision, members: voters });
    }
    if replica.learners != learners {
        return Some(Action::ChangeMembers { group, voters, learners });
    }
    let to = row.preferred_leader().filter(|&to| to != me && !unfit.contains(&to))?;
    let rested = lead.fresh || lead.lasted >= LEADER_REST;
    let caught_up = lead.lag.get(&to).is_some_and(|&lag| lag <= CAUGHT_UP_ENTRIES);
    (rested && caught_up).then_some(Action::Transfer { group, to })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command;
    use crate::state::tests::{created, join};

    const ONE: NodeNumber = NodeNumber(1);
    const TWO: NodeNumber = NodeNumber(2);
    const GROUP: GroupId = GroupId::partition(0);

    fn set(numbers: &[NodeNumber]) -> BTreeSet<NodeNumber> {
        numbers.iter().copied().collect()
    }

    fn leader(voters: &[NodeNumber]) -> LocalGroup {
        LocalGroup {
            initialised: true,
            leads: Some(Lead::default()),
            voters: set(voters),
            ..LocalGroup::default()
        }
    }

    fn of_group(meta: &MetaState, me: NodeNumber, replica: Option<LocalGroup>) -> Option<Action> {
        let local = replica.map(|replica| (GROUP, replica)).into_iter().collect();
        actions(meta, me, &local, &BTreeSet::new()).into_iter().find(|a| a.group() == GROUP)
    }

    fn wants(replicas: &[NodeNumber]) -> MetaState {
        let mut meta = created(1);
        join(&mut meta, 2);
        meta.apply(1, Command::Settle { group: GROUP, revision: 1, members: set(&[ONE]) });
        meta.apply(1, Command::Assign { changes: vec![(GROUP, 1, replicas.to_vec())] });
        meta
    }

    #[test]
    fn a_group_is_born_on_its_first_replica() {
        let meta = created(1);
        assert_eq!(of_group(&meta, ONE, None), Some(Action::Open(GROUP)));
        assert_eq!(of_group(&meta, ONE, Some(LocalGroup::default())), Some(Action::Initialise(GROUP)));
        let settle = Action::Settle { group: GROUP, revision: 1, members: set(&[ONE]) };
        assert_eq!(of_group(&meta, ONE, Some(leader(&[ONE]))), Some(settle));
    }

    #[test]
    fn a_group_moves_from_one_node_to_another() {
        let mut meta = wants(&[TWO]);
        assert_eq!(of_group(&meta, TWO, None), Some(Action::Open(GROUP)));
        let change = Action::ChangeMembers { group: GROUP, voters: set(&[TWO]), learners: set(&[]) };
        assert_eq!(of_group(&meta, ONE, Some(leader(&[ONE]))), Some(change));
        assert_eq!(of_group(&meta, TWO, Some(LocalGroup::default())), None, "it waits for its leader");
        let settle = Action::Settle { group: GROUP, revision: 2, members: set(&[TWO]) };
        assert_eq!(of_group(&meta, TWO, Some(leader(&[TWO]))), Some(settle));
        meta.apply(1, Command::Settle { group: GROUP, revision: 2, members: set(&[TWO]) });
        assert_eq!(of_group(&meta, ONE, Some(LocalGroup::default())), Some(Action::Destroy(GROUP)));
        assert_eq!(of_group(&meta, TWO, Some(leader(&[TWO]))), None);
    }

    #[test]
    fn leadership_moves_when_the_preferred_leader_is_ready() {
        let mut meta = wants(&[TWO, ONE]);
        meta.apply(1, Command::Settle { group: GROUP, revision: 2, members: set(&[ONE, TWO]) });
        let mut lead = Lead { lasted: LEADER_REST, ..Lead::default() };
        let leading = |lead: &Lead| Some(LocalGroup { leads: Some(lead.clone()), ..leader(&[ONE, TWO]) });
        assert_eq!(of_group(&meta, ONE, leading(&lead)), None, "how far it is, is not known");
        lead.lag.insert(TWO, CAUGHT_UP_ENTRIES);
        let transfer = Action::Transfer { group: GROUP, to: TWO };
        assert_eq!(of_group(&meta, ONE, leading(&lead)), Some(transfer.clone()));
        lead.lasted = Duration::ZERO;
        assert_eq!(of_group(&meta, ONE, leading(&lead)), None, "it has only just become leader");
        lead.fresh = true;
        assert_eq!(of_group(&meta, ONE, leading(&lead)), Some(transfer));
        let local = leading(&lead).map(|replica| (GROUP, replica)).into_iter().collect();
        let mut left = actions(&meta, ONE, &local, &set(&[TWO])).into_iter();
        assert!(left.all(|action| action.group() != GROUP), "its disk is slow, or it is silent");
    }

    #[test]
    fn every_node_learns_meta() {
        let meta = wants(&[ONE]);
        let local = BTreeMap::from([(GroupId::META, leader(&[ONE]))]);
        let actions = actions(&meta, ONE, &local, &BTreeSet::new());
        let change =
            Action::ChangeMembers { group: GroupId::META, voters: set(&[ONE]), learners: set(&[TWO]) };
        assert!(actions.contains(&change), "{actions:?}");
    }
}
