//! Stories of disks that are slower than others.

use std::time::Duration;

use tokio::time::Instant;
use trine_types::NodeNumber;

mod harness;
use harness::{Cluster, pass, story};

/// What a sync of a slow disk takes longer than the others' 1 ms.
const SLOW: Duration = Duration::from_millis(60);
/// A leader with a slow disk is given this long.
const SOON: Duration = Duration::from_secs(8);

/// Writes for as long as `time` through node `at`; how long one write took in
/// the mean.
async fn write_for(cluster: &Cluster, at: u64, time: Duration) -> Duration {
    let end = Instant::now() + time;
    let (mut writes, mut waited) = (0, Duration::ZERO);
    while Instant::now() < end {
        let began = Instant::now();
        cluster.propose(at, "add x 1").await.expect("written");
        waited += began.elapsed();
        writes += 1;
        pass(Duration::from_millis(5)).await;
    }
    waited / writes
}

#[test]
fn a_leader_whose_disk_turns_slow_hands_over_and_leadership_stays_where_it_went() {
    story(async {
        let cluster = Cluster::of(3, 70).await;
        let slow = cluster.leader().await;
        let (second, third) = (slow % 3 + 1, (slow + 1) % 3 + 1);
        // A new node is left alone for a while.
        write_for(&cluster, second, Duration::from_secs(12)).await;
        assert_eq!(cluster.leader().await, slow, "all disks are the same");
        cluster.machines[&slow].disk.slow_syncs(SLOW);
        let with_slow = write_for(&cluster, second, Duration::from_secs(2)).await;
        write_for(&cluster, second, SOON).await;
        let fast = cluster.leader().await;
        assert_ne!(fast, slow);
        assert_eq!(cluster.nodes[&fast].slow_disks(), [NodeNumber(slow)].into());
        assert!(cluster.nodes[&slow].slow_disks().is_empty());
        let term = cluster.status(fast).term;
        let with_fast = write_for(&cluster, third, Duration::from_secs(90)).await;
        assert_eq!((cluster.leader().await, cluster.status(fast).term), (fast, term));
        assert!(with_fast < with_slow, "{with_fast:?} instead of {with_slow:?}");
        cluster.agree().await;
    });
}

#[test]
fn where_all_disks_are_slow_nothing_moves() {
    story(async {
        let cluster = Cluster::of(3, 71).await;
        let leader = cluster.leader().await;
        let term = cluster.status(leader).term;
        write_for(&cluster, leader, Duration::from_secs(12)).await;
        for machine in cluster.machines.values() {
            machine.disk.slow_syncs(SLOW);
        }
        write_for(&cluster, leader, Duration::from_secs(30)).await;
        assert_eq!((cluster.leader().await, cluster.status(leader).term), (leader, term));
        // Two of three: every majority waits for one of them.
        cluster.machines[&(leader % 3 + 1)].disk.slow_syncs(Duration::ZERO);
        write_for(&cluster, leader, Duration::from_secs(30)).await;
        assert_eq!((cluster.leader().await, cluster.status(leader).term), (leader, term));
    });
}

#[test]
fn a_slow_disk_of_a_follower_changes_no_leader() {
    story(async {
        let cluster = Cluster::of(3, 72).await;
        let leader = cluster.leader().await;
        let term = cluster.status(leader).term;
        cluster.machines[&(leader % 3 + 1)].disk.slow_syncs(SLOW);
        write_for(&cluster, leader, Duration::from_secs(30)).await;
        assert_eq!((cluster.leader().await, cluster.status(leader).term), (leader, term));
    });
}
