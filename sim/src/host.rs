//! One machine of the world: its runtime (one paused, seeded, single-threaded
//! tokio runtime per process life), its clock, its randomness, and what of it
//! outlives a crash.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::runtime::{Builder, Handle, RngSeed, Runtime, TaskMeta};
use tokio::task::JoinHandle;
use trine_transport::SimTransport;
use trine_types::NodeNumber;

use crate::clock::{SkewedClock, WorldTime};
use crate::hardware::Hardware;
use crate::job::panicked;
use crate::random::{Rng, SeededEntropy};
use crate::system::{NodeParts, Running, System};
use crate::trace;

/// How far one step moves time on.
pub const STEP: Duration = Duration::from_millis(1);

/// The longest time that a disk takes for a sync, in milliseconds. A network
/// that is faster than the leader's disk is usual: followers then have entries
/// that the leader may yet lose.
const SLOWEST_SYNC_MS: u64 = 8;

/// Most polls of tasks within one step. Time stands still while something is
/// ready to run: a loop without a pause would never end.
const MOST_POLLS: u32 = 1_000_000;

thread_local! {
    static POLLS: Cell<u32> = const { Cell::new(0) };
}

/// A runtime whose time moves only when it is stepped.
pub fn seeded_runtime(seed: u64) -> Runtime {
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .rng_seed(RngSeed::from_bytes(&seed.to_le_bytes()))
        .on_before_task_poll(count_poll)
        .build()
        .expect("a runtime without IO needs nothing that could fail")
}

fn count_poll(task: &TaskMeta<'_>) {
    POLLS.set(POLLS.get() + 1);
    let spawned = task.spawned_at();
    assert!(POLLS.get() < MOST_POLLS, "{MOST_POLLS} polls within one step: the task of {spawned} spins");
}

/// Runs everything that is due on `runtime` within the next `by`.
pub fn step_runtime(runtime: &Runtime, by: Duration) {
    POLLS.set(0);
    runtime.block_on(async { tokio::time::sleep(by).await });
    // Not by tokio's shutdown at a panic: it drops tasks while it may not be
    // called, and those that wake others end the process.
    assert!(!panicked(), "a task panicked");
}

/// Why a process ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// It came up and stopped later, saying this.
    Stopped(String),
    /// It did not come up.
    Refused(String),
}

struct Process<D> {
    runtime: Runtime,
    main: JoinHandle<Ending>,
    up: tokio::sync::oneshot::Receiver<D>,
    door: Option<D>,
}

/// One machine.
pub struct Host<S: System> {
    /// Its number.
    pub number: NodeNumber,
    /// Its wall clock.
    pub clock: Arc<SkewedClock>,
    /// When it starts again, if it is down (world milliseconds).
    pub start_at: Option<u64>,
    /// Until when it stands still, and since when.
    pub paused: Option<(u64, u64)>,
    /// Whether an injected fault explains that it stops or refuses to start.
    pub excused: bool,
    /// It is being removed from the cluster, and may stop for that.
    pub leaving: bool,
    incarnation: u64,
    seeds: Rng,
    process: Option<Process<S::Door>>,
}

impl<S: System> Host<S> {
    /// A machine that is switched off.
    pub fn new(number: NodeNumber, seed: u64, time: WorldTime) -> Self {
        Self {
            number,
            clock: Arc::new(SkewedClock::new(time)),
            start_at: None,
            paused: None,
            excused: false,
            leaving: false,
            incarnation: 0,
            seeds: Rng::new(seed, &format!("host {number}")),
            process: None,
        }
    }

    /// Starts the process.
    pub fn boot(&mut self, system: &S, hardware: Hardware, transport: Arc<SimTransport>) {
        self.incarnation += 1;
        self.start_at = None;
        let runtime = seeded_runtime(self.seeds.draw());
        let entropy = SeededEntropy::new(Rng::new(self.seeds.draw(), "entropy"));
        let sync_latency = Duration::from_millis(self.seeds.between(1, SLOWEST_SYNC_MS));
        let booting = system.boot(NodeParts {
            number: self.number,
            incarnation: self.incarnation,
            hardware,
            transport,
            clock: Arc::clone(&self.clock),
            entropy: Arc::new(entropy),
            sync_latency,
        });
        let (tell, up) = tokio::sync::oneshot::channel();
        let main = runtime.spawn(async move {
            match booting.await {
                Ok(Running { door, exit }) => {
                    // The receiver lives as long as the process.
                    let _ = tell.send(door);
                    Ending::Stopped(exit.await)
                }
                Err(reason) => Ending::Refused(reason),
            }
        });
        self.process = Some(Process { runtime, main, up, door: None });
    }

    /// Ends the process at once; all its tasks are dropped.
    pub fn kill(&mut self) {
        self.process = None;
        self.paused = None;
    }

    /// Moves the process on by one step. `Some` if it ended by itself.
    pub fn step(&mut self, now_ms: u64) -> Option<Ending> {
        let process = self.process.as_mut()?;
        trace::set_place(now_ms, format_args!("{}", self.number));
        match self.paused {
            Some((until_ms, _)) if now_ms < until_ms => return None,
            Some((until_ms, since_ms)) => {
                self.paused = None;
                let slept = Duration::from_millis(until_ms - since_ms);
                process.runtime.block_on(async { tokio::time::advance(slept).await });
            }
            None => {}
        }
        step_runtime(&process.runtime, STEP);
        if process.door.is_none() {
            process.door = process.up.try_recv().ok();
        }
        if !process.main.is_finished() {
            return None;
        }
        let ending = (&mut process.main).now_or_never()?;
        Some(ending.unwrap_or_else(|error| Ending::Stopped(format!("main task: {error}"))))
    }

    /// Whether a process exists.
    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// How often it has been started.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// The door, once the process is up.
    pub fn door(&self) -> Option<&S::Door> {
        self.process.as_ref()?.door.as_ref()
    }

    /// The door and the runtime to use it on, for clients.
    pub fn entry(&self) -> Option<(Handle, S::Door)> {
        let process = self.process.as_ref()?;
        Some((process.runtime.handle().clone(), process.door.clone()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "polls within one step")]
    fn a_task_that_spins_is_found() {
        let runtime = seeded_runtime(1);
        runtime.spawn(async {
            loop {
                tokio::task::yield_now().await;
            }
        });
        step_runtime(&runtime, STEP);
    }
}
