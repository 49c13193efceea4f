//! Tasks that are Python functions, as a worker executes them.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;

use super::interpreter::Launch;
use super::pool::{Call, Interpreters, Place, program};
use super::run::{self, Blobs, Ended};
use crate::body::{Assigned, Body, Ran, Stop};
use crate::launch::group::Limits;
use crate::limits::MAX_INLINE_BYTES;
use crate::run::Cells;
use crate::run::shelf::Shelf;
use crate::spec::{BodyKind, Outcome, Output, Work};
use crate::tokens::TaskTokens;

/// What functions of this node are given.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What errors call this node.
    pub node: String,
    /// Where interpreters run.
    pub cells: Cells,
    /// Environment of every interpreter.
    pub env: Vec<(String, String)>,
    /// Where blobs are and large values go.
    pub shelf: Shelf,
    /// What functions log in with.
    pub tokens: TaskTokens,
}

/// See the module.
pub struct Functions {
    pool: Interpreters,
    settings: Arc<Settings>,
}

impl Functions {
    /// An executor of functions, without an interpreter yet. Must be called
    /// within a tokio runtime.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let pool = Interpreters::new(settings.node.clone(), settings.cells.clone(), settings.tokens.clone());
        run::sweep(&pool);
        Self { pool, settings: Arc::new(settings) }
    }

    /// The call that a task is.
    fn call(&self, task: Assigned) -> Option<Call> {
        let Work::Python { payload, blobs } = task.task.work else { return None };
        let BodyKind::Python { version, initializer } = &task.job.body else { return None };
        let limited = super::payload::front(&payload).is_some_and(|front| front.max_calls > 0);
        let env = self.settings.env.iter().chain(&task.job.env).cloned().collect();
        let workdir = task.job.workdir.as_ref().map(PathBuf::from);
        let limits = Limits::of(task.job.resources);
        let launch = Launch { program: program(version, &task.job.env), env, workdir, limits };
        let own = initializer.is_some() || limited;
        let place = Place { user: task.job.user.clone(), job: own.then_some(task.attempt.job), launch };
        Some(Call { place, version: version.clone(), payload, blobs, limit: task.job.timeout() })
    }
}

impl Body for Functions {
    fn run(&self, task: Assigned, stop: watch::Receiver<Option<Stop>>) -> BoxFuture<'static, Ran> {
        let (pool, settings, call) = (self.pool.clone(), self.settings.clone(), self.call(task));
        async move {
            let Some(call) = call else {
                return Ran::only(Outcome::NotStarted { why: "it is no Python function".into() });
            };
            let brought = OnShelf(settings.shelf.clone());
            match run::unless_stopped(pool.call(&call, &brought), stop).await {
                Ok(ended) => ran(&settings.shelf, ended).await,
                Err(stop) => Ran::only(stop.outcome()),
            }
        }
        .boxed()
    }
}

struct OnShelf(Shelf);

impl Blobs for OnShelf {
    fn blob(&self, hash: [u8; 32]) -> BoxFuture<'_, Result<File, String>> {
        let missing =
            move || format!("the blob {} is not on this node any more", blake3::Hash::from_bytes(hash));
        async move { self.0.lend(hash).await.ok_or_else(missing) }.boxed()
    }
}

async fn ran(shelf: &Shelf, ended: Ended) -> Ran {
    let length = ended.value.len();
    let (outcome, value) = match keep(shelf, ended.value).await {
        Ok(value) => (ended.outcome, value),
        Err(error) => {
            let reason = format!("its value of {length} bytes cannot be kept: {error}");
            (Outcome::Killed { reason }, Output::default())
        }
    };
    let stdout = printed(shelf, ended.stdout).await;
    let stderr = printed(shelf, ended.stderr).await;
    Ran { outcome, stdout, stderr, value }
}

async fn printed(shelf: &Shelf, printed: run::Printed) -> Output {
    let front = printed.bytes.slice(..printed.bytes.len().min(MAX_INLINE_BYTES));
    match keep(shelf, printed.bytes).await {
        Ok(Output::Kept { hash, bytes, .. }) => Output::Kept { hash, bytes, cut: printed.cut },
        Ok(inline) => inline,
        Err(error) => {
            tracing::warn!(%error, "the output of a task is cut: it cannot be kept");
            Output::Inline(front)
        }
    }
}

/// Inline if it is short, else on the shelf.
async fn keep(shelf: &Shelf, bytes: Bytes) -> io::Result<Output> {
    if bytes.len() <= MAX_INLINE_BYTES {
        return Ok(Output::Inline(bytes));
    }
    let mut spill = shelf.begin()?;
    spill.write(bytes).await?;
    let length = spill.bytes();
    Ok(Output::Kept { hash: spill.finish().await?, bytes: length, cut: false })
}
