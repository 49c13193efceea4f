//! The data directory is its owner's alone: whoever reads the key in it can
//! pass for the node.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use crate::failure::Failure;

/// Read, write and list: the owner.
const OWNER_ONLY: u32 = 0o700;
/// What others may do.
const OTHERS: u32 = 0o077;
/// Folder that only a node's data directory has.
const NODE_FOLDER: &str = "node";

/// Makes the directory `data` for its owner only. One that is there is closed
/// to others if it is empty or a node's; a folder with other things in it is
/// not touched.
///
/// # Errors
/// It cannot be made, or others may look into it.
pub fn make_private(data: &Path) -> Result<(), Failure> {
    DirBuilder::new().recursive(true).mode(OWNER_ONLY).create(data).map_err(|error| {
        Failure::new(format!("cannot make the data directory {}: {error}", data.display()))
            .hint("name a folder that can be written with --data DIR")
    })?;
    let mode = fs::metadata(data).map(|found| found.permissions().mode() & 0o777);
    let mode = mode.map_err(|error| open_to_others(data, &error))?;
    if mode & OTHERS == 0 {
        return Ok(());
    }
    let is_node = data.join(NODE_FOLDER).is_dir();
    if !is_node && !is_empty(data).map_err(|error| open_to_others(data, &error))? {
        return Err(open_to_others(data, &format!("mode {mode:o}, and other things are in it")));
    }
    fs::set_permissions(data, Permissions::from_mode(OWNER_ONLY))
        .map_err(|error| open_to_others(data, &error))?;
    if is_node {
        tracing::warn!(
            data = %data.display(),
            "others could read this node's key: the data directory had mode {mode:o} and has 700 now"
        );
    }
    Ok(())
}

fn is_empty(data: &Path) -> io::Result<bool> {
    Ok(fs::read_dir(data)?.next().is_none())
}

fn open_to_others(data: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("others may look into the data directory {}: {why}", data.display()))
        .hint(format!("chmod 700 {}, or name another folder with --data DIR", data.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").permissions().mode() & 0o777
    }

    fn folder(parent: &Path, name: &str, inside: Option<&str>) -> std::path::PathBuf {
        let made = parent.join(name);
        fs::create_dir(&made).expect("made");
        if let Some(inside) = inside {
            fs::create_dir(made.join(inside)).expect("made");
        }
        fs::set_permissions(&made, Permissions::from_mode(0o755)).expect("ours");
        made
    }

    #[test]
    fn a_new_an_empty_and_a_nodes_directory_become_their_owners_alone() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let new = dir.path().join("parent/new");
        let empty = folder(dir.path(), "empty", None);
        let old = folder(dir.path(), "old", Some(NODE_FOLDER));
        for data in [new, empty, old] {
            make_private(&data).expect("ours");
            assert_eq!(mode(&data), OWNER_ONLY, "{}", data.display());
        }
    }

    #[test]
    fn a_folder_with_other_things_is_refused_and_not_touched() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let shared = folder(dir.path(), "shared", Some("photos"));
        let refused = make_private(&shared).expect_err("others may look into it").to_string();
        assert!(refused.contains("mode 755") && refused.contains("chmod 700"), "{refused}");
        assert_eq!(mode(&shared), 0o755);
        fs::set_permissions(&shared, Permissions::from_mode(OWNER_ONLY)).expect("ours");
        make_private(&shared).expect("it is the owner's alone");
    }
}
