//! What becomes of jobs, told as messages on subjects `_job.<id>.…`: the
//! master's notes of a moment, gathered into few messages, so that a million
//! tasks are some hundreds of them. Pure.
//!
//! | subject | payload, beside `job`, `name` and `user` |
//! |---|---|
//! | `_job.<id>.submitted` | |
//! | `_job.<id>.tasks.started` | `tasks`, `ranges` |
//! | `_job.<id>.tasks.retried` | the same: attempts after the first |
//! | `_job.<id>.tasks.finished` | the same: their results are committed |
//! | `_job.<id>.tasks.failed` | the same |
//! | `_job.<id>.done` | `tasks`, `failed` |
//! | `_job.<id>.cancelled` | `tasks`, `done`, `failed` |
//!
//! They are messages: whoever is there hears them, at most once, and the notes
//! of a master that dies are lost.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::Serialize;
use trine_types::subject::JOB_EVENTS;

use crate::command::{Phase, Progress};
use crate::spec::{Attempt, JobId, JobSpec};

/// Jobs whose tasks are told of in one round; those of others are not.
const MAX_JOBS_PER_ROUND: usize = 256;
/// Ranges of one message; tasks beyond them are only counted.
const MAX_RANGES: usize = 64;

/// A message to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// To what.
    pub subject: String,
    /// JSON.
    pub payload: Bytes,
}

/// What becomes of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    Started,
    Retried,
    Finished,
    Failed,
}

impl Fate {
    fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Retried => "retried",
            Self::Finished => "finished",
            Self::Failed => "failed",
        }
    }
}

/// Some tasks, by their indexes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tasks {
    count: u64,
    /// First and last.
    ranges: BTreeMap<u64, u64>,
}

impl Tasks {
    fn add(&mut self, index: u64) {
        let (mut first, mut last) = (index, index);
        if let Some((&before, &end)) = self.ranges.range(..=index).next_back() {
            if end >= index {
                return;
            }
            if end + 1 == index {
                first = before;
            }
        }
        self.count += 1;
        if let Some(after) = index.checked_add(1).and_then(|next| self.ranges.remove(&next)) {
            last = after;
        }
        if first != index || last != index || self.ranges.len() < MAX_RANGES {
            self.ranges.insert(first, last);
        }
    }
}

#[derive(Serialize)]
struct Told<'a> {
    job: JobId,
    name: &'a str,
    user: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tasks: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    done: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ranges: Vec<(u64, u64)>,
}

#[derive(Debug)]
struct Notes {
    name: String,
    user: String,
    tasks: BTreeMap<Fate, Tasks>,
}

/// The notes since they were taken last.
#[derive(Debug, Default)]
pub(crate) struct Chronicle {
    /// Whether it tells anything: not while a new master reads what was there
    /// before it.
    awake: bool,
    notes: BTreeMap<JobId, Notes>,
    told: Vec<Event>,
    /// Attempts of which it was told that they run.
    started: BTreeSet<Attempt>,
    /// Results on their way into the log: of how many it will hear.
    travelling: BTreeMap<JobId, u64>,
    /// Jobs that are over, until their last results were told.
    ending: BTreeMap<JobId, (JobSpec, Progress)>,
}

impl Chronicle {
    /// What comes from now on is news.
    pub(crate) fn awake(&mut self) {
        self.awake = true;
    }

    /// An attempt runs, or did.
    pub(crate) fn started(&mut self, attempt: Attempt, spec: &JobSpec) {
        if self.started.insert(attempt) {
            self.task((attempt.job, spec), Fate::Started, attempt.index);
        }
    }

    /// An attempt has ended.
    pub(crate) fn ended(&mut self, attempt: &Attempt) {
        self.started.remove(attempt);
    }

    /// A result goes into the log.
    pub(crate) fn departs(&mut self, job: JobId) {
        *self.travelling.entry(job).or_default() += 1;
    }

    /// It is there. `spec` is that of a job that is not over.
    pub(crate) fn arrived(&mut self, (job, spec): (JobId, Option<&JobSpec>), success: bool, index: u64) {
        if let Some(travelling) = self.travelling.get_mut(&job) {
            *travelling -= 1;
            if *travelling == 0 {
                self.travelling.remove(&job);
            }
        }
        let fate = if success { Fate::Finished } else { Fate::Failed };
        if let Some(spec) = spec {
            self.task((job, spec), fate, index);
        } else if let Some((spec, progress)) = self.ending.remove(&job) {
            self.task((job, &spec), fate, index);
            self.ending.insert(job, (spec, progress));
        }
    }

    /// A task of a job.
    pub(crate) fn task(&mut self, (job, spec): (JobId, &JobSpec), fate: Fate, index: u64) {
        if !self.awake {
            return;
        }
        if !self.notes.contains_key(&job) {
            if self.notes.len() >= MAX_JOBS_PER_ROUND {
                return;
            }
            let notes = Notes { name: spec.name.clone(), user: spec.user.clone(), tasks: BTreeMap::new() };
            self.notes.insert(job, notes);
        }
        if let Some(notes) = self.notes.get_mut(&job) {
            notes.tasks.entry(fate).or_default().add(index);
        }
    }

    /// A job is there.
    pub(crate) fn submitted(&mut self, job: JobId, spec: &JobSpec) {
        if !self.awake {
            return;
        }
        let told = Told {
            job,
            name: &spec.name,
            user: &spec.user,
            tasks: None,
            done: None,
            failed: None,
            ranges: Vec::new(),
        };
        self.tell("submitted", &told);
    }

    /// A job is over.
    pub(crate) fn over(&mut self, job: JobId, spec: JobSpec, progress: Progress) {
        self.started.retain(|attempt| attempt.job != job);
        if self.awake {
            self.ending.insert(job, (spec, progress));
        }
    }

    /// What its tasks did is told before.
    fn tell_end(&mut self, job: JobId, spec: &JobSpec, progress: &Progress) {
        if let Some(notes) = self.notes.remove(&job) {
            self.tell_tasks(job, &notes);
        }
        let cancelled = progress.phase == Phase::Cancelled;
        let told = Told {
            job,
            name: &spec.name,
            user: &spec.user,
            tasks: Some(progress.tasks),
            done: cancelled.then_some(progress.done),
            failed: Some(progress.failed),
            ranges: Vec::new(),
        };
        self.tell(if cancelled { "cancelled" } else { "done" }, &told);
    }

    /// What is to be published, in this order.
    pub(crate) fn take(&mut self) -> Vec<Event> {
        let travelling = &self.travelling;
        for (job, (spec, progress)) in
            self.ending.extract_if(.., |job, _| !travelling.contains_key(job)).collect::<Vec<_>>()
        {
            self.tell_end(job, &spec, &progress);
        }
        for (job, notes) in std::mem::take(&mut self.notes) {
            self.tell_tasks(job, &notes);
        }
        std::mem::take(&mut self.told)
    }

    fn tell_tasks(&mut self, job: JobId, notes: &Notes) {
        for (fate, tasks) in &notes.tasks {
            let told = Told {
                job,
                name: &notes.name,
                user: &notes.user,
                tasks: Some(tasks.count),
                done: None,
                failed: None,
                ranges: tasks.ranges.iter().map(|(first, last)| (*first, *last)).collect(),
            };
            self.tell(&format!("tasks.{}", fate.name()), &told);
        }
    }

    fn tell(&mut self, what: &str, told: &Told<'_>) {
        let payload = serde_json::to_vec(told).expect("text and numbers: nothing that JSON refuses");
        self.told
            .push(Event { subject: format!("{JOB_EVENTS}{}.{what}", told.job), payload: payload.into() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Waited;

    fn text(events: &[Event]) -> Vec<String> {
        let line = |event: &Event| format!("{} {}", event.subject, String::from_utf8_lossy(&event.payload));
        events.iter().map(line).collect()
    }

    fn awake() -> Chronicle {
        let mut chronicle = Chronicle::default();
        chronicle.awake();
        chronicle
    }

    #[test]
    fn many_tasks_are_one_message() {
        let (mut chronicle, spec) = (awake(), JobSpec::default());
        let job = JobId(7);
        // From both sides, with one that is missing, and one told twice.
        for index in (0..1_000_000).rev().filter(|index| *index != 500) {
            chronicle.task((job, &spec), Fate::Finished, index);
        }
        chronicle.task((job, &spec), Fate::Started, 3);
        let expected = [
            r#"_job.7.tasks.started {"job":7,"name":"","user":"","tasks":1,"ranges":[[3,3]]}"#,
            r#"_job.7.tasks.finished {"job":7,"name":"","user":"","tasks":999999,"ranges":[[0,499],[501,999999]]}"#,
        ];
        assert_eq!(text(&chronicle.take()), expected);
        assert_eq!(chronicle.take(), []);
    }

    #[test]
    fn the_notes_are_bounded() {
        let (mut chronicle, spec) = (awake(), JobSpec::default());
        for job in 0..1_000 {
            for index in 0..200 {
                chronicle.task((JobId(job), &spec), Fate::Failed, index * 2);
            }
        }
        let told = chronicle.take();
        assert_eq!(told.len(), MAX_JOBS_PER_ROUND);
        let first: serde_json::Value = serde_json::from_slice(&told[0].payload).expect("JSON");
        assert_eq!(
            (&first["tasks"], first["ranges"].as_array().map(Vec::len)),
            (&200.into(), Some(MAX_RANGES))
        );
    }

    #[test]
    fn a_job_s_end_comes_after_what_its_tasks_did() {
        let (mut chronicle, spec) = (awake(), JobSpec { user: "ann".into(), ..JobSpec::default() });
        let job = JobId(1);
        chronicle.submitted(job, &spec);
        let attempt = Attempt { job, index: 0, attempt: 1 };
        chronicle.started(attempt, &spec);
        chronicle.started(attempt, &spec);
        chronicle.departs(job);
        let progress = Progress {
            phase: Phase::Over,
            tasks: 1,
            done: 1,
            failed: 0,
            created_ms: 0,
            ended_ms: None,
            why: None,
            schedule: None,
            bytes: 0,
            halt: None,
            submitted: Waited::default(),
            committed: Waited::default(),
            revision: 0,
        };
        // The log is seen before the answer of who put the result into it.
        chronicle.over(job, spec, progress);
        let expected = [
            r#"_job.1.submitted {"job":1,"name":"","user":"ann"}"#,
            r#"_job.1.tasks.started {"job":1,"name":"","user":"ann","tasks":1,"ranges":[[0,0]]}"#,
        ];
        assert_eq!(text(&chronicle.take()), expected);
        chronicle.arrived((job, None), true, 0);
        let expected = [
            r#"_job.1.tasks.finished {"job":1,"name":"","user":"ann","tasks":1,"ranges":[[0,0]]}"#,
            r#"_job.1.done {"job":1,"name":"","user":"ann","tasks":1,"failed":0}"#,
        ];
        assert_eq!(text(&chronicle.take()), expected);
    }
}
