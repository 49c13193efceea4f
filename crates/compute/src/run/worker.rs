//! The worker's task: beats to the master, bodies that run, their deadlines.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use trine_transport::{CallError, Lane};
use trine_types::NodeNumber;

use crate::blobs::Blobs;
use crate::body::{Assigned, Bodies, Ran, Stop};
use crate::codec;
use crate::guide::Guide;
use crate::handle::Shared;
use crate::messages::{Ask, IDLE_HOLD, PASSING, SERVICE, Told};
use crate::spec::{Attempt, BodyKind, Outcome};
use crate::worker::Worker;

/// Pause after a beat that found no master.
const PAUSE: Duration = Duration::from_millis(50);

/// Beats under way: one that the master holds back, one with news.
const BEATS: usize = 2;

/// A time that does not come.
const NEVER: Duration = Duration::from_hours(24 * 365);

struct Answer {
    asked: NodeNumber,
    serial: u64,
    told: Result<Bytes, CallError>,
}

struct Hands {
    shared: Arc<Shared>,
    guide: Guide,
    began: Instant,
    worker: Worker,
    bodies: JoinSet<(Attempt, Ran)>,
    stops: BTreeMap<Attempt, watch::Sender<Option<Stop>>>,
    deadlines: BTreeMap<Attempt, Instant>,
    beats: FuturesUnordered<BoxFuture<'static, Answer>>,
    /// Answers to beats before this one are of no interest any more.
    valid_from: u64,
    serial: u64,
    rest_until: Instant,
    /// Who has the beats that are under way.
    asked: Option<NodeNumber>,
}

/// Runs until the node stops; then what runs is killed.
pub(super) async fn run(shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let guide = Guide::new(shared.replication.clone(), shared.meta.clone());
    let worker = Worker::new(shared.number, shared.slots);
    let mut suspects = shared.replication.suspects();
    let mut hands = Hands {
        shared,
        guide,
        began: Instant::now(),
        worker,
        bodies: JoinSet::new(),
        stops: BTreeMap::new(),
        deadlines: BTreeMap::new(),
        beats: FuturesUnordered::new(),
        valid_from: 0,
        serial: 0,
        rest_until: Instant::now(),
        asked: None,
    };
    loop {
        hands.start_bodies();
        hands.speak();
        let deadline = hands.deadlines.values().min().copied();
        let rest = hands.beats.is_empty().then(|| hands.asks_at());
        let lets_go = hands.worker.lets_go_at().map(|at| hands.began + at);
        let tells = hands.tells_at().filter(|_| hands.beats.len() < BEATS);
        let wake = [deadline, rest, lets_go, tells].into_iter().flatten().min();
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            Some(answer) = hands.beats.next(), if !hands.beats.is_empty() => hands.answered(answer),
            Some(ended) = hands.bodies.join_next(), if !hands.bodies.is_empty() => {
                hands.ended(ended);
                // What has ended meanwhile is told together.
                while let Some(Some(ended)) = hands.bodies.join_next().now_or_never() {
                    hands.ended(ended);
                }
            }
            Ok(()) = suspects.changed() => hands.doubt(&suspects.borrow_and_update()),
            () = sleep_until(wake.unwrap_or_else(|| Instant::now() + NEVER)) => hands.expire(),
        }
    }
    // Dropping a body kills what it runs.
    hands.bodies.shutdown().await;
}

impl Hands {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// When the next beat is due though there may be no news.
    fn asks_at(&self) -> Instant {
        (self.began + self.worker.asks_at()).max(self.rest_until)
    }

    /// When the next beat with news is due.
    fn tells_at(&self) -> Option<Instant> {
        self.worker.tells_at().map(|at| (self.began + at).max(self.rest_until))
    }

    fn start_bodies(&mut self) {
        let wall_ms = self.shared.clock.wall_ms();
        while let Some(assigned) = self.worker.next(self.now(), wall_ms) {
            let attempt = assigned.attempt;
            let (sender, stop) = watch::channel(None);
            self.stops.insert(attempt, sender);
            if let Some(timeout) = self.worker.timeout(attempt) {
                self.deadlines.insert(attempt, Instant::now() + timeout);
            }
            let body = self.body(assigned, stop);
            self.bodies.spawn(async move { (attempt, body.await) });
        }
    }

    /// The body: after the blobs that it names are here, until another node has
    /// what it leaves, too.
    fn body(&self, assigned: Assigned, stop: watch::Receiver<Option<Stop>>) -> BoxFuture<'static, Ran> {
        let named = assigned.task.blobs().to_vec();
        let (bodies, blobs) = (self.shared.bodies.clone(), Blobs::new(self.shared.clone()));
        async move {
            if !named.is_empty()
                && let Err(why) = blobs.bring(&named).await
            {
                return Ran::only(Outcome::NotStaged { why });
            }
            let ran = Self::execute(&bodies, assigned, stop).await;
            blobs.secure(&ran).await;
            ran
        }
        .boxed()
    }

    fn execute(
        bodies: &Bodies,
        assigned: Assigned,
        stop: watch::Receiver<Option<Stop>>,
    ) -> BoxFuture<'static, Ran> {
        match (&assigned.job.body, &bodies.python) {
            (BodyKind::Process, _) => bodies.process.run(assigned, stop),
            (BodyKind::Python { .. }, Some(python)) => python.run(assigned, stop),
            (BodyKind::Python { .. }, None) => {
                let why = "this node executes no Python functions".to_owned();
                std::future::ready(Ran::only(Outcome::NotStarted { why })).boxed()
            }
        }
    }

    fn ended(&mut self, ended: Result<(Attempt, Ran), tokio::task::JoinError>) {
        let now = self.now();
        match ended {
            Ok((attempt, ran)) => {
                self.stops.remove(&attempt);
                self.deadlines.remove(&attempt);
                self.worker.ended(attempt, ran, now);
                for (attempt, left) in self.worker.time_left(attempt.job, now) {
                    self.deadlines.insert(attempt, Instant::now() + left);
                }
            }
            Err(error) => {
                tracing::error!(%error, "a task's body panicked");
                // Which one is not said: the one that runs without a task.
                let gone = self
                    .worker
                    .running()
                    .find(|attempt| self.stops.get(attempt).is_none_or(watch::Sender::is_closed));
                if let Some(attempt) = gone {
                    self.stops.remove(&attempt);
                    self.deadlines.remove(&attempt);
                    self.worker.ended(attempt, Ran::only(Outcome::Lost), now);
                }
            }
        }
    }

    /// Kills what has run for too long.
    fn expire(&mut self) {
        let now = Instant::now();
        let late: Vec<Attempt> =
            self.deadlines.iter().filter(|(_, at)| **at <= now).map(|(attempt, _)| *attempt).collect();
        for attempt in late {
            self.deadlines.remove(&attempt);
            self.kill(attempt, Stop::TimedOut);
        }
        let alone = self.worker.let_go(self.now());
        if !alone.is_empty() {
            tracing::warn!(attempts = alone.len(), "no master speaks: what runs here is killed");
        }
        for attempt in alone {
            self.kill(attempt, Stop::LetGo);
        }
    }

    fn kill(&self, attempt: Attempt, why: Stop) {
        if let Some(stop) = self.stops.get(&attempt) {
            stop.send_if_modified(|stop| {
                let first = stop.is_none();
                stop.get_or_insert(why);
                first
            });
        }
    }

    /// Sends a beat if one is due.
    fn speak(&mut self) {
        let now = Instant::now();
        let has_news = self.tells_at().is_some_and(|at| at <= now);
        let asks = self.beats.is_empty() && self.asks_at() <= now;
        let tells = self.beats.len() < BEATS && has_news;
        if !(asks || tells) {
            return;
        }
        let Some((asked, id)) = self.guide.target() else {
            self.rest_until = Instant::now() + PAUSE;
            return;
        };
        let beat = self.worker.beat(self.now());
        let body = codec::encode(&Ask::Beat(Box::new(beat)));
        self.asked = Some(asked);
        self.serial += 1;
        let serial = self.serial;
        let call = self.shared.endpoint.call(id, Lane::Request, SERVICE, body, IDLE_HOLD + PASSING);
        self.beats.push(call.map(move |told| Answer { asked, serial, told }).boxed());
    }

    fn answered(&mut self, Answer { asked, serial, told }: Answer) {
        if serial < self.valid_from {
            return;
        }
        let told = told.ok().and_then(|answer| codec::decode::<Told>(&answer, "answer").ok());
        match told {
            Some(Told::Orders(orders)) => {
                self.guide.confirmed(asked);
                if self.worker.meet(orders.reign) {
                    // It knows nothing of this worker yet.
                    self.forget_beats();
                }
                let now = self.now();
                for attempt in self.worker.obey(*orders, now) {
                    self.kill(attempt, Stop::Cancelled);
                }
            }
            Some(Told::NotMaster(leader)) => {
                self.guide.not_master(asked, leader);
                self.lose_master(leader.is_none());
            }
            _ => {
                self.guide.failed(asked);
                self.lose_master(true);
            }
        }
    }

    /// A master that answers nobody holds no answer back.
    fn doubt(&mut self, suspects: &BTreeSet<NodeNumber>) {
        if let Some(asked) = self.asked.filter(|asked| suspects.contains(asked)) {
            self.guide.failed(asked);
            self.lose_master(true);
        }
    }

    fn lose_master(&mut self, pause: bool) {
        self.worker.lost_master();
        self.forget_beats();
        if pause {
            self.rest_until = Instant::now() + PAUSE;
        }
    }

    fn forget_beats(&mut self) {
        self.beats.clear();
        self.valid_from = self.serial + 1;
    }
}
