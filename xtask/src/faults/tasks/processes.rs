//! What tasks run anywhere on this machine, by what is in their environment.

use std::collections::BTreeMap;
use std::fs;

/// The variable that says of which trial a task is.
pub(super) const MARK: &str = "TRINE_TRIAL";

/// A process of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) task: u64,
    pub(super) attempt: u64,
    pub(super) node: usize,
}

/// All processes of a trial's tasks.
pub(super) fn of(mark: &str) -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| process(pid, mark)).collect()
}

fn process(pid: u32, mark: &str) -> Option<Process> {
    // Somebody who is gone has none.
    let text = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let pairs =
        text.split(|byte| *byte == 0).filter_map(|pair| std::str::from_utf8(pair).ok()?.split_once('='));
    let env: BTreeMap<&str, &str> = pairs.collect();
    let number = |name: &str| env.get(name)?.parse::<u64>().ok();
    if env.get(MARK) != Some(&mark) {
        return None;
    }
    Some(Process {
        pid,
        task: number("TRINE_TASK")?,
        attempt: number("TRINE_ATTEMPT")?,
        node: usize::try_from(number("TRINE_NODE")?).ok()?,
    })
}

/// How many tasks run, on all nodes that `on` names.
pub(super) fn tasks(mark: &str, on: impl Fn(usize) -> bool) -> usize {
    let tasks = of(mark).into_iter().filter(|process| on(process.node));
    tasks.map(|process| (process.task, process.attempt)).collect::<std::collections::BTreeSet<_>>().len()
}
