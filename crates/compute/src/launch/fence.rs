//! The fence around the data directory where tasks run as the node's user.
//! Landlock can only allow, and only whole trees: everything beside the way to
//! what is hidden is allowed, piece by piece. What is later made directly in a
//! directory on that way is not reachable to those who are inside already.
//!
//! Whoever is inside can neither trace nor look into a process outside
//! (`/proc/PID/…`), and from Linux 6.12 on not send it a signal.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus, Scope, path_beneath_rules,
};

/// The oldest that will do (Linux 6.2): older ones let files be cut to nothing.
const NEEDED: ABI = ABI::V3;
/// The newest whose rights are known here.
const KNOWN: ABI = ABI::V5;

/// Raises it around this thread, and what it starts.
///
/// # Errors
/// The kernel has no Landlock, or an old one, or a path cannot be read.
pub(super) fn raise(hidden: &[PathBuf], own: &Path) -> Result<(), String> {
    let mut open = Vec::new();
    let real: BTreeSet<PathBuf> = hidden.iter().filter_map(|path| path.canonicalize().ok()).collect();
    allowed(Path::new("/"), &real, &mut open).map_err(|error| format!("it cannot look around: {error}"))?;
    restrict(&open, own).map_err(|error| format!("Landlock (Linux 6.2 or newer) is not to be had: {error}"))
}

fn restrict(open: &[PathBuf], own: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(NEEDED))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        .scope(Scope::Signal)?
        .create()?
        .add_rules(path_beneath_rules(open, AccessFs::from_all(KNOWN)))?
        .add_rule(landlock::PathBeneath::new(PathFd::new(own)?, AccessFs::from_all(KNOWN)))?;
    let status = rules.restrict_self()?;
    if status.ruleset == RulesetStatus::NotEnforced || !status.no_new_privs {
        return Err("the kernel does not enforce it".into());
    }
    Ok(())
}

/// Collects the largest trees below `folder` that hold nothing hidden.
fn allowed(folder: &Path, hidden: &BTreeSet<PathBuf>, open: &mut Vec<PathBuf>) -> io::Result<()> {
    if hidden.contains(folder) {
        return Ok(());
    }
    if !hidden.iter().any(|path| path.starts_with(folder)) {
        open.push(folder.to_owned());
        return Ok(());
    }
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // A link is no way around: where it leads to must be allowed itself.
        if !entry.file_type()?.is_symlink() {
            allowed(&entry.path(), hidden, open)?;
        }
    }
    Ok(())
}

/// What tells whether a fence that was raised earlier is still the right one:
/// the names on the way to what is hidden.
#[derive(Debug)]
pub(crate) struct Stamp {
    hidden: Vec<PathBuf>,
    changed: Vec<Option<SystemTime>>,
    open: Vec<PathBuf>,
}

impl Stamp {
    pub(crate) fn new(hidden: &[PathBuf]) -> Self {
        let changed = changed(hidden);
        Self { hidden: hidden.to_vec(), changed, open: all_allowed(hidden) }
    }

    /// Costs a look at each directory on the way, and more only if one has
    /// changed.
    pub(crate) fn is_current(&self) -> bool {
        self.changed == changed(&self.hidden) || self.open == all_allowed(&self.hidden)
    }
}

/// When the directories on the way were changed.
fn changed(hidden: &[PathBuf]) -> Vec<Option<SystemTime>> {
    let ways = hidden.iter().flat_map(|path| path.ancestors().skip(1));
    ways.map(|folder| std::fs::metadata(folder).and_then(|found| found.modified()).ok()).collect()
}

/// Everything that is allowed, in order. What cannot be read is missing: the
/// next fence says so.
fn all_allowed(hidden: &[PathBuf]) -> Vec<PathBuf> {
    let real: BTreeSet<PathBuf> = hidden.iter().filter_map(|path| path.canonicalize().ok()).collect();
    let mut open = Vec::new();
    let _ = allowed(Path::new("/"), &real, &mut open);
    open.sort();
    open
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beside_the_way_is_allowed_in_whole_trees() {
        let dir = tempfile::tempdir().expect("a folder");
        let root = dir.path().canonicalize().expect("there");
        for folder in ["data/node", "photos/2026", "keys"] {
            std::fs::create_dir_all(root.join(folder)).expect("made");
        }
        std::fs::write(root.join("keys/tls.pem"), "").expect("written");
        std::fs::write(root.join("keys/readme"), "").expect("written");
        std::os::unix::fs::symlink(root.join("data"), root.join("link")).expect("linked");
        let hidden = [root.join("data"), root.join("keys/tls.pem")].into();
        let mut open = Vec::new();
        allowed(&root, &hidden, &mut open).expect("readable");
        open.sort();
        assert_eq!(open, [root.join("keys/readme"), root.join("photos")]);
    }
}
