//! What a task may write: as much as there is room for, less what the node and
//! others need. While there is too little room, tasks that have written much
//! are ended, before the log of the node has none.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::launch::group::bytes;

/// How often the room is looked at while a task runs.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Room that tasks leave on the disk of their directories, and on the node's.
/// Four times what the log needs to go on.
const RESERVE_BYTES: u64 = 1024 * 1024 * 1024;
/// Of a small disk, they leave this part.
const RESERVE_PART: u64 = 10;
/// A task with less than this has not filled the disk.
const MUCH_BYTES: u64 = 16 * 1024 * 1024;
/// A task with fewer files has not used them up.
const MANY_FILES: u64 = 10_000;

/// Waits until the task in `folder` has filled its disk; says so.
pub(crate) async fn filled(folder: PathBuf) -> String {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    // The first comes at once.
    looks.tick().await;
    loop {
        looks.tick().await;
        let Some(left) = too_little(&folder) else { continue };
        let at = folder.clone();
        let Ok((size, files)) = tokio::task::spawn_blocking(move || measure(&at)).await else { continue };
        if size >= MUCH_BYTES || files >= MANY_FILES {
            return format!("it filled the disk: {files} files, {}; {left}", bytes(size));
        }
    }
}

/// Says how little room there is, if it is too little.
fn too_little(folder: &Path) -> Option<String> {
    let found = rustix::fs::statvfs(folder).ok()?;
    let (free, all) = (found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize);
    let reserve = RESERVE_BYTES.min(all / RESERVE_PART);
    if free < reserve {
        return Some(format!(
            "{} of {} were left, and {} are kept free",
            bytes(free),
            bytes(all),
            bytes(reserve)
        ));
    }
    let few = found.f_files > 0 && found.f_favail < found.f_files / RESERVE_PART / 2;
    few.then(|| format!("room for {} more files was left", found.f_favail))
}

/// The size of all that is in a folder, as the disk counts it, and how many.
fn measure(folder: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    let (mut size, mut files) = (0, 0);
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(found) = entry.metadata() else { continue };
            files += 1;
            size += found.blocks() * 512;
            if found.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    (size, files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_folder_is_counted_and_links_are_not_followed() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(dir.path().join("deep")).expect("made");
        std::fs::write(dir.path().join("deep/file"), vec![1; 1 << 20]).expect("written");
        std::os::unix::fs::symlink("/", dir.path().join("link")).expect("linked");
        let (size, files) = measure(dir.path());
        assert_eq!(files, 3);
        assert!((1 << 20..2 << 20).contains(&size), "{size}");
    }
}
