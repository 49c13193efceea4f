//! The master's task: asleep unless this node leads group `jobs`. It owns the
//! master's state, the answers that are held back, and the commands under way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use trine_replication::{ProposeError, QueryError, Reply};
use trine_types::{GroupId, NodeId, NodeNumber};

use crate::codec;
use crate::command::{Command, Query};
use crate::handle::Shared;
use crate::master::{Master, Pending};
use crate::messages::{Beat, HOLD, IDLE_HOLD, Orders, Told};
use crate::schedule::{Config, TICK};
use crate::spec::{JobId, Waited};

/// Commands with results that are under way: while one is being synced, the
/// next gather.
const COMMITS_UNDER_WAY: usize = 4;

/// A leader that has not heard of a majority for so long is not the master: by
/// then another one may be, and what this one's worker runs is given away.
const CUT_OFF: Duration = Duration::from_millis(500);

/// Pause before results are proposed again that nobody took.
const COMMIT_PAUSE: Duration = Duration::from_millis(100);

/// Ticks that are left out while there are no jobs, or this node is not the
/// master: one in so many is left.
const IDLE_TICKS: u32 = 5;

/// Pause between two rounds of events: what happens within it is told together.
const EVENTS_PAUSE: Duration = Duration::from_millis(100);

/// What reaches the master.
pub(crate) enum Event {
    /// A worker tells of itself.
    Beat {
        /// Which node.
        from: NodeId,
        /// What it tells.
        beat: Box<Beat>,
        /// Where orders go.
        reply: oneshot::Sender<Told>,
    },
    /// Tasks that nobody wants any more.
    Drop {
        /// Of which job.
        job: JobId,
        /// Which.
        tasks: Vec<u64>,
        /// Where the answer goes.
        reply: oneshot::Sender<Told>,
    },
    /// The client of a job waits for results, and there are none.
    Followed {
        /// Which job.
        job: JobId,
    },
    /// Somebody asks what of a job runs.
    Running {
        /// Which job.
        job: JobId,
        /// Where the answer goes.
        reply: oneshot::Sender<Told>,
    },
}

/// An answer that is held back.
struct Parked {
    reply: oneshot::Sender<Told>,
    /// The answer before it, released by this one: what there is to do now goes
    /// with that, so that this one is there for what comes next.
    before: Option<oneshot::Sender<Told>>,
    until: Instant,
    /// The worker had nothing, and there was nothing to do: it lives as long as
    /// nobody suspects its node.
    idle: bool,
}

enum Done {
    /// The group has answered a query: what is applied here now is at least
    /// what was acknowledged before.
    Caught(Result<Reply, QueryError>),
    Committed(Vec<Pending>, Result<Reply, ProposeError>),
    Cancelled(JobId, Result<Reply, ProposeError>),
    /// The account of a job is kept, or not.
    Accounted(JobId, Result<Reply, ProposeError>),
}

struct Chair {
    shared: Arc<Shared>,
    began: Instant,
    master: Option<Master>,
    catching_up: bool,
    /// Since when a majority of the group's nodes are silent.
    alone: Option<Instant>,
    parked: BTreeMap<NodeNumber, Parked>,
    under_way: FuturesUnordered<BoxFuture<'static, Done>>,
    commits: usize,
    suspects: watch::Receiver<BTreeSet<NodeNumber>>,
    /// When events were told last.
    told: Instant,
}

/// Runs until the node stops.
pub(super) async fn run(
    shared: Arc<Shared>,
    mut events: mpsc::Receiver<Event>,
    mut stop: watch::Receiver<bool>,
) {
    let mut applied = shared.applied.clone();
    let grid = shared.endpoint.grid();
    let mut chair = Chair {
        suspects: shared.replication.suspects(),
        shared,
        began: Instant::now(),
        master: None,
        catching_up: false,
        alone: None,
        parked: BTreeMap::new(),
        under_way: FuturesUnordered::new(),
        commits: 0,
        told: Instant::now(),
    };
    let mut ticked = Instant::now();
    loop {
        let every = if chair.is_idle() { TICK * IDLE_TICKS } else { TICK };
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            Some(done) = chair.under_way.next(), if !chair.under_way.is_empty() => chair.done(done),
            event = events.recv() => {
                let Some(event) = event else { return };
                chair.event(event);
                // What has gathered is one round.
                while let Ok(event) = events.try_recv() {
                    chair.event(event);
                }
            }
            changed = applied.changed(), if chair.master.is_some() => {
                if changed.is_err() {
                    return;
                }
                chair.follow();
            }
            () = sleep_until(grid.line(ticked + every, every)) => {
                ticked = Instant::now();
                chair.tick();
            }
        }
        chair.flush();
    }
}

impl Chair {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn rows(&self) -> Option<Arc<dyn trine_storage::View>> {
        self.shared.applied.borrow().as_ref().map(|applied| applied.state.view())
    }

    /// Whether what is due can wait a little.
    fn is_idle(&self) -> bool {
        self.master.as_ref().is_none_or(|master| master.live_jobs() == 0) && !self.catching_up
    }

    fn leads(&self) -> bool {
        let cut_off = self.alone.is_some_and(|since| since.elapsed() >= CUT_OFF);
        !cut_off && self.shared.replication.leader(GroupId::JOBS) == Some(self.shared.number)
    }

    /// A leader without followers goes on to believe that it leads.
    fn look_around(&mut self) {
        let replicas = self.shared.meta.borrow().replicas_of(GroupId::JOBS);
        let suspects = self.suspects.borrow();
        let silent = replicas.iter().filter(|number| suspects.contains(*number)).count();
        let heard = replicas.len() - silent;
        self.alone = (heard <= silent).then(|| self.alone.unwrap_or_else(Instant::now));
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Beat { from, beat, reply } => self.beat(from, *beat, reply),
            Event::Drop { job, tasks, reply } => {
                let now = self.now();
                let told = match &mut self.master {
                    Some(master) => {
                        master.drop_tasks(job, &tasks, now);
                        Told::Dropping
                    }
                    None => self.not_master(),
                };
                // An error: who asked has gone.
                let _ = reply.send(told);
            }
            Event::Followed { job } => {
                let now = self.now();
                if let Some(master) = &mut self.master {
                    master.followed(job, now);
                }
            }
            Event::Running { job, reply } => {
                let told = match &self.master {
                    Some(master) => Told::Running(master.running(job, self.now())),
                    None => self.not_master(),
                };
                // An error: who asked has gone.
                let _ = reply.send(told);
            }
        }
    }

    fn not_master(&self) -> Told {
        let leader = self.shared.replication.leader(GroupId::JOBS);
        Told::NotMaster(leader.filter(|leader| *leader != self.shared.number))
    }

    fn beat(&mut self, from: NodeId, beat: Beat, reply: oneshot::Sender<Told>) {
        let not_master = self.not_master();
        let node = self.shared.meta.borrow().node_by_id(&from).map(|node| node.number);
        let now = self.now();
        if self.master.is_none() && self.leads() {
            self.tick();
        }
        let (Some(master), Some(node)) = (&mut self.master, node) else {
            // An error: the worker has gone.
            let _ = reply.send(not_master);
            return;
        };
        let idle = beat.held.is_empty() && master.live_jobs() == 0;
        if !master.beat(node, beat, now) {
            answer(master, node, reply);
            return;
        }
        let hold = if idle { IDLE_HOLD } else { HOLD };
        let (before, earlier) =
            self.parked.remove(&node).map_or((None, None), |parked| (Some(parked.reply), parked.before));
        if let Some(earlier) = earlier {
            answer(master, node, earlier);
        }
        self.parked.insert(node, Parked { reply, before, until: Instant::now() + hold, idle });
    }

    fn follow(&mut self) {
        let (Some(rows), now) = (self.rows(), self.now()) else { return };
        if let Some(master) = &mut self.master
            && let Err(refusal) = master.follow(&*rows, now)
        {
            tracing::error!(%refusal, "the master cannot follow the log of jobs");
            self.master = None;
        }
    }

    fn tick(&mut self) {
        self.look_around();
        match (self.leads(), self.master.is_some()) {
            (true, false) if !self.catching_up => {
                self.catching_up = true;
                let query = codec::encode(&Query::Jobs { before: None, limit: 0 });
                let caught = self.shared.replication.query(GroupId::JOBS, query);
                self.under_way.push(caught.map(Done::Caught).boxed());
            }
            (false, true) => {
                tracing::info!("this node is not the master any more");
                self.master = None;
                self.parked.clear();
            }
            _ => {}
        }
        let now = self.now();
        if let Some(master) = &mut self.master {
            let suspects = self.suspects.borrow();
            for node in self.parked.iter().filter(|(node, parked)| parked.idle && !suspects.contains(node)) {
                master.heard(*node.0, now);
            }
            drop(suspects);
            master.tick(now);
            master.look_at_deadlines(self.shared.clock.wall_ms());
            let due = Instant::now();
            let late: Vec<NodeNumber> = self
                .parked
                .iter()
                .filter(|(node, parked)| {
                    parked.until <= due || !master.knows(**node) || master.has_orders(**node)
                })
                .map(|(node, _)| *node)
                .collect();
            for node in late {
                if let Some(parked) = self.parked.remove(&node) {
                    parked.before.into_iter().for_each(|before| answer(master, node, before));
                    answer(master, node, parked.reply);
                }
            }
        }
    }

    fn begin(&mut self) {
        let Some(rows) = self.rows() else { return };
        let reign = self.shared.entropy.next_u64().max(1);
        let workers: Vec<NodeNumber> = self.shared.meta.borrow().nodes.keys().copied().collect();
        let me = (reign, self.shared.number);
        match Master::take_over(me, Config::default(), &*rows, workers, self.now()) {
            Ok(master) => {
                tracing::info!(jobs = master.live_jobs(), "this node is the master");
                self.master = Some(master);
            }
            Err(refusal) => tracing::error!(%refusal, "the state of jobs cannot be read"),
        }
    }

    fn done(&mut self, done: Done) {
        let now = self.now();
        match done {
            Done::Caught(caught) => {
                self.catching_up = false;
                if caught.is_ok() && self.master.is_none() && self.leads() {
                    self.begin();
                }
            }
            Done::Committed(batch, answer) => {
                self.commits = self.commits.saturating_sub(1);
                match answer {
                    Ok(_) => {
                        if let Some(master) = &mut self.master {
                            master.committed(&batch, now);
                        }
                    }
                    Err(ProposeError::ShutDown) => {}
                    // Perhaps done: then it does nothing the second time.
                    Err(error) => {
                        tracing::debug!(%error, results = batch.len(), "results are proposed again");
                        if self.master.is_some() {
                            self.commits += 1;
                            let again = commit(&self.shared, batch);
                            let later = async move {
                                tokio::time::sleep(COMMIT_PAUSE).await;
                                again.await
                            };
                            self.under_way.push(later.boxed());
                        }
                    }
                }
            }
            Done::Accounted(job, answer) => {
                if let Err(error) = answer {
                    tracing::debug!(%job, %error, "how long its results waited is not kept");
                }
            }
            Done::Cancelled(job, answer) => {
                if let Err(error) = answer {
                    tracing::warn!(%job, %error, "what is due for a job is not done yet");
                }
            }
        }
    }

    /// Hands out what there is to hand out.
    fn flush(&mut self) {
        let (Some(rows), now) = (self.rows(), self.now()) else { return };
        let Some(master) = &mut self.master else { return };
        if master.live_jobs() > 0 {
            // From now on, silence counts.
            let suspects = self.suspects.borrow();
            for (node, parked) in self.parked.iter_mut().filter(|(_, parked)| parked.idle) {
                (parked.idle, parked.until) = (false, Instant::now() + HOLD);
                if !suspects.contains(node) {
                    master.heard(*node, now);
                }
            }
        }
        let waiting: Vec<NodeNumber> = self.parked.keys().copied().collect();
        master.assign(&*rows, &waiting, now);
        for node in waiting {
            if let Some(before) = self.parked.get_mut(&node).and_then(|parked| parked.before.take()) {
                answer(master, node, before);
            } else if master.has_urgent_orders(node)
                && let Some(parked) = self.parked.remove(&node)
            {
                answer(master, node, parked.reply);
            }
        }
        if self.told.elapsed() >= EVENTS_PAUSE {
            self.told = Instant::now();
            for event in master.events() {
                // No room, or nobody to publish: events are messages, not records.
                let _ = self.shared.events.try_send(event);
            }
        }
        while self.commits < COMMITS_UNDER_WAY {
            let batch = master.next_commit();
            if batch.is_empty() {
                break;
            }
            self.commits += 1;
            self.under_way.push(commit(&self.shared, batch));
        }
        while let Some((job, committed)) = master.next_account() {
            let command = codec::encode(&Command::Account { job, committed });
            let answer = self.shared.replication.propose(GroupId::JOBS, command);
            self.under_way.push(answer.map(move |answer| Done::Accounted(job, answer)).boxed());
        }
        let reviews = std::iter::from_fn(|| master.next_review()).map(|job| (job, Command::Review { job }));
        let mut ends: Vec<_> = reviews.collect();
        ends.extend(std::iter::from_fn(|| master.next_close(now)).map(|job| {
            tracing::info!(%job, "its client is gone: it takes no more tasks");
            (job, Command::Close { job, submitted: Waited::default() })
        }));
        ends.extend(
            std::iter::from_fn(|| master.next_fire())
                .map(|(job, (due_ms, next_ms))| (job, Command::Fire { job, due_ms, next_ms })),
        );
        ends.extend(std::iter::from_fn(|| master.next_cancel()).map(|job| (job, Command::Cancel { job })));
        for (job, command) in ends {
            let command = codec::encode(&command);
            let answer = self.shared.replication.propose(GroupId::JOBS, command);
            self.under_way.push(answer.map(move |answer| Done::Cancelled(job, answer)).boxed());
        }
    }
}

/// Answers a beat with what there is to do, perhaps nothing.
fn answer(master: &mut Master, node: NodeNumber, reply: oneshot::Sender<Told>) {
    let nothing = Orders { reign: master.reign(), ..Orders::default() };
    let orders = master.orders(node).unwrap_or(nothing);
    // An error: the worker has gone; its lease ends.
    let _ = reply.send(Told::Orders(Box::new(orders)));
}

fn commit(shared: &Arc<Shared>, batch: Vec<Pending>) -> BoxFuture<'static, Done> {
    let results = batch.iter().map(|pending| pending.returned.clone()).collect();
    let command: Bytes = codec::encode(&Command::Commit { results });
    let replication = shared.replication.clone();
    async move {
        let answer = replication.propose(GroupId::JOBS, command).await;
        Done::Committed(batch, answer)
    }
    .boxed()
}
