//! What a node of the product gives to the execution of tasks: its processors
//! and memory, processes, a folder for large outputs.

use std::net::SocketAddr;
use std::sync::Arc;

use trine_compute::Resources;
use trine_compute::body::{Bodies, Hands};
use trine_compute::python::{self, Functions};
use trine_compute::run::Reaper;
use trine_compute::run::process::{Processes, Settings};
use trine_compute::run::shelf::Shelf;
use trine_types::NodeNumber;

use crate::config::ValidConfig;
use crate::failure::Failure;

/// Folder in the data directory for tasks.
const TASKS_FOLDER: &str = "tasks";
/// Variables of the node's own environment that tasks get; nothing else of it
/// does reach them.
const PASSED_ON: &[&str] = &["PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ"];

/// What this node gives.
///
/// # Errors
/// A folder cannot be made, or the reaper cannot be started.
pub(super) fn of_node(
    config: &ValidConfig,
    number: NodeNumber,
    redis: SocketAddr,
    doors: &[(String, SocketAddr)],
) -> Result<Hands, Failure> {
    let folder = config.data.join(TASKS_FOLDER);
    let cannot = |error: &dyn std::fmt::Display| {
        Failure::new(format!("tasks cannot be executed with {}: {error}", folder.display()))
    };
    std::fs::create_dir_all(&folder).map_err(|error| cannot(&error))?;
    let shelf = Shelf::open(&folder.join("kept")).map_err(|error| cannot(&error))?;
    let program = std::env::current_exe().map_err(|error| cannot(&error))?;
    let reaper = Reaper::start(program, vec!["reaper".into()]).map_err(|error| cannot(&error))?;
    let env = environment(redis, doors);
    let functions = Functions::new(python::Settings {
        node: number.to_string(),
        scratch: folder.join("python"),
        env: env.clone(),
        shelf: shelf.clone(),
    });
    let functions = functions.map_err(|error| cannot(&error))?;
    let processes = Processes::new(Settings {
        number,
        scratch: folder.join("run"),
        env,
        shelf: shelf.clone(),
        reaper: Some(reaper),
    });
    let process = Arc::new(processes.map_err(|error| cannot(&error))?);
    Ok(Hands { slots: slots(), bodies: Bodies { process, python: Some(Arc::new(functions)) }, shelf })
}

/// All processors and all memory of the machine.
fn slots() -> Resources {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Resources {
        cpu_milli: u32::try_from(cores).unwrap_or(1).saturating_mul(1_000),
        memory_bytes: kib.unwrap_or(0) << 10,
    }
}

/// Where tasks find the other models of this cluster.
fn environment(redis: SocketAddr, doors: &[(String, SocketAddr)]) -> Vec<(String, String)> {
    let passed = PASSED_ON.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)));
    let others = doors.iter().map(|(name, address)| (variable(name), reached(*address)));
    passed.chain([(variable("redis"), reached(redis))]).chain(others).collect()
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
