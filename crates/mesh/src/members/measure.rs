//! What probes tell besides life: round trips, loads, profiles.

use std::collections::BTreeMap;
use std::time::Duration;

use trine_types::NodeNumber;

use super::profile::hash;

/// Members that measurements are kept of, at most: more than the product's
/// largest cluster has; in larger ones, of those probed last.
pub const MAX_MEASURED: usize = 256;
/// Weight of the newest round trip in the estimate: one eighth, as TCP does.
const SMOOTHING: u32 = 8;

/// What was learnt about one member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// Smoothed round trip of probes.
    pub round_trip: Option<Duration>,
    /// Load, in hundredths of what its cores can do.
    pub load: Option<u16>,
    /// What it says about itself.
    pub profile: Option<Vec<u8>>,
}

/// What was learnt about all.
#[derive(Clone, Debug, Default)]
pub struct Measurements {
    members: BTreeMap<NodeNumber, Measured>,
}

impl Measurements {
    /// What was learnt about a member.
    #[must_use]
    pub fn of(&self, member: NodeNumber) -> Option<&Measured> {
        self.members.get(&member)
    }

    /// A probe was answered after this time.
    pub fn round_trip(&mut self, member: NodeNumber, took: Duration) {
        let measured = self.entry(member);
        measured.round_trip = Some(match measured.round_trip {
            Some(known) => (known * (SMOOTHING - 1) + took) / SMOOTHING,
            None => took,
        });
    }

    /// The slowest round trip that is known.
    #[must_use]
    pub fn slowest(&self) -> Option<Duration> {
        self.members.values().filter_map(|measured| measured.round_trip).max()
    }

    /// A message said how loaded its sender is.
    pub fn load(&mut self, member: NodeNumber, load: u16) {
        // A member that was never measured costs no row: it will be.
        if let Some(measured) = self.members.get_mut(&member) {
            measured.load = Some(load);
        }
    }

    /// A member told its profile.
    pub fn profile(&mut self, member: NodeNumber, profile: Vec<u8>) {
        self.entry(member).profile = Some(profile);
    }

    /// Hash of the profile that is known of a member; 0 if none is.
    #[must_use]
    pub fn profile_hash(&self, member: NodeNumber) -> u32 {
        self.of(member).and_then(|measured| measured.profile.as_ref()).map_or(0, |profile| hash(profile))
    }

    /// Forgets a member.
    pub fn forget(&mut self, member: NodeNumber) {
        self.members.remove(&member);
    }

    fn entry(&mut self, member: NodeNumber) -> &mut Measured {
        if self.members.len() >= MAX_MEASURED && !self.members.contains_key(&member) {
            self.members.pop_first();
        }
        self.members.entry(member).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_are_smoothed_and_rows_bounded() {
        let mut measurements = Measurements::default();
        let peer = NodeNumber(9_999);
        for ms in [8, 16] {
            measurements.round_trip(peer, Duration::from_millis(ms));
        }
        let known = measurements.of(peer).and_then(|measured| measured.round_trip);
        assert_eq!(known, Some(Duration::from_millis(9)));
        (0..2 * MAX_MEASURED as u64).for_each(|n| measurements.round_trip(NodeNumber(n), Duration::ZERO));
        assert!(measurements.members.len() <= MAX_MEASURED);
    }
}
