//! Ways to programs that lie in a folder which is closed to the tasks' users,
//! as a Python in the home of root. A launcher has its own view of the file
//! system: there an empty folder lies over the closed one, and in that nothing
//! but the trees that are meant, at their paths, for reading alone. What the
//! modes in such a tree keep from strangers stays closed.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::mount::{
    MountFlags, MountPropagationFlags, mount, mount_bind_recursive, mount_change, mount_remount,
};
use rustix::thread::UnshareFlags;

/// Most bytes of the empty folder: it holds names alone.
const COVER_OPTIONS: &std::ffi::CStr = c"mode=0755,size=1m";

/// A user and a group that nobody is.
const STRANGER: (u32, u32) = (u32::MAX, u32::MAX);

/// Opens these trees, and nothing beside them, to this process and what it
/// starts, as far as they are closed to this user and group. It must have one
/// thread.
///
/// # Errors
/// The system does not let it have its own view.
pub(super) fn open(trees: &[PathBuf], user: (u32, u32)) -> io::Result<()> {
    let mut covers: BTreeMap<PathBuf, Vec<&PathBuf>> = BTreeMap::new();
    for tree in trees {
        if let Some(closed) = closed_above(tree, user) {
            covers.entry(closed).or_default().push(tree);
        }
    }
    if covers.is_empty() {
        return Ok(());
    }
    #[expect(deprecated, reason = "unsafe are other flags, which part the descriptors of threads")]
    rustix::thread::unshare(UnshareFlags::NEWNS)?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    covers.into_iter().try_for_each(|(closed, trees)| cover(&closed, &trees))
}

fn cover(closed: &Path, trees: &[&PathBuf]) -> io::Result<()> {
    let path_only = |tree: &&PathBuf| {
        let flags = i32::try_from((OFlags::PATH | OFlags::NOFOLLOW).bits()).unwrap_or(0);
        OpenOptions::new().read(true).custom_flags(flags).open(tree)
    };
    // Once covered, they have no path.
    let held = trees.iter().map(path_only).collect::<io::Result<Vec<_>>>()?;
    let safe = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", closed, "tmpfs", safe, Some(COVER_OPTIONS))?;
    for (tree, held) in trees.iter().zip(held) {
        DirBuilder::new().recursive(true).mode(0o755).create(tree)?;
        mount_bind_recursive(format!("/proc/self/fd/{}", held.as_raw_fd()), tree.as_path())?;
        mount_remount(tree.as_path(), MountFlags::BIND | MountFlags::RDONLY | safe, c"")?;
    }
    mount_remount(closed, MountFlags::RDONLY | safe, COVER_OPTIONS)?;
    Ok(())
}

/// The first folder on the way to `tree` that this user cannot pass.
fn closed_above(tree: &Path, user: (u32, u32)) -> Option<PathBuf> {
    let mut way: Vec<&Path> = tree.ancestors().skip(1).collect();
    way.reverse();
    let closed = |folder: &&&Path| std::fs::metadata(folder).is_ok_and(|meta| !may_pass(&meta, user));
    way.iter().find(closed).map(|folder| folder.to_path_buf())
}

/// Whether a folder can be passed by this user with this group.
fn may_pass(folder: &Metadata, (uid, gid): (u32, u32)) -> bool {
    let bit = match () {
        () if uid == folder.uid() => 0o100,
        () if gid == folder.gid() => 0o010,
        () => 0o001,
    };
    folder.mode() & bit != 0
}

/// The trees of the Pythons that this `PATH`, and the one program that is named
/// beside it, mean, as far as they lie in closed folders; none that holds, or
/// lies in, one of `hidden`.
#[must_use]
pub fn pythons(path: &str, named: Option<&str>, hidden: &[PathBuf]) -> Vec<PathBuf> {
    let folders = path.split(':').map(PathBuf::from).filter(|folder| folder.is_absolute());
    let inside = folders.flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten());
    let programs = inside.map(|entry| entry.path()).filter(|file| {
        file.file_name().is_some_and(|name| name.to_str().is_some_and(|name| name.starts_with("python3")))
    });
    let mut trees: Vec<PathBuf> =
        programs.chain(named.map(PathBuf::from)).flat_map(|file| trees_of(&file)).collect();
    trees.sort();
    trees.dedup();
    trees.retain(|tree| {
        let apart = |hidden: &PathBuf| !hidden.starts_with(tree) && !tree.starts_with(hidden);
        hidden.iter().all(apart) && closed_above(tree, STRANGER).is_some()
    });
    // One within another comes with that.
    let all = trees.clone();
    trees.retain(|tree| !all.iter().any(|other| other != tree && tree.starts_with(other)));
    trees
}

/// What a program needs that lies in `PREFIX/bin`: the prefix; and that of what
/// it is a link to. Never a closed folder as a whole.
fn trees_of(program: &Path) -> Vec<PathBuf> {
    let tree = |file: PathBuf| {
        let open = |folder: &&Path| std::fs::metadata(folder).is_ok_and(|meta| may_pass(&meta, STRANGER));
        let folder = file.parent()?.canonicalize().ok()?;
        // Only what stands below it, but not the folder of all homes, nor `/`.
        let prefix = folder.parent().filter(|prefix| prefix.parent().is_some_and(|up| up.parent().is_some()));
        prefix.filter(open).map(Path::to_owned).or_else(|| open(&folder.as_path()).then(|| folder.clone()))
    };
    [Some(program.to_owned()), program.canonicalize().ok()].into_iter().flatten().filter_map(tree).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn pythons_in_closed_homes_are_found_and_nothing_beside_them() {
        let dir = tempfile::tempdir().expect("a folder");
        let home = dir.path().canonicalize().expect("there");
        // What a temporary folder has above it is open; whether it is, depends on the mask.
        std::fs::set_permissions(&home, Permissions::from_mode(0o700)).expect("ours");
        for folder in ["py/versions/3.11/bin", "py/shims", "tools/bin", "bin", "data/bin"] {
            std::fs::create_dir_all(home.join(folder)).expect("made");
        }
        for file in
            ["py/versions/3.11/bin/python3.11", "py/shims/python3", "tools/bin/cargo", "data/bin/python3"]
        {
            std::fs::write(home.join(file), "").expect("written");
        }
        let linked = home.join("py/versions/3.11/bin/python3.11");
        std::os::unix::fs::symlink(linked, home.join("bin/python3.11")).expect("linked");
        let path = ["py/shims", "tools/bin", "bin", "data/bin"].map(|at| home.join(at).display().to_string());
        let found = || pythons(&path.join(":"), None, &[home.join("data")]);
        assert_eq!(found(), [home.join("bin"), home.join("py")], "the home is closed");
        assert_eq!(closed_above(&home.join("py"), STRANGER), Some(home.clone()));
        std::fs::set_permissions(&home, Permissions::from_mode(0o755)).expect("ours");
        assert!(found().is_empty(), "open to everybody");
    }

    #[test]
    fn an_owner_a_group_and_strangers_pass_by_their_own_bits() {
        let dir = tempfile::tempdir().expect("a folder");
        let pass = |mode, user| {
            std::fs::set_permissions(dir.path(), Permissions::from_mode(mode)).expect("ours");
            may_pass(&std::fs::metadata(dir.path()).expect("there"), user)
        };
        let meta = std::fs::metadata(dir.path()).expect("there");
        let (uid, gid) = (meta.uid(), meta.gid());
        assert!(pass(0o100, (uid, gid)) && !pass(0o011, (uid, gid)));
        assert!(pass(0o010, (uid + 1, gid)) && !pass(0o101, (uid + 1, gid)));
        assert!(pass(0o001, STRANGER) && !pass(0o770, STRANGER));
    }
}
