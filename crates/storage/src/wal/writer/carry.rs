//! Carrying quiet groups forward. A group that hardly writes keeps its few
//! entries in some old segment, which then could never be recycled while the
//! other groups fill one segment after the other. So when a new segment
//! begins, small logs that reach far back are written again into it: one
//! batch of "remove all entries" and the entries, which takes effect whole or
//! not at all, and needs nothing special to be replayed.

use std::sync::Arc;

use trine_types::GroupId;

use super::super::WalError;
use super::super::codec::{Body, Record};
use super::super::index::{Found, Place};
use super::super::queue::Group;
use super::super::reader::read_entry;
use super::super::recover::place;
use super::super::sector::sectors_for;
use super::super::{LogEntry, LogPosition};
use super::{Writer, push};

/// At most one part in this many of a segment is spent on carried entries.
const CARRY_SHARE: u32 = 4;

type WrittenLog = (Arc<Group>, Vec<Written>);

/// A written entry and where it has been.
struct Written {
    entry: LogEntry,
    from: Place,
}

struct Moved {
    group: Arc<Group>,
    entries: Vec<(LogPosition, Place, Place)>,
}

impl Writer {
    /// Carries what fits into `room` sectors of the current segment.
    pub(super) fn carry(&mut self, room: u32) -> Result<(), WalError> {
        let budget = room.min(self.current.file.sectors / CARRY_SHARE);
        let old = self.extents.reaching_back(self.current.number, self.config.pinned_segments);
        let mut moved = Vec::new();
        self.sealer.begin(2 * self.config.batch_bytes);
        for (group, first, last) in old {
            let room = |bytes| sectors_for(self.sealer.payload() + bytes) <= budget;
            let Some((group, entries)) = self.written_log(group, first, last, room)? else { continue };
            moved.push(self.push_log(group, &entries)?);
        }
        if moved.is_empty() {
            return Ok(());
        }
        self.write_batch()?;
        self.sync()?;
        for Moved { group, entries } in moved {
            self.extents.destroy(group.id);
            let mut index = group.index();
            for (at, from, to) in entries {
                index.moved(at, from, to);
                self.extents.add(group.id, to.segment, at.index);
            }
        }
        Ok(())
    }

    /// The entries of `group`, if there is room for them and if what the
    /// handles see is exactly what is written: otherwise a change is under
    /// way, and the next segment is early enough.
    fn written_log(
        &self,
        group: GroupId,
        first: u64,
        last: u64,
        room: impl Fn(usize) -> bool,
    ) -> Result<Option<WrittenLog>, WalError> {
        let group = self.shared.group(group);
        let found = {
            let index = group.index();
            let Some(bytes) = index.written_exactly(first, last) else { return Ok(None) };
            if !room(bytes + Record { group: group.id, body: Body::TruncateAfter(None) }.length()) {
                return Ok(None);
            }
            index.find_written()
        };
        let mut entries = Vec::with_capacity(found.len());
        for (found, from) in found {
            let entry = match found {
                Found::Cached(entry) => entry,
                Found::OnDisk(at, place) => self.read_back(group.id, at, place)?,
            };
            entries.push(Written { entry, from });
        }
        Ok(Some((group, entries)))
    }

    fn read_back(&self, group: GroupId, at: LogPosition, place: Place) -> Result<LogEntry, WalError> {
        let file = self.segments.get(&place.segment);
        let file = file.ok_or_else(|| WalError::corrupt(format!("segment {} is gone", place.segment)))?;
        read_entry(&*file.file, group, at, place).map_err(|error| error.into_error(group, at, place))
    }

    fn push_log(&mut self, group: Arc<Group>, entries: &[Written]) -> Result<Moved, WalError> {
        push(&mut self.sealer, &Record { group: group.id, body: Body::TruncateAfter(None) });
        let mut moved = Vec::with_capacity(entries.len());
        for Written { entry, from } in entries {
            let record = Record { group: group.id, body: Body::Entry(entry.at, &entry.payload) };
            let (segment, sector) = (self.current.number, self.current.next_sector);
            let to = place(segment, sector, self.sealer.payload(), record.length())
                .ok_or_else(|| WalError::corrupt("a record outgrew its segment"))?;
            push(&mut self.sealer, &record);
            moved.push((entry.at, *from, to));
        }
        Ok(Moved { group, entries: moved })
    }
}
