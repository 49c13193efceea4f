//! The rules of group `jobs` over its rows: what a command changes. Pure.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use trine_storage::{StateError, Transaction, View};

use crate::codec::{
    self, COPIES, DONE, FAILURES, PROGRESS, RANGE, RANGE_COUNT, RESULT, SCHEDULE, SPEC, TOTALS, changed_key,
    job_key, last_number, part_key,
};
use crate::command::{Answer, Command, Committed, Failed, Phase, Progress, Refusal, Returned, Scheduled};
use crate::due;
use crate::limits::{
    MAX_JOBS, MAX_KEPT_BYTES, MAX_LIVE_JOBS, MAX_RANGE_BYTES, MAX_RETRIES, MAX_SCHEDULED_BYTES,
    MAX_SCHEDULED_TASKS, MAX_SPEC_BYTES, MAX_TASKS_PER_JOB, MAX_TASKS_PER_RANGE,
};
use crate::planted;
use crate::schedule::Past;
use crate::spec::{BadSpec, HaltOn, JobId, JobSpec, Schedule, Waited};

/// Tasks of which one row remembers whether they are done.
const TASKS_PER_CHUNK: u64 = 4_096;

/// Failures of one task that are remembered: it is given up before that.
const MAX_FAILURES: usize = MAX_RETRIES as usize;

/// Rows of a kind that one command removes at most: others wait meanwhile.
const FORGOTTEN_AT_ONCE: usize = 256;

/// What is counted over all jobs.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Totals {
    pub(crate) last_job: u64,
    pub(crate) jobs: u64,
    pub(crate) live: u64,
    pub(crate) bytes: u64,
    pub(crate) revision: u64,
}

impl From<StateError> for Refusal {
    fn from(error: StateError) -> Self {
        Self::Corrupt(error.to_string())
    }
}

impl From<codec::DecodeError> for Refusal {
    fn from(error: codec::DecodeError) -> Self {
        Self::Corrupt(error.to_string())
    }
}

pub(crate) fn totals(view: &dyn View) -> Result<Totals, Refusal> {
    let row = view.get(&[TOTALS])?;
    row.map_or_else(|| Ok(Totals::default()), |row| Ok(codec::decode(&row, "totals row")?))
}

pub(crate) fn progress(view: &dyn View, job: JobId) -> Result<Option<Progress>, Refusal> {
    let row = view.get(&job_key(PROGRESS, job))?;
    Ok(row.map(|row| codec::decode(&row, "progress row")).transpose()?)
}

pub(crate) fn spec(view: &dyn View, job: JobId) -> Result<Option<JobSpec>, Refusal> {
    let row = view.get(&job_key(SPEC, job))?;
    Ok(row.map(|row| codec::decode(&row, "job row")).transpose()?)
}

/// Executes a command at state time `now_ms`. A refusal changes nothing.
pub(crate) fn apply(tx: &mut Transaction<'_>, now_ms: u64, command: Command) -> Result<Answer, Refusal> {
    match command {
        Command::Create { spec } => create(tx, now_ms, &spec),
        Command::Append { job, after, count, pinned, tasks } => {
            append(tx, job, after, (count, pinned), tasks)
        }
        Command::Close { job, submitted } => close(tx, now_ms, job, submitted),
        Command::Account { job, committed } => account(tx, job, committed),
        Command::Commit { results } => commit(tx, now_ms, results),
        Command::Cancel { job } => cancel(tx, now_ms, job, None),
        Command::Review { job } => review(tx, now_ms, job),
        Command::Fire { job, due_ms, next_ms } => due::fire(tx, now_ms, job, (due_ms, next_ms)),
        Command::Forget { job } => forget(tx, job),
    }
}

/// The jobs that a command looks at, and the totals; stored at its end.
struct Ledger {
    totals: Totals,
    jobs: BTreeMap<JobId, (Progress, Progress)>,
}

impl Ledger {
    fn open(tx: &Transaction<'_>) -> Result<Self, Refusal> {
        Ok(Self { totals: totals(tx)?, jobs: BTreeMap::new() })
    }

    fn job(&mut self, tx: &Transaction<'_>, job: JobId) -> Result<Option<&mut Progress>, Refusal> {
        let known = match self.jobs.entry(job) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) => {
                let Some(progress) = progress(tx, job)? else { return Ok(None) };
                free.insert((progress.clone(), progress))
            }
        };
        Ok(Some(&mut known.1))
    }

    fn known(&mut self, tx: &Transaction<'_>, job: JobId) -> Result<&mut Progress, Refusal> {
        self.job(tx, job)?.ok_or(Refusal::NoSuchJob(job))
    }

    /// Writes what has changed.
    fn store(mut self, tx: &mut Transaction<'_>) -> Result<(), Refusal> {
        let before = self.totals.clone();
        for (job, (old, mut new)) in self.jobs {
            if old == new {
                continue;
            }
            self.totals.bytes = self.totals.bytes.saturating_add(new.bytes).saturating_sub(old.bytes);
            if !old.phase.is_over() && new.phase.is_over() {
                self.totals.live = self.totals.live.saturating_sub(1);
            }
            self.totals.revision += 1;
            new.revision = self.totals.revision;
            tx.delete(changed_key(old.revision))?;
            tx.put(changed_key(new.revision), Bytes::copy_from_slice(&job.0.to_be_bytes()))?;
            tx.put(job_key(PROGRESS, job), codec::encode(&new))?;
        }
        if before != self.totals {
            tx.put(Bytes::from_static(&[TOTALS]), codec::encode(&self.totals))?;
        }
        Ok(())
    }
}

fn full(what: &str, most: u64) -> Refusal {
    Refusal::Full { what: what.into(), most }
}

pub(crate) fn create(tx: &mut Transaction<'_>, now_ms: u64, spec: &JobSpec) -> Result<Answer, Refusal> {
    spec.check()?;
    let row = codec::encode(spec);
    if row.len() > MAX_SPEC_BYTES {
        let why = format!("the whole job has at most {MAX_SPEC_BYTES} bytes");
        return Err(BadSpec::Field { field: "env".into(), why }.into());
    }
    for &before in &spec.when.after {
        if progress(tx, before)?.is_none() {
            return Err(BadSpec::Field {
                field: "when.after".into(),
                why: format!("there is no job {before}"),
            }
            .into());
        }
    }
    due::admit(tx, spec)?;
    let mut totals = totals(tx)?;
    for (what, is, most) in [
        ("jobs that are not over", totals.live, MAX_LIVE_JOBS),
        ("jobs", totals.jobs, MAX_JOBS),
        ("bytes of tasks and results", totals.bytes, MAX_KEPT_BYTES),
    ] {
        if is >= most {
            return Err(full(what, most));
        }
    }
    totals.last_job += 1;
    totals.jobs += 1;
    totals.live += 1;
    totals.revision += 1;
    let bytes = row.len() as u64;
    totals.bytes = totals.bytes.saturating_add(bytes);
    let job = JobId(totals.last_job);
    let progress = Progress {
        phase: Phase::Open,
        tasks: 0,
        done: 0,
        failed: 0,
        created_ms: now_ms,
        ended_ms: None,
        why: None,
        schedule: spec.when.schedule.is_some().then(Scheduled::default),
        bytes,
        halt: spec.halt,
        submitted: Waited::default(),
        committed: Waited::default(),
        revision: totals.revision,
    };
    tx.put(job_key(SPEC, job), row)?;
    tx.put(job_key(PROGRESS, job), codec::encode(&progress))?;
    tx.put(changed_key(totals.revision), Bytes::copy_from_slice(&job.0.to_be_bytes()))?;
    tx.put(Bytes::from_static(&[TOTALS]), codec::encode(&totals))?;
    due::enter(tx, job, spec)?;
    Ok(Answer::Created(job))
}

pub(crate) fn append(
    tx: &mut Transaction<'_>,
    job: JobId,
    after: Option<u64>,
    (count, pinned): (u32, bool),
    tasks: Bytes,
) -> Result<Answer, Refusal> {
    let malformed = || Refusal::NotUnderstood("a range of tasks is not one".into());
    let found = codec::split_tasks(tasks.clone()).map_err(|_| malformed())?.len();
    let bounded = (1..=MAX_TASKS_PER_RANGE).contains(&found) && tasks.len() <= MAX_RANGE_BYTES;
    if u32::try_from(found) != Ok(count) || !bounded {
        return Err(malformed());
    }
    let mut ledger = Ledger::open(tx)?;
    let kept = ledger.totals.bytes;
    let row = ledger.known(tx, job)?;
    let (first, phase) = (row.tasks, row.phase);
    if let Some(expected) = after.filter(|&expected| expected != first) {
        // The submitter repeats its last range because it lost the answer.
        let same = expected.checked_add(u64::from(count)) == Some(first);
        let stored = tx.get(&part_key(RANGE, job, expected))?;
        if same && stored.is_some_and(|stored| stored == tasks) {
            return Ok(Answer::Appended { first: expected });
        }
        return Err(Refusal::Outdated { job, tasks: first });
    }
    if phase != Phase::Open {
        return Err(Refusal::Closed(job));
    }
    let bytes = tasks.len() as u64;
    if kept.saturating_add(bytes) > MAX_KEPT_BYTES {
        return Err(full("bytes of tasks and results", MAX_KEPT_BYTES));
    }
    if row.schedule.is_some() {
        if row.bytes.saturating_add(bytes) > MAX_SCHEDULED_BYTES {
            return Err(full("bytes of a job of a schedule", MAX_SCHEDULED_BYTES));
        }
        if first + u64::from(count) > MAX_SCHEDULED_TASKS {
            return Err(full("tasks of a job of a schedule", MAX_SCHEDULED_TASKS));
        }
    }
    if first + u64::from(count) > MAX_TASKS_PER_JOB {
        return Err(full("tasks of one job", MAX_TASKS_PER_JOB));
    }
    row.tasks += u64::from(count);
    row.bytes += bytes;
    tx.put(part_key(RANGE, job, first), tasks)?;
    tx.put(part_key(RANGE_COUNT, job, first), range_row(count, pinned))?;
    ledger.store(tx)?;
    Ok(Answer::Appended { first })
}

/// What is known of a range without its tasks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RangeRow {
    /// The index of its first task.
    pub(crate) first: u64,
    /// How many.
    pub(crate) count: u32,
    /// Whether any of them names its node.
    pub(crate) pinned: bool,
}

fn range_row(count: u32, pinned: bool) -> Bytes {
    let [a, b, c, d] = count.to_be_bytes();
    Bytes::copy_from_slice(&[a, b, c, d, u8::from(pinned)])
}

impl RangeRow {
    /// Reads the row of a range.
    pub(crate) fn decode(key: &[u8], value: &[u8]) -> Result<Self, Refusal> {
        let corrupt = || Refusal::Corrupt("the length of a range".into());
        let first = last_number(key).ok_or_else(corrupt)?;
        let Ok([a, b, c, d, pinned]) = <[u8; 5]>::try_from(value) else { return Err(corrupt()) };
        Ok(Self { first, count: u32::from_be_bytes([a, b, c, d]), pinned: pinned != 0 })
    }
}

pub(crate) fn close(
    tx: &mut Transaction<'_>,
    now_ms: u64,
    job: JobId,
    submitted: Waited,
) -> Result<Answer, Refusal> {
    let mut ledger = Ledger::open(tx)?;
    let row = ledger.known(tx, job)?;
    if row.phase == Phase::Open {
        row.phase = Phase::Closed;
        row.submitted.join(submitted);
        end_if_done(row, now_ms);
        ledger.store(tx)?;
    }
    Ok(Answer::Done)
}

fn account(tx: &mut Transaction<'_>, job: JobId, committed: Waited) -> Result<Answer, Refusal> {
    let mut row = progress(tx, job)?.ok_or(Refusal::NoSuchJob(job))?;
    row.committed.join(committed);
    // No new revision: to those who follow the log, nothing has changed.
    tx.put(job_key(PROGRESS, job), codec::encode(&row))?;
    Ok(Answer::Done)
}

fn cancel(tx: &mut Transaction<'_>, now_ms: u64, job: JobId, why: Option<String>) -> Result<Answer, Refusal> {
    let mut ledger = Ledger::open(tx)?;
    let row = ledger.known(tx, job)?;
    if !row.phase.is_over() {
        (row.phase, row.ended_ms, row.why) = (Phase::Cancelled, Some(now_ms), why);
        if row.schedule.is_some()
            && let Some(Schedule::Cron { parts, .. }) = spec(tx, job)?.and_then(|spec| spec.when.schedule)
        {
            tx.delete(job_key(SCHEDULE, job))?;
            for part in parts {
                if let Some(row) = ledger.job(tx, part)?.filter(|row| !row.phase.is_over()) {
                    (row.phase, row.ended_ms) = (Phase::Cancelled, Some(now_ms));
                }
            }
        }
        ledger.store(tx)?;
    }
    Ok(Answer::Done)
}

/// A schedule goes on like this.
pub(crate) fn rearm(
    tx: &mut Transaction<'_>,
    job: JobId,
    scheduled: Scheduled,
    why: Option<String>,
) -> Result<Answer, Refusal> {
    let mut ledger = Ledger::open(tx)?;
    let row = ledger.known(tx, job)?;
    (row.schedule, row.why) = (Some(scheduled), why);
    ledger.store(tx)?;
    Ok(Answer::Done)
}

/// Cancels a job that shall not go on, by what the log says and when it is said.
fn review(tx: &mut Transaction<'_>, now_ms: u64, job: JobId) -> Result<Answer, Refusal> {
    let spec = spec(tx, job)?.ok_or(Refusal::NoSuchJob(job))?;
    if spec.when.schedule.is_some() {
        return Ok(Answer::Done);
    }
    if spec.when.deadline_ms.is_some_and(|deadline| deadline <= now_ms) {
        return cancel(tx, now_ms, job, Some("its deadline has passed".into()));
    }
    match turn(tx, &spec)? {
        Turn::Never(why) => cancel(tx, now_ms, job, Some(why)),
        Turn::Now | Turn::Later => Ok(Answer::Done),
    }
}

/// Whether the tasks of a job may be started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Turn {
    /// All that it waits for has succeeded.
    Now,
    /// Something of that is not over.
    Later,
    /// Something of that has not succeeded.
    Never(String),
}

/// Judges the jobs that one waits for.
pub(crate) fn turn(view: &dyn View, waits: &JobSpec) -> Result<Turn, Refusal> {
    let mut turn = Turn::Now;
    for &before in &waits.when.after {
        let (Some(row), Some(spec)) = (progress(view, before)?, spec(view, before)?) else {
            return Ok(Turn::Never(format!("it comes after job {before}, which is not known any more")));
        };
        let name = &spec.name;
        match (row.phase, row.failed) {
            (Phase::Over, 0) => {}
            (Phase::Over, failed) => {
                let tasks = row.tasks;
                let why = format!(
                    "it comes after job {before} ({name}), of which {failed} of {tasks} tasks failed"
                );
                return Ok(Turn::Never(why));
            }
            (Phase::Cancelled, _) => {
                let why = row.why.map_or(String::new(), |why| format!(": {why}"));
                return Ok(Turn::Never(format!(
                    "it comes after job {before} ({name}), which was cancelled{why}"
                )));
            }
            _ => turn = Turn::Later,
        }
    }
    Ok(turn)
}

fn end_if_done(row: &mut Progress, now_ms: u64) {
    // A schedule is over when it is cancelled.
    if row.phase == Phase::Closed && row.done == row.tasks && row.schedule.is_none() {
        (row.phase, row.ended_ms) = (Phase::Over, Some(now_ms));
    }
}

fn commit(tx: &mut Transaction<'_>, now_ms: u64, results: Vec<Returned>) -> Result<Answer, Refusal> {
    let mut ledger = Ledger::open(tx)?;
    let mut answers = Vec::with_capacity(results.len());
    for returned in results {
        let Some(row) = ledger.job(tx, returned.job)? else {
            answers.push(Committed::Stale);
            continue;
        };
        answers.push(commit_one(tx, row, returned, now_ms)?);
    }
    ledger.store(tx)?;
    Ok(Answer::Committed(answers))
}

fn commit_one(
    tx: &mut Transaction<'_>,
    row: &mut Progress,
    returned: Returned,
    now_ms: u64,
) -> Result<Committed, Refusal> {
    let Returned { job, index, success, result, again } = returned;
    if row.phase.is_over() || index >= row.tasks {
        return Ok(Committed::Stale);
    }
    if let Some(failed) = again {
        return count_failure(tx, row, (job, index), failed);
    }
    if !mark_done(tx, job, index)? && !planted::active(planted::RESULT_COMMITTED_TWICE) {
        return Ok(Committed::Stale);
    }
    row.bytes = row.bytes.saturating_add(result.len() as u64);
    tx.put(part_key(RESULT, job, row.done), result)?;
    row.done += 1;
    row.failed += u64::from(!success);
    end_if_done(row, now_ms);
    let halt = row.halt.filter(|halt| {
        let counted = match halt.on {
            HaltOn::Failures => row.failed,
            HaltOn::Successes => row.done.saturating_sub(row.failed),
            HaltOn::Done => row.done,
        };
        counted >= halt.count && matches!(row.phase, Phase::Open | Phase::Closed)
    });
    match halt {
        Some(halt) if halt.now => (row.phase, row.ended_ms) = (Phase::Cancelled, Some(now_ms)),
        Some(_) => row.phase = Phase::Halting,
        None => {}
    }
    Ok(Committed::Counts)
}

/// Notes that a task runs again after a failure or a loss, so that a new master goes on
/// to count. Told twice, it counts once.
fn count_failure(
    tx: &mut Transaction<'_>,
    row: &mut Progress,
    (job, index): (JobId, u64),
    failed: Failed,
) -> Result<Committed, Refusal> {
    let key = part_key(FAILURES, job, index);
    let known = tx.get(&key)?;
    let mut failures: Vec<Failed> =
        known.as_ref().map_or_else(|| Ok(Vec::new()), |known| codec::decode(known, "failures"))?;
    if failures.contains(&failed) || failures.len() >= MAX_FAILURES {
        return Ok(Committed::Stale);
    }
    failures.push(failed);
    let value = codec::encode(&failures);
    let before = known.map_or(0, |known| known.len() as u64);
    row.bytes = row.bytes.saturating_add(value.len() as u64).saturating_sub(before);
    tx.put(key, value)?;
    Ok(Committed::Counts)
}

/// Notes that a task is done; false if it was before.
fn mark_done(tx: &mut Transaction<'_>, job: JobId, index: u64) -> Result<bool, Refusal> {
    let key = part_key(DONE, job, index / TASKS_PER_CHUNK);
    let mut chunk = tx.get(&key)?.map(|chunk| chunk.to_vec()).unwrap_or_default();
    let bit = index % TASKS_PER_CHUNK;
    let byte = usize::try_from(bit / 8).unwrap_or_default();
    if chunk.len() <= byte {
        chunk.resize(byte + 1, 0);
    }
    let mask = 1_u8 << (bit % 8);
    let fresh = chunk[byte] & mask == 0;
    chunk[byte] |= mask;
    if fresh {
        tx.put(key, chunk)?;
    }
    Ok(fresh)
}

pub(crate) fn forget(tx: &mut Transaction<'_>, job: JobId) -> Result<Answer, Refusal> {
    let row = progress(tx, job)?.ok_or(Refusal::NoSuchJob(job))?;
    if !row.phase.is_over() {
        return Err(Refusal::NotOver(job));
    }
    // Without this row nobody sees the job any more.
    tx.delete(job_key(SPEC, job))?;
    for kind in [RESULT, RANGE, RANGE_COUNT, DONE, FAILURES, COPIES] {
        let (from, to) = (part_key(kind, job, 0), part_key(kind, job, u64::MAX));
        let rows = tx.scan(Bound::Included(&from), Bound::Included(&to), FORGOTTEN_AT_ONCE)?;
        let count = rows.len();
        for (key, _) in rows {
            tx.delete(key)?;
        }
        if count == FORGOTTEN_AT_ONCE {
            return Ok(Answer::Forgotten { more: true });
        }
    }
    let mut totals = totals(tx)?;
    totals.jobs = totals.jobs.saturating_sub(1);
    totals.bytes = totals.bytes.saturating_sub(row.bytes);
    tx.delete(job_key(PROGRESS, job))?;
    tx.delete(changed_key(row.revision))?;
    tx.put(Bytes::from_static(&[TOTALS]), codec::encode(&totals))?;
    Ok(Answer::Forgotten { more: false })
}

/// Jobs that ended before some state time, of the `most` from `from` on, and
/// where to go on: at the beginning again after the last.
pub(crate) fn ended_before(
    view: &dyn View,
    from: JobId,
    before_ms: u64,
    most: usize,
) -> Result<(Vec<JobId>, JobId), Refusal> {
    let (first, end) = (job_key(PROGRESS, from), [PROGRESS + 1]);
    let rows = view.scan(Bound::Included(&first), Bound::Excluded(&end), most)?;
    let mut old = Vec::new();
    let mut last = JobId(0);
    for (key, value) in &rows {
        last = JobId(last_number(key).unwrap_or_default());
        let progress: Progress = codec::decode(value, "progress row")?;
        old.extend(progress.ended_ms.is_some_and(|ended| ended < before_ms).then_some(last));
    }
    let next = if rows.len() == most { JobId(last.0.saturating_add(1)) } else { JobId(0) };
    Ok((old, next))
}

/// The tasks whose results are committed, in order, handed out
/// one by one.
///
/// # Errors
/// [`Refusal::Corrupt`]: the rows cannot be read.
pub fn done_tasks(view: &dyn View, job: JobId, mut each: impl FnMut(u64)) -> Result<(), Refusal> {
    let (mut from, to) = (part_key(DONE, job, 0), part_key(DONE, job, u64::MAX));
    loop {
        let rows = view.scan(Bound::Included(&from), Bound::Included(&to), FORGOTTEN_AT_ONCE)?;
        for (key, chunk) in &rows {
            let first = last_number(key).unwrap_or_default().saturating_mul(TASKS_PER_CHUNK);
            for (byte, bits) in (0_u64..).zip(chunk.iter()) {
                (0..8).filter(|bit| bits & (1 << bit) != 0).for_each(|bit| each(first + byte * 8 + bit));
            }
        }
        match rows.last() {
            Some((key, _)) if rows.len() == FORGOTTEN_AT_ONCE => {
                from = part_key(DONE, job, last_number(key).unwrap_or_default().saturating_add(1));
            }
            _ => return Ok(()),
        }
    }
}

fn count(failures: &[Failed], lost: bool) -> u32 {
    let counted = failures.iter().filter(|failed| failed.lost == lost).count();
    u32::try_from(counted).unwrap_or(u32::MAX)
}

/// The tasks of a job that have failed or were lost and run again, one by one; those that
/// are done by now, too.
pub(crate) fn failures(view: &dyn View, job: JobId, mut each: impl FnMut(Past)) -> Result<(), Refusal> {
    let (mut from, to) = (part_key(FAILURES, job, 0), part_key(FAILURES, job, u64::MAX));
    loop {
        let rows = view.scan(Bound::Included(&from), Bound::Included(&to), FORGOTTEN_AT_ONCE)?;
        for (key, value) in &rows {
            let failures: Vec<Failed> = codec::decode(value, "failures")?;
            each(Past {
                index: last_number(key).unwrap_or_default(),
                failures: count(&failures, false),
                losses: count(&failures, true),
                number: failures.iter().map(|failed| failed.attempt).max().unwrap_or(0),
            });
        }
        match rows.last() {
            Some((key, _)) if rows.len() == FORGOTTEN_AT_ONCE => {
                from = part_key(FAILURES, job, last_number(key).unwrap_or_default().saturating_add(1));
            }
            _ => return Ok(()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
