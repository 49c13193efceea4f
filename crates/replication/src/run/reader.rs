//! One task per group on every node that uses it: takes this node's queries
//! (and, at the leader, other nodes'), brings them to the leader, and answers
//! them there by `ReadIndex` (Ongaro's thesis, §6.4): one round that confirms
//! the leadership serves every query that waited when it began.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use openraft::ReadPolicy;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use trine_transport::{CallError, Lane};
use trine_types::limits::ELECTION_TIMEOUT_MAX;
use trine_types::{GroupId, NodeNumber};

use super::door::{Arrival, Came, Inbox};
use super::front::FrontEvent;
use super::server::QUERY;
use super::target::{Finder, Target};
use crate::apply::AppliedRow;
use crate::batch::{Content, MAX_PART_COMMANDS};
use crate::error::QueryError;
use crate::frames::{LeaderAnswer, encode_query};
use crate::gather::Gather;
use crate::handle::{Reply, Timing};
use crate::machine::{Answer, ReadTime};
use crate::node::{Local, Node, RETRY_PAUSE};
use crate::planted;

/// Queries to be answered together.
pub(crate) struct Ask {
    pub(crate) queries: Vec<Bytes>,
    pub(crate) asker: Asker,
    pub(crate) since: Instant,
}

impl Arrival for Ask {
    fn is_single(&self) -> bool {
        matches!(self.asker, Asker::Here(_))
    }
}

/// Who asked.
pub(crate) enum Asker {
    /// A caller on this node, with one query.
    Here(oneshot::Sender<Result<Reply, QueryError>>),
    /// Another node, which takes this one for the leader.
    There(oneshot::Sender<LeaderAnswer<Bytes>>),
}

/// Asks that are taken in one go.
const DRAIN: usize = 1024;
/// Rounds or frames under way at once: one, so that a round serves whoever
/// came during the one before.
const UNDER_WAY: usize = 1;
/// How long asks wait at most before they are looked at, when a round takes
/// long.
const REST: Duration = Duration::from_millis(2);
/// Queries in one frame, and bytes unless a single one is larger.
const FRAME_QUERIES: usize = 512;
const FRAME_BYTES: usize = 512 * 1024;

/// A round or frame that came back.
enum Finished {
    /// Everyone was told: so many queries were answered.
    Done { answered: usize },
    /// These have to be asked again: the node asked does not lead.
    Again { asks: Vec<Ask>, asked: NodeNumber, leader: Option<NodeNumber>, lost: bool },
}

/// See the module.
pub(crate) struct Reader {
    node: Arc<Node>,
    group: GroupId,
    finder: Finder,
    target: Target,
    waiting: VecDeque<Ask>,
    under_way: FuturesUnordered<BoxFuture<'static, (u64, Finished)>>,
    /// Counts targets: a round that hangs at an earlier one must not hold up
    /// those to the present one.
    generation: u64,
    /// Rounds of this generation under way.
    present: usize,
    hold_until: Option<Instant>,
    gather: Gather,
    /// Until when the next round waits for how many more queries.
    company: Option<(Instant, usize)>,
    /// Asks stay in the inbox until then, or until the bell rings.
    rest_until: Option<Instant>,
}

impl Reader {
    pub(crate) fn new(node: &Arc<Node>, group: GroupId, finder: Finder) -> Self {
        Self {
            node: node.clone(),
            group,
            finder,
            target: Target::Nobody,
            waiting: VecDeque::new(),
            under_way: FuturesUnordered::new(),
            generation: 0,
            present: 0,
            hold_until: None,
            gather: Gather::default(),
            company: None,
            rest_until: None,
        }
    }

    /// Queries that wait for a round.
    fn queries(&self) -> usize {
        self.waiting.iter().map(|ask| ask.queries.len()).sum()
    }

    /// While a round is under way, or the next one waits for company, more
    /// asks gather in the inbox without waking this task for each.
    fn rest(&mut self, inbox: &Inbox<Ask>) {
        let under_way = self.present >= UNDER_WAY;
        let company = self.company.map(|(until, _)| until);
        self.rest_until = company.or_else(|| under_way.then(|| Instant::now() + REST));
        inbox.ring_at(self.company.map(|(_, missing)| missing));
    }

    fn retarget(&mut self) {
        let before = self.target.number(self.node.number);
        self.target = self.finder.target();
        if self.target.number(self.node.number) != before {
            self.hold_until = None;
            self.generation += 1;
            self.present = 0;
        }
        if !matches!(self.target, Target::Here(_)) {
            let leader = self.target.number(self.node.number);
            self.waiting.retain_mut(|ask| !refuse_foreign(ask, leader));
        }
    }

    fn take(&mut self, mut ask: Ask) {
        let foreign_elsewhere = !matches!(self.target, Target::Here(_));
        if foreign_elsewhere && refuse_foreign(&mut ask, self.target.number(self.node.number)) {
            return;
        }
        self.waiting.push_back(ask);
    }

    fn finished(&mut self, (generation, finished): (u64, Finished)) {
        if generation == self.generation {
            self.present -= 1;
        }
        let (asks, asked, leader, lost) = match finished {
            Finished::Again { asks, asked, leader, lost } => (asks, asked, leader, lost),
            Finished::Done { answered } => {
                return self.gather.came_back(Instant::now(), answered, self.queries());
            }
        };
        if asked != self.node.number {
            if lost {
                self.finder.failed(asked);
            } else {
                self.finder.not_leader(asked, leader);
            }
        }
        for ask in asks.into_iter().rev() {
            self.waiting.push_front(ask);
        }
        let hold_until = Some(Instant::now() + RETRY_PAUSE / 2);
        self.hold_until = hold_until;
        self.retarget();
        if leader.is_none() {
            // Nobody was named: those whose turn it is may all be down.
            self.hold_until = hold_until;
        }
    }

    fn expire(&mut self) {
        let (now, deadline) = (Instant::now(), self.node.config.query_deadline);
        while self.waiting.front().is_some_and(|ask| ask.since + deadline <= now) {
            if let Some(ask) = self.waiting.pop_front() {
                give_up(ask, self.group);
            }
        }
    }

    fn pump(&mut self) {
        self.expire();
        if self.hold_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        self.hold_until = None; // also if nobody waits: a moment in the past wakes without end
        self.company = None;
        if self.present < UNDER_WAY && !matches!(self.target, Target::Nobody) {
            self.company = self.gather.wait(Instant::now(), self.queries());
        }
        if self.company.is_some() {
            return;
        }
        while self.present < UNDER_WAY && !self.waiting.is_empty() {
            let round: BoxFuture<'static, Finished> = match self.target.clone() {
                Target::Nobody => {
                    self.hold_until = Some(Instant::now() + RETRY_PAUSE);
                    return;
                }
                Target::Here(local) => {
                    let count = self.waiting.len().min(MAX_PART_COMMANDS);
                    let asks = self.waiting.drain(..count).collect();
                    answer_here(self.node.clone(), local, self.group, asks).boxed()
                }
                Target::There(asked, key) => {
                    let asks = self.frame();
                    let queries: Vec<Bytes> = asks.iter().flat_map(|ask| ask.queries.clone()).collect();
                    let body = encode_query(self.group, &queries);
                    let deadline = self.node.config.frame_deadline;
                    let call = self.node.endpoint.call(key, Lane::Request, QUERY, body, deadline);
                    call.map(move |answer| answered_there(asks, asked, answer)).boxed()
                }
            };
            self.gather.left(Instant::now());
            let generation = self.generation;
            self.under_way.push(round.map(move |finished| (generation, finished)).boxed());
            self.present += 1;
        }
    }

    fn frame(&mut self) -> Vec<Ask> {
        let (mut count, mut bytes) = (0, 0);
        let mut asks = Vec::new();
        while let Some(next) = self.waiting.front() {
            let size = next.queries.iter().map(Bytes::len).sum::<usize>();
            let full = count >= FRAME_QUERIES || bytes + size > FRAME_BYTES;
            if full && !asks.is_empty() {
                break;
            }
            count += next.queries.len();
            bytes += size;
            asks.extend(self.waiting.pop_front());
        }
        asks
    }
}

/// Answers an ask of another node with "not the leader"; `false` if it is ours.
fn refuse_foreign(ask: &mut Ask, leader: Option<NodeNumber>) -> bool {
    let Asker::There(reply) = &mut ask.asker else { return false };
    let (nobody, _) = oneshot::channel();
    let _ = std::mem::replace(reply, nobody).send(LeaderAnswer::NotLeader(leader));
    true
}

fn give_up(ask: Ask, group: GroupId) {
    match ask.asker {
        Asker::Here(reply) => drop(reply.send(Err(QueryError::Unavailable(group)))),
        Asker::There(reply) => drop(reply.send(LeaderAnswer::NotLeader(None))),
    }
}

fn tell(ask: Ask, results: Vec<Bytes>, processing: Option<Duration>) {
    let total = ask.since.elapsed();
    match ask.asker {
        Asker::Here(reply) => {
            let timing = Timing {
                total,
                processing: processing.map_or(total, |processing| processing.min(total)),
                forwarded: processing.is_some(),
            };
            let body = results.into_iter().next().unwrap_or_default();
            // Whoever waited may have given up.
            let _ = reply.send(Ok(Reply { body, timing }));
        }
        Asker::There(reply) => drop(reply.send(LeaderAnswer::Results { processing: total, results })),
    }
}

fn answered_there(asks: Vec<Ask>, asked: NodeNumber, answer: Result<Bytes, CallError>) -> Finished {
    let lost = |asks| Finished::Again { asks, asked, leader: None, lost: true };
    let Ok(bytes) = answer else { return lost(asks) };
    match LeaderAnswer::<Bytes>::decode(bytes) {
        Err(_) => lost(asks),
        Ok(LeaderAnswer::NotLeader(leader)) => Finished::Again { asks, asked, leader, lost: false },
        Ok(LeaderAnswer::Results { processing, results }) => {
            let expected: usize = asks.iter().map(|ask| ask.queries.len()).sum();
            if results.len() != expected {
                return lost(asks);
            }
            let mut results = results.into_iter();
            for ask in asks {
                let own = results.by_ref().take(ask.queries.len()).collect();
                tell(ask, own, Some(processing));
            }
            Finished::Done { answered: expected }
        }
    }
}

/// Confirms that this node still leads and that its state is as new as any
/// acknowledgement. `false`: it does not lead (or has no quorum).
async fn confirm(local: &Local) -> bool {
    if planted::active(planted::READ_WITHOUT_QUORUM) {
        return true;
    }
    let question = local.question();
    match local.raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
        Ok(linearizer) => {
            if timeout(ELECTION_TIMEOUT_MAX, local.acks.proven(&question)).await.is_err() {
                return false;
            }
            let mut applied = local.replica.watch_applied();
            let index = linearizer.read_log_id().index();
            let reached = |row: &AppliedRow| row.last.is_some_and(|last| last.index >= index);
            applied.wait_for(reached).await.is_ok()
        }
        Err(_) => false,
    }
}

/// Runs queries on one view; the moment that state time has to reach for
/// those which need it, if any.
fn query_all(local: &Local, queries: &[Bytes], wall_ms: u64) -> Result<Result<Vec<Bytes>, u64>, QueryError> {
    let view = local.replica.keyspace().view();
    let row = AppliedRow::read(&*view).map_err(|error| QueryError::Storage(error.to_string()))?;
    let time = ReadTime { state_ms: row.time_ms, wall_ms: wall_ms.max(row.time_ms) };
    let mut replies = Vec::with_capacity(queries.len());
    let mut needed = None;
    for query in queries {
        match local.machine.query(&*view, time, query) {
            Answer::Reply(reply) => replies.push(reply),
            Answer::NeedsTime(moment) => needed = needed.max(Some(moment)),
        }
    }
    Ok(needed.map_or(Ok(replies), Err))
}

async fn answer_here(node: Arc<Node>, local: Arc<Local>, group: GroupId, asks: Vec<Ask>) -> Finished {
    let me = node.number;
    let again = |asks| Finished::Again { asks, asked: me, leader: None, lost: false };
    let queries: Arc<Vec<Bytes>> = Arc::new(asks.iter().flat_map(|ask| ask.queries.clone()).collect());
    let deadline = Instant::now() + node.config.query_deadline;
    if !confirm(&local).await {
        return again(asks);
    }
    loop {
        let wall_ms = node.clock.wall_ms();
        let (source, asked) = (local.clone(), queries.clone());
        let result = node.workers.run(move || query_all(&source, &asked, wall_ms)).await;
        match result {
            Ok(Ok(Ok(replies))) => {
                let answered = replies.len();
                let mut replies = replies.into_iter();
                for ask in asks {
                    let own = replies.by_ref().take(ask.queries.len()).collect();
                    tell(ask, own, None);
                }
                return Finished::Done { answered };
            }
            Ok(Ok(Err(moment))) => {
                if Instant::now() > deadline || !tick(&node, &local, group, moment).await {
                    return again(asks);
                }
            }
            Ok(Err(error)) => {
                tracing::error!(%group, %error, "queries failed");
                return again(asks);
            }
            Err(lost) => {
                tracing::error!(%group, error = %lost, "queries were lost");
                return again(asks);
            }
        }
    }
}

/// Commits an entry that brings state time to `moment`, once it has passed.
async fn tick(node: &Arc<Node>, local: &Local, group: GroupId, moment: u64) -> bool {
    if local.replica.applied().time_ms >= moment {
        return true; // another read's tick did it
    }
    let wait = moment.saturating_sub(node.clock.wall_ms());
    if wait > 0 {
        tokio::time::sleep(Duration::from_millis(wait).min(node.config.query_deadline)).await;
    }
    let (done, finished) = oneshot::channel();
    let content = Content::Commands(Vec::new());
    let Some(route) = node.known_route(group) else { return false };
    let event = FrontEvent::Control { at_least_ms: moment, content, done };
    route.front.send(event).await && finished.await.is_ok()
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Runs until the route is dropped.
pub(crate) async fn run(mut reader: Reader, mut inbox: Inbox<Ask>) {
    let mut asks = Vec::with_capacity(DRAIN);
    reader.retarget();
    loop {
        let wake_at = [reader.hold_until, reader.rest_until].into_iter().flatten().min();
        let mut finished = None;
        tokio::select! {
            biased;
            Some(came_back) = reader.under_way.next(), if !reader.under_way.is_empty() => {
                finished = Some(came_back);
            }
            () = reader.finder.changed() => reader.retarget(),
            came = inbox.next(reader.rest_until.is_some(), &mut asks, DRAIN) => match came {
                Came::End => break,
                Came::Bell => {}
                Came::Arrivals => asks.drain(..).for_each(|ask| reader.take(ask)),
            },
            () = sleep_until(wake_at) => {
                if reader.hold_until.is_some() {
                    reader.retarget();
                }
            }
        }
        // Whatever woke this task: what has gathered meanwhile is taken with it.
        while let Some(ask) = inbox.try_recv() {
            reader.take(ask);
        }
        if let Some(finished) = finished {
            reader.finished(finished);
        }
        reader.pump();
        reader.rest(&inbox);
    }
    for ask in reader.waiting {
        match ask.asker {
            Asker::Here(reply) => drop(reply.send(Err(QueryError::ShutDown))),
            Asker::There(reply) => drop(reply.send(LeaderAnswer::NotLeader(None))),
        }
    }
}
