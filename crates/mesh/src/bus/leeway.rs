//! Who takes nothing is not waited for, so that what is published fills its
//! outbox beyond the size from which publishers usually wait. That memory is
//! bounded for one receiver by its outbox, and for all of a node here: only a
//! few receivers may be passed over at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Receivers of a node that are passed over at a time; for more of them
/// publishers wait until they are cut off.
pub(super) const MOST_PASSED_OVER: usize = 4;

/// The places that are taken, for all receivers of one bus.
#[derive(Clone, Debug, Default)]
pub(super) struct Leeway(Arc<AtomicUsize>);

impl Leeway {
    /// A place, if there is one.
    pub(super) fn place(&self) -> Option<Place> {
        let more = |taken| (taken < MOST_PASSED_OVER).then_some(taken + 1);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Place(self.0.clone()))
    }
}

/// A receiver's place; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        let before = self.0.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before > 0, "a place is given back once");
    }
}
