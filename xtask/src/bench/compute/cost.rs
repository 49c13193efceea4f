//! What processes cost: processor time and memory of a process with all that it
//! has started, from `/proc`.

use std::collections::BTreeMap;

/// Milliseconds of one tick of `/proc/*/stat`: `USER_HZ` is 100 on every Linux
/// that Trine runs on.
const TICK_MS: u64 = 10;

/// One process, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    parent: u32,
    /// Its own time and that of the children that it has waited for, in ticks.
    ticks: u64,
    /// The second part of that alone.
    children: u64,
}

/// All processes, or as many as could be read.
fn processes() -> BTreeMap<u32, Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some((pid, parse(&text)?))
    })
    .collect()
}

/// A line of `/proc/PID/stat`; the name in it may contain anything.
fn parse(stat: &str) -> Option<Process> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    let children = number(13)? + number(14)?;
    let ticks = number(11)? + number(12)? + children;
    Some(Process { parent: u32::try_from(number(1)?).ok()?, ticks, children })
}

/// `roots` and all that descends from them.
fn tree(processes: &BTreeMap<u32, Process>, roots: &[u32]) -> Vec<u32> {
    let mut found: Vec<u32> = roots.iter().copied().filter(|pid| processes.contains_key(pid)).collect();
    let mut at = 0;
    while let Some(&parent) = found.get(at) {
        let children =
            processes.iter().filter(|(pid, process)| process.parent == parent && !found.contains(pid));
        let children: Vec<u32> = children.map(|(pid, _)| *pid).collect();
        found.extend(children);
        at += 1;
    }
    found
}

/// Processor time of these processes and all that they started, in
/// milliseconds, ever.
pub(super) fn processor_ms(roots: &[u32]) -> u64 {
    let processes = processes();
    let ticks: u64 = tree(&processes, roots).iter().map(|pid| processes[pid].ticks).sum();
    ticks * TICK_MS
}

/// That of all children that this process has waited for.
pub(super) fn waited_for_ms() -> u64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    parse(&text).map_or(0, |own| own.children * TICK_MS)
}

/// Their memory, each shared page counted once, in MB.
pub(super) fn memory_mb(roots: &[u32]) -> f64 {
    let kib: u64 = tree(&processes(), roots).iter().filter_map(|pid| proportional_kib(*pid)).sum();
    mb(kib)
}

/// The memory of these processes alone, in MB.
pub(crate) fn own_memory_mb(pids: &[u32]) -> f64 {
    mb(pids.iter().filter_map(|pid| proportional_kib(*pid)).sum())
}

#[expect(clippy::cast_precision_loss, reason = "memory of one machine")]
fn mb(kib: u64) -> f64 {
    kib as f64 * 1024.0 / 1e6
}

fn proportional_kib(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Process, parse, processor_ms, tree};

    #[test]
    fn a_name_with_spaces_and_brackets_is_passed_over() {
        let stat = "7 (a) b c) S 3 7 7 0 -1 0 1 2 3 4 100 20 3 4 20 0 1 0 5 6 7";
        assert_eq!(parse(stat), Some(Process { parent: 3, ticks: 127, children: 7 }));
        assert_eq!(parse("nonsense"), None);
    }

    #[test]
    fn a_tree_holds_who_descends_from_its_roots() {
        let of = |parent| Process { parent, ticks: 1, children: 0 };
        let all = BTreeMap::from([(2, of(1)), (3, of(2)), (4, of(3)), (5, of(1))]);
        assert_eq!(tree(&all, &[2, 9]), [2, 3, 4]);
    }

    #[test]
    fn this_process_has_cost_something_that_is_counted() {
        let until = std::time::Instant::now() + std::time::Duration::from_millis(40);
        while std::time::Instant::now() < until {
            std::hint::black_box(0);
        }
        assert!(processor_ms(&[std::process::id()]) > 0);
    }
}
