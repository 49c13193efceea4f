//! Guessing is slowed: after a few failures, each further attempt of the same
//! source (or for the same user) must wait twice as long as the one before.
//! Pure: the time is an argument, and the memory has a bound.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tokio::time::Instant;

/// How fast failures slow down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// So many failures cost nothing.
    pub free: u32,
    /// The wait after the next one; it doubles with each further one.
    pub first: Duration,
    /// The wait does not get longer than this.
    pub longest: Duration,
    /// Failures are forgotten after this time without one.
    pub forget_after: Duration,
    /// So many keys are remembered; the one with the fewest failures, and of
    /// those the oldest, makes room.
    pub capacity: usize,
}

impl Pace {
    /// For one source: ten for nothing, then 100 ms up to 5 s.
    pub const SOURCE: Self = Self {
        free: 10,
        first: Duration::from_millis(100),
        longest: Duration::from_secs(5),
        forget_after: Duration::from_mins(2),
        capacity: 4096,
    };

    /// For one user, whatever the source: five for nothing, then 100 ms up to
    /// 2 s. Shorter, so that strangers who guess do not lock the user out.
    pub const USER: Self = Self { free: 5, longest: Duration::from_secs(2), ..Self::SOURCE };

    fn wait(&self, failures: u32) -> Duration {
        match failures.checked_sub(self.free) {
            None | Some(0) => Duration::ZERO,
            Some(over) => self.first.saturating_mul(1 << (over - 1).min(20)).min(self.longest),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
}

/// The failures of each key.
#[derive(Debug)]
pub struct Slowdown<K> {
    pace: Pace,
    failures: BTreeMap<K, Failures>,
}

impl<K: Ord + Clone> Slowdown<K> {
    /// Nobody has failed yet.
    #[must_use]
    pub fn new(pace: Pace) -> Self {
        Self { pace, failures: BTreeMap::new() }
    }

    /// How long `key` must wait before its next attempt; zero: it may try now.
    pub fn wait(&self, key: &K, now: Instant) -> Duration {
        let Some(failures) = self.failures.get(key) else { return Duration::ZERO };
        if self.is_forgotten(failures, now) {
            return Duration::ZERO;
        }
        self.pace.wait(failures.count).saturating_sub(now.saturating_duration_since(failures.last))
    }

    /// An attempt has failed.
    pub fn failed(&mut self, key: K, now: Instant) {
        if !self.failures.contains_key(&key) && self.failures.len() >= self.pace.capacity {
            self.make_room(now);
        }
        let before = self.failures.get(&key).filter(|failures| !self.is_forgotten(failures, now));
        let count = before.map_or(0, |failures| failures.count).saturating_add(1);
        self.failures.insert(key, Failures { count, last: now });
    }

    /// One of its failures was none.
    pub fn forgive(&mut self, key: &K) {
        if let Some(failures) = self.failures.get_mut(key) {
            failures.count = failures.count.saturating_sub(1);
        }
    }

    /// The right proof was shown: earlier failures of this key are forgotten.
    pub fn forget(&mut self, key: &K) {
        self.failures.remove(key);
    }

    /// Keys that are remembered.
    pub fn remembered(&self) -> usize {
        self.failures.len()
    }

    fn is_forgotten(&self, failures: &Failures, now: Instant) -> bool {
        now.saturating_duration_since(failures.last) >= self.pace.forget_after
    }

    fn make_room(&mut self, now: Instant) {
        let forget_after = self.pace.forget_after;
        self.failures.retain(|_, failures| now.saturating_duration_since(failures.last) < forget_after);
        if self.failures.len() >= self.pace.capacity {
            let least = self.failures.iter().min_by_key(|(_, failures)| (failures.count, failures.last));
            if let Some(key) = least.map(|(key, _)| key.clone()) {
                self.failures.remove(&key);
            }
        }
    }
}

/// A source as one opponent: one IPv4 address, or the IPv6 network of 64 bits
/// that one customer usually has.
#[must_use]
pub fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PACE: Pace = Pace { capacity: 4, ..Pace::SOURCE };

    /// Attempts that get through within `time` if one always tries as soon as
    /// it may.
    fn guesses(pace: Pace, time: Duration) -> u32 {
        let (mut slowdown, mut now) = (Slowdown::new(pace), Instant::now());
        let end = now + time;
        let mut guesses = 0;
        while now < end {
            let wait = slowdown.wait(&1, now);
            now += wait;
            slowdown.failed(1, now);
            guesses += u32::from(now < end);
        }
        guesses
    }

    #[test]
    fn what_was_forgiven_does_not_count() {
        let (mut slowdown, now) = (Slowdown::new(PACE), Instant::now());
        slowdown.forgive(&1);
        for _ in 0..3 * PACE.free {
            slowdown.failed(1, now);
            slowdown.forgive(&1);
        }
        assert_eq!(slowdown.wait(&1, now), Duration::ZERO);
        (0..=PACE.free).for_each(|_| slowdown.failed(1, now));
        assert_eq!(slowdown.wait(&1, now), PACE.first);
        slowdown.forgive(&1);
        assert_eq!(slowdown.wait(&1, now), Duration::ZERO);
    }

    #[test]
    fn a_guesser_gets_a_dozen_tries_and_then_one_in_five_seconds() {
        assert_eq!(guesses(PACE, Duration::from_secs(1)), 14);
        assert_eq!(guesses(PACE, Duration::from_hours(1)), 11 + 6 + 718);
        assert!(guesses(Pace::USER, Duration::from_hours(1)) < 1900);
    }

    #[test]
    fn a_few_typing_mistakes_cost_nothing_and_are_forgotten() {
        let (mut slowdown, now) = (Slowdown::new(PACE), Instant::now());
        (0..10).for_each(|_| slowdown.failed(1, now));
        assert_eq!(slowdown.wait(&1, now), Duration::ZERO);
        slowdown.failed(1, now);
        assert_eq!(slowdown.wait(&1, now), PACE.first);
        assert_eq!(slowdown.wait(&2, now), Duration::ZERO, "another source");
        assert_eq!(slowdown.wait(&1, now + PACE.forget_after), Duration::ZERO);
        slowdown.forget(&1);
        assert_eq!(slowdown.wait(&1, now), Duration::ZERO);
    }

    #[test]
    fn who_guesses_most_is_remembered_longest() {
        let (mut slowdown, now) = (Slowdown::new(PACE), Instant::now());
        (0..20).for_each(|_| slowdown.failed(0, now));
        (1..100).for_each(|key| slowdown.failed(key, now));
        assert_eq!(slowdown.remembered(), PACE.capacity);
        assert!(slowdown.wait(&0, now) > Duration::ZERO);
    }

    #[test]
    fn one_network_is_one_source() {
        let of = |text: &str| source(text.parse().expect("an address"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::2:3"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }

    proptest! {
        #[test]
        fn memory_has_a_bound_and_waits_too(attempts in prop::collection::vec((0_u8..12, 0_u64..9_000), 0..200)) {
            let (mut slowdown, mut now) = (Slowdown::new(PACE), Instant::now());
            for (key, pause) in attempts {
                now += Duration::from_millis(pause);
                slowdown.failed(key, now);
                prop_assert!(slowdown.remembered() <= PACE.capacity);
                prop_assert!(slowdown.wait(&key, now) <= PACE.longest);
            }
        }
    }
}
