//! The end of everything that a task has started. The launcher adopts what its
//! descendants leave behind, so that whoever is left is its child sooner or
//! later, however it has detached itself.

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, geteuid, getpid, kill_process, kill_process_group, wait, waitpid,
};

/// Kills all processes of a group.
pub(super) fn kill_group(group: Pid) {
    // An error: nobody is left.
    let _ = kill_process_group(group, Signal::KILL);
}

/// Kills every process that runs as this one's user, but itself. Only for a
/// user that is nobody else's: nothing that forks gets away from it.
pub(super) fn kill_user(alone: Option<u32>) {
    // Twice the same question, since the answer matters: to the system, group 1
    // means everybody whom this user may send a signal.
    let own = geteuid().as_raw();
    if own != 0
        && alone == Some(own)
        && let Some(everybody) = Pid::from_raw(1)
    {
        let _ = kill_process_group(everybody, Signal::KILL);
    }
}

/// Takes leave of children that have ended, but of one, without waiting for any.
pub(super) fn bury_except(one: Pid) {
    for child in children().into_iter().filter(|child| *child != one) {
        // An error: somebody did so already.
        let _ = waitpid(Some(child), WaitOptions::NOHANG);
    }
}

/// Kills all children, and theirs, until there are none. The system takes its
/// time only for those who hang in a device.
pub(super) fn end_all(alone: Option<u32>) {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => continue,
            Ok(None) => {}
            Err(_) => return,
        }
        kill_user(alone);
        for child in children() {
            // It may lead a group of its own.
            kill_group(child);
            let _ = kill_process(child, Signal::KILL);
        }
        // Each that ends may leave others to this process.
        let _ = wait(WaitOptions::empty());
    }
}

/// The children of this process, those that have ended included.
fn children() -> Vec<Pid> {
    let own = getpid().as_raw_nonzero();
    let listed = std::fs::read_to_string(format!("/proc/self/task/{own}/children"));
    let numbers: Vec<i32> = if let Ok(listed) = listed {
        listed.split_whitespace().filter_map(|number| number.parse().ok()).collect()
    } else {
        // A kernel without that file: whoever says that it is a child.
        let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        numbers.filter(|number| parent(*number) == Some(own.get())).collect()
    };
    numbers.into_iter().filter_map(Pid::from_raw).collect()
}

/// The parent of a process, as the system tells it.
fn parent(process: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name may hold anything, brackets too.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}
