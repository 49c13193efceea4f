//! The newest rows of one keyspace, in memory, in front of what fjall has on
//! disk. Pure.
//!
//! fjall's own buffer is a skip list: each level of a search is a miss of the
//! processor's cache, and it was half of what applying a write cost. Here rows
//! lie in a persistent B-tree whose nodes hold the first 16 bytes of each key
//! in place, so that a search rarely follows a pointer, behind a filter that
//! makes most searches unnecessary; and a copy of the whole map, for a view,
//! costs nothing.

use std::iter::Peekable;
use std::ops::Bound;

use bytes::Bytes;
use imbl::OrdMap;

use super::marks::{Mark, Marks};
use crate::state::row_key::RowKey;

/// What a row costs in memory beside its bytes, about.
const ROW_OVERHEAD: usize = 96;

/// Rows by key; `None` marks one that was removed.
#[derive(Debug, Clone, Default)]
pub(super) struct Layer {
    rows: OrdMap<RowKey, Option<Bytes>>,
    marks: Marks,
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

    pub(super) fn set(&mut self, key: RowKey, value: Option<Bytes>) {
        let key_bytes = key.key.len();
        self.marks.set(Mark::of(&key.key));
        self.bytes += cost(key_bytes, value.as_ref());
        if let Some(before) = self.rows.insert(key, value) {
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
        let mark = Mark::of(key);
        let (active, sealed) = (self.active.marks.may_have(mark), self.sealed.marks.may_have(mark));
        if !active && !sealed {
            return None;
        }
        let probe = RowKey::probe(key);
        let active = if active { self.active.rows.get(&probe) } else { None };
        let sealed = || if sealed { self.sealed.rows.get(&probe) } else { None };
        let row = active.or_else(sealed)?;
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
    use crate::state::row_key::tests::key;

    fn changes() -> impl Strategy<Value = Vec<(Vec<u8>, Option<Vec<u8>>)>> {
        prop::collection::vec((key(), prop::option::of(prop::collection::vec(any::<u8>(), 0..3))), 0..20)
    }

    proptest! {
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
                    layer.set(RowKey::new(key.clone()), value.clone());
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
