//! One connected client as the bus sees it: takes messages on the publisher's
//! task, straight into the outbox that the connection writes from.
//!
//! The bus is given a key for each subscription, which leads here without a
//! search:
//!
//! ```text
//! | slot u32 | generation u32 | the client's own name for it … |
//! ```

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use trine_types::Rights;

use super::connect::ConnectOptions;
use super::encode::{self, Delivery};
use crate::bus::outbox::OUTBOX_MAX_BYTES;
use crate::message::Message;
use crate::{Brake, Outbox, Receiver, Room};

/// Bytes of a key before the name.
const KEY_HEAD: usize = 8;

/// What was sent and received, for people.
#[derive(Debug, Clone, Copy, Default)]
pub struct Traffic {
    /// Messages from the client.
    pub in_msgs: u64,
    /// Bytes of them.
    pub in_bytes: u64,
    /// Messages to the client.
    pub out_msgs: u64,
    /// Bytes of them.
    pub out_bytes: u64,
}

/// A client.
#[derive(Debug)]
pub struct Client {
    /// Its number in this process.
    pub cid: u64,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// When it came, in milliseconds since 1970.
    pub start_ms: u64,
    /// What it said about itself and who it is, once it is let in.
    pub about: OnceLock<(ConnectOptions, Arc<str>)>,
    /// Bytes on their way to it.
    pub outbox: Outbox,
    headers: AtomicBool,
    slow: AtomicBool,
    ended: AtomicBool,
    // Publishers and the connection's own task count here; a task that owned
    // it would have to be woken for every message.
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    all: Vec<Slot>,
    free: Vec<u32>,
    /// Keys of subscriptions that have had all their messages.
    ended: Vec<Bytes>,
    traffic: Traffic,
}

#[derive(Debug, Default)]
struct Slot {
    /// Odd while in use.
    generation: u32,
    delivered: u64,
    /// Messages after which it ends.
    max: Option<u64>,
    /// What each message is checked against, and as a member of which queue.
    check: Option<(Arc<Rights>, Option<Bytes>)>,
}

impl Client {
    /// A client that came just now.
    pub fn new(cid: u64, peer: SocketAddr, start_ms: u64) -> Self {
        Self {
            cid,
            peer,
            start_ms,
            about: OnceLock::new(),
            outbox: Outbox::default(),
            headers: AtomicBool::new(false),
            slow: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            slots: Mutex::default(),
        }
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it understands headers.
    pub fn knows_headers(&self, knows: bool) {
        self.headers.store(knows, Ordering::Relaxed);
    }

    /// Whether publishers waited for it in vain.
    pub fn was_too_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed)
    }

    /// Makes room for a subscription; its key for the bus.
    pub fn open(&self, sid: &[u8], check: Option<(Arc<Rights>, Option<Bytes>)>) -> Bytes {
        let mut slots = self.slots();
        let index = slots.free.pop().unwrap_or_else(|| {
            slots.all.push(Slot::default());
            u32::try_from(slots.all.len() - 1).unwrap_or(u32::MAX)
        });
        let slot = &mut slots.all[index as usize];
        *slot = Slot { generation: slot.generation.wrapping_add(1), check, ..Slot::default() };
        let mut key = Vec::with_capacity(KEY_HEAD + sid.len());
        key.extend_from_slice(&index.to_le_bytes());
        key.extend_from_slice(&slot.generation.to_le_bytes());
        key.extend_from_slice(sid);
        key.into()
    }

    /// Ends a subscription: what the bus still delivers is not taken.
    pub fn close(&self, key: &Bytes) {
        let mut slots = self.slots();
        let Some((index, generation, _)) = split(key) else { return };
        let Some(slot) = slots.all.get_mut(index as usize) else { return };
        if slot.generation == generation {
            *slot = Slot { generation: generation.wrapping_add(1), ..Slot::default() };
            slots.free.push(index);
        }
    }

    /// Ends a subscription after `max` messages in all; `true`: it has had
    /// them already.
    pub fn limit(&self, key: &Bytes, max: u64) -> bool {
        let mut slots = self.slots();
        let Some(slot) = slots.of(key) else { return true };
        slot.max = Some(max);
        slot.delivered >= max
    }

    /// Checks each message of a subscription against other rights from now on.
    pub fn check(&self, key: &Bytes, check: Option<(Arc<Rights>, Option<Bytes>)>) {
        if let Some(slot) = self.slots().of(key) {
            slot.check = check;
        }
    }

    /// Keys of subscriptions that have had all their messages.
    pub fn take_ended(&self) -> Vec<Bytes> {
        let mut slots = self.slots();
        self.ended.store(false, Ordering::Relaxed);
        std::mem::take(&mut slots.ended)
    }

    /// Notes messages that came from it.
    pub fn came(&self, messages: u64, bytes: u64) {
        let mut slots = self.slots();
        slots.traffic.in_msgs += messages;
        slots.traffic.in_bytes += bytes;
    }

    /// Whether there are such.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// The client's name for the subscription with this key.
    pub fn name_in(key: &Bytes) -> &[u8] {
        key.get(KEY_HEAD..).unwrap_or_default()
    }

    /// What was sent and received.
    pub fn traffic(&self) -> Traffic {
        self.slots().traffic
    }

    /// How many subscriptions it has.
    pub fn subscriptions(&self) -> usize {
        let slots = self.slots();
        slots.all.len() - slots.free.len()
    }
}

impl Slots {
    fn of(&mut self, key: &[u8]) -> Option<&mut Slot> {
        let (index, generation, _) = split(key)?;
        self.all.get_mut(index as usize).filter(|slot| slot.generation == generation)
    }
}

fn split(key: &[u8]) -> Option<(u32, u32, &[u8])> {
    let (index, rest) = key.split_first_chunk()?;
    let (generation, name) = rest.split_first_chunk()?;
    Some((u32::from_le_bytes(*index), u32::from_le_bytes(*generation), name))
}

impl Receiver for Client {
    fn deliver(&self, key: &Bytes, message: &Message<'_>) -> Room {
        let mut slots = self.slots();
        let Some(slot) = slots.of(key) else { return Room::NotTaken };
        if slot.max.is_some_and(|max| slot.delivered >= max) {
            return Room::NotTaken;
        }
        if let Some((rights, queue)) = &slot.check
            && !rights.may_receive(message.subject, queue.as_deref())
        {
            return Room::NotTaken;
        }
        let delivery = Delivery {
            subject: message.subject,
            sid: &key[KEY_HEAD..],
            reply: message.reply,
            headers: message.headers,
            payload: message.payload,
        };
        let knows_headers = self.headers.load(Ordering::Relaxed);
        let room = self.outbox.append(|out| encode::message(out, &delivery, knows_headers));
        if room == Room::NotTaken {
            // Its writer may be stuck with more, and would never end by itself.
            if self.outbox.waiting_bytes() > OUTBOX_MAX_BYTES {
                self.cut_off();
            }
            return room;
        }
        slot.delivered += 1;
        let ended = slot.max == Some(slot.delivered);
        slots.traffic.out_msgs += 1;
        slots.traffic.out_bytes += message.body_bytes() as u64;
        if ended {
            slots.ended.push(key.clone());
            self.ended.store(true, Ordering::Relaxed);
        }
        room
    }

    fn wake(&self) {
        self.outbox.wake();
    }

    fn brake(&self) -> &Brake {
        self.outbox.brake()
    }

    fn cut_off(&self) {
        self.slow.store(true, Ordering::Relaxed);
        self.outbox.close();
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    fn client() -> Client {
        Client::new(1, SocketAddr::from(([127, 0, 0, 1], 1)), 0)
    }

    fn to(subject: &str) -> Message<'_> {
        Message { subject: subject.as_bytes(), payload: b"x", ..Message::default() }
    }

    fn written(client: &Client) -> String {
        let mut out = Vec::new();
        let _ = client.outbox.poll_take(&Context::from_waker(Waker::noop()), &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_message_is_written_under_the_clients_name_for_it() {
        let client = client();
        let key = client.open(b"sub-1", None);
        assert_eq!(client.deliver(&key, &to("a")), Room::Idle);
        assert_eq!(written(&client), "MSG a sub-1 1\r\nx\r\n");
        assert_eq!((client.traffic().out_msgs, client.subscriptions()), (1, 1));
    }

    #[test]
    fn after_its_last_message_it_takes_no_more() {
        let client = client();
        let key = client.open(b"1", None);
        client.deliver(&key, &to("a"));
        assert!(!client.limit(&key, 2));
        assert_ne!(client.deliver(&key, &to("a")), Room::NotTaken);
        assert_eq!(client.deliver(&key, &to("a")), Room::NotTaken);
        assert_eq!(client.take_ended(), std::slice::from_ref(&key));
        assert!(client.limit(&key, 1));
    }

    #[test]
    fn an_ended_subscription_takes_nothing_even_if_its_place_is_taken() {
        let client = client();
        let old = client.open(b"1", None);
        client.close(&old);
        client.close(&old);
        let new = client.open(b"2", None);
        assert_eq!(client.deliver(&old, &to("a")), Room::NotTaken);
        assert_ne!(client.deliver(&new, &to("a")), Room::NotTaken);
        assert_eq!(client.subscriptions(), 1);
    }

    #[test]
    fn what_it_has_no_right_to_is_not_taken() {
        let client = client();
        let rights =
            Rights::new(["data".parse().expect("a rule")], ["subscribe:secret.>".parse().expect("a rule")]);
        let key = client.open(b"1", Some((Arc::new(rights), None)));
        assert_eq!(client.deliver(&key, &to("secret.a")), Room::NotTaken);
        assert_eq!(client.deliver(&key, &to("open")), Room::Idle);
        assert_eq!(written(&client), "MSG open 1 1\r\nx\r\n");
    }

    #[test]
    fn who_lets_too_much_wait_is_cut_off() {
        let client = client();
        let key = client.open(b"1", None);
        let payload = vec![0; OUTBOX_MAX_BYTES / 4];
        let message = Message { subject: b"a", payload: &payload, ..Message::default() };
        for _ in 0..3 {
            assert_eq!(client.deliver(&key, &message), Room::Full);
        }
        assert!(!client.was_too_slow());
        assert_eq!(client.deliver(&key, &message), Room::NotTaken);
        assert!(client.was_too_slow());
    }

    #[test]
    fn cut_off_is_remembered() {
        let client = client();
        let key = client.open(b"1", None);
        client.cut_off();
        assert!(client.was_too_slow());
        assert_eq!(client.deliver(&key, &to("a")), Room::NotTaken);
    }
}
