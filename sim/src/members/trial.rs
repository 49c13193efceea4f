//! What crowds go through: single crashes; and Lifeguard's workload, in which
//! some members are blocked again and again while nobody crashes.

use std::collections::BTreeSet;
use std::time::Duration;

use trine_mesh::members::Timing;

use super::crowd::{Crowd, Setting};

/// Time before anything is measured: everybody has probed somebody.
const WARM_UP: Duration = Duration::from_secs(3);
/// A crash that not all know of by then never will be.
const PATIENCE: Duration = Duration::from_mins(2);
/// Between two crashes in one crowd.
const PAUSE: Duration = Duration::from_secs(3);
/// Quiet time over which the load is measured.
const QUIET: Duration = Duration::from_secs(10);

/// Which protocol a crowd speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// As the product does.
    Product,
    /// The same times without Lifeguard.
    Plain,
    /// memberlist's times without Lifeguard.
    Memberlist,
}

impl Protocol {
    /// All, in the order of the tables.
    pub const ALL: [Self; 3] = [Self::Product, Self::Plain, Self::Memberlist];

    /// Its times for a number of members.
    #[must_use]
    pub fn timing(self, members: usize) -> Timing {
        match self {
            Self::Product => Timing::of(members),
            Self::Plain => Timing::plain(members),
            Self::Memberlist => Timing::memberlist(members),
        }
    }

    /// Its name in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Product => "trine (SWIM with Lifeguard)",
            Self::Plain => "plain SWIM, the same times",
            Self::Memberlist => "plain SWIM, memberlist's times",
        }
    }
}

/// What crashes showed.
#[derive(Clone, Debug, Default)]
pub struct Crashes {
    /// From each crash until the first member believed it.
    pub first: Vec<Duration>,
    /// From each crash until all did.
    pub all: Vec<Duration>,
    /// Crashes that not everybody learnt of.
    pub missed: usize,
    /// Beliefs in the failure of a member that ran.
    pub false_positives: usize,
    /// How long members were watched in all, in seconds of one member.
    pub member_seconds: f64,
    /// Messages and bytes that each member sent per second when nothing
    /// happened.
    pub quiet_load: (f64, f64),
    /// The same from a crash until all knew.
    pub crash_load: (f64, f64),
}

/// Crashes members one after the other and waits until all know.
#[must_use]
pub fn crashes(setting: &Setting, count: usize) -> Crashes {
    let mut crowd = Crowd::new(setting);
    let mut shown = Crashes::default();
    crowd.run(WARM_UP, |_| false);
    let before = crowd.traffic;
    crowd.run(WARM_UP + QUIET, |_| false);
    shown.quiet_load = load(&crowd, before, QUIET);
    let mut crashed = BTreeSet::new();
    let (mut busy, mut busy_messages, mut busy_bytes) = (0.0, 0.0, 0.0);
    for _ in 0..count {
        let pause = crowd.random(PAUSE) + PAUSE;
        crowd.run(crowd.now() + pause, |_| false);
        let victim = crowd.pick();
        crowd.crash(victim);
        crashed.insert(victim);
        let (at, from, traffic) = (crowd.now(), crowd.verdicts.len(), crowd.traffic);
        let everybody = crowd.running();
        let (mut seen, mut told, mut first) = (from, 0, None);
        crowd.run(at + PATIENCE, |crowd| {
            for verdict in &crowd.verdicts[seen..] {
                if verdict.about == victim {
                    told += 1;
                    first.get_or_insert(verdict.at.saturating_sub(at));
                }
            }
            seen = crowd.verdicts.len();
            told >= everybody
        });
        let took = crowd.now().saturating_sub(at);
        if took < PATIENCE {
            shown.all.push(took);
            shown.first.extend(first);
        } else {
            shown.missed += 1;
        }
        let (messages, bytes) = load(&crowd, traffic, took);
        busy += took.as_secs_f64();
        busy_messages += messages * took.as_secs_f64();
        busy_bytes += bytes * took.as_secs_f64();
    }
    shown.crash_load = (busy_messages / busy, busy_bytes / busy);
    shown.false_positives = crowd.verdicts.iter().filter(|verdict| !crashed.contains(&verdict.about)).count();
    shown.member_seconds = crowd.now().as_secs_f64() * as_float(setting.members);
    shown
}

fn load(crowd: &Crowd, before: super::crowd::Traffic, over: Duration) -> (f64, f64) {
    let member_seconds = over.as_secs_f64() * as_float(crowd.running());
    let messages = crowd.traffic.messages - before.messages;
    let bytes = crowd.traffic.bytes - before.bytes;
    (wide(messages) / member_seconds, wide(bytes) / member_seconds)
}

/// Lifeguard's workload (section V of the paper): `slow` members are blocked
/// together for `blocked`, run for `between`, and so on.
#[derive(Clone, Copy, Debug)]
pub struct Slowness {
    /// How many members are slow.
    pub slow: usize,
    /// How long they are blocked each time.
    pub blocked: Duration,
    /// How long they run in between.
    pub between: Duration,
}

/// What was believed wrongly while some members were slow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wrongs {
    /// By anybody, about a member that was not slow.
    pub about_healthy: usize,
    /// Of those: by a member that was not slow either.
    pub among_healthy: usize,
    /// By anybody, about a slow member while it could not answer.
    pub about_slow: usize,
}

impl std::ops::AddAssign for Wrongs {
    fn add_assign(&mut self, other: Self) {
        self.about_healthy += other.about_healthy;
        self.among_healthy += other.among_healthy;
        self.about_slow += other.about_slow;
    }
}

/// Runs that workload for a while.
#[must_use]
pub fn slow_members(setting: &Setting, slowness: Slowness, length: Duration) -> Wrongs {
    let mut crowd = Crowd::new(setting);
    crowd.run(WARM_UP, |_| false);
    let mut slow = BTreeSet::new();
    while slow.len() < slowness.slow {
        slow.insert(crowd.pick());
    }
    let end = crowd.now() + length;
    while crowd.now() < end {
        for member in &slow {
            crowd.block(*member, slowness.blocked);
        }
        crowd.run(crowd.now() + slowness.blocked + slowness.between, |_| false);
    }
    let mut wrongs = Wrongs::default();
    for verdict in &crowd.verdicts {
        if slow.contains(&verdict.about) {
            wrongs.about_slow += 1;
        } else {
            wrongs.about_healthy += 1;
            wrongs.among_healthy += usize::from(!slow.contains(&verdict.by));
        }
    }
    wrongs
}

fn as_float(count: usize) -> f64 {
    wide(count as u64)
}

fn wide(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::members::crowd::Blocked;

    fn setting(members: usize, protocol: Protocol, loss: f64, seed: u64) -> Setting {
        Setting { members, timing: protocol.timing(members), loss, blocked: Blocked::Messages, seed }
    }

    /// The promise for 50 members, on virtual time: exact on any machine.
    #[test]
    fn fifty_members_know_of_a_crash_within_the_promise() {
        for seed in 0..4 {
            let shown = crashes(&setting(50, Protocol::Product, 0.0, seed), 3);
            let slowest = shown.all.iter().max().copied();
            assert!(slowest.is_some_and(|all| all <= Duration::from_millis(1_500)), "{seed}: {shown:?}");
            assert_eq!((shown.missed, shown.false_positives), (0, 0));
            assert!(shown.quiet_load.0 <= 10.0 && shown.quiet_load.1 <= 10_000.0, "{shown:?}");
        }
    }

    #[test]
    fn slow_members_hurt_plain_swim_and_not_the_product() {
        let slowness =
            Slowness { slow: 8, blocked: Duration::from_secs(4), between: Duration::from_millis(64) };
        let wrongs = |protocol| {
            slow_members(&setting(50, protocol, 0.0, 1), slowness, Duration::from_secs(40)).about_healthy
        };
        let (product, plain) = (wrongs(Protocol::Product), wrongs(Protocol::Plain));
        assert!(plain > 50 && product * 50 <= plain, "{product} of {plain}");
    }

    #[test]
    fn a_seed_repeats_exactly() {
        let run = || crashes(&setting(20, Protocol::Product, 0.05, 7), 2).all;
        assert_eq!(run(), run());
    }
}
