//! What is known of the workers: their slots, what they hold, when they were
//! last heard, and how fast they are compared with the others.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use trine_types::NodeNumber;

use super::facts::Slots;
use crate::spec::Attempt;

/// Results over which a worker's speed is averaged.
const SPEED_MEMORY: f64 = 16.0;
/// A logarithm beyond which one result says nothing more about a worker.
const SPEED_BOUND: f64 = 5.0;
/// How much the logarithm of the speed differs between workers, as a variance,
/// before results say so.
const SPEED_VARIANCE: f64 = 0.25;
/// A result says at most so much: workers are not the same to the percent.
const LEAST_VARIANCE: f64 = 0.01;

/// A worker.
#[derive(Debug)]
pub struct Worker {
    /// All that it may hold at once.
    pub slots: Slots,
    /// What it holds.
    pub used: Slots,
    /// Which attempts these are, with the moment of their grant.
    pub held: BTreeMap<Attempt, Duration>,
    /// When it last gave a sign of life.
    pub heard: Duration,
    logs: f64,
    weight: f64,
    results: f64,
}

impl Worker {
    fn new(slots: Slots, now: Duration) -> Self {
        Self {
            slots,
            used: Slots::NONE,
            held: BTreeMap::new(),
            heard: now,
            logs: 0.0,
            weight: 0.0,
            results: 0.0,
        }
    }

    /// What may be granted when it says that `free` is free.
    pub fn room(&self, free: Slots) -> Slots {
        self.slots.minus(self.used).least(free)
    }

    /// Notes how long a task took here: the logarithm of its ratio to what is
    /// typical of its job, and how much that varies within the job. Where tasks
    /// are alike, one result says much of its worker; where they are not, little.
    pub fn measured(&mut self, log_ratio: f64, variance: f64) {
        if self.results >= SPEED_MEMORY {
            self.logs -= self.logs / self.results;
            self.weight -= self.weight / self.results;
        } else {
            self.results += 1.0;
        }
        let weight = 1.0 / variance.max(LEAST_VARIANCE);
        self.logs += log_ratio.clamp(-SPEED_BOUND, SPEED_BOUND) * weight;
        self.weight += weight;
    }

    /// How many times longer than typical tasks take here; 1 before results.
    pub fn slowness(&self) -> f64 {
        (self.logs / self.certainty()).exp()
    }

    /// As [`Self::slowness`], but the least that it may well be: two standard
    /// deviations lower.
    pub fn sure_slowness(&self) -> f64 {
        (self.logs / self.certainty() - 2.0 / self.certainty().sqrt()).exp()
    }

    fn certainty(&self) -> f64 {
        self.weight + 1.0 / SPEED_VARIANCE
    }
}

/// All workers that hold a lease.
#[derive(Debug, Default)]
pub struct Workers {
    by_node: BTreeMap<NodeNumber, Worker>,
    total: Slots,
}

impl Workers {
    /// How many.
    pub fn count(&self) -> usize {
        self.by_node.len()
    }

    /// All slots of all.
    pub const fn total(&self) -> Slots {
        self.total
    }

    /// One of them.
    pub fn get(&self, node: NodeNumber) -> Option<&Worker> {
        self.by_node.get(&node)
    }

    /// One of them, which gave a sign of life.
    pub fn heard(&mut self, node: NodeNumber, now: Duration) -> Option<&mut Worker> {
        let worker = self.by_node.get_mut(&node)?;
        worker.heard = worker.heard.max(now);
        Some(worker)
    }

    /// A worker registers, or registers again with other slots.
    pub fn up(&mut self, node: NodeNumber, slots: Slots, now: Duration) {
        let worker = self.by_node.entry(node).or_insert_with(|| Worker::new(Slots::NONE, now));
        self.total = self.total.minus(worker.slots).plus(slots);
        worker.slots = slots;
        worker.heard = worker.heard.max(now);
    }

    /// A worker is lost, with all that it held.
    pub fn remove(&mut self, node: NodeNumber) -> Option<Worker> {
        let worker = self.by_node.remove(&node)?;
        self.total = self.total.minus(worker.slots);
        Some(worker)
    }

    /// It holds one more.
    pub fn take(&mut self, node: NodeNumber, attempt: Attempt, need: Slots, now: Duration) {
        if let Some(worker) = self.by_node.get_mut(&node) {
            worker.held.insert(attempt, now);
            worker.used = worker.used.plus(need);
        }
    }

    /// It holds one less.
    pub fn give(&mut self, node: NodeNumber, attempt: Attempt, need: Slots) {
        if let Some(worker) = self.by_node.get_mut(&node)
            && worker.held.remove(&attempt).is_some()
        {
            worker.used = worker.used.minus(need);
        }
    }

    /// Those that were silent since before `deadline`.
    pub fn silent(&self, deadline: Duration) -> Vec<NodeNumber> {
        self.by_node.iter().filter(|(_, worker)| worker.heard < deadline).map(|(node, _)| *node).collect()
    }

    /// All of them.
    pub fn nodes(&self) -> BTreeSet<NodeNumber> {
        self.by_node.keys().copied().collect()
    }

    /// Does `need` fit into any worker once that is empty?
    pub fn could_fit(&self, need: Slots) -> bool {
        self.by_node.values().any(|worker| worker.slots.fits(need))
    }

    /// The slowness that `share` of the workers do not exceed.
    pub fn slowness_at(&self, share: f64) -> f64 {
        let mut all: Vec<f64> = self.by_node.values().map(Worker::slowness).collect();
        if all.is_empty() {
            return 1.0;
        }
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a number of workers"
        )]
        let at = ((all.len() as f64 * share) as usize).clamp(1, all.len()) - 1;
        *all.select_nth_unstable_by(at, f64::total_cmp).1
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use trine_types::NodeNumber;

    use super::{Slots, Worker, Workers};

    #[test]
    fn speed_is_learnt_and_forgotten() {
        let mut worker = Worker::new(Slots::cores(1, 0), Duration::ZERO);
        assert!((worker.slowness() - 1.0).abs() < 1e-9);
        worker.measured(6_f64.ln(), 1.0);
        assert!(worker.slowness() < 1.5, "tasks differ: {}", worker.slowness());
        worker.measured(6_f64.ln(), 0.03);
        assert!(worker.slowness() > 4.0, "tasks are alike: {}", worker.slowness());
        assert!(worker.sure_slowness() > 3.0, "{}", worker.sure_slowness());
        (0..80).for_each(|_| worker.measured(0.0, 0.03));
        assert!(worker.slowness() < 1.1, "{}", worker.slowness());
    }

    #[test]
    fn the_total_follows_registrations() {
        let mut workers = Workers::default();
        workers.up(NodeNumber(1), Slots::cores(4, 10), Duration::ZERO);
        workers.up(NodeNumber(2), Slots::cores(2, 10), Duration::ZERO);
        workers.up(NodeNumber(1), Slots::cores(8, 10), Duration::ZERO);
        assert_eq!(workers.total(), Slots::cores(10, 20));
        assert!(workers.could_fit(Slots::cores(8, 10)) && !workers.could_fit(Slots::cores(8, 11)));
        workers.remove(NodeNumber(1));
        assert_eq!(workers.total(), Slots::cores(2, 10));
    }
}
