//! A toy node for the tests of the world itself: a perfect register store in
//! memory that all nodes of a world share, with switchable faults.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use trine_types::{Entropy, GroupId, NodeId, NodeNumber};

use crate::door::{Answer, Door, Request};
use crate::failure::Failure;
use crate::hardware::Hardware;
use crate::system::{EntryView, NodeParts, Observe, ReplicaView, Running, System};
use crate::world::World;

/// What is wrong with the toy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing.
    None,
    /// Every fifth read answers what was there before the latest write.
    StaleReads,
    /// Increments are applied twice now and then.
    DoubleApply,
    /// A node panics.
    Panic,
}

type Cells = Arc<Mutex<BTreeMap<String, (Option<u64>, Option<u64>)>>>;

/// Makes toy nodes.
#[derive(Debug)]
pub struct Toy {
    /// What is wrong with them.
    pub flaw: Flaw,
    cells: Cells,
    log: Arc<Mutex<u64>>,
}

impl Toy {
    /// Toy nodes with this flaw.
    #[must_use]
    pub fn new(flaw: Flaw) -> Self {
        Self { flaw, cells: Arc::default(), log: Arc::default() }
    }
}

/// A running toy node.
#[derive(Clone)]
pub struct ToyDoor {
    flaw: Flaw,
    number: NodeNumber,
    cells: Cells,
    requests: Arc<Mutex<u64>>,
    entropy: Arc<crate::random::SeededEntropy>,
}

impl ToyDoor {
    fn apply(&self, request: Request) -> Answer {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests += 1;
        let odd = (*requests).is_multiple_of(5);
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        let mut write = |key: String, value: Option<u64>| {
            let cell = cells.entry(key).or_default();
            *cell = (value, cell.0);
        };
        match request {
            Request::Get { key } => {
                let (now, before) = cells.get(&key).copied().unwrap_or_default();
                Answer::Value(if odd && self.flaw == Flaw::StaleReads { before } else { now })
            }
            Request::Set { key, value } | Request::SetFor { key, value, .. } => {
                assert!(!(odd && self.flaw == Flaw::Panic), "the toy breaks");
                write(key, Some(value));
                Answer::Done
            }
            Request::Swap { key, old, new } => {
                let done = cells.get(&key).is_some_and(|cell| cell.0 == Some(old));
                if done {
                    cells.entry(key).or_default().0 = Some(new);
                }
                Answer::Swapped(done)
            }
            Request::Delete { key } => Answer::Deleted(cells.remove(&key).is_some_and(|c| c.0.is_some())),
            Request::Increment { key } => {
                let cell = cells.entry(key).or_default();
                let by = if odd && self.flaw == Flaw::DoubleApply { 2 } else { 1 };
                cell.0 = Some(cell.0.unwrap_or(0) + by);
                Answer::Count(cell.0.unwrap_or(0).try_into().unwrap_or(0))
            }
            Request::Count { key } => {
                Answer::Count(cells.get(&key).and_then(|c| c.0).unwrap_or(0).try_into().unwrap_or(0))
            }
            Request::IncrementOnce { key, client, seq } => {
                let done = cells.entry(format!("{client}/{seq}")).or_default().0.replace(1).is_some();
                let cell = cells.entry(key).or_default();
                cell.0 = Some(cell.0.unwrap_or(0) + u64::from(!done));
                Answer::Count(1)
            }
        }
    }
}

impl Door for ToyDoor {
    fn execute(&self, request: Request) -> BoxFuture<'static, Answer> {
        let door = self.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(1 + door.entropy.next_u64() % 7)).await;
            let answer = door.apply(request);
            tokio::time::sleep(Duration::from_millis(1 + door.entropy.next_u64() % 7)).await;
            answer
        }
        .boxed()
    }
}

impl Observe for ToyDoor {
    fn replicas(&self) -> Vec<ReplicaView> {
        vec![ReplicaView {
            group: GroupId(9),
            leads: self.number.0 == 1,
            term: 1,
            voters: [NodeNumber(1)].into(),
            learners: std::collections::BTreeSet::new(),
            last_index: 0,
            committed: 0,
            applied: 0,
            digest: (0, 0),
        }]
    }

    fn log(&self, _group: GroupId, _from: u64, _to: u64) -> Vec<EntryView> {
        Vec::new()
    }
}

impl System for Toy {
    type Door = ToyDoor;

    fn identity(_number: NodeNumber, hardware: &Hardware) -> NodeId {
        NodeId(hardware.key_seed)
    }

    fn form(world: &mut World<Self>, count: u64) -> Result<(), Failure> {
        for number in 1..=count {
            world.add_host(NodeNumber(number));
        }
        world.run_for(10)
    }

    fn change(world: &mut World<Self>, add: &[NodeNumber], remove: &[NodeNumber]) -> Result<(), Failure> {
        for number in add {
            world.add_host(*number);
        }
        for number in remove.iter().filter(|number| number.0 != 1) {
            world.remove_host(*number);
        }
        world.run_for(10)
    }

    fn boot(&self, parts: NodeParts) -> BoxFuture<'static, Result<Running<ToyDoor>, String>> {
        let door = ToyDoor {
            flaw: self.flaw,
            number: parts.number,
            cells: Arc::clone(&self.cells),
            requests: Arc::clone(&self.log),
            entropy: parts.entropy,
        };
        async move { Ok(Running { door, exit: futures::future::pending().boxed() }) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Property;
    use crate::job::{Job, run_job};
    use crate::scenario::Scenario;

    fn verdict(flaw: Flaw, scenario: Scenario, seed: u64) -> Result<(), Property> {
        let report = run_job(&Job { seed, scenario, print: false }, move || Toy::new(flaw));
        report.result.map(|_| ()).map_err(|failure| {
            eprintln!("{failure}");
            failure.property
        })
    }

    #[test]
    fn a_perfect_store_passes_every_scenario_of_the_store() {
        for scenario in Scenario::OF_THE_STORE {
            assert_eq!(verdict(Flaw::None, scenario, 3), Ok(()), "{scenario}");
        }
    }

    #[test]
    fn flaws_of_the_store_are_found() {
        assert_eq!(verdict(Flaw::StaleReads, Scenario::Register, 1), Err(Property::Linearizable));
        let doubled = verdict(Flaw::DoubleApply, Scenario::Counter, 1);
        assert!(matches!(doubled, Err(Property::ExactlyOnce | Property::Linearizable)), "{doubled:?}");
    }

    #[test]
    fn a_panic_fails_the_seed_with_its_message() {
        let job = Job { seed: 1, scenario: Scenario::Register, print: false };
        let failure = run_job(&job, || Toy::new(Flaw::Panic)).result.expect_err("it must panic");
        assert_eq!(failure.property, Property::NoPanic);
        assert!(failure.detail.contains("the toy breaks"), "{failure}");
    }

    #[test]
    fn a_seed_runs_the_same_way_twice() {
        let run = |seed| {
            let job = Job { seed, scenario: Scenario::Register, print: false };
            run_job(&job, || Toy::new(Flaw::None))
        };
        assert_eq!(run(5), run(5));
        assert_ne!(run(5).trace_hash, run(6).trace_hash);
    }
}
