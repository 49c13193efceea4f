//! Opening the log: recover what is there or make the first segment, then
//! hand everything to the writer.

use std::sync::Arc;

use super::codec::{FORMAT_VERSION, SegmentHeader};
use super::config::{Driver, WalConfig};
use super::handle::{Shared, Wal};
use super::pool::{DIR, Pool};
use super::recover::{Recovered, recover};
use super::sector::{BLOCK_SECTORS, byte_offset};
use super::space::SpaceWatch;
use super::writer::{Writer, begin_segment};
use super::{WalError, run};
use crate::disk::Disk;
use crate::node_file::NodeFile;

/// Says that this directory has a log, so that a lost one is noticed.
fn marker(disk: &Arc<dyn Disk>) -> NodeFile {
    NodeFile::new(disk.clone(), &format!("{DIR}/format"))
}

/// What was found, with the pool of files.
pub(super) struct Opened {
    found: Recovered,
    space: Arc<SpaceWatch>,
    next_slot: u64,
}

pub(super) fn open(disk: &Arc<dyn Disk>, config: &WalConfig) -> Result<Opened, WalError> {
    let format = marker(disk);
    let unreadable = |error: &dyn std::fmt::Display| WalError::Open { what: error.to_string().into() };
    let marked = format.read().map_err(|error| unreadable(&error))?;
    if let Some(version) = &marked
        && version[..] != FORMAT_VERSION.to_le_bytes()
    {
        return Err(unreadable(&"it was written by a newer version of Trine"));
    }
    let space = Arc::new(SpaceWatch::new(disk.clone(), config));
    let found = match recover(&**disk)? {
        Some(found) => found,
        None if marked.is_some() || config.must_exist => return Err(WalError::Missing),
        None => create(disk, config, &space)?,
    };
    if marked.is_none() {
        format.write(&FORMAT_VERSION.to_le_bytes()).map_err(|error| unreadable(&error))?;
    }
    let next_slot = found.next_slot;
    Ok(Opened { found, space, next_slot })
}

fn create(disk: &Arc<dyn Disk>, config: &WalConfig, space: &Arc<SpaceWatch>) -> Result<Recovered, WalError> {
    // A spare may be there from an earlier attempt; it is not worth reusing.
    let slots = disk.list(DIR).map_err(|error| WalError::open("its directory", &error))?;
    let next_slot = slots
        .iter()
        .filter_map(|name| name.split_once('.')?.0.parse::<u64>().ok())
        .max()
        .map_or(1, |slot| slot + 1);
    let mut pool = Pool::new(disk.clone(), config, space.clone(), next_slot, config.first_segment_bytes);
    let as_open = |error: WalError| match error {
        WalError::Failed { what } => WalError::Open { what },
        other => other,
    };
    let file = pool.take(BLOCK_SECTORS).map_err(as_open)?;
    let header =
        SegmentHeader { segment: 1, sectors: file.sectors, first_live: 1, prev_end: 0, prev_batches: 0 };
    begin_segment(&file, &header).map_err(|error| WalError::open("its first segment", &error))?;
    Ok(Recovered::fresh(file, next_slot + 1))
}

pub(super) fn start(
    disk: Arc<dyn Disk>,
    config: WalConfig,
    driver: Driver,
    opened: Opened,
) -> Result<Wal, WalError> {
    let Opened { mut found, space, next_slot } = opened;
    let spares = std::mem::take(&mut found.spares);
    let largest = found.segments.values().map(|file| byte_offset(file.sectors)).max();
    let next_bytes = 2 * largest.unwrap_or(config.segment_bytes);
    let mut pool = Pool::new(disk, &config, space.clone(), next_slot, next_bytes);
    for spare in spares {
        pool.give_back(spare);
    }
    if driver == Driver::Thread {
        pool.use_thread().map_err(|error| WalError::open("no thread for its files", &error))?;
    }
    let indexes = std::mem::take(&mut found.indexes);
    let shared = Arc::new(Shared::new(&config, space, indexes));
    let writer = Writer::new(config, shared.clone(), pool, found)?;
    let wal = Wal::from_shared(shared);
    run::start(writer, driver)?;
    Ok(wal)
}
