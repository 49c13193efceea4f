//! A set of task indexes as ranges: a million tasks that wait are one row.

use std::collections::BTreeMap;

/// Disjoint, non-adjacent ranges: first index to the one after the last.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ranges {
    spans: BTreeMap<u64, u64>,
    len: u64,
}

impl Ranges {
    /// Nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many indexes are in.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Is none in?
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many rows that takes.
    #[must_use]
    pub fn spans(&self) -> usize {
        self.spans.len()
    }

    /// The smallest index.
    #[must_use]
    pub fn first(&self) -> Option<u64> {
        self.spans.first_key_value().map(|(start, _)| *start)
    }

    /// Is `index` in?
    #[must_use]
    pub fn contains(&self, index: u64) -> bool {
        self.around(index).is_some()
    }

    fn around(&self, index: u64) -> Option<(u64, u64)> {
        let (start, end) = self.spans.range(..=index).next_back()?;
        (index < *end).then_some((*start, *end))
    }

    /// Adds `from..to`, which must lie behind everything that is in.
    pub fn append(&mut self, from: u64, to: u64) {
        debug_assert!(self.spans.last_key_value().is_none_or(|(_, end)| *end <= from), "ranges only grow");
        if from >= to {
            return;
        }
        self.len += to - from;
        match self.spans.last_entry() {
            Some(mut last) if *last.get() == from => *last.get_mut() = to,
            _ => {
                self.spans.insert(from, to);
            }
        }
    }

    /// Takes `index` out; false if it was not in.
    pub fn remove(&mut self, index: u64) -> bool {
        let Some((start, end)) = self.around(index) else { return false };
        self.spans.remove(&start);
        if start < index {
            self.spans.insert(start, index);
        }
        if index + 1 < end {
            self.spans.insert(index + 1, end);
        }
        self.len -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::Ranges;

    #[test]
    fn a_million_is_one_row() {
        let mut ranges = Ranges::new();
        for batch in 0..1000 {
            ranges.append(batch * 1000, (batch + 1) * 1000);
        }
        assert_eq!((ranges.len(), ranges.spans()), (1_000_000, 1));
        for index in 0..500_000 {
            assert!(ranges.remove(index));
        }
        assert_eq!((ranges.len(), ranges.spans(), ranges.first()), (500_000, 1, Some(500_000)));
    }

    proptest! {
        #[test]
        fn equals_a_set(steps in prop::collection::vec((any::<bool>(), 0_u64..6, 0_u64..64), 0..80)) {
            let (mut ranges, mut set, mut end) = (Ranges::new(), BTreeSet::new(), 0);
            for (grow, gap, index) in steps {
                if grow {
                    ranges.append(end + gap, end + gap + index);
                    set.extend(end + gap..end + gap + index);
                    end += gap + index;
                } else {
                    prop_assert_eq!(ranges.remove(index), set.remove(&index));
                }
                prop_assert_eq!(ranges.len(), set.len() as u64);
                prop_assert_eq!(ranges.first(), set.first().copied());
                prop_assert_eq!(ranges.contains(index), set.contains(&index));
            }
        }
    }
}
