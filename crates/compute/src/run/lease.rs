//! The lease under which launchers let tasks run: a number in memory that the
//! node writes anew and they read. A node that is stopped cannot kill what it
//! executes, while others execute that again: its launchers then do it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};

/// How often it is written: a third of what launchers wait for.
pub(super) const RENEW_EVERY: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Lease {
    number: File,
    /// What launchers get: they cannot write it.
    read: File,
}

impl Lease {
    pub(super) fn new() -> io::Result<Self> {
        let number = File::from(memfd_create("trine-lease", MemfdFlags::CLOEXEC)?);
        let read = File::open(format!("/proc/self/fd/{}", number.as_raw_fd()))?;
        Ok(Self { number, read })
    }

    /// Writes the next number.
    pub(super) fn renew(&self, number: u64) {
        if let Err(error) = self.number.write_all_at(&number.to_le_bytes(), 0) {
            tracing::warn!(%error, "the lease of tasks is not renewed: they will be killed");
        }
    }

    pub(super) fn reader(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_see_what_was_written_last_and_cannot_write() {
        let lease = Lease::new().expect("memory");
        let reader = File::from(lease.reader().try_clone_to_owned().expect("a descriptor"));
        let read = || {
            let mut number = [0; 8];
            reader.read_at(&mut number, 0).map(|count| (count, u64::from_le_bytes(number))).expect("read")
        };
        assert_eq!(read(), (0, 0));
        for number in [1, 300] {
            lease.renew(number);
            assert_eq!(read(), (8, number));
        }
        assert!(reader.write_at(&[1], 0).is_err());
    }
}
