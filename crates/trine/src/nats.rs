//! The NATS door of a node: what the product puts around
//! [`trine_mesh::nats`]: settings, listeners, and where else clients may go.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use trine_cluster::MetaState;
use trine_front::{Limits, Listener, Listeners, Login, TlsAcceptor};
use trine_mesh::Bus;
use trine_mesh::nats::{
    Config, Entrance, Nats, PROTOCOL_OF, Parts, ServerInfo, TOO_MANY_CONNECTIONS, TlsFirst,
};
use trine_types::NodeNumber;

use crate::config::ValidConfig;
use crate::failure::Failure;
use crate::seams::{OsEntropy, SystemClock};
use crate::surfaces::{NATS, WEBSOCKET};

/// Name of the NATS door in `meta`.
pub const NATS_DOOR: &str = "nats";
/// Name in `meta` of NATS over WebSocket.
pub const WEBSOCKET_DOOR: &str = "websocket";

/// How long clients may take to leave by themselves when the node stops.
const LEAVE_LIMIT: Duration = Duration::from_secs(1);

/// Ports that are listened on, before the node is up.
pub struct Bound {
    /// For clients.
    pub clients: Listener,
    /// For clients in browsers.
    pub websocket: Option<Listener>,
}

/// Opens the ports.
///
/// # Errors
/// One is taken, or may not be listened on.
pub fn bind(config: &ValidConfig, front: &Handle) -> Result<Bound, Failure> {
    let most = config.limits.max_clients;
    let limits = Limits { max_connections: most, max_per_source: most, ..Limits::default() };
    let limits = limits.fitted_to_open_files();
    let _runtime = front.enter();
    let open = |surface, address, flag| {
        let exposure = config.surfaces.exposure(surface);
        Listeners::bind(surface, address, exposure, limits.clone(), TOO_MANY_CONNECTIONS)
            .map_err(|error| Failure::new(error).hint(format!("choose another address with {flag} ADDR")))
    };
    let clients = open(NATS, config.nats, "--nats")?;
    let websocket = config.websocket.map(|address| open(WEBSOCKET, address, "--websocket")).transpose()?;
    Ok(Bound { clients, websocket })
}

impl Bound {
    /// Where the ports are, by their names in `meta`.
    pub fn doors(&self) -> Vec<(String, SocketAddr)> {
        let websocket = self.websocket.as_ref().map(|listener| (WEBSOCKET_DOOR, listener.local_addr()));
        let clients = (NATS_DOOR, self.clients.local_addr());
        [Some(clients), websocket].into_iter().flatten().map(|(name, at)| (name.to_owned(), at)).collect()
    }
}

/// What the door of a node stands on.
pub struct NodeParts {
    /// Where messages go.
    pub bus: Bus,
    /// Who may come in.
    pub login: Arc<dyn Login>,
    /// The nodes of the cluster and their doors, as of now and later.
    pub meta: watch::Receiver<Arc<MetaState>>,
    /// This node's number.
    pub number: NodeNumber,
}

/// The open door of a node.
pub struct NatsDoor {
    nats: Nats,
    tasks: Vec<JoinHandle<()>>,
    following: JoinHandle<()>,
}

impl NatsDoor {
    /// Lets clients in.
    ///
    /// # Errors
    /// A certificate cannot be used.
    pub fn open(
        config: &ValidConfig,
        bound: Bound,
        parts: NodeParts,
        front: &Handle,
    ) -> Result<Self, Failure> {
        let settings = Config::default();
        let address = bound.clients.local_addr();
        let server = ServerInfo {
            server_id: format!("{}-{}", config.name, parts.number),
            server_name: config.name.clone(),
            version: PROTOCOL_OF,
            proto: 1,
            go: concat!("trine ", env!("CARGO_PKG_VERSION")),
            host: address.ip().to_string(),
            port: address.port(),
            headers: true,
            max_payload: settings.max_payload,
            jetstream: false,
            cluster: None,
        };
        let nats = Nats::new(Parts {
            bus: parts.bus,
            login: parts.login,
            config: settings.validate().map_err(Failure::new)?,
            server,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(OsEntropy),
        });
        let mut tasks = Vec::new();
        let entrance = match encryption(config, NATS, &config.data, address)? {
            Some(acceptor) => Entrance::Tls { acceptor, verify: false, first: TlsFirst::No },
            None => Entrance::Plain,
        };
        tasks.push(front.spawn(nats.clone().serve(bound.clients, entrance)));
        if let Some(listener) = bound.websocket {
            let tls = encryption(config, WEBSOCKET, &config.data, listener.local_addr())?;
            tasks.push(front.spawn(nats.clone().serve(listener, Entrance::WebSocket(tls))));
        }
        let following = front.spawn(follow(nats.clone(), parts.meta, parts.number));
        Ok(Self { nats, tasks, following })
    }

    /// How many clients are connected.
    pub fn connections(&self) -> impl Fn() -> usize + Send + Sync + 'static {
        let nats = self.nats.clone();
        move || nats.connections()
    }

    /// Asks clients to go to another node.
    pub fn lame_duck(&self) {
        self.nats.lame_duck();
    }

    /// Closes the door: what waits for clients is still written.
    pub async fn close(self) {
        self.following.abort();
        self.nats.shut_down();
        let ended = async {
            for task in self.tasks {
                // A panic in it was told of already.
                let _ = task.await;
            }
        };
        // Who does not read is cut off by the end of the process.
        let _ = tokio::time::timeout(LEAVE_LIMIT, ended).await;
    }
}

fn encryption(
    config: &ValidConfig,
    surface: &'static str,
    data: &Path,
    address: SocketAddr,
) -> Result<Option<TlsAcceptor>, Failure> {
    config
        .surfaces
        .encryption(surface, data, (&config.name, address))
        .map_err(|error| Failure::new(format!("{surface} cannot be encrypted: {error}")))
}

/// Tells clients of the doors of all nodes, this one's first.
async fn follow(nats: Nats, mut meta: watch::Receiver<Arc<MetaState>>, own: NodeNumber) {
    loop {
        let (urls, websockets) = {
            let now = meta.borrow_and_update();
            let of = |door: &str| {
                let mut nodes: Vec<_> = now.nodes.values().collect();
                nodes.sort_by_key(|node| (node.number != own, node.number));
                let doors = nodes.into_iter().filter_map(|node| node.clients.get(door));
                doors.map(SocketAddr::to_string).collect::<Vec<_>>()
            };
            (of(NATS_DOOR), of(WEBSOCKET_DOOR))
        };
        nats.set_topology(urls, websockets);
        if meta.changed().await.is_err() {
            return;
        }
    }
}
