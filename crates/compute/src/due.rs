//! What happens when a schedule is due: the jobs that it names are copied, once
//! for each due time. The master says which time is due and which comes next;
//! the log knows which of them it waits for. Pure.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use trine_storage::{Transaction, View};

use crate::codec::{self, COPIES, RANGE, RANGE_COUNT, SCHEDULE, job_key, last_number, part_key};
use crate::command::{Answer, Phase, Progress, Refusal};
use crate::limits::{
    KEPT_COPIES, MAX_JOBS, MAX_KEPT_BYTES, MAX_LIVE_JOBS, MAX_SCHEDULED_TASKS, MAX_SCHEDULES,
};
use crate::spec::{BadSpec, JobId, JobSpec, Schedule, Waited};
use crate::state::{self, RangeRow};

/// Steps in which one old copy is removed, each of some hundred rows; what is
/// left of a larger one is removed when its time is up.
const FORGETTING_STEPS: usize = 64;

/// What is due of a schedule, and what is due next, in milliseconds since the
/// epoch.
pub(crate) type Times = (Option<u64>, Option<u64>);

/// An expression and its time zone.
#[derive(Debug)]
pub(crate) struct Cron(pub(crate) String, pub(crate) String);

/// A job of a schedule.
struct Part {
    id: JobId,
    spec: JobSpec,
    row: Progress,
}

/// Whether a new job may be a schedule: its parts are its own, and there are
/// not too many schedules.
pub(crate) fn admit(tx: &Transaction<'_>, spec: &JobSpec) -> Result<(), Refusal> {
    let Some(Schedule::Cron { parts, .. }) = &spec.when.schedule else { return Ok(()) };
    for &part in parts {
        let known = state::spec(tx, part)?;
        let own =
            known.is_some_and(|known| known.user == spec.user && known.when.schedule == Some(Schedule::Part));
        if !own {
            let why = format!("job {part} is no part of a schedule of this user");
            return Err(BadSpec::Field { field: "when.schedule.parts".into(), why }.into());
        }
    }
    if all(tx)?.len() >= MAX_SCHEDULES {
        return Err(Refusal::Full { what: "schedules".into(), most: MAX_SCHEDULES as u64 });
    }
    Ok(())
}

/// The schedules that are not cancelled.
pub(crate) fn all(view: &dyn View) -> Result<Vec<JobId>, Refusal> {
    let rows = view.scan(Bound::Included(&[SCHEDULE]), Bound::Excluded(&[SCHEDULE + 1]), MAX_SCHEDULES)?;
    Ok(rows.iter().filter_map(|(key, _)| last_number(key).map(JobId)).collect())
}

/// Copies the jobs of a schedule if it waits for `due_ms` and that has come; it
/// waits for `next_ms` then. A schedule that is new waits for nothing.
pub(crate) fn fire(
    tx: &mut Transaction<'_>,
    now_ms: u64,
    job: JobId,
    (due_ms, next_ms): (Option<u64>, Option<u64>),
) -> Result<Answer, Refusal> {
    let spec = state::spec(tx, job)?.ok_or(Refusal::NoSuchJob(job))?;
    let mut row = state::progress(tx, job)?.ok_or(Refusal::NoSuchJob(job))?;
    let Some(Schedule::Cron { parts, .. }) = &spec.when.schedule else { return Ok(Answer::Done) };
    let mut scheduled = row.schedule.take().unwrap_or_default();
    let waits = row.phase == Phase::Closed && scheduled.next_ms == due_ms;
    if !waits || due_ms.is_some_and(|due| due > now_ms) {
        return Ok(Answer::Done);
    }
    let mut why = row.why.clone();
    if let Some(due) = due_ms {
        let mut found = Vec::new();
        for &id in parts {
            if let (Some(spec), Some(row)) = (state::spec(tx, id)?, state::progress(tx, id)?) {
                found.push(Part { id, spec, row });
            }
        }
        let whole = found.len() == parts.len();
        found.push(Part { id: job, spec, row });
        why = if whole { unfit(tx, &found)? } else { Some("a part of it is not known any more".into()) };
        if why.is_none() {
            let mut made = BTreeMap::new();
            for part in found {
                let copy = copy(tx, (now_ms, due), &part, &made)?;
                made.insert(part.id, copy);
            }
            let made: Vec<JobId> = made.into_values().collect();
            scheduled.last = made.last().copied();
            tx.put(part_key(COPIES, job, scheduled.copies), codec::encode(&made))?;
            scheduled.copies += 1;
            forget_old(tx, job, scheduled.copies)?;
        }
    }
    scheduled.next_ms = next_ms;
    state::rearm(tx, job, scheduled, why)
}

/// Removes the copies that are not kept any more, unless they are still under
/// way: these are kept like other jobs then.
fn forget_old(tx: &mut Transaction<'_>, job: JobId, copies: u64) -> Result<(), Refusal> {
    let Some(old) = copies.checked_sub(KEPT_COPIES + 1) else { return Ok(()) };
    let key = part_key(COPIES, job, old);
    let made: Vec<JobId> = match tx.get(&key)? {
        Some(row) => codec::decode(&row, "copies of a schedule")?,
        None => Vec::new(),
    };
    for copy in made {
        for _ in 0..FORGETTING_STEPS {
            let more = match state::forget(tx, copy) {
                Ok(Answer::Forgotten { more }) => more,
                Ok(_) | Err(Refusal::NotOver(_) | Refusal::NoSuchJob(_)) => false,
                Err(refusal) => return Err(refusal),
            };
            if !more {
                break;
            }
        }
    }
    tx.delete(key)?;
    Ok(())
}

/// Why no copies can be made now: nothing is begun that would be refused.
fn unfit(tx: &Transaction<'_>, parts: &[Part]) -> Result<Option<String>, Refusal> {
    let totals = state::totals(tx)?;
    let count = parts.len() as u64;
    let bytes: u64 = parts.iter().map(|part| part.row.bytes).sum();
    let full = totals.live + count > MAX_LIVE_JOBS
        || totals.jobs + count > MAX_JOBS
        || totals.bytes.saturating_add(bytes) > MAX_KEPT_BYTES;
    if full {
        return Ok(Some("there were too many jobs: forget some".into()));
    }
    for part in parts {
        for before in &part.spec.when.after {
            if state::progress(tx, *before)?.is_none() {
                return Ok(Some(format!("job {before}, which it comes after, is not known any more")));
            }
        }
    }
    Ok(None)
}

fn copy(
    tx: &mut Transaction<'_>,
    (now_ms, due): (u64, u64),
    part: &Part,
    made: &BTreeMap<JobId, JobId>,
) -> Result<JobId, Refusal> {
    let mut spec = part.spec.clone();
    let when = &mut spec.when;
    when.schedule = None;
    when.deadline_ms = when.deadline_ms.map(|time| due.saturating_add(time));
    for before in &mut when.after {
        *before = made.get(before).copied().unwrap_or(*before);
    }
    let Answer::Created(job) = state::create(tx, now_ms, &spec)? else {
        return Err(Refusal::Corrupt("a job that was created has no number".into()));
    };
    let (from, to) = (part_key(RANGE_COUNT, part.id, 0), part_key(RANGE_COUNT, part.id, u64::MAX));
    let most = usize::try_from(MAX_SCHEDULED_TASKS).unwrap_or(usize::MAX);
    for (key, value) in tx.scan(Bound::Included(&from), Bound::Included(&to), most)? {
        let range = RangeRow::decode(&key, &value)?;
        let tasks = tx.get(&part_key(RANGE, part.id, range.first))?.unwrap_or_default();
        state::append(tx, job, None, (range.count, range.pinned), tasks)?;
    }
    state::close(tx, now_ms, job, Waited::default())?;
    Ok(job)
}

/// A new schedule is one of those that there are.
pub(crate) fn enter(tx: &mut Transaction<'_>, job: JobId, spec: &JobSpec) -> Result<(), Refusal> {
    if let Some(Schedule::Cron { .. }) = spec.when.schedule {
        tx.put(job_key(SCHEDULE, job), Bytes::new())?;
    }
    Ok(())
}
