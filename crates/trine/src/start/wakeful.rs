//! Keeps the machine's processors awake while this node is busy.
//!
//! A request crosses threads and processes several times, and each of them
//! sleeps until the one before it is done. Waking a thread costs a few
//! microseconds on a processor that is awake, and up to a hundred on one that
//! the kernel has halted meanwhile, most of all in a virtual machine. Linux lets
//! a process say how long waking may take (power management's quality of
//! service, `Documentation/power/pm_qos_interface.rst`): while this node's
//! threads go to sleep often, it says "not at all", and idle processors wait in
//! a loop instead of halting. That takes nothing from threads that have work,
//! but power and, on shared hosts, time of other virtual machines; so it ends
//! with the load, and `deep_idle` leaves the kernel alone. A process that is not
//! root is usually not let in: then nothing changes.
//!
//! [`Pace`] is the rule, [`Wakeful`] applies it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

/// Where a process says how long waking may take, as an `i32` in microseconds;
/// what it says holds until it says something else or closes the file.
const DEVICE: &str = "/dev/cpu_dma_latency";
/// No time at all.
const AWAKE: i32 = 0;
/// As long as the kernel likes (`PM_QOS_CPU_LATENCY_DEFAULT_VALUE`).
const AS_USUAL: i32 = 2_000_000_000;

/// How many sleeps are looked at together. An idle node's come in bunches of
/// about ten, on the grid of its timers.
const BUNCH: u64 = 32;
/// A node is busy when a bunch of sleeps takes less than this: 1,000 a second,
/// where an idle node's threads sleep about 200 times.
const BUSY: Duration = Duration::from_millis(32);
/// A node is quiet when there were fewer sleeps than this in [`LOOK_EVERY`]:
/// half as many as make it busy, so that it does not go back and forth.
const QUIET: u64 = 10;
/// How often a busy node is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Counts how often threads of this node go to sleep. Shared by all of them.
#[derive(Debug)]
struct Pace {
    start: Instant,
    sleeps: AtomicU64,
    /// When the last whole bunch was there, in microseconds since the start.
    bunch: AtomicU64,
}

impl Pace {
    fn new(start: Instant) -> Self {
        Self { start, sleeps: AtomicU64::new(0), bunch: AtomicU64::new(0) }
    }

    /// A thread goes to sleep; true if they do so often. `now` is asked for the
    /// time when it matters.
    fn sleeps(&self, now: impl FnOnce() -> Instant) -> bool {
        let count = self.sleeps.fetch_add(1, Ordering::Relaxed) + 1;
        if !count.is_multiple_of(BUNCH) {
            return false;
        }
        let now = now().saturating_duration_since(self.start);
        let micros = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        let before = self.bunch.swap(micros, Ordering::Relaxed);
        Duration::from_micros(micros.saturating_sub(before)) < BUSY
    }

    /// How often threads have gone to sleep.
    fn count(&self) -> u64 {
        self.sleeps.load(Ordering::Relaxed)
    }

    /// Whether too little happened in [`LOOK_EVERY`] since the count was `before`.
    fn is_quiet_since(&self, before: u64) -> bool {
        self.count().saturating_sub(before) < QUIET
    }
}

/// See the module. Dropping it lets the kernel do as usual.
#[derive(Debug)]
pub(super) struct Wakeful {
    pace: Pace,
    device: File,
    /// Whether processors are kept awake.
    held: AtomicBool,
    /// They are now.
    holds: Notify,
}

impl Wakeful {
    /// `None` if this process may not say how long waking may take.
    pub(super) fn open() -> Option<Arc<Self>> {
        let device = OpenOptions::new().write(true).open(DEVICE).ok()?;
        let pace = Pace::new(Instant::now());
        let wakeful = Self { pace, device, held: AtomicBool::new(false), holds: Notify::new() };
        // What an open file says before anything was written is up to the kernel.
        wakeful.say(AS_USUAL);
        Some(Arc::new(wakeful))
    }

    /// Watches the threads of the runtime that `builder` makes.
    pub(super) fn watch(self: &Arc<Self>, builder: &mut Builder) {
        let wakeful = self.clone();
        builder.on_thread_park(move || {
            if wakeful.pace.sleeps(Instant::now) && !wakeful.held.swap(true, Ordering::AcqRel) {
                wakeful.say(AWAKE);
                wakeful.holds.notify_one();
            }
        });
    }

    /// Lets processors sleep again whenever the node has become quiet. Never
    /// ends; dropping it between two looks leaves them awake until the next load
    /// or the end of the process.
    pub(super) async fn relax(self: Arc<Self>) {
        loop {
            self.holds.notified().await;
            let mut before = self.pace.count();
            loop {
                sleep(LOOK_EVERY).await;
                if self.pace.is_quiet_since(before) {
                    break;
                }
                before = self.pace.count();
            }
            self.say(AS_USUAL);
            self.held.store(false, Ordering::Release);
        }
    }

    fn say(&self, micros: i32) {
        // The device takes what it is told or is not there; without it, requests
        // are slower and nothing else.
        let _ = (&self.device).write_all(&micros.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sleeps `count` times, `apart` from each other; how often that was busy.
    fn sleep_on(pace: &Pace, at: &mut Instant, count: u64, apart: Duration) -> usize {
        let mut busy = 0;
        for _ in 0..count {
            *at += apart;
            busy += usize::from(pace.sleeps(|| *at));
        }
        busy
    }

    #[test]
    fn often_is_busy_and_now_and_then_is_not() {
        let mut at = Instant::now();
        let pace = Pace::new(at);
        assert_eq!(sleep_on(&pace, &mut at, 10 * BUNCH, Duration::from_millis(5)), 0);
        assert_eq!(sleep_on(&pace, &mut at, 2 * BUNCH, Duration::from_micros(400)), 2);
        assert_eq!(sleep_on(&pace, &mut at, BUNCH, Duration::from_millis(2)), 0);
    }

    #[test]
    fn the_timers_of_an_idle_node_are_not_busy() {
        let mut at = Instant::now();
        let pace = Pace::new(at);
        for _ in 0..100 {
            at += Duration::from_millis(50);
            assert_eq!(sleep_on(&pace, &mut at, 10, Duration::from_micros(20)), 0);
        }
    }

    #[test]
    fn what_is_busy_is_not_quiet_at_once() {
        let mut at = Instant::now();
        let pace = Pace::new(at);
        let before = pace.count();
        sleep_on(&pace, &mut at, 2 * QUIET, LOOK_EVERY / 20);
        assert!(!pace.is_quiet_since(before));
        assert!(pace.is_quiet_since(pace.count()));
    }
}
