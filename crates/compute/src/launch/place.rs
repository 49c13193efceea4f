//! Folders and users of cells. Each is taken by one cell at a time, of whatever
//! node of this machine: a lock on a file says so, which ends with whoever holds
//! it, the node or the launcher that it was handed to. The file is beside the
//! folder; for a user of its own it is where all nodes look, wherever they have
//! their folders: who ends a task ends all that its user runs.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::confine::Confinement;

/// Most cells of one machine (of one node, where they run as its user).
pub const MAX_CELLS: u32 = 4_096;
/// The user of the first cell, unless it is configured; the others follow.
/// Numbers that no distribution gives to anybody.
pub const FIRST_UID: u32 = 53_000;
/// Where cells of other users are: not in the data directory, which they cannot
/// enter.
pub const SHARED_FOLDER: &str = "/var/tmp/trine-tasks";

/// How all cells of a node are shut in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Isolation {
    /// Each as a user that nobody else is, counted from this number.
    OwnUsers(u32),
    /// All as this user.
    User {
        /// The user.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// As the node's user, who cannot reach these paths any more.
    Fence(Vec<PathBuf>),
    /// Not at all.
    Nothing,
}

impl std::fmt::Display for Isolation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OwnUsers(first) => write!(f, "users of their own, from {first}"),
            Self::User { uid, .. } => write!(f, "user {uid}"),
            Self::Fence(_) => f.write_str("a fence around the data directory (Landlock)"),
            Self::Nothing => f.write_str("nothing"),
        }
    }
}

/// The folder of a cell, as long as this lives or its lock is held elsewhere.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) folder: PathBuf,
    pub(crate) confinement: Confinement,
    pub(crate) lock: File,
}

/// Takes the first place in `root` that is free.
///
/// # Errors
/// None is, or the folder is somebody else's, or cannot be used.
pub(crate) fn claim(root: &Path, isolation: &Isolation) -> io::Result<Place> {
    make_root(root, isolation)?;
    let locks = match isolation {
        Isolation::OwnUsers(_) if root != Path::new(SHARED_FOLDER) => {
            make_root(Path::new(SHARED_FOLDER), isolation)?;
            Path::new(SHARED_FOLDER)
        }
        _ => root,
    };
    for number in 0..MAX_CELLS {
        let (name, confinement) = cell(number, isolation);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .custom_flags(i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0))
            .open(locks.join(format!(".{name}")))?;
        match lock.try_lock() {
            Ok(()) => {
                let folder = root.join(name);
                make_folder(&folder, &confinement)?;
                return Ok(Place { folder, confinement, lock });
            }
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::other(format!("{MAX_CELLS} tasks and interpreters run on this machine already")))
}

fn cell(number: u32, isolation: &Isolation) -> (String, Confinement) {
    match isolation {
        Isolation::OwnUsers(first) => {
            let uid = first.saturating_add(number);
            (uid.to_string(), Confinement::User { uid, gid: uid, alone: true })
        }
        Isolation::User { uid, gid } => {
            (format!("{uid}-{number}"), Confinement::User { uid: *uid, gid: *gid, alone: false })
        }
        Isolation::Fence(hidden) => (number.to_string(), Confinement::Fence { hidden: hidden.clone() }),
        Isolation::Nothing => (number.to_string(), Confinement::Nothing),
    }
}

/// The folder of all cells: this process's user's, and nobody else writes in it.
fn make_root(root: &Path, isolation: &Isolation) -> io::Result<()> {
    let others_pass = matches!(isolation, Isolation::OwnUsers(_) | Isolation::User { .. });
    let mode = if others_pass { 0o711 } else { 0o700 };
    match DirBuilder::new().recursive(true).mode(mode).create(root) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = std::fs::symlink_metadata(root)?;
    let own = rustix::process::geteuid().as_raw();
    if !found.is_dir() || found.uid() != own || found.mode() & 0o022 != 0 {
        let what = format!("{} is not a directory that only user {own} may write to", root.display());
        return Err(io::Error::other(what));
    }
    if found.mode() & 0o777 != mode {
        std::fs::set_permissions(root, Permissions::from_mode(mode))?;
    }
    Ok(())
}

fn make_folder(folder: &Path, confinement: &Confinement) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if let Confinement::User { uid, gid, .. } = confinement {
        std::os::unix::fs::lchown(folder, Some(*uid), Some(*gid))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_taken_by_one_at_a_time() {
        let dir = tempfile::tempdir().expect("a folder");
        let root = dir.path().join("cells");
        let take = || claim(&root, &Isolation::Nothing).expect("a place");
        let (first, second) = (take(), take());
        assert_ne!(first.folder, second.folder);
        // Held on by another who was handed it, as a launcher is.
        let handed = first.lock.try_clone().expect("a descriptor");
        let folder = first.folder.clone();
        drop(first);
        let third = take();
        assert_ne!(third.folder, folder);
        drop(handed);
        assert_eq!(take().folder, folder);
    }

    #[test]
    fn nodes_with_folders_of_their_own_do_not_share_users() {
        if !rustix::process::geteuid().is_root() {
            println!("NOT RUN: only root runs tasks as other users");
            return;
        }
        let dir = tempfile::tempdir().expect("a folder");
        let take = |name| claim(&dir.path().join(name), &Isolation::OwnUsers(FIRST_UID)).expect("a place");
        let (here, there) = (take("here"), take("there"));
        assert_ne!(here.confinement, there.confinement);
    }

    #[test]
    fn a_folder_that_others_may_change_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let root = dir.path().join("cells");
        std::fs::create_dir(&root).expect("made");
        std::fs::set_permissions(&root, Permissions::from_mode(0o777)).expect("ours");
        let refused = claim(&root, &Isolation::Nothing).expect_err("open to all").to_string();
        assert!(refused.contains("only user"), "{refused}");
    }
}
