//! `trine start`: one node of the product. Settings, lock, runtimes and
//! signals are here; what a node is made of is in [`crate::node`].

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::Instant;
use tracing_subscriber::EnvFilter;
use trine_database::TOO_MANY_CONNECTIONS;
use trine_front::{Limits, Listener, Listeners, TlsAcceptor};
use trine_transport::Ticket;

use crate::admin::protocol;
use crate::admin::server::{AdminServer, Control};
use crate::cli::StartArgs;
use crate::config::{Config, ValidConfig, ValidThreads};
use crate::control::NodeControl;
use crate::dev::StopSignal;
use crate::failure::Failure;
use crate::http::HttpServer;
use crate::http::api::Api;
use crate::http::guard::{ClusterTokens, Gate, NodeToken};
use crate::http::jobs::Jobs;
use crate::http::limits::{self, HttpLimits};
use crate::http::metrics::node::NodeMeasures;
use crate::http::site::Site;
use crate::nats::{self, NatsDoor};
use crate::node::Node;
use crate::private::make_private;
use crate::seams::OsEntropy;
use crate::surfaces;

mod bring_up;
mod early;
mod hands;
mod ticket;
mod wakeful;

use early::{EarlyControl, Staged, Uncounted};
use wakeful::Wakeful;

pub(crate) use bring_up::resident_bytes;

/// File that a node keeps in its data directory once it belongs to a cluster.
pub const MEMBER_FILE: &str = "node/membership";

/// Longest wait for others to take over leaderships before a planned stop.
const HAND_OVER_LIMIT: Duration = Duration::from_secs(5);

/// Runs the node until it is told to stop.
///
/// # Errors
/// The settings or the data directory cannot be used, or the node fails.
pub fn run(args: &StartArgs) -> Result<(), Failure> {
    // A huge page costs 2 MiB where a heap of a few hundred KiB would do: an
    // idle node would be twice as large. An error: the kernel has none.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    if let Some(parent) = args.parent {
        die_with(parent)?;
    }
    use_small_pages();
    let config =
        Config::from_args(args).and_then(Config::validate).map_err(|error| Failure::new(error).usage())?;
    let ticket = args.join.as_deref().map(ticket::read_ticket).transpose()?;
    log_to_standard_error(&config.log);
    let wakeful = if config.threads.deep_idle { None } else { Wakeful::open() };
    let (raft, front) = runtimes(&config.threads, wakeful.as_ref())?;
    if let Some(wakeful) = wakeful {
        raft.spawn(wakeful.relax());
    }
    let clients = front.as_ref().unwrap_or(&raft).handle().clone();
    let outcome = raft.block_on(serve(config, ticket, &clients));
    for runtime in front.into_iter().chain([raft]) {
        runtime.shutdown_timeout(Duration::from_secs(1));
    }
    outcome
}

/// For consensus, and for clients unless one thread is to do both: with one
/// thread for each, every command would wake the other twice.
fn runtimes(
    threads: &ValidThreads,
    wakeful: Option<&Arc<Wakeful>>,
) -> Result<(Runtime, Option<Runtime>), Failure> {
    if (threads.raft, threads.front) == (1, 1) {
        return Ok((runtime("node", Builder::new_current_thread(), wakeful)?, None));
    }
    let several = |name, count| {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(count);
        runtime(name, builder, wakeful)
    };
    Ok((several("raft", threads.raft)?, Some(several("front", threads.front)?)))
}

fn runtime(
    name: &'static str,
    mut builder: Builder,
    wakeful: Option<&Arc<Wakeful>>,
) -> Result<Runtime, Failure> {
    if let Some(wakeful) = wakeful {
        wakeful.watch(&mut builder);
    }
    builder
        .max_blocking_threads(4)
        .thread_name(name)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start threads: {error}")))
}

/// Brings the node up, serves, and stops in order when told to.
async fn serve(config: ValidConfig, ticket: Option<Ticket>, front: &Handle) -> Result<(), Failure> {
    let mut stop = StopSignal::of_node()?;
    let began = Instant::now();
    let listener = bind_redis(&config, front)?;
    let http = Arc::new(bind_admin(&config, front)?);
    let bound = nats::bind(&config, front)?;
    let redis = listener.local_addr();
    make_private(&config.data)?;
    let tls = encryption(&config, surfaces::REDIS, redis)?;
    let up = tokio::select! {
        biased;
        () = stop.wait() => return Ok(()),
        up = bring_up::bring_up(&config, ticket, (redis, http.local_addr()), bound.doors()) => up?,
    };
    let (entered, peer) = up;
    let nats = bound.clients.local_addr();
    let doors = protocol::Doors {
        redis: redis.to_string(),
        nats: nats.to_string(),
        admin: http.local_addr().to_string(),
        peer: peer.to_string(),
    };
    let admin = Admin::start(&config, http, EarlyControl::new(&entered, doors.clone()), front)?;
    let node = tokio::select! {
        biased;
        () = stop.wait() => return Ok(()),
        node = entered.complete() => node.map_err(Failure::new)?,
    };
    for (surface, address) in [(surfaces::REDIS, redis), (surfaces::NATS, nats)] {
        let exposure = config.surfaces.exposure(surface);
        exposure
            .check_users(surface, address, node.logins.has_users())
            .map_err(|error| Failure::new(error).usage())?;
    }
    let door = open_nats(&config, bound, &node, front)?;
    crate::talk::copy::serve(&node.endpoint, &config.data);
    admin.go_on(&config, NodeControl::new(node.clone(), doors.clone()), (&node, &door));
    let serving = front.spawn(node.database.clone().serve(listener, tls));
    let number = node.cluster.number();
    tracing::info!(%number, %redis, %nats, admin = doors.admin, %peer, took = ?began.elapsed(), "serving");
    let failed = tokio::select! {
        biased;
        failed = node.failed() => Some(failed),
        () = stop.wait() => None,
    };
    if let Some(failed) = failed {
        return Err(Failure::new(failed));
    }
    tracing::info!("handing over and stopping");
    door.lame_duck();
    admin.http.stop().await;
    door.close().await;
    node.stop(HAND_OVER_LIMIT).await;
    serving.abort();
    drop(admin.socket);
    tracing::info!("stopped");
    Ok(())
}

/// What makes the connections of a surface encrypted, if anything does.
fn encryption(
    config: &ValidConfig,
    surface: &str,
    address: SocketAddr,
) -> Result<Option<TlsAcceptor>, Failure> {
    let tls = config.surfaces.encryption(surface, &config.data, (&config.name, address));
    tls.map_err(|error| Failure::new(format!("{surface} cannot be encrypted: {error}")))
}

fn bind_redis(config: &ValidConfig, front: &Handle) -> Result<Listener, Failure> {
    let limits = Limits {
        max_connections: config.limits.max_clients,
        max_per_source: config.limits.max_clients,
        ..Limits::default()
    };
    let _runtime = front.enter();
    Listeners::bind(
        surfaces::REDIS,
        config.redis,
        config.surfaces.exposure(surfaces::REDIS),
        limits.fitted_to_open_files(),
        TOO_MANY_CONNECTIONS,
    )
    .map_err(|error| Failure::new(error).hint("choose another address with --redis ADDR"))
}

fn bind_admin(config: &ValidConfig, front: &Handle) -> Result<Listener, Failure> {
    let _runtime = front.enter();
    Listeners::bind(
        surfaces::ADMIN,
        config.admin,
        config.surfaces.exposure(surfaces::ADMIN),
        HttpLimits::default().of_listener(),
        limits::TOO_MANY_CONNECTIONS,
    )
    .map_err(|error| Failure::new(error).hint("choose another address with --admin ADDR"))
}

/// Lets NATS clients in.
fn open_nats(
    config: &ValidConfig,
    bound: nats::Bound,
    node: &Node,
    front: &Handle,
) -> Result<NatsDoor, Failure> {
    let parts = nats::NodeParts {
        bus: node.mesh.bus().clone(),
        login: Arc::new(node.logins.clone()),
        meta: node.cluster.meta(),
        number: node.cluster.number(),
    };
    NatsDoor::open(config, bound, parts, front)
}

/// The two ways to administer this node, which are there before it is whole.
struct Admin {
    socket: AdminServer,
    http: HttpServer,
    control: Arc<Staged<dyn Control>>,
    site: Arc<Staged<dyn Site>>,
    listener: Arc<Listener>,
    token: Arc<NodeToken>,
}

impl Admin {
    /// Serves what can be said already; the admin API to whoever has the
    /// node's token.
    fn start(
        config: &ValidConfig,
        listener: Arc<Listener>,
        early: EarlyControl,
        front: &Handle,
    ) -> Result<Self, Failure> {
        if let Some(waits) = early.waits() {
            tracing::info!("{waits}");
        }
        let token = NodeToken::open(&config.data, &OsEntropy)
            .map_err(|error| Failure::new(format!("cannot make the token of the admin API: {error}")))?;
        let (token, early) = (Arc::new(token), Arc::new(early));
        let gate = Gate::new(vec![token.clone()]);
        let api = Api::new(early.clone(), Arc::new(Uncounted), gate, config.name.clone());
        let site = Arc::new(Staged::<dyn Site>::new(Arc::new(api)));
        let control = Arc::new(Staged::<dyn Control>::new(early));
        let tls = encryption(config, surfaces::ADMIN, listener.local_addr())?;
        let http = HttpServer::start(listener.clone(), tls, site.clone(), HttpLimits::default(), front);
        let socket = AdminServer::start(&config.data, control.clone())
            .map_err(|error| Failure::new(format!("cannot make the admin socket: {error}")))?;
        Ok(Self { socket, http, control, site, listener, token })
    }

    /// The node is whole: the cluster's administrators are let in, too.
    fn go_on(&self, config: &ValidConfig, control: NodeControl, (node, door): (&Node, &NatsDoor)) {
        let control = Arc::new(control);
        let (database, own) = (node.database.clone(), self.listener.clone());
        let measures = NodeMeasures::new(
            node.clone(),
            bring_up::resident_bytes,
            vec![
                ("redis", Box::new(move || database.clients())),
                ("nats", Box::new(door.connections())),
                ("admin", Box::new(move || own.connections())),
            ],
        );
        let tokens = Arc::new(ClusterTokens::new(Arc::new(node.logins.clone())));
        let gate = Gate::new(vec![self.token.clone(), tokens]);
        let api = Api::new(control.clone(), Arc::new(measures), gate, config.name.clone());
        let api = api.with_jobs(Jobs::new(node.compute.clone()));
        self.site.go_on(Arc::new(api));
        self.control.go_on(control);
    }
}

/// The allocator's arenas would be backed by huge pages, most of each unused:
/// an idle node would take more than twice the memory.
fn use_small_pages() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        eprintln!("huge pages stay on: {error}");
    }
}

/// Asks the kernel to kill this process when the thread that started it ends.
fn die_with(parent: u32) -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(Failure::new)?;
    let actual = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().cast_unsigned());
    // It may have died before the kernel was asked.
    if actual == Some(parent) {
        Ok(())
    } else {
        Err(Failure::new("the process that started this one is gone"))
    }
}

fn log_to_standard_error(filter: &str) {
    // The consensus library tells every step, and warns of every node that is
    // down at every attempt; who needs that, asks for it.
    let filter =
        EnvFilter::try_new(format!("openraft=error,{filter}")).unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    // A second logger can only be a test's: it stays.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .try_init();
}
