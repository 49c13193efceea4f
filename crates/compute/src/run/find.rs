//! Which file a program's name means, as the shell finds it. Done here, not by
//! the C library: the standard library starts a path without a copy of this
//! process's memory map, but a name in a changed `PATH` with one, which costs
//! more than all the rest of a short task.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// The file that `name` means with this `PATH`; `None`: there is none, or only
/// the task's own directory decides.
pub(super) fn program(name: &[u8], path: &str) -> Option<PathBuf> {
    if name.is_empty() || name.contains(&b'/') {
        return None;
    }
    for folder in path.split(':').map(Path::new) {
        if !folder.is_absolute() {
            return None;
        }
        let file = folder.join(OsStr::from_bytes(name));
        if access(&file, Access::EXEC_OK).is_ok() && file.is_file() {
            return Some(file);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_first_that_may_be_executed_is_meant() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = |folder: &str, name: &str, mode| {
            let folder = dir.path().join(folder);
            std::fs::create_dir_all(&folder).expect("made");
            std::fs::write(folder.join(name), "").expect("written");
            std::fs::set_permissions(folder.join(name), Permissions::from_mode(mode)).expect("ours");
            folder.join(name)
        };
        file("a", "plain", 0o644);
        std::fs::create_dir_all(dir.path().join("a/tool")).expect("a folder of that name");
        let second = file("b", "tool", 0o755);
        let path = format!("{0}/none:{0}/a:{0}/b", dir.path().display());
        assert_eq!(program(b"tool", &path), Some(second));
        assert_eq!(program(b"none", &path), None);
        assert_eq!(program(b"./tool", &path), None, "a path already");
        assert_eq!(program(b"tool", &format!("bin:{path}")), None, "relative to the task");
        assert_eq!(program(b"", &path), None);
    }
}
