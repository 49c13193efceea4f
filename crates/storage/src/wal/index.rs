//! One group's log in memory: its bounds, where each entry is on disk, and
//! the recent entries themselves. Pure: it never touches a file.

use std::collections::VecDeque;

use bytes::Bytes;
use trine_types::GroupId;

use super::{LogBounds, LogEntry, LogPosition, WalError};

/// Where a record is: it starts `offset` bytes into the payload of sector
/// `sector` of segment `segment` and is `length` bytes long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u32,
    pub(super) sector: u32,
    pub(super) offset: u16,
    pub(super) length: u32,
}

/// What an entry costs the cache beside its payload, in bytes.
pub(super) const ENTRY_OVERHEAD_BYTES: usize = 64;

pub(super) fn cost(payload: &Bytes) -> usize {
    payload.len() + ENTRY_OVERHEAD_BYTES
}

/// The purged position after purging up to `upto`: it never goes back.
pub(super) fn later(purged: Option<LogPosition>, upto: LogPosition) -> LogPosition {
    purged.filter(|purged| purged.index >= upto.index).unwrap_or(upto)
}

struct Slot {
    term: u64,
    /// The group's epoch when the entry was appended.
    epoch: u32,
    /// `None` until written.
    place: Option<Place>,
    /// `None` once evicted.
    payload: Option<Bytes>,
}

/// An entry found by [`GroupIndex::find`].
pub(super) enum Found {
    Cached(LogEntry),
    OnDisk(LogPosition, Place),
}

/// The index. `first` is the index of `slots[0]`, or the next one to come.
pub(super) struct GroupIndex {
    group: GroupId,
    first: u64,
    slots: VecDeque<Slot>,
    purged: Option<LogPosition>,
    vote: Option<Bytes>,
    /// Changes whenever entries are taken back, so that the writer never
    /// mistakes an entry that came later for the one it has just written.
    epoch: u32,
}

impl GroupIndex {
    pub(super) fn new(group: GroupId) -> Self {
        Self { group, first: 0, slots: VecDeque::new(), purged: None, vote: None, epoch: 0 }
    }

    pub(super) fn bounds(&self) -> LogBounds {
        LogBounds { purged: self.purged, last: self.last(), vote: self.vote.clone() }
    }

    pub(super) fn last(&self) -> Option<LogPosition> {
        match self.slots.back() {
            Some(slot) => {
                Some(LogPosition { term: slot.term, index: self.first + self.slots.len() as u64 - 1 })
            }
            None => self.purged,
        }
    }

    /// The index of the first entry, if there is one.
    pub(super) fn first_entry(&self) -> Option<u64> {
        (!self.slots.is_empty()).then_some(self.first)
    }

    pub(super) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Takes in entries that must follow the last one. Returns what they cost
    /// the cache.
    pub(super) fn append(&mut self, entries: &[LogEntry]) -> Result<usize, WalError> {
        let Some(first) = entries.first() else { return Ok(0) };
        let next = self.last().map_or(first.at.index, |last| last.index + 1);
        for (entry, expected) in entries.iter().zip(next..) {
            if entry.at.index != expected {
                return Err(WalError::Gap { group: self.group, expected, got: entry.at.index });
            }
        }
        if self.slots.is_empty() {
            self.first = first.at.index;
        }
        let mut added = 0;
        for entry in entries {
            added += cost(&entry.payload);
            self.slots.push_back(Slot {
                term: entry.at.term,
                epoch: self.epoch,
                place: None,
                payload: Some(entry.payload.clone()),
            });
        }
        Ok(added)
    }

    /// Takes in an entry found on disk while opening.
    pub(super) fn restore(&mut self, at: LogPosition, place: Place) -> Result<(), WalError> {
        if self.slots.is_empty() {
            self.first = at.index;
        } else {
            let expected = self.first + self.slots.len() as u64;
            if expected != at.index {
                return Err(WalError::Gap { group: self.group, expected, got: at.index });
            }
        }
        self.slots.push_back(Slot { term: at.term, epoch: self.epoch, place: Some(place), payload: None });
        Ok(())
    }

    pub(super) fn set_vote(&mut self, vote: Bytes) {
        self.vote = Some(vote);
    }

    /// Removes all entries after `last_kept`. Returns what leaves the cache.
    pub(super) fn truncate_after(&mut self, last_kept: Option<u64>) -> usize {
        let kept = last_kept.map_or(0, |last| (last + 1).saturating_sub(self.first));
        let kept = usize::try_from(kept).map_or(self.slots.len(), |kept| kept.min(self.slots.len()));
        self.epoch = self.epoch.wrapping_add(1);
        self.slots.drain(kept..).map(released).sum()
    }

    /// Removes all entries up to `upto`. Returns what leaves the cache.
    pub(super) fn purge(&mut self, upto: LogPosition) -> usize {
        self.purged = Some(later(self.purged, upto));
        let gone = (upto.index + 1).saturating_sub(self.first);
        let gone = usize::try_from(gone).map_or(self.slots.len(), |gone| gone.min(self.slots.len()));
        self.first += gone as u64;
        let freed = self.slots.drain(..gone).map(released).sum();
        if self.slots.len() * 4 < self.slots.capacity() {
            self.slots.shrink_to(self.slots.len() * 2);
        }
        freed
    }

    /// Forgets everything. Returns what leaves the cache.
    pub(super) fn destroy(&mut self) -> usize {
        let freed = self.slots.drain(..).map(released).sum();
        *self = Self { epoch: self.epoch.wrapping_add(1), ..Self::new(self.group) };
        freed
    }

    fn slot(&mut self, index: u64) -> Option<&mut Slot> {
        let position = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.slots.get_mut(position)
    }

    /// The writer has put the entry `index` of `epoch` at `place`. False if
    /// the entry is gone.
    pub(super) fn placed(&mut self, index: u64, epoch: u32, place: Place) -> bool {
        match self.slot(index) {
            Some(slot) if slot.epoch == epoch => {
                slot.place = Some(place);
                true
            }
            _ => false,
        }
    }

    /// Drops the cached payload of a written entry. Returns what leaves the
    /// cache.
    pub(super) fn evict(&mut self, index: u64, epoch: u32) -> usize {
        match self.slot(index) {
            Some(slot) if slot.epoch == epoch && slot.place.is_some() => {
                slot.payload.take().map_or(0, |payload| cost(&payload))
            }
            _ => 0,
        }
    }

    /// The entries from `from` to before `to`, as far as they are there and
    /// fit `max_bytes` (at least one).
    pub(super) fn find(&self, from: u64, to: u64, max_bytes: usize) -> Vec<Found> {
        let skip = usize::try_from(from.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let mut found = Vec::new();
        let mut bytes = 0;
        for (index, slot) in (from.max(self.first)..to).zip(self.slots.iter().skip(skip)) {
            let at = LogPosition { term: slot.term, index };
            let (item, length) = match (&slot.payload, slot.place) {
                (Some(payload), _) => {
                    (Found::Cached(LogEntry { at, payload: payload.clone() }), payload.len())
                }
                (None, Some(place)) => (Found::OnDisk(at, place), place.length as usize),
                (None, None) => break,
            };
            bytes += length;
            if !found.is_empty() && bytes > max_bytes {
                break;
            }
            found.push(item);
        }
        found
    }

    /// If the entries are exactly `first..=last` and all written: how long
    /// their records are in all.
    pub(super) fn written_exactly(&self, first: u64, last: u64) -> Option<usize> {
        let same = self.first_entry() == Some(first) && self.last().map(|at| at.index) == Some(last);
        let lengths = self.slots.iter().map(|slot| slot.place.map(|place| place.length as usize));
        if same { lengths.sum() } else { None }
    }

    /// All written entries, and where they are.
    pub(super) fn find_written(&self) -> Vec<(Found, Place)> {
        let places = self.slots.iter().map_while(|slot| slot.place);
        self.find(0, u64::MAX, usize::MAX).into_iter().zip(places).collect()
    }

    /// The writer has written the entry `at` again, at `to`.
    pub(super) fn moved(&mut self, at: LogPosition, from: Place, to: Place) {
        if let Some(slot) = self.slot(at.index)
            && slot.term == at.term
            && slot.place == Some(from)
        {
            slot.place = Some(to);
        }
    }

    /// Where the entry `at` is on disk, if it is there and written.
    pub(super) fn place_of(&self, at: LogPosition) -> Option<Place> {
        let position = usize::try_from(at.index.checked_sub(self.first)?).ok()?;
        self.slots.get(position).filter(|slot| slot.term == at.term)?.place
    }

    /// The term of the entry `index`, if it is there.
    pub(super) fn term_of(&self, index: u64) -> Option<u64> {
        let position = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.slots.get(position).map(|slot| slot.term)
    }
}

fn released(slot: Slot) -> usize {
    slot.payload.map_or(0, |payload| cost(&payload))
}
