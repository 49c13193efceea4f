//! The world outside of the nodes, where tasks do what they do: begin, take
//! their time, exit, or are killed, with their worker too.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::sleep;
use trine_compute::body::{Assigned, Bodies, Body, Hands, Ran, Stop};
use trine_compute::run::shelf::Shelf;
use trine_compute::{Attempt, Outcome, Output, Resources, TaskSpec, Work};

use crate::clock::WorldTime;

/// What each node runs side by side.
pub const SLOTS: Resources = Resources::of(4_000, 0);

/// What a task does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// For so long it runs.
    pub ms: u64,
    /// So many executions of it exit with 1, those after them with 0.
    pub failures: u64,
}

impl Plan {
    /// The task that does this.
    #[must_use]
    pub fn task(self) -> TaskSpec {
        TaskSpec::process(["simulated".to_owned(), self.ms.to_string(), self.failures.to_string()])
    }

    fn of(task: &TaskSpec) -> Option<Self> {
        let Work::Process { argv, .. } = &task.work else { return None };
        let number = |at: usize| std::str::from_utf8(argv.get(at)?).ok()?.parse().ok();
        Some(Self { ms: number(1)?, failures: number(2)? })
    }
}

/// How an execution ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself.
    Exited(u8),
    /// Its worker killed it.
    Killed,
    /// Its node ended, and with it everything that ran there.
    Gone,
}

/// One execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Execution {
    /// Of what.
    pub attempt: Attempt,
    /// On which node.
    pub node: u64,
    /// Since when, in the world's time.
    pub began_ms: u64,
    /// When and how it ended; `None`: it runs.
    pub end: Option<(u64, End)>,
}

#[derive(Debug, Default)]
struct Inner {
    time: WorldTime,
    executions: Vec<Execution>,
}

/// Everything that tasks did in one world.
#[derive(Debug, Clone, Default)]
pub struct Outside {
    // A lock because tasks of several runtimes write; one thread only.
    inner: Arc<Mutex<Inner>>,
}

impl Outside {
    fn with<T>(&self, run: impl FnOnce(&mut Inner) -> T) -> T {
        run(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on things happen at this time.
    pub fn follow(&self, time: &WorldTime) {
        self.with(|inner| inner.time = time.clone());
    }

    /// All executions so far.
    #[must_use]
    pub fn executions(&self) -> Vec<Execution> {
        self.with(|inner| inner.executions.clone())
    }

    /// Those that run right now.
    #[must_use]
    pub fn running(&self) -> Vec<Execution> {
        self.with(|inner| inner.executions.iter().filter(|one| one.end.is_none()).copied().collect())
    }

    fn begin(&self, attempt: Attempt, node: u64) -> usize {
        self.with(|inner| {
            let began_ms = inner.time.now_ms();
            inner.executions.push(Execution { attempt, node, began_ms, end: None });
            inner.executions.len() - 1
        })
    }

    fn end(&self, at: usize, end: End) {
        self.with(|inner| {
            let now_ms = inner.time.now_ms();
            if let Some(execution) = inner.executions.get_mut(at) {
                execution.end.get_or_insert((now_ms, end));
            }
        });
    }

    /// How often a task has failed so far.
    fn failures(&self, of: Attempt) -> u64 {
        self.with(|inner| {
            let failed = inner.executions.iter().filter(|one| {
                (one.attempt.job, one.attempt.index) == (of.job, of.index)
                    && matches!(one.end, Some((_, End::Exited(code))) if code != 0)
            });
            failed.count() as u64
        })
    }

    /// What node `node` executes with.
    #[must_use]
    pub fn hands(&self, node: u64) -> Hands {
        let process = Arc::new(Simulated { outside: self.clone(), node });
        Hands { slots: SLOTS, bodies: Bodies { process, python: None }, shelf: Shelf::none(), tokens: None }
    }
}

struct Simulated {
    outside: Outside,
    node: u64,
}

/// Ends the execution however its future ends.
struct Alive {
    outside: Outside,
    at: usize,
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.outside.end(self.at, End::Gone);
    }
}

impl Body for Simulated {
    fn run(&self, task: Assigned, mut stop: watch::Receiver<Option<Stop>>) -> BoxFuture<'static, Ran> {
        let (outside, node) = (self.outside.clone(), self.node);
        Box::pin(async move {
            let Some(plan) = Plan::of(&task.task) else {
                return Ran::only(Outcome::NotStarted { why: "no simulated task".to_owned() });
            };
            let at = outside.begin(task.attempt, node);
            let alive = Alive { outside: outside.clone(), at };
            let why = tokio::select! {
                biased;
                why = stop.wait_for(Option::is_some) => why.ok().and_then(|why| *why),
                () = sleep(Duration::from_millis(plan.ms)) => None,
            };
            let ran = if let Some(why) = why {
                outside.end(at, End::Killed);
                Ran::only(why.outcome())
            } else {
                let code = u8::from(outside.failures(task.attempt) < plan.failures);
                outside.end(at, End::Exited(code));
                // A result names its execution.
                let stdout = Output::Inline(Bytes::from(at.to_string()));
                Ran { stdout, ..Ran::only(Outcome::Exited { code }) }
            };
            drop(alive);
            ran
        })
    }
}
