//! Segment files: making them, keeping spare ones, giving them back. A file
//! is zero-filled and synced before it gets a name that recovery looks at, so
//! a `.seg` file is always whole; a used one is recycled as it is, because
//! its old sectors can never pass for new ones.
//!
//! The files of a new log begin small and double: a new node need not wait
//! until tens of MiB of zeros are on its disk, and by the time the writer
//! needs a large file, the thread has made it.
//!
//! Also the reserve: a file that only takes up space until space gets low.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use super::WalError;
use super::config::{BLOCK_BYTES, WalConfig};
use super::space::{Change, SpaceWatch};
use crate::disk::{Disk, DiskFile, SECTOR_BYTES};

/// The directory of the log.
pub(super) const DIR: &str = "wal";
const RESERVE_NAME: &str = "wal/reserve";
/// Freed files beyond this many are removed.
const MAX_SPARES: usize = 2;

/// A whole segment file.
#[derive(Clone)]
pub(super) struct SegmentFile {
    pub(super) slot: u64,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) sectors: u32,
}

pub(super) fn slot_name(slot: u64, suffix: &str) -> String {
    format!("{DIR}/{slot:08}.{suffix}")
}

fn make_segment(disk: &dyn Disk, slot: u64, bytes: u64) -> io::Result<SegmentFile> {
    let temporary = slot_name(slot, "new");
    let file = disk.open(&temporary, true)?;
    let filled = file.zero_fill(bytes).and_then(|()| file.sync());
    if let Err(error) = filled {
        // Best effort: what is left over is removed at the next start.
        let _ = disk.remove(&temporary);
        return Err(error);
    }
    disk.rename(&temporary, &slot_name(slot, "seg"))?;
    disk.sync_dir(DIR)?;
    let sectors = u32::try_from(bytes / SECTOR_BYTES as u64)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "segment too large"))?;
    Ok(SegmentFile { slot, file: Arc::from(file), sectors })
}

fn make_reserve(disk: &dyn Disk, bytes: u64) -> io::Result<()> {
    let file = disk.open(RESERVE_NAME, true)?;
    if file.length()? == bytes {
        return Ok(());
    }
    file.allocate(bytes)?;
    file.sync()?;
    disk.sync_dir(DIR)
}

enum Order {
    Segment { slot: u64, bytes: u64 },
    Reserve { bytes: u64 },
}

/// Who makes files: the product has a thread for it, so that zero-filling
/// never holds up the writer.
enum Maker {
    Inline,
    Thread(Thread),
}

struct Thread {
    orders: SyncSender<Order>,
    made: Receiver<io::Result<SegmentFile>>,
    /// Whether a segment is on order.
    waiting: bool,
    handle: JoinHandle<()>,
}

impl Maker {
    fn thread(&mut self) -> Option<&mut Thread> {
        match self {
            Self::Inline => None,
            Self::Thread(thread) => Some(thread),
        }
    }
}

/// A stopped log leaves no thread behind that holds the disk.
impl Drop for Pool {
    fn drop(&mut self) {
        if let Maker::Thread(Thread { orders, made, handle, .. }) =
            std::mem::replace(&mut self.maker, Maker::Inline)
        {
            drop((orders, made));
            // A panic there was reported when it happened.
            let _ = handle.join();
        }
    }
}

/// At most one segment and one reserve are on order.
const MAX_ORDERS: usize = 2;

fn start_maker(disk: Arc<dyn Disk>) -> io::Result<Maker> {
    let (orders, queue) = sync_channel(MAX_ORDERS);
    let (reply, made) = sync_channel(1);
    let handle = thread::Builder::new().name("wal-files".to_owned()).spawn(move || {
        while let Ok(order) = queue.recv() {
            match order {
                Order::Segment { slot, bytes } => {
                    if reply.send(make_segment(&*disk, slot, bytes)).is_err() {
                        return;
                    }
                }
                Order::Reserve { bytes } => log_reserve(make_reserve(&*disk, bytes)),
            }
        }
    })?;
    Ok(Maker::Thread(Thread { orders, made, waiting: false, handle }))
}

fn log_reserve(made: io::Result<()>) {
    if let Err(error) = made {
        tracing::warn!(%error, "the log's reserve of disk space could not be made");
    }
}

/// The spare files and how to get more.
pub(super) struct Pool {
    disk: Arc<dyn Disk>,
    space: Arc<SpaceWatch>,
    segment_bytes: u64,
    /// Size of the next file to be made.
    next_bytes: u64,
    reserve_bytes: u64,
    next_slot: u64,
    spares: Vec<SegmentFile>,
    maker: Maker,
}

impl Pool {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        config: &WalConfig,
        space: Arc<SpaceWatch>,
        next_slot: u64,
        next_bytes: u64,
    ) -> Self {
        Self {
            disk,
            space,
            segment_bytes: config.segment_bytes,
            next_bytes: next_bytes.min(config.segment_bytes),
            reserve_bytes: config.reserve_bytes,
            next_slot,
            spares: Vec::new(),
            maker: Maker::Inline,
        }
    }

    /// From now on files are made by a thread.
    pub(super) fn use_thread(&mut self) -> io::Result<()> {
        self.maker = start_maker(self.disk.clone())?;
        Ok(())
    }

    /// The slot and the size of the next file.
    fn order(&mut self) -> (u64, u64) {
        let ordered = (self.next_slot, self.next_bytes);
        self.next_slot += 1;
        self.next_bytes = (2 * self.next_bytes).min(self.segment_bytes);
        ordered
    }

    /// Sees to it that a spare file is there when the next one is needed.
    pub(super) fn prepare(&mut self) {
        self.collect();
        let wanted = self.spares.is_empty() && self.maker.thread().is_some_and(|thread| !thread.waiting);
        if !wanted {
            return;
        }
        let (slot, bytes) = self.order();
        if let Some(thread) = self.maker.thread() {
            thread.waiting = thread.orders.try_send(Order::Segment { slot, bytes }).is_ok();
        }
    }

    fn collect(&mut self) {
        if let Some(thread) = self.maker.thread()
            && let Ok(result) = thread.made.try_recv()
        {
            thread.waiting = false;
            match result {
                Ok(file) => self.spares.push(file),
                Err(error) => {
                    tracing::warn!(%error, "no spare file for the log");
                    self.space.set_low();
                }
            }
        }
    }

    /// A file of at least `sectors`, ready for a header.
    pub(super) fn take(&mut self, sectors: u32) -> Result<SegmentFile, WalError> {
        if let Some(position) = self.spares.iter().position(|file| file.sectors >= sectors) {
            return Ok(self.spares.swap_remove(position));
        }
        let bytes = (u64::from(sectors) * SECTOR_BYTES as u64).next_multiple_of(BLOCK_BYTES as u64);
        if let Some(thread) = self.maker.thread()
            && thread.waiting
        {
            thread.waiting = false;
            match thread.made.recv() {
                Ok(Ok(file)) if file.sectors >= sectors => return Ok(file),
                Ok(Ok(file)) => self.spares.push(file),
                Ok(Err(_)) | Err(_) => {}
            }
        }
        let (slot, standard) = self.order();
        let bytes = bytes.max(standard);
        let mut made = make_segment(&*self.disk, slot, bytes);
        if made.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::StorageFull) {
            // Now is when the reserve is for.
            self.space.set_low();
            self.check_space();
            made = make_segment(&*self.disk, slot, bytes);
        }
        made.map_err(|error| {
            WalError::failed("no new segment could be made; free some space before starting again", &error)
        })
    }

    /// Takes back a file whose segment is durably out of use.
    pub(super) fn give_back(&mut self, file: SegmentFile) {
        let standard = u64::from(file.sectors) * SECTOR_BYTES as u64 == self.segment_bytes;
        if standard && self.spares.len() < MAX_SPARES && !self.space.is_low() {
            self.spares.push(file);
            return;
        }
        // A file that stays, or comes back after a crash, is only in the way.
        if let Err(error) = self.disk.remove(&slot_name(file.slot, "seg")) {
            tracing::warn!(%error, "an old segment of the log could not be removed");
        }
    }

    /// Looks at the free space; gives up or makes the reserve accordingly.
    pub(super) fn check_space(&mut self) {
        match self.space.check() {
            Some(Change::BecameLow) => {
                tracing::warn!("the disk is nearly full: writes that need more space will be refused");
                match self.disk.remove(RESERVE_NAME).and_then(|()| self.disk.sync_dir(DIR)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        tracing::warn!(%error, "the log's reserve of disk space could not be given up");
                    }
                    _ => {}
                }
            }
            Some(Change::BecameOk) => {
                tracing::info!("the disk has room again");
                self.make_reserve();
            }
            None => {}
        }
    }

    /// Makes the reserve if the disk has room for it.
    pub(super) fn make_reserve(&mut self) {
        let bytes = self.reserve_bytes;
        if bytes == 0 || self.space.is_low() || self.space.room() < bytes {
            return;
        }
        match &self.maker {
            Maker::Inline => log_reserve(make_reserve(&*self.disk, bytes)),
            // A full order book only means that it is tried again later.
            Maker::Thread(thread) => drop(thread.orders.try_send(Order::Reserve { bytes })),
        }
    }
}
