//! Two and three nodes over the simulated network: what reaches whom, in
//! which order, and how soon after a partition.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use trine_transport::{Endpoint, EndpointConfig, Lane, SimConfig, SimNet};
use trine_types::{Entropy, NodeId};

use crate::bus::receiver::{HOLD_LIMIT, STALL_LIMIT};
use crate::bus::subscriber::Subscriber;
use crate::direct::DirectError;
use crate::handle::{Mesh, Parts};
use crate::message::Message;

/// Chance for tests: counts up.
struct Counting(AtomicU64);

impl Entropy for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let number = self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
            chunk.copy_from_slice(&number.to_le_bytes()[..chunk.len()]);
        }
    }
}

const ONE: NodeId = NodeId([1; 32]);
const TWO: NodeId = NodeId([2; 32]);
const THREE: NodeId = NodeId([3; 32]);
const SOON: Duration = Duration::from_secs(2);

struct World {
    net: SimNet,
    peers: watch::Sender<BTreeSet<NodeId>>,
    failed: watch::Sender<BTreeSet<NodeId>>,
}

impl World {
    fn new() -> Self {
        let net = SimNet::new(7, SimConfig::default());
        net.spawn_driver();
        let peers = watch::Sender::new([ONE, TWO, THREE].into());
        Self { net, peers, failed: watch::Sender::default() }
    }

    fn node(&self, id: NodeId) -> Mesh {
        let entropy: Arc<dyn Entropy> = Arc::new(Counting(AtomicU64::new(u64::from(id.0[0]))));
        let transport = self.net.transport(id);
        let endpoint = Endpoint::new(transport, entropy.clone(), EndpointConfig::default());
        let (peers, failed) = (self.peers.subscribe(), self.failed.subscribe());
        Mesh::start(Parts { endpoint, peers, failed, entropy })
    }
}

/// Lets simulated time pass.
async fn pass(time: Duration) {
    let _ = timeout(time, std::future::pending::<()>()).await;
}

/// Waits until `node` knows of `count` filters that `peer` wants.
async fn knows(node: &Mesh, peer: NodeId, count: usize) -> Duration {
    let started = Instant::now();
    while node.wants_of(peer) != count {
        pass(Duration::from_millis(1)).await;
        assert!(started.elapsed() < Duration::from_mins(1), "{} of {count}", node.wants_of(peer));
    }
    started.elapsed()
}

fn subscriber(node: &Mesh, filter: &'static str, queue: Option<&'static str>) -> Subscriber {
    let mut subscriber = node.bus().subscriber();
    let queue = queue.map(|queue| Bytes::from_static(queue.as_bytes()));
    subscriber.subscribe(Bytes::from_static(filter.as_bytes()), queue).expect("a valid filter");
    subscriber
}

async fn text(subscriber: &mut Subscriber) -> Option<String> {
    let message = timeout(SOON, subscriber.next()).await.ok()??;
    String::from_utf8(message.payload.to_vec()).ok()
}

#[tokio::test(start_paused = true)]
async fn a_message_reaches_subscribers_on_all_nodes_in_order() {
    let world = World::new();
    let (one, two, three) = (world.node(ONE), world.node(TWO), world.node(THREE));
    let mut subscribers =
        [subscriber(&one, "a.*", None), subscriber(&two, "a.*", None), subscriber(&three, ">", None)];
    knows(&one, TWO, 1).await;
    knows(&one, THREE, 1).await;
    let mut publisher = one.bus().publisher();
    for n in 0..100 {
        let payload = n.to_string();
        let message = Message { subject: b"a.b", payload: payload.as_bytes(), ..Message::default() };
        assert_eq!(publisher.publish(&message).receivers, 3);
    }
    publisher.flush();
    for subscriber in &mut subscribers {
        for n in 0..100 {
            assert_eq!(text(subscriber).await, Some(n.to_string()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_reply_finds_its_way_to_an_inbox_that_was_never_heard_of() {
    let world = World::new();
    let (one, two) = (world.node(ONE), world.node(TWO));
    let mut service = subscriber(&two, "service", None);
    knows(&one, TWO, 1).await;
    for inbox in ["_INBOX.a", "_INBOX.b", "_INBOX.c"] {
        let mut replies = subscriber(&one, inbox, None);
        let mut asking = one.bus().publisher();
        let message = Message {
            subject: b"service",
            reply: Some(inbox.as_bytes()),
            payload: b"?",
            ..Message::default()
        };
        assert_eq!(asking.publish(&message).receivers, 1);
        asking.flush();
        let request = timeout(SOON, service.next()).await.expect("in time").expect("a request");
        let reply = request.reply.expect("wants a reply");
        let mut answering = two.bus().publisher();
        let answer = Message { subject: &reply, payload: b"!", ..Message::default() };
        assert_eq!(answering.publish(&answer).receivers, 1, "the interest came with the request");
        answering.flush();
        assert_eq!(text(&mut replies).await.as_deref(), Some("!"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_over_nodes_gets_each_message_once() {
    let world = World::new();
    let (one, two, three) = (world.node(ONE), world.node(TWO), world.node(THREE));
    let mut there = [subscriber(&two, "job", Some("q")), subscriber(&three, "job", Some("q"))];
    knows(&one, TWO, 1).await;
    knows(&one, THREE, 1).await;
    let mut publisher = one.bus().publisher();
    for _ in 0..100 {
        let message = Message { subject: b"job", payload: b"x", ..Message::default() };
        assert_eq!(publisher.publish(&message).receivers, 1);
    }
    publisher.flush();
    let mut shares = [0, 0];
    for (subscriber, share) in there.iter_mut().zip(&mut shares) {
        while text(subscriber).await.is_some() {
            *share += 1;
        }
    }
    assert_eq!(shares.iter().sum::<u32>(), 100);
    assert!(shares.iter().all(|share| *share > 20), "{shares:?}");
}

/// Publishes on `node` for `time`, 16 KiB at a time, waiting when it is told
/// to; the longest wait, and the subscriptions and nodes that took the last.
async fn press(node: &Mesh, time: Duration) -> (Duration, u32) {
    let mut publisher = node.bus().publisher();
    let payload = vec![b'x'; 16 * 1024];
    let message = Message { subject: b"a", payload: &payload, ..Message::default() };
    let (started, mut longest, mut receivers) = (Instant::now(), Duration::ZERO, 0);
    while started.elapsed() < time {
        let outcome = publisher.publish(&message);
        receivers = outcome.receivers;
        if outcome.pressed {
            let begin = Instant::now();
            publisher.relieved().await;
            longest = longest.max(begin.elapsed());
        } else {
            publisher.flush();
            pass(Duration::from_micros(500)).await;
        }
    }
    (longest, receivers)
}

#[tokio::test(start_paused = true)]
async fn a_stuck_subscriber_elsewhere_holds_publishers_for_the_stall_limit() {
    let world = World::new();
    let (one, two) = (world.node(ONE), world.node(TWO));
    let (mut stuck, mut fine) = (subscriber(&two, "a", None), subscriber(&two, "a", None));
    knows(&one, TWO, 1).await;
    let (mut got, mut gap, mut last) = (0, Duration::ZERO, Instant::now());
    let pressing = press(&one, HOLD_LIMIT * 3 / 2);
    let reading = async {
        while timeout(SOON, fine.next()).await.is_ok_and(|message| message.is_some()) {
            got += 1;
            gap = gap.max(last.elapsed());
            last = Instant::now();
        }
    };
    let ((longest, receivers), ()) = tokio::join!(pressing, reading);
    let most = STALL_LIMIT + Duration::from_millis(300);
    assert!(longest > STALL_LIMIT / 2 && longest < most, "the publisher waited {longest:?}");
    assert!(gap < most && got > 1_000, "beside it {got} messages, {gap:?} without one");
    assert_eq!((receivers, two.bus().subscriptions()), (1, 2), "the link was not cut off");
    while let Some(message) = timeout(SOON, stuck.next()).await.expect("closed") {
        assert_eq!(message.subject, &b"a"[..], "what it had");
    }
}

#[tokio::test(start_paused = true)]
async fn a_steady_subscriber_elsewhere_slows_publishers_and_stays() {
    let world = World::new();
    let (one, two) = (world.node(ONE), world.node(TWO));
    let mut steady = subscriber(&two, "a", None);
    knows(&one, TWO, 1).await;
    // 16 KiB each 80 ms: half an inbox takes less than three seconds.
    let mut got = 0;
    let reading = async {
        while timeout(SOON, steady.next()).await.is_ok_and(|message| message.is_some()) {
            got += 1;
            pass(Duration::from_millis(80)).await;
        }
    };
    let ((longest, receivers), ()) = tokio::join!(press(&one, Duration::from_secs(30)), reading);
    assert!(longest > STALL_LIMIT && longest < HOLD_LIMIT, "{longest:?}");
    assert!(receivers == 1 && got > 350, "{got} messages");
}

#[tokio::test(start_paused = true)]
async fn interest_is_right_again_soon_after_a_partition() {
    let world = World::new();
    let (one, two) = (world.node(ONE), world.node(TWO));
    let first = subscriber(&one, "first", None);
    knows(&two, ONE, 1).await;
    world.net.partition(ONE, TWO);
    knows(&two, ONE, 0).await;
    drop(first);
    let _later = [subscriber(&one, "second", None), subscriber(&one, "third", None)];
    pass(Duration::from_secs(20)).await;
    assert_eq!(two.wants_of(ONE), 0);
    world.net.heal(ONE, TWO);
    let healed = knows(&two, ONE, 2).await;
    assert!(healed < SOON, "{healed:?}");
}

#[tokio::test(start_paused = true)]
async fn however_long_a_cut_lasted_interest_is_right_soon_after() {
    let world = World::new();
    let (one, two) = (world.node(ONE), world.node(TWO));
    let mut wanted = subscriber(&one, "first", None);
    knows(&two, ONE, 1).await;
    let mut worst = (Duration::ZERO, Duration::ZERO);
    // Steps that share no divisor with any period here.
    for length in (0..60).map(|n| Duration::from_millis(4_000 + 377 * n)) {
        world.net.partition(ONE, TWO);
        pass(length).await;
        assert_eq!(two.wants_of(ONE), 0, "after {length:?}");
        world.net.heal(ONE, TWO);
        worst = worst.max((knows(&two, ONE, 1).await, length));
        pass(SOON).await;
    }
    wanted.subscribe(Bytes::from_static(b"second"), None).expect("a valid filter");
    knows(&two, ONE, 2).await;
    // One pause between attempts, one of the flow, and the way there.
    let bound = EndpointConfig::default().backoff_max + Duration::from_millis(200);
    assert!(worst.0 <= bound, "{:?} after a cut of {:?}", worst.0, worst.1);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_failed_wants_nothing_until_it_is_heard_again() {
    let world = World::new();
    let (one, two) = (world.node(ONE), world.node(TWO));
    let _wanted = subscriber(&two, "a", None);
    knows(&one, TWO, 1).await;
    world.net.partition(ONE, TWO);
    world.failed.send_replace([TWO].into());
    let gone = knows(&one, TWO, 0).await;
    // The connection itself breaks after three seconds.
    assert!(gone < Duration::from_millis(1_500), "{gone:?}");
    let message = Message { subject: b"a", payload: b"x", ..Message::default() };
    assert_eq!(one.publish(&message).await, 0);
    world.net.heal(ONE, TWO);
    let healed = knows(&one, TWO, 1).await;
    assert!(healed < SOON, "{healed:?}");
    // And again, before members have changed their mind.
    world.net.partition(ONE, TWO);
    let gone = knows(&one, TWO, 0).await;
    assert!(gone < Duration::from_millis(1_500), "{gone:?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_heard_is_not_given_up() {
    let world = World::new();
    let (one, two) = (world.node(ONE), world.node(TWO));
    let _wanted = subscriber(&two, "a", None);
    knows(&one, TWO, 1).await;
    world.failed.send_replace([TWO].into());
    for _ in 0..50 {
        pass(Duration::from_millis(100)).await;
        assert_eq!(one.wants_of(TWO), 1, "members are wrong: it sends frames");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_left_wants_nothing() {
    let world = World::new();
    let (one, two) = (world.node(ONE), world.node(TWO));
    let _wanted = subscriber(&two, "a", None);
    knows(&one, TWO, 1).await;
    world.peers.send_replace([ONE].into());
    knows(&one, TWO, 0).await;
    world.peers.send_replace([ONE, TWO].into());
    knows(&one, TWO, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_is_asked_by_its_id() {
    let world = World::new();
    let (one, two) = (world.node(ONE), world.node(TWO));
    assert_eq!(one.echo(TWO, Lane::Request, Bytes::from_static(b"hi")).await, Ok(Bytes::from_static(b"hi")));
    assert_eq!(one.connect(TWO, Lane::Request).await, Ok(Duration::ZERO));
    assert!(one.connect(TWO, Lane::Bulk).await.expect("reached") > Duration::ZERO);
    let question = Message { subject: b"q", payload: b"?", ..Message::default() };
    assert_eq!(one.request_of(TWO, &question, SOON).await, Err(DirectError::NoResponders));
    assert_eq!(one.send_to(TWO, &question).await, Ok(0));
    let mut asked = subscriber(&two, "q", None);
    let answering = async {
        let request = asked.next().await.expect("a request");
        let reply = request.reply.expect("wants a reply");
        two.publish(&Message { subject: &reply, payload: b"!", ..Message::default() }).await
    };
    let (reply, _) = tokio::join!(one.request_of(TWO, &question, SOON), answering);
    assert_eq!(reply.expect("answered").payload, &b"!"[..]);
    assert_eq!(one.request_of(TWO, &question, SOON).await, Err(DirectError::TooLate));
    assert_eq!(one.send_to(TWO, &question).await, Ok(1));
}
