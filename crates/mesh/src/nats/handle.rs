//! One door for clients of the NATS protocol: cheap to clone, held by whoever
//! opens, watches and closes it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use tokio::sync::watch;
use tokio::time::Instant;
use trine_front::login::Login;
use trine_front::tls::TlsAcceptor;
use trine_types::{Clock, Entropy};

use super::client::{Client, Traffic};
use super::config::ValidConfig;
use super::info::{ConnectionInfo, Info, Security, ServerInfo, Topology};
use super::monitor::{ConnReport, Connz, Subsz, Varz};
use super::run::Shown;
use crate::bus::Bus;

/// Bytes of chance that a client signs.
const NONCE_BYTES: usize = 11;

/// What reports say about credentials is about this machine's own clients.
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Clients that leave each second in lame duck mode, if there are few.
const LEAVE_EVERY: Duration = Duration::from_secs(1);

/// What a door stands on.
pub struct Parts {
    /// Where messages go.
    pub bus: Bus,
    /// Who may come in.
    pub login: Arc<dyn Login>,
    /// Settings.
    pub config: ValidConfig,
    /// What it says about itself.
    pub server: ServerInfo,
    /// Wall-clock time, for people.
    pub clock: Arc<dyn Clock>,
    /// Chance, for what clients sign.
    pub entropy: Arc<dyn Entropy>,
}

/// How clients come in through one listener.
#[derive(Debug, Clone)]
pub enum Entrance {
    /// As they are.
    Plain,
    /// Encrypted.
    Tls {
        /// With which certificate.
        acceptor: TlsAcceptor,
        /// Clients must show one of their own.
        verify: bool,
        /// Whether TLS comes before INFO.
        first: TlsFirst,
    },
    /// Inside a WebSocket, encrypted or not.
    WebSocket(Option<TlsAcceptor>),
}

/// Whether TLS comes before INFO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFirst {
    /// After it, as most clients expect.
    No,
    /// Before it.
    Always,
    /// Before it if the client begins within this time, else after it.
    Within(Duration),
}

/// What open connections are told.
#[derive(Debug, Clone, Default)]
pub(crate) struct News {
    /// Raised whenever INFO says something else.
    pub(crate) version: u64,
    /// Where else clients may connect.
    pub(crate) topology: Arc<Topology>,
    /// What becomes of the door.
    pub(crate) phase: Phase,
    /// Raised whenever rights may have changed.
    pub(crate) rights: u64,
}

/// What becomes of a door.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It is open.
    #[default]
    Open,
    /// It takes nobody any more, and those inside are to leave.
    LameDuck(Instant),
    /// Everybody must leave at once.
    Closing,
}

/// What all connections of a door share.
pub(crate) struct Shared {
    pub(crate) bus: Bus,
    pub(crate) login: Arc<dyn Login>,
    pub(crate) config: ValidConfig,
    pub(crate) news: watch::Sender<News>,
    server: ServerInfo,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    start_ms: u64,
    counted: AtomicU64,
    // Entered and left by the tasks of connections; looked at by people.
    clients: Mutex<Clients>,
}

#[derive(Default)]
struct Clients {
    open: BTreeMap<u64, Arc<Client>>,
    /// Of those that have left.
    traffic: Traffic,
    slow: u64,
}

/// A door. Cheap to clone.
#[derive(Clone)]
pub struct Nats {
    pub(crate) shared: Arc<Shared>,
}

impl Nats {
    /// A door that nobody comes through yet.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let start_ms = parts.clock.wall_ms();
        Self {
            shared: Arc::new(Shared {
                bus: parts.bus,
                login: parts.login,
                config: parts.config,
                news: watch::Sender::default(),
                server: parts.server,
                clock: parts.clock,
                entropy: parts.entropy,
                start_ms,
                counted: AtomicU64::new(0),
                clients: Mutex::default(),
            }),
        }
    }

    /// Tells clients where else they may connect.
    pub fn set_topology(&self, connect_urls: Vec<String>, ws_connect_urls: Vec<String>) {
        self.shared.news.send_if_modified(|news| {
            let topology = Topology { connect_urls, ws_connect_urls, ldm: news.topology.ldm };
            let changed = *news.topology != topology;
            if changed {
                news.topology = Arc::new(topology);
                news.version += 1;
            }
            changed
        });
    }

    /// Takes nobody any more and asks those inside to leave, all at their time.
    pub fn lame_duck(&self) {
        self.shared.news.send_if_modified(|news| {
            if news.phase != Phase::Open {
                return false;
            }
            news.phase = Phase::LameDuck(Instant::now());
            news.topology = Arc::new(Topology { ldm: true, ..(*news.topology).clone() });
            news.version += 1;
            true
        });
    }

    /// Closes all connections; what waits for them is written before.
    pub fn shut_down(&self) {
        self.shared.news.send_modify(|news| news.phase = Phase::Closing);
    }

    /// How many clients are connected.
    pub fn connections(&self) -> usize {
        self.shared.clients().open.len()
    }

    /// `/varz`, but for what only the process knows.
    pub fn varz(&self) -> Varz {
        let shared = &self.shared;
        let clients = shared.clients();
        let mut traffic = clients.traffic;
        for client in clients.open.values() {
            traffic.add(client.traffic());
        }
        let total = shared.counted.load(Ordering::Relaxed);
        Varz::new(&shared.server, &shared.config, shared.clock.wall_ms(), shared.start_ms)
            .with_clients(clients.open.len(), total, clients.slow, shared.bus.subscriptions())
            .with_traffic(traffic)
            .with_auth(shared.login.anonymous(LOOPBACK).is_none())
    }

    /// `/connz`.
    pub fn connz(&self, offset: usize, limit: usize) -> Connz {
        let shared = &self.shared;
        let now_ms = shared.clock.wall_ms();
        let clients = shared.clients();
        let shown = clients.open.values().skip(offset).take(limit);
        let shown = shown.map(|client| ConnReport::new(client, now_ms)).collect();
        Connz::new(&shared.server.server_id, now_ms, shown, clients.open.len(), offset, limit)
    }

    /// `/subsz`.
    pub fn subsz(&self) -> Subsz {
        let shared = &self.shared;
        Subsz::new(&shared.server.server_id, shared.clock.wall_ms(), shared.bus.subscriptions())
    }
}

impl std::fmt::Debug for Nats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nats").field("connections", &self.connections()).finish_non_exhaustive()
    }
}

impl Shared {
    fn clients(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a client that came.
    pub(crate) fn enter(&self, peer: std::net::SocketAddr) -> Arc<Client> {
        let cid = self.counted.fetch_add(1, Ordering::Relaxed) + 1;
        let client = Arc::new(Client::new(cid, peer, self.clock.wall_ms()));
        self.clients().open.insert(cid, client.clone());
        client
    }

    /// Notes that it has left.
    pub(crate) fn leave(&self, client: &Client) {
        let mut clients = self.clients();
        clients.open.remove(&client.cid);
        clients.traffic.add(client.traffic());
        clients.slow += u64::from(client.was_too_slow());
    }

    /// What a connection shows first.
    pub(crate) fn greeting(&self, client: &Client, mut security: Security) -> Shown {
        let mut chance = [0; NONCE_BYTES];
        self.entropy.fill(&mut chance);
        security.auth_required = self.login.anonymous(client.peer.ip()).is_none();
        Shown { nonce: BASE64URL_NOPAD.encode(&chance), security, version: 0 }
    }

    /// INFO as it is now.
    pub(crate) fn info_json(&self, client: &Client, greeting: &mut Shown) -> String {
        let news = self.news.borrow();
        greeting.version = news.version;
        let source = client.peer.ip().to_string();
        let nonce = greeting.security.auth_required.then_some(greeting.nonce.as_str());
        let connection = ConnectionInfo { client_id: client.cid, client_ip: &source, nonce };
        let info =
            Info { server: &self.server, security: greeting.security, connection, topology: &news.topology };
        info.to_json()
    }

    /// When a client is to leave, so that not all come to the other nodes at
    /// once.
    pub(crate) fn leaves_at(&self, cid: u64, since: Instant) -> Instant {
        let clients = self.clients();
        let count = u32::try_from(clients.open.len()).unwrap_or(u32::MAX).max(1);
        let before = u32::try_from(clients.open.range(..cid).count()).unwrap_or(u32::MAX);
        let every = (self.config.lame_duck_duration / count).min(LEAVE_EVERY);
        since + self.config.lame_duck_grace + every * before
    }
}
