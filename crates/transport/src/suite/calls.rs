//! What [`crate::Endpoint`] promises.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, join_all, pending};
use tokio::sync::mpsc;
use trine_types::NodeId;

use super::twin::Twin;
use crate::config::EndpointConfig;
use crate::endpoint::{Endpoint, Handler};
use crate::envelope::Envelope;
use crate::error::{CallError, CallRefused};
use crate::lane::{Lane, Service};

const ECHO: Service = Service(1);
const SILENT: Service = Service(2);
const RECORD: Service = Service(3);
const NOBODY: Service = Service(4);

/// Ample: every wait below ends by an event, not by this.
const LONG: Duration = Duration::from_secs(30);

struct Echo;

impl Handler for Echo {
    fn handle(&self, _from: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, CallRefused>> {
        std::future::ready(Ok(body)).boxed()
    }
}

/// Never answers; counts.
#[derive(Default)]
struct Silent(AtomicU32);

impl Handler for Silent {
    fn handle(&self, _from: NodeId, _body: Bytes) -> BoxFuture<'static, Result<Bytes, CallRefused>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        pending().boxed()
    }
}

/// Passes on what it was called with.
struct Record(mpsc::Sender<(NodeId, Bytes)>);

impl Handler for Record {
    fn handle(&self, from: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, CallRefused>> {
        let seen = self.0.clone();
        async move {
            seen.send((from, body)).await.map_err(|_| CallRefused::Unavailable)?;
            Ok(Bytes::new())
        }
        .boxed()
    }
}

struct Scene {
    one: Endpoint,
    two: Endpoint,
    /// What `RECORD` at node two saw.
    seen: mpsc::Receiver<(NodeId, Bytes)>,
    twin: Twin,
}

fn scene(twin: Twin) -> Scene {
    scene_with(twin, EndpointConfig::default())
}

fn scene_with(twin: Twin, config: EndpointConfig) -> Scene {
    let (one, two) = twin.endpoints(config);
    let (record, seen) = mpsc::channel(100_000);
    for endpoint in [&one, &two] {
        endpoint.serve(ECHO, Arc::new(Echo));
        endpoint.serve(SILENT, Arc::new(Silent::default()));
        endpoint.serve(RECORD, Arc::new(Record(record.clone())));
    }
    Scene { one, two, seen, twin }
}

impl Scene {
    fn call(&self, service: Service, body: impl Into<Bytes>) -> crate::endpoint::Call {
        self.one.call(self.two.local(), Lane::Request, service, body.into(), LONG)
    }

    /// Returns once a call that nobody answers is at node two.
    async fn stuck_call(&mut self) -> crate::endpoint::Call {
        let stuck = self.call(SILENT, "never answered");
        self.call(ECHO, "behind it").await.unwrap();
        stuck
    }
}

fn number(number: u32) -> Bytes {
    Bytes::from(number.to_le_bytes().to_vec())
}

pub(super) async fn replies_find_their_calls(twin: Twin) {
    let scene = scene(twin);
    let calls: Vec<_> = (0..5000).map(|n| scene.call(ECHO, number(n))).collect();
    for (n, reply) in join_all(calls).await.into_iter().enumerate() {
        assert_eq!(reply, Ok(number(u32::try_from(n).unwrap())));
    }
    let passed = |endpoint: &Endpoint| endpoint.traffic()[Lane::Request.index()];
    let (one, two) = (passed(&scene.one), passed(&scene.two));
    assert_eq!((one.sent.frames, one.received.frames), (5000, 5000));
    assert_eq!((two.sent, two.received), (one.received, one.sent), "what one sent, two received");
    assert!(one.sent.bytes >= 5000 * 4, "{one:?}");
}

pub(super) async fn handlers_see_calls_in_order(twin: Twin) {
    let mut scene = scene(twin);
    let calls: Vec<_> = (0..5000).map(|n| scene.call(RECORD, number(n))).collect();
    for n in 0..5000 {
        assert_eq!(scene.seen.recv().await, Some((scene.one.local(), number(n))));
    }
    assert!(join_all(calls).await.iter().all(Result::is_ok));
}

pub(super) async fn a_break_fails_calls_in_flight_and_the_next_call_reconnects(twin: Twin) {
    let mut scene = scene(twin);
    let stuck = scene.stuck_call().await;
    // The other side closes: this side must notice by itself.
    scene.two.cut(scene.one.local());
    assert_eq!(stuck.await, Err(CallError::Broken));
    let resting = scene.call(ECHO, "a short life is followed by a pause").await;
    assert!(matches!(resting, Err(CallError::NotSent(_))), "{resting:?}");
    scene.one.cut(scene.two.local()); // ends the pause
    assert_eq!(scene.call(ECHO, "again").await.unwrap(), "again");
}

pub(super) async fn a_cut_ends_both_directions(twin: Twin) {
    let mut scene = scene(twin);
    let stuck = scene.stuck_call().await;
    let (one, two) = (scene.one.local(), scene.two.local());
    let back = scene.two.call(one, Lane::Request, SILENT, Bytes::new(), LONG);
    scene.two.call(one, Lane::Request, ECHO, Bytes::new(), LONG).await.unwrap();
    scene.one.cut(two);
    assert_eq!(stuck.await, Err(CallError::Broken));
    assert_eq!(back.await, Err(CallError::Broken));
    assert_eq!(scene.call(ECHO, "a cut is not for ever").await.unwrap(), "a cut is not for ever");
}

pub(super) async fn a_deadline_ends_a_call(twin: Twin) {
    let scene = scene(twin);
    let deadline = Duration::from_millis(50);
    let short = scene.one.call(scene.two.local(), Lane::Log, SILENT, Bytes::new(), deadline);
    let long = scene.one.call(scene.two.local(), Lane::Log, SILENT, Bytes::new(), 2 * deadline);
    let start = tokio::time::Instant::now();
    assert_eq!(short.await, Err(CallError::TimedOut));
    assert!(start.elapsed() + Duration::from_millis(5) >= deadline);
    assert_eq!(long.await, Err(CallError::TimedOut));
}

pub(super) async fn a_node_calls_itself(twin: Twin) {
    let mut scene = scene(twin);
    let local = scene.one.local();
    let calls: Vec<_> =
        (0..100).map(|n| scene.one.call(local, Lane::Control, RECORD, number(n), LONG)).collect();
    for n in 0..100 {
        assert_eq!(scene.seen.recv().await, Some((local, number(n))));
    }
    assert!(join_all(calls).await.iter().all(Result::is_ok));
}

pub(super) async fn an_unknown_service_refuses(twin: Twin) {
    let scene = scene(twin);
    let refused = Err(CallError::Refused(CallRefused::UnknownService));
    assert_eq!(scene.call(NOBODY, "hello?").await, refused);
    assert_eq!(scene.call(ECHO, "the connection lives").await.unwrap(), "the connection lives");
}

pub(super) async fn too_many_calls_are_refused(twin: Twin) {
    let scene = scene_with(twin, EndpointConfig { max_calls: 10, ..EndpointConfig::default() });
    let stuck: Vec<_> = (0..10).map(|_| scene.call(SILENT, "")).collect();
    assert_eq!(scene.call(ECHO, "one more").await, Err(CallError::Busy));
    assert_eq!(stuck.len(), 10);
}

pub(super) async fn more_than_the_queue_holds_arrives_in_order(twin: Twin) {
    let mut scene = scene(twin);
    let mut calls = Vec::new();
    for n in 0..300_u32 {
        // 30 MB, more than a send queue holds: the rest waits, in order.
        let body = [&n.to_le_bytes()[..], &vec![0; 100_000]].concat();
        calls.push(scene.call(RECORD, body));
    }
    for n in 0..300_u32 {
        let (_, body) = scene.seen.recv().await.unwrap();
        assert_eq!(body[..4], n.to_le_bytes());
    }
    assert!(join_all(calls).await.iter().all(Result::is_ok));
}

pub(super) async fn after_shutdown_calls_fail(twin: Twin) {
    let mut scene = scene(twin);
    let stuck = scene.stuck_call().await;
    scene.one.shutdown();
    assert_eq!(stuck.await, Err(CallError::ShutDown));
    assert_eq!(scene.call(ECHO, "too late").await, Err(CallError::ShutDown));
    let unseen = NodeId([77; 32]);
    let late = scene.one.call(unseen, Lane::Bulk, ECHO, Bytes::new(), LONG);
    assert_eq!(late.await, Err(CallError::ShutDown));
    assert!(scene.twin.one.accept().await.is_none());
}

pub(super) async fn notices_arrive(twin: Twin) {
    let mut scene = scene(twin);
    scene.one.notify(scene.two.local(), Lane::Control, RECORD, number(1)).unwrap();
    scene.one.notify(scene.two.local(), Lane::Control, RECORD, number(2)).unwrap();
    assert_eq!(scene.seen.recv().await.unwrap().1, number(1));
    assert_eq!(scene.seen.recv().await.unwrap().1, number(2));
}

pub(super) async fn links_show_who_is_connected(twin: Twin) {
    let scene = scene(twin);
    let (one, two) = (scene.one.local(), scene.two.local());
    let mut links = scene.one.links();
    scene.one.call(two, Lane::Request, ECHO, Bytes::new(), LONG).await.unwrap();
    assert!(links.borrow().connected.is_empty(), "only the control lane counts");
    scene.one.call(two, Lane::Control, ECHO, Bytes::new(), LONG).await.unwrap();
    let first = links.wait_for(|links| links.connected.contains_key(&two)).await.unwrap().connected[&two];
    scene.two.cut(one);
    links.wait_for(|links| links.connected.is_empty()).await.unwrap();
    scene.one.cut(two); // forgives the pause after a short connection
    scene.one.call(two, Lane::Control, ECHO, Bytes::new(), LONG).await.unwrap();
    let again = links.wait_for(|links| links.connected.contains_key(&two)).await.unwrap().connected[&two];
    assert!(again > first);
}

pub(super) async fn an_unreachable_node_fails_calls(twin: Twin) {
    let scene = scene(twin);
    let call = || scene.one.call(scene.twin.absent, Lane::Request, ECHO, Bytes::new(), LONG);
    let first = call().await;
    assert!(matches!(first, Err(CallError::NotSent(_))), "{first:?}");
    let start = tokio::time::Instant::now();
    let second = call().await;
    assert!(matches!(second, Err(CallError::NotSent(_))), "{second:?}");
    assert!(start.elapsed() < Duration::from_secs(5), "fails at once while resting");
}

/// Answers when told to; knows how many run at once.
struct Gate {
    open: Arc<tokio::sync::Semaphore>,
    running: Arc<AtomicU32>,
    most: Arc<AtomicU32>,
}

impl Handler for Gate {
    fn handle(&self, _from: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, CallRefused>> {
        let running = self.running.clone();
        self.most.fetch_max(running.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        let open = self.open.clone();
        async move {
            let pass = open.acquire().await;
            running.fetch_sub(1, Ordering::Relaxed);
            pass.map(|_| body).map_err(|_| CallRefused::Unavailable)
        }
        .boxed()
    }
}

pub(super) async fn handlers_at_once_are_bounded(twin: Twin) {
    let scene = scene_with(twin, EndpointConfig { max_running: 4, ..EndpointConfig::default() });
    let open = Arc::new(tokio::sync::Semaphore::new(0));
    let (running, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let gate = Gate { open: open.clone(), running: running.clone(), most: most.clone() };
    scene.two.serve(NOBODY, Arc::new(gate));
    let calls: Vec<_> = (0..50).map(|n| scene.call(NOBODY, number(n))).collect();
    let (one, two) = (scene.one.local(), &scene.two);
    two.call(one, Lane::Request, ECHO, Bytes::new(), LONG).await.unwrap();
    open.add_permits(1);
    for (n, reply) in join_all(calls).await.into_iter().enumerate() {
        assert_eq!(reply, Ok(number(u32::try_from(n).unwrap())));
    }
    assert!((1..=4).contains(&most.load(Ordering::Relaxed)), "{most:?}");
}

pub(super) async fn a_frame_that_is_no_envelope_ends_that_connection_only(twin: Twin) {
    let scene = scene(twin);
    assert_eq!(scene.call(ECHO, "before").await.unwrap(), "before");
    let mut raw = scene.twin.one.open(scene.two.local(), Lane::Bulk).await.unwrap();
    raw.sender.send(Bytes::from_static(b"\xFFnoise")).await.unwrap();
    assert_eq!(raw.receiver.recv().await, None);
    assert_eq!(scene.call(ECHO, "after").await.unwrap(), "after");
}

pub(super) async fn a_newer_connection_replaces_the_older(twin: Twin) {
    let scene = scene(twin);
    let mut older = scene.twin.one.open(scene.two.local(), Lane::Bulk).await.unwrap();
    let mut newer = scene.twin.one.open(scene.two.local(), Lane::Bulk).await.unwrap();
    assert_eq!(older.receiver.recv().await, None);
    let call = Envelope::Call { service: ECHO, id: 7, body: Bytes::from_static(b"here") };
    newer.sender.send(call.into_frame()).await.unwrap();
    let reply = Envelope::decode(newer.receiver.recv().await.unwrap());
    assert_eq!(reply, Ok(Envelope::Reply { id: 7, answer: Ok(Bytes::from_static(b"here")) }));
}
