//! Real processes see each other come, go, and die.

use std::time::Duration;

use tokio::time::Instant;
use trine::admin::protocol::{Answer, PeerEvent, PeerReport, Request};
use trine::local::{self, NodeProcess};

use self::processes::cluster;

mod processes;

/// How long nodes may take to hear of each other.
const MEET_LIMIT: Duration = Duration::from_secs(30);
/// What is promised after a SIGKILL.
const KNOWN_LIMIT: Duration = Duration::from_millis(1_500);

async fn peers(node: &NodeProcess) -> Vec<PeerReport> {
    match node.admin().expect("answers").ask(&Request::Peers {}).await.expect("answers") {
        Answer::Peers(peers) => peers,
        other => panic!("{other:?}"),
    }
}

/// Everything that happened at a node until `is_last` happened, from `after`.
async fn until(node: &NodeProcess, after: u64, is_last: impl Fn(&PeerEvent) -> bool) -> Vec<PeerEvent> {
    let mut admin = node.admin().expect("answers");
    let (mut all, mut after) = (Vec::new(), Some(after));
    let wait = async {
        loop {
            let answer = admin.ask(&Request::PeerEvents { after }).await.expect("answers");
            let Answer::PeerEvents(events) = answer else { panic!("{answer:?}") };
            after = Some(events.last);
            all.extend(events.events);
            if all.iter().any(&is_last) {
                return all;
            }
        }
    };
    tokio::time::timeout(MEET_LIMIT, wait).await.expect("it happens in time")
}

async fn last_serial(node: &NodeProcess) -> u64 {
    let mut admin = node.admin().expect("answers");
    match admin.ask(&Request::PeerEvents { after: Some(0) }).await.expect("answers") {
        Answer::PeerEvents(events) => events.last,
        other => panic!("{other:?}"),
    }
}

/// Waits until every node has measured every other.
async fn met(nodes: &[NodeProcess]) {
    let deadline = Instant::now() + MEET_LIMIT;
    for node in nodes {
        loop {
            let list = peers(node).await;
            let known = |peer: &PeerReport| {
                peer.state == "alive" && peer.version.is_some() && (peer.asked || peer.rtt_us.is_some())
            };
            if list.len() == nodes.len() && list.iter().all(known) {
                break;
            }
            assert!(Instant::now() < deadline, "{list:?}");
            let _ = local::until(Duration::from_millis(20), || false).await;
        }
    }
}

#[tokio::test]
async fn a_killed_node_is_known_to_all_in_time_and_joins_again() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let mut nodes = cluster(dir.path(), 3).await;
    met(&nodes).await;
    let victim = nodes.remove(1);
    let number = peers(&victim).await.iter().find(|peer| peer.asked).expect("itself").number;
    let before = [last_serial(&nodes[0]).await, last_serial(&nodes[1]).await];

    let spec = victim.spec.clone();
    victim.signal(rustix::process::Signal::KILL);
    let killed = Instant::now();
    let failed = |event: &PeerEvent| event.number == number && event.event == "fail";
    tokio::join!(until(&nodes[0], before[0], failed), until(&nodes[1], before[1], failed));
    let took = killed.elapsed();
    eprintln!("a SIGKILL was known to all after {took:?}");
    assert!(took <= KNOWN_LIMIT, "{took:?}");
    drop(victim);

    let mut again = NodeProcess::spawn(spec, None).await.expect("starts");
    again.wait_ready().await.expect("serves");
    let joined = |event: &PeerEvent| event.number == number && event.event == "join";
    for (node, before) in nodes.iter().zip(before) {
        let events = until(node, before, joined).await;
        let last = events.last().expect("the join");
        assert_eq!(last.incarnation, 2, "{events:?}");
    }
    nodes.push(again);
    met(&nodes).await;
}

#[tokio::test]
async fn a_stopped_node_says_goodbye() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let mut nodes = cluster(dir.path(), 3).await;
    met(&nodes).await;
    let before = last_serial(&nodes[0]).await;
    let mut leaving = nodes.pop().expect("three");
    leaving.signal(rustix::process::Signal::TERM);
    assert!(leaving.ended().await.expect("known").success());
    let left = |event: &PeerEvent| event.event == "leave" || event.event == "fail";
    let events = until(&nodes[0], before, left).await;
    let kinds: Vec<&str> = events.iter().map(|event| event.event.as_str()).collect();
    assert_eq!(kinds, ["leave"]);
}
