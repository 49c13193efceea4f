//! Which interpreters are idle, and for whom. How many calls run at once is
//! decided by the worker's slots; here is only bounded how many stay warm.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::interpreter::{Interpreter, Launch};
use super::run::{self, Blobs, Ended};
use crate::run::Cells;
use crate::spec::JobId;
use crate::tokens::TaskTokens;

/// Interpreters that stay warm; of more, the one that was idle longest ends.
pub const MAX_IDLE: usize = 64;
/// How long an interpreter stays warm.
pub const IDLE_LIMIT: Duration = Duration::from_mins(1);
/// Variable that names the interpreter: of a job's environment, or the node's.
pub const PROGRAM_VARIABLE: &str = "TRINE_PYTHON";

/// Who may use an interpreter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Whose jobs.
    pub user: String,
    /// The only job, if its calls need interpreters of their own.
    pub job: Option<JobId>,
    /// How it is started.
    pub launch: Launch,
}

/// One call.
#[derive(Debug, Clone)]
pub struct Call {
    /// Whose interpreter it takes.
    pub place: Place,
    /// The Python that it needs, as in `3.13`.
    pub version: String,
    /// The pickled call.
    pub payload: Bytes,
    /// Hashes of the blobs that it names.
    pub blobs: Vec<[u8; 32]>,
    /// How long it may take.
    pub limit: Option<Duration>,
}

/// The interpreter that a job is executed by: the one that its environment
/// names, the one that the node's environment names, or the one of its version.
#[must_use]
pub fn program(version: &str, env: &[(String, String)]) -> String {
    let named = env.iter().rev().find(|(name, _)| name == PROGRAM_VARIABLE).map(|(_, value)| value.clone());
    named
        .or_else(|| std::env::var(PROGRAM_VARIABLE).ok())
        .filter(|program| !program.is_empty())
        .unwrap_or_else(|| format!("python{version}"))
}

type Idle = BTreeMap<Place, Vec<Interpreter>>;

/// Interpreters that may be gone.
pub(super) struct Forgetful {
    idle: Weak<Mutex<Idle>>,
    node: String,
    cells: Cells,
    tokens: TaskTokens,
}

impl Forgetful {
    pub(super) fn upgrade(&self) -> Option<Interpreters> {
        let (node, cells, tokens) = (self.node.clone(), self.cells.clone(), self.tokens.clone());
        Some(Interpreters { idle: self.idle.upgrade()?, node, cells, tokens })
    }
}

/// The interpreters of a node; a cheap clone.
#[derive(Clone)]
pub struct Interpreters {
    // A mutex instead of a task that owns them: it is held for a few
    // instructions, never across an await, and a call then needs no round
    // through a channel, which would cost as much as the call.
    idle: Arc<Mutex<Idle>>,
    node: String,
    cells: Cells,
    tokens: TaskTokens,
}

impl Interpreters {
    /// None yet; they will be in `cells`, and log in with one of `tokens`;
    /// errors name `node`.
    #[must_use]
    pub fn new(node: impl Into<String>, cells: Cells, tokens: TaskTokens) -> Self {
        Self { idle: Arc::default(), node: node.into(), cells, tokens }
    }

    /// Executes a call. Dropping the future kills the interpreter and all that
    /// the function has started.
    pub async fn call(&self, call: &Call, blobs: &dyn Blobs) -> Ended {
        if super::payload::front(&call.payload).is_none() {
            return Ended::not_started("the payload is no pickled call of the package `trine`");
        }
        let interpreter = match self.idle_one(&call.place) {
            Some(interpreter) => interpreter,
            None => match self.start(call).await {
                Ok(interpreter) => interpreter,
                Err(why) => return Ended::not_started(why),
            },
        };
        interpreter.token.wake(call.limit);
        let (ended, kept) = run::call(interpreter, &call.payload, &call.blobs, blobs).await;
        if let Some(interpreter) = kept {
            interpreter.token.rest();
            self.keep(call.place.clone(), interpreter);
        }
        ended
    }

    /// Ends those that were idle for `limit`.
    pub fn sweep(&self, limit: Duration) {
        let mut idle = self.lock();
        idle.retain(|_, interpreters| {
            interpreters.retain(|interpreter| interpreter.idle_since.elapsed() < limit);
            !interpreters.is_empty()
        });
    }

    /// For a task that sweeps as long as there are interpreters.
    pub(super) fn downgrade(&self) -> Forgetful {
        let (node, cells, tokens) = (self.node.clone(), self.cells.clone(), self.tokens.clone());
        Forgetful { idle: Arc::downgrade(&self.idle), node, cells, tokens }
    }

    /// How many are idle.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.lock().values().map(Vec::len).sum()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Idle> {
        // Whoever panicked held only a list of children.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle_one(&self, place: &Place) -> Option<Interpreter> {
        let mut idle = self.lock();
        let interpreters = idle.get_mut(place)?;
        let found = loop {
            let mut interpreter = interpreters.pop()?;
            if !interpreter.is_gone() {
                break interpreter;
            }
        };
        Some(found)
    }

    fn keep(&self, place: Place, mut interpreter: Interpreter) {
        interpreter.idle_since = Instant::now();
        let mut idle = self.lock();
        idle.entry(place).or_default().push(interpreter);
        if idle.values().map(Vec::len).sum::<usize>() > MAX_IDLE {
            // The first of a list was idle longest: they are taken from the end.
            let oldest = idle.values_mut().filter(|interpreters| !interpreters.is_empty());
            if let Some(interpreters) = oldest.min_by_key(|interpreters| interpreters[0].idle_since) {
                interpreters.remove(0);
            }
        }
        idle.retain(|_, interpreters| !interpreters.is_empty());
    }

    async fn start(&self, call: &Call) -> Result<Interpreter, String> {
        let (launch, node) = (&call.place.launch, &self.node);
        let program = &launch.program;
        let cannot_start = |error: &dyn std::fmt::Display| {
            format!(
                "{program} cannot be started on node {node}: {error}; install Python {} there, or name an \
                 interpreter in {PROGRAM_VARIABLE}",
                call.version
            )
        };
        let interpreter =
            Interpreter::start(&self.cells, launch, self.tokens.prepare(&call.place.user)).await;
        let mut interpreter = interpreter.map_err(|error| cannot_start(&error))?;
        let hello = match run::greet(&mut interpreter).await {
            Ok(hello) => hello,
            Err(why) => {
                return Err(match interpreter.not_started().await {
                    Some(error) => cannot_start(&error),
                    None => format!("{program} on node {node} cannot be used: {why}"),
                });
            }
        };
        let [major, minor, _] = hello.python;
        let executable = &hello.executable;
        if format!("{major}.{minor}") != call.version {
            return Err(format!(
                "the function was pickled by Python {} and {executable} on node {node} is Python \
                 {major}.{minor}: their pickles of functions differ; use the same minor version on both sides",
                call.version
            ));
        }
        if hello.cloudpickle.is_none() {
            return Err(format!(
                "{executable} on node {node} has no cloudpickle: run `{executable} -m pip install cloudpickle` \
                 there"
            ));
        }
        Ok(interpreter)
    }
}
