//! Where blocking state work runs: a few threads in the product, so that a
//! stalled state store never holds up an async task; inline in the simulator,
//! which has one thread.
//!
//! A job that is expected to be short runs where it is asked for: handing it
//! to a thread and its result back would cost more than the job. A short job
//! that was not short is taken as a warning, and for a while all go to the
//! threads again.

use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Jobs that may wait in the queue; the next caller of [`Workers::run`] waits.
const QUEUE_JOBS: usize = 256;

/// A job that took longer should not have run in place. A tenth of what a
/// heartbeat may be late.
const SHORT: Duration = Duration::from_millis(5);

/// Jobs that go to the threads after one that was too long in place: few, since
/// it may only have waited for a processor; twice as many each time that the
/// next one in place is too long as well, as when the disk is slow.
const CAUTIOUS_JOBS: u32 = 32;
const MOST_CAUTIOUS_JOBS: u32 = 1024;

type Job = Box<dyn FnOnce() + Send>;

/// The job did not run to its end: the workers are gone or it panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the job was not finished: its worker stopped")]
pub struct JobLost;

/// Runs blocking closures. Clones share the threads, which end when the last
/// clone is dropped.
#[derive(Clone)]
pub struct Workers {
    queue: Option<mpsc::Sender<Job>>,
    caution: Arc<Caution>,
}

/// Several tasks run short jobs at once; that some count twice or not at all
/// does no harm.
#[derive(Default)]
struct Caution {
    /// How many short jobs still go to the threads.
    left: AtomicU32,
    /// How many the last job that was too long in place sent there; 0 after
    /// one that was short.
    last: AtomicU32,
}

impl Caution {
    /// Whether the next short job goes to the threads.
    fn takes(&self) -> bool {
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.saturating_sub(1), Ordering::Relaxed);
        left > 0
    }

    /// A job took so long in place.
    fn learn(&self, took: Duration) {
        let next = match self.last.load(Ordering::Relaxed) {
            _ if took <= SHORT => 0,
            0 => CAUTIOUS_JOBS,
            last => (last * 2).min(MOST_CAUTIOUS_JOBS),
        };
        self.last.store(next, Ordering::Relaxed);
        self.left.store(next, Ordering::Relaxed);
    }
}

impl Workers {
    /// `count` threads (at least one) and a bounded queue before them.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn threads(count: usize) -> io::Result<Self> {
        let (queue, jobs) = mpsc::channel::<Job>(QUEUE_JOBS);
        // Shared by the threads, each of which takes the next job in turn.
        let jobs = Arc::new(Mutex::new(jobs));
        for number in 0..count.max(1) {
            let jobs = jobs.clone();
            thread::Builder::new().name(format!("worker-{number}")).spawn(move || work(&jobs))?;
        }
        Ok(Self { queue: Some(queue), caution: Arc::default() })
    }

    /// No threads: a job runs when its future is first polled.
    #[must_use]
    pub fn inline() -> Self {
        Self { queue: None, caution: Arc::default() }
    }

    /// Runs `job`, which should neither wait nor work for longer than about a
    /// millisecond, in place: while it does, nothing else runs on the caller's
    /// thread. Goes to the threads, as [`Self::run`] does, for a while after
    /// one took more than five milliseconds.
    ///
    /// # Errors
    /// [`JobLost`], as for [`Self::run`].
    pub async fn run_short<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JobLost> {
        if self.queue.is_none() {
            return Ok(job());
        }
        if self.caution.takes() {
            return self.run(job).await;
        }
        let began = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(job)).map_err(|_| JobLost)?;
        self.caution.learn(began.elapsed());
        Ok(result)
    }

    /// Runs `job` and returns its result. A job that was queued runs even if
    /// the future is dropped.
    ///
    /// # Errors
    /// [`JobLost`]; whether the job took effect is unknown.
    pub fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Result<T, JobLost>> + Send + 'static {
        let queue = self.queue.clone();
        async move {
            let Some(queue) = queue else { return Ok(job()) };
            let (reply, result) = oneshot::channel();
            let job = Box::new(move || {
                // Nobody waits for the result if the caller was dropped.
                let _ = reply.send(job());
            });
            queue.send(job).await.map_err(|_| JobLost)?;
            result.await.map_err(|_| JobLost)
        }
    }
}

fn work(jobs: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(job) = job else { return };
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("a state job panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_kinds_return_the_result() {
        for workers in [Workers::inline(), Workers::threads(2).expect("threads")] {
            let results = futures::future::join_all((0..1000_u64).map(|n| workers.run(move || n * 2))).await;
            let expected: Vec<_> = (0..1000).map(|n| Ok(n * 2)).collect();
            assert_eq!(results, expected);
        }
    }

    #[tokio::test]
    async fn short_jobs_run_in_place_until_one_takes_long() {
        let workers = Workers::threads(1).expect("threads");
        let here = thread::current().id();
        let place = || thread::current().id();
        assert_eq!(workers.run_short(place).await, Ok(here));
        let long = || {
            let began = Instant::now();
            while began.elapsed() <= SHORT {
                thread::yield_now();
            }
        };
        assert_eq!(workers.run_short(long).await, Ok(()));
        for _ in 0..CAUTIOUS_JOBS {
            assert_ne!(workers.run_short(place).await, Ok(here), "the threads take over");
        }
        assert_eq!(workers.run_short(place).await, Ok(here), "and give back");
        assert_eq!(workers.run_short(|| panic!("planned")).await, Err::<(), _>(JobLost));
    }

    #[test]
    fn caution_grows_while_jobs_in_place_are_long_and_ends_with_a_short_one() {
        let caution = Caution::default();
        let sent = || {
            caution.learn(SHORT * 2);
            let sent = std::iter::repeat_with(|| caution.takes()).take_while(|takes| *takes).count();
            u32::try_from(sent).expect("few")
        };
        assert_eq!([sent(), sent()], [CAUTIOUS_JOBS, 2 * CAUTIOUS_JOBS]);
        let grown: Vec<_> = std::iter::repeat_with(sent).take(10).collect();
        assert_eq!(grown.last(), Some(&MOST_CAUTIOUS_JOBS));
        caution.learn(SHORT);
        assert!(!caution.takes());
        caution.learn(SHORT * 2);
        assert_eq!(caution.left.load(Ordering::Relaxed), CAUTIOUS_JOBS);
    }

    #[tokio::test]
    async fn a_panicking_job_is_lost_and_the_next_one_runs() {
        let workers = Workers::threads(1).expect("threads");
        assert_eq!(workers.run(|| panic!("planned")).await, Err::<(), _>(JobLost));
        assert_eq!(workers.run(|| 7).await, Ok(7));
    }
}
