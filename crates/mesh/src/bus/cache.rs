//! What one publisher remembers of the table: the routes of the subjects that
//! it published to lately. A hit takes no lock and allocates nothing.
//!
//! Whether a remembered route still holds is known from counters that the
//! table's owner raises with each change: one for the filters that begin with
//! a wildcard, and one per hash of a filter's first token, so that subscribing
//! to `_INBOX.…` does not make publishers of `orders.…` look again.

use std::sync::atomic::{AtomicU64, Ordering};

use trine_types::subject::tokens;

use super::routes::Routes;

/// Counters of changes by first token. More of them: fewer routes looked up
/// again without need.
const NARROW: usize = 256;

/// Slots that a cache begins with and ends with at most; each holds one
/// subject. It grows when subjects displace each other.
const MIN_SLOTS: usize = 16;
const MAX_SLOTS: usize = 4096;

/// Targets that one cache holds at most, over all its subjects: bounds what a
/// publisher costs when its subjects have very many subscribers.
const MAX_TARGETS: usize = 65_536;

/// The counters of changes.
#[derive(Debug)]
pub(super) struct Versions {
    wide: AtomicU64,
    narrow: [AtomicU64; NARROW],
}

impl Default for Versions {
    fn default() -> Self {
        Self { wide: AtomicU64::new(0), narrow: [const { AtomicU64::new(0) }; NARROW] }
    }
}

impl Versions {
    /// Notes that subscriptions to `filter` changed. Called while the table is
    /// locked for writing.
    pub(super) fn changed(&self, filter: &[u8]) {
        let first = tokens(filter).next().unwrap_or_default();
        let counter = if matches!(first, b"*" | b">") { &self.wide } else { &self.narrow[place(first)] };
        counter.fetch_add(1, Ordering::Release);
    }

    /// Notes that anything may have changed.
    pub(super) fn changed_all(&self) {
        self.wide.fetch_add(1, Ordering::Release);
    }

    fn now(&self, place: usize) -> (u64, u64) {
        (self.wide.load(Ordering::Acquire), self.narrow[place].load(Ordering::Acquire))
    }
}

fn place(token: &[u8]) -> usize {
    usize::try_from(hash(token) >> 32).unwrap_or(0) % NARROW
}

/// A fast hash of short names. Whoever makes its own subjects collide only
/// makes its own cache miss.
fn hash(bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut state = bytes.len() as u64;
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let word = u64::from_le_bytes(word.try_into().unwrap_or_default());
        state = (state.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    }
    for byte in words.remainder() {
        state = (state.rotate_left(5) ^ u64::from(*byte)).wrapping_mul(FACTOR);
    }
    state ^ (state >> 29)
}

struct Slot {
    hash: u64,
    subject: Box<[u8]>,
    place: usize,
    /// The counters when the routes were worked out.
    versions: (u64, u64),
    routes: Routes,
}

/// See the file's head.
#[derive(Default)]
pub(super) struct Cache {
    slots: Vec<Option<Slot>>,
    targets: usize,
    displaced: usize,
}

impl Cache {
    /// The routes of `subject`: remembered ones if they still hold, otherwise
    /// those that `work_out` finds in the table. The counters are read before
    /// `work_out` runs, so that a change during it is noticed next time.
    pub(super) fn find(
        &mut self,
        versions: &Versions,
        subject: &[u8],
        work_out: impl FnOnce() -> Routes,
    ) -> &Routes {
        let hash = hash(subject);
        let at = self.at(hash);
        let held = self.slots.get(at).and_then(Option::as_ref).is_some_and(|slot| {
            slot.hash == hash && *slot.subject == *subject && slot.versions == versions.now(slot.place)
        });
        let at = if held { at } else { self.fill(hash, versions, subject, work_out) };
        match &self.slots[at] {
            Some(slot) => &slot.routes,
            None => unreachable!("a held slot is filled, and fill fills it"),
        }
    }

    fn at(&self, hash: u64) -> usize {
        usize::try_from(hash).unwrap_or(usize::MAX) & self.slots.len().wrapping_sub(1)
    }

    #[cold]
    fn fill(
        &mut self,
        hash: u64,
        versions: &Versions,
        subject: &[u8],
        work_out: impl FnOnce() -> Routes,
    ) -> usize {
        let place = place(tokens(subject).next().unwrap_or_default());
        let now = versions.now(place);
        let routes = work_out();
        self.make_room(hash, subject, routes.weight());
        let at = self.at(hash);
        self.targets += routes.weight();
        if let Some(old) = &self.slots[at] {
            self.targets -= old.routes.weight();
        }
        self.slots[at] = Some(Slot { hash, subject: subject.into(), place, versions: now, routes });
        at
    }

    /// Grows or empties the slots before another subject is remembered.
    fn make_room(&mut self, hash: u64, subject: &[u8], weight: usize) {
        let mut size = self.slots.len().max(MIN_SLOTS);
        let taken = self.slots.get(self.at(hash)).and_then(Option::as_ref);
        self.displaced += usize::from(taken.is_some_and(|slot| *slot.subject != *subject));
        let grow = self.displaced > size && size < MAX_SLOTS;
        if grow {
            size *= 2;
        }
        if grow || self.slots.is_empty() || self.targets + weight > MAX_TARGETS {
            self.slots.clear();
            self.slots.resize_with(size, || None);
            (self.targets, self.displaced) = (0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looked_up(cache: &mut Cache, versions: &Versions, subject: &str) -> bool {
        let mut looked = false;
        cache.find(versions, subject.as_bytes(), || {
            looked = true;
            Routes::default()
        });
        looked
    }

    #[test]
    fn only_changes_that_may_matter_make_it_look_again() {
        let (mut cache, versions) = (Cache::default(), Versions::default());
        assert!(looked_up(&mut cache, &versions, "a.b"));
        assert!(!looked_up(&mut cache, &versions, "a.b"));
        versions.changed(b"other.>");
        assert!(!looked_up(&mut cache, &versions, "a.b"));
        for filter in ["a.c", "*.b", ">"] {
            versions.changed(filter.as_bytes());
            assert!(looked_up(&mut cache, &versions, "a.b"), "{filter}");
        }
        versions.changed_all();
        assert!(looked_up(&mut cache, &versions, "a.b"));
    }

    #[test]
    fn it_grows_to_what_is_used_and_no_further() {
        let (mut cache, versions) = (Cache::default(), Versions::default());
        let subjects = |count: usize| (0..count).map(|n| format!("s.{n}"));
        for _ in 0..100 {
            for subject in subjects(1000) {
                looked_up(&mut cache, &versions, &subject);
            }
        }
        let missed = subjects(1000).filter(|subject| looked_up(&mut cache, &versions, subject)).count();
        assert!(missed < 400, "{missed} of 1000 missed");
        for subject in subjects(100_000) {
            looked_up(&mut cache, &versions, &subject);
        }
        assert!(cache.slots.len() <= MAX_SLOTS && cache.targets <= MAX_TARGETS);
    }
}
