//! Whether this node's disk is so much slower than its peers' that it should
//! not lead: a follower with a slow disk is outvoted, a leader with one slows
//! its groups down. Pure: the liveness task brings what the log and the peers'
//! beats say, and does what it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;
use trine_storage::SyncPace;
use trine_types::NodeNumber;

/// How many times slower than another a disk must be to count as far slower.
/// Nodes that share a disk or cores differ by less.
const TIMES_SLOWER: u32 = 5;
/// Syncs under this are never called slow: leadership is not moved for what
/// hardly anybody notices.
const LEAST_SLOW: Duration = Duration::from_millis(10);
/// How long it must last: less than this may be a compaction or a backup.
const PERSISTS_FOR: Duration = Duration::from_secs(3);
/// Pause after a hand-over, so that leadership does not wander while disks
/// change their minds.
const COOL_DOWN: Duration = Duration::from_mins(1);
/// A node that has just started reads and makes files; that says little.
const START_GRACE: Duration = Duration::from_secs(10);
/// Peers to compare with. With one, a majority needs both disks, and it makes
/// no difference which of them leads.
const LEAST_PEERS: usize = 2;

/// What is remembered between two looks.
#[derive(Debug)]
pub(crate) struct DiskPace {
    slow_since: Option<Instant>,
    rests_until: Instant,
}

impl DiskPace {
    pub(crate) fn new(now: Instant) -> Self {
        Self { slow_since: None, rests_until: now + START_GRACE }
    }

    /// Whom this node shall hand what it leads over to, now; nobody: it keeps
    /// it. `peers` are the live ones that have told how long their syncs take.
    pub(crate) fn judge(
        &mut self,
        now: Instant,
        own: Option<SyncPace>,
        peers: &BTreeMap<NodeNumber, Duration>,
        leads: bool,
    ) -> BTreeSet<NodeNumber> {
        let slow = own
            .filter(|own| own.recent)
            .filter(|own| median(peers).is_some_and(|median| far_slower(own.latency, median)));
        let Some(own) = slow else {
            self.slow_since = None;
            return BTreeSet::new();
        };
        let since = *self.slow_since.get_or_insert(now);
        if !leads || now < since + PERSISTS_FOR || now < self.rests_until {
            return BTreeSet::new();
        }
        self.rests_until = now + COOL_DOWN;
        let faster = peers.iter().filter(|(_, peer)| far_slower(own.latency, **peer));
        faster.map(|(number, _)| *number).collect()
    }
}

/// The peers that this node should not give leaderships to. The bounds are
/// half of those for giving one away, so that none goes back and forth.
pub(crate) fn slow_peers(
    own: Option<SyncPace>,
    peers: &BTreeMap<NodeNumber, Duration>,
) -> BTreeSet<NodeNumber> {
    let Some(own) = own else { return BTreeSet::new() };
    let slow = |peer: Duration| far_slower(peer * 2, own.latency);
    peers.iter().filter(|(_, peer)| slow(**peer)).map(|(number, _)| *number).collect()
}

fn far_slower(one: Duration, other: Duration) -> bool {
    one >= LEAST_SLOW && one >= other * TIMES_SLOWER
}

/// Of two in the middle the slower: if it is slow as well, every majority
/// waits for a slow disk.
fn median(peers: &BTreeMap<NodeNumber, Duration>) -> Option<Duration> {
    let mut all: Vec<Duration> = peers.values().copied().collect();
    all.sort_unstable();
    all.get(all.len() / 2).copied().filter(|_| all.len() >= LEAST_PEERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const SLOW: Option<SyncPace> = Some(SyncPace { latency: Duration::from_millis(50), recent: true });

    fn peers(all: &[(u64, u32)]) -> BTreeMap<NodeNumber, Duration> {
        all.iter().map(|(number, ms)| (NodeNumber(*number), MS * *ms)).collect()
    }

    fn numbers(all: &[u64]) -> BTreeSet<NodeNumber> {
        all.iter().copied().map(NodeNumber).collect()
    }

    /// A rule whose node has been up for long, and the time.
    fn grown() -> (DiskPace, Instant) {
        let now = Instant::now();
        (DiskPace::new(now), now + START_GRACE)
    }

    /// What the rule says after it has seen the same for long enough.
    fn after_all(own: Option<SyncPace>, peers: &BTreeMap<NodeNumber, Duration>) -> BTreeSet<NodeNumber> {
        let (mut pace, now) = grown();
        assert!(pace.judge(now, own, peers, true).is_empty(), "it must last");
        pace.judge(now + PERSISTS_FOR, own, peers, true)
    }

    #[test]
    fn a_leader_with_a_far_slower_disk_goes_to_those_that_are_faster() {
        assert_eq!(after_all(SLOW, &peers(&[(2, 1), (3, 2)])), numbers(&[2, 3]));
        let one_in_the_middle = peers(&[(2, 1), (3, 2), (4, 30)]);
        assert_eq!(after_all(SLOW, &one_in_the_middle), numbers(&[2, 3]), "4 is not measurably faster");
    }

    #[test]
    fn it_stays_where_nothing_would_be_better() {
        assert!(after_all(SLOW, &peers(&[(2, 50), (3, 60)])).is_empty(), "all disks are slow");
        assert!(after_all(SLOW, &peers(&[(2, 1), (3, 40)])).is_empty(), "every majority is slow");
        assert!(after_all(SLOW, &peers(&[(2, 1)])).is_empty(), "both disks are needed");
        assert!(after_all(SLOW, &peers(&[])).is_empty(), "nobody has told");
        let quick = Some(SyncPace { latency: MS * 9, recent: true });
        assert!(after_all(quick, &peers(&[(2, 1), (3, 1)])).is_empty(), "too little to matter");
        let idle = SLOW.map(|slow| SyncPace { recent: false, ..slow });
        assert!(after_all(idle, &peers(&[(2, 1), (3, 1)])).is_empty(), "that was long ago");
        assert!(after_all(None, &peers(&[(2, 1), (3, 1)])).is_empty(), "not known");
    }

    #[test]
    fn a_moment_does_not_count() {
        let ((mut pace, now), peers) = (grown(), peers(&[(2, 1), (3, 1)]));
        let fast = Some(SyncPace { latency: MS, recent: true });
        assert!(pace.judge(now, SLOW, &peers, true).is_empty());
        assert!(pace.judge(now + PERSISTS_FOR / 2, fast, &peers, true).is_empty());
        assert!(pace.judge(now + PERSISTS_FOR, SLOW, &peers, true).is_empty());
        assert!(!pace.judge(now + PERSISTS_FOR * 2, SLOW, &peers, true).is_empty());
    }

    #[test]
    fn never_at_the_start_and_never_twice_within_the_cool_down() {
        let now = Instant::now();
        let (mut pace, peers) = (DiskPace::new(now), peers(&[(2, 1), (3, 1)]));
        assert!(pace.judge(now, SLOW, &peers, true).is_empty());
        assert!(pace.judge(now + START_GRACE - MS, SLOW, &peers, true).is_empty());
        let first = now + START_GRACE;
        assert!(!pace.judge(first, SLOW, &peers, true).is_empty());
        assert!(pace.judge(first + COOL_DOWN - MS, SLOW, &peers, true).is_empty());
        assert!(!pace.judge(first + COOL_DOWN, SLOW, &peers, true).is_empty());
    }

    #[test]
    fn a_node_that_leads_nothing_has_nothing_to_cool_down_from() {
        let ((mut pace, now), peers) = (grown(), peers(&[(2, 1), (3, 1)]));
        assert!(pace.judge(now, SLOW, &peers, false).is_empty());
        assert!(pace.judge(now + PERSISTS_FOR, SLOW, &peers, false).is_empty());
        assert!(!pace.judge(now + PERSISTS_FOR + MS, SLOW, &peers, true).is_empty(), "it was elected");
    }

    #[test]
    fn who_hands_over_gets_nothing_back_while_it_is_half_as_slow() {
        let own = Some(SyncPace { latency: MS, recent: false });
        let all = peers(&[(1, 50), (2, 5), (3, 4), (4, 1)]);
        assert_eq!(slow_peers(own, &all), numbers(&[1, 2]));
        let own = Some(SyncPace { latency: MS * 20, recent: true });
        assert_eq!(slow_peers(own, &all), numbers(&[1]), "as slow as this node, or nearly");
        assert!(slow_peers(None, &all).is_empty());
    }
}
