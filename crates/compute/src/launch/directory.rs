//! The directory of a task. Making and removing one takes 30 µs (ext4), a look
//! at it 5: one that a task has left exactly as it was made is the next one's.

use std::fs::{DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What nobody can change without a trace: which directory, of whom, open to
/// whom, and when anything of that, or in it, was changed last.
type Mark = (u64, u64, u32, u32, i64, i64);

fn mark(found: &Metadata) -> Mark {
    (found.dev(), found.ino(), found.mode(), found.uid(), found.ctime(), found.ctime_nsec())
}

/// A directory that was empty when it was made.
pub(super) struct Directory {
    path: PathBuf,
    mark: Mark,
}

impl Directory {
    /// Makes one.
    ///
    /// # Errors
    /// It is there already, or cannot be made.
    pub(super) fn make(path: &Path) -> io::Result<Self> {
        DirBuilder::new().mode(0o700).create(path)?;
        let mark = mark(&std::fs::symlink_metadata(path)?);
        Ok(Self { path: path.to_owned(), mark })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is as it was made. Both are asked: the clock of a file system
    /// may stand still for some milliseconds.
    pub(super) fn is_untouched(&self) -> bool {
        let same = std::fs::symlink_metadata(&self.path).is_ok_and(|found| mark(&found) == self.mark);
        same && std::fs::read_dir(&self.path).is_ok_and(|mut entries| entries.next().is_none())
    }
}

/// Removes a file, or a directory with all that is in it.
pub(super) fn remove(path: &Path) {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path).or_else(|_| {
            open_all(path);
            std::fs::remove_dir_all(path)
        }),
        Ok(_) => std::fs::remove_file(path),
        Err(_) => return,
    };
    // An error: the next launcher in this folder tries again.
    let _ = removed;
}

/// Undoes what a task has closed to itself.
fn open_all(folder: &Path) {
    // An error: removing says so.
    let _ = std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700));
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_all(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    #[test]
    fn a_directory_is_the_next_one_s_only_if_nothing_of_it_was_changed() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("0");
        let changes: [fn(&Path); 4] = [
            |path| fs::write(path.join("file"), "").expect("written"),
            |path| fs::set_permissions(path, Permissions::from_mode(0o755)).expect("ours"),
            |path| {
                fs::rename(path, path.with_extension("moved")).expect("moved");
                fs::create_dir(path).expect("made");
            },
            |path| {
                fs::remove_dir(path).expect("removed");
                std::os::unix::fs::symlink("/", path).expect("linked");
            },
        ];
        for change in changes {
            let made = Directory::make(&path).expect("made");
            assert!(made.is_untouched());
            change(&path);
            assert!(!made.is_untouched());
            remove(&path);
            assert!(!made.is_untouched());
        }
    }
}
