//! The master's task: asleep unless this node leads group `jobs`. It owns the
//! master's state, the answers that are held back, and the commands under way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use trine_replication::{ProposeError, QueryError, Reply};
use trine_types::{GroupId, NodeId, NodeNumber};

use crate::codec;
use crate::command::{Command, Query};
use crate::handle::Shared;
use crate::master::{Master, Pending};
use crate::messages::{Beat, HOLD, Orders, Told};
use crate::schedule::{Config, TICK};
use crate::spec::JobId;

/// Commands with results that are under way: while one is being synced, the
/// next gather.
const COMMITS_UNDER_WAY: usize = 4;

/// Pause before results are proposed again that nobody took.
const COMMIT_PAUSE: Duration = Duration::from_millis(100);

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
}

/// An answer that is held back.
struct Parked {
    reply: oneshot::Sender<Told>,
    until: Instant,
}

enum Done {
    /// The group has answered a query: what is applied here now is at least
    /// what was acknowledged before.
    Caught(Result<Reply, QueryError>),
    Committed(Vec<Pending>, Result<Reply, ProposeError>),
    Cancelled(JobId, Result<Reply, ProposeError>),
}

struct Chair {
    shared: Arc<Shared>,
    began: Instant,
    master: Option<Master>,
    catching_up: bool,
    parked: BTreeMap<NodeNumber, Parked>,
    under_way: FuturesUnordered<BoxFuture<'static, Done>>,
    commits: usize,
}

/// Runs until the node stops.
pub(super) async fn run(
    shared: Arc<Shared>,
    mut events: mpsc::Receiver<Event>,
    mut stop: watch::Receiver<bool>,
) {
    let mut applied = shared.applied.clone();
    let mut chair = Chair {
        shared,
        began: Instant::now(),
        master: None,
        catching_up: false,
        parked: BTreeMap::new(),
        under_way: FuturesUnordered::new(),
        commits: 0,
    };
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
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
            _ = ticks.tick() => chair.tick(),
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

    fn leads(&self) -> bool {
        self.shared.replication.leader(GroupId::JOBS) == Some(self.shared.number)
    }

    fn event(&mut self, Event::Beat { from, beat, reply }: Event) {
        let node = self.shared.meta.borrow().node_by_id(&from).map(|node| node.number);
        let now = self.now();
        let (Some(master), Some(node)) = (&mut self.master, node) else {
            let leader = self.shared.replication.leader(GroupId::JOBS);
            let leader = leader.filter(|leader| *leader != self.shared.number);
            // An error: the worker has gone.
            let _ = reply.send(Told::NotMaster(leader));
            return;
        };
        let before = if master.beat(node, *beat, now) {
            let parked = Parked { reply, until: Instant::now() + HOLD };
            self.parked.insert(node, parked).map(|before| before.reply)
        } else {
            Some(reply)
        };
        if let Some(before) = before {
            let orders = Orders { reign: master.reign(), ..Orders::default() };
            let _ = before.send(Told::Orders(Box::new(orders)));
        }
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
            master.tick(now);
            let reign = master.reign();
            let due = Instant::now();
            let late: Vec<NodeNumber> =
                self.parked.iter().filter(|(_, parked)| parked.until <= due).map(|(node, _)| *node).collect();
            for parked in late.iter().filter_map(|node| self.parked.remove(node)) {
                let orders = Orders { reign, ..Orders::default() };
                let _ = parked.reply.send(Told::Orders(Box::new(orders)));
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
                            master.committed(&batch);
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
            Done::Cancelled(job, answer) => {
                if let Err(error) = answer {
                    tracing::warn!(%job, %error, "a job that was halted is not ended yet");
                }
            }
        }
    }

    /// Hands out what there is to hand out.
    fn flush(&mut self) {
        let (Some(rows), now) = (self.rows(), self.now()) else { return };
        let Some(master) = &mut self.master else { return };
        let waiting: Vec<NodeNumber> = self.parked.keys().copied().collect();
        master.assign(&*rows, &waiting, now);
        for node in waiting {
            if let Some(orders) = master.orders(node)
                && let Some(parked) = self.parked.remove(&node)
            {
                // An error: the worker has gone; its lease ends.
                let _ = parked.reply.send(Told::Orders(Box::new(orders)));
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
        while let Some(job) = master.next_cancel() {
            let command = codec::encode(&Command::Cancel { job });
            let answer = self.shared.replication.propose(GroupId::JOBS, command);
            self.under_way.push(answer.map(move |answer| Done::Cancelled(job, answer)).boxed());
        }
    }
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
