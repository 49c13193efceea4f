//! Sees to it that no task outlives its node: a small process that knows the
//! process groups of all tasks, and kills them when the node's end of its pipe
//! closes, however the node has died.

use std::collections::BTreeSet;
use std::io::{self, BufRead};
use std::path::PathBuf;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

/// Notes that wait to be written: two for each task that a worker runs at once.
const NOTES: usize = 2_048;

#[derive(Debug)]
enum Note {
    Began(i32),
    Ended(i32),
}

/// Tells the reaper which groups there are. Cheap to clone; the reaper ends
/// when all are gone.
#[derive(Debug, Clone)]
pub struct Reaper {
    notes: mpsc::Sender<Note>,
}

impl Reaper {
    /// Starts `program` with `arguments`, which must call [`reap`].
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(program: PathBuf, arguments: Vec<String>) -> io::Result<Self> {
        let begin = move || {
            Command::new(&program)
                .args(&arguments)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                // A key press at the terminal is for the node.
                .process_group(0)
                .spawn()
        };
        let child = begin()?;
        let (notes, inbox) = mpsc::channel(NOTES);
        tokio::spawn(tell(child, begin, inbox));
        Ok(Self { notes })
    }

    pub(crate) async fn began(&self, group: i32) {
        // An error: the node is stopping.
        let _ = self.notes.send(Note::Began(group)).await;
    }

    /// Not lost if there is no room: the group is gone, and kills nobody.
    pub(crate) fn ended(&self, group: i32) {
        let _ = self.notes.try_send(Note::Ended(group));
    }
}

/// Writes notes; starts another reaper when one has died.
async fn tell(mut child: Child, begin: impl Fn() -> io::Result<Child>, mut inbox: mpsc::Receiver<Note>) {
    let mut groups = BTreeSet::new();
    while let Some(note) = inbox.recv().await {
        let line = match note {
            Note::Began(group) => {
                groups.insert(group);
                format!("+{group}\n")
            }
            Note::Ended(group) => {
                groups.remove(&group);
                format!("-{group}\n")
            }
        };
        let written = match child.stdin.as_mut() {
            Some(pipe) => pipe.write_all(line.as_bytes()).await,
            None => Err(io::ErrorKind::BrokenPipe.into()),
        };
        if written.is_err() {
            tracing::warn!("the reaper has died; another one is started");
            let Ok(mut next) = begin() else { continue };
            let all: Vec<String> = groups.iter().map(|group| format!("+{group}\n")).collect();
            if let Some(pipe) = next.stdin.as_mut() {
                // An error: it has died, too; the next note finds out.
                let _ = pipe.write_all(all.concat().as_bytes()).await;
            }
            child = next;
        }
    }
}

/// What the reaper's process does until its node is gone. Blocks.
pub fn reap() {
    let mut groups = BTreeSet::new();
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        match (line.get(..1), line.get(1..).and_then(|group| group.parse::<i32>().ok())) {
            (Some("+"), Some(group)) => drop(groups.insert(group)),
            (Some("-"), Some(group)) => drop(groups.remove(&group)),
            _ => {}
        }
    }
    for group in groups {
        kill_group(group);
    }
}

/// Kills every process of a group; nothing if there is none.
pub(crate) fn kill_group(group: i32) {
    if let Some(group) = Pid::from_raw(group).filter(|_| group > 1) {
        // An error: it has ended.
        let _ = kill_process_group(group, Signal::KILL);
    }
}
