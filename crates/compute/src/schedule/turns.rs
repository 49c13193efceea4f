//! Large tasks among small ones. A task that needs much of a worker would never
//! find room while small ones take whatever is free: one that was passed over
//! for too long gets a worker that takes nothing else until it has room.

use std::collections::BTreeMap;
use std::time::Duration;

use trine_types::NodeNumber;

use crate::spec::JobId;

/// For so long smaller tasks may go before a job whose turn it is.
pub const PASSED_OVER: Duration = Duration::from_secs(3);

/// Which jobs are passed over, and which workers are kept for them: one for
/// each at most, so that waiting for one large task idles one worker.
#[derive(Debug, Default)]
pub struct Turns {
    since: BTreeMap<JobId, Duration>,
    kept: BTreeMap<JobId, NodeNumber>,
}

impl Turns {
    /// `node` has no room for a task of `job`, and would run another instead.
    /// True: it shall not.
    pub fn passes_over(&mut self, job: JobId, node: NodeNumber, now: Duration) -> bool {
        let since = *self.since.entry(job).or_insert(now);
        if now < since.saturating_add(PASSED_OVER) {
            return false;
        }
        *self.kept.entry(job).or_insert(node) == node
    }

    /// The job got a slot, or wants none any more.
    pub fn served(&mut self, job: JobId) {
        self.since.remove(&job);
        self.kept.remove(&job);
    }

    /// The worker is lost.
    pub fn lost(&mut self, node: NodeNumber) {
        self.kept.retain(|_, kept| *kept != node);
    }
}
