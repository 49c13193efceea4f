//! Whole clusters of this room in one process, each story a failure or a
//! change that users meet.

mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;
use trine_types::NodeNumber;

use self::world::{By, LIMIT, Machinery, World, within};
use crate::error::{ClusterError, Fatal};
use crate::nodes::StartRefused;
use crate::users::UserSpec;

#[tokio::test(start_paused = true)]
async fn one_two_three_nodes_grow_by_themselves() {
    let world = World::new();
    let began = Instant::now();
    let nodes = world.cluster(3, 16).await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(3), "complete after {took:?}");
    let summary = nodes[2].cluster.summary().expect("known");
    assert_eq!((summary.tolerates, summary.nodes.len()), (1, 3), "{summary:?}");
    for (partition, node) in nodes.iter().enumerate() {
        node.write(u16::try_from(partition).expect("small"), "value").await;
    }
    for group in nodes[1].cluster.groups().await {
        assert_eq!((group.voters.len(), group.replicas.len()), (3, 3), "{group:?}");
        assert!(!group.digests_differ);
    }
}

#[tokio::test(start_paused = true)]
async fn leaders_spread_over_the_nodes() {
    let world = World::new();
    let nodes = world.cluster(3, 12).await;
    let preferred = |group: &crate::status::GroupSummary| group.wanted.first().copied();
    let spread = async {
        loop {
            let groups = nodes[0].cluster.groups().await;
            if groups.iter().all(|group| group.leader == preferred(group)) {
                return groups;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let groups = within("preferred leaders lead", spread).await;
    for node in &nodes {
        let leads =
            groups.iter().filter(|g| g.group.as_partition().is_some() && g.leader == Some(node.number()));
        assert_eq!(leads.count(), 4);
    }
}

#[tokio::test(start_paused = true)]
async fn a_used_an_expired_and_a_foreign_ticket_are_refused() {
    let world = World::new();
    let nodes = world.cluster(1, 1).await;
    let ticket = nodes[0].ticket().await;
    let second = world.start(Machinery::new(2, "two"), By::Ticket(ticket.clone())).await.expect("joined");
    let used = world.start(Machinery::new(3, "three"), By::Ticket(ticket.clone())).await.err().expect("used");
    assert!(used.to_string().contains("used already"), "{used}");

    let late = second.ticket().await;
    tokio::time::advance(Duration::from_secs(61)).await;
    let expired = world.start(Machinery::new(4, "four"), By::Ticket(late)).await.err().expect("expired");
    assert!(expired.to_string().contains("expired"), "{expired}");

    let mut forged = second.ticket().await;
    forged.secret = trine_transport::Secret([9; 16]);
    let forged = world.start(Machinery::new(5, "five"), By::Ticket(forged)).await.err().expect("forged");
    assert!(forged.to_string().contains("not known"), "{forged}");
    assert_eq!(second.cluster.nodes().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_removed_node_is_emptied_cut_and_stops() {
    let world = World::new();
    let nodes = world.cluster(4, 4).await;
    nodes[0].write(0, "kept").await;
    let removed = nodes[0].cluster.remove_node(NodeNumber(2), false, LIMIT);
    within("the removal", removed).await.expect("removed");
    let fatal = within("the removed node stops", nodes[1].cluster.must_stop()).await;
    assert_eq!(fatal, Fatal::Refused(StartRefused::NotANode(NodeNumber(2))));
    for node in [&nodes[0], &nodes[2], &nodes[3]] {
        within("the rest settles", node.cluster.settled(3)).await;
        assert_eq!(node.read(0).await, "kept");
    }
    let summary = nodes[0].cluster.summary().expect("known");
    assert_eq!(summary.tolerates, 1, "{summary:?}");
    // It had voted in meta, so its issuing key is worth nothing any more.
    let founded = nodes[0].cluster.meta().borrow().nodes[&NodeNumber(1)].admitted_ms;
    let mut meta = nodes[2].cluster.meta();
    let rotated =
        meta.wait_for(|meta| meta.issuers.len() == 1 && meta.issuers.values().all(|i| i.added_ms > founded));
    assert!(within("the issuing key is replaced", rotated).await.is_ok());
    let ticket = nodes[2].ticket().await;
    let fifth = world.start(Machinery::new(5, "five"), By::Ticket(ticket)).await.expect("joined");
    within("the new node is in", fifth.cluster.settled(4)).await;
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_would_lose_the_majority_is_refused() {
    let world = World::new();
    let mut nodes = world.cluster(3, 2).await;
    let third = nodes.pop().expect("three").kill(&world.net).await;
    let seen = nodes[0].replication.suspects().wait_for(|s| s.contains(&NodeNumber(3))).await.is_ok();
    assert!(seen);
    let refused = nodes[0].cluster.remove_node(NodeNumber(2), false, LIMIT).await.expect_err("dangerous");
    assert!(matches!(refused, ClusterError::WouldLoseMajority { .. }), "{refused}");
    drop(third);
    let removed = nodes[0].cluster.remove_node(NodeNumber(3), false, LIMIT);
    within("the dead one goes", removed).await.expect("removed");
    within("two are left", nodes[0].cluster.settled(2)).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_comes_back_under_a_new_address() {
    let world = World::new();
    let mut nodes = world.cluster(3, 2).await;
    let mut machinery = nodes.pop().expect("three").kill(&world.net).await;
    nodes[0].write(1, "meanwhile").await;
    machinery.port = 9_999;
    let back = world.start(machinery, By::ItsFiles).await.expect("started");
    let moved = async {
        let mut meta = nodes[0].cluster.meta();
        let here =
            |meta: &std::sync::Arc<crate::MetaState>| meta.nodes[&NodeNumber(3)].addresses[0].port() == 9_999;
        meta.wait_for(here).await.is_ok()
    };
    assert!(within("its address is known", moved).await);
    assert_eq!(back.read(1).await, "meanwhile");
    assert_eq!(back.cluster.incarnation().0, 2);
}

#[tokio::test(start_paused = true)]
async fn a_rolled_back_directory_is_refused_before_it_votes() {
    let world = World::new();
    let mut nodes = world.cluster(2, 1).await;
    let machinery = nodes.pop().expect("two").kill(&world.net).await;
    let again = world.start(machinery, By::ItsFiles).await.expect("the second start");
    within("it is accepted", accepted(&nodes[0].cluster, 2, 2)).await;
    let machinery = again.kill(&world.net).await;
    // The backup: everything as it was after the first start.
    {
        let mount = machinery.disk.mount().expect("free");
        let count = trine_storage::NodeFile::new(mount, "node/start");
        let first =
            crate::directory::StartCount { incarnation: trine_types::Incarnation(1), ..Default::default() };
        count.write(&crate::codec::encode(&first)).expect("written");
    }
    machinery.disk.kill();
    let refused = world.start(machinery, By::ItsFiles).await.err().expect("refused");
    assert!(refused.to_string().contains("copy, or was rolled back"), "{refused}");
}

async fn accepted(cluster: &crate::Cluster, number: u64, incarnation: u64) {
    let mut meta = cluster.meta();
    let seen = meta.wait_for(|meta| {
        meta.nodes.get(&NodeNumber(number)).is_some_and(|node| node.incarnation.0 >= incarnation)
    });
    assert!(seen.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_is_left_goes_on_after_a_lost_majority() {
    let world = World::new();
    let mut nodes = world.cluster(3, 2).await;
    nodes[0].write(0, "kept").await;
    let lost = BTreeSet::from([NodeNumber(2), NodeNumber(3)]);
    let answers = nodes[0].cluster.plan_recovery(&lost).await.expect_err("they still answer");
    assert!(matches!(answers, ClusterError::NotLost(_)), "{answers}");
    for node in nodes.drain(1..).collect::<Vec<_>>() {
        node.kill(&world.net).await;
    }
    let mut suspects = nodes[0].replication.suspects();
    let seen = within("their loss is seen", suspects.wait_for(|suspects| *suspects == lost)).await.is_ok();
    assert!(seen);
    let plan = within("a plan", nodes[0].cluster.plan_recovery(&lost)).await.expect("planned");
    assert_eq!(plan.groups.len(), 4, "meta, jobs and two partitions: {plan:?}");
    within("the recovery", nodes[0].cluster.recover(&lost)).await.expect("recovered");
    within("one node is left", nodes[0].cluster.settled(1)).await;
    assert_eq!(nodes[0].read(0).await, "kept");
    assert_eq!(nodes[0].cluster.nodes().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_user_is_known_everywhere_once_added_or_it_is_said_where_not() {
    let world = World::new();
    let mut nodes = world.cluster(3, 2).await;
    let spec = || UserSpec { enabled: true, open: true, ..UserSpec::default() };
    for (node, name) in nodes.iter().zip(["ann", "bob", "eve"]) {
        let behind = within("a user", node.cluster.add_user(name, spec())).await.expect("added");
        assert_eq!(behind, []);
        for other in &nodes {
            assert!(other.cluster.meta().borrow().users.contains_key(name), "{}", other.number());
        }
    }
    let third = nodes.pop().expect("three");
    world.net.isolate(third.endpoint.local());
    let behind = within("a user more", nodes[0].cluster.add_user("joe", spec())).await.expect("added");
    assert_eq!(behind, [third.number()]);
    assert!(!third.cluster.meta().borrow().users.contains_key("joe"));
}
