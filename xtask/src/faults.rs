//! Real faults under load: SIGKILL, SIGSTOP and a cut link on any of three
//! nodes, each node on a host of its own.
//!
//! | file | what |
//! |---|---|
//! | [`cluster`] | three `trine start` processes, joined by tickets |
//! | [`load`] | writers that remember what they were told, and the audit of it |
//! | [`interest`] | what nodes know of each other's subscriptions while a link is cut, and after |
//! | [`tasks`] | worker, master and client of jobs at every state of a task |
//! | [`strangers`] | whom nodes write to: nobody but each other |

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::command::Trouble;

pub(crate) mod cluster;
pub(crate) mod interest;
mod load;
pub(crate) mod strangers;
pub(crate) mod tasks;

use cluster::Cluster;
use load::{Load, Probe};

/// How long the measured key is watched after a fault.
const WATCH: Duration = Duration::from_millis(2_500);
/// How long it may stay unwritable before the trial is given up.
const GIVE_UP: Duration = Duration::from_secs(20);

/// What happens to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Kill,
    Pause,
    Cut,
}

impl Fault {
    pub(crate) const ALL: [Self; 3] = [Self::Kill, Self::Pause, Self::Cut];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "SIGKILL",
            Self::Pause => "SIGSTOP",
            Self::Cut => "cut link",
        }
    }
}

/// What came out of a number of trials of one fault.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// How long the measured key could not be written, by trial, shortest first.
    pub(crate) outages: Vec<Duration>,
    /// Acknowledged writes.
    pub(crate) acknowledged: u64,
    /// Acknowledged writes that were not there afterwards.
    pub(crate) lost: u64,
    /// Counters below what was acknowledged or above what was sent.
    pub(crate) wrong_counters: Vec<String>,
    /// Counters of clients whose node was never touched that differ from what was acknowledged.
    pub(crate) inexact_counters: Vec<String>,
    /// `TRINE.ONCE` counters that differ from what was sent.
    pub(crate) wrong_once: Vec<String>,
    /// Increments sent through `TRINE.ONCE`.
    pub(crate) once: u64,
}

impl Verdict {
    pub(crate) fn median(&self) -> Duration {
        self.outages.get(self.outages.len() / 2).copied().unwrap_or(Duration::MAX)
    }

    pub(crate) fn worst(&self) -> Duration {
        self.outages.last().copied().unwrap_or(Duration::MAX)
    }

    /// Counters that had to be exact: a client need not notice that a node it is not connected to was killed.
    pub(crate) fn inexact(&self, fault: Fault) -> &[String] {
        if fault == Fault::Kill { &self.inexact_counters } else { &[] }
    }

    /// Nothing lost, nothing counted wrong.
    pub(crate) fn safe(&self) -> bool {
        self.acknowledged > 0 && self.lost == 0 && self.wrong_counters.is_empty()
    }
}

/// Runs `count` trials of one fault on a fresh cluster of this build.
pub(crate) fn trials(fault: Fault, count: usize) -> Result<Verdict, Trouble> {
    let mut cluster = Cluster::start()?;
    let mut verdict = Verdict::default();
    // Clients of a node that is killed lose their connection; those of the others must not notice.
    // So the load of a trial is audited after the trial, knowing who the victim was.
    for trial in 0..count {
        let load = Load::start(&cluster.hosts(), trial);
        let outcome = one_trial(&mut cluster, fault, trial);
        let records = load.stop();
        let (victim, outage) = outcome?;
        verdict.outages.push(outage);
        load::audit(&records, &cluster.hosts(), victim, &mut verdict)?;
    }
    verdict.outages.sort();
    Ok(verdict)
}

/// Hits the owner of a measured key; gives the victim and how long the key could not be written.
fn one_trial(cluster: &mut Cluster, fault: Fault, trial: usize) -> Result<(usize, Duration), Trouble> {
    let (victim, key) = load::owned_key(cluster.hosts(), trial)?;
    let survivors = cluster.hosts().into_iter().filter(|(n, _)| *n != victim).collect();
    let probe = Probe::start(survivors, &key);
    let before = probe.settled()?;
    let begin = Instant::now();
    match fault {
        Fault::Kill => cluster.kill(victim),
        Fault::Pause => cluster.signal(victim, Signal::STOP),
        Fault::Cut => cluster.links().cut(victim)?,
    }
    let acks = probe.watch(before, WATCH, GIVE_UP);
    match fault {
        Fault::Kill => cluster.restart(victim)?,
        Fault::Pause => cluster.signal(victim, Signal::CONT),
        Fault::Cut => cluster.links().heal(victim)?,
    }
    let outage = load::longest_gap(begin, &acks).ok_or_else(|| {
        Trouble::Unexpected(format!("{}: {key} was not writable within {GIVE_UP:?}", fault.name()))
    })?;
    cluster.wait_until_whole()?;
    Ok((victim, outage))
}
