//! When one replica's ticker is parked, woken, or replaced by an election at
//! once. Pure: the liveness task looks at the node every beat, asks here, and
//! does what it is told.

use std::time::Duration;

use tokio::time::Instant;

use crate::run::liveness::IDLE_AFTER;

/// Pause between two elections that the same silence leads to; the ticker,
/// which is on by then, does the rest.
const ELECT_AGAIN: Duration = Duration::from_secs(1);
/// How long a leader must have been confirmed before a follower parks.
const CONFIRMED_FOR: Duration = Duration::from_millis(500);

/// What a replica is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Situation {
    /// Nobody is known to lead.
    NoLeader { parked: bool },
    /// This node leads.
    Leads {
        parked: bool,
        applied: u64,
        /// Entries are not applied yet, or a live member lacks some.
        busy: bool,
        /// A member was restarted and does not know its leader.
        someone_returned: bool,
    },
    /// Another node leads.
    Follows {
        parked: bool,
        /// Its node is alive and says that it leads in the term known here.
        confirmed: bool,
        /// Its node is silent: this is when it is this replica's turn.
        elect_at: Option<Instant>,
    },
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Stay,
    Park,
    Wake,
    /// Wake, and ask for votes now.
    Elect,
}

/// What is remembered of one replica between two looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pulse {
    applied: u64,
    /// Since when nothing changed (at a leader), or the leader is confirmed.
    quiet_since: Instant,
    elected: Option<Instant>,
}

impl Pulse {
    pub(crate) fn new(now: Instant) -> Self {
        Self { applied: 0, quiet_since: now, elected: None }
    }

    pub(crate) fn step(&mut self, now: Instant, situation: &Situation) -> Step {
        match *situation {
            Situation::NoLeader { parked } => {
                self.quiet_since = now;
                if parked { Step::Wake } else { Step::Stay }
            }
            Situation::Leads { parked, applied, busy, someone_returned } => {
                self.elected = None;
                if busy || someone_returned || applied != self.applied {
                    self.applied = applied;
                    self.quiet_since = now;
                    // A write wakes the group itself.
                    return if parked && (busy || someone_returned) { Step::Wake } else { Step::Stay };
                }
                let idle = now.duration_since(self.quiet_since) >= IDLE_AFTER;
                if idle && !parked { Step::Park } else { Step::Stay }
            }
            Situation::Follows { parked, confirmed: true, .. } => {
                self.elected = None;
                let settled = now.duration_since(self.quiet_since) >= CONFIRMED_FOR;
                if settled && !parked { Step::Park } else { Step::Stay }
            }
            Situation::Follows { parked, confirmed: false, elect_at } => {
                self.quiet_since = now;
                match elect_at {
                    // Not its turn yet: with the ticker on, all followers of
                    // an idle group would ask at the same moment.
                    Some(at) if now < at => Step::Stay,
                    Some(_) if self.elected.is_none_or(|last| now >= last + ELECT_AGAIN) => {
                        self.elected = Some(now);
                        Step::Elect
                    }
                    _ if parked => Step::Wake,
                    _ => Step::Stay,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leads(applied: u64, parked: bool) -> Situation {
        Situation::Leads { parked, applied, busy: false, someone_returned: false }
    }

    #[test]
    fn a_leader_parks_when_idle_and_wakes_for_a_member_that_returned() {
        let now = Instant::now();
        let mut pulse = Pulse::new(now);
        assert_eq!(pulse.step(now, &leads(5, false)), Step::Stay);
        assert_eq!(pulse.step(now + IDLE_AFTER, &leads(5, false)), Step::Park);
        let returned = Situation::Leads { parked: true, applied: 5, busy: false, someone_returned: true };
        assert_eq!(pulse.step(now + IDLE_AFTER, &returned), Step::Wake);
        // Work resets the wait.
        assert_eq!(pulse.step(now + IDLE_AFTER * 2, &leads(6, false)), Step::Stay);
        assert_eq!(pulse.step(now + IDLE_AFTER * 2, &leads(6, false)), Step::Stay);
    }

    #[test]
    fn a_follower_parks_while_its_leader_is_confirmed() {
        let now = Instant::now();
        let mut pulse = Pulse::new(now);
        let confirmed = Situation::Follows { parked: false, confirmed: true, elect_at: None };
        assert_eq!(pulse.step(now, &confirmed), Step::Stay);
        assert_eq!(pulse.step(now + CONFIRMED_FOR, &confirmed), Step::Park);
        let denied = Situation::Follows { parked: true, confirmed: false, elect_at: None };
        assert_eq!(pulse.step(now + CONFIRMED_FOR, &denied), Step::Wake);
    }

    #[test]
    fn a_silent_leader_is_replaced_in_turn_and_not_asked_for_every_beat() {
        let now = Instant::now();
        let mut pulse = Pulse::new(now);
        let turn = now + Duration::from_millis(100);
        let silent = Situation::Follows { parked: true, confirmed: false, elect_at: Some(turn) };
        assert_eq!(pulse.step(now, &silent), Step::Stay);
        assert_eq!(pulse.step(turn, &silent), Step::Elect);
        let awake = Situation::Follows { parked: false, confirmed: false, elect_at: Some(turn) };
        assert_eq!(pulse.step(turn + Duration::from_millis(50), &awake), Step::Stay);
        assert_eq!(pulse.step(turn + ELECT_AGAIN, &awake), Step::Elect);
    }
}
