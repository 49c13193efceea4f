//! What one client does: a loop of requests to random nodes until told to
//! stop. Written values are unique, so that a read names its write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::client::Client;
use crate::door::{Answer, Door, Request};

/// Told to all clients when the load ends.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Ends the load: each client finishes its current request.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it has ended.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The keys of the register scenario: plain ones, and ones that lapse.
#[must_use]
pub fn register_keys() -> Vec<String> {
    ["r0", "r1", "r2", "lapse0", "lapse1", "lapse2", "lapse3"].map(str::to_owned).into()
}

/// The key of the counter scenario.
pub const COUNTER: &str = "count";
/// The key that is incremented through end-to-end exactly-once requests.
pub const ONCE: &str = "once";

/// Pause between the requests of a client, in milliseconds.
const THINK_MS: u64 = 30;

/// Values of client `index` start here, so that all writes differ.
fn first_value(index: usize) -> u64 {
    (index as u64 + 1) * 1_000_000
}

/// Reads, writes, swaps and deletes registers; `reads` of 100 requests read.
pub async fn use_registers<D: Door>(mut client: Client<D>, keys: Vec<String>, reads: u64, stop: Stop) {
    let mut value = first_value(client.index);
    let mut last_seen = 0;
    while !stop.stopped() {
        let node = client.any_node().await;
        let Some(key) = client.rng.pick(&keys).cloned() else { return };
        value += 1;
        let request = match client.rng.below(11) {
            _ if client.rng.percent(reads) => Request::Get { key },
            0..6 if key.starts_with("lapse") => {
                Request::SetFor { key, value, ttl_ms: client.rng.between(20, 600) }
            }
            0..6 => Request::Set { key, value },
            6..10 => Request::Swap { key, old: last_seen, new: value },
            _ => Request::Delete { key },
        };
        if let Answer::Value(Some(seen)) = client.ask(node, request).await {
            last_seen = seen;
        }
        client.think(THINK_MS).await;
    }
}

/// Increments and reads one counter.
pub async fn count<D: Door>(mut client: Client<D>, stop: Stop) {
    while !stop.stopped() {
        let node = client.any_node().await;
        let key = COUNTER.to_owned();
        let request =
            if client.rng.percent(70) { Request::Increment { key } } else { Request::Count { key } };
        client.ask(node, request).await;
        client.think(THINK_MS).await;
    }
}

/// Increments one counter exactly once per number, over any number of tries
/// at any node. Returns how many numbers were used.
pub async fn count_once<D: Door>(mut client: Client<D>, stop: Stop) -> u64 {
    let mut seq = 0;
    while !stop.stopped() {
        seq += 1;
        loop {
            let node = client.any_node().await;
            let (key, name) = (ONCE.to_owned(), format!("client-{}", client.index));
            let request = Request::IncrementOnce { key, client: name, seq };
            if let Answer::Count(_) = client.ask(node, request).await {
                break;
            }
            client.think(THINK_MS * 3).await;
        }
        client.think(THINK_MS).await;
    }
    seq
}

/// Asks for as long as it takes to get a definite answer. For the end of a
/// run, when the cluster must serve.
pub async fn insist<D: Door>(client: &mut Client<D>, request: Request) -> Answer {
    loop {
        let node = client.any_node().await;
        match client.ask(node, request.clone()).await {
            Answer::Unknown(_) | Answer::Refused(_) => client.think(THINK_MS).await,
            answer => return answer,
        }
    }
}
