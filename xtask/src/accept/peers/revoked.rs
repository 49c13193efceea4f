//! A node that is removed while its process hangs: the others cut it off, it
//! cannot do that itself.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::accept::Line;
use crate::command::{Trouble, command, product, run};
use crate::servers::{Dev, Door, kill, wait_for};

/// How far a node's peer port is from its Redis port, in `trine dev`.
const PEER_PORT: u16 = 10_000;
/// How long a revoked node may have a connection.
const CUT_WITHIN: Duration = Duration::from_secs(2);
/// How long the removal, or the cut, may take before the trial is given up.
const GIVE_UP: Duration = Duration::from_mins(1);
/// Fields of a line of the kernel's table, and the state of an open connection.
const ESTABLISHED: &str = "01";

/// Two ends of a connection, as the kernel writes them.
type Pair = (String, String);

/// Removes one of four nodes.
pub(super) fn cut_off() -> Result<Vec<Line>, Trouble> {
    let trine = product()?;
    let dev = Dev::start(&trine, 4)?;
    let (first, victim) = (&dev.doors[0], &dev.doors[3]);
    let open = connections(victim);
    kill(victim.pid, Signal::STOP)?;
    let begin = Instant::now();
    let (removed, cut) = std::thread::scope(|threads| {
        let cutting = threads.spawn(|| {
            let cut = wait_for(GIVE_UP, || still_open(victim, &open) == 0);
            cut.then(|| begin.elapsed())
        });
        // By name: numbers follow the order of joining, which may be another.
        let mut remove = command(&trine, &["node", "remove", "node4", "--yes", "--data"]);
        let removed = run(remove.arg(&first.data), GIVE_UP).and_then(crate::command::Finished::required);
        (removed.map(|_| begin.elapsed()), cutting.join().ok().flatten())
    });
    let left = still_open(victim, &open);
    let _ = kill(victim.pid, Signal::CONT);
    let removed = removed?;
    let figure = match cut {
        Some(cut) => format!(
            "{} connections, all cut {:.2?} after the removal was acknowledged ({removed:.2?})",
            open.len(),
            cut.saturating_sub(removed)
        ),
        None => format!("{left} of {} connections are open {GIVE_UP:?} after the removal", open.len()),
    };
    let holds = cut.is_some() && !open.is_empty();
    let in_time = cut.is_some_and(|cut| cut <= removed + CUT_WITHIN);
    Ok(vec![
        Line::of(holds, "a removed node is cut off everywhere, without its help", figure.clone()),
        Line::timed(in_time, "a removed node is cut off everywhere within 2 s", figure),
    ])
}

/// The open connections of a node to others.
fn connections(door: &Door) -> BTreeSet<Pair> {
    let folder = std::fs::read_dir(format!("/proc/{}/fd", door.pid));
    let links =
        folder.into_iter().flatten().flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let sockets: BTreeSet<String> = links
        .filter_map(|link| {
            let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            Some(inode.to_owned())
        })
        .collect();
    let own = table().into_iter().filter(|(_, inode)| sockets.contains(inode));
    own.map(|(pair, _)| pair).collect()
}

/// How many of the connections are open at their other ends, and how many
/// others have made anew.
fn still_open(door: &Door, open: &BTreeSet<Pair>) -> usize {
    let port = format!(":{:04X}", door.port + PEER_PORT);
    let others = table().into_iter().map(|(pair, _)| pair);
    let counts =
        |(local, remote): &Pair| open.contains(&(remote.clone(), local.clone())) || remote.ends_with(&port);
    others.filter(counts).count()
}

/// Local end, remote end and socket of every open connection of this machine.
fn table() -> Vec<(Pair, String)> {
    let text = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let rows = text.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, local, remote, state, _, _, _, _, _, inode, ..] = fields[..] else { return None };
        (state == ESTABLISHED).then(|| ((local.to_owned(), remote.to_owned()), inode.to_owned()))
    });
    rows.collect()
}
