//! Which keys a layer may have: a small filter in front of it. Most keys that
//! are asked for are not among the newest, and to find that out in a tree
//! misses the processor's cache at each level; here it is one word.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use xxhash_rust::xxh3::xxh3_64;

/// Words of 64 bits: two marks per key stay few for the rows of a full layer.
const WORDS: usize = 16_384;

/// Where a key is marked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    word: usize,
    bits: u64,
}

impl Mark {
    pub(super) fn of(key: &[u8]) -> Self {
        let hash = xxh3_64(key);
        let word = usize::try_from(hash >> 12).map_or(0, |hash| hash % WORDS);
        Self { word, bits: 1 << (hash & 63) | 1 << (hash >> 6 & 63) }
    }
}

/// The keys of one layer. Clones share the marks: those of keys that came
/// after the clone was made mislead it into a search, never past one.
#[derive(Debug, Clone, Default)]
pub(super) struct Marks(Option<Arc<[AtomicU64]>>);

impl Marks {
    pub(super) fn set(&mut self, mark: Mark) {
        let words = self.0.get_or_insert_with(|| (0..WORDS).map(|_| AtomicU64::new(0)).collect());
        words[mark.word].fetch_or(mark.bits, Ordering::Relaxed);
    }

    /// Whether a key may be there; if not, it is not.
    pub(super) fn may_have(&self, mark: Mark) -> bool {
        let has =
            |words: &Arc<[AtomicU64]>| words[mark.word].load(Ordering::Relaxed) & mark.bits == mark.bits;
        self.0.as_ref().is_some_and(has)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_and_few_others() {
        let mut marks = Marks::default();
        assert!(!marks.may_have(Mark::of(b"key")));
        let keys = |from: u32| (from..from + 54_000).map(|n| Mark::of(&n.to_be_bytes()));
        keys(0).for_each(|mark| marks.set(mark));
        assert!(keys(0).all(|mark| marks.may_have(mark)));
        let misled = keys(1 << 20).filter(|mark| marks.may_have(*mark)).count();
        assert!(misled < 54_000 / 30, "{misled} of 54,000");
    }
}
