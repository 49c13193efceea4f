//! A crowd of members: every machine is the product's; messages cross as the
//! product's bytes, are delayed and lost by chance; members crash, or are
//! blocked as a whole process is.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use bytes::Bytes;
use trine_mesh::members::roster::Chance;
use trine_mesh::members::{Change, Effect, Event, Life, Members, Myself, Roster, Timing, codec};
use trine_types::NodeNumber;

/// Fastest and slowest way through the network.
const DELAY: (Duration, Duration) = (Duration::from_micros(100), Duration::from_millis(1));
/// What a message costs on the wire beside its bytes: envelope, frame, TLS
/// record, TCP and IP headers.
pub const OVERHEAD_BYTES: u64 = 100;

/// How a crowd is set up.
#[derive(Clone, Debug)]
pub struct Setting {
    /// How many members.
    pub members: usize,
    /// Their times.
    pub timing: Timing,
    /// Share of messages that are lost.
    pub loss: f64,
    /// What blocked members cannot do.
    pub blocked: Blocked,
    /// Everything random comes from it.
    pub seed: u64,
}

/// A failure that a member believes in.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    /// When.
    pub at: Duration,
    /// Which member believes it.
    pub by: usize,
    /// About whom.
    pub about: usize,
}

/// What a blocked member cannot do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// Send and receive; its timers run. This is the paper's workload.
    Messages,
    /// Anything, as when a process is stopped or a machine swaps.
    Process,
}

/// What has been sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// Messages.
    pub messages: u64,
    /// Bytes, with [`OVERHEAD_BYTES`] each.
    pub bytes: u64,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Wake(usize),
    Arrive { to: usize, from: usize, bytes: Bytes },
    Unblock(usize),
}

/// One simulated member.
struct Body {
    machine: Members,
    wakes: Option<Duration>,
    crashed: bool,
    blocked_until: Option<Duration>,
    /// What arrived while it was blocked.
    waiting: Vec<(usize, Bytes)>,
    /// What it wanted to send while only its messages were blocked.
    held: Vec<(usize, Bytes)>,
}

/// Many members, and the time.
pub struct Crowd {
    now: Duration,
    bodies: Vec<Body>,
    queue: BinaryHeap<Reverse<(Duration, u64, Happening)>>,
    serial: u64,
    chance: Chance,
    loss: f64,
    blocked: Blocked,
    /// Everything sent so far.
    pub traffic: Traffic,
    /// Every failure that somebody believed in so far.
    pub verdicts: Vec<Verdict>,
    /// How often a member began to suspect another.
    pub suspicions: u64,
}

impl Crowd {
    /// Members that all know of each other.
    #[must_use]
    pub fn new(setting: &Setting) -> Self {
        let roster = Roster::new((0..setting.members).map(number));
        let mut chance = Chance::new(setting.seed);
        let mut bodies = Vec::with_capacity(setting.members);
        for place in 0..setting.members {
            let me = Myself { number: number(place), life: Life::default(), load: 0, profile: Vec::new() };
            let seed = chance.next_u64();
            let machine = Members::new(Duration::ZERO, me, roster.clone(), setting.timing.clone(), seed);
            let waiting = Vec::new();
            let (wakes, blocked_until, held) = (None, None, Vec::new());
            bodies.push(Body { machine, wakes, crashed: false, blocked_until, waiting, held });
        }
        let mut crowd = Self {
            now: Duration::ZERO,
            bodies,
            queue: BinaryHeap::new(),
            serial: 0,
            chance,
            loss: setting.loss,
            blocked: setting.blocked,
            traffic: Traffic::default(),
            verdicts: Vec::new(),
            suspicions: 0,
        };
        (0..setting.members).for_each(|place| crowd.settle(place));
        crowd
    }

    /// Virtual time since the start.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.now
    }

    /// A random member that runs.
    pub fn pick(&mut self) -> usize {
        loop {
            let place = self.chance.below(self.bodies.len());
            if !self.bodies[place].crashed {
                return place;
            }
        }
    }

    /// A random share of `max`.
    pub fn random(&mut self, max: Duration) -> Duration {
        max.mul_f64(self.fraction())
    }

    /// A member is gone without a word.
    pub fn crash(&mut self, place: usize) {
        self.bodies[place].crashed = true;
    }

    /// A member is blocked for a while; what is sent to it waits.
    pub fn block(&mut self, place: usize, length: Duration) {
        let until = self.now + length;
        self.bodies[place].blocked_until = Some(until);
        self.push(until, Happening::Unblock(place));
    }

    /// How many members run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.bodies.iter().filter(|body| !body.crashed).count()
    }

    /// Moves time on until `end`, or until `stop` says so.
    pub fn run(&mut self, end: Duration, mut stop: impl FnMut(&Self) -> bool) {
        while let Some(Reverse((at, _, _))) = self.queue.peek() {
            if *at > end || stop(self) {
                break;
            }
            let Some(Reverse((at, _, happening))) = self.queue.pop() else { break };
            self.now = at;
            self.happen(happening);
        }
        if !stop(self) {
            self.now = end;
        }
    }

    fn happen(&mut self, happening: Happening) {
        let (Happening::Wake(place) | Happening::Arrive { to: place, .. } | Happening::Unblock(place)) =
            happening;
        let now = self.now;
        let body = &mut self.bodies[place];
        if body.crashed {
            return;
        }
        let blocked = body.blocked_until.is_some_and(|until| until > now);
        match happening {
            Happening::Wake(_) if body.wakes != Some(now) => return,
            Happening::Wake(_) if blocked && self.blocked == Blocked::Process => return,
            Happening::Wake(_) => body.machine.tick(now),
            Happening::Arrive { from, bytes, .. } if blocked => {
                body.waiting.push((from, bytes));
                return;
            }
            Happening::Arrive { from, bytes, .. } => receive(&mut body.machine, now, from, &bytes),
            Happening::Unblock(_) if blocked => return,
            // The worst order: its timers run before it reads its messages.
            Happening::Unblock(_) => {
                body.blocked_until = None;
                body.machine.tick(now);
                for (from, bytes) in std::mem::take(&mut body.waiting) {
                    receive(&mut body.machine, now, from, &bytes);
                }
                for (to, bytes) in std::mem::take(&mut body.held) {
                    self.transmit(place, to, bytes);
                }
            }
        }
        self.settle(place);
    }

    /// Carries out what a member wants done.
    fn settle(&mut self, place: usize) {
        for effect in self.bodies[place].machine.effects() {
            match effect {
                Effect::Send { to, message } => {
                    let (to, bytes) = (at_place(to), codec::encode(&message));
                    let body = &mut self.bodies[place];
                    if body.blocked_until.is_some() {
                        body.held.push((to, bytes));
                    } else {
                        self.transmit(place, to, bytes);
                    }
                }
                Effect::Tell(event) => self.note(place, event),
            }
        }
        let body = &mut self.bodies[place];
        let wakes = body.machine.wake_at().map(|at| at.max(self.now));
        if wakes != body.wakes || wakes == Some(self.now) {
            body.wakes = wakes;
            if let Some(at) = wakes {
                self.push(at, Happening::Wake(place));
            }
        }
    }

    fn transmit(&mut self, from: usize, to: usize, bytes: Bytes) {
        self.traffic.messages += 1;
        self.traffic.bytes += bytes.len() as u64 + OVERHEAD_BYTES;
        if self.fraction() >= self.loss {
            let at = self.now + DELAY.0 + self.random(DELAY.1.saturating_sub(DELAY.0));
            self.push(at, Happening::Arrive { to, from, bytes });
        }
    }

    fn note(&mut self, by: usize, event: Event) {
        match event.change {
            Change::Fail => {
                self.verdicts.push(Verdict { at: self.now, by, about: at_place(event.member) });
            }
            Change::Suspect => self.suspicions += 1,
            Change::Join | Change::AliveAgain | Change::Leave => {}
        }
    }

    fn push(&mut self, at: Duration, happening: Happening) {
        self.serial += 1;
        self.queue.push(Reverse((at, self.serial, happening)));
    }

    fn fraction(&mut self) -> f64 {
        f64::from(u32::try_from(self.chance.below(1 << 30)).unwrap_or(0)) / f64::from(1_u32 << 30)
    }
}

fn receive(machine: &mut Members, now: Duration, from: usize, bytes: &Bytes) {
    if let Ok(message) = codec::decode(bytes) {
        machine.receive(now, number(from), message);
    }
}

fn number(place: usize) -> NodeNumber {
    NodeNumber(place as u64 + 1)
}

fn at_place(number: NodeNumber) -> usize {
    usize::try_from(number.0 - 1).unwrap_or(usize::MAX)
}
