//! Jobs over HTTP: from a route to [`Compute`], any node, streaming both ways.
//! The records are those of `trine_compute::record`; `docs/jobs.md` describes
//! everything for those who write clients.
//!
//! A credential with the right to administer sees all jobs. Any other one sees
//! the jobs that it has submitted, and may submit those whose names its rules
//! `jobs:PATTERN` match.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, StreamExt};
use hyper::StatusCode;
use trine_compute::command::JobView;
use trine_compute::handle::ResultStream;
use trine_compute::record::{self, Decoder, Malformed, decode_task, encode_result, encode_task};
use trine_compute::{Compute, JobId, JobSpec, TaskSpec};
use trine_types::NodeNumber;

use super::guard::Caller;
use super::routes::OfJobs;
use super::site::{Asked, Reply};
use crate::admin::protocol::{Refusal, RefusalKind};

mod blobs;
mod refusals;

use refusals::{invalid, refused};

/// Longest description of a job.
const MAX_SPEC_BYTES: usize = 256 * 1024;
/// Most bytes of tasks in one request; a client sends many such.
const MAX_TASKS_BYTES: usize = 8 * 1024 * 1024;
/// How long a client may take to send them.
const TASKS_LIMIT: Duration = Duration::from_secs(30);
/// How long a stream of results is silent before it says that it is alive.
const SIGN_OF_LIFE: Duration = Duration::from_secs(7);
/// Jobs of one answer, unless it is asked for fewer; and at most.
const MAX_LISTED: u32 = 1_000;

/// What is asked not to be done.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Dropped {
    tasks: Vec<u64>,
}

/// The jobs of a cluster, as this node knows them.
pub struct Jobs {
    compute: Compute,
}

impl Jobs {
    /// Asks `compute`.
    #[must_use]
    pub fn new(compute: Compute) -> Self {
        Self { compute }
    }

    pub(super) async fn reply(&self, caller: &Caller, what: OfJobs, argument: &str, asked: Asked) -> Reply {
        match self.answer(caller, what, argument, asked).await {
            Ok(reply) | Err(reply) => reply,
        }
    }

    async fn answer(
        &self,
        caller: &Caller,
        what: OfJobs,
        argument: &str,
        asked: Asked,
    ) -> Result<Reply, Reply> {
        match what {
            OfJobs::List => return self.list(caller, &asked).await,
            OfJobs::Create => return self.create(caller, asked).await,
            OfJobs::Workers => return Ok(self.workers().await),
            OfJobs::Put => return blobs::put(&self.compute, argument, asked).await,
            OfJobs::Get => return blobs::get(&self.compute, argument, &asked).await,
            _ => {}
        }
        let job = argument.parse().map(JobId).map_err(|_| invalid("a job has a number"))?;
        let known = self.may_use(caller, job).await?;
        let done = || Reply::json(StatusCode::OK, &serde_json::json!({}));
        match what {
            OfJobs::Add => self.add(job, asked).await,
            OfJobs::Drop => {
                let body = asked.within(MAX_SPEC_BYTES * 4, TASKS_LIMIT).body().await?;
                let wanted: Dropped = serde_json::from_slice(&body)
                    .map_err(|error| invalid(format!("not a list of tasks: {error}")))?;
                self.compute.drop_tasks(job, &wanted.tasks).await.map(|()| done()).map_err(refused)
            }
            OfJobs::Running => {
                let running = self.compute.running(job).await.map_err(refused)?;
                Ok(Reply::json(StatusCode::OK, &running))
            }
            OfJobs::Tasks => self.tasks(job, number(&asked, "from")?.unwrap_or(0)).await,
            OfJobs::Close => self.compute.close(job).await.map(|()| done()).map_err(refused),
            OfJobs::Cancel => self.compute.cancel(job).await.map(|()| done()).map_err(refused),
            OfJobs::Forget => self.compute.forget(job).await.map(|()| done()).map_err(refused),
            _ => {
                let view = match known {
                    Some(view) => view,
                    None => self.compute.job(job).await.map_err(refused)?,
                };
                if what == OfJobs::Show {
                    return Ok(Reply::json(StatusCode::OK, &view));
                }
                let from = number(&asked, "from")?.unwrap_or(0);
                Ok(Reply::streamed(
                    "application/octet-stream",
                    records(self.compute.results(job, from)).boxed(),
                ))
            }
        }
    }

    /// Whether the caller may do anything with the job; the job, if it had to
    /// be looked at.
    async fn may_use(&self, caller: &Caller, job: JobId) -> Result<Option<JobView>, Reply> {
        if caller.rights.is_admin() {
            return Ok(None);
        }
        let view = self.compute.job(job).await.map_err(refused)?;
        if view.spec.user == caller.name {
            return Ok(Some(view));
        }
        Err(denied(format!("job {job} is not one of {}", caller.name)))
    }

    async fn list(&self, caller: &Caller, asked: &Asked) -> Result<Reply, Reply> {
        let before = number(asked, "before")?.map(JobId);
        let limit = number(asked, "limit")?.and_then(|limit| u32::try_from(limit).ok()).unwrap_or(MAX_LISTED);
        let listed = match asked.query("scheduled") {
            Some("true") => self.compute.schedules().await,
            _ => self.compute.jobs(before, limit.min(MAX_LISTED)).await,
        };
        let mut jobs = listed.map_err(refused)?;
        if !caller.rights.is_admin() {
            jobs.retain(|job| job.spec.user == caller.name);
        }
        Ok(Reply::json(StatusCode::OK, &jobs))
    }

    async fn create(&self, caller: &Caller, asked: Asked) -> Result<Reply, Reply> {
        let body = asked.within(MAX_SPEC_BYTES, TASKS_LIMIT).body().await?;
        // Through a map: serde would take a list for a struct, too.
        let spec = serde_json::from_slice::<serde_json::Map<_, _>>(&body)
            .and_then(|map| serde_json::from_value::<JobSpec>(map.into()))
            .map_err(|error| invalid(format!("not a job: {error}")))?;
        if !caller.rights.is_admin() && !caller.rights.may_use_jobs(&spec.name) {
            return Err(denied(format!("{} may not submit a job named {:?}", caller.name, spec.name)));
        }
        let spec = JobSpec { user: caller.name.clone(), ..spec };
        spec.check().map_err(|error| invalid(error.to_string()))?;
        let id = self.compute.create(spec).await.map_err(refused)?;
        Ok(Reply::json(StatusCode::OK, &serde_json::json!({ "id": id })))
    }

    async fn add(&self, job: JobId, asked: Asked) -> Result<Reply, Reply> {
        let after = number(&asked, "after")?;
        let body = asked.within(MAX_TASKS_BYTES, TASKS_LIMIT).body().await?;
        let tasks = tasks(&body).map_err(|error| invalid(format!("not tasks: {error}")))?;
        let count = tasks.len() as u64;
        let first = match after {
            None => self.compute.append(job, &tasks).await.map_err(refused)?,
            Some(after) => match self.compute.append_after(job, after, &tasks).await {
                // The answer to the same request was lost.
                Err(error) if refusals::has_tasks(&error) == Some(after + count) => after,
                added => added.map_err(refused)?,
            },
        };
        Ok(Reply::json(StatusCode::OK, &serde_json::json!({ "first": first, "tasks": first + count })))
    }

    /// The rest of the range that task `from` is in; nothing after the last.
    async fn tasks(&self, job: JobId, from: u64) -> Result<Reply, Reply> {
        let mut out = BytesMut::new();
        if let Some((first, tasks)) = self.compute.tasks(job, from).await.map_err(refused)? {
            let before = usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX);
            tasks.iter().skip(before).for_each(|task| encode_task(task, &mut out));
        }
        Ok(Reply::new(StatusCode::OK, "application/octet-stream", out))
    }

    async fn workers(&self) -> Reply {
        let row = |(node, slots): &(NodeNumber, trine_compute::Resources)| serde_json::json!({ "node": node, "cpu_milli": slots.cpu_milli, "memory_bytes": slots.memory_bytes, "named": slots.named });
        let workers: Vec<_> = self.compute.workers().await.iter().map(row).collect();
        Reply::json(StatusCode::OK, &workers)
    }
}

fn denied(why: String) -> Reply {
    let refusal = Refusal::new(why).hint("an administrator gives the right `jobs:PATTERN`");
    Reply::refusal(StatusCode::FORBIDDEN, &refusal.kind(RefusalKind::Denied))
}

/// A number of the query.
fn number(asked: &Asked, name: &str) -> Result<Option<u64>, Reply> {
    let parse = |text: &str| text.parse().map_err(|_| invalid(format!("{name}={text} is no number")));
    asked.query(name).map(parse).transpose()
}

/// The tasks of one request.
fn tasks(body: &[u8]) -> Result<Vec<TaskSpec>, Malformed> {
    let (mut decoder, mut tasks) = (Decoder::default(), Vec::new());
    decoder.feed(body);
    while let Some(record) = decoder.next_record()? {
        if !record.is_sign_of_life() {
            tasks.push(decode_task(record)?);
        }
    }
    decoder.finish()?;
    Ok(tasks)
}

/// The results of a job as records, until it is over.
fn records(results: ResultStream) -> impl stream::Stream<Item = io::Result<Bytes>> {
    stream::unfold(Some(results), async |results| {
        let mut results = results?;
        let piece = match tokio::time::timeout(SIGN_OF_LIFE, results.next()).await {
            Err(_) => Ok(record::sign_of_life()),
            Ok(Err(error)) => return Some((Err(io::Error::other(error)), None)),
            Ok(Ok(part)) if part.results.is_empty() => return None,
            Ok(Ok(part)) => {
                let mut out = BytesMut::new();
                for result in &part.results {
                    encode_result(result, &mut out);
                }
                Ok(out.freeze())
            }
        };
        Some((piece, Some(results)))
    })
}
