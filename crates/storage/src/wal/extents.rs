//! Which segments each group's entries lie in, as the writer knows it from
//! records that are *synced*. The handles' index may be ahead (a purge takes
//! effect there before it is durable), so it must not decide what is freed.
//! Pure.

use std::collections::{BTreeMap, VecDeque};

use trine_types::GroupId;

use super::Pin;

/// Entries `first..=last` of one group lie in `segment`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    segment: u32,
    first: u64,
    last: u64,
}

#[derive(Debug, Default)]
pub(super) struct Extents {
    groups: BTreeMap<GroupId, VecDeque<Run>>,
}

impl Extents {
    /// The entry `index`, the next one of its group, lies in `segment`.
    pub(super) fn add(&mut self, group: GroupId, segment: u32, index: u64) {
        let runs = self.groups.entry(group).or_default();
        match runs.back_mut() {
            Some(run) if run.segment == segment => run.last = index,
            _ => runs.push_back(Run { segment, first: index, last: index }),
        }
    }

    pub(super) fn truncate_after(&mut self, group: GroupId, last_kept: Option<u64>) {
        let Some(runs) = self.groups.get_mut(&group) else { return };
        while let Some(run) = runs.back_mut() {
            match last_kept {
                Some(last) if last >= run.first => {
                    run.last = run.last.min(last);
                    break;
                }
                _ => {
                    runs.pop_back();
                }
            }
        }
        self.forget_empty(group);
    }

    pub(super) fn purge(&mut self, group: GroupId, upto: u64) {
        let Some(runs) = self.groups.get_mut(&group) else { return };
        while let Some(run) = runs.front_mut() {
            if run.last > upto {
                run.first = run.first.max(upto + 1);
                break;
            }
            runs.pop_front();
        }
        self.forget_empty(group);
    }

    pub(super) fn destroy(&mut self, group: GroupId) {
        self.groups.remove(&group);
    }

    fn forget_empty(&mut self, group: GroupId) {
        if self.groups.get(&group).is_some_and(VecDeque::is_empty) {
            self.groups.remove(&group);
        }
    }

    /// The oldest segment that has an entry; `current` if none has.
    pub(super) fn first_live(&self, current: u32) -> u32 {
        self.oldest().map(|(_, run)| run.segment).min().unwrap_or(current)
    }

    fn oldest(&self) -> impl Iterator<Item = (GroupId, Run)> {
        self.groups.iter().filter_map(|(group, runs)| Some((*group, *runs.front()?)))
    }

    /// The groups that reach back `limit` segments or more, with their first
    /// and last entry.
    pub(super) fn reaching_back(&self, current: u32, limit: u64) -> Vec<(GroupId, u64, u64)> {
        let old = |run: &Run| u64::from(current - run.segment) + 1 >= limit;
        self.groups
            .iter()
            .filter_map(|(group, runs)| {
                Some((*group, runs.front().filter(|run| old(run))?.first, runs.back()?.last))
            })
            .collect()
    }

    /// The groups that reach back `limit` segments or more, furthest first.
    pub(super) fn pins(&self, current: u32, limit: u64) -> Vec<Pin> {
        let mut pins: Vec<Pin> = self
            .oldest()
            .map(|(group, run)| Pin {
                group,
                oldest: run.first,
                segments: u64::from(current - run.segment) + 1,
            })
            .filter(|pin| pin.segments >= limit)
            .collect();
        pins.sort_by_key(|pin| (std::cmp::Reverse(pin.segments), pin.group));
        pins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: GroupId = GroupId(1);
    const B: GroupId = GroupId(2);

    fn story() -> Extents {
        let mut extents = Extents::default();
        for (group, segment, index) in [(A, 1, 1), (A, 1, 2), (B, 1, 7), (A, 2, 3), (A, 4, 4), (A, 4, 5)] {
            extents.add(group, segment, index);
        }
        extents
    }

    #[test]
    fn the_oldest_entry_of_any_group_counts() {
        let mut extents = story();
        assert_eq!(extents.first_live(4), 1);
        extents.purge(A, 2);
        assert_eq!(extents.first_live(4), 1);
        extents.purge(B, 7);
        assert_eq!(extents.first_live(4), 2);
        extents.purge(A, 4);
        assert_eq!(extents.first_live(4), 4);
        extents.purge(A, 99);
        assert_eq!(extents.first_live(9), 9);
    }

    #[test]
    fn truncation_takes_runs_from_the_end() {
        let mut extents = story();
        extents.truncate_after(A, Some(3));
        extents.purge(A, 2);
        assert_eq!(
            extents.pins(4, 3),
            [Pin { group: B, oldest: 7, segments: 4 }, Pin { group: A, oldest: 3, segments: 3 },]
        );
        extents.truncate_after(A, None);
        extents.destroy(B);
        assert_eq!(extents.first_live(4), 4);
        extents.add(A, 5, 1);
        assert_eq!(extents.first_live(5), 5);
    }
}
