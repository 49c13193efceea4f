//! Submitters: each submits one job after the other through any node, reads
//! its results while faults strike, cancels some, and leaves some alone.

use futures::future::BoxFuture;
use tokio::time::timeout;
use trine_compute::handle::Part;
use trine_compute::{Compute, ComputeError, JobId, JobSpec, TaskSpec};

use super::book::Book;
use super::outside::Plan;
use crate::client::Client;
use crate::scenario::load::Stop;
use crate::whole::WholeDoor;

/// Pause before a question is put to another node.
const PAUSE_MS: u64 = 60;
/// How many ranges a job has, and how many tasks a range.
const RANGES: u64 = 3;
const TASKS: u64 = 8;
/// How long most tasks run, and the few long ones.
const SHORT_MS: u64 = 120;
const LONG_MS: u64 = 3_500;

/// One who submits.
pub struct Submitter {
    client: Client<WholeDoor>,
    book: Book,
}

/// What is asked of a node, again and again.
type Question<'a, T> = &'a (dyn Fn(Compute) -> BoxFuture<'static, Result<T, ComputeError>> + Sync);

impl Submitter {
    /// One who writes down what it does.
    #[must_use]
    pub fn new(client: Client<WholeDoor>, book: Book) -> Self {
        Self { client, book }
    }

    /// Asks any node once; `None`: no answer, or that it should ask again.
    async fn try_once<T: Send + 'static>(
        &mut self,
        question: Question<'_, T>,
    ) -> Option<Result<T, ComputeError>> {
        let node = self.client.any_node().await;
        let visit = self.client.doors.visit(node, |door| question(door.compute()));
        match timeout(self.client.patience, visit).await {
            Ok(Some(Ok(answer))) => Some(Ok(answer)),
            Ok(Some(Err(ComputeError::Refused(refusal)))) => Some(Err(refusal.into())),
            _ => None,
        }
    }

    /// Asks until there is an answer; a refusal is one.
    ///
    /// # Errors
    /// What the group refuses.
    pub async fn ask<T: Send + 'static>(&mut self, question: Question<'_, T>) -> Result<T, ComputeError> {
        loop {
            if let Some(answer) = self.try_once(question).await {
                return answer;
            }
            self.client.think(PAUSE_MS).await;
        }
    }

    /// Submits until told to stop; the last job is read to its end.
    ///
    /// # Errors
    /// What the group refused and should not.
    pub async fn submit(mut self, stop: Stop) -> Result<u64, ComputeError> {
        let mut jobs = 0;
        while !stop.stopped() {
            self.one().await?;
            jobs += 1;
            self.client.think(PAUSE_MS * 4).await;
        }
        Ok(jobs)
    }

    fn plan(&mut self, retries: u64) -> Plan {
        let rng = &mut self.client.rng;
        let ms = if rng.percent(12) { rng.between(1_000, LONG_MS) } else { rng.between(0, SHORT_MS) };
        let failures = match rng.below(10) {
            0..7 => 0,
            7..9 => rng.between(0, retries),
            _ => u64::MAX,
        };
        Plan { ms, failures }
    }

    async fn one(&mut self) -> Result<(), ComputeError> {
        let retries = u32::try_from(self.client.rng.below(3)).unwrap_or(0);
        let spec = JobSpec {
            name: format!("job of {}", self.client.index),
            user: format!("user {}", self.client.index),
            retries,
            backups: self.client.rng.percent(70),
            ..JobSpec::default()
        };
        let job = self
            .ask(&|compute| {
                let spec = spec.clone();
                Box::pin(async move { compute.create(spec).await })
            })
            .await?;
        self.book.with(job, |entry| entry.retries = retries);
        if !self.append(job, u64::from(retries)).await? {
            return Ok(());
        }
        self.ask(&|compute| Box::pin(async move { compute.close(job).await })).await?;
        if self.client.rng.percent(15) {
            self.client.think(SHORT_MS * 8).await;
            self.cancel(job).await?;
        }
        if self.client.rng.percent(85) {
            self.read(job).await?;
        }
        Ok(())
    }

    /// Adds the tasks; false: this client is lost now.
    async fn append(&mut self, job: JobId, retries: u64) -> Result<bool, ComputeError> {
        for _ in 0..self.client.rng.between(1, RANGES) {
            let count = self.client.rng.between(1, TASKS);
            let plans: Vec<Plan> = (0..count).map(|_| self.plan(retries)).collect();
            let tasks: Vec<TaskSpec> = plans.iter().map(|plan| plan.task()).collect();
            let after = self.book.with(job, |entry| {
                entry.tasks.extend(&plans);
                entry.sent += count;
                entry.durable
            });
            let question = |compute: Compute| -> BoxFuture<'static, Result<u64, ComputeError>> {
                let tasks = tasks.clone();
                Box::pin(async move { compute.append_after(job, after, &tasks).await })
            };
            let lost = self.client.rng.percent(5);
            let answer = if lost { self.try_once(&question).await } else { Some(self.ask(&question).await) };
            if let Some(answer) = answer {
                answer?;
                self.book.with(job, |entry| entry.durable += count);
            }
            if lost {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Cancels a job.
    ///
    /// # Errors
    /// What the group refuses.
    pub async fn cancel(&mut self, job: JobId) -> Result<(), ComputeError> {
        let sent = self.client.time.now_ms();
        self.book.with(job, |entry| entry.cancelled = Some((sent, None)));
        self.ask(&|compute| Box::pin(async move { compute.cancel(job).await })).await?;
        let done = self.client.time.now_ms();
        self.book.with(job, |entry| entry.cancelled = Some((sent, Some(done))));
        Ok(())
    }

    /// Closes a job whose submitter was lost.
    ///
    /// # Errors
    /// What the group refuses.
    pub async fn close(&mut self, job: JobId) -> Result<(), ComputeError> {
        self.ask(&|compute| Box::pin(async move { compute.close(job).await })).await
    }

    /// Reads the results that have not been read, to the job's end, through
    /// whichever node answers.
    ///
    /// # Errors
    /// What the group refuses.
    pub async fn read(&mut self, job: JobId) -> Result<(), ComputeError> {
        loop {
            let from = self.book.with(job, |entry| entry.read.len() as u64);
            let part: Part =
                self.ask(&|compute| Box::pin(async move { compute.results(job, from).next().await })).await?;
            let over = part.results.is_empty();
            self.book.with(job, |entry| {
                entry.read.extend(part.results);
                entry.over |= over;
            });
            if over {
                return Ok(());
            }
        }
    }

    /// All results of a job from the beginning, as the group has them now.
    ///
    /// # Errors
    /// What the group refuses.
    pub async fn read_again(&mut self, job: JobId) -> Result<Vec<trine_compute::TaskResult>, ComputeError> {
        let mut all = Vec::new();
        loop {
            let from = all.len() as u64;
            let part: Part =
                self.ask(&|compute| Box::pin(async move { compute.results(job, from).next().await })).await?;
            if part.results.is_empty() {
                return Ok(all);
            }
            all.extend(part.results);
        }
    }
}
