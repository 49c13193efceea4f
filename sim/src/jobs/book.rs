//! What was submitted and what its submitter heard, job by job.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use trine_compute::{JobId, TaskResult};

use super::outside::Plan;

/// One job as its submitter knows it.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    /// How often a task that failed runs again.
    pub retries: u32,
    /// The tasks in the order in which they were to be added.
    pub tasks: Vec<Plan>,
    /// How many of them were acknowledged: they are durable.
    pub durable: u64,
    /// How many of them were sent: no more can be there.
    pub sent: u64,
    /// When a cancellation was sent, and when it was acknowledged.
    pub cancelled: Option<(u64, Option<u64>)>,
    /// The results that its reader got, in order.
    pub read: Vec<TaskResult>,
    /// Its reader was told that it is over.
    pub over: bool,
}

/// All of them, of one world.
#[derive(Debug, Clone, Default)]
pub struct Book {
    // A lock because clients write and the story reads; one thread only.
    entries: Arc<Mutex<BTreeMap<JobId, Entry>>>,
}

impl Book {
    /// Looks at or changes a job.
    pub fn with<T>(&self, job: JobId, run: impl FnOnce(&mut Entry) -> T) -> T {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        run(entries.entry(job).or_default())
    }

    /// All jobs.
    #[must_use]
    pub fn entries(&self) -> BTreeMap<JobId, Entry> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
