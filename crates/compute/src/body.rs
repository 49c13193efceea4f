//! The seam between a worker and what executes a task's body: processes,
//! interpreters, and in the simulator nothing but time.

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::run::shelf::Shelf;
use crate::spec::{Attempt, JobSpec, Outcome, Output, Resources, TaskSpec};
use crate::tokens::TaskTokens;

/// A task to execute.
#[derive(Debug, Clone)]
pub struct Assigned {
    /// Which attempt.
    pub attempt: Attempt,
    /// What its job's tasks share.
    pub job: Arc<JobSpec>,
    /// The task.
    pub task: TaskSpec,
}

/// Why a body must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Nobody wants the result any more.
    Cancelled,
    /// It has run for longer than its job allows.
    TimedOut,
    /// No master knows any more that it runs here.
    LetGo,
}

impl Stop {
    /// The outcome of a task that ended for this reason.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Cancelled => Outcome::Cancelled,
            Self::TimedOut => Outcome::TimedOut,
            Self::LetGo => Outcome::Lost,
        }
    }
}

/// How a body ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// How.
    pub outcome: Outcome,
    /// What it wrote.
    pub stdout: Output,
    /// What it wrote as errors.
    pub stderr: Output,
    /// What it returned.
    pub value: Output,
}

impl Ran {
    /// An outcome, and nothing else.
    #[must_use]
    pub fn only(outcome: Outcome) -> Self {
        Self { outcome, stdout: Output::default(), stderr: Output::default(), value: Output::default() }
    }
}

/// Executes tasks of one kind.
pub trait Body: Send + Sync + 'static {
    /// Executes a task; ends soon after `stop` has a reason, and leaves nothing
    /// behind that runs. Dropping the future stops it, too.
    fn run(&self, task: Assigned, stop: watch::Receiver<Option<Stop>>) -> BoxFuture<'static, Ran>;
}

/// What a node gives to the execution of tasks.
#[derive(Clone)]
pub struct Hands {
    /// What it can run side by side.
    pub slots: Resources,
    /// Who executes what.
    pub bodies: Bodies,
    /// Where large outputs are kept.
    pub shelf: Shelf,
    /// What tasks log in with; `None`: there are no tasks.
    pub tokens: Option<TaskTokens>,
}

impl Hands {
    /// A node that submits and manages, and executes nothing.
    #[must_use]
    pub fn none() -> Self {
        Self::refusing("this node executes no tasks", Shelf::none())
    }

    /// A node that executes nothing, and says why to tasks that insist on it.
    #[must_use]
    pub fn refusing(why: impl Into<String>, shelf: Shelf) -> Self {
        let slots = Resources::NONE;
        let nobody = Arc::new(Nobody { why: why.into() });
        Self { slots, bodies: Bodies { process: nobody.clone(), python: Some(nobody) }, shelf, tokens: None }
    }
}

impl std::fmt::Debug for Hands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hands").field("slots", &self.slots).finish_non_exhaustive()
    }
}

/// Executes nothing.
struct Nobody {
    why: String,
}

impl Body for Nobody {
    fn run(&self, _task: Assigned, _stop: watch::Receiver<Option<Stop>>) -> BoxFuture<'static, Ran> {
        let why = self.why.clone();
        Box::pin(std::future::ready(Ran::only(Outcome::NotStarted { why })))
    }
}

/// Who executes what on this node.
#[derive(Clone)]
pub struct Bodies {
    /// Tasks that are processes.
    pub process: Arc<dyn Body>,
    /// Tasks that are Python functions; `None`: this node has no interpreter
    /// for them, and says so.
    pub python: Option<Arc<dyn Body>>,
}
