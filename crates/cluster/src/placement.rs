//! Which nodes hold which group: a pure function of the nodes (weights and
//! zones), the groups and where they are now. It keeps what is good, so that
//! adding a node moves only that node's share; ties are broken by rendezvous
//! hashing, so that the result does not depend on the order of events.
//!
//! The first replica of a group is the node that should lead it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use trine_types::{GroupId, NodeNumber};

/// A node as placement sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Which node.
    pub number: NodeNumber,
    /// Its share relative to the others; at least 1.
    pub weight: u16,
    /// Its failure domain; an empty zone is a domain of its own.
    pub zone: String,
}

/// Where every group is, or should be.
pub type Places = BTreeMap<GroupId, Vec<NodeNumber>>;

/// Where `groups` should be: `replicas` nodes each, or as many as there are.
pub fn plan(nodes: &[Candidate], groups: &[GroupId], replicas: usize, current: &Places) -> Places {
    let mut board = Board::new(nodes, groups, current);
    let want = replicas.min(board.nodes.len());
    for &group in groups {
        board.shrink(group, want);
    }
    for &group in groups {
        board.fill(group, want);
    }
    for &group in groups {
        board.spread(group);
    }
    board.balance();
    board.choose_leaders();
    board.places
}

/// Load per weight, compared without rounding: `load_a / weight_a < load_b / weight_b`.
fn lighter(a: (usize, u16), b: (usize, u16)) -> bool {
    a.0 as u64 * u64::from(b.1) < b.0 as u64 * u64::from(a.1)
}

/// Rendezvous score of a pair: a fixed 64-bit mix, the same in every version.
fn score(group: GroupId, node: NodeNumber) -> u64 {
    let mut x = (u64::from(group.0) << 32) ^ node.0.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    for _ in 0..3 {
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^= x >> 31;
    }
    x
}

struct Board {
    nodes: BTreeMap<NodeNumber, (u16, String)>,
    places: Places,
    loads: BTreeMap<NodeNumber, usize>,
}

impl Board {
    fn new(nodes: &[Candidate], groups: &[GroupId], current: &Places) -> Self {
        let nodes: BTreeMap<_, _> = nodes
            .iter()
            // A node without a zone is a failure domain of its own.
            .map(|n| {
                let zone = if n.zone.is_empty() { format!("/{}", n.number) } else { n.zone.clone() };
                (n.number, (n.weight.max(1), zone))
            })
            .collect();
        let mut loads: BTreeMap<_, _> = nodes.keys().map(|&n| (n, 0)).collect();
        let mut places = Places::new();
        for &group in groups {
            let mut kept = Vec::new();
            for &node in current.get(&group).into_iter().flatten() {
                if let Some(load) = loads.get_mut(&node).filter(|_| !kept.contains(&node)) {
                    *load += 1;
                    kept.push(node);
                }
            }
            places.insert(group, kept);
        }
        Self { nodes, places, loads }
    }

    fn zone(&self, node: NodeNumber) -> &str {
        self.nodes.get(&node).map_or("", |(_, zone)| zone)
    }

    fn load(&self, node: NodeNumber) -> (usize, u16) {
        (self.loads.get(&node).copied().unwrap_or(0), self.nodes.get(&node).map_or(1, |(weight, _)| *weight))
    }

    fn replicas(&self, group: GroupId) -> &[NodeNumber] {
        self.places.get(&group).map_or(&[], Vec::as_slice)
    }

    fn add(&mut self, group: GroupId, node: NodeNumber) {
        self.places.entry(group).or_default().push(node);
        *self.loads.entry(node).or_default() += 1;
    }

    fn remove(&mut self, group: GroupId, node: NodeNumber) {
        self.places.entry(group).or_default().retain(|&n| n != node);
        if let Some(load) = self.loads.get_mut(&node) {
            *load -= 1;
        }
    }

    /// How many other replicas of the group share the zone of `node`.
    fn zone_mates(&self, group: GroupId, node: NodeNumber) -> usize {
        self.replicas(group).iter().filter(|&&n| n != node && self.zone(n) == self.zone(node)).count()
    }

    /// The node that should get a replica next: emptiest zone of the group,
    /// then least load after the move, then highest score.
    fn best_for(&self, group: GroupId, leaving: Option<NodeNumber>) -> Option<NodeNumber> {
        let crowd = |n: NodeNumber| {
            self.replicas(group)
                .iter()
                .filter(|&&r| Some(r) != leaving && self.zone(r) == self.zone(n))
                .count()
        };
        let mut best: Option<NodeNumber> = None;
        for &node in self.nodes.keys().filter(|n| !self.replicas(group).contains(n)) {
            let better = best.is_none_or(|other| {
                let (a, b) = (
                    (self.load(node).0 + 1, self.load(node).1),
                    (self.load(other).0 + 1, self.load(other).1),
                );
                match crowd(node).cmp(&crowd(other)) {
                    std::cmp::Ordering::Less => true,
                    std::cmp::Ordering::Greater => false,
                    std::cmp::Ordering::Equal if lighter(a, b) => true,
                    std::cmp::Ordering::Equal if lighter(b, a) => false,
                    std::cmp::Ordering::Equal => score(group, node) > score(group, other),
                }
            });
            if better {
                best = Some(node);
            }
        }
        best
    }

    /// Drops surplus replicas: crowded zones first, then the fullest node.
    fn shrink(&mut self, group: GroupId, want: usize) {
        while self.replicas(group).len() > want {
            let mut worst: Option<NodeNumber> = None;
            for &node in self.replicas(group) {
                let goes_first = worst.is_none_or(|other| {
                    let (mine, theirs) = (self.zone_mates(group, node), self.zone_mates(group, other));
                    mine > theirs || (mine == theirs && lighter(self.load(other), self.load(node)))
                });
                if goes_first {
                    worst = Some(node);
                }
            }
            let Some(node) = worst else { return };
            self.remove(group, node);
        }
    }

    fn fill(&mut self, group: GroupId, want: usize) {
        while self.replicas(group).len() < want {
            let Some(node) = self.best_for(group, None) else { return };
            self.add(group, node);
        }
    }

    /// Moves a replica out of a crowded zone while an emptier one exists.
    fn spread(&mut self, group: GroupId) {
        for _ in 0..self.replicas(group).len() {
            let crowded =
                self.replicas(group).iter().copied().max_by_key(|&n| (self.zone_mates(group, n), n));
            let Some(from) = crowded.filter(|&n| self.zone_mates(group, n) > 0) else { return };
            let Some(to) = self.best_for(group, Some(from)) else { return };
            let mates_there =
                self.replicas(group).iter().filter(|&&n| n != from && self.zone(n) == self.zone(to)).count();
            if mates_there >= self.zone_mates(group, from) {
                return;
            }
            self.remove(group, from);
            self.add(group, to);
        }
    }

    /// Moves single replicas from fuller to emptier nodes while that makes the
    /// fullest of the two emptier and no zone more crowded.
    fn balance(&mut self) {
        let bound = self.places.values().map(Vec::len).sum::<usize>() * 2;
        for _ in 0..bound {
            let Some((group, from, to)) = self.best_move() else { return };
            self.remove(group, from);
            self.add(group, to);
        }
    }

    fn best_move(&self) -> Option<(GroupId, NodeNumber, NodeNumber)> {
        let mut pairs: Vec<(NodeNumber, NodeNumber)> = Vec::new();
        for &from in self.nodes.keys() {
            for &to in self.nodes.keys() {
                let (f, t) = (self.load(from), self.load(to));
                // After the move the receiver must stay below where the giver was.
                if f.0 > 0 && lighter((t.0 + 1, t.1), f) {
                    pairs.push((from, to));
                }
            }
        }
        // Fullest giver first, then emptiest receiver; numbers break ties.
        pairs.sort_by(|a, b| {
            self.by_load(b.0, a.0).then_with(|| self.by_load(a.1, b.1)).then_with(|| a.cmp(b))
        });
        pairs.into_iter().find_map(|(from, to)| self.movable(from, to).map(|group| (group, from, to)))
    }

    fn by_load(&self, a: NodeNumber, b: NodeNumber) -> std::cmp::Ordering {
        if lighter(self.load(a), self.load(b)) {
            std::cmp::Ordering::Less
        } else if lighter(self.load(b), self.load(a)) {
            std::cmp::Ordering::Greater
        } else {
            std::cmp::Ordering::Equal
        }
    }

    fn movable(&self, from: NodeNumber, to: NodeNumber) -> Option<GroupId> {
        self.places
            .iter()
            .filter(|(_, replicas)| replicas.contains(&from) && !replicas.contains(&to))
            .filter(|(group, replicas)| {
                let there = replicas.iter().filter(|&&n| n != from && self.zone(n) == self.zone(to)).count();
                there <= self.zone_mates(**group, from)
            })
            .map(|(&group, _)| group)
            .max_by_key(|&group| (score(group, to), group))
    }

    /// Puts the preferred leader first: even shares by weight, changed as
    /// little as possible, along chains of groups where one step is not enough.
    fn choose_leaders(&mut self) {
        loop {
            let mut leads: BTreeMap<NodeNumber, usize> = self.nodes.keys().map(|&n| (n, 0)).collect();
            for replicas in self.places.values() {
                if let Some(count) = replicas.first().and_then(|n| leads.get_mut(n)) {
                    *count += 1;
                }
            }
            let share = |n: NodeNumber| (leads.get(&n).copied().unwrap_or(0), self.load(n).1);
            let mut givers: Vec<NodeNumber> = leads.keys().copied().filter(|&n| share(n).0 > 0).collect();
            givers.sort_by(|&a, &b| {
                let (a_share, b_share) = (share(a), share(b));
                if lighter(b_share, a_share) {
                    std::cmp::Ordering::Less
                } else if lighter(a_share, b_share) {
                    std::cmp::Ordering::Greater
                } else {
                    a.cmp(&b)
                }
            });
            let chain = givers.into_iter().find_map(|from| {
                self.chain(from, |to| {
                    let (count, weight) = share(to);
                    lighter((count + 1, weight), share(from))
                })
            });
            let Some(chain) = chain else { return };
            for (group, to) in chain {
                let replicas = self.places.entry(group).or_default();
                if let Some(at) = replicas.iter().position(|&n| n == to) {
                    replicas.swap(0, at);
                }
            }
        }
    }

    /// The shortest chain of hand-overs from `from` to a node that may take
    /// one more group.
    fn chain(
        &self,
        from: NodeNumber,
        takes: impl Fn(NodeNumber) -> bool,
    ) -> Option<Vec<(GroupId, NodeNumber)>> {
        let mut came: BTreeMap<NodeNumber, (NodeNumber, GroupId)> = BTreeMap::new();
        let mut seen = BTreeSet::from([from]);
        let mut queue = VecDeque::from([from]);
        while let Some(at) = queue.pop_front() {
            if at != from && takes(at) {
                let (mut steps, mut node) = (Vec::new(), at);
                while let Some(&(before, group)) = came.get(&node) {
                    steps.push((group, node));
                    node = before;
                }
                return Some(steps);
            }
            for (&group, replicas) in self.places.iter().filter(|(_, r)| r.first() == Some(&at)) {
                for &next in replicas.iter().skip(1) {
                    if seen.insert(next) {
                        came.insert(next, (at, group));
                        queue.push_back(next);
                    }
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
