//! The nodes meet: through the NATS door of each node a client sends every
//! other a message and a request, cold (over a connection that is opened for
//! it) and warm; one publish reaches subscribers on all. Everything is timed on
//! this process's clock, in the parts of `T = T_c + T_m`: opening the
//! connection, passing the message.

use std::net::SocketAddr;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::messenger::Messenger;
use super::timing::Quantiles;
use super::{count_bar, micros};
use crate::failure::Failure;

/// Messages and requests of each kind from each node to each other.
const COLD: usize = 50;
const WARM: usize = 300;
/// Bytes of a message.
const PAYLOAD: [u8; 256] = [b'm'; 256];
/// How long nodes may take to hear of each other's subscriptions.
const MEET_LIMIT: Duration = Duration::from_secs(10);
/// How long one try to meet waits for its answer.
const TRY_LIMIT: Duration = Duration::from_millis(200);
/// How long a message may take.
const MESSAGE_LIMIT: Duration = Duration::from_secs(5);
/// How long a second copy of a message would have time to come.
const COPY_LIMIT: Duration = Duration::from_millis(300);
/// Longest time that is told apart, in microseconds.
const LONGEST_US: u64 = 60_000_000;

/// What the meeting showed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MeetingReport {
    /// Ordered pairs of different nodes.
    pub pairs: usize,
    /// Pairs of which every message and every request arrived.
    pub complete: usize,
    /// `T = T_c + T_m`.
    pub timing: Vec<MessageRow>,
    /// What became of one publish on node 1.
    pub reached: Vec<Reached>,
}

/// One kind of exchange.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MessageRow {
    /// `message` (one way) or `request` (there and back).
    pub what: &'static str,
    /// Whether a connection was opened for each.
    pub cold: bool,
    /// How many were measured.
    pub count: u64,
    /// `T`.
    pub total: Quantiles,
    /// `T_c`, opening the connection.
    pub connection: Quantiles,
    /// `T_m`, passing the message.
    pub message: Quantiles,
}

/// A subscriber of the one publish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reached {
    /// Its node, from 1.
    pub node: usize,
    /// How long the message took; absent: it did not come.
    pub after_us: Option<u64>,
    /// How often it came.
    pub copies: usize,
}

/// Times of one kind of exchange.
struct Collected {
    total: Histogram<u64>,
    connection: Histogram<u64>,
    message: Histogram<u64>,
}

impl Collected {
    fn new() -> Self {
        let empty = || Histogram::new_with_bounds(1, LONGEST_US, 3).expect("the bounds are in order");
        Self { total: empty(), connection: empty(), message: empty() }
    }

    fn add(&mut self, connection: Duration, message: Duration) {
        self.total.saturating_record(micros(connection + message));
        self.connection.saturating_record(micros(connection));
        self.message.saturating_record(micros(message));
    }

    fn row(&self, what: &'static str, cold: bool) -> MessageRow {
        let quantiles = |of: &Histogram<u64>| Quantiles {
            p50_us: of.value_at_quantile(0.5),
            p99_us: of.value_at_quantile(0.99),
        };
        MessageRow {
            what,
            cold,
            count: self.total.len(),
            total: quantiles(&self.total),
            connection: quantiles(&self.connection),
            message: quantiles(&self.message),
        }
    }
}

/// Lets the nodes behind these doors meet.
///
/// # Errors
/// A node cannot be reached, or messages do not arrive.
pub async fn show(doors: &[SocketAddr]) -> Result<MeetingReport, Failure> {
    let pairs: Vec<(usize, usize)> = (0..doors.len())
        .flat_map(|from| (0..doors.len()).map(move |to| (from, to)))
        .filter(|(from, to)| from != to)
        .collect();
    let bar = count_bar((pairs.len() * (COLD + WARM) * 2) as u64, "measuring T = T_c + T_m");
    let mut answering = JoinSet::new();
    for (node, door) in doors.iter().enumerate() {
        let mut messenger = Messenger::connect(*door).await?.0;
        messenger.subscribe(&format!("demo.ask.{node}")).await?;
        answering.spawn(answer(messenger));
    }
    let mut kinds = [Collected::new(), Collected::new(), Collected::new(), Collected::new()];
    let mut complete = 0;
    for (from, to) in &pairs {
        let mut pair = Pair::meet(doors, *from, *to).await?;
        let mut arrived = 0;
        for _ in 0..COLD {
            let (mut fresh, connection) = Messenger::connect(doors[*from]).await?;
            arrived += take(&mut kinds[0], connection, pair.message(&mut fresh).await?);
            // The first answer needs its subscription: part of the connection.
            let began = Instant::now();
            fresh.subscribe(&pair.inbox("cold")).await?;
            let connection = connection + began.elapsed();
            arrived += take(&mut kinds[2], connection, pair.request(&mut fresh, "cold").await?);
            bar.inc(2);
        }
        for _ in 0..WARM {
            let mut kept = pair.kept.take().ok_or_else(|| Failure::new("the connection is in use"))?;
            arrived += take(&mut kinds[1], Duration::ZERO, pair.message(&mut kept).await?);
            arrived += take(&mut kinds[3], Duration::ZERO, pair.request(&mut kept, "warm").await?);
            pair.kept = Some(kept);
            bar.inc(2);
        }
        complete += usize::from(arrived == 2 * (COLD + WARM));
    }
    let reached = publish_to_all(doors).await?;
    bar.finish_and_clear();
    let names = [("message", true), ("message", false), ("request", true), ("request", false)];
    let timing = kinds.iter().zip(names).map(|(kind, (what, cold))| kind.row(what, cold)).collect();
    Ok(MeetingReport { pairs: pairs.len(), complete, timing, reached })
}

/// Notes an exchange that arrived; how many that is.
fn take(kind: &mut Collected, connection: Duration, message: Option<Duration>) -> usize {
    message.map_or(0, |message| {
        kind.add(connection, message);
        1
    })
}

/// Answers requests with what they said, until dropped.
async fn answer(mut messenger: Messenger) -> Result<(), Failure> {
    loop {
        let request = messenger.wait().await?;
        if let Some(reply) = request.reply {
            messenger.publish(&reply, "", &request.payload).await?;
        }
    }
}

/// A node that sends and one that receives.
struct Pair {
    from: usize,
    to: usize,
    receiver: Messenger,
    /// The connection that is kept open at the sending node.
    kept: Option<Messenger>,
}

impl Pair {
    /// Ready once messages of one reach the other.
    async fn meet(doors: &[SocketAddr], from: usize, to: usize) -> Result<Self, Failure> {
        let mut receiver = Messenger::connect(doors[to]).await?.0;
        receiver.subscribe(&format!("demo.tell.{from}.{to}")).await?;
        let kept = Messenger::connect(doors[from]).await?.0;
        let mut pair = Self { from, to, receiver, kept: None };
        let mut kept = kept;
        kept.subscribe(&pair.inbox("warm")).await?;
        let deadline = Instant::now() + MEET_LIMIT;
        loop {
            kept.publish(&format!("demo.tell.{from}.{to}"), "", b"hello").await?;
            let heard = pair.receiver.next(TRY_LIMIT).await?.is_some();
            kept.publish(&format!("demo.ask.{to}"), &pair.inbox("warm"), b"hello").await?;
            if kept.next(TRY_LIMIT).await?.is_some() && heard {
                break;
            }
            if Instant::now() > deadline {
                let what = format!("messages of node {} do not reach node {}", from + 1, to + 1);
                return Err(Failure::new(what));
            }
        }
        // What a slow first try sent may still come.
        while pair.receiver.next(TRY_LIMIT).await?.is_some() {}
        while kept.next(TRY_LIMIT).await?.is_some() {}
        pair.kept = Some(kept);
        Ok(pair)
    }

    fn inbox(&self, kind: &str) -> String {
        format!("demo.inbox.{kind}.{}.{}", self.from, self.to)
    }

    /// One message from a sender; how long it took, if it came.
    async fn message(&mut self, sender: &mut Messenger) -> Result<Option<Duration>, Failure> {
        let began = Instant::now();
        sender.publish(&format!("demo.tell.{}.{}", self.from, self.to), "", &PAYLOAD).await?;
        let came = self.receiver.next(MESSAGE_LIMIT).await?;
        Ok(came.filter(|message| message.payload == PAYLOAD).map(|_| began.elapsed()))
    }

    /// One request and its answer.
    async fn request(&self, sender: &mut Messenger, inbox: &str) -> Result<Option<Duration>, Failure> {
        let began = Instant::now();
        sender.publish(&format!("demo.ask.{}", self.to), &self.inbox(inbox), &PAYLOAD).await?;
        let came = sender.next(MESSAGE_LIMIT).await?;
        Ok(came.filter(|message| message.payload == PAYLOAD).map(|_| began.elapsed()))
    }
}

/// One publish on the first node, subscribers on all.
async fn publish_to_all(doors: &[SocketAddr]) -> Result<Vec<Reached>, Failure> {
    let mut subscribers = Vec::new();
    for door in doors {
        let mut subscriber = Messenger::connect(*door).await?.0;
        subscriber.subscribe("demo.all").await?;
        subscribers.push(subscriber);
    }
    let mut publisher = Messenger::connect(doors[0]).await?.0;
    let deadline = Instant::now() + MEET_LIMIT;
    loop {
        publisher.publish("demo.all", "", b"hello").await?;
        let tries = subscribers.iter_mut().map(|subscriber| subscriber.next(TRY_LIMIT));
        let heard = futures::future::try_join_all(tries).await?;
        if heard.iter().all(Option::is_some) || Instant::now() > deadline {
            break;
        }
    }
    for subscriber in &mut subscribers {
        while subscriber.next(TRY_LIMIT).await?.is_some() {}
    }
    let began = Instant::now();
    publisher.publish("demo.all", "", &PAYLOAD).await?;
    let listening = subscribers.iter_mut().enumerate().map(|(at, subscriber)| async move {
        let first = subscriber.next(MESSAGE_LIMIT).await?;
        let after_us = first.map(|_| micros(began.elapsed()));
        let mut copies = usize::from(after_us.is_some());
        while subscriber.next(COPY_LIMIT).await?.is_some() {
            copies += 1;
        }
        Ok(Reached { node: at + 1, after_us, copies })
    });
    futures::future::try_join_all(listening).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_row_sum_to_its_total() {
        let mut kind = Collected::new();
        kind.add(Duration::from_micros(300), Duration::from_micros(100));
        let row = kind.row("request", true);
        assert_eq!(row.total.p50_us, row.connection.p50_us + row.message.p50_us);
        assert_eq!(take(&mut kind, Duration::ZERO, None), 0);
        assert_eq!(kind.row("request", true).count, 1);
    }
}
