//! Control groups: what a task and all that it starts may take together. One
//! group for each cell, below one for all cells of the node; of the kernel's
//! second version where its controllers are to be had, else of the first.
//!
//! ```text
//! node's own group (or the root)
//! └── trine-PID         memory of all tasks together: the machine's, less a reserve
//!     ├── 53000         one cell: launcher, task, all that it has started
//!     └── 53001
//! ```

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::spec::Resources;

/// Processes and threads that one task may have.
pub const MAX_PROCESSES: u64 = 2_048;
/// What the groups of nodes are called, before the node's process number.
const PREFIX: &str = "trine-";
/// Memory that tasks leave to the rest of the machine: a tenth, at least this.
const MEMORY_RESERVE: u64 = 256 * 1024 * 1024;
/// Least memory of a task: its launcher is in its group, too.
const LEAST_MEMORY: u64 = 16 * 1024 * 1024;
/// Weight of a task that asked for one processor.
const WEIGHT_V2: u64 = 100;
/// The same in the first version.
const SHARES_V1: u64 = 1_024;
/// Least and most weights that the kernel takes.
const WEIGHTS_V2: (u64, u64) = (1, 10_000);
const SHARES_RANGE_V1: (u64, u64) = (2, 262_144);

/// What a task may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Limits {
    /// Bytes of memory; `None`: what all tasks may take together.
    pub memory: Option<u64>,
    /// Its share of the processors, in thousandths of one.
    pub cpu_milli: u32,
}

impl Limits {
    /// Those of a task that needs this.
    #[must_use]
    pub fn of(needed: Resources) -> Self {
        let memory = Some(needed.memory_bytes).filter(|bytes| *bytes > 0);
        Self { memory: memory.map(|bytes| bytes.max(LEAST_MEMORY)), cpu_milli: needed.cpu_milli }
    }
}

/// Which version there is, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Version {
    Two(PathBuf),
    One { memory: PathBuf, pids: Option<PathBuf>, cpu: Option<PathBuf> },
}

/// The groups of a node; removed when dropped, as far as they are empty.
#[derive(Debug)]
pub struct Groups {
    version: Version,
}

impl Groups {
    /// Makes the node's group, if the system lets it.
    ///
    /// # Errors
    /// What is missing; nothing is limited by groups then.
    pub fn open(total_memory: u64) -> io::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let name = format!("{PREFIX}{}", std::process::id());
        let mut last = io::Error::other("there is no memory controller");
        for version in versions(&mounts, &own) {
            let opened = version.prepare().and_then(|()| {
                let groups = Self { version: version.below(&name) };
                version.forget_the_dead();
                groups.make()?;
                if total_memory > 0 {
                    let reserve = (total_memory / 10).max(MEMORY_RESERVE);
                    groups.version.limit_memory(Some(total_memory.saturating_sub(reserve)))?;
                }
                groups.version.pass_on()?;
                Ok(groups)
            });
            match opened {
                Ok(groups) => return Ok(groups),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn make(&self) -> io::Result<()> {
        self.version.folders().into_iter().try_for_each(make)
    }

    /// Puts a process into the group of a cell, which is made.
    ///
    /// # Errors
    /// The system refuses.
    pub(crate) fn enter(&self, cell: &str, process: u32) -> io::Result<Group> {
        let version = self.version.below(cell);
        version.folders().into_iter().try_for_each(make)?;
        version.limit_processes(MAX_PROCESSES)?;
        for folder in version.folders() {
            fs::write(folder.join("cgroup.procs"), process.to_string())?;
        }
        let events = Arc::new(File::open(version.events())?);
        let mut group = Group { version, events, killed: 0, limits: Limits::default() };
        group.killed = group.count_killed();
        Ok(group)
    }

    /// Removes groups that nobody is in.
    pub(crate) fn sweep(&self) {
        self.version.folders().into_iter().for_each(remove_empty);
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        self.sweep();
        for folder in self.version.folders() {
            // An error: launchers are still ending; the next node does it.
            let _ = fs::remove_dir(folder);
        }
    }
}

/// The group of one cell.
#[derive(Debug)]
pub(crate) struct Group {
    version: Version,
    events: Arc<File>,
    killed: u64,
    limits: Limits,
}

impl Group {
    /// Sets what the next task may take.
    pub(crate) fn limit(&mut self, limits: Limits) -> io::Result<()> {
        if self.limits.memory != limits.memory {
            self.version.limit_memory(limits.memory)?;
        }
        if self.limits.cpu_milli != limits.cpu_milli {
            self.version.weigh(u64::from(limits.cpu_milli))?;
        }
        self.limits = limits;
        Ok(())
    }

    /// Why the kernel has killed something since this was asked last, if it has:
    /// to be asked at the end of each task.
    pub(crate) fn killed(&mut self) -> Option<String> {
        let count = self.count_killed();
        let more = count > self.killed;
        self.killed = count;
        if !more {
            return None;
        }
        let peak = self.version.peak();
        Some(match (peak, self.limits.memory) {
            (Some(peak), Some(limit)) => {
                format!("used {} of memory, and may use {}", bytes(peak.max(limit)), bytes(limit))
            }
            (_, Some(limit)) => format!("used all of the {} of memory that it may use", bytes(limit)),
            (Some(peak), None) => {
                format!("used {} of memory when all tasks of its node together had no more left", bytes(peak))
            }
            (None, None) => "all tasks of its node together had no more memory left".to_owned(),
        })
    }

    /// What tells that the kernel has killed something of the task; `None`: it
    /// kills the whole then, by itself.
    pub(crate) fn watch(&self) -> Option<Watch> {
        let by_hand = matches!(self.version, Version::One { .. });
        by_hand.then(|| Watch { events: self.events.clone(), killed: self.killed })
    }

    fn count_killed(&self) -> u64 {
        count_killed(&self.events)
    }

    /// Kills everything in it: what the kernel's second version does at once.
    pub(crate) fn kill(&self) {
        if let Version::Two(folder) = &self.version {
            // An error: a kernel before 5.14. The launcher does it one by one.
            let _ = fs::write(folder.join("cgroup.kill"), "1");
        }
    }
}

/// See [`Group::watch`].
#[derive(Debug)]
pub(crate) struct Watch {
    events: Arc<File>,
    killed: u64,
}

impl Watch {
    pub(crate) fn has_killed(&self) -> bool {
        count_killed(&self.events) > self.killed
    }
}

/// How often the kernel has killed something in a group, for want of memory.
fn count_killed(events: &File) -> u64 {
    let mut text = [0; 512];
    let read = events.read_at(&mut text, 0).unwrap_or(0);
    let text = String::from_utf8_lossy(&text[..read]);
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// A size for people.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    let (mib, gib) = (bytes as f64 / 1_048_576.0, bytes as f64 / 1_073_741_824.0);
    if gib >= 1.0 { format!("{gib:.1} GiB") } else { format!("{mib:.1} MiB") }
}

fn make(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn remove_empty(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            // An error: somebody is in it.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// Where groups can be made, the best first.
fn versions(mounts: &str, own: &str) -> Vec<Version> {
    let mounted = |kind: &str, option: &str| -> Option<PathBuf> {
        let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let mut found = fields.filter(|fields| fields.len() > 3 && fields[2] == kind);
        let has = |fields: &Vec<&str>| option.is_empty() || fields[3].split(',').any(|one| one == option);
        found.find(has).map(|fields| PathBuf::from(fields[1]))
    };
    let path = |controller: &str| -> Option<&str> {
        own.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (names, path) = rest.split_once(':')?;
            names.split(',').any(|name| name == controller).then_some(path)
        })
    };
    let at = |mount: PathBuf, path: &str| mount.join(path.trim_start_matches('/'));
    let one = |name: &str| Some(at(mounted("cgroup", name)?, path(name)?));
    let two = mounted("cgroup2", "").zip(path("")).map(|(mount, path)| Version::Two(at(mount, path)));
    let one = one("memory").map(|memory| Version::One { memory, pids: one("pids"), cpu: one("cpu") });
    two.into_iter().chain(one).collect()
}

impl Version {
    fn folders(&self) -> Vec<&Path> {
        match self {
            Self::Two(folder) => vec![folder],
            Self::One { memory, pids, cpu } => {
                let others = pids.iter().chain(cpu).map(PathBuf::as_path);
                // Controllers that share a mount share its groups.
                let mut folders: Vec<&Path> = std::iter::once(memory.as_path()).chain(others).collect();
                folders.dedup();
                folders
            }
        }
    }

    fn below(&self, name: &str) -> Self {
        match self {
            Self::Two(folder) => Self::Two(folder.join(name)),
            Self::One { memory, pids, cpu } => Self::One {
                memory: memory.join(name),
                pids: pids.as_ref().map(|folder| folder.join(name)),
                cpu: cpu.as_ref().map(|folder| folder.join(name)),
            },
        }
    }

    /// Makes room for groups below this one. In the second version a group with
    /// processes has no groups with controllers below it: a node that is alone
    /// in its group moves one down.
    fn prepare(&self) -> io::Result<()> {
        let Self::Two(folder) = self else { return Ok(()) };
        let there = fs::read_to_string(folder.join("cgroup.controllers"))?;
        if !there.split_whitespace().any(|name| name == "memory") {
            return Err(io::Error::other("the memory controller is not there"));
        }
        let own = std::process::id().to_string();
        let inside = fs::read_to_string(folder.join("cgroup.procs"))?;
        if folder.join("cgroup.type").exists() && inside.lines().all(|process| process == own) {
            let down = folder.join("node");
            make(&down)?;
            fs::write(down.join("cgroup.procs"), own)?;
        }
        self.pass_on()
    }

    /// Lets groups below this one be limited.
    fn pass_on(&self) -> io::Result<()> {
        let Self::Two(folder) = self else { return Ok(()) };
        fs::write(folder.join("cgroup.subtree_control"), "+memory +pids")?;
        // An error: processors are shared without weights.
        let _ = fs::write(folder.join("cgroup.subtree_control"), "+cpu");
        Ok(())
    }

    /// Removes the groups of nodes that are gone.
    fn forget_the_dead(&self) {
        for folder in self.folders() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let process = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok());
                if process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists()) {
                    remove_empty(&entry.path());
                    let _ = fs::remove_dir(entry.path());
                }
            }
        }
    }

    fn limit_memory(&self, limit: Option<u64>) -> io::Result<()> {
        match self {
            Self::Two(folder) => {
                let text = limit.map_or_else(|| "max".to_owned(), |limit| limit.to_string());
                // A task whose memory ends, ends as a whole.
                fs::write(folder.join("memory.oom.group"), "1")?;
                // An error: there is no swap.
                let _ = fs::write(folder.join("memory.swap.max"), "0");
                fs::write(folder.join("memory.max"), text)
            }
            Self::One { memory, .. } => {
                let text = limit.map_or_else(|| "-1".to_owned(), |limit| limit.to_string());
                // Memory alone can never have more than memory and swap together:
                // which of the two goes first depends on whether it grows.
                let _ = fs::write(memory.join("memory.limit_in_bytes"), &text);
                let _ = fs::write(memory.join("memory.memsw.limit_in_bytes"), &text);
                fs::write(memory.join("memory.limit_in_bytes"), &text)?;
                // So that the peak is the next task's.
                let _ = fs::write(memory.join("memory.max_usage_in_bytes"), "0");
                Ok(())
            }
        }
    }

    fn limit_processes(&self, limit: u64) -> io::Result<()> {
        match self {
            Self::Two(folder) | Self::One { pids: Some(folder), .. } => {
                fs::write(folder.join("pids.max"), limit.to_string())
            }
            Self::One { pids: None, .. } => Ok(()),
        }
    }

    fn weigh(&self, cpu_milli: u64) -> io::Result<()> {
        let weight = |one: u64, (least, most): (u64, u64)| (one * cpu_milli / 1_000).clamp(least, most);
        match self {
            Self::Two(folder) if folder.join("cpu.weight").exists() => {
                fs::write(folder.join("cpu.weight"), weight(WEIGHT_V2, WEIGHTS_V2).to_string())
            }
            Self::One { cpu: Some(folder), .. } => {
                fs::write(folder.join("cpu.shares"), weight(SHARES_V1, SHARES_RANGE_V1).to_string())
            }
            _ => Ok(()),
        }
    }

    fn events(&self) -> PathBuf {
        match self {
            Self::Two(folder) => folder.join("memory.events"),
            Self::One { memory, .. } => memory.join("memory.oom_control"),
        }
    }

    fn peak(&self) -> Option<u64> {
        let file = match self {
            Self::Two(folder) => folder.join("memory.peak"),
            Self::One { memory, .. } => memory.join("memory.max_usage_in_bytes"),
        };
        fs::read_to_string(file).ok()?.trim().parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_where_the_system_has_mounted_them() {
        let two = versions(
            "proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n",
            "0::/system.slice/trine.service\n",
        );
        assert_eq!(two, [Version::Two("/sys/fs/cgroup/system.slice/trine.service".into())]);
        let mounts = "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n\
                      cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let own = "5:cpu,cpuacct:/a\n4:memory:/b/c\n3:pids:/d\n0::/\n";
        let one = Version::One {
            memory: "/sys/fs/cgroup/memory/b/c".into(),
            pids: None,
            cpu: Some("/sys/fs/cgroup/cpu,cpuacct/a".into()),
        };
        assert_eq!(versions(mounts, own), [Version::Two("/sys/fs/cgroup/unified/".into()), one]);
        assert!(versions("", own).is_empty());
    }

    #[test]
    fn sizes_are_for_people() {
        assert_eq!((bytes(3_328_599_654), bytes(64 << 20)), ("3.1 GiB".into(), "64.0 MiB".into()));
    }
}
