//! The faults of the simulated network, and that a seed replays.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::Instant;
use trine_types::NodeId;

use super::{SimConfig, SimNet};
use crate::config::EndpointConfig;
use crate::endpoint::{Endpoint, Handler};
use crate::error::{CallError, CallRefused, OpenError, RefusalReason};
use crate::lane::{Lane, Service};
use crate::suite::twin::{Seeded, paused_runtime};
use crate::transport::{Connection, Transport};

const ONE: NodeId = NodeId([1; 32]);
const TWO: NodeId = NodeId([2; 32]);
const MS: Duration = Duration::from_millis(1);

async fn connected(net: &SimNet, lane: Lane) -> (Connection, Connection) {
    let (one, two) = (net.transport(ONE), net.transport(TWO));
    let (dialled, accepted) = tokio::join!(one.open(TWO, lane), two.accept());
    (dialled.unwrap(), accepted.unwrap())
}

fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[tokio::test(start_paused = true)]
async fn frames_wait_out_a_short_partition() {
    let net = SimNet::new(1, SimConfig::default());
    let driver = net.spawn_driver();
    let (one, mut two) = connected(&net, Lane::Log).await;
    net.partition(ONE, TWO);
    one.sender.send(text("first")).await.unwrap();
    one.sender.send(text("second")).await.unwrap();
    let start = Instant::now();
    let healed = async {
        tokio::time::timeout(1000 * MS, std::future::pending::<()>()).await.unwrap_err();
        net.heal(ONE, TWO);
    };
    let (first, ()) = tokio::join!(two.receiver.recv(), healed);
    assert_eq!(first.unwrap(), "first");
    assert!(start.elapsed() >= 1000 * MS, "nothing came through before");
    assert_eq!(two.receiver.recv().await.unwrap(), "second");
    driver.abort();
}

#[tokio::test(start_paused = true)]
async fn the_digest_tells_frames_of_one_size_apart() {
    let mut digests = Vec::new();
    for said in ["tea", "tea", "pea"] {
        let net = SimNet::new(1, SimConfig::default());
        let driver = net.spawn_driver();
        let (one, mut two) = connected(&net, Lane::Log).await;
        one.sender.send(text(said)).await.unwrap();
        assert_eq!(two.receiver.recv().await.unwrap(), said);
        digests.push(net.traffic().digest);
        driver.abort();
    }
    assert_eq!(digests[0], digests[1]);
    assert_ne!(digests[0], digests[2]);
}

#[tokio::test(start_paused = true)]
async fn a_long_partition_breaks_connections_that_have_something_to_say() {
    let net = SimNet::new(1, SimConfig::default());
    net.spawn_driver();
    let (mut one, mut two) = connected(&net, Lane::Log).await;
    net.partition_one_way(ONE, TWO);
    // The other way still works at first.
    two.sender.send(text("from two")).await.unwrap();
    assert_eq!(one.receiver.recv().await.unwrap(), "from two");
    let start = Instant::now();
    one.sender.send(text("lost")).await.unwrap();
    assert_eq!(two.receiver.recv().await, None);
    assert_eq!(one.receiver.recv().await, None);
    assert!(start.elapsed() >= SimConfig::default().give_up_after);
}

#[tokio::test(start_paused = true)]
async fn a_crash_loses_what_was_not_sent_and_ends_connections() {
    let net = SimNet::new(1, SimConfig::default());
    net.spawn_driver();
    let (one, mut two) = connected(&net, Lane::Log).await;
    one.sender.send(text("in flight")).await.unwrap();
    net.advance_to(100 * MS); // leaves
    one.sender.send(text("in the process")).await.unwrap();
    net.crash(ONE);
    assert_eq!(two.receiver.recv().await.unwrap(), "in flight");
    assert_eq!(two.receiver.recv().await, None);
    let again = net.transport(TWO);
    assert!(again.open(ONE, Lane::Log).await.is_err(), "nobody is there");
    drop(one);
}

#[tokio::test(start_paused = true)]
async fn an_earlier_life_cannot_dial() {
    let net = SimNet::new(1, SimConfig::default());
    net.spawn_driver();
    let (old, _two) = (net.transport(ONE), net.transport(TWO));
    let new = net.transport(ONE);
    assert_eq!(old.open(TWO, Lane::Log).await.unwrap_err(), OpenError::ShutDown);
    assert!(old.accept().await.is_none());
    old.shutdown(); // does not end the new life
    let (third, reached) = (net.transport(NodeId([3; 32])), new.accept());
    let (opened, reached) = tokio::join!(third.open(ONE, Lane::Log), reached);
    assert!(opened.is_ok() && reached.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_slow_path_is_slow_one_way() {
    let net = SimNet::new(1, SimConfig::default());
    net.spawn_driver();
    let (mut one, mut two) = connected(&net, Lane::Log).await;
    net.slow(ONE, TWO, 100 * MS);
    let start = Instant::now();
    one.sender.send(text("slow")).await.unwrap();
    two.sender.send(text("fast")).await.unwrap();
    assert_eq!(one.receiver.recv().await.unwrap(), "fast");
    assert!(start.elapsed() < 10 * MS);
    assert_eq!(two.receiver.recv().await.unwrap(), "slow");
    assert!(start.elapsed() >= 100 * MS);
}

#[tokio::test(start_paused = true)]
async fn refused_nodes_get_the_reason() {
    let net = SimNet::new(1, SimConfig::default());
    net.spawn_driver();
    let (one, two) = (net.transport(ONE), net.transport(TWO));
    net.refuse(ONE, Some(RefusalReason::Revoked));
    assert_eq!(one.open(TWO, Lane::Log).await.unwrap_err(), OpenError::Refused(RefusalReason::Revoked));
    net.refuse(ONE, None);
    let (opened, accepted) = tokio::join!(one.open(TWO, Lane::Log), two.accept());
    assert!(opened.is_ok() && accepted.is_some());
}

#[tokio::test(start_paused = true)]
async fn lanes_overtake_each_other_but_not_themselves() {
    let net = SimNet::new(3, SimConfig { delay_max: 20 * MS, ..SimConfig::default() });
    net.spawn_driver();
    let (one, two) = (net.transport(ONE), net.transport(TWO));
    let (seen, mut order) = mpsc::channel(1000);
    let mut senders = Vec::new();
    for lane in [Lane::Control, Lane::Log] {
        let (dialled, accepted) = tokio::join!(one.open(TWO, lane), two.accept());
        let (dialled, mut accepted) = (dialled.unwrap(), accepted.unwrap());
        senders.push(dialled);
        let seen = seen.clone();
        tokio::spawn(async move {
            while let Some(frame) = accepted.receiver.recv().await {
                seen.send((lane, frame[0])).await.unwrap();
            }
        });
    }
    for number in 0..100_u8 {
        for sender in &senders {
            sender.sender.send(Bytes::from(vec![number])).await.unwrap();
        }
    }
    let mut all = Vec::new();
    while all.len() < 200 {
        all.push(order.recv().await.unwrap());
    }
    let of = |wanted| all.iter().filter(move |(lane, _)| *lane == wanted).map(|(_, number)| *number);
    assert!(of(Lane::Control).eq(0..100) && of(Lane::Log).eq(0..100), "in order within a lane");
    assert!(all.chunks(2).any(|pair| pair[0].1 != pair[1].1), "not in step between lanes");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_counts_while_dialling_and_the_call_was_not_sent() {
    let net = SimNet::new(1, SimConfig::default());
    net.spawn_driver();
    let one = Endpoint::new(net.transport(ONE), Arc::new(Seeded::new(1)), EndpointConfig::default());
    let _two = net.transport(TWO);
    net.partition(ONE, TWO);
    let start = Instant::now();
    let outcome = one.call(TWO, Lane::Request, Service(1), Bytes::new(), 30 * MS).await;
    assert!(outcome.as_ref().is_err_and(CallError::was_not_sent), "{outcome:?}");
    assert!(start.elapsed() < 60 * MS);
}

#[tokio::test(start_paused = true)]
async fn an_isolated_node_is_out_of_reach_of_later_nodes_too() {
    let net = SimNet::new(1, SimConfig::default());
    net.spawn_driver();
    let one = net.transport(ONE);
    net.isolate(ONE);
    let two = net.transport(TWO);
    let opening = tokio::time::timeout(500 * MS, two.open(ONE, Lane::Log));
    assert!(opening.await.is_err(), "nobody answers");
    net.reconnect(ONE);
    let (opened, accepted) = tokio::join!(two.open(ONE, Lane::Log), one.accept());
    assert!(opened.is_ok() && accepted.is_some());
}

struct Echo;

impl Handler for Echo {
    fn handle(&self, _from: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, CallRefused>> {
        std::future::ready(Ok(body)).boxed()
    }
}

/// Three nodes, each in a paused runtime of its own, call each other under
/// faults; the result is all that node one saw, and when.
fn history(seed: u64) -> Vec<String> {
    let config = SimConfig {
        delay_max: 5 * MS,
        spikes_per_million: 20_000,
        breaks_per_million: 5_000,
        give_up_after: 50 * MS,
        ..SimConfig::default()
    };
    let net = SimNet::new(seed, config);
    let ids = [ONE, TWO, NodeId([3; 32])];
    let (note, mut log) = mpsc::channel(100_000);
    let mut nodes: Vec<Runtime> = Vec::new();
    for (index, id) in ids.into_iter().enumerate() {
        let runtime = paused_runtime();
        let (net, note) = (net.clone(), note.clone());
        runtime.spawn(async move {
            let entropy = Arc::new(Seeded::new(index as u64));
            let endpoint = Endpoint::new(net.transport(id), entropy, EndpointConfig::default());
            endpoint.serve(Service(1), Arc::new(Echo));
            let start = Instant::now();
            for number in 0_u32.. {
                let peer = ids[(index + 1 + number as usize % 2) % 3];
                let body = Bytes::from(number.to_le_bytes().to_vec());
                let reply = endpoint.call(peer, Lane::Request, Service(1), body, 40 * MS).await;
                let line = format!("{:?} {index} {number} {reply:?}", start.elapsed());
                if note.send(line).await.is_err() {
                    break;
                }
                if matches!(reply, Err(CallError::NotSent(_))) {
                    tokio::time::timeout(MS, std::future::pending::<()>()).await.unwrap_err();
                }
            }
        });
        nodes.push(runtime);
    }
    for step in 1..=2000_u32 {
        for runtime in &nodes {
            runtime.block_on(async { tokio::time::sleep(MS).await });
        }
        match step {
            300 => net.partition(ids[0], ids[1]),
            500 | 900 => net.heal_all(),
            700 => net.partition_one_way(ids[1], ids[2]),
            _ => {}
        }
        net.advance_to(step * MS);
    }
    drop(nodes);
    std::iter::from_fn(|| log.try_recv().ok()).collect()
}

#[test]
fn a_seed_replays_over_separate_runtimes() {
    let first = history(42);
    assert!(first.len() > 500, "{}", first.len());
    assert!(first.iter().any(|line| line.contains("Broken")), "connections broke");
    assert!(first.iter().any(|line| line.contains("TimedOut")), "deadlines passed");
    assert!(first == history(42), "the same seed gives the same history");
    assert!(first != history(43), "another seed gives another");
}
