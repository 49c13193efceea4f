//! The disk seam: the few operations that the log and the small node files
//! need, synchronous, with names relative to the node's data directory. It
//! exists so that the simulator runs the very code that the product runs, on
//! a disk that loses unsynced bytes, tears writes, fills up and fails syncs.
//!
//! What a crash may take, on either twin: bytes written since the last
//! [`DiskFile::sync`] of that file (whole 512-byte sectors, in any
//! combination), and names created, renamed or removed since the last
//! [`Disk::sync_dir`] of that directory.

mod real;
mod simulated;
#[cfg(test)]
mod suite;

use std::io;
use std::time::Duration;

pub use real::RealDisk;
pub use simulated::{SimDisk, SimDiskCounters};

/// The unit that a disk writes whole or not at all, in bytes.
pub const SECTOR_BYTES: usize = 512;

/// One directory tree on one disk, held by one process.
pub trait Disk: Send + Sync + 'static {
    /// Opens `name` for reading and writing. With `create`, a missing file
    /// (and its directory) is made, empty.
    ///
    /// # Errors
    /// `NotFound` without `create`; what the operating system says otherwise.
    fn open(&self, name: &str, create: bool) -> io::Result<Box<dyn DiskFile>>;

    /// The names of the files in `dir`, sorted, without the directory. A
    /// directory that does not exist has none.
    ///
    /// # Errors
    /// What the operating system says.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;

    /// Gives `from` the name `to`, replacing what has it. Durable after
    /// [`Disk::sync_dir`].
    ///
    /// # Errors
    /// `NotFound` when `from` does not exist.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes `name`. Durable after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// `NotFound` when it does not exist.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes creations, renames and removals in `dir` durable. `""` is the
    /// root.
    ///
    /// # Errors
    /// What the operating system says; what is durable then is unknown.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;

    /// Bytes that this process may still allocate on the disk.
    ///
    /// # Errors
    /// What the operating system says.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// An open file. Positions and lengths are in bytes.
pub trait DiskFile: Send + Sync + 'static {
    /// Writes all of `data` at `offset`, growing the file if needed. Not
    /// durable before [`DiskFile::sync`].
    ///
    /// # Errors
    /// `StorageFull` when the disk is full; part of `data` may be written.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before the buffer is full.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// The file's length.
    ///
    /// # Errors
    /// What the operating system says.
    fn length(&self) -> io::Result<u64>;

    /// Makes the file `bytes` long with every byte zero *and allocated*, so
    /// that later writes inside it neither fail for space nor change metadata.
    /// Only for new files: it overwrites. Not durable before
    /// [`DiskFile::sync`].
    ///
    /// # Errors
    /// `StorageFull` when the disk is full.
    fn zero_fill(&self, bytes: u64) -> io::Result<()>;

    /// Makes the file `bytes` long, with all of it taken from the disk: for
    /// files that only hold space. Bytes that were not there read as zero.
    /// Not durable before [`DiskFile::sync`].
    ///
    /// # Errors
    /// `StorageFull` when the disk is full.
    fn allocate(&self, bytes: u64) -> io::Result<()>;

    /// Cuts or extends the file to `bytes`; new bytes read as zero.
    ///
    /// # Errors
    /// What the operating system says.
    fn set_len(&self, bytes: u64) -> io::Result<()>;

    /// `fdatasync`: returns once all bytes written so far (and the length
    /// needed to read them) survive a power failure.
    ///
    /// # Errors
    /// After an error nothing is known about any unsynced byte, and a second
    /// sync that succeeds proves nothing. Callers must not retry.
    fn sync(&self) -> io::Result<()>;

    /// How much longer than usual a sync takes now. Time cannot pass within a
    /// synchronous call of a simulated disk, so that whoever syncs lets it
    /// pass; a real disk has nothing to say.
    fn sync_delay(&self) -> Duration {
        Duration::ZERO
    }
}
