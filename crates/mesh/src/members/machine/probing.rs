//! Probing: directly, then through others, then suspicion.

use std::time::Duration;

use trine_types::NodeNumber;

use super::Members;
use crate::members::life::State;
use crate::members::message::Kind;
use crate::members::probe::{Errand, MAX_ERRANDS, MAX_PROBES, Probe};

/// Every so many turns, a member that failed is asked whether it is back.
const RETRY_TURNS: u32 = 8;
/// Places of the walk that are passed over in search of a present member.
const MAX_PASSED: usize = 64;
/// How many round trips an answer may take before others are asked.
const ROUND_TRIPS: u32 = 4;
/// With fewer helpers that got no answer either, a probe is repeated once.
const CONVINCING_NACKS: u32 = 2;
/// While no round trip is known at all, answers get so many times as long.
const UNMEASURED: u32 = 3;
/// Longest direct attempt, however slow the member was before.
const MAX_DIRECT: Duration = Duration::from_secs(4);

impl Members {
    /// The regular probe.
    pub(super) fn probe_next(&mut self, now: Duration) {
        self.schedule.turn = self.schedule.turn.wrapping_add(1);
        if self.schedule.turn.is_multiple_of(RETRY_TURNS)
            && let Some(member) = self.choose_failed()
        {
            self.tell(member);
        }
        let in_turn = self.timing.lifeguard && self.schedule.turn.is_multiple_of(2);
        let target = if in_turn { self.next_in_ring() } else { self.next_in_walk() };
        if let Some(target) = target {
            self.probe_at_once(now, target);
        }
    }

    /// Starts a probe, unless one of this member is under way.
    pub(super) fn probe_at_once(&mut self, now: Duration, target: NodeNumber) {
        if !self.waiting.probes(target) {
            self.probe(now, target, false);
        }
    }

    fn probe(&mut self, now: Duration, target: NodeNumber, again: bool) {
        if self.waiting.probes.len() >= MAX_PROBES || !self.is_probed(target) {
            return;
        }
        let direct = self.direct_timeout(target) * self.slowness();
        let number = self.waiting.number();
        let fails_at = now + direct * 5 / 2;
        let (ask_at, nacks) = (Some(now + direct), Vec::new());
        let probe = Probe { target, sent: now, ask_at, fails_at, asked: 0, nacks, again };
        self.waiting.probes.insert(number, probe);
        self.ping(target, number);
    }

    /// The steps of probes and errands that are due.
    pub(super) fn work_on_probes(&mut self, now: Duration) {
        let due = |at: Duration| at <= now;
        let probes: Vec<u32> =
            self.waiting.probes.iter().filter(|(_, probe)| due(probe.due())).map(|(n, _)| *n).collect();
        for number in probes {
            if self.waiting.probes.get(&number).is_some_and(|probe| due(probe.fails_at)) {
                self.probe_failed(now, number);
            } else {
                self.ask_others(number);
            }
        }
        let errands: Vec<u32> = self
            .waiting
            .errands
            .iter()
            .filter(|(_, errand)| due(errand.gives_up_at))
            .map(|(n, _)| *n)
            .collect();
        for number in errands {
            if let Some(errand) = self.waiting.errands.remove(&number)
                && self.timing.lifeguard
            {
                self.send(errand.asker, Kind::NackFor { probe: errand.probe });
            }
        }
    }

    fn ask_others(&mut self, number: u32) {
        let Some(probe) = self.waiting.probes.get_mut(&number) else { return };
        let target = probe.target;
        let direct = probe.ask_at.take().map_or(Duration::ZERO, |at| at.saturating_sub(probe.sent));
        let wait_ms = u16::try_from(direct.as_millis()).unwrap_or(u16::MAX);
        let helpers = self.choose(self.timing.helpers, Some(target));
        if let Some(probe) = self.waiting.probes.get_mut(&number) {
            probe.asked = u32::try_from(helpers.len()).unwrap_or(0);
        }
        for helper in helpers {
            self.send(helper, Kind::PingFor { probe: number, target, wait_ms });
        }
    }

    fn probe_failed(&mut self, now: Duration, number: u32) {
        let Some(probe) = self.waiting.probes.remove(&number) else { return };
        self.waiting.missed(number, &probe);
        let nacks = u32::try_from(probe.nacks.len()).unwrap_or(u32::MAX);
        // Whoever hears neither the target nor the helpers is the likely cause.
        self.health.bad(if probe.asked == 0 { 1 } else { probe.asked.saturating_sub(nacks) });
        let belief = self.belief(probe.target);
        if !belief.state.is_present() {
            return;
        }
        if self.timing.lifeguard && !probe.again && nacks < probe.asked.min(CONVINCING_NACKS) {
            self.probe(now, probe.target, true);
            return;
        }
        let mut by = vec![self.me.number];
        if self.timing.lifeguard {
            by.extend(probe.nacks);
        }
        self.hear(now, probe.target, belief.with(State::Suspect), &by);
        if self.timing.lifeguard {
            self.tell(probe.target);
        }
    }

    /// An answer to a probe or an errand of this member.
    pub(super) fn answered(&mut self, now: Duration, from: NodeNumber, number: u32) {
        if self.waiting.probes.get(&number).is_some_and(|probe| probe.target == from) {
            if let Some(probe) = self.waiting.probes.remove(&number) {
                self.measured.round_trip(from, now.saturating_sub(probe.sent));
            }
            self.health.good();
        } else if self.waiting.errands.get(&number).is_some_and(|errand| errand.target == from) {
            if let Some(errand) = self.waiting.errands.remove(&number) {
                self.send(errand.asker, Kind::AckFor { probe: errand.probe });
            }
        } else if let Some(missed) = self.waiting.in_vain(number, from)
            && self.belief(from).state.is_present()
        {
            // Too late to count, but the next probe waits longer. Whoever was
            // believed to have failed was cut off, and is not slow.
            self.measured.round_trip(from, missed.round_trip(now));
        }
    }

    /// A helper got an answer.
    pub(super) fn answered_for(&mut self, number: u32) {
        if self.waiting.probes.remove(&number).is_some() {
            self.health.good();
        }
    }

    /// A helper got none.
    pub(super) fn not_answered_for(&mut self, from: NodeNumber, number: u32) {
        if let Some(probe) = self.waiting.probes.get_mut(&number)
            && probe.nacks.len() < self.timing.helpers
            && !probe.nacks.contains(&from)
        {
            probe.nacks.push(from);
        }
    }

    /// Another member gets no answer from `target`: this one tries.
    pub(super) fn run_errand(
        &mut self,
        now: Duration,
        asker: NodeNumber,
        probe: u32,
        target: NodeNumber,
        wait_ms: u16,
    ) {
        let possible = target != self.me.number && self.roster.has(target);
        if !possible || self.waiting.errands.len() >= MAX_ERRANDS {
            return;
        }
        let number = self.waiting.number();
        let gives_up_at = now + Duration::from_millis(u64::from(wait_ms));
        self.waiting.errands.insert(number, Errand { asker, probe, target, gives_up_at });
        self.ping(target, number);
    }

    fn ping(&mut self, target: NodeNumber, probe: u32) {
        let you = self.belief(target);
        let knows = self.measured.profile_hash(target);
        self.send(target, Kind::Ping { probe, you, knows });
    }

    fn direct_timeout(&self, target: NodeNumber) -> Duration {
        let measured = self.measured.of(target).and_then(|measured| measured.round_trip);
        match measured.or_else(|| self.measured.slowest()) {
            Some(round_trip) => self.timing.direct_timeout.max((round_trip * ROUND_TRIPS).min(MAX_DIRECT)),
            None => self.timing.direct_timeout * UNMEASURED,
        }
    }

    fn is_probed(&self, member: NodeNumber) -> bool {
        member != self.me.number && self.belief(member).state.is_present()
    }

    fn next_in_ring(&self) -> Option<NodeNumber> {
        self.roster.after(self.me.number).find(|member| self.is_probed(*member))
    }

    fn next_in_walk(&mut self) -> Option<NodeNumber> {
        let len = self.roster.len();
        for _ in 0..len.min(MAX_PASSED) {
            let place = self.schedule.walk.next(len, &mut self.chance);
            if let Some(member) = self.roster.at(place)
                && self.is_probed(member)
            {
                return Some(member);
            }
        }
        None
    }

    fn choose_failed(&mut self) -> Option<NodeNumber> {
        let failed = |belief: &crate::members::life::Belief| belief.state == State::Failed;
        let count = self.known.values().filter(|belief| failed(belief)).count();
        if count == 0 {
            return None;
        }
        let chosen = self.chance.below(count);
        self.known.iter().filter(|(_, belief)| failed(belief)).nth(chosen).map(|(member, _)| *member)
    }
}
