//! What users of the bus rely on, one story each.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use trine_types::NodeId;

use super::leeway::MOST_PASSED_OVER;
use super::receiver::{Brake, Carrier, HOLD_LIMIT, Interest, LINK_HOLD_LIMIT, Room, STALL_LIMIT};
use super::subscriber::{INBOX_FULL_BYTES, Subscriber};
use super::{Bus, SubscribeError};
use crate::message::Message;

fn to(subject: &'static str, payload: &'static str) -> Message<'static> {
    Message { subject: subject.as_bytes(), payload: payload.as_bytes(), ..Message::default() }
}

fn subscriber(bus: &Bus, filter: &'static str, queue: Option<&'static str>) -> Subscriber {
    let mut subscriber = bus.subscriber();
    let queue = queue.map(|queue| Bytes::from_static(queue.as_bytes()));
    subscriber.subscribe(Bytes::from_static(filter.as_bytes()), queue).expect("a valid filter");
    subscriber
}

fn received(subscriber: &mut Subscriber) -> Vec<String> {
    let mut all = Vec::new();
    while let Poll::Ready(Some(message)) = subscriber.poll_next(&Context::from_waker(Waker::noop())) {
        all.push(String::from_utf8(message.payload.to_vec()).expect("text"));
    }
    all
}

#[test]
fn everyone_who_subscribed_gets_each_message_in_order() {
    let bus = Bus::new(1);
    let mut publisher = bus.publisher();
    assert_eq!(publisher.publish(&to("a.b", "nobody")).receivers, 0);
    let (mut one, mut two) = (subscriber(&bus, "a.*", None), subscriber(&bus, ">", None));
    let mut other = subscriber(&bus, "b.>", None);
    for payload in ["1", "2", "3"] {
        assert_eq!(publisher.publish(&to("a.b", payload)).receivers, 2);
    }
    assert_eq!(received(&mut one), ["1", "2", "3"]);
    assert_eq!(received(&mut two), ["1", "2", "3"]);
    assert_eq!(received(&mut other), [""; 0]);
    drop(one);
    assert_eq!(publisher.publish(&to("a.b", "4")).receivers, 1);
    assert_eq!(bus.subscriptions(), 2);
}

#[test]
fn one_member_of_a_group_gets_each_message() {
    let bus = Bus::new(7);
    let mut members: Vec<_> = (0..3).map(|_| subscriber(&bus, "job", Some("workers"))).collect();
    let mut elsewhere = subscriber(&bus, "*", Some("others"));
    let mut publisher = bus.publisher();
    for _ in 0..300 {
        assert_eq!(publisher.publish(&to("job", "x")).receivers, 2);
    }
    let shares: Vec<usize> = members.iter_mut().map(|member| received(member).len()).collect();
    assert_eq!(shares.iter().sum::<usize>(), 300);
    assert!(shares.iter().all(|share| (60..140).contains(share)), "{shares:?}");
    assert_eq!(received(&mut elsewhere).len(), 300);
}

#[test]
fn who_is_closed_leaves_its_share_to_the_others() {
    let bus = Bus::new(7);
    let (closed, mut open) = (subscriber(&bus, "job", Some("q")), subscriber(&bus, "job", Some("q")));
    closed.inbox_for_tests().cut_off();
    let mut publisher = bus.publisher();
    for _ in 0..20 {
        assert_eq!(publisher.publish(&to("job", "x")).receivers, 1);
    }
    assert_eq!(received(&mut open).len(), 20);
}

#[test]
fn no_echo_means_not_to_oneself() {
    let bus = Bus::new(1);
    let (mut speaker, mut other) = (subscriber(&bus, "a", None), subscriber(&bus, "a", None));
    let mut publisher = speaker.publisher();
    assert_eq!(publisher.publish(&to("a", "echo")).receivers, 2);
    publisher.set_echo(false);
    assert_eq!(publisher.publish(&to("a", "quiet")).receivers, 1);
    assert_eq!(received(&mut speaker), ["echo"]);
    assert_eq!(received(&mut other), ["echo", "quiet"]);
}

#[test]
fn wrong_names_are_refused_and_wrong_subjects_reach_nobody() {
    let bus = Bus::new(1);
    let mut all = subscriber(&bus, ">", None);
    let bytes = Bytes::from_static;
    assert_eq!(all.subscribe(bytes(b"a..b"), None), Err(SubscribeError::InvalidFilter));
    assert_eq!(all.subscribe(bytes(b"a"), Some(bytes(b"q q"))), Err(SubscribeError::InvalidQueue));
    for wrong in ["a..b", "a.*", ""] {
        assert_eq!(bus.publisher().publish(&to(wrong, "x")).receivers, 0, "{wrong}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_receiver_holds_its_publisher_until_it_takes() {
    let bus = Bus::new(1);
    let mut slow = subscriber(&bus, "a", None);
    let mut publisher = bus.publisher();
    let payload = vec![0; INBOX_FULL_BYTES / 4];
    let message = Message { subject: b"a", payload: &payload, ..Message::default() };
    let before = (0..10).take_while(|_| !publisher.publish(&message).pressed).count();
    assert_eq!(before, 3);
    {
        let mut relieved = std::pin::pin!(publisher.relieved());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(relieved.as_mut().poll(&mut cx).is_pending());
        slow.next().await.expect("a message");
        assert!(relieved.as_mut().poll(&mut cx).is_pending(), "not before half is free");
        slow.next().await.expect("a message");
        slow.next().await.expect("a message");
        relieved.await;
    }
    assert!(!publisher.publish(&message).pressed);
}

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_is_cut_off_and_not_the_publisher() {
    let bus = Bus::new(1);
    let stuck = [subscriber(&bus, "a", None), subscriber(&bus, "a", None)];
    let mut fine = subscriber(&bus, "a", None);
    let mut publisher = bus.publisher();
    let payload = vec![0; INBOX_FULL_BYTES];
    let message = Message { subject: b"a", payload: &payload, ..Message::default() };
    assert!(publisher.publish(&message).pressed);
    fine.next().await.expect("a message");
    let started = Instant::now();
    publisher.relieved().await;
    assert_eq!(started.elapsed(), STALL_LIMIT, "two that are stuck hold it no longer than one");
    let mut longest = Duration::ZERO;
    while publisher.publish(&message).receivers == 3 {
        let begin = Instant::now();
        fine.next().await.expect("a message");
        publisher.relieved().await;
        longest = longest.max(begin.elapsed());
        sleep(HOLD_LIMIT / 20).await;
    }
    assert_eq!(longest, Duration::ZERO, "and only once");
    assert!(started.elapsed() >= HOLD_LIMIT && started.elapsed() < HOLD_LIMIT * 11 / 10);
    assert_eq!(publisher.publish(&message).receivers, 1, "the other one still takes");
    for mut stuck in stuck {
        while let Some(message) = stuck.next().await {
            assert_eq!(message.subject, &b"a"[..], "what it had");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_pauses_misses_nothing_and_is_waited_for_again() {
    let bus = Bus::new(1);
    let mut pausing = subscriber(&bus, "a", None);
    let mut publisher = bus.publisher();
    let payload = vec![0; INBOX_FULL_BYTES];
    let message = Message { subject: b"a", payload: &payload, ..Message::default() };
    for held in [STALL_LIMIT, Duration::ZERO, Duration::ZERO] {
        assert!(publisher.publish(&message).pressed);
        let started = Instant::now();
        publisher.relieved().await;
        assert_eq!(started.elapsed(), held);
        sleep(HOLD_LIMIT / 4).await;
    }
    pausing.next().await.expect("the first");
    let started = Instant::now();
    assert!(publisher.publish(&message).pressed);
    publisher.relieved().await;
    assert_eq!(started.elapsed(), STALL_LIMIT, "it goes on, and may have a moment");
    for _ in 0..3 {
        pausing.next().await.expect("nothing is missing");
    }
    assert!(!publisher.publish(&to("a", "last")).pressed);
    assert_eq!(received(&mut pausing), ["last"]);
}

/// Lets `slow` take a message each `pause` while its publisher waits; how long
/// that was, and whether it still belongs.
async fn held_by(pause: Duration, per_message: usize) -> (Duration, bool) {
    let bus = Bus::new(1);
    let mut slow = subscriber(&bus, "a", None);
    let mut publisher = bus.publisher();
    let payload = vec![0; per_message];
    let message = Message { subject: b"a", payload: &payload, ..Message::default() };
    while !publisher.publish(&message).pressed {}
    let started = Instant::now();
    tokio::select! {
        biased;
        () = publisher.relieved() => {}
        () = async {
            loop {
                sleep(pause).await;
                slow.next().await;
            }
        } => {}
    }
    (started.elapsed(), publisher.publish(&message).receivers == 1)
}

#[tokio::test(start_paused = true)]
async fn who_takes_slowly_but_steadily_stays() {
    let (held, stays) = held_by(STALL_LIMIT.mul_f64(0.9), INBOX_FULL_BYTES / 12).await;
    assert!(stays && held > STALL_LIMIT * 4 && held < HOLD_LIMIT, "{held:?}");
}

#[tokio::test(start_paused = true)]
async fn who_takes_too_little_holds_its_publisher_for_a_bounded_time() {
    let (held, stays) = held_by(STALL_LIMIT.mul_f64(0.9), INBOX_FULL_BYTES / 50).await;
    assert!(!stays && held == HOLD_LIMIT, "{held:?}");
}

#[tokio::test(start_paused = true)]
async fn who_trickles_is_cut_off_once_it_made_no_room_for_too_long() {
    let bus = Bus::new(1);
    let mut trickling = subscriber(&bus, "a", None);
    let mut publisher = bus.publisher();
    let payload = vec![0; INBOX_FULL_BYTES / 50];
    let message = Message { subject: b"a", payload: &payload, ..Message::default() };
    while !publisher.publish(&message).pressed {}
    let started = Instant::now();
    while publisher.publish(&message).receivers == 1 {
        publisher.relieved().await;
        trickling.next().await.expect("what it had");
    }
    assert_eq!(started.elapsed(), HOLD_LIMIT);
}

#[tokio::test(start_paused = true)]
async fn only_a_few_are_passed_over_at_a_time() {
    let bus = Bus::new(1);
    let stuck: Vec<_> = (0..=MOST_PASSED_OVER).map(|_| subscriber(&bus, "a", None)).collect();
    let mut publisher = bus.publisher();
    let payload = vec![0; INBOX_FULL_BYTES];
    let message = Message { subject: b"a", payload: &payload, ..Message::default() };
    assert_eq!(publisher.publish(&message).receivers as usize, stuck.len());
    let started = Instant::now();
    publisher.relieved().await;
    assert_eq!(started.elapsed(), HOLD_LIMIT, "there was no place for one");
    assert_eq!(publisher.publish(&message).receivers as usize, MOST_PASSED_OVER);
    publisher.relieved().await;
    assert_eq!(publisher.publish(&message).receivers, 0);
    // The places are free again.
    drop(stuck);
    let _again: Vec<_> = (0..MOST_PASSED_OVER).map(|_| subscriber(&bus, "a", None)).collect();
    assert!(publisher.publish(&message).pressed);
    let started = Instant::now();
    publisher.relieved().await;
    assert_eq!(started.elapsed(), STALL_LIMIT);
}

#[tokio::test(start_paused = true)]
async fn a_link_is_given_more_time_than_the_receivers_behind_it() {
    let bus = Bus::new(1);
    let (peer, link) = (NodeId([9; 32]), Arc::new(Counted { is_full: true, ..Counted::default() }));
    bus.link(peer, link.clone());
    wants(&bus, peer, "a", None, 1);
    let mut publisher = bus.publisher();
    link.brake.pull();
    assert!(publisher.publish(&to("a", "x")).pressed);
    let started = Instant::now();
    publisher.relieved().await;
    assert_eq!(started.elapsed(), LINK_HOLD_LIMIT);
    assert!(LINK_HOLD_LIMIT > HOLD_LIMIT);
}

/// A link that counts.
#[derive(Default)]
struct Counted {
    plain: AtomicU32,
    grouped: AtomicU32,
    told: std::sync::Mutex<Vec<(Bytes, u32)>>,
    brake: Brake,
    is_full: bool,
}

impl Carrier for Counted {
    fn forward(&self, _: &Message<'_>, plain: bool, groups: &mut dyn Iterator<Item = &Bytes>) -> Room {
        self.plain.fetch_add(u32::from(plain), Ordering::Relaxed);
        self.grouped.fetch_add(u32::try_from(groups.count()).expect("few"), Ordering::Relaxed);
        if self.is_full { Room::Full } else { Room::Free }
    }

    fn tell(&self, change: &Interest) {
        self.told.lock().expect("one thread").push((change.filter.clone(), change.members));
    }

    fn wake(&self) {}

    fn brake(&self) -> &Brake {
        &self.brake
    }

    fn cut_off(&self) {}
}

fn wants(bus: &Bus, peer: NodeId, filter: &'static str, queue: Option<&'static str>, members: u32) {
    let queue = queue.map(|queue| Bytes::from_static(queue.as_bytes()));
    assert!(bus.want(peer, Interest { filter: Bytes::from_static(filter.as_bytes()), queue, members }));
}

#[test]
fn a_message_crosses_a_link_once_and_groups_prefer_local_members() {
    let bus = Bus::new(3);
    let (peer, link) = (NodeId([9; 32]), Arc::new(Counted::default()));
    let mut local = subscriber(&bus, "job", Some("q"));
    bus.link(peer, link.clone());
    let counts = || (link.plain.swap(0, Ordering::Relaxed), link.grouped.swap(0, Ordering::Relaxed));
    let mut publisher = bus.publisher();
    wants(&bus, peer, "job", Some("q"), 5);
    assert_eq!(publisher.publish(&to("job", "local")).receivers, 1);
    assert_eq!((received(&mut local).len(), counts()), (1, (0, 0)));
    wants(&bus, peer, "job", None, 1);
    wants(&bus, peer, ">", None, 1);
    assert_eq!(publisher.publish(&to("job", "both")).receivers, 2);
    assert_eq!(counts(), (1, 0));
    drop(local);
    assert_eq!(publisher.publish(&to("job", "there")).receivers, 1);
    assert_eq!(counts(), (1, 1));
    let told = link.told.lock().expect("one thread").clone();
    assert_eq!(told, [(Bytes::from_static(b"job"), 0)]);
    bus.forget(peer);
    assert_eq!(publisher.publish(&to("job", "nobody")).receivers, 0);
}

#[test]
fn what_came_from_another_node_stays_here() {
    let bus = Bus::new(3);
    let (peer, link) = (NodeId([9; 32]), Arc::new(Counted::default()));
    bus.link(peer, link.clone());
    wants(&bus, peer, ">", None, 1);
    wants(&bus, peer, "job", Some("q"), 1);
    let (mut plain, mut grouped) = (subscriber(&bus, "job", None), subscriber(&bus, "job", Some("q")));
    let mut publisher = bus.publisher();
    assert_eq!(publisher.relay(&to("job", "1"), true, &[]).receivers, 1);
    assert_eq!(publisher.relay(&to("job", "2"), false, &[b"q", b"unknown"]).receivers, 1);
    assert_eq!((received(&mut plain), received(&mut grouped)), (vec!["1".to_owned()], vec!["2".to_owned()]));
    assert_eq!(link.plain.load(Ordering::Relaxed) + link.grouped.load(Ordering::Relaxed), 0);
}

#[test]
fn links_hear_of_plain_interest_once_and_of_each_member() {
    let bus = Bus::new(3);
    let link = Arc::new(Counted::default());
    bus.link(NodeId([9; 32]), link.clone());
    let plain = [subscriber(&bus, "a", None), subscriber(&bus, "a", None)];
    let members = [subscriber(&bus, "b", Some("q")), subscriber(&bus, "b", Some("q"))];
    bus.wanted(|wanted| {
        let all: Vec<_> = wanted.map(|interest| (interest.filter, interest.members)).collect();
        assert_eq!(all, [(Bytes::from_static(b"a"), 1), (Bytes::from_static(b"b"), 2)]);
    });
    drop((plain, members));
    let told: Vec<_> = link.told.lock().expect("one thread").iter().map(|(_, members)| *members).collect();
    assert_eq!(told, [1, 1, 2, 0, 1, 0]);
}
