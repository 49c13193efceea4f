//! The programs of a meshed node: they publish, subscribe, change their
//! wishes, ask and answer.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{sleep, timeout};
use trine_mesh::{Mesh, Message, Publisher, SubId, Subscriber};
use trine_types::Entropy;

use super::ledger::{Life, Phase, SharedLedger};
use crate::random::Rng;

/// How long a reply may take on a network without faults.
const REPLY_LIMIT: Duration = Duration::from_millis(500);
/// Filters that a node wants for a while.
const EXTRAS: u64 = 6;

struct Program {
    mesh: Mesh,
    ledger: SharedLedger,
    me: Life,
    rng: Rng,
}

/// Starts all programs of one life of a node.
pub fn start(mesh: &Mesh, ledger: &SharedLedger, me: Life, entropy: &dyn Entropy) {
    let program = || Program {
        mesh: mesh.clone(),
        ledger: ledger.clone(),
        me,
        rng: Rng::new(entropy.next_u64(), "program"),
    };
    let mut wishes = 1;
    tokio::spawn(program().listen(subscribed(mesh, "all", None), false));
    if me.0 > 1 {
        wishes += 1;
        tokio::spawn(program().listen(subscribed(mesh, "work", Some("group")), true));
    }
    if me.0.is_multiple_of(2) {
        wishes += 1;
        tokio::spawn(program().answer(subscribed(mesh, "service", Some("servers"))));
    } else {
        tokio::spawn(program().ask());
    }
    ledger.with(|ledger| ledger.wishes.insert(me.0, wishes));
    tokio::spawn(program().publish());
    tokio::spawn(program().wish(wishes));
}

fn subscribed(mesh: &Mesh, filter: &'static str, queue: Option<&'static str>) -> Subscriber {
    let mut subscriber = mesh.bus().subscriber();
    let queue = queue.map(|queue| Bytes::from_static(queue.as_bytes()));
    subscriber.subscribe(Bytes::from_static(filter.as_bytes()), queue).expect("these names are valid");
    subscriber
}

async fn say(publisher: &mut Publisher, message: &Message<'_>) -> u32 {
    let outcome = publisher.publish(message);
    publisher.flush();
    if outcome.pressed {
        publisher.relieved().await;
    }
    outcome.receivers
}

/// Sender and number of a message.
fn parse(payload: &[u8]) -> Option<(Life, u64)> {
    let mut words = std::str::from_utf8(payload).ok()?.split(' ').map(|word| word.parse::<u64>().ok());
    let mut next = || words.next().flatten();
    Some(((next()?, next()?), next()?))
}

impl Program {
    async fn pause(&mut self, low_ms: u64, high_ms: u64) {
        sleep(Duration::from_millis(self.rng.between(low_ms, high_ms))).await;
    }

    async fn publish(mut self) {
        let mut publisher = self.mesh.bus().publisher();
        let mut number = 0;
        loop {
            self.pause(2, 30).await;
            if self.ledger.phase() == Phase::Silence {
                continue;
            }
            // Several at once: what waits for a link is more than one message.
            for _ in 0..self.rng.between(1, 4) {
                number += 1;
                self.ledger.with(|ledger| ledger.published(self.me, number));
                let payload = format!("{} {} {number}", self.me.0, self.me.1);
                for subject in ["all", "work"] {
                    let message = Message {
                        subject: subject.as_bytes(),
                        payload: payload.as_bytes(),
                        ..Message::default()
                    };
                    say(&mut publisher, &message).await;
                }
            }
        }
    }

    async fn listen(self, mut subscriber: Subscriber, work: bool) {
        while let Some(message) = subscriber.next().await {
            let Some((sender, number)) = parse(&message.payload) else { continue };
            self.ledger.with(|ledger| {
                if work {
                    ledger.worked(self.me, sender, number);
                } else {
                    ledger.heard(self.me, sender, number);
                }
            });
        }
    }

    async fn answer(self, mut requests: Subscriber) {
        let mut publisher = self.mesh.bus().publisher();
        while let Some(request) = requests.next().await {
            let Some(reply) = &request.reply else { continue };
            let message = Message { subject: reply, payload: &request.payload, ..Message::default() };
            say(&mut publisher, &message).await;
        }
    }

    /// Asks with a new inbox each time: no other node has heard of it.
    async fn ask(mut self) {
        let mut publisher = self.mesh.bus().publisher();
        let mut number = 0_u64;
        loop {
            self.pause(20, 80).await;
            let phase = self.ledger.phase();
            if matches!(phase, Phase::Healing | Phase::Silence) {
                continue;
            }
            number += 1;
            let inbox = format!("_INBOX.{}.{}.{number}", self.me.0, self.me.1);
            let mut replies = self.mesh.bus().subscriber();
            if replies.subscribe(Bytes::from(inbox.clone()), None).is_err() {
                continue;
            }
            let message = Message {
                subject: b"service",
                reply: Some(inbox.as_bytes()),
                payload: b"?",
                ..Message::default()
            };
            let receivers = say(&mut publisher, &message).await;
            let reply = if receivers == 0 { None } else { timeout(REPLY_LIMIT, replies.next()).await.ok() };
            if phase == Phase::Calm {
                let outcome = match (receivers, reply) {
                    (0, _) => Err("nobody is known who answers"),
                    (_, None) => Err("no reply in time"),
                    _ => Ok(()),
                };
                self.ledger.with(|ledger| ledger.asked(self.me, outcome));
            }
        }
    }

    /// Wants something more or something less, until the faults stop.
    async fn wish(mut self, always: usize) {
        let mut subscriber = self.mesh.bus().subscriber();
        let mut wanted: Vec<(u64, SubId)> = Vec::new();
        loop {
            self.pause(5, 150).await;
            if self.ledger.phase() != Phase::Storm {
                continue;
            }
            let extra = self.rng.below(EXTRAS);
            if let Some(at) = wanted.iter().position(|(known, _)| *known == extra) {
                subscriber.unsubscribe(wanted.swap_remove(at).1);
            } else if let Ok(id) = subscriber.subscribe(Bytes::from(format!("extra.{extra}")), None) {
                wanted.push((extra, id));
            }
            self.ledger.with(|ledger| ledger.wishes.insert(self.me.0, always + wanted.len()));
        }
    }
}
