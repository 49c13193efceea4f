//! The product's disk: files below one directory, locked against a second
//! process.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock, statvfs};

use super::{Disk, DiskFile};

/// Whoever holds the lock on this file owns the directory.
const LOCK_NAME: &str = "lock";

/// Zeros are written in pieces of this many bytes.
const ZERO_CHUNK_BYTES: usize = 1024 * 1024;

/// Zeros are synced in pieces, so that they never pile up before the log's
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
        Ok(Box::new(RealFile { file }))
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
        self.file.sync_data()
    }
}
