//! One fault that strikes at one state of tasks; what became of each of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::processes::{self, MARK};
use super::{Moment, Role, Seen, submit};
use crate::command::{Finished, Trouble, run as finish};
use crate::faults::Fault;
use crate::faults::cluster::{Cluster, NODES};
use crate::servers::{kill, wait_for};

/// A worker's lease.
const LEASE: Duration = Duration::from_millis(1_500);
/// What tasks may need to get to where the fault strikes.
const REACH: Duration = Duration::from_secs(15);
/// What all tasks may need to end, with a new master.
const END: Duration = Duration::from_mins(1);
/// Looking at all processes of a busy machine takes its time, too.
const SLACK: Duration = Duration::from_millis(500);
/// How long a client may need to end once it can.
const CLIENT: Duration = Duration::from_mins(1);
/// Bytes of the input that is staged: enough to be met on its way.
const STAGED: usize = 192 * 1024 * 1024;

/// Who is who in a trial.
struct Cast<'a> {
    cluster: &'a mut Cluster,
    master: usize,
    victim: usize,
    /// Neither of both; for the client, the one that is asked afterwards.
    other: usize,
    mark: String,
}

/// What is submitted for a state.
struct Load {
    script: &'static str,
    tasks: usize,
    blob: Option<String>,
}

/// Runs one trial on a cluster that is whole, and leaves it whole.
pub(super) fn run(cluster: &mut Cluster, role: Role, fault: Fault, moment: Moment) -> Result<Seen, Trouble> {
    cluster.wait_until_whole()?;
    let master = master(cluster)?;
    let others: Vec<usize> = (1..=NODES).filter(|n| *n != master).collect();
    let victim = if role == Role::Master { master } else { others[0] };
    let mark = format!("{}-{fault:?}-{role:?}-{moment:?}", std::process::id());
    let mut cast = Cast { cluster, master, victim, other: others[1], mark };
    let load = load(&cast, moment)?;
    let mut seen = Seen { role, fault, moment, elsewhere: None, wrong: Vec::new(), left: Vec::new() };
    // Nobody assigns anything that a stopped worker would begin.
    let held = role == Role::Worker && moment == Moment::Assigned;
    if held {
        cast.cluster.signal(victim, Signal::STOP);
    }
    let mut client = if role == Role::Client { Some(cast.client(&load)?) } else { None };
    let mut job = None;
    if role != Role::Client {
        let what = (load.script, load.blob.as_deref(), cast.mark.as_str());
        job = Some(submit::job(cast.cluster, cast.other, what, load.tasks)?);
    } else if moment == Moment::Assigned {
        // Soon, but not before it is submitted.
        job = Some(cast.newest_job()?);
    }
    cast.reach(role, moment, &load)?;
    let ran: Vec<_> = processes::of(&cast.mark).into_iter().filter(|one| one.node == victim).collect();
    let struck = Instant::now();
    cast.strike(role, fault, client.as_mut())?;
    if moment == Moment::Exited && role != Role::Master {
        cast.cluster.signal(master, Signal::CONT);
    }
    if held && fault == Fault::Cut {
        cast.cluster.signal(victim, Signal::CONT);
    }
    if role == Role::Worker && moment == Moment::Running {
        seen.elsewhere = cast.elsewhere(&ran, struck);
        if ran.is_empty() {
            seen.wrong.push("the victim executed nothing when it was struck".to_owned());
        } else if seen.elsewhere.is_none() {
            seen.wrong.push(format!("nobody else executes {ran:?}"));
        }
    }
    let job = job.map_or_else(|| cast.newest_job(), Ok)?;
    let lost_for_two = (struck + LEASE * 3 + SLACK).saturating_duration_since(Instant::now());
    if role != Role::Client && !wait_for(lost_for_two, || processes::tasks(&cast.mark, |n| n == victim) == 0)
    {
        seen.left.push(format!("lost for two leases: {:?}", processes::of(&cast.mark)));
    }
    let first = cast.results(cast.other, job, load.tasks)?;
    seen.wrong = wrong(&first, load.tasks);
    let mark = cast.mark.clone();
    let gone = || processes::of(&mark).is_empty();
    if !wait_for(LEASE * 2 + SLACK, gone) {
        seen.left.push(format!("the job is over: {:?}", processes::of(&cast.mark)));
    }
    cast.undo(fault, client.as_mut())?;
    if let Some(client) = client.filter(|_| fault != Fault::Kill) {
        seen.wrong.extend(wrong(&heard(client)?, load.tasks).into_iter().map(|one| format!("client: {one}")));
    }
    cast.cluster.wait_until_whole()?;
    for n in 1..=NODES {
        if cast.results(n, job, load.tasks)? != first {
            seen.wrong.push(format!("node {n} has other results than were read during the fault"));
        }
    }
    if !wait_for(LEASE * 2 + SLACK, gone) {
        seen.left.push(format!("all is well again: {:?}", processes::of(&cast.mark)));
    }
    Ok(seen)
}

/// Who leads the group of jobs.
fn master(cluster: &Cluster) -> Result<usize, Trouble> {
    let mut found = None;
    let known = wait_for(REACH, || {
        let Ok(groups) = cluster.ask(1, &["groups", "--json"]) else { return false };
        let groups = groups.as_array().cloned().unwrap_or_default();
        let jobs = groups.into_iter().find(|group| group["group"] == "jobs");
        found = jobs.and_then(|group| usize::try_from(group["leader"].as_u64()?).ok());
        found.is_some()
    });
    found.filter(|_| known).ok_or_else(|| Trouble::Unexpected("nobody leads the group of jobs".to_owned()))
}

fn load(cast: &Cast<'_>, moment: Moment) -> Result<Load, Trouble> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let slots = NODES * cores;
    Ok(match moment {
        Moment::Queued => Load { script: "sleep 0.7", tasks: slots * 3, blob: None },
        Moment::Assigned => Load { script: "sleep 1", tasks: slots, blob: None },
        Moment::Staging => {
            // Other bytes in each trial: what is there already is not staged.
            let bytes: Vec<u8> = cast.mark.bytes().cycle().take(STAGED).collect();
            let blob = submit::blob(cast.cluster, cast.other, &bytes)?;
            Load { script: "cat > /dev/null", tasks: slots, blob: Some(blob) }
        }
        // Half of the slots are free for what is lost; by itself nothing ends
        // before it is to be gone.
        Moment::Running => Load { script: "sleep 9", tasks: NODES * cores.div_ceil(2), blob: None },
        Moment::Exited => Load { script: "sleep 1.5", tasks: slots, blob: None },
    })
}

impl Cast<'_> {
    fn on_host(&self, n: usize, words: &[&str]) -> Command {
        let mut command = Command::new("ip");
        let host = self.cluster.hosts().swap_remove(n - 1).1;
        command.args(["netns", "exec", &host]).arg(self.cluster.trine()).args(words);
        command.arg("--data").arg(self.cluster.data(n)).stdin(Stdio::null());
        command
    }

    /// A client on the victim's host.
    fn client(&self, load: &Load) -> Result<Child, Trouble> {
        let mark = format!("{MARK}={}", self.mark);
        let mut client = self.on_host(self.victim, &["run", "--json", "--env", &mark]);
        let command = format!("{} ; : {{}}", load.script);
        client.args(["--", &command, ":::"]);
        client.args((0..load.tasks).map(|n| n.to_string()));
        client.stdout(Stdio::piped()).stderr(Stdio::null());
        client.spawn().map_err(|source| Trouble::Start { command: "trine run".to_owned(), source })
    }

    fn newest_job(&self) -> Result<u64, Trouble> {
        let mut newest = None;
        let there = wait_for(REACH, || {
            let Ok(output) = finish(&mut self.on_host(self.other, &["job", "ls", "--json"]), REACH) else {
                return false;
            };
            let jobs: Vec<serde_json::Value> = serde_json::from_str(output.output.trim()).unwrap_or_default();
            let ours = |job: &&serde_json::Value| job["spec"]["env"].to_string().contains(&self.mark);
            newest = jobs.iter().find(ours).and_then(|job| job["id"].as_u64());
            newest.is_some()
        });
        newest.filter(|_| there).ok_or_else(|| Trouble::Unexpected("the client has no job".to_owned()))
    }

    /// Waits until tasks are as far as they shall be.
    fn reach(&self, role: Role, moment: Moment, load: &Load) -> Result<(), Trouble> {
        let running = |count: usize| {
            let reached = wait_for(REACH, || processes::tasks(&self.mark, |_| true) >= count);
            let why = || Trouble::Unexpected(format!("{}: {count} tasks do not run", self.mark));
            if reached { Ok(()) } else { Err(why()) }
        };
        match moment {
            Moment::Queued => running(load.tasks / 3),
            Moment::Assigned if role == Role::Worker => running(load.tasks * (NODES - 1) / NODES),
            Moment::Assigned => Ok(()),
            Moment::Running => running(load.tasks),
            Moment::Staging => {
                let folder = |n: usize| self.cluster.data(n);
                let arrives = || {
                    let mut nodes = (1..=NODES).filter(|n| *n != self.other);
                    nodes.any(|n| staged(&folder(n)))
                };
                let reached = wait_for(REACH, arrives);
                let why = || Trouble::Unexpected(format!("{}: no input arrives anywhere", self.mark));
                if reached || role == Role::Client { Ok(()) } else { Err(why()) }
            }
            Moment::Exited => {
                running(load.tasks)?;
                self.cluster.signal(self.master, Signal::STOP);
                let ended = wait_for(REACH, || processes::of(&self.mark).is_empty());
                let why = || Trouble::Unexpected(format!("{}: the tasks do not end", self.mark));
                if ended { Ok(()) } else { Err(why()) }
            }
        }
    }

    fn strike(&mut self, role: Role, fault: Fault, client: Option<&mut Child>) -> Result<(), Trouble> {
        match (fault, client) {
            (Fault::Kill, Some(client)) => {
                let _ = client.kill();
                let _ = client.wait();
                Ok(())
            }
            (Fault::Pause, Some(client)) => kill(client.id(), Signal::STOP),
            (Fault::Kill, None) => {
                self.cluster.kill(self.victim);
                Ok(())
            }
            (Fault::Pause, None) => {
                self.cluster.signal(self.victim, Signal::STOP);
                Ok(())
            }
            (Fault::Cut, _) => {
                self.cluster.links().cut(self.victim)?;
                if role == Role::Master {
                    self.cluster.signal(self.victim, Signal::CONT);
                }
                Ok(())
            }
        }
    }

    fn undo(&mut self, fault: Fault, client: Option<&mut Child>) -> Result<(), Trouble> {
        match (fault, client) {
            (Fault::Kill, Some(_)) => Ok(()),
            (Fault::Pause, Some(client)) => kill(client.id(), Signal::CONT),
            (Fault::Kill, None) => self.cluster.restart(self.victim),
            (Fault::Pause, None) => {
                self.cluster.signal(self.victim, Signal::CONT);
                Ok(())
            }
            (Fault::Cut, _) => self.cluster.links().heal(self.victim),
        }
    }

    /// Until each task that the victim executed is executed by another.
    fn elsewhere(&self, ran: &[processes::Process], struck: Instant) -> Option<Duration> {
        let again = || {
            let now = processes::of(&self.mark);
            ran.iter().all(|lost| now.iter().any(|one| one.task == lost.task && one.node != self.victim))
        };
        (!ran.is_empty() && wait_for(END, again)).then(|| struck.elapsed())
    }

    /// All results of a job as node `n` tells them. A job whose client is lost
    /// may be open for ever, but its tasks end.
    fn results(&self, n: usize, job: u64, tasks: usize) -> Result<Vec<serde_json::Value>, Trouble> {
        let job = job.to_string();
        let mut told = Err(Trouble::Unexpected(format!("node {n} was not asked")));
        wait_for(END, || {
            let mut command = self.on_host(n, &["job", "logs", &job, "--json"]);
            told = finish(&mut command, END).and_then(Finished::required).map(|output| lines(&output));
            told.as_ref().is_ok_and(|told| told.len() >= tasks)
        });
        told
    }
}

/// Whether an input is on its way to a node.
fn staged(data: &Path) -> bool {
    let folders = [data.join("kept"), data.join("tasks").join("kept"), data.join("work").join("kept")];
    folders.iter().any(|folder: &PathBuf| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| entry.file_name().as_encoded_bytes().starts_with(b"."))
    })
}

fn lines(output: &str) -> Vec<serde_json::Value> {
    output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// What a client that goes on printed.
fn heard(mut client: Child) -> Result<Vec<serde_json::Value>, Trouble> {
    let ended = wait_for(CLIENT, || matches!(client.try_wait(), Ok(Some(_))));
    if !ended {
        let _ = client.kill();
    }
    let output = client.wait_with_output().map_err(Trouble::at("trine run"))?;
    if !ended {
        return Err(Trouble::Unexpected("trine run does not end after the fault".to_owned()));
    }
    Ok(lines(&String::from_utf8_lossy(&output.stdout)))
}

/// Tasks without a result, with two, or that failed.
fn wrong(results: &[serde_json::Value], tasks: usize) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut times: BTreeMap<u64, u32> = BTreeMap::new();
    for result in results {
        *times.entry(result["task"].as_u64().unwrap_or(0)).or_default() += 1;
        if result["exit"] != 0 {
            wrong.push(format!("a task failed: {result}"));
        }
    }
    for task in 1..=tasks as u64 {
        match times.get(&task) {
            Some(1) => {}
            Some(more) => wrong.push(format!("task {task} has {more} results")),
            None => wrong.push(format!("task {task} has no result")),
        }
    }
    wrong
}
