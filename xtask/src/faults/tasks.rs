//! Worker, master and client of jobs are killed, paused and cut off at every
//! state of a task, on three hosts that do not see each other's files.
//!
//! | file | what |
//! |---|---|
//! | [`submit`] | jobs over HTTP, on a host |
//! | [`processes`] | what tasks run anywhere on this machine |
//! | [`trial`] | one fault at one state, and what became of each task |

use std::time::Duration;

use super::Fault;
use super::cluster::Cluster;
use crate::command::Trouble;

mod processes;
mod submit;
mod trial;

/// Whom a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Worker,
    Master,
    Client,
}

/// How far tasks are when it strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Submitted, and there is no room yet.
    Queued,
    /// Given to a worker that has not begun.
    Assigned,
    /// Their input is on its way.
    Staging,
    Running,
    /// Over, and the master has not heard of it.
    Exited,
}

impl Role {
    const ALL: [Self; 3] = [Self::Worker, Self::Master, Self::Client];
}

impl Moment {
    const ALL: [Self; 5] = [Self::Running, Self::Queued, Self::Exited, Self::Assigned, Self::Staging];
}

/// What came of one trial.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) role: Role,
    pub(crate) fault: Fault,
    pub(crate) moment: Moment,
    /// From the blow until what the victim executed was executed elsewhere.
    pub(crate) elsewhere: Option<Duration>,
    /// Tasks without a result, with two, or with a wrong one.
    pub(crate) wrong: Vec<String>,
    /// Processes that should not have been there any more.
    pub(crate) left: Vec<String>,
}

impl Seen {
    /// Whose trial it was.
    pub(crate) fn name(&self) -> String {
        format!("{} of the {:?} while {:?}", self.fault.name(), self.role, self.moment).to_lowercase()
    }
}

/// One trial for each role and fault, the states in turn.
pub(crate) fn some() -> Result<Vec<Seen>, Trouble> {
    let mut cluster = Cluster::start()?;
    let mut seen = Vec::new();
    for fault in Fault::ALL {
        for role in Role::ALL {
            let moment = Moment::ALL[seen.len() % Moment::ALL.len()];
            seen.push(trial::run(&mut cluster, role, fault, moment)?);
        }
    }
    Ok(seen)
}

/// The trials of `cargo xtask test`: whom what strikes, and when.
const SHORT: [(Role, Fault, Moment); 5] = [
    (Role::Worker, Fault::Kill, Moment::Running),
    (Role::Worker, Fault::Cut, Moment::Running),
    (Role::Master, Fault::Kill, Moment::Running),
    (Role::Client, Fault::Kill, Moment::Running),
    (Role::Worker, Fault::Kill, Moment::Exited),
];

/// A few of all, in little more than a minute.
pub(crate) fn short() -> Result<Vec<Seen>, Trouble> {
    let mut cluster = Cluster::start()?;
    SHORT.into_iter().map(|(role, fault, moment)| trial::run(&mut cluster, role, fault, moment)).collect()
}

/// Every state of a task, for each role, with one fault.
pub(crate) fn all(fault: Fault) -> Result<Vec<Seen>, Trouble> {
    let mut cluster = Cluster::start()?;
    let mut seen = Vec::new();
    for moment in Moment::ALL {
        for role in Role::ALL {
            seen.push(trial::run(&mut cluster, role, fault, moment)?);
        }
    }
    Ok(seen)
}
