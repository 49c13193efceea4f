//! Counting connections: a permit per connection, in all and per source.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Limits;

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    by_source: BTreeMap<IpAddr, usize>,
}

/// Counts the connections of one listener.
#[derive(Debug, Clone)]
pub struct Admission {
    limits: Limits,
    // A mutex and no task: permits are returned from the drop of whichever
    // task served the connection, and a drop cannot wait for an answer.
    counts: Arc<Mutex<Counts>>,
}

impl Admission {
    /// Nothing admitted yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, counts: Arc::default() }
    }

    /// Admits one more connection from `source`, or says no.
    #[must_use]
    pub fn admit(&self, source: IpAddr) -> Option<Permit> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let of_source = counts.by_source.get(&source).copied().unwrap_or(0);
        if counts.total >= self.limits.max_connections || of_source >= self.limits.max_per_source {
            return None;
        }
        counts.total += 1;
        counts.by_source.insert(source, of_source + 1);
        Some(Permit { counts: Arc::clone(&self.counts), source })
    }

    /// Connections admitted now.
    #[must_use]
    pub fn admitted(&self) -> usize {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).total
    }
}

/// The right to one connection; dropping it makes room for another.
#[derive(Debug)]
pub struct Permit {
    // Shared as in [`Admission`]: a drop cannot wait for a task's answer.
    counts: Arc<Mutex<Counts>>,
    source: IpAddr,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total -= 1;
        if let Some(of_source) = counts.by_source.get_mut(&self.source) {
            *of_source -= 1;
            if *of_source == 0 {
                counts.by_source.remove(&self.source);
            }
        }
    }
}

/// Shortest pause between two lines of the log about refused connections.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Refused connections, so that a flood of them does not flood the log.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    told_at: Option<Instant>,
    untold: u64,
}

impl Refusals {
    /// Notes one more; how many to tell of, if it is time to.
    pub(crate) fn note(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        if self.told_at.is_some_and(|told_at| now < told_at + TELL_EVERY) {
            return None;
        }
        self.told_at = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_of_once_a_second_and_none_is_left_out() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        assert_eq!(refusals.note(start), Some(1));
        assert_eq!(refusals.note(start + TELL_EVERY / 2), None);
        assert_eq!(refusals.note(start + TELL_EVERY), Some(2));
        assert_eq!(refusals.note(start + TELL_EVERY * 3), Some(1));
    }

    fn source(last: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, last])
    }

    #[test]
    fn a_returned_permit_makes_room() {
        let admission = Admission::new(Limits { max_connections: 2, max_per_source: 2, backlog: 1 });
        let first = admission.admit(source(1));
        let second = admission.admit(source(1));
        assert!(first.is_some() && second.is_some() && admission.admit(source(1)).is_none());
        drop(first);
        assert_eq!(admission.admitted(), 1);
        assert!(admission.admit(source(1)).is_some());
    }

    #[test]
    fn one_source_cannot_take_everything() {
        let admission = Admission::new(Limits { max_connections: 10, max_per_source: 1, backlog: 1 });
        let _first = admission.admit(source(1));
        assert!(admission.admit(source(1)).is_none());
        assert!(admission.admit(source(2)).is_some());
    }
}
