//! What a node of the product gives to the execution of tasks: its processors
//! and memory, processes, a folder for large outputs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use trine_compute::Resources;
use trine_compute::body::{Bodies, Hands};
use trine_compute::launch::group::Groups;
use trine_compute::launch::passage;
use trine_compute::launch::place::{FIRST_UID, Isolation};
use trine_compute::python::{self, Functions};
use trine_compute::run::Cells;
use trine_compute::run::cells;
use trine_compute::run::process::{Processes, Settings};
use trine_compute::run::shelf::Shelf;
use trine_compute::tokens::TaskTokens;
use trine_types::{Entropy, NodeNumber};

use crate::config::ValidConfig;
use crate::failure::Failure;

/// Folder in the data directory for tasks.
const TASKS_FOLDER: &str = "tasks";
/// Folder in that for directories of tasks that run as the node's user.
const CELLS_FOLDER: &str = "cells";
/// Most trees of Pythons that are opened to tasks' users.
const MAX_PASSAGES: usize = 32;
/// Folder that only a node's data directory has.
const NODE_FOLDER: &str = "node";
/// Variables of the node's own environment that tasks get; nothing else of it
/// does reach them.
const PASSED_ON: &[&str] = &["PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ"];

/// Those of them that are wrong where tasks run as other users.
const OF_THE_NODES_USER: &[&str] = &["HOME", "USER"];

/// What this node gives.
///
/// # Errors
/// A folder cannot be made.
pub(super) async fn of_node(
    config: &ValidConfig,
    number: NodeNumber,
    (redis, http): (SocketAddr, SocketAddr),
    doors: &[(String, SocketAddr)],
    entropy: Arc<dyn Entropy>,
) -> Result<Hands, Failure> {
    let folder = config.data.join(TASKS_FOLDER);
    let cannot = |error: &dyn std::fmt::Display| {
        Failure::new(format!("tasks cannot be executed with {}: {error}", folder.display()))
    };
    std::fs::create_dir_all(&folder).map_err(|error| cannot(&error))?;
    let shelf = Shelf::open(&folder.join("kept")).map_err(|error| cannot(&error))?;
    let cells = match cells(config).await {
        Ok(cells) => cells,
        Err(why) => {
            tracing::error!("{why}");
            return Ok(Hands::refusing(format!("node {number} executes no tasks: {why}"), shelf));
        }
    };
    let tokens = TaskTokens::new(entropy);
    let env = environment((redis, http), doors, cells.isolation());
    let functions = Functions::new(python::Settings {
        node: number.to_string(),
        cells: cells.clone(),
        env: env.clone(),
        shelf: shelf.clone(),
        tokens: tokens.clone(),
    });
    let process =
        Processes::new(Settings { number, cells, env, shelf: shelf.clone(), tokens: tokens.clone() });
    let bodies = Bodies { process: Arc::new(process), python: Some(Arc::new(functions)) };
    let slots = Resources { named: config.limits.resources, ..slots() };
    Ok(Hands { slots, bodies, shelf, tokens: Some(tokens) })
}

/// Where tasks run, shut in as well as this node can; why there is nothing.
async fn cells(config: &ValidConfig) -> Result<Cells, String> {
    let program =
        std::env::current_exe().map_err(|error| format!("its own program is not found: {error}"))?;
    let groups = Groups::open(slots().memory_bytes).map(Arc::new);
    let groups = groups.inspect_err(|error| {
        tracing::info!(%error, "no control groups: each process of a task is limited by itself");
    });
    let groups = groups.ok();
    let mut failed = Vec::new();
    for (isolation, open) in with_passages(config, ladder(config, rank())) {
        let folder = if of_others(&isolation) {
            config.limits.tasks.folder.clone()
        } else {
            config.data.join(TASKS_FOLDER).join(CELLS_FOLDER)
        };
        let (program, arguments) = (program.clone(), vec!["launcher".into()]);
        let groups = groups.clone();
        match Cells::open(cells::Settings { program, arguments, folder, isolation, open, groups }).await {
            Ok(cells) if *cells.isolation() == Isolation::Nothing => {
                tracing::warn!("tasks can read this node's data and keys: {}", failed.join("; "));
                return Ok(cells);
            }
            Ok(cells) => {
                for why in &failed {
                    tracing::warn!("{why}");
                }
                tracing::info!(confinement = %cells.isolation(), "executing tasks");
                return Ok(cells);
            }
            Err(error) => failed.push(error.to_string()),
        }
    }
    failed.push(
        "to execute them where they can read this node's data and keys, start it with --unsafe-tasks".into(),
    );
    Err(failed.join("; "))
}

/// Whether tasks run as other users than the node.
fn of_others(isolation: &Isolation) -> bool {
    matches!(isolation, Isolation::OwnUsers(_) | Isolation::User { .. })
}

/// Each way with the Pythons of the node that it opens to other users, where
/// the system lets it, and then without.
fn with_passages(config: &ValidConfig, ways: Vec<Isolation>) -> Vec<(Isolation, Vec<PathBuf>)> {
    let path = std::env::var("PATH").unwrap_or_default();
    let named = std::env::var(python::pool::PROGRAM_VARIABLE).ok();
    let mut open = passage::pythons(&path, named.as_deref(), &hidden(config));
    open.truncate(MAX_PASSAGES);
    let mut all = Vec::new();
    for way in ways {
        if of_others(&way) && !open.is_empty() {
            all.push((way.clone(), open.clone()));
        }
        all.push((way, Vec::new()));
    }
    all
}

/// Whom a node runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rank {
    /// The machine's root, whom no fence around files holds: it reaches the disk.
    Root,
    /// A root of a part of the machine's users alone.
    RootOfSome,
    Other,
}

fn rank() -> Rank {
    // "0 0 4294967295": every user here is the same everywhere.
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let whole = map.split_whitespace().eq(["0", "0", "4294967295"]);
    match (rustix::process::geteuid().is_root(), whole) {
        (false, _) => Rank::Other,
        (true, true) => Rank::Root,
        (true, false) => Rank::RootOfSome,
    }
}

/// What tasks must not reach.
fn hidden(config: &ValidConfig) -> Vec<PathBuf> {
    let data = std::path::absolute(&config.data).unwrap_or_else(|_| config.data.clone());
    let keys = config.surfaces.key_files();
    neighbours(&data).into_iter().chain(keys).chain([data]).collect()
}

/// The ways to shut tasks in, the best first.
fn ladder(config: &ValidConfig, rank: Rank) -> Vec<Isolation> {
    let settings = &config.limits.tasks;
    let fence = Isolation::Fence(hidden(config));
    let mut ways = match (rank, settings.user) {
        (Rank::Root | Rank::RootOfSome, Some((uid, gid))) => vec![Isolation::User { uid, gid }],
        (Rank::Root, None) => vec![Isolation::OwnUsers(FIRST_UID)],
        (Rank::RootOfSome, None) => vec![Isolation::OwnUsers(FIRST_UID), fence],
        (Rank::Other, _) => vec![fence],
    };
    if settings.unconfined {
        ways.push(Isolation::Nothing);
    }
    ways
}

/// The data directories of other nodes beside this one's.
fn neighbours(data: &Path) -> Vec<PathBuf> {
    let beside = data.parent().and_then(|parent| std::fs::read_dir(parent).ok());
    let folders = beside.into_iter().flatten().flatten().map(|entry| entry.path());
    folders.filter(|folder| folder != data && folder.join(NODE_FOLDER).is_dir()).collect()
}

/// All processors and all memory of the machine.
fn slots() -> Resources {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Resources::of(u32::try_from(cores).unwrap_or(1).saturating_mul(1_000), kib.unwrap_or(0) << 10)
}

/// Where tasks find the other models of this cluster.
fn environment(
    (redis, http): (SocketAddr, SocketAddr),
    doors: &[(String, SocketAddr)],
    isolation: &Isolation,
) -> Vec<(String, String)> {
    let others = of_others(isolation);
    let passed = PASSED_ON
        .iter()
        .filter(|name| !(others && OF_THE_NODES_USER.contains(name)))
        .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)));
    let others = doors.iter().map(|(name, address)| (variable(name), reached(*address)));
    let own = [("redis", redis), ("http", http)].map(|(name, at)| (variable(name), reached(at)));
    passed.chain(own).chain(others).collect()
}

fn variable(door: &str) -> String {
    format!("TRINE_{}", door.to_uppercase().replace('-', "_"))
}

/// The address under which a process of this machine reaches a door.
fn reached(mut address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    address.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn tasks_are_never_unconfined_unless_that_was_said() {
        let config = |text: &str| {
            let config: Config = toml::from_str(text).expect("settings");
            config.validate().expect("valid")
        };
        let default = config("data = '/srv/trine'");
        let root = ladder(&default, Rank::RootOfSome);
        assert_eq!(ladder(&default, Rank::Root), [Isolation::OwnUsers(FIRST_UID)]);
        assert_eq!(root[0], Isolation::OwnUsers(FIRST_UID));
        let fence = ladder(&default, Rank::Other);
        assert_eq!((fence.len(), &root[1..]), (1, &fence[..]));
        assert!(matches!(&fence[0], Isolation::Fence(hidden) if hidden.contains(&"/srv/trine".into())));
        let one = config("limits.tasks.user = '70000:70001'");
        assert_eq!(ladder(&one, Rank::Root), [Isolation::User { uid: 70_000, gid: 70_001 }]);
        let allowed = config("limits.tasks.unsafe = true");
        assert_eq!(ladder(&allowed, Rank::Other).last(), Some(&Isolation::Nothing));
    }
}
