//! A disk in memory that fails the way disks fail, from a seed. It keeps, per
//! sector, what was there at the last sync; a crash decides for each sector
//! written since then whether the new bytes made it.
//!
//! One `SimDisk` outlives the processes that use it: each process
//! [`SimDisk::mount`]s it, and a [`SimDisk::crash`] turns all handles of the
//! dead process into errors, so that a task left over from it cannot write.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Disk, DiskFile, SECTOR_BYTES};

/// Operations since the disk was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SimDiskCounters {
    /// Calls of `write_at`.
    pub writes: u64,
    /// Calls of `sync` that succeeded.
    pub syncs: u64,
    /// Crashes.
    pub crashes: u64,
}

/// The disk itself; clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    // Shared by the simulator and by the handles of a simulated process, all
    // synchronous: no task could own it.
    disk: Arc<Mutex<State>>,
}

struct State {
    random: StdRng,
    capacity: u64,
    mounts: u64,
    mounted: Option<u64>,
    next_file: u64,
    files: BTreeMap<u64, FileState>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    name_changes: Vec<NameChange>,
    fail_syncs: u32,
    fail_writes: u32,
    sync_delay: Duration,
    counters: SimDiskCounters,
}

/// One atomic change of the directory tree.
struct NameChange {
    removed: Option<String>,
    added: Option<(String, u64)>,
}

#[derive(Default)]
struct FileState {
    bytes: Vec<u8>,
    durable_len: usize,
    /// What each sector written since the last sync held at that sync.
    unsynced: BTreeMap<usize, Vec<u8>>,
}

impl SimDisk {
    /// An empty disk of unlimited size; `seed` decides what crashes take.
    pub fn new(seed: u64) -> Self {
        Self {
            disk: Arc::new(Mutex::new(State {
                random: StdRng::seed_from_u64(seed),
                capacity: u64::MAX,
                mounts: 0,
                mounted: None,
                next_file: 0,
                files: BTreeMap::new(),
                names: BTreeMap::new(),
                durable_names: BTreeMap::new(),
                name_changes: Vec::new(),
                fail_syncs: 0,
                fail_writes: 0,
                sync_delay: Duration::ZERO,
                counters: SimDiskCounters::default(),
            })),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process opens the disk. Dropping what this returns lets go of it.
    ///
    /// # Errors
    /// `ResourceBusy` while another process has it.
    pub fn mount(&self) -> io::Result<Arc<dyn Disk>> {
        let mut state = self.state();
        if state.mounted.is_some() {
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "another process is using this data directory",
            ));
        }
        state.mounts += 1;
        let mount = state.mounts;
        state.mounted = Some(mount);
        drop(state);
        Ok(Arc::new(Mount { disk: self.clone(), mount }))
    }

    /// The process and the machine die: what was not synced is lost, torn or
    /// kept, as the seed says. Pending injected failures are forgotten.
    pub fn crash(&self) {
        self.state().crash();
    }

    /// The process dies, the machine does not: everything written stays.
    pub fn kill(&self) {
        let mut state = self.state();
        state.mounted = None;
        state.fail_syncs = 0;
        state.fail_writes = 0;
    }

    /// The next `count` syncs fail.
    pub fn fail_syncs(&self, count: u32) {
        self.state().fail_syncs = count;
    }

    /// The next `count` writes fail with an I/O error.
    pub fn fail_writes(&self, count: u32) {
        self.state().fail_writes = count;
    }

    /// From now on each sync of the log takes this much longer; a slow disk
    /// stays slow over crashes.
    pub fn slow_syncs(&self, by: Duration) {
        self.state().sync_delay = by;
    }

    /// The disk has room for `bytes` in all.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity = bytes;
    }

    /// No byte can be allocated any more.
    pub fn fill_up(&self) {
        let mut state = self.state();
        state.capacity = state.used();
    }

    /// Flips one bit of every byte of `name` in the range, durably. False if
    /// the file has no such bytes.
    pub fn corrupt(&self, name: &str, offset: u64, length: usize) -> bool {
        self.change_bytes(name, offset, length, |byte| *byte ^= 0x10)
    }

    fn change_bytes(&self, name: &str, offset: u64, length: usize, change: impl Fn(&mut u8)) -> bool {
        self.edit(name, |bytes| {
            let Some(range) =
                usize::try_from(offset).ok().and_then(|from| bytes.get_mut(from..from.checked_add(length)?))
            else {
                return false;
            };
            range.iter_mut().for_each(change);
            true
        })
    }

    /// Cuts `name` to `bytes`, durably. False if there is no such file.
    pub fn truncate(&self, name: &str, bytes: usize) -> bool {
        self.edit(name, |content| {
            content.truncate(bytes);
            true
        })
    }

    fn edit(&self, name: &str, edit: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
        let mut state = self.state();
        let Some(number) = state.names.get(name).copied() else { return false };
        let Some(file) = state.files.get_mut(&number) else { return false };
        let done = edit(&mut file.bytes);
        file.unsynced.clear();
        file.durable_len = file.bytes.len();
        done
    }

    /// The bytes of `name` as a process would read them now.
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        state.names.get(name).and_then(|number| state.files.get(number)).map(|file| file.bytes.clone())
    }

    /// Another disk with the same files, all durable: what a copy of the data
    /// directory would be.
    #[must_use]
    pub fn copy(&self, seed: u64) -> Self {
        let copy = Self::new(seed);
        {
            let (from, mut to) = (self.state(), copy.state());
            to.capacity = from.capacity;
            for (name, file) in &from.names {
                let Some(file) = from.files.get(file) else { continue };
                to.next_file += 1;
                let number = to.next_file;
                let durable_len = file.bytes.len();
                let unsynced = BTreeMap::new();
                to.files.insert(number, FileState { bytes: file.bytes.clone(), durable_len, unsynced });
                to.names.insert(name.clone(), number);
            }
            to.durable_names = to.names.clone();
        }
        copy
    }

    /// Overwrites `length` bytes of `name` with zeros, durably. False if the
    /// file has no such bytes.
    pub fn zero(&self, name: &str, offset: u64, length: usize) -> bool {
        self.change_bytes(name, offset, length, |byte| *byte = 0)
    }

    /// All files, sorted by name.
    pub fn names(&self) -> Vec<String> {
        self.state().names.keys().cloned().collect()
    }

    /// What has happened so far.
    pub fn counters(&self) -> SimDiskCounters {
        self.state().counters
    }
}

/// How the unsynced sectors of one file fare in a crash.
#[derive(Clone, Copy)]
enum Fate {
    Lost,
    Kept,
    Prefix(usize),
    Scattered,
}

impl State {
    fn used(&self) -> u64 {
        self.files.values().map(|file| file.bytes.len() as u64).sum()
    }

    fn crash(&mut self) {
        self.counters.crashes += 1;
        self.mounted = None;
        self.fail_syncs = 0;
        self.fail_writes = 0;
        for file in self.files.values_mut() {
            file.crash(&mut self.random);
        }
        let kept = self.random.random_range(0..=self.name_changes.len());
        let changes = std::mem::take(&mut self.name_changes);
        let mut names = self.durable_names.clone();
        for change in changes.into_iter().take(kept) {
            change.apply(&mut names);
        }
        self.durable_names.clone_from(&names);
        self.names = names;
        self.drop_unnamed();
    }

    fn drop_unnamed(&mut self) {
        let (names, durable) = (&self.names, &self.durable_names);
        self.files.retain(|number, _| names.values().chain(durable.values()).any(|used| used == number));
    }

    fn change_names(&mut self, removed: Option<&str>, added: Option<(&str, u64)>) {
        let change = NameChange {
            removed: removed.map(str::to_owned),
            added: added.map(|(name, file)| (name.to_owned(), file)),
        };
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }

    fn check_room(&self, growth: usize) -> io::Result<()> {
        if self.used().saturating_add(growth as u64) > self.capacity {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "no space left on device"));
        }
        Ok(())
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        if let Some(name) = &self.removed {
            names.remove(name);
        }
        if let Some((name, number)) = &self.added {
            names.insert(name.clone(), *number);
        }
    }

    fn is_in(&self, dir: &str) -> bool {
        let in_dir = |name: &str| name.rsplit_once('/').map_or("", |(parent, _)| parent) == dir;
        self.removed.as_deref().is_some_and(in_dir)
            || self.added.as_ref().is_some_and(|(name, _)| in_dir(name))
    }
}

impl FileState {
    fn resize(&mut self, len: usize) {
        for sector in len / SECTOR_BYTES..self.bytes.len().div_ceil(SECTOR_BYTES) {
            self.remember(sector);
        }
        self.bytes.resize(len, 0);
    }

    fn write(&mut self, offset: usize, data: &[u8]) {
        let end = offset + data.len();
        for sector in offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
            self.remember(sector);
        }
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[offset..end].copy_from_slice(data);
    }

    fn remember(&mut self, sector: usize) {
        let bytes = &self.bytes;
        self.unsynced.entry(sector).or_insert_with(|| {
            let from = (sector * SECTOR_BYTES).min(bytes.len());
            let to = (from + SECTOR_BYTES).min(bytes.len());
            bytes[from..to].to_vec()
        });
    }

    fn sync(&mut self) {
        self.unsynced.clear();
        self.durable_len = self.bytes.len();
    }

    fn crash(&mut self, random: &mut StdRng) {
        let unsynced = std::mem::take(&mut self.unsynced);
        let fate = match random.random_range(0..4) {
            0 => Fate::Lost,
            1 => Fate::Kept,
            2 => Fate::Prefix(random.random_range(0..=unsynced.len())),
            _ => Fate::Scattered,
        };
        if self.bytes.len() != self.durable_len && !random.random_bool(0.5) {
            self.bytes.resize(self.durable_len, 0);
        }
        for (position, (sector, before)) in unsynced.into_iter().enumerate() {
            let kept = match fate {
                Fate::Lost => false,
                Fate::Kept => true,
                Fate::Prefix(count) => position < count,
                Fate::Scattered => random.random_bool(0.5),
            };
            if !kept {
                self.restore(sector, &before);
            }
        }
        self.durable_len = self.bytes.len();
    }

    fn restore(&mut self, sector: usize, before: &[u8]) {
        let from = (sector * SECTOR_BYTES).min(self.bytes.len());
        let to = (from + SECTOR_BYTES).min(self.bytes.len());
        let target = &mut self.bytes[from..to];
        target.fill(0);
        let known = before.len().min(target.len());
        target[..known].copy_from_slice(&before[..known]);
    }
}

/// One process's hold on the disk.
struct Mount {
    disk: SimDisk,
    mount: u64,
}

impl Drop for Mount {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.mounted == Some(self.mount) {
            state.mounted = None;
        }
    }
}

impl Mount {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        live_state(&self.disk, self.mount)
    }
}

fn live_state(disk: &SimDisk, mount: u64) -> io::Result<MutexGuard<'_, State>> {
    let state = disk.state();
    // A file may outlive the mount that opened it, but not a crash or the
    // next process.
    if state.mounts != mount || state.mounted.is_none() {
        return Err(io::Error::other("this process is dead: the disk is gone"));
    }
    Ok(state)
}

fn not_found(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{name}: no such file"))
}

impl Disk for Mount {
    fn open(&self, name: &str, create: bool) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state()?;
        let number = match state.names.get(name).copied() {
            Some(number) => number,
            None if create => {
                state.next_file += 1;
                let number = state.next_file;
                state.files.insert(number, FileState::default());
                state.change_names(None, Some((name, number)));
                number
            }
            None => return Err(not_found(name)),
        };
        Ok(Box::new(SimFile { disk: self.disk.clone(), mount: self.mount, number }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let state = self.state()?;
        Ok(state
            .names
            .keys()
            .filter_map(|name| {
                let (parent, file) = name.rsplit_once('/').unwrap_or(("", name));
                (parent == dir).then(|| file.to_owned())
            })
            .collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state()?;
        let number = state.names.get(from).copied().ok_or_else(|| not_found(from))?;
        state.change_names(Some(from), Some((to, number)));
        state.drop_unnamed();
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state()?;
        if !state.names.contains_key(name) {
            return Err(not_found(name));
        }
        state.change_names(Some(name), None);
        state.drop_unnamed();
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut guard = self.state()?;
        let state = &mut *guard;
        let changes = std::mem::take(&mut state.name_changes);
        for change in changes {
            if change.is_in(dir) {
                change.apply(&mut state.durable_names);
            } else {
                state.name_changes.push(change);
            }
        }
        state.drop_unnamed();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.state()?;
        Ok(state.capacity.saturating_sub(state.used()))
    }
}

struct SimFile {
    disk: SimDisk,
    mount: u64,
    number: u64,
}

fn to_index(position: u64) -> io::Result<usize> {
    usize::try_from(position).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "position too large"))
}

impl SimFile {
    fn with<T>(&self, f: impl FnOnce(&mut State, u64) -> io::Result<T>) -> io::Result<T> {
        f(&mut *live_state(&self.disk, self.mount)?, self.number)
    }
}

fn file(state: &mut State, number: u64) -> io::Result<&mut FileState> {
    state.files.get_mut(&number).ok_or_else(|| not_found("removed file"))
}

impl DiskFile for SimFile {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = to_index(offset)?;
        self.with(|state, number| {
            state.counters.writes += 1;
            if state.fail_writes > 0 {
                state.fail_writes -= 1;
                return Err(io::Error::other("injected write failure"));
            }
            let growth = (offset + data.len()).saturating_sub(file(state, number)?.bytes.len());
            if growth > 0 {
                state.check_room(growth)?;
            }
            file(state, number)?.write(offset, data);
            Ok(())
        })
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let offset = to_index(offset)?;
        self.with(|state, number| {
            let bytes = &file(state, number)?.bytes;
            let source = bytes
                .get(offset..offset + buffer.len())
                .ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "read past the end"))?;
            buffer.copy_from_slice(source);
            Ok(())
        })
    }

    fn length(&self) -> io::Result<u64> {
        self.with(|state, number| Ok(file(state, number)?.bytes.len() as u64))
    }

    fn zero_fill(&self, bytes: u64) -> io::Result<()> {
        let len = to_index(bytes)?;
        self.with(|state, number| {
            let growth = len.saturating_sub(file(state, number)?.bytes.len());
            state.check_room(growth)?;
            let file = file(state, number)?;
            file.resize(0);
            file.resize(len);
            Ok(())
        })
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let len = to_index(bytes)?;
        self.with(|state, number| {
            let growth = len.saturating_sub(file(state, number)?.bytes.len());
            state.check_room(growth)?;
            file(state, number)?.resize(len);
            Ok(())
        })
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let len = to_index(bytes)?;
        self.with(|state, number| {
            file(state, number)?.resize(len);
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|state, number| {
            if state.fail_syncs > 0 {
                state.fail_syncs -= 1;
                return Err(io::Error::other("injected sync failure"));
            }
            state.counters.syncs += 1;
            file(state, number)?.sync();
            Ok(())
        })
    }

    fn sync_delay(&self) -> Duration {
        self.disk.state().sync_delay
    }
}
