//! The rules of group `jobs` as a [`Machine`]. After each commit the rows are
//! published on every replica, for the master that may be there.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;
use trine_replication::{Answer as Read, Machine, ReadTime, Stamp};
use trine_storage::{Keyspace, Transaction, View};

use crate::codec::{self, PROGRESS, RANGE, RANGE_COUNT, RESULT, job_key, last_number, part_key};
use crate::command::{Answer, Command, Encoded, JobView, Query, Refusal, Results, Tasks};
use crate::due;
use crate::limits::MAX_TASKS_PER_RANGE;
use crate::spec::JobId;
use crate::state::{self, RangeRow};

/// Rows that a query reads at once.
const ROWS_AT_ONCE: usize = 64;
/// Most jobs in one answer.
const MAX_LISTED: usize = 1_000;
/// Most bytes of results in one answer, about: one frame between nodes bears it.
pub const MAX_RESULTS_BYTES: u32 = 4 * 1024 * 1024;

/// The rows of this node's replica as of an index; grows with each entry.
#[derive(Clone)]
pub struct Applied {
    /// The rows; later ones, too.
    pub state: Arc<dyn Keyspace>,
    /// The entry that they reflect at least.
    pub index: u64,
}

/// The machine of group `jobs`.
pub struct JobsMachine {
    published: watch::Sender<Option<Applied>>,
}

impl JobsMachine {
    /// A machine, and where its rows are published once a replica opens here.
    pub fn new() -> (Arc<Self>, watch::Receiver<Option<Applied>>) {
        let (published, applied) = watch::channel(None);
        (Arc::new(Self { published }), applied)
    }
}

impl Machine for JobsMachine {
    fn apply(&self, tx: &mut Transaction<'_>, stamp: &Stamp, command: &[u8]) -> Bytes {
        let answer = match codec::decode::<Command>(command, "command") {
            Ok(command) => state::apply(tx, stamp.time_ms, command),
            Err(error) => Err(Refusal::NotUnderstood(error.to_string())),
        };
        codec::encode(&answer.unwrap_or_else(Answer::Refused))
    }

    fn query(&self, view: &dyn View, _time: ReadTime, query: &[u8]) -> Read {
        let reply = match codec::decode::<Query>(query, "query") {
            Ok(query) => answer(view, &query),
            Err(error) => Err(Refusal::NotUnderstood(error.to_string())),
        };
        // Every reply to a query is Result<_, Refusal>, encoded.
        Read::Reply(reply.unwrap_or_else(|refusal| codec::encode(&Err::<(), _>(refusal))))
    }

    fn applied(&self, state: &Arc<dyn Keyspace>, index: u64) {
        self.published.send_replace(Some(Applied { state: state.clone(), index }));
    }
}

fn answer(view: &dyn View, query: &Query) -> Result<Bytes, Refusal> {
    Ok(match *query {
        Query::Job { job } => codec::encode(&Ok::<_, Refusal>(self::job(view, job)?)),
        Query::Jobs { before, limit } => codec::encode(&Ok::<_, Refusal>(jobs(view, before, limit)?)),
        Query::Schedules => {
            let found: Result<Vec<_>, Refusal> =
                due::all(view)?.into_iter().map(|id| job(view, id)).collect();
            codec::encode(&Ok::<_, Refusal>(found?))
        }
        Query::Results { job, from, bytes } => {
            codec::encode(&Ok::<_, Refusal>(results(view, job, from, bytes)?))
        }
        Query::Tasks { job, from } => codec::encode(&Ok::<_, Refusal>(tasks(view, job, from)?)),
    })
}

/// One job.
///
/// # Errors
/// [`Refusal::NoSuchJob`], [`Refusal::Corrupt`].
pub(crate) fn job(view: &dyn View, job: JobId) -> Result<JobView, Refusal> {
    match (state::spec(view, job)?, state::progress(view, job)?) {
        (Some(spec), Some(progress)) => Ok(JobView { id: job, spec, progress }),
        _ => Err(Refusal::NoSuchJob(job)),
    }
}

/// Jobs, newest first. Ids are dense but for what was forgotten, so that they
/// are counted down.
fn jobs(view: &dyn View, before: Option<JobId>, limit: u32) -> Result<Vec<JobView>, Refusal> {
    let limit = usize::try_from(limit).unwrap_or(MAX_LISTED).min(MAX_LISTED);
    let newest = state::totals(view)?.last_job.saturating_add(1);
    let mut end = before.map_or(newest, |before| before.0.min(newest));
    let mut found = Vec::new();
    while found.len() < limit && end > 0 {
        let start = end.saturating_sub(MAX_LISTED as u64);
        let (from, to) = (job_key(PROGRESS, JobId(start)), job_key(PROGRESS, JobId(end)));
        let rows = view.scan(Bound::Included(&from), Bound::Excluded(&to), MAX_LISTED)?;
        for (key, _) in rows.iter().rev() {
            if found.len() >= limit {
                break;
            }
            match job(view, JobId(last_number(key).unwrap_or_default())) {
                Ok(job) => found.push(job),
                // It is being forgotten.
                Err(Refusal::NoSuchJob(_)) => {}
                Err(other) => return Err(other),
            }
        }
        end = start;
    }
    Ok(found)
}

/// Results of a job from the `from`th on, in the order of their commit.
pub(crate) fn results(view: &dyn View, job: JobId, from: u64, bytes: u32) -> Result<Results, Refusal> {
    let progress = self::job(view, job)?.progress;
    let most = usize::try_from(bytes.min(MAX_RESULTS_BYTES)).unwrap_or_default();
    let (mut results, mut size, mut next) = (Vec::new(), 0, from);
    while next < progress.done && (size < most || results.is_empty()) {
        let (from, to) = (part_key(RESULT, job, next), part_key(RESULT, job, u64::MAX));
        let rows = view.scan(Bound::Included(&from), Bound::Included(&to), ROWS_AT_ONCE)?;
        if rows.is_empty() {
            break;
        }
        for (_, row) in rows {
            if size >= most && !results.is_empty() {
                break;
            }
            size += row.len();
            results.push(Encoded(row));
            next += 1;
        }
    }
    Ok(Results { progress, results })
}

/// The range that contains task `index`.
pub(crate) fn range_of(view: &dyn View, job: JobId, index: u64) -> Result<Option<RangeRow>, Refusal> {
    // Ranges are not longer than this, so that the one that contains the task
    // begins here at the earliest.
    let earliest = index.saturating_sub(MAX_TASKS_PER_RANGE as u64 - 1);
    let (from, to) = (part_key(RANGE_COUNT, job, earliest), part_key(RANGE_COUNT, job, index));
    let rows = view.scan(Bound::Included(&from), Bound::Included(&to), MAX_TASKS_PER_RANGE)?;
    let Some((key, row)) = rows.last() else { return Ok(None) };
    let row = RangeRow::decode(key, row)?;
    Ok(Some(row).filter(|row| index < row.first + u64::from(row.count)))
}

/// The range that contains task `from`.
fn tasks(view: &dyn View, job: JobId, from: u64) -> Result<Option<Tasks>, Refusal> {
    self::job(view, job)?;
    let Some(RangeRow { first, count, .. }) = range_of(view, job, from)? else { return Ok(None) };
    let tasks = view.get(&part_key(RANGE, job, first))?;
    Ok(tasks.map(|tasks| Tasks { first, count, tasks }))
}

#[cfg(test)]
mod tests;
