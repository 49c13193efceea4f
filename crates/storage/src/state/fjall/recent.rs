//! The newest rows of one keyspace, in memory, in front of what fjall has on
//! disk. Pure.
//!
//! fjall's own buffer is a skip list: each level of a search is a miss of the
//! processor's cache, and it was half of what applying a write cost. Here rows
//! lie in a persistent B-tree whose nodes hold the first 16 bytes of each key
//! in place, so that a search rarely follows a pointer; and a copy of the whole
//! map, for a view, costs nothing.

use std::iter::Peekable;
use std::ops::Bound;

use bytes::Bytes;
use imbl::OrdMap;

/// What a row costs in memory beside its bytes, about.
const ROW_OVERHEAD: usize = 96;

/// A key that compares mostly without following its pointer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct RowKey {
    /// The first bytes, so that number order is byte order; zeros follow a
    /// shorter key.
    head: [u64; 2],
    key: Bytes,
}

impl RowKey {
    fn new(key: Bytes) -> Self {
        let mut head = [0; 16];
        let length = key.len().min(16);
        head[..length].copy_from_slice(&key[..length]);
        let (first, second) = head.split_at(8);
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        Self { head: [number(first), number(second)], key }
    }

    fn probe(key: &[u8]) -> Self {
        Self::new(Bytes::copy_from_slice(key))
    }
}

/// Rows by key; `None` marks one that was removed.
#[derive(Debug, Clone, Default)]
pub(super) struct Layer {
    rows: OrdMap<RowKey, Option<Bytes>>,
    bytes: usize,
}

/// What is known about a row without asking the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// Its value.
    Value(Bytes),
    /// There is no such row.
    Removed,
}

impl Known {
    pub(super) fn value(self) -> Option<Bytes> {
        match self {
            Self::Value(value) => Some(value),
            Self::Removed => None,
        }
    }
}

fn cost(key_bytes: usize, value: Option<&Bytes>) -> usize {
    ROW_OVERHEAD + key_bytes + value.map_or(0, Bytes::len)
}

impl Layer {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Memory that the rows take, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn set(&mut self, key: Bytes, value: Option<Bytes>) {
        let key_bytes = key.len();
        self.bytes += cost(key_bytes, value.as_ref());
        if let Some(before) = self.rows.insert(RowKey::new(key), value) {
            self.bytes -= cost(key_bytes, before.as_ref());
        }
    }

    /// All rows in order.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&Bytes, Option<&Bytes>)> {
        self.rows.iter().map(|(row, value)| (&row.key, value.as_ref()))
    }
}

/// What is not on disk yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Recent {
    /// Takes changes.
    pub(super) active: Layer,
    /// Is being written to disk; older than `active`.
    pub(super) sealed: Layer,
}

impl Recent {
    /// What is known about `key`; `None` when the disk has to be asked.
    pub(super) fn get(&self, key: &[u8]) -> Option<Known> {
        if self.active.is_empty() && self.sealed.is_empty() {
            return None;
        }
        let probe = RowKey::probe(key);
        let row = self.active.rows.get(&probe).or_else(|| self.sealed.rows.get(&probe))?;
        Some(row.clone().map_or(Known::Removed, Known::Value))
    }

    /// Rows between the bounds: these over those of `disk`, in order.
    pub(super) fn over<E>(
        &self,
        (from, to): (Bound<&[u8]>, Bound<&[u8]>),
        disk: impl Iterator<Item = Result<(Bytes, Bytes), E>>,
    ) -> impl Iterator<Item = Result<(Bytes, Bytes), E>> {
        let (from, to) = (from.map(RowKey::probe), to.map(RowKey::probe));
        let bounds = || (from.as_ref(), to.as_ref());
        let changed = |(row, value): (&RowKey, &Option<Bytes>)| Ok((row.key.clone(), value.clone()));
        let disk = disk.map(|row| row.map(|(key, value)| (key, Some(value))));
        let sealed = self.sealed.rows.range::<_, RowKey>(bounds()).map(changed);
        let active = self.active.rows.range::<_, RowKey>(bounds()).map(changed);
        let merged = Merge::new(active, Merge::new(sealed, disk));
        merged.filter_map(|row| match row {
            Ok((key, value)) => value.map(|value| Ok((key, value))),
            Err(error) => Some(Err(error)),
        })
    }
}

type Change = (Bytes, Option<Bytes>);

/// Two ordered sequences as one; where both have a key, the newer counts.
struct Merge<N: Iterator, O: Iterator> {
    newer: Peekable<N>,
    older: Peekable<O>,
}

impl<N: Iterator, O: Iterator> Merge<N, O> {
    fn new(newer: N, older: O) -> Self {
        Self { newer: newer.peekable(), older: older.peekable() }
    }
}

impl<E, N, O> Iterator for Merge<N, O>
where
    N: Iterator<Item = Result<Change, E>>,
    O: Iterator<Item = Result<Change, E>>,
{
    type Item = Result<Change, E>;

    fn next(&mut self) -> Option<Self::Item> {
        let (Some(Ok((newer, _))), Some(Ok((older, _)))) = (self.newer.peek(), self.older.peek()) else {
            // One of them is at its end or has failed.
            return match self.newer.peek() {
                Some(_) if !matches!(self.older.peek(), Some(Err(_))) => self.newer.next(),
                _ => self.older.next(),
            };
        };
        match newer.cmp(older) {
            std::cmp::Ordering::Less => self.newer.next(),
            std::cmp::Ordering::Greater => self.older.next(),
            std::cmp::Ordering::Equal => {
                self.older.next();
                self.newer.next()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        // Few bytes, and lengths around that of the head, so that keys meet.
        prop::collection::vec(prop::sample::select(vec![0_u8, 1, 255]), 0..3).prop_flat_map(|tail| {
            prop::sample::select(vec![0_usize, 7, 8, 14, 16]).prop_map(move |zeros| {
                let mut key = vec![0; zeros];
                key.extend_from_slice(&tail);
                key
            })
        })
    }

    fn changes() -> impl Strategy<Value = Vec<(Vec<u8>, Option<Vec<u8>>)>> {
        prop::collection::vec((key(), prop::option::of(prop::collection::vec(any::<u8>(), 0..3))), 0..20)
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_the_bytes(one in key(), two in key()) {
            prop_assert_eq!(RowKey::probe(&one).cmp(&RowKey::probe(&two)), one.cmp(&two));
        }

        #[test]
        fn the_layers_read_like_one_map(
            disk in changes(), sealed in changes(), active in changes(), from in key(), to in key(),
        ) {
            let mut model: BTreeMap<Bytes, Bytes> = BTreeMap::new();
            let mut recent = Recent::default();
            let disk: BTreeMap<Bytes, Bytes> =
                disk.into_iter().filter_map(|(key, value)| Some((key.into(), value?.into()))).collect();
            model.extend(disk.clone());
            for (layer, changes) in [(&mut recent.sealed, sealed), (&mut recent.active, active)] {
                for (key, value) in changes {
                    let (key, value) = (Bytes::from(key), value.map(Bytes::from));
                    layer.set(key.clone(), value.clone());
                    match value {
                        Some(value) => model.insert(key, value),
                        None => model.remove(&key),
                    };
                }
                let costs = layer.rows().map(|(key, value)| cost(key.len(), value));
                prop_assert_eq!(costs.sum::<usize>(), layer.bytes());
            }
            for key in [&from, &to] {
                let known = recent.get(key).map(Known::value);
                let found = known.unwrap_or_else(|| disk.get(&key[..]).cloned());
                prop_assert_eq!(found.as_ref(), model.get(&key[..]));
            }
            let bounds = (Bound::Included(&from[..]), Bound::Excluded(&to[..]));
            if from < to {
                let below = disk.range::<[u8], _>(bounds);
                let below = below.map(|(key, value)| Ok::<_, Infallible>((key.clone(), value.clone())));
                let merged: Result<Vec<_>, _> = recent.over(bounds, below).collect();
                let expected: Vec<_> =
                    model.range::<[u8], _>(bounds).map(|(key, value)| (key.clone(), value.clone())).collect();
                prop_assert_eq!(merged, Ok(expected));
            }
        }
    }
}
