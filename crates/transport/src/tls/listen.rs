//! Accepting connections. Strangers are bounded: so many handshakes at once,
//! in all and per source address; when there are too many, the oldest of the
//! greediest source goes, since an honest handshake takes milliseconds.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use super::admit::{Guest, Joiner, receive};
use super::transport::Shared;
use crate::transport::Connection;

/// Pause after the kernel refused to accept (out of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The handshakes under way, oldest first.
#[derive(Default)]
pub(super) struct Handshakes {
    next: u64,
    open: BTreeMap<u64, (IpAddr, AbortHandle)>,
}

impl Handshakes {
    /// Which handshake must go before one more of `source` may begin.
    fn victim(&self, source: IpAddr, per_source: usize, total: usize) -> Option<u64> {
        let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for (address, _) in self.open.values() {
            *counts.entry(*address).or_default() += 1;
        }
        let greediest = if counts.get(&source).is_some_and(|count| *count >= per_source) {
            source
        } else if self.open.len() >= total {
            counts.iter().max_by_key(|(_, count)| **count).map(|(address, _)| *address)?
        } else {
            return None;
        };
        self.open.iter().find(|(_, (address, _))| *address == greediest).map(|(serial, _)| *serial)
    }
}

/// What the accepting task owns.
struct Door {
    shared: Arc<Shared>,
    handshakes: Handshakes,
    shaking: JoinSet<(u64, Guest)>,
    joiners: BTreeMap<IpAddr, usize>,
    joining: JoinSet<IpAddr>,
    arrivals: mpsc::Sender<Connection>,
}

/// Accepts until `stop` becomes true.
pub(super) async fn accept_all(
    listener: TcpListener,
    shared: Arc<Shared>,
    arrivals: mpsc::Sender<Connection>,
    mut stop: watch::Receiver<bool>,
) {
    let mut door = Door {
        shared,
        handshakes: Handshakes::default(),
        shaking: JoinSet::new(),
        joiners: BTreeMap::new(),
        joining: JoinSet::new(),
        arrivals,
    };
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            Some(done) = door.shaking.join_next() => {
                // An aborted handshake was forgotten when it was aborted.
                if let Ok((serial, guest)) = done {
                    door.handshakes.open.remove(&serial);
                    door.welcome(guest);
                }
            }
            Some(done) = door.joining.join_next() => {
                if let Ok(source) = done {
                    door.joiner_left(source);
                }
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, source)) => door.begin(stream, source),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Ready once the transport was shut down.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // The sender lives as long as any task; if not, that is the end as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

impl Door {
    fn begin(&mut self, stream: TcpStream, source: SocketAddr) {
        let config = &self.shared.config;
        let (per_source, total) = (config.max_handshakes_per_source, config.max_handshakes);
        if let Some(victim) = self.handshakes.victim(source.ip(), per_source, total)
            && let Some((address, abort)) = self.handshakes.open.remove(&victim)
        {
            tracing::debug!(source = %address, "dropped the oldest handshake: too many at once");
            abort.abort();
        }
        let serial = self.handshakes.next;
        self.handshakes.next += 1;
        let shared = self.shared.clone();
        let abort = self.shaking.spawn(async move { (serial, receive(shared, stream, source).await) });
        self.handshakes.open.insert(serial, (source.ip(), abort));
    }

    fn welcome(&mut self, guest: Guest) {
        match guest {
            Guest::Node(connection) => {
                // A queue that is full means that nobody accepts any more.
                if let Err(error) = self.arrivals.try_send(connection) {
                    tracing::warn!(%error, "dropped a connection that nobody accepts");
                }
            }
            Guest::Joiner(joiner) => self.admit_joiner(joiner),
            Guest::Nobody => {}
        }
    }

    fn admit_joiner(&mut self, joiner: Box<Joiner>) {
        let config = &self.shared.config;
        let source = joiner.source().ip();
        let from_there = self.joiners.get(&source).copied().unwrap_or(0);
        let busy = from_there >= config.max_joins_per_source || self.joining.len() >= config.max_joins;
        *self.joiners.entry(source).or_default() += 1;
        let (shared, handler) = (self.shared.clone(), self.shared.join_handler());
        self.joining.spawn(async move {
            if busy {
                joiner.turn_away(shared).await;
            } else {
                joiner.answer(handler, shared).await;
            }
            source
        });
    }

    fn joiner_left(&mut self, source: IpAddr) {
        if let Some(count) = self.joiners.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.joiners.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_of_the_greediest_source_goes() {
        let mut handshakes = Handshakes::default();
        let (greedy, modest) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        for (serial, address) in [(0, modest), (1, greedy), (2, greedy), (3, greedy)] {
            let idle = tokio::spawn(async {});
            handshakes.open.insert(serial, (address, idle.abort_handle()));
        }
        assert_eq!(handshakes.victim(modest, 3, 10), None, "there is room");
        assert_eq!(handshakes.victim(greedy, 3, 10), Some(1), "it pays for its own");
        assert_eq!(handshakes.victim(modest, 3, 4), Some(1), "the greediest pays for others");
    }
}
