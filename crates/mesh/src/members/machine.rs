//! [`Members`]: one member's part of the protocol. Time and the seed are
//! arguments; what it wants done are effects, in order.
//!
//! SWIM (Das et al., 2002) with suspicion, and Lifeguard (Dadgar et al., 2017)
//! with additions of ours. A helper that got no answer either confirms the
//! suspicion by its nack, so that a crash is confirmed in the same moment in
//! which it is suspected; a probe that nobody confirms is repeated first.
//! Every second probe goes to the next member in the ring, so that somebody
//! looks at each member within two periods. And a member that notices that it
//! slept, or that it hears nobody at all, gives everybody the time back before
//! it believes anything.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use trine_types::NodeNumber;

use super::gossip::Gossip;
use super::health::Health;
use super::life::{Belief, Life, State};
use super::measure::Measurements;
use super::message::{Kind, MAX_FRESH, MAX_REPEATED, Message, Update};
use super::probe::Waiting;
use super::roster::{Chance, Roster, Walk};
use super::suspicion::Suspicion;
use super::timing::Timing;

mod beliefs;
mod probing;

/// A timer that fires later than this says that the member slept.
const ASLEEP: Duration = Duration::from_millis(100);
/// What a member that slept gives everybody beside the time that it slept.
const WAKING: Duration = Duration::from_millis(50);
/// A member that hears nobody for so many probe periods takes that for its own
/// fault, if there are more than [`PAIR_AND_ONE`] members.
const DEAF_PERIODS: u32 = 2;
/// Up to so many members, nobody can tell own deafness from others' failure.
const PAIR_AND_ONE: usize = 3;
/// Up to so many members, a goodbye goes to each directly.
const FAREWELL_TO_ALL: usize = 64;
/// In larger clusters it goes to this many, which pass it on.
const FAREWELL_TO: usize = 12;

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A message is to be sent; it may be lost.
    Send {
        /// To whom.
        to: NodeNumber,
        /// What.
        message: Message,
    },
    /// Something is believed now that was not before.
    Tell(Event),
}

/// What happened to a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// It is there for the first time, or its process was started again.
    Join,
    /// Somebody gets no answer from it.
    Suspect,
    /// It contradicted a suspicion, or is back.
    AliveAgain,
    /// It said goodbye.
    Leave,
    /// It did not contradict a suspicion in time.
    Fail,
}

/// One change of what is believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// Of whom.
    pub member: NodeNumber,
    /// What happened.
    pub change: Change,
    /// What is believed now.
    pub belief: Belief,
}

/// What a member knows of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Myself {
    /// Its number.
    pub number: NodeNumber,
    /// Its life; it begins with how often its process was started.
    pub life: Life,
    /// Its load, in hundredths of what its cores can do.
    pub load: u16,
    /// What it tells others about itself, encoded.
    pub profile: Vec<u8>,
}

/// When the machine does what by itself.
#[derive(Clone, Debug)]
struct Schedule {
    next_probe: Duration,
    next_gossip: Option<Duration>,
    /// When something last happened.
    last: Duration,
    /// When a message last came in.
    heard: Duration,
    turn: u32,
    walk: Walk,
    /// From which member on beliefs are repeated next.
    repeat_from: NodeNumber,
}

/// One member's part of the protocol; see the module.
#[derive(Clone, Debug)]
pub struct Members {
    me: Myself,
    leaving: bool,
    timing: Timing,
    roster: Roster,
    /// Beliefs that differ from "alive, and never heard of".
    known: BTreeMap<NodeNumber, Belief>,
    suspicions: BTreeMap<NodeNumber, Suspicion>,
    deadlines: BTreeSet<(Duration, NodeNumber)>,
    gossip: Gossip,
    waiting: Waiting,
    health: Health,
    chance: Chance,
    schedule: Schedule,
    measured: Measurements,
    effects: Vec<Effect>,
}

impl Members {
    /// A member that starts now. `seed` differs between members.
    #[must_use]
    pub fn new(now: Duration, me: Myself, roster: Roster, timing: Timing, seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let first = timing.probe_every.mul_f64(fraction(&mut chance));
        let schedule = Schedule {
            next_probe: now + first,
            next_gossip: None,
            last: now,
            heard: now,
            turn: u32::try_from(chance.below(8)).unwrap_or(0),
            walk: Walk::default(),
            repeat_from: NodeNumber(0),
        };
        Self {
            me,
            leaving: false,
            timing,
            roster,
            known: BTreeMap::new(),
            suspicions: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            gossip: Gossip::default(),
            waiting: Waiting::default(),
            health: Health::default(),
            chance,
            schedule,
            measured: Measurements::default(),
            effects: Vec::new(),
        }
    }

    /// What is to be done since the last call, in order.
    pub fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// When [`Members::tick`] is to be called next; never, if this member is
    /// alone or has left.
    #[must_use]
    pub fn wake_at(&self) -> Option<Duration> {
        if self.leaving || self.roster.len() < 2 {
            return None;
        }
        let deadline = self.deadlines.first().map(|(at, _)| *at);
        let others = [self.schedule.next_gossip, self.waiting.due(), deadline];
        others.into_iter().flatten().chain([self.schedule.next_probe]).min()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Duration) {
        if self.leaving {
            return;
        }
        self.notice_sleep(now);
        self.end_suspicions(now);
        self.work_on_probes(now);
        if self.schedule.next_gossip.is_some_and(|at| at <= now) {
            self.gossip_round(now);
        }
        if self.schedule.next_probe <= now {
            // At a fixed rate: what else this node does at the same moments
            // shares their wake-ups.
            let period = self.timing.probe_every * self.slowness();
            let next = self.schedule.next_probe + period;
            self.schedule.next_probe = if next > now { next } else { now + period };
            self.probe_next(now);
        }
    }

    /// A message came in. Messages of those who do not belong are ignored.
    pub fn receive(&mut self, now: Duration, from: NodeNumber, message: Message) {
        if self.leaving || from == self.me.number || !self.roster.has(from) {
            return;
        }
        self.notice_sleep(now);
        self.notice_hearing(now);
        let life = message.life;
        self.hear(now, from, Belief::alive(life), &[]);
        self.measured.load(from, message.load);
        for Update { member, belief, by } in message.updates {
            self.hear(now, member, belief, &by);
        }
        match message.kind {
            Kind::Ping { probe, you, knows } => {
                self.hear(now, self.me.number, you, &[]);
                let known = super::profile::hash(&self.me.profile) == knows;
                let profile = (!known && !self.me.profile.is_empty()).then(|| self.me.profile.clone());
                self.send(from, Kind::Ack { probe, profile });
            }
            Kind::Ack { probe, profile } => {
                if let Some(profile) = profile {
                    self.measured.profile(from, profile);
                }
                self.answered(now, from, probe);
            }
            Kind::PingFor { probe, target, wait_ms } => self.run_errand(now, from, probe, target, wait_ms),
            Kind::AckFor { probe } => self.answered_for(probe),
            Kind::NackFor { probe } => self.not_answered_for(from, probe),
            Kind::Gossip => {}
        }
        self.tell_the_doubted(from, life);
    }

    /// Something outside (a connection that broke, silence elsewhere) says
    /// that a member may be gone: it is probed at once.
    pub fn doubt(&mut self, now: Duration, member: NodeNumber) {
        if !self.leaving && self.roster.has(member) && self.timing.lifeguard {
            self.notice_sleep(now);
            self.probe_at_once(now, member);
        }
    }

    /// `meta` says that these belong, and how many they are for the timing.
    /// Those who no longer belong are forgotten without a word.
    pub fn set_roster(&mut self, roster: Roster, timing: Timing) {
        let gone: Vec<NodeNumber> =
            self.known.keys().copied().filter(|member| !roster.has(*member)).collect();
        for member in gone {
            self.known.remove(&member);
            self.end_suspicion(member);
            self.gossip.forget(member);
            self.measured.forget(member);
        }
        self.roster = roster;
        self.timing = timing;
    }

    /// How loaded this node is, in hundredths of what its cores can do.
    pub fn set_load(&mut self, load: u16) {
        self.me.load = load;
    }

    /// Says goodbye. Nothing is answered from here on.
    pub fn leave(&mut self, now: Duration) {
        if self.leaving {
            return;
        }
        let belief = Belief { life: self.me.life, state: State::Left };
        self.pass_on(now, Update { member: self.me.number, belief, by: Vec::new() });
        let to = if self.roster.len() <= FAREWELL_TO_ALL { FAREWELL_TO_ALL } else { FAREWELL_TO };
        self.timing.transmissions = u32::try_from(to).unwrap_or(u32::MAX);
        for member in self.choose(to, None) {
            self.send(member, Kind::Gossip);
        }
        self.leaving = true;
    }

    /// Who belongs.
    #[must_use]
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// This member itself.
    #[must_use]
    pub fn me(&self) -> &Myself {
        &self.me
    }

    /// What is believed of a member; nothing before it was heard of.
    #[must_use]
    pub fn heard(&self, member: NodeNumber) -> Option<Belief> {
        self.known.get(&member).copied()
    }

    /// What is believed of a member: that it is alive, before it was heard of.
    #[must_use]
    pub fn belief(&self, member: NodeNumber) -> Belief {
        self.heard(member).unwrap_or_default()
    }

    /// What probes measured.
    #[must_use]
    pub fn measured(&self) -> &Measurements {
        &self.measured
    }

    /// How slow this member thinks that it is, from 1; see [`Health`].
    #[must_use]
    pub fn slowness(&self) -> u32 {
        if self.timing.lifeguard { self.health.factor() } else { 1 }
    }

    /// A member whose timers fire late was not there to hear contradictions:
    /// whatever it waits for gets the time back.
    fn notice_sleep(&mut self, now: Duration) {
        let last = std::mem::replace(&mut self.schedule.last, now);
        let slept = self.wake_at().is_some_and(|due| now > due + ASLEEP);
        if !slept || !self.timing.lifeguard {
            return;
        }
        self.health.bad(1);
        let by = now.saturating_sub(last) + WAKING;
        self.waiting.delay(by);
        self.give_time_back(by);
    }

    /// The first message after a time in which none came in.
    fn notice_hearing(&mut self, now: Duration) {
        if self.is_deaf(now) {
            self.give_time_back(now.saturating_sub(self.schedule.heard) + WAKING);
        }
        self.schedule.heard = now;
    }

    /// Whether so little is heard that it is more likely this member's fault
    /// than everybody's.
    fn is_deaf(&self, now: Duration) -> bool {
        let silence = now.saturating_sub(self.schedule.heard);
        self.timing.lifeguard
            && self.roster.len() > PAIR_AND_ONE
            && silence > self.timing.probe_every * DEAF_PERIODS
    }

    fn give_time_back(&mut self, by: Duration) {
        self.deadlines.clear();
        for (member, suspicion) in &mut self.suspicions {
            suspicion.delay(by);
            self.deadlines.insert((suspicion.deadline, *member));
        }
    }

    fn gossip_round(&mut self, now: Duration) {
        self.schedule.next_gossip = None;
        for member in self.choose(self.timing.gossip_to, None) {
            if !self.gossip.is_empty() {
                self.send(member, Kind::Gossip);
            }
        }
        if !self.gossip.is_empty() {
            self.schedule.next_gossip = Some(now + self.timing.gossip_every);
        }
    }

    /// Passes a belief on from now on, in every message and in rounds of
    /// gossip, of which the first comes soon.
    fn pass_on(&mut self, now: Duration, update: Update) {
        self.gossip.add(update);
        if self.schedule.next_gossip.is_none() {
            let soon = self.timing.gossip_every.mul_f64(fraction(&mut self.chance));
            self.schedule.next_gossip = Some(now + soon);
        }
    }

    fn send(&mut self, to: NodeNumber, kind: Kind) {
        let mut updates = self.gossip.take(MAX_FRESH, self.timing.transmissions);
        self.repeat(&mut updates);
        let message = Message { life: self.me.life, load: self.me.load, kind, updates };
        self.effects.push(Effect::Send { to, message });
    }

    /// Adds some of what was passed on long ago, in turn, so that who missed
    /// it learns it in the end.
    fn repeat(&mut self, updates: &mut Vec<Update>) {
        let from = self.schedule.repeat_from;
        let later = self.known.range(from..).chain(self.known.range(..from));
        let mut last = None;
        for (member, belief) in later.take(MAX_REPEATED) {
            last = Some(*member);
            if updates.iter().all(|update| update.member != *member) {
                let by = self.suspicions.get(member).map(Suspicion::by).unwrap_or_default();
                updates.push(Update { member: *member, belief: *belief, by });
            }
        }
        if let Some(NodeNumber(last)) = last {
            self.schedule.repeat_from = NodeNumber(last.wrapping_add(1));
        }
    }

    /// Up to `count` different members that are there, at random, but not
    /// `without`.
    fn choose(&mut self, count: usize, without: Option<NodeNumber>) -> Vec<NodeNumber> {
        let mut chosen: Vec<NodeNumber> = Vec::with_capacity(count.min(self.roster.len()));
        let mut fits = |members: &Self, candidate: NodeNumber| {
            let new = candidate != members.me.number && Some(candidate) != without;
            if new && members.belief(candidate).state.is_present() && !chosen.contains(&candidate) {
                chosen.push(candidate);
            }
            chosen.len() >= count
        };
        // All in turn from a random place where that is cheap and fair enough,
        // else at random; members that are gone are met in vain.
        let len = self.roster.len();
        if len <= count * 2 {
            let start = self.chance.below(len);
            let _ = (start..start + len).find(|place| self.roster.at(*place).is_some_and(|m| fits(self, m)));
        } else {
            for _ in 0..count * 8 {
                let place = self.chance.below(len);
                if self.roster.at(place).is_some_and(|member| fits(self, member)) {
                    break;
                }
            }
        }
        chosen
    }
}

/// A number from 0 to 1.
fn fraction(chance: &mut Chance) -> f64 {
    f64::from(u32::try_from(chance.below(1 << 20)).unwrap_or(0)) / f64::from(1_u32 << 20)
}
