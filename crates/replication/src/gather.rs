//! How many commands a batch or frame waits for. Most clients send their next
//! command when they have the reply to the last one: when a batch has come
//! back, about as many as it carried will be here in a moment, and a round
//! costs more than the commands in it. So the next one waits for them, for a
//! part of the time that a round takes anyway. A few commands never wait.

use std::time::Duration;

use tokio::time::Instant;

/// Fewer commands than this in hand are not worth waiting for.
const FEW: usize = 8;
/// More than this do not make a round cheaper by command.
const ENOUGH: usize = 512;
/// The wait is at most this long, and at most this part of the last round.
/// Timers end at the next millisecond: it is longer than it seems.
const MOST: Duration = Duration::from_millis(2);
const PART: u32 = 8;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    /// When the last batch left.
    left: Option<Instant>,
    /// What the next one waits for, and for how long.
    wanted: usize,
    until: Option<Instant>,
}

impl Gather {
    /// A batch leaves.
    pub(crate) fn left(&mut self, now: Instant) {
        self.left = Some(now);
        self.until = None;
    }

    /// A batch of `answered` commands came back while `waiting` others had
    /// gathered.
    pub(crate) fn came_back(&mut self, now: Instant, answered: usize, waiting: usize) {
        let hand = answered + waiting;
        self.until = None;
        if hand >= FEW
            && let Some(left) = self.left
        {
            // Some clients take their time.
            self.wanted = (hand - hand / 8).min(ENOUGH);
            let round = now.saturating_duration_since(left);
            self.until = Some(now + (round / PART).min(MOST));
        }
    }

    /// Until when to wait, and for how many more commands, if `waiting` have
    /// gathered.
    pub(crate) fn wait(&mut self, now: Instant, waiting: usize) -> Option<(Instant, usize)> {
        let until = self.until.filter(|until| now < *until && waiting < self.wanted);
        self.until = until;
        until.map(|until| (until, self.wanted - waiting))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND: Duration = Duration::from_millis(3);

    fn after_a_round(answered: usize, waiting: usize) -> (Gather, Instant) {
        let start = Instant::now();
        let mut gather = Gather::default();
        gather.left(start);
        gather.came_back(start + ROUND, answered, waiting);
        (gather, start + ROUND)
    }

    #[test]
    fn few_commands_do_not_wait() {
        let (mut gather, now) = after_a_round(FEW - 1, 0);
        assert_eq!(gather.wait(now, 0), None);
    }

    #[test]
    fn many_wait_for_as_many_as_were_in_hand_but_not_for_long() {
        let (mut gather, now) = after_a_round(60, 20);
        assert_eq!(gather.wait(now, 20), Some((now + ROUND / PART, 50)));
        assert_eq!(gather.wait(now, 69), Some((now + ROUND / PART, 1)));
        assert_eq!(gather.wait(now, 70), None);
        assert_eq!(gather.wait(now, 0), None, "it waited once");
        let (mut gather, now) = after_a_round(60, 20);
        assert_eq!(gather.wait(now + ROUND / PART, 20), None, "its time is over");
    }

    #[test]
    fn nothing_waits_longer_than_the_limit_or_for_more_than_enough() {
        let start = Instant::now();
        let mut gather = Gather::default();
        gather.left(start);
        let now = start + Duration::from_secs(1);
        gather.came_back(now, 10_000, 0);
        assert_eq!(gather.wait(now, 0), Some((now + MOST, ENOUGH)));
    }
}
