//! The world: machines, a network, clients and time, moved on by one thread
//! one millisecond at a time. Everything that happens follows from the seed.

use std::collections::{BTreeMap, VecDeque};

use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use trine_types::NodeNumber;

use crate::client::{Client, Doors};
use crate::clock::WorldTime;
use crate::failure::{Failure, Property};
use crate::hardware::{Hardware, Network};
use crate::history::History;
use crate::host::{Ending, Host, STEP, seeded_runtime, step_runtime};
use crate::invariant::{Invariants, Sight};
use crate::plan::{Fault, Strike};
use crate::random::Rng;
use crate::system::{Observe, ReplicaView, System};
use crate::trace::{self, Trace};

/// How long clients wait for an answer before they call it unknown.
pub const PATIENCE_MS: u64 = 2_000;

/// Counts of what the world did to its nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Blows {
    /// Faults that struck.
    pub faults: u64,
    /// Process lives that ended.
    pub deaths: u64,
}

/// The world.
pub struct World<S: System> {
    /// The seed that everything follows from.
    pub seed: u64,
    /// The world's time.
    pub time: WorldTime,
    /// What happened, as a hash.
    pub trace: Trace,
    /// What clients saw.
    pub history: History,
    /// The entries of all running nodes.
    pub doors: Doors<S::Door>,
    /// What was done to the nodes.
    pub blows: Blows,
    pub(crate) network: Network,
    pub(crate) hosts: BTreeMap<NodeNumber, (Host<S>, Hardware)>,
    system: S,
    clients: Runtime,
    plan: VecDeque<Strike>,
    ongoing: Vec<(u64, Fault)>,
    invariants: Invariants,
    rng: Rng,
}

impl<S: System> World<S> {
    /// An empty world.
    pub fn new(seed: u64, system: S, print: bool) -> Self {
        let time = WorldTime::default();
        let trace = Trace::new(time.clone(), print);
        let mut rng = Rng::new(seed, "world");
        trine_replication::seed_thread(rng.draw());
        Self {
            seed,
            network: Network::new(&mut rng),
            clients: seeded_runtime(rng.draw()),
            history: History::new(trace.clone()),
            time,
            trace,
            doors: Doors::default(),
            blows: Blows::default(),
            hosts: BTreeMap::new(),
            system,
            plan: VecDeque::new(),
            ongoing: Vec::new(),
            invariants: Invariants::default(),
            rng,
        }
    }

    /// Adds machine `number` and starts it at the next step.
    pub fn add_host(&mut self, number: NodeNumber) {
        let mut host = Host::new(number, self.seed, self.time.clone());
        host.start_at = Some(self.time.now_ms());
        let hardware = Hardware::new(&mut self.rng);
        self.hosts.insert(number, (host, hardware));
    }

    /// Takes machine `number` away for good.
    pub fn remove_host(&mut self, number: NodeNumber) {
        self.crash(number, None);
        self.hosts.remove(&number);
        self.trace.note(format_args!("{number} is gone for good"));
    }

    /// From now on machine `number` may stop because it is being removed.
    pub fn excuse(&mut self, number: NodeNumber) {
        if let Some((host, _)) = self.hosts.get_mut(&number) {
            host.leaving = true;
        }
    }

    /// The kind of node that runs here.
    pub fn system(&self) -> &S {
        &self.system
    }

    /// All machines.
    #[must_use]
    pub fn numbers(&self) -> Vec<NodeNumber> {
        self.hosts.keys().copied().collect()
    }

    /// Sets the faults to come.
    pub fn plan(&mut self, strikes: Vec<Strike>) {
        self.plan = strikes.into();
    }

    /// Client `index`.
    #[must_use]
    pub fn client(&self, index: usize) -> Client<S::Door> {
        Client {
            index,
            rng: Rng::new(self.seed, &format!("client {index}")),
            doors: self.doors.clone(),
            history: self.history.clone(),
            time: self.time.clone(),
            patience: std::time::Duration::from_millis(PATIENCE_MS),
        }
    }

    /// Starts a task on the clients' runtime.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.clients.spawn(task)
    }

    /// A failure of `property`, now.
    #[must_use]
    pub fn failure(&self, property: Property, detail: impl Into<String>) -> Failure {
        Failure { property, at_ms: self.time.now_ms(), detail: detail.into() }
    }

    /// Runs for `ms`.
    ///
    /// # Errors
    /// The first violated property.
    pub fn run_for(&mut self, ms: u64) -> Result<(), Failure> {
        (0..ms).try_for_each(|_| self.step())
    }

    /// Runs until `done`, for at most `limit_ms`; says whether it was reached.
    ///
    /// # Errors
    /// The first violated property.
    pub fn run_until(
        &mut self,
        limit_ms: u64,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> Result<bool, Failure> {
        for _ in 0..limit_ms {
            if done(self) {
                return Ok(true);
            }
            self.step()?;
        }
        Ok(done(self))
    }

    /// Runs `task` on the clients' runtime to its end, for at most `limit_ms`.
    ///
    /// # Errors
    /// The first violated property, or `late` if the task takes too long.
    pub fn finish<T: Send + 'static>(
        &mut self,
        limit_ms: u64,
        late: Property,
        what: &str,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Failure> {
        let task = self.spawn(task);
        self.join(limit_ms, late, what, task)
    }

    /// Waits for a task that was spawned before.
    ///
    /// # Errors
    /// As [`Self::finish`].
    pub fn join<T>(
        &mut self,
        limit_ms: u64,
        late: Property,
        what: &str,
        mut task: JoinHandle<T>,
    ) -> Result<T, Failure> {
        if !self.run_until(limit_ms, |_| task.is_finished())? {
            return Err(self.failure(late, format!("{what}: not done within {limit_ms} ms")));
        }
        match futures::FutureExt::now_or_never(&mut task) {
            Some(Ok(value)) => Ok(value),
            other => {
                let cause = other.and_then(Result::err);
                Err(self.failure(Property::NoPanic, format!("{what}: the task ended with {cause:?}")))
            }
        }
    }

    /// Moves everything on by one millisecond.
    ///
    /// # Errors
    /// The first violated property.
    pub fn step(&mut self) -> Result<(), Failure> {
        self.time.tick();
        let now_ms = self.time.now_ms();
        self.strike(now_ms);
        self.boot_due(now_ms);
        trace::set_place(now_ms, format_args!("network"));
        self.network.deliver_due(now_ms, &self.trace);
        let mut order = self.numbers();
        if !order.is_empty() {
            let turn = usize::try_from(self.rng.below(order.len() as u64)).unwrap_or(0);
            order.rotate_left(turn);
        }
        for number in order {
            self.step_host(number, now_ms)?;
        }
        trace::set_place(now_ms, format_args!("clients"));
        step_runtime(&self.clients, STEP);
        trace::set_place(now_ms, format_args!("invariants"));
        self.check_invariants()
    }

    fn step_host(&mut self, number: NodeNumber, now_ms: u64) -> Result<(), Failure> {
        let Some((host, _)) = self.hosts.get_mut(&number) else { return Ok(()) };
        let was_up = host.door().is_some();
        let Some(ending) = host.step(now_ms) else {
            if !was_up && let Some(entry) = host.entry() {
                self.trace.note(format_args!("{number} is up"));
                self.doors.set(number, Some(entry));
            }
            return Ok(());
        };
        let excused = host.excused || host.leaving;
        self.trace.note(format_args!("{number} ended by itself: {ending:?}"));
        if !excused {
            let (Ending::Stopped(reason) | Ending::Refused(reason)) = ending;
            return Err(self.failure(Property::NoUnexplainedEnd, format!("{number}: {reason}")));
        }
        self.crash(number, Some(now_ms + 200));
        Ok(())
    }

    /// Machine `number` loses power; it starts again at `start_at`.
    pub fn crash(&mut self, number: NodeNumber, start_at: Option<u64>) {
        let Some((host, hardware)) = self.hosts.get_mut(&number) else { return };
        self.doors.set(number, None); // before the node's tasks are dropped
        if host.runs() {
            self.blows.deaths += 1;
            self.trace.note(format_args!("{number} crashes, back at {start_at:?}"));
            host.kill();
            self.network.crash(number);
            hardware.crash();
            host.excused = false; // injected failures ended with the machine
        }
        host.start_at = start_at;
    }

    fn boot_due(&mut self, now_ms: u64) {
        for (number, (host, hardware)) in &mut self.hosts {
            if host.start_at.is_some_and(|at| at <= now_ms) && !host.runs() {
                self.trace.note(format_args!("{number} starts"));
                host.excused |= hardware.is_full();
                let transport = self.network.attach(*number, S::identity(*number, hardware));
                host.boot(&self.system, hardware.clone(), transport);
            }
        }
    }

    fn strike(&mut self, now_ms: u64) {
        while self.plan.front().is_some_and(|strike| strike.at_ms <= now_ms) {
            if let Some(Strike { fault, .. }) = self.plan.pop_front() {
                self.suffer(fault, now_ms);
            }
        }
        let before = self.ongoing.len();
        let over = self.ongoing.extract_if(.., |(until_ms, _)| *until_ms <= now_ms);
        for (_, fault) in over.collect::<Vec<_>>() {
            match fault {
                Fault::FillDisk { node, .. } => {
                    if let Some((_, hardware)) = self.hosts.get(&node) {
                        hardware.make_room();
                    }
                }
                Fault::Skew { node, .. } => {
                    if let Some((host, _)) = self.hosts.get(&node) {
                        host.clock.set_skew_ms(0);
                    }
                }
                _ => {}
            }
        }
        if self.ongoing.len() != before {
            self.shape_network();
        }
    }

    /// Lets one fault happen now.
    pub fn suffer(&mut self, fault: Fault, now_ms: u64) {
        self.blows.faults += 1;
        self.trace.note(format_args!("fault: {fault:?}"));
        match &fault {
            Fault::Crash { node, down_ms } => self.crash(*node, Some(now_ms + down_ms)),
            Fault::Behead { down_ms } => {
                if let Some(leader) = self.leader() {
                    self.crash(leader, Some(now_ms + down_ms));
                }
            }
            Fault::CrashAll { down_ms } => {
                for node in self.numbers() {
                    self.crash(node, Some(now_ms + down_ms));
                }
            }
            Fault::FailSync { node } => {
                if let Some((host, hardware)) = self.hosts.get_mut(node) {
                    host.excused = true;
                    hardware.fail_sync();
                }
            }
            Fault::FillDisk { node, ms } => {
                if let Some((host, hardware)) = self.hosts.get_mut(node) {
                    host.excused = true;
                    hardware.fill_up();
                }
                self.ongoing.push((now_ms + ms, fault));
            }
            Fault::Pause { node, ms } => {
                if let Some((host, _)) = self.hosts.get_mut(node) {
                    host.paused = Some((now_ms + ms, now_ms));
                }
            }
            Fault::Partition { ms, .. } | Fault::SlowLink { ms, .. } => {
                self.ongoing.push((now_ms + ms, fault));
                self.shape_network();
            }
            Fault::Break { a, b } => self.network.break_link(*a, *b),
            Fault::ClockJump { by_ms, ms } => {
                if let Some(node) = self.leader() {
                    let (by_ms, until_ms) = (*by_ms, now_ms + ms);
                    self.suffer(Fault::Skew { node, by_ms }, now_ms);
                    self.ongoing.push((until_ms, Fault::Skew { node, by_ms }));
                }
            }
            Fault::Skew { node, by_ms } => {
                if let Some((host, _)) = self.hosts.get(node) {
                    host.clock.set_skew_ms(*by_ms);
                }
            }
        }
    }

    fn shape_network(&mut self) {
        let nodes = self.numbers();
        self.network.heal();
        for (_, fault) in &self.ongoing {
            match fault {
                Fault::Partition { side, direction, .. } => {
                    self.network.partition(side, &nodes, *direction);
                }
                Fault::SlowLink { a, b, delay_ms, .. } => self.network.slow(*a, *b, *delay_ms),
                _ => {}
            }
        }
    }

    /// Faults stop: everything is repaired and every machine starts again.
    pub fn calm(&mut self) {
        self.trace.note(format_args!("faults stop"));
        self.plan.clear();
        self.ongoing.clear();
        self.network.heal();
        let now_ms = self.time.now_ms();
        for (host, hardware) in self.hosts.values_mut() {
            hardware.repair();
            host.clock.set_skew_ms(0);
            if let Some((until_ms, _)) = &mut host.paused {
                *until_ms = (*until_ms).min(now_ms + 1);
            }
            if !host.runs() {
                host.start_at = Some(now_ms);
            }
        }
    }

    /// From now on the network is perfect: nothing that is sent gets lost.
    pub fn settle(&mut self) {
        self.network.settle();
    }

    fn check_invariants(&mut self) -> Result<(), Failure> {
        let sights: Vec<Sight<'_, S::Door>> = self
            .hosts
            .iter()
            .filter(|(_, (host, _))| host.paused.is_none())
            .filter_map(|(number, (host, _))| {
                let door = host.door()?;
                let replicas = door.replicas();
                Some(Sight { node: *number, incarnation: host.incarnation(), replicas, door })
            })
            .collect();
        let held = self.invariants.check(&sights);
        held.map_err(|(property, detail)| self.failure(property, detail))
    }

    /// How the nodes' replicas look right now.
    #[must_use]
    pub fn replicas(&self) -> BTreeMap<NodeNumber, Vec<ReplicaView>> {
        self.hosts.iter().filter_map(|(number, (host, _))| Some((*number, host.door()?.replicas()))).collect()
    }

    /// Notes how all replicas look, for the report of a failure.
    pub(crate) fn note_replicas(&self) {
        for (number, replicas) in self.replicas() {
            for replica in replicas {
                self.trace.note(format_args!("at the end, {number}: {replica:?}"));
            }
        }
    }

    /// Who leads most groups right now.
    #[must_use]
    pub fn leader(&self) -> Option<NodeNumber> {
        let led = |replicas: &[ReplicaView]| replicas.iter().filter(|r| r.leads).count();
        let nodes = self.replicas();
        let best = nodes.iter().max_by_key(|(_, replicas)| led(replicas))?;
        (led(best.1) > 0).then_some(*best.0)
    }
}
