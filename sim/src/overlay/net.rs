//! A network of members that know few of each other. Links take a while; a
//! member that is gone is noticed by those who are connected to it, or send to
//! it, after a while.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use bytes::Bytes;
use trine_mesh::broadcast::{Broadcast, Effect, Message, MessageId};
use trine_mesh::members::roster::Chance;
use trine_types::NodeNumber;

/// Fastest and slowest link, as between sites.
const DELAY: (u64, u64) = (10_000, 50_000);
/// How long it takes until a member that is gone is noticed, in microseconds.
const NOTICE: u64 = 500_000;
/// Between two members' joining, in microseconds.
const JOIN_PAUSE: u64 = 2_000;

#[derive(Debug)]
enum Happening {
    Tick,
    Arrive { from: usize, message: Message },
    Gone { member: usize },
}

struct Queued {
    at: u64,
    serial: u64,
    to: usize,
    what: Happening,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.serial) == (other.at, other.serial)
    }
}

impl Eq for Queued {}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.serial).cmp(&(other.at, other.serial))
    }
}

/// How far one message has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reach {
    /// When it was sent, in microseconds.
    pub sent: u64,
    /// Members that have it, beside its sender.
    pub members: usize,
    /// Most links that it crossed.
    pub hops: u16,
    /// When the last of them got it.
    pub last: u64,
}

/// What has crossed links so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// Whole messages that arrived.
    pub pushes: u64,
    /// Everything else that was sent.
    pub control: u64,
}

/// The network.
pub struct Net {
    now: u64,
    members: Vec<Option<Broadcast>>,
    wakes: Vec<u64>,
    queue: BinaryHeap<Reverse<Queued>>,
    serial: u64,
    chance: Chance,
    /// What became of each message.
    pub reach: BTreeMap<MessageId, Reach>,
    /// What crossed links.
    pub traffic: Traffic,
}

impl Net {
    /// Members that join one after the other through a random earlier one.
    #[must_use]
    pub fn new(count: usize, seed: u64) -> Self {
        let mut net = Self {
            now: 0,
            members: Vec::with_capacity(count),
            wakes: vec![0; count],
            queue: BinaryHeap::new(),
            serial: 0,
            chance: Chance::new(seed),
            reach: BTreeMap::new(),
            traffic: Traffic::default(),
        };
        for place in 0..count {
            let seed = net.chance.next_u64();
            let now = net.time();
            let mut member = Broadcast::new(now, number(place), seed);
            if place > 0 {
                member.join(now, number(net.chance.below(place)));
            }
            net.members.push(Some(member));
            net.settle(place);
            net.run(JOIN_PAUSE);
        }
        net
    }

    /// Microseconds since the start.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now
    }

    /// How many members run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.members.iter().flatten().count()
    }

    /// How many members run and have no neighbour that runs.
    #[must_use]
    pub fn isolated(&self) -> usize {
        let runs = |other: &NodeNumber| self.members.get(place(*other)).is_some_and(Option::is_some);
        self.members.iter().flatten().filter(|member| !member.views().active().iter().any(runs)).count()
    }

    /// A random member that runs sends a message.
    pub fn publish(&mut self) -> MessageId {
        loop {
            let place = self.chance.below(self.members.len());
            if self.members[place].is_some() {
                return self.publish_from(place);
            }
        }
    }

    /// A member sends a message.
    pub fn publish_from(&mut self, place: usize) -> MessageId {
        let now = self.time();
        let sent = self.members[place].as_mut().map(|member| member.publish(now, &Bytes::from_static(b"x")));
        let id = sent.unwrap_or(MessageId { origin: number(place), serial: 0 });
        self.reach.insert(id, Reach { sent: self.now, last: self.now, ..Reach::default() });
        self.settle(place);
        id
    }

    /// Half of the members are gone at once; their neighbours notice.
    pub fn crash_half(&mut self) {
        let mut crashed = 0;
        while crashed < self.members.len() / 2 {
            let gone = self.chance.below(self.members.len());
            if let Some(member) = self.members[gone].take() {
                crashed += 1;
                for neighbour in member.views().active() {
                    let delay = NOTICE / 2 + self.below(NOTICE / 2);
                    self.push(delay, place(*neighbour), Happening::Gone { member: gone });
                }
            }
        }
    }

    /// Moves time on by so many microseconds.
    pub fn run(&mut self, length: u64) {
        let end = self.now + length;
        while let Some(Reverse(next)) = self.queue.peek() {
            if next.at > end {
                break;
            }
            if let Some(Reverse(next)) = self.queue.pop() {
                self.now = next.at;
                self.happen(next.to, next.what);
            }
        }
        self.now = end;
    }

    fn happen(&mut self, to: usize, what: Happening) {
        let now = self.time();
        let Some(member) = self.members.get_mut(to).and_then(Option::as_mut) else {
            // Whoever sends to a member that is gone hears of it.
            if let Happening::Arrive { from, .. } = what {
                self.push(NOTICE, from, Happening::Gone { member: to });
            }
            return;
        };
        match what {
            Happening::Tick if self.wakes[to] != self.now => return,
            Happening::Tick => member.tick(now),
            Happening::Arrive { from, message } => {
                self.traffic.pushes += u64::from(matches!(message, Message::Push { .. }));
                member.receive(now, number(from), message);
            }
            Happening::Gone { member: gone } => member.unreachable(now, number(gone)),
        }
        self.settle(to);
    }

    fn settle(&mut self, at: usize) {
        let Some(member) = self.members[at].as_mut() else { return };
        let effects = member.effects();
        let wake = u64::try_from(member.wake_at().as_micros()).unwrap_or(u64::MAX).max(self.now + 1);
        for effect in effects {
            match effect {
                Effect::Send { to, message } => {
                    self.traffic.control += u64::from(!matches!(message, Message::Push { .. }));
                    let delay = DELAY.0 + self.below(DELAY.1 - DELAY.0);
                    self.push(delay, place(to), Happening::Arrive { from: at, message });
                }
                Effect::Deliver { id, hops, .. } => {
                    let reach = self.reach.entry(id).or_default();
                    reach.members += 1;
                    reach.hops = reach.hops.max(hops);
                    reach.last = self.now;
                }
            }
        }
        if self.wakes[at] != wake {
            self.wakes[at] = wake;
            self.push(wake - self.now, at, Happening::Tick);
        }
    }

    fn push(&mut self, delay: u64, to: usize, what: Happening) {
        self.serial += 1;
        self.queue.push(Reverse(Queued { at: self.now + delay, serial: self.serial, to, what }));
    }

    fn below(&mut self, end: u64) -> u64 {
        self.chance.next_u64() % end.max(1)
    }

    fn time(&self) -> Duration {
        Duration::from_micros(self.now)
    }
}

fn number(place: usize) -> NodeNumber {
    NodeNumber(place as u64 + 1)
}

fn place(number: NodeNumber) -> usize {
    usize::try_from(number.0.saturating_sub(1)).unwrap_or(usize::MAX)
}
