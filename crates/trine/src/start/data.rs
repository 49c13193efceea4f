//! The data directory as a whole: for its owner only, one process at a time.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::FlockOperation;

use crate::failure::Failure;

/// File whose lock says that a process uses the data directory.
const LOCK_FILE: &str = "lock";

/// Makes the data directory, for its owner only: the node's key is in it.
///
/// # Errors
/// The system refuses.
pub fn make_private(data: &Path) -> Result<(), Failure> {
    DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(|error| {
        Failure::new(format!("cannot make the data directory {}: {error}", data.display()))
            .hint("name a folder that can be written with --data DIR")
    })
}

/// Locks the data directory for this process; the kernel unlocks it when the
/// process ends, however it ends.
///
/// # Errors
/// Another process uses it, or the system refuses.
pub fn lock(data: &Path) -> Result<File, Failure> {
    let path = data.join(LOCK_FILE);
    let cannot = |error: std::io::Error| Failure::new(format!("cannot use {}: {error}", path.display()));
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(cannot)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(Failure::new(format!("another process uses the data directory {}", data.display()))
                .hint("stop it, or give this node a directory of its own with --data DIR"))
        }
        Err(error) => Err(cannot(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_has_one_user_at_a_time() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let held = lock(dir.path()).expect("free");
        let refused = lock(dir.path()).expect_err("held");
        assert!(refused.to_string().contains("another process"), "{refused}");
        drop(held);
        lock(dir.path()).expect("free again");
    }
}
