//! Stories of one group on a few nodes.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::join_all;
use tokio::time::Instant;
use trine_replication::{Config, Role};
use trine_types::NodeNumber;

mod harness;
use harness::{Cluster, GROUP, keys, pass, story, story_in_time, until};

#[test]
fn one_node_is_a_group_of_its_own() {
    story(async {
        let cluster = Cluster::of(1, 1).await;
        assert_eq!(cluster.propose(1, "add x 2").await.unwrap(), "2");
        assert_eq!(cluster.query(1, "get x").await.unwrap(), "2");
        assert_eq!(cluster.status(1).role, Role::Leader);
    });
}

#[test]
fn any_node_takes_proposals_and_reads_what_was_acknowledged_elsewhere() {
    story(async {
        let cluster = Cluster::of(3, 2).await;
        for n in 1..=30 {
            let (writer, reader) = (n % 3 + 1, (n + 1) % 3 + 1);
            assert_eq!(cluster.propose(writer, "add x 1").await.unwrap(), n.to_string());
            assert_eq!(cluster.query(reader, "get x").await.unwrap(), n.to_string());
        }
        cluster.agree().await;
    });
}

#[test]
fn a_node_without_a_replica_finds_the_leader_by_a_hint() {
    story(async {
        let cluster = Cluster::idle(4, 3, Config::default()).await;
        for number in 1..=3 {
            cluster.open(number).await;
        }
        cluster.nodes[&1].initialize(GROUP, keys(&[1, 2, 3])).await.unwrap();
        cluster.leader().await;
        cluster.nodes[&4].hint(GROUP, None, vec![NodeNumber(1), NodeNumber(2), NodeNumber(3)]);
        assert_eq!(cluster.propose(4, "add x 5").await.unwrap(), "5");
        assert_eq!(cluster.query(4, "get x").await.unwrap(), "5");
        let timing = cluster.nodes[&4].propose(GROUP, Bytes::from("add x 1")).await.unwrap().timing;
        assert!(timing.forwarded && timing.processing <= timing.total);
    });
}

/// Found by the simulator: a node that went from one silent replica to the next
/// and back did so without a pause, and time stood still.
#[test]
fn a_node_without_a_replica_waits_while_all_replicas_are_down() {
    story_in_time(async {
        let mut cluster = Cluster::idle(4, 4, Config::default()).await;
        for number in 1..=3 {
            cluster.open(number).await;
        }
        cluster.nodes[&1].initialize(GROUP, keys(&[1, 2, 3])).await.unwrap();
        cluster.leader().await;
        cluster.nodes[&4].hint(GROUP, None, vec![NodeNumber(1), NodeNumber(2), NodeNumber(3)]);
        assert_eq!(cluster.propose(4, "add x 5").await.unwrap(), "5");
        for number in 1..=3 {
            cluster.crash(number).await;
        }
        let write = cluster.nodes[&4].propose(GROUP, Bytes::from("add x 1"));
        let read = cluster.nodes[&4].query(GROUP, Bytes::from("get x"));
        pass(Duration::from_secs(1)).await;
        for number in 1..=3 {
            cluster.restart(number).await;
        }
        assert_eq!(write.await.map(|reply| reply.body), Ok(Bytes::from("6")));
        assert!(read.await.is_ok());
    });
}

#[test]
fn a_read_that_was_given_up_leaves_nothing_that_spins() {
    story_in_time(async {
        let mut cluster = Cluster::of(3, 5).await;
        let leader = cluster.leader().await;
        for other in (1..=3).filter(|other| *other != leader) {
            cluster.crash(other).await;
        }
        assert!(cluster.query(leader, "get x").await.is_err());
        pass(Duration::from_secs(5)).await;
    });
}

#[test]
fn proposals_of_one_node_execute_in_the_order_of_the_calls() {
    story(async {
        let cluster = Cluster::of(3, 4).await;
        for at in 1..=3u64 {
            let calls: Vec<_> = (0..300)
                .map(|n| cluster.nodes[&at].propose(GROUP, Bytes::from(format!("append list{at} {n}"))))
                .collect();
            assert!(join_all(calls).await.iter().all(Result::is_ok));
            let expected = (0..300).fold(String::new(), |all, n| all + &n.to_string() + ",");
            assert_eq!(cluster.query(at % 3 + 1, &format!("get list{at}")).await.unwrap(), expected);
        }
    });
}

/// Every node increments while leaders are killed: acknowledged = counted.
#[test]
fn a_killed_leader_costs_no_increment_and_repeats_none() {
    for seed in 10..14 {
        story(async {
            let mut cluster = Cluster::of(3, seed).await;
            for round in 0..3 {
                let leader = cluster.leader().await;
                let others: Vec<u64> = (1..=3).filter(|number| *number != leader).collect();
                let calls: Vec<_> = (0..200)
                    .map(|n| cluster.nodes[&others[n % 2]].propose(GROUP, Bytes::from("add x 1")))
                    .collect();
                let calls = tokio::spawn(join_all(calls));
                pass(Duration::from_millis(round * 2 + seed % 3)).await;
                cluster.crash(leader).await;
                let replies = calls.await.unwrap();
                assert!(replies.iter().all(Result::is_ok), "{:?}", replies.iter().find(|r| r.is_err()));
                let expected = (200 * (round + 1)).to_string();
                assert_eq!(cluster.query(others[0], "get x").await.unwrap(), expected);
                cluster.restart(leader).await;
                cluster.agree().await;
            }
        });
    }
}

#[test]
fn writes_are_possible_again_within_a_second_after_the_leader_died() {
    story(async {
        let mut cluster = Cluster::of(3, 20).await;
        for round in 0..5 {
            let leader = cluster.leader().await;
            let other = leader % 3 + 1;
            cluster.propose(other, "add x 1").await.unwrap();
            if round % 2 == 0 {
                pass(Duration::from_secs(4)).await; // the group hibernates
            }
            cluster.crash(leader).await;
            let died = Instant::now();
            cluster.propose(other, "add x 1").await.unwrap();
            let took = died.elapsed();
            assert!(took < Duration::from_secs(1), "round {round}: {took:?}");
            cluster.restart(leader).await;
            cluster.agree().await;
        }
    });
}

#[test]
fn a_leader_that_is_cut_off_is_replaced_and_comes_back_as_a_follower() {
    story(async {
        let cluster = Cluster::of(3, 21).await;
        let leader = cluster.leader().await;
        let other = leader % 3 + 1;
        cluster.net.isolate(harness::key(leader));
        let lonely = cluster.nodes[&leader].propose(GROUP, Bytes::from("add x 1"));
        assert_eq!(cluster.propose(other, "add x 10").await.unwrap(), "10");
        assert!(cluster.query(other, "get x").await.unwrap() == "10");
        cluster.net.heal_all();
        // The lonely one's command is executed once, at the new leader.
        assert_eq!(lonely.await.map(|reply| reply.body), Ok(Bytes::from("11")));
        cluster.agree().await;
        assert_ne!(cluster.leader().await, leader);
    });
}

#[test]
fn one_two_three_nodes_grow_voters() {
    story(async {
        let cluster = Cluster::idle(3, 30, Config::default()).await;
        cluster.open(1).await;
        cluster.nodes[&1].initialize(GROUP, keys(&[1])).await.unwrap();
        cluster.propose(1, "add x 1").await.unwrap();
        for (number, members) in [(2, vec![1, 2]), (3, vec![1, 2, 3])] {
            cluster.open(number).await;
            cluster.nodes[&1].change_members(GROUP, keys(&members), keys(&[])).await.unwrap();
            assert_eq!(cluster.status(1).voters, keys(&members));
            cluster.propose(number, "add x 1").await.unwrap();
        }
        cluster.agree().await;
        // And shrinks: the leader stays, a follower goes.
        cluster.nodes[&1].change_members(GROUP, keys(&[1, 2]), keys(&[3])).await.unwrap();
        assert_eq!(cluster.status(1).learners, keys(&[3]));
        assert_eq!(cluster.propose(3, "add x 1").await.unwrap(), "4");
    });
}

/// The old and the new voters together are just the new ones, which must not
/// pass for the end of the change.
#[test]
fn a_change_that_its_leader_left_half_done_is_finished_by_the_next() {
    story(async {
        let mut cluster = Cluster::idle(4, 32, Config::default()).await;
        for number in 1..=3 {
            cluster.open(number).await;
        }
        cluster.nodes[&1].initialize(GROUP, keys(&[1, 2, 3])).await.unwrap();
        let leader = cluster.leader().await;
        let (next, cut_off) = (leader % 3 + 1, (leader + 1) % 3 + 1);
        cluster.propose(leader, "add x 1").await.unwrap();
        cluster.open(4).await;
        cluster.nodes[&leader].change_members(GROUP, keys(&[1, 2, 3]), keys(&[4])).await.unwrap();
        cluster.agree().await;
        // Two of the four hear of the joint members: they stay joint.
        cluster.net.isolate(harness::key(cut_off));
        cluster.net.isolate(harness::key(4));
        let node = cluster.nodes[&leader].clone();
        let change = async move { node.change_members(GROUP, keys(&[1, 2, 3, 4]), keys(&[])).await };
        let change = tokio::spawn(change);
        until("joint members", || cluster.status(next).changing).await;
        cluster.crash(leader).await;
        assert!(change.await.unwrap().is_err());
        cluster.net.heal_all();
        assert_eq!(cluster.leader().await, next, "the others lack an entry");
        cluster.agree().await;
        assert!(cluster.status(next).changing);
        cluster.nodes[&next].change_members(GROUP, keys(&[1, 2, 3, 4]), keys(&[])).await.unwrap();
        let status = cluster.status(next);
        assert_eq!((status.changing, status.voters), (false, keys(&[1, 2, 3, 4])));
        cluster.restart(leader).await;
        until("everyone knows", || (1..=4).all(|number| !cluster.status(number).changing)).await;
    });
}

#[test]
fn leadership_is_handed_over_on_request_and_before_a_stop() {
    story(async {
        let cluster = Cluster::of(3, 31).await;
        let leader = cluster.leader().await;
        let next = leader % 3 + 1;
        cluster.nodes[&leader].transfer_leader(GROUP, NodeNumber(next)).await.unwrap();
        assert_eq!(cluster.leader().await, next);
        let began = Instant::now();
        cluster.nodes[&next].hand_over_all(Duration::from_secs(2)).await;
        assert_ne!(cluster.leader().await, next);
        assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    });
}

/// Found by the simulator: such a leader took no more commands and, as its node
/// was alive, nobody replaced it.
#[test]
fn a_hand_over_that_nobody_hears_of_does_not_leave_the_group_without_a_leader() {
    story(async {
        let cluster = Cluster::of(3, 33).await;
        cluster.propose(1, "add x 1").await.unwrap();
        let leader = cluster.leader().await;
        let others: Vec<u64> = (1..=3).filter(|other| *other != leader).collect();
        pass(Duration::from_secs(1)).await; // followers trust the leader's beats
        let key = harness::key(leader);
        cluster.net.isolate(key);
        let handle = cluster.nodes[&leader].clone();
        let next = NodeNumber(others[0]);
        let handed = tokio::spawn(async move { handle.transfer_leader(GROUP, next).await });
        pass(Duration::from_millis(5)).await;
        for other in &others {
            cluster.net.break_connections(key, harness::key(*other));
        }
        cluster.net.reconnect(key);
        let served = tokio::time::timeout(Duration::from_secs(10), cluster.propose(leader, "add x 1")).await;
        assert_eq!(served.expect("the group serves again"), Ok("2".to_owned()));
        drop(handed);
    });
}

#[test]
fn a_follower_that_missed_what_was_purged_gets_a_snapshot() {
    story(async {
        let mut cluster = Cluster::configured(3, 40, Config::small()).await;
        let leader = cluster.leader().await;
        let lagging = leader % 3 + 1;
        cluster.propose(leader, "add x 1").await.unwrap();
        cluster.crash(lagging).await;
        for n in 0..600 {
            cluster.propose(leader, &format!("append list{} {n}", n % 7)).await.unwrap();
        }
        until("a purge", || cluster.purged(leader) > 100).await;
        cluster.restart(lagging).await;
        until("the snapshot", || cluster.status(lagging).applied >= 600).await;
        cluster.agree().await;
        // It survives a crash right after, and its sessions came along.
        cluster.crash(lagging).await;
        cluster.restart(lagging).await;
        cluster.propose(lagging, "add x 1").await.unwrap();
        cluster.agree().await;
        assert_eq!(cluster.query(lagging, "get x").await.unwrap(), "2");
    });
}

#[test]
fn everyone_may_crash_at_once() {
    for seed in 50..54 {
        story(async {
            let mut cluster = Cluster::configured(3, seed, Config::small()).await;
            for n in 1..=400 {
                assert_eq!(cluster.propose(n % 3 + 1, "add x 1").await.unwrap(), n.to_string());
            }
            for number in 1..=3 {
                cluster.crash(number).await;
            }
            for number in 1..=3 {
                cluster.restart(number).await;
            }
            assert_eq!(cluster.query(2, "get x").await.unwrap(), "400");
            cluster.agree().await;
        });
    }
}

#[test]
fn an_idle_group_hibernates_and_wakes_for_work() {
    story(async {
        let cluster = Cluster::of(3, 60).await;
        cluster.propose(1, "add x 1").await.unwrap();
        until("hibernation", || (1..=3).all(|number| cluster.status(number).hibernating)).await;
        let term = cluster.status(1).term;
        pass(Duration::from_mins(1)).await;
        let began = Instant::now();
        assert_eq!(cluster.propose(2, "add x 1").await.unwrap(), "2");
        assert!(began.elapsed() < Duration::from_millis(50), "{:?}", began.elapsed());
        assert_eq!(cluster.query(3, "get x").await.unwrap(), "2");
        assert_eq!(cluster.status(1).term, term, "nobody lost the leadership");
    });
}

#[test]
fn a_read_that_depends_on_time_commits_it_first() {
    story(async {
        let cluster = Cluster::of(3, 61).await;
        let stamp = cluster.propose(1, "stamp").await.unwrap();
        let then: u64 = stamp.split(' ').next().unwrap().parse().unwrap();
        let moment = then + 5000;
        assert_eq!(cluster.query(2, &format!("passed {moment}")).await.unwrap(), "false");
        pass(Duration::from_secs(6)).await;
        assert_eq!(cluster.query(2, &format!("passed {moment}")).await.unwrap(), "true");
        until("it is state", || cluster.status(3).time_ms >= moment).await;
    });
}

#[test]
fn a_replica_that_differs_stops_and_is_kept_aside() {
    story(async {
        let cluster = Cluster::idle(3, 70, Config::small()).await;
        *cluster.odd.lock().unwrap() = Some(3);
        for number in 1..=3 {
            cluster.open(number).await;
        }
        cluster.nodes[&1].initialize(GROUP, keys(&[1, 2, 3])).await.unwrap();
        for _ in 0..300 {
            cluster.propose(1, "add x 1").await.unwrap();
        }
        until("the verdict", || cluster.status(3).role == Role::Stopped).await;
        assert!(cluster.status(3).stopped.unwrap().contains("differs"));
        assert_eq!(cluster.propose(2, "add x 1").await.unwrap(), "301");
        // Its node still serves everyone by the others.
        assert_eq!(cluster.propose(3, "add x 1").await.unwrap(), "302");
        assert_eq!(cluster.query(3, "get x").await.unwrap(), "302");
    });
}

#[test]
fn a_node_hears_when_its_state_store_fails() {
    story(async {
        let cluster = Cluster::configured(3, 71, Config::small()).await;
        let leader = cluster.leader().await;
        let (ill, well) = (leader % 3 + 1, (leader + 1) % 3 + 1);
        let failed = cluster.nodes[&ill].failed();
        cluster.machines[&ill].store.fail_commits(1);
        assert_eq!(cluster.propose(well, "add x 1").await.unwrap(), "1");
        assert!(failed.await.to_string().contains("injected commit failure"));
        until("the replica stops", || cluster.status(ill).role == Role::Stopped).await;
        assert!(cluster.nodes[&well].failed().now_or_never().is_none());
        // A store that cannot be flushed fails under all replicas at once.
        cluster.machines[&well].store.fail_flushes(1);
        let failed = cluster.nodes[&well].failed();
        for _ in 0..400 {
            cluster.propose(well, "add x 1").await.unwrap();
        }
        assert!(failed.await.to_string().contains("injected flush failure"));
    });
}

#[test]
fn a_group_that_lost_its_majority_can_be_recovered() {
    story(async {
        let mut cluster = Cluster::of(3, 80).await;
        for n in 1..=20 {
            assert_eq!(cluster.propose(1, "add x 1").await.unwrap(), n.to_string());
        }
        cluster.agree().await;
        cluster.crash(2).await;
        cluster.crash(3).await;
        let lost = [NodeNumber(2), NodeNumber(3)].into();
        cluster.nodes[&1].recover_without(GROUP, &lost).await.unwrap();
        assert_eq!(cluster.propose(1, "add x 1").await.unwrap(), "21");
        assert_eq!(cluster.status(1).voters, keys(&[1]));
    });
}

#[test]
fn a_node_whose_clock_is_far_off_does_not_lead() {
    story(async {
        let cluster = Cluster::of(3, 90).await;
        let leader = cluster.leader().await;
        cluster.machines[&leader].skew_ms.store(2000, Ordering::Relaxed);
        until("another leader", || cluster.status(leader % 3 + 1).leader != Some(NodeNumber(leader))).await;
        pass(Duration::from_secs(5)).await;
        assert_ne!(cluster.leader().await, leader);
    });
}
