//! The product's disk: files below one directory, locked against a second
//! process.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::fs::{FlockOperation, flock, statvfs};

use super::{Disk, DiskFile};

/// Whoever holds the lock on this file owns the directory.
const LOCK_NAME: &str = "lock";

/// Zeros are written in pieces of this many bytes.
const ZERO_CHUNK_BYTES: usize = 1024 * 1024;

/// Writes past the page cache begin and end at multiples of this, in the file
/// and in memory.
const ALIGNMENT: usize = 4096;

/// Longer writes past the page cache are cut into pieces of this many bytes.
const DIRECT_BYTES: usize = 256 * 1024;

/// A file keeps a buffer of this many bytes for the next write; a larger one
/// is given back.
const KEPT_BYTES: usize = 64 * 1024 + ALIGNMENT;

/// Zeros in the page cache are synced in pieces, so that they never pile up before the log's
/// own syncs.
const SYNC_EVERY_BYTES: u64 = 8 * 1024 * 1024;

/// A directory on a real disk. Dropping it releases the lock.
pub struct RealDisk {
    root: PathBuf,
    _lock: File,
}

impl RealDisk {
    /// Opens (or creates) the directory `root` for this process alone.
    ///
    /// # Errors
    /// `ResourceBusy` when another process has it open; what the operating
    /// system says otherwise. The text names the directory.
    pub fn open(root: &Path) -> io::Result<Self> {
        Self::open_locked(root)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", root.display())))
    }

    fn open_locked(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(root.join(LOCK_NAME))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(io::Error::new(
                    io::ErrorKind::ResourceBusy,
                    "another process is using this data directory",
                ));
            }
            Err(error) => return Err(error.into()),
        }
        let disk = Self { root: root.to_path_buf(), _lock: lock };
        if let Some(parent) = root.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent)?.sync_all()?;
        }
        disk.sync_dir("")?;
        Ok(disk)
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn create_parent(&self, name: &str) -> io::Result<()> {
        let Some((dir, _)) = name.rsplit_once('/') else { return Ok(()) };
        if self.path(dir).is_dir() {
            return Ok(());
        }
        fs::create_dir_all(self.path(dir))?;
        // The directory's own name must survive too: sync every ancestor.
        let mut ancestor = dir;
        while let Some((parent, _)) = ancestor.rsplit_once('/') {
            self.sync_dir(parent)?;
            ancestor = parent;
        }
        self.sync_dir("")
    }
}

impl Disk for RealDisk {
    fn open(&self, name: &str, create: bool) -> io::Result<Box<dyn DiskFile>> {
        if create {
            self.create_parent(name)?;
        }
        let file =
            OpenOptions::new().read(true).write(true).create(create).truncate(false).open(self.path(name))?;
        Ok(Box::new(RealFile { file, direct: OnceLock::new() }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.path(dir)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
                && !(dir.is_empty() && name == LOCK_NAME)
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        File::open(self.path(dir))?.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = statvfs(&self.root)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

struct RealFile {
    file: File,
    /// Opened by the first write that can use it; `None`: it cannot be.
    direct: OnceLock<Option<Direct>>,
}

impl RealFile {
    fn direct(&self) -> Option<&Direct> {
        self.direct.get_or_init(|| Direct::open(&self.file)).as_ref()
    }
}

/// A second handle to a file, for writes past the page cache. What is written
/// once, synced at once and rarely read, costs half as much processor time so,
/// and its sync need not look for it.
struct Direct {
    file: File,
    /// Where what is written is aligned. A file has one writer, so that nobody
    /// waits for the lock.
    buffer: Mutex<Vec<u8>>,
}

impl Direct {
    /// `None` if the file system does not know such writes.
    #[cfg(target_os = "linux")]
    fn open(file: &File) -> Option<Self> {
        use std::os::fd::AsRawFd;
        use std::os::unix::fs::OpenOptionsExt;

        let flags = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).ok()?;
        // By this name it is the same file, whatever it was renamed to.
        let name = format!("/proc/self/fd/{}", file.as_raw_fd());
        let file = OpenOptions::new().write(true).custom_flags(flags).open(name).ok()?;
        Some(Self { file, buffer: Mutex::default() })
    }

    #[cfg(not(target_os = "linux"))]
    fn open(_: &File) -> Option<Self> {
        None
    }

    /// Writes `bytes` bytes from `offset` on, which `fill` puts into the buffer
    /// piece by piece. `InvalidInput`: the file system does not like it.
    fn write(&self, offset: u64, bytes: u64, fill: impl Fn(u64, &mut [u8])) -> io::Result<()> {
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        let most = usize::try_from(bytes).map_or(DIRECT_BYTES, |bytes| bytes.min(DIRECT_BYTES));
        if buffer.len() < most + ALIGNMENT {
            *buffer = vec![0; most + ALIGNMENT];
        }
        let first = buffer.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        let mut done = 0;
        while done < bytes {
            let piece = usize::try_from(bytes - done).map_or(most, |left| left.min(most));
            let aligned = &mut buffer[first..first + piece];
            fill(done, aligned);
            self.file.write_all_at(aligned, offset + done)?;
            done += piece as u64;
        }
        if buffer.len() > KEPT_BYTES {
            *buffer = Vec::new();
        }
        Ok(())
    }
}

/// Whether a write of so many bytes from there on may pass the page cache.
fn is_aligned(offset: u64, bytes: u64) -> bool {
    bytes > 0 && offset.is_multiple_of(ALIGNMENT as u64) && bytes.is_multiple_of(ALIGNMENT as u64)
}

/// `Some` unless the file system turned out not to like such writes.
fn taken(written: io::Result<()>) -> Option<io::Result<()>> {
    Some(written).filter(|written| !matches!(written, Err(e) if e.kind() == io::ErrorKind::InvalidInput))
}

/// Takes space for the first `bytes` of `file`; false where the file system
/// cannot.
#[cfg(target_os = "linux")]
fn reserve(file: &File, bytes: u64) -> io::Result<bool> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::OPNOTSUPP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn reserve(_: &File, _: u64) -> io::Result<bool> {
    Ok(false)
}

impl DiskFile for RealFile {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let bytes = data.len() as u64;
        if is_aligned(offset, bytes)
            && let Some(direct) = self.direct()
        {
            let copy = |done: u64, aligned: &mut [u8]| {
                let from = usize::try_from(done).unwrap_or(data.len());
                aligned.copy_from_slice(&data[from..from + aligned.len()]);
            };
            if let Some(written) = taken(direct.write(offset, bytes, copy)) {
                return written;
            }
        }
        self.file.write_all_at(data, offset)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn zero_fill(&self, bytes: u64) -> io::Result<()> {
        // Reserve first, so that a full disk is known before anything is
        // written; then write real zeros, because writes into merely reserved
        // extents cost a metadata update in each fdatasync.
        reserve(&self.file, bytes)?;
        if is_aligned(0, bytes)
            && let Some(direct) = self.direct()
            && let Some(written) = taken(direct.write(0, bytes, |_, aligned| aligned.fill(0)))
        {
            return written.and_then(|()| self.file.set_len(bytes));
        }
        let zeros = vec![0; ZERO_CHUNK_BYTES];
        let mut offset = 0;
        while offset < bytes {
            let piece = usize::try_from(bytes - offset).map_or(zeros.len(), |left| left.min(zeros.len()));
            self.file.write_all_at(&zeros[..piece], offset)?;
            offset += piece as u64;
            if offset.is_multiple_of(SYNC_EVERY_BYTES) {
                self.file.sync_data()?;
            }
        }
        self.file.set_len(bytes)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        if reserve(&self.file, bytes)? { self.file.set_len(bytes) } else { self.zero_fill(bytes) }
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        match self.direct.get() {
            Some(Some(direct)) => direct.file.sync_data(),
            _ => self.file.sync_data(),
        }
    }
}
