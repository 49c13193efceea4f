//! The runtime that openraft sees: tokio's, with two changes.
//!
//! Timers fire on a grid of 25 ms that all groups of a node share. Every
//! replica that is not hibernating ticks each 10 ms at its own phase; on the
//! grid all of them share one wake-up, and their heartbeats share frames.
//!
//! Randomness (election timeouts) comes from a generator that the simulator
//! seeds for its thread; elsewhere its seed is drawn from the node's entropy.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use openraft::{AsyncRuntime, Instant as _, OptionalSend, TokioInstant, TokioRuntime};
use rand::rngs::StdRng;
use rand::{SeedableRng, TryRng};
use tokio::runtime::Handle;
use trine_types::Entropy;

/// Distance of the lines on which openraft's timers fire. Half of a heartbeat:
/// coarser would delay heartbeats visibly, finer costs wake-ups.
const GRID: Duration = Duration::from_millis(25);

/// What the generators of threads that nobody seeded begin with.
static SEED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static RNG: RefCell<StdRng> =
        RefCell::new(StdRng::seed_from_u64(SEED.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)));
}

/// Where each runtime's grid begins. The simulator has a runtime (with its own
/// clock) per node. A lock, because timers of all worker threads read it and
/// no task could answer them synchronously.
static ORIGINS: RwLock<BTreeMap<u64, TokioInstant>> = RwLock::new(BTreeMap::new());

/// Runtimes whose origin is remembered; a simulator makes one per node start.
const MAX_ORIGINS: usize = 4096;

fn origin_of_this_runtime(now: TokioInstant) -> TokioInstant {
    let mut hasher = DefaultHasher::new();
    Handle::current().id().hash(&mut hasher);
    let id = hasher.finish();
    let known = ORIGINS.read().unwrap_or_else(PoisonError::into_inner).get(&id).copied();
    known.unwrap_or_else(|| remember(&mut ORIGINS.write().unwrap_or_else(PoisonError::into_inner), id, now))
}

/// Notes where the grid of runtime `id` begins. Makes room by forgetting the
/// oldest runtime, which a long run of the simulator has ended long ago: a
/// living one would get another grid, and its seed would not replay.
fn remember(origins: &mut BTreeMap<u64, TokioInstant>, id: u64, now: TokioInstant) -> TokioInstant {
    if origins.len() >= MAX_ORIGINS
        && let Some(oldest) = origins.iter().min_by_key(|(_, origin)| **origin).map(|(id, _)| *id)
    {
        origins.remove(&oldest);
    }
    *origins.entry(id).or_insert(now)
}

/// Makes the randomness of all replicas on this thread follow from `seed`.
/// For the simulator, which runs every node on one thread.
pub fn seed_thread(seed: u64) {
    RNG.with(|rng| *rng.borrow_mut() = StdRng::seed_from_u64(seed));
}

/// Gives threads that draw their first number later a seed to begin with.
pub(crate) fn seed_process(entropy: &dyn Entropy) {
    SEED.fetch_xor(entropy.next_u64(), Ordering::Relaxed);
}

/// The thread's generator, as openraft wants it.
pub(crate) struct ThreadRng;

impl TryRng for ThreadRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        RNG.with(|rng| rng.borrow_mut().try_next_u32())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        RNG.with(|rng| rng.borrow_mut().try_next_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        RNG.with(|rng| rng.borrow_mut().try_fill_bytes(bytes))
    }
}

/// See the module.
pub(crate) struct GridRuntime(TokioRuntime);

impl fmt::Debug for GridRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GridRuntime")
    }
}

/// How long to sleep so that the wake-up is on the grid, not before `wanted`.
fn until_grid_line(since_origin: Duration, wanted: Duration) -> Duration {
    let due = since_origin + wanted;
    let grid = GRID.as_nanos();
    let lines = due.as_nanos().div_ceil(grid);
    let line = u64::try_from(lines * grid).map_or(due, Duration::from_nanos);
    line.saturating_sub(since_origin)
}

impl AsyncRuntime for GridRuntime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = TokioInstant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = ThreadRng;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        TokioRuntime::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        let now = TokioInstant::now();
        let since_origin = now - origin_of_this_runtime(now).min(now);
        let wanted = if deadline > now { deadline - now } else { Duration::ZERO };
        TokioRuntime::sleep(until_grid_line(since_origin, wanted))
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        ThreadRng
    }

    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wake_ups_are_on_the_grid_and_never_early() {
        for (since, wanted) in [(0, 0), (1, 10), (24, 1), (25, 25), (26, 3), (1000, 77)] {
            let (since, wanted) = (Duration::from_millis(since), Duration::from_millis(wanted));
            let sleep = until_grid_line(since, wanted);
            assert!(sleep >= wanted);
            assert!(sleep < wanted + GRID);
            assert_eq!((since + sleep).as_micros() % GRID.as_micros(), 0);
        }
    }

    #[test]
    fn a_deadline_just_behind_a_line_waits_for_the_next_one() {
        // A sleep of nothing would be taken again and again until the clock
        // moves, and the simulator's clock moves only when nothing is ready.
        let wanted = Duration::from_nanos(300);
        assert_eq!(until_grid_line(GRID, wanted), GRID);
    }

    #[test]
    fn the_oldest_origin_is_forgotten_first() {
        let mut origins = BTreeMap::new();
        let start = TokioInstant::now();
        let ids = (0..=MAX_ORIGINS as u64).rev();
        for (age, id) in (0..).zip(ids) {
            remember(&mut origins, id, start + Duration::from_millis(age));
        }
        assert_eq!(origins.len(), MAX_ORIGINS);
        assert!(!origins.contains_key(&(MAX_ORIGINS as u64)), "the first that was noted");
        assert!(origins.contains_key(&0), "the last, although its number is the smallest");
    }

    #[test]
    fn a_seeded_thread_repeats_itself() {
        let draw = || {
            seed_thread(7);
            (0..4).map(|_| ThreadRng.try_next_u64()).collect::<Vec<_>>()
        };
        assert_eq!(draw(), draw());
    }
}
