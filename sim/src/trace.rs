//! The trace of a run: every event that may depend on scheduling is mixed
//! into one number. Two runs of a seed must end with the same number; if they
//! do not, something in the nodes depends on more than the seed.

use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::clock::WorldTime;
use crate::random::mix;

/// How many of the latest events a failure shows.
const KEPT_EVENTS: usize = 60;

thread_local! {
    /// Where the world of this thread is: "12345 ms n2". For panics and logs.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Where the world of this thread is right now.
#[must_use]
pub fn place() -> String {
    PLACE.with(|place| place.borrow().clone())
}

/// Remembers where the world of this thread is.
pub(crate) fn set_place(now_ms: u64, who: fmt::Arguments<'_>) {
    PLACE.with(|place| {
        use fmt::Write;
        let mut place = place.borrow_mut();
        place.clear();
        // Writing into a string cannot fail.
        let _ = write!(place, "{now_ms:>6} ms {who}");
    });
}

/// Stamps log lines with the world's time and the node that wrote them.
struct Placed;

impl FormatTime for Placed {
    fn format_time(&self, line: &mut Writer<'_>) -> fmt::Result {
        line.write_str(&place())
    }
}

/// Prints the nodes' log to standard error, as `RUST_LOG` asks (warnings
/// otherwise).
pub fn print_logs() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_timer(Placed).with_writer(std::io::stderr).init();
}

#[derive(Debug, Default)]
struct Inner {
    hash: u64,
    events: u64,
    recent: std::collections::VecDeque<String>,
}

/// A handle to the trace of one world.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    // A lock because the network's hook needs `Sync`; only one thread uses it.
    inner: Arc<Mutex<Inner>>,
    time: WorldTime,
    print: bool,
}

impl Trace {
    /// An empty trace; with `print` every noted event goes to standard error.
    #[must_use]
    pub fn new(time: WorldTime, print: bool) -> Self {
        Self { inner: Arc::default(), time, print }
    }

    /// Mixes raw bytes in, such as a delivered frame.
    pub fn bytes(&self, kind: u64, bytes: &[u8]) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let mut hash = mix(inner.hash ^ kind ^ (self.time.now_ms() << 16));
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        }
        inner.hash = mix(hash ^ bytes.len() as u64);
        inner.events += 1;
    }

    /// Mixes an event in and keeps its text for a failure report.
    pub fn note(&self, event: fmt::Arguments<'_>) {
        let line = format!("{:>6} ms  {event}", self.time.now_ms());
        if self.print {
            eprintln!("{line}");
        }
        self.bytes(1, line.as_bytes());
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.recent.len() == KEPT_EVENTS {
            inner.recent.pop_front();
        }
        inner.recent.push_back(line);
    }

    /// The hash over everything so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).hash
    }

    /// How many events were mixed in.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).events
    }

    /// The latest noted events, oldest first.
    #[must_use]
    pub fn recent(&self) -> Vec<String> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).recent.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_content_count() {
        let run = |frames: &[&[u8]]| {
            let trace = Trace::default();
            for frame in frames {
                trace.bytes(0, frame);
            }
            trace.hash()
        };
        assert_eq!(run(&[b"one", b"two"]), run(&[b"one", b"two"]));
        assert_ne!(run(&[b"one", b"two"]), run(&[b"two", b"one"]));
        assert_ne!(run(&[b"onet", b"wo"]), run(&[b"one", b"two"]));
        assert_ne!(run(&[b"a"]), run(&[b"a\0"]));
    }
}
