//! The one writer: takes what is queued, writes it as one batch, syncs once,
//! completes everything that the sync covers. It owns the segments and all
//! knowledge of what is durable; the driver calls [`Writer::write`],
//! [`Writer::sync`] and [`Writer::complete`] in turn.

mod carry;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use trine_types::GroupId;

use super::codec::{Body, Record, SegmentHeader};
use super::config::WalConfig;
use super::extents::Extents;
use super::handle::Shared;
use super::index::{Place, cost, later};
use super::pool::{Pool, SegmentFile};
use super::queue::{Change, Group, Operation};
use super::recover::{Recovered, place};
use super::sector::{BLOCK_SECTORS, Sealer, byte_offset, sectors_for};
use super::{LogBounds, LogPosition, WalError};

/// Free space is looked at after this many bytes of log.
const SPACE_CHECK_BYTES: u64 = 1024 * 1024;

/// What must survive when the segment that says it is recycled: each segment
/// begins with the facts of all groups.
#[derive(Debug, Clone, Default)]
struct Facts {
    purged: Option<LogPosition>,
    vote: Option<Bytes>,
}

/// The segment being written.
struct Current {
    number: u32,
    file: SegmentFile,
    next_sector: u32,
    next_batch: u32,
}

/// Appends whose payloads are still cached, oldest first.
#[derive(Default)]
struct Window {
    appends: VecDeque<Cached>,
    bytes: usize,
}

struct Cached {
    group: Arc<Group>,
    first: u64,
    count: u64,
    epoch: u32,
    bytes: usize,
}

impl Window {
    fn push(&mut self, cached: Cached) {
        self.bytes += cached.bytes;
        self.appends.push_back(cached);
    }

    fn shrink(&mut self, limit: usize) {
        while self.bytes > limit {
            let Some(oldest) = self.appends.pop_front() else { return };
            self.bytes -= oldest.bytes;
            let mut index = oldest.group.index();
            for number in oldest.first..oldest.first + oldest.count {
                index.evict(number, oldest.epoch);
            }
        }
    }
}

pub(super) struct Writer {
    pub(super) config: WalConfig,
    pub(super) shared: Arc<Shared>,
    pool: Pool,
    current: Current,
    /// All segments in use, the current one among them.
    segments: BTreeMap<u32, SegmentFile>,
    extents: Extents,
    facts: BTreeMap<GroupId, Facts>,
    /// Segments before this one are durably out of use.
    first_live: u32,
    /// What the batch being written makes of `first_live`.
    next_first_live: u32,
    sealer: Sealer,
    /// Where the entries of the batch being written are, in order.
    places: Vec<Place>,
    window: Window,
    unchecked_bytes: u64,
}

impl Writer {
    pub(super) fn new(
        config: WalConfig,
        shared: Arc<Shared>,
        pool: Pool,
        found: Recovered,
    ) -> Result<Self, WalError> {
        let (number, file) = found
            .segments
            .last_key_value()
            .map(|(number, file)| (*number, file.clone()))
            .ok_or_else(|| WalError::corrupt("no segment is in use"))?;
        let facts = |(group, bounds): (GroupId, LogBounds)| {
            (group, Facts { purged: bounds.purged, vote: bounds.vote })
        };
        let facts = shared.bounds().into_iter().map(facts).collect();
        let mut writer = Self {
            config,
            shared,
            pool,
            current: Current { number, file, next_sector: found.next_sector, next_batch: found.next_batch },
            segments: found.segments,
            extents: found.extents,
            facts,
            first_live: found.first_live,
            next_first_live: found.first_live,
            sealer: Sealer::default(),
            places: Vec::new(),
            window: Window::default(),
            unchecked_bytes: 0,
        };
        writer
            .shared
            .files()
            .extend(writer.segments.iter().map(|(number, file)| (*number, file.file.clone())));
        if writer.current.next_batch == 0 {
            writer.write_facts()?;
        }
        writer.pool.check_space();
        writer.pool.prepare();
        writer.pool.make_reserve();
        writer.publish();
        Ok(writer)
    }

    /// Writes `operations` as one batch. Not durable yet.
    pub(super) fn write(&mut self, operations: &[Operation]) -> Result<(), WalError> {
        let freed = self.extents.first_live(self.current.number);
        let freed = (freed > self.first_live)
            .then_some(Record { group: GroupId::META, body: Body::Freed { first_live: freed } });
        let records =
            || operations.iter().flat_map(|operation| records(operation.group.id, &operation.change));
        let payload = records().chain(freed).map(|record| record.length()).sum();
        if payload == 0 {
            return Ok(());
        }
        self.make_room(sectors_for(payload))?;
        self.sealer.begin(2 * self.config.batch_bytes);
        self.places.clear();
        for record in records().chain(freed) {
            if let Body::Entry(..) = record.body {
                let place = place(
                    self.current.number,
                    self.current.next_sector,
                    self.sealer.payload(),
                    record.length(),
                );
                self.places.push(place.ok_or_else(|| WalError::corrupt("a record outgrew its segment"))?);
            }
            push(&mut self.sealer, &record);
        }
        if let Some(Record { body: Body::Freed { first_live }, .. }) = freed {
            self.next_first_live = first_live;
        }
        self.write_batch()
    }

    fn write_batch(&mut self) -> Result<(), WalError> {
        let Current { number, file, next_sector, next_batch } = &mut self.current;
        let sectors = sectors_for(self.sealer.payload());
        let bytes = self.sealer.seal(*number, *next_batch, *next_sector);
        file.file
            .write_at(byte_offset(*next_sector), bytes)
            .map_err(|error| WalError::failed("a write to the log failed", &error))?;
        *next_sector += sectors;
        *next_batch += 1;
        self.unchecked_bytes += bytes.len() as u64;
        self.shared.stats().bytes += bytes.len() as u64;
        Ok(())
    }

    /// Makes all that was written durable. Never to be called again after an
    /// error.
    pub(super) fn sync(&mut self) -> Result<(), WalError> {
        let synced = self.current.file.file.sync();
        synced.map_err(|error| WalError::failed("a sync of the log failed", &error))
    }

    /// How much longer than usual the next sync takes, for who drives the
    /// writer in virtual time.
    pub(super) fn sync_delay(&self) -> Duration {
        self.current.file.file.sync_delay()
    }

    /// Takes note of what is durable now and calls the callbacks.
    pub(super) fn complete(&mut self, operations: Vec<Operation>, sync_time: Duration) {
        self.release_freed();
        let mut places = std::mem::take(&mut self.places).into_iter();
        let (mut entries, mut frees) = (0, false);
        let count = operations.len() as u64;
        for operation in operations {
            match &operation.change {
                Change::Append(appended) => {
                    entries += appended.len() as u64;
                    self.placed(&operation, appended.len(), &mut places);
                }
                change => frees |= self.note(operation.group.id, change),
            }
            (operation.done)(Ok(()));
        }
        self.window.shrink(self.config.cache_bytes);
        {
            let mut stats = self.shared.stats();
            stats.syncs += 1;
            stats.sync_nanos += u64::try_from(sync_time.as_nanos()).unwrap_or(u64::MAX);
            stats.operations += count;
            stats.entries += entries;
            stats.cached_bytes = self.window.bytes as u64;
        }
        if frees {
            self.publish();
        }
        if self.unchecked_bytes >= SPACE_CHECK_BYTES || self.shared.space.is_low() {
            self.unchecked_bytes = 0;
            self.pool.check_space();
        }
        self.pool.prepare();
    }

    fn placed(&mut self, operation: &Operation, count: usize, places: &mut impl Iterator<Item = Place>) {
        let Change::Append(appended) = &operation.change else { return };
        let Some(first) = appended.first() else { return };
        let group = &operation.group;
        let mut bytes = 0;
        let mut index = group.index();
        for (entry, place) in appended.iter().zip(places.take(count)) {
            bytes += cost(&entry.payload);
            index.placed(entry.at.index, operation.epoch, place);
            self.extents.add(group.id, place.segment, entry.at.index);
        }
        drop(index);
        self.window.push(Cached {
            group: group.clone(),
            first: first.at.index,
            count: count as u64,
            epoch: operation.epoch,
            bytes,
        });
    }

    /// Notes a durable change other than an append; whether it may free
    /// segments.
    fn note(&mut self, group: GroupId, change: &Change) -> bool {
        match change {
            Change::Append(_) => false,
            Change::Vote(vote) => {
                self.facts.entry(group).or_default().vote = Some(vote.clone());
                false
            }
            Change::TruncateAfter(last_kept) => {
                self.extents.truncate_after(group, *last_kept);
                true
            }
            Change::Purge(upto) => {
                let purged = &mut self.facts.entry(group).or_default().purged;
                *purged = Some(later(*purged, *upto));
                self.extents.purge(group, upto.index);
                true
            }
            Change::Destroy => {
                self.facts.remove(&group);
                self.extents.destroy(group);
                true
            }
        }
    }

    /// Gives back the files of segments that are durably out of use.
    fn release_freed(&mut self) {
        self.first_live = self.next_first_live;
        while let Some(entry) = self.segments.first_entry()
            && *entry.key() < self.first_live
        {
            let (number, file) = entry.remove_entry();
            self.shared.files().remove(&number);
            self.pool.give_back(file);
        }
    }

    fn make_room(&mut self, sectors: u32) -> Result<(), WalError> {
        let room = self.current.file.sectors - self.current.next_sector;
        if sectors > room { self.rotate(sectors) } else { Ok(()) }
    }

    /// Begins the next segment, with room for a batch of `sectors`.
    fn rotate(&mut self, sectors: u32) -> Result<(), WalError> {
        let facts: usize = facts(&self.facts).map(|record| record.length()).sum();
        let needed = [BLOCK_SECTORS, sectors_for(facts), sectors].into_iter().fold(0, u32::saturating_add);
        self.pool.check_space();
        let file = self.pool.take(needed)?;
        let number = self.current.number + 1;
        let header = SegmentHeader {
            segment: number,
            sectors: file.sectors,
            first_live: self.first_live,
            prev_end: self.current.next_sector,
            prev_batches: self.current.next_batch,
        };
        begin_segment(&file, &header)
            .map_err(|error| WalError::failed("a new segment could not be begun", &error))?;
        self.segments.insert(number, file.clone());
        self.shared.files().insert(number, file.file.clone());
        self.current = Current { number, file, next_sector: BLOCK_SECTORS, next_batch: 0 };
        self.write_facts()?;
        self.carry(self.current.file.sectors - self.current.next_sector - sectors)?;
        self.publish();
        Ok(())
    }

    /// Writes and syncs the facts of all groups: the segment's first batch.
    fn write_facts(&mut self) -> Result<(), WalError> {
        self.sealer.begin(2 * self.config.batch_bytes);
        for record in facts(&self.facts) {
            push(&mut self.sealer, &record);
        }
        if self.sealer.payload() == 0 {
            return Ok(());
        }
        self.write_batch()?;
        self.sync()
    }

    /// Tells the handles what they may ask about.
    fn publish(&self) {
        let current = self.current.number;
        *self.shared.pins() = self.extents.pins(current, self.config.pinned_segments);
        self.shared.stats().segments = self.segments.len() as u64;
    }
}

/// Writes a segment's header, durably, before anything else goes there.
pub(super) fn begin_segment(file: &SegmentFile, header: &SegmentHeader) -> std::io::Result<()> {
    file.file.write_at(0, &header.encode())?;
    file.file.sync()
}

fn push(sealer: &mut Sealer, record: &Record<'_>) {
    let (header, payload) = record.encode();
    sealer.push(&header);
    sealer.push(payload);
}

fn records(group: GroupId, change: &Change) -> impl Iterator<Item = Record<'_>> {
    let entries = match change {
        Change::Append(entries) => &entries[..],
        _ => &[],
    };
    let other = match change {
        Change::Append(_) => None,
        Change::Vote(vote) => Some(Body::Vote(vote)),
        Change::TruncateAfter(last_kept) => Some(Body::TruncateAfter(*last_kept)),
        Change::Purge(upto) => Some(Body::Purge(*upto)),
        Change::Destroy => Some(Body::Destroy),
    };
    let entries = entries.iter().map(|entry| Body::Entry(entry.at, &entry.payload));
    entries.chain(other).map(move |body| Record { group, body })
}

fn facts(facts: &BTreeMap<GroupId, Facts>) -> impl Iterator<Item = Record<'_>> {
    facts.iter().flat_map(|(group, facts)| {
        let purged = facts.purged.map(Body::Purge);
        let vote = facts.vote.as_deref().map(Body::Vote);
        purged.into_iter().chain(vote).map(|body| Record { group: *group, body })
    })
}
