//! The calls of one link that have no answer yet: slots that are reused, so
//! that a call costs no allocation here; the id on the wire is slot and
//! generation, so that a late reply to a reused slot is recognised.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::CallError;

/// Deadlines are noticed this late at most.
pub const SWEEP_GRAIN: Duration = Duration::from_millis(10);

/// Where the answer of a call goes.
pub(super) type Answer = oneshot::Sender<Result<Bytes, CallError>>;

#[derive(Debug)]
struct Waiting {
    answer: Answer,
    deadline: Instant,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    waiting: Option<Waiting>,
}

/// The table of calls in flight.
#[derive(Debug, Default)]
pub(super) struct Pending {
    slots: Vec<Slot>,
    free: Vec<u32>,
    next_sweep: Option<Instant>,
}

impl Pending {
    /// Calls in flight.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Adds a call. The second value is true when the sweep must now happen
    /// earlier than was planned.
    pub(super) fn insert(&mut self, answer: Answer, deadline: Instant) -> (u64, bool) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).expect("max_calls keeps the table far below 2^32 slots")
        });
        let slot = &mut self.slots[index as usize];
        slot.waiting = Some(Waiting { answer, deadline });
        let id = u64::from(slot.generation) << 32 | u64::from(index);
        let earlier = self.next_sweep.is_none_or(|planned| deadline + SWEEP_GRAIN < planned);
        if earlier {
            self.next_sweep = Some(deadline);
        }
        (id, earlier)
    }

    /// Removes the call with this id; `None` when it was answered before.
    pub(super) fn remove(&mut self, id: u64) -> Option<Answer> {
        let index = u32::try_from(id & u64::from(u32::MAX)).ok()?;
        let slot = self.slots.get_mut(index as usize)?;
        if u64::from(slot.generation) != id >> 32 {
            return None;
        }
        let waiting = slot.waiting.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
        Some(waiting.answer)
    }

    /// When to sweep next, if any call waits.
    pub(super) fn next_sweep(&self) -> Option<Instant> {
        self.next_sweep
    }

    /// Removes the calls whose deadline is over and plans the next sweep.
    pub(super) fn sweep(&mut self, now: Instant) -> Vec<(u64, Answer)> {
        let mut due = Vec::new();
        let mut earliest: Option<Instant> = None;
        for (index, slot) in self.slots.iter().enumerate() {
            if let Some(waiting) = &slot.waiting {
                if waiting.deadline <= now {
                    due.push(u64::from(slot.generation) << 32 | index as u64);
                } else {
                    earliest = Some(earliest.map_or(waiting.deadline, |seen| seen.min(waiting.deadline)));
                }
            }
        }
        self.next_sweep = earliest.map(|deadline| deadline.max(now + SWEEP_GRAIN));
        due.into_iter().filter_map(|id| self.remove(id).map(|answer| (id, answer))).collect()
    }

    /// Removes every call.
    pub(super) fn drain(&mut self) -> Vec<(u64, Answer)> {
        self.next_sweep = None;
        let all = self.slots.iter().enumerate().filter(|(_, slot)| slot.waiting.is_some());
        let ids: Vec<u64> =
            all.map(|(index, slot)| u64::from(slot.generation) << 32 | index as u64).collect();
        ids.into_iter().filter_map(|id| self.remove(id).map(|answer| (id, answer))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Answer {
        oneshot::channel().0
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_reply_does_not_reach_the_next_call_in_its_slot() {
        let mut pending = Pending::default();
        let (first, _) = pending.insert(answer(), Instant::now());
        assert!(pending.remove(first).is_some());
        let (second, _) = pending.insert(answer(), Instant::now());
        assert_ne!(first, second);
        assert!(pending.remove(first).is_none());
        assert_eq!(pending.len(), 1);
        assert!(pending.remove(u64::MAX).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_sweep_takes_what_is_due_and_plans_the_next() {
        let mut pending = Pending::default();
        let now = Instant::now();
        let second = Duration::from_secs(1);
        assert!(pending.insert(answer(), now + second).1, "the first call plans a sweep");
        assert!(!pending.insert(answer(), now + 2 * second).1, "a later one needs no earlier sweep");
        assert!(pending.insert(answer(), now + second / 2).1, "an earlier one does");
        assert_eq!(pending.next_sweep(), Some(now + second / 2));
        assert_eq!(pending.sweep(now + second).len(), 2);
        assert_eq!(pending.next_sweep(), Some(now + 2 * second));
        assert_eq!(pending.drain().len(), 1);
        assert_eq!((pending.len(), pending.next_sweep()), (0, None));
    }
}
