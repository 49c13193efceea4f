//! Beliefs: which are taken over, which are contradicted, which are passed on.

use std::time::Duration;

use trine_types::NodeNumber;

use super::{Change, Effect, Event, Members};
use crate::members::life::{Belief, Life, State};
use crate::members::message::{Kind, Update};
use crate::members::suspicion::Suspicion;

impl Members {
    /// Somebody (perhaps this member) believes this.
    pub(super) fn hear(&mut self, now: Duration, member: NodeNumber, belief: Belief, by: &[NodeNumber]) {
        if member == self.me.number {
            self.contradict(now, belief);
            return;
        }
        if !self.roster.has(member) {
            return;
        }
        let old = self.heard(member);
        if belief > old.unwrap_or_default() {
            self.believe(now, member, old, belief, by);
        } else if belief.state == State::Suspect && old == Some(belief) {
            self.confirm(now, member, by);
        }
    }

    /// Whoever says that this member is not there is wrong: a newer life
    /// overrides whatever was said about the older.
    fn contradict(&mut self, now: Duration, belief: Belief) {
        let outdated = belief.life < self.me.life || belief.life.start > self.me.life.start;
        if belief.state == State::Alive || outdated || self.leaving {
            return;
        }
        self.me.life.refuted = belief.life.refuted.saturating_add(1);
        self.health.bad(1);
        let update = Update { member: self.me.number, belief: Belief::alive(self.me.life), by: Vec::new() };
        self.pass_on(now, update);
    }

    fn believe(
        &mut self,
        now: Duration,
        member: NodeNumber,
        old: Option<Belief>,
        belief: Belief,
        by: &[NodeNumber],
    ) {
        self.end_suspicion(member);
        let mut suspecting = Vec::new();
        if belief.state == State::Suspect {
            let suspicion = Suspicion::new(now, belief.life, by, &self.timing);
            suspecting = suspicion.by();
            self.deadlines.insert((suspicion.deadline, member));
            self.suspicions.insert(member, suspicion);
        }
        self.known.insert(member, belief);
        if let Some(change) = change(old, belief) {
            self.effects.push(Effect::Tell(Event { member, change, belief }));
        }
        self.pass_on(now, Update { member, belief, by: suspecting });
    }

    fn confirm(&mut self, now: Duration, member: NodeNumber, by: &[NodeNumber]) {
        let Some(suspicion) = self.suspicions.get_mut(&member) else { return };
        let before = suspicion.deadline;
        if !self.timing.lifeguard || !suspicion.confirm(by, &self.timing) {
            return;
        }
        self.deadlines.remove(&(before, member));
        self.deadlines.insert((suspicion.deadline, member));
        let belief = Belief { life: suspicion.life, state: State::Suspect };
        let by = suspicion.by();
        self.pass_on(now, Update { member, belief, by });
    }

    pub(super) fn end_suspicion(&mut self, member: NodeNumber) {
        if let Some(suspicion) = self.suspicions.remove(&member) {
            self.deadlines.remove(&(suspicion.deadline, member));
        }
    }

    /// Suspicions that nobody contradicted in time are believed.
    pub(super) fn end_suspicions(&mut self, now: Duration) {
        while let Some((at, member)) = self.deadlines.first().copied() {
            if at > now {
                return;
            }
            if self.is_deaf(now) && self.postpone(now, member) {
                continue;
            }
            let life = self.suspicions.get(&member).map_or_else(Life::default, |suspicion| suspicion.life);
            let old = self.heard(member);
            self.believe(now, member, old, Belief { life, state: State::Failed }, &[]);
        }
    }

    /// Whoever hears nobody doubts itself for a while. The result says whether
    /// the suspicion was postponed.
    fn postpone(&mut self, now: Duration, member: NodeNumber) -> bool {
        let Some(suspicion) = self.suspicions.get_mut(&member) else { return false };
        let before = suspicion.deadline;
        let postponed = suspicion.postpone(now + self.timing.probe_every, &self.timing);
        if postponed {
            self.deadlines.remove(&(before, member));
            self.deadlines.insert((suspicion.deadline, member));
        }
        postponed
    }

    /// Who sends messages while it is believed to be gone learns that at once,
    /// so that it can contradict. (To be told of a mere suspicion first is
    /// Lifeguard's "buddy system".)
    pub(super) fn tell_the_doubted(&mut self, from: NodeNumber, life: Life) {
        let belief = self.belief(from);
        let doubted = match belief.state {
            State::Alive => false,
            State::Suspect => self.timing.lifeguard,
            State::Failed | State::Left => true,
        };
        if doubted && belief.life == life {
            self.tell(from);
        }
    }

    /// Tells a member what is believed of it.
    pub(super) fn tell(&mut self, member: NodeNumber) {
        let you = self.belief(member);
        let knows = self.measured.profile_hash(member);
        self.send(member, Kind::Ping { probe: 0, you, knows });
    }
}

fn change(old: Option<Belief>, new: Belief) -> Option<Change> {
    match (old, new.state) {
        (_, State::Suspect) => Some(Change::Suspect),
        (_, State::Failed) => Some(Change::Fail),
        (_, State::Left) => Some(Change::Leave),
        (None, State::Alive) => Some(Change::Join),
        (Some(old), State::Alive) if old.state == State::Left || old.life.start < new.life.start => {
            Some(Change::Join)
        }
        (Some(old), State::Alive) => (old.state != State::Alive).then_some(Change::AliveAgain),
    }
}
