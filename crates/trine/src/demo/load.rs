//! A steady load of writes and increments on keys of one partition, and the
//! audit after it. Clients retry nothing: what has no answer stays unanswered.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::ledger::{Audit, Ledger};
use crate::failure::Failure;
use crate::resp::{Client, ClientError, Value};

/// The tag that puts all measured keys into one partition.
pub const TAG: &str = "{measured}";
/// Clients per door.
const CLIENTS_PER_DOOR: usize = 4;
/// A request without an answer for this long counts as unanswered.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Pause before a client connects again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);
/// Keys that the audit reads in one go.
const AUDIT_WINDOW: usize = 256;

/// A load that runs.
#[derive(Debug)]
pub struct Load {
    began: Instant,
    stop: watch::Sender<bool>,
    clients: JoinSet<(usize, Ledger)>,
}

impl Load {
    /// Starts clients on every door.
    pub fn start(doors: &[SocketAddr]) -> Self {
        let began = Instant::now();
        let (stop, stopped) = watch::channel(false);
        let mut clients = JoinSet::new();
        for number in 0..doors.len() * CLIENTS_PER_DOOR {
            let worker = Worker {
                number,
                door: doors[number % doors.len()],
                began,
                ledger: Ledger::default(),
                sent: 0,
            };
            clients.spawn(worker.run(stopped.clone()));
        }
        Self { began, stop, clients }
    }

    /// Time since the load began.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Stops all clients and returns what they know, in their order.
    ///
    /// # Errors
    /// A client panicked.
    pub async fn finish(mut self) -> Result<Vec<Ledger>, Failure> {
        self.stop.send_replace(true);
        let mut ledgers = Vec::new();
        while let Some(ended) = self.clients.join_next().await {
            ledgers.push(ended.map_err(Failure::new)?);
        }
        ledgers.sort_by_key(|(number, _)| *number);
        Ok(ledgers.into_iter().map(|(_, ledger)| ledger).collect())
    }
}

fn counter_key(client: usize) -> String {
    format!("{TAG}:counter:{client}")
}

fn write_key(client: usize, number: u64) -> String {
    format!("{TAG}:write:{client}:{number}")
}

fn written_value(client: usize, number: u64) -> String {
    format!("client {client} wrote {number}")
}

struct Worker {
    number: usize,
    door: SocketAddr,
    began: Instant,
    ledger: Ledger,
    sent: u64,
}

impl Worker {
    async fn run(mut self, stopped: watch::Receiver<bool>) -> (usize, Ledger) {
        while !*stopped.borrow() {
            match Client::connect(self.door).await {
                // An error ends the connection, not the load.
                Ok(mut client) => {
                    let _ = self.use_connection(&mut client, &stopped).await;
                }
                Err(_) => tokio::time::sleep(RECONNECT_PAUSE).await,
            }
        }
        (self.number, self.ledger)
    }

    async fn use_connection(
        &mut self,
        client: &mut Client,
        stopped: &watch::Receiver<bool>,
    ) -> Result<(), ClientError> {
        let counter = counter_key(self.number);
        while !*stopped.borrow() {
            let reply = answer(client, &[b"INCR", counter.as_bytes()]).await;
            if let Ok(Value::Integer(_)) = reply {
                self.ledger.increments += 1;
                self.ledger.acknowledged_at.push(self.began.elapsed());
            } else {
                self.ledger.unanswered_increments += 1;
            }
            reply?;
            let number = self.sent;
            self.sent += 1;
            let (key, value) = (write_key(self.number, number), written_value(self.number, number));
            let reply = answer(client, &[b"SET", key.as_bytes(), value.as_bytes()]).await;
            if let Ok(Value::Simple(_)) = reply {
                self.ledger.writes.push(number);
                self.ledger.acknowledged_at.push(self.began.elapsed());
            } else {
                self.ledger.unanswered_writes += 1;
            }
            reply?;
        }
        Ok(())
    }
}

async fn answer(client: &mut Client, command: &[&[u8]]) -> Result<Value, ClientError> {
    match tokio::time::timeout(ANSWER_LIMIT, client.command(command)).await {
        Ok(reply) => reply,
        Err(_) => Err(client.broken(std::io::ErrorKind::TimedOut)),
    }
}

/// Compares what the ledgers say with what `door` answers.
///
/// # Errors
/// The node cannot be reached or refuses to answer.
pub async fn audit(ledgers: &[Ledger], door: SocketAddr) -> Result<Audit, Failure> {
    let mut client = Client::connect(door).await.map_err(Failure::new)?;
    let mut audit = Audit::default();
    for (number, ledger) in ledgers.iter().enumerate() {
        let counter = match client.command(&[b"GET", counter_key(number).as_bytes()]).await {
            Ok(Value::Bulk(text)) => {
                std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
            }
            Ok(Value::Nil) => 0,
            Ok(other) => return Err(Failure::new(format!("GET answered {other:?}"))),
            Err(error) => return Err(Failure::new(error)),
        };
        let missing = missing_writes(&mut client, number, ledger).await?;
        audit.add(ledger, counter, missing);
    }
    Ok(audit)
}

async fn missing_writes(client: &mut Client, number: usize, ledger: &Ledger) -> Result<u64, Failure> {
    let mut missing = 0;
    for window in ledger.writes.chunks(AUDIT_WINDOW) {
        for write in window {
            client.queue(&[b"GET", write_key(number, *write).as_bytes()]);
        }
        client.flush().await.map_err(Failure::new)?;
        for write in window {
            match client.reply().await.map_err(Failure::new)? {
                Value::Bulk(value) if value == written_value(number, *write).as_bytes() => {}
                Value::Bulk(_) | Value::Nil => missing += 1,
                other => return Err(Failure::new(format!("GET answered {other:?}"))),
            }
        }
    }
    Ok(missing)
}
