//! How a launcher shuts itself in: once, before anything else, while it has one
//! thread. All that it starts afterwards inherits it, and nothing undoes it.

use std::io;
use std::path::PathBuf;

use rustix::process::{Gid, Resource, Rlimit, Uid, getrlimit, setrlimit};
use rustix::thread::{
    capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use serde::{Deserialize, Serialize};

use super::{fence, passage};

/// Where memory is short, tasks are killed before anything else.
const OOM_SCORE: &str = "500";

/// A way to be shut in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Confinement {
    /// As another user, without privileges.
    User {
        /// The user.
        uid: u32,
        /// Its group.
        gid: u32,
        /// Whether nothing else on this machine runs as this user.
        alone: bool,
    },
    /// As the same user, but without a way to these paths, except to its own
    /// folder.
    Fence {
        /// What it cannot reach.
        hidden: Vec<PathBuf>,
    },
    /// Not at all.
    Nothing,
}

impl Confinement {
    /// Shuts this process in; `folder` stays open to it, and `open` to another
    /// user.
    ///
    /// # Errors
    /// Why that cannot be done; the process may be half shut in, and must end.
    pub(super) fn apply(&self, folder: &std::path::Path, open: &[PathBuf]) -> Result<(), String> {
        let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
        if threads != 1 {
            return Err(format!("it has {threads} threads already"));
        }
        // An error: there is no such file, or less is not allowed.
        let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
        match self {
            Self::Nothing => Ok(()),
            Self::User { uid, gid, .. } => {
                passage::open(open, (*uid, *gid))
                    .map_err(|error| format!("it cannot open a way to {open:?}: {error}"))?;
                become_user(*uid, *gid).map_err(|error| format!("it cannot become user {uid}: {error}"))
            }
            Self::Fence { hidden } => fence::raise(hidden, folder),
        }
    }
}

/// Limits for good what this process and all that it starts may have. Nothing
/// that dies fills the disk with its memory.
pub(super) fn limit(processes: Option<u64>) -> io::Result<()> {
    hard(Resource::Core, 0)?;
    processes.map_or(Ok(()), |processes| hard(Resource::Nproc, processes))
}

/// A limit that cannot be raised again.
fn hard(resource: Resource, limit: u64) -> io::Result<()> {
    let limit = getrlimit(resource).maximum.map_or(limit, |most| most.min(limit));
    Ok(setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?)
}

fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    if uid == 0 {
        return Err(io::Error::other("that is root"));
    }
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_thread_groups(&[gid])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    set_no_new_privs(true)?;
    let left = capabilities(None)?;
    if !left.effective.is_empty() || !left.permitted.is_empty() {
        return Err(io::Error::other("it has capabilities left"));
    }
    Ok(())
}
