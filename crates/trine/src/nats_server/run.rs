//! Opening the doors, serving, and what signals do.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind as Unix, signal as on_signal};
use tokio::task::JoinHandle;
use trine_front::{Exposure, Limits, Listener, Listeners, TlsAcceptor, TlsSettings, TlsSource};
use trine_mesh::Bus;
use trine_mesh::nats::{
    Config, Entrance, Nats, PROTOCOL_OF, Parts, ServerInfo, TOO_MANY_CONNECTIONS, TlsFirst, ValidConfig,
};
use trine_types::Entropy;

use super::flags::{Flags, SignalKind};
use super::options::{HandshakeFirst, Listen, Options, Tls};
use super::reports::Reports;
use super::users::Users;
use super::{conf, log};
use crate::http::HttpServer;
use crate::http::limits::{HttpLimits, TOO_MANY_CONNECTIONS as TOO_MANY_READERS};
use crate::seams::{OsEntropy, SystemClock};

/// Bytes of chance in the name of a server.
const ID_BYTES: usize = 16;

/// How long connections may take to end at a stop.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// Asks a running server for something.
pub(super) fn signal(kind: SignalKind, pid: i32) -> Result<(), String> {
    let number = match kind {
        SignalKind::LameDuck => Signal::USR2,
        SignalKind::Stop => Signal::KILL,
        SignalKind::Quit => Signal::INT,
        SignalKind::Reload => Signal::HUP,
        SignalKind::Reopen => Signal::USR1,
    };
    let pid = Pid::from_raw(pid).ok_or("0 is no process id")?;
    kill_process(pid, number).map_err(|error| format!("cannot signal process {pid:?}: {error}"))
}

/// Serves until it is told to stop.
pub(super) fn serve(flags: Flags) -> Result<(), String> {
    let options = read(&flags)?;
    log::start(&options.log).map_err(|error| format!("cannot write the log: {error}"))?;
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .max_blocking_threads(4)
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start threads: {error}"))?;
    let outcome = runtime.block_on(run(flags, options));
    runtime.shutdown_timeout(STOP_LIMIT);
    outcome
}

/// The file, with the flags on top.
fn read(flags: &Flags) -> Result<Options, String> {
    let mut options = Options::default();
    if let Some(path) = flags.config() {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let entries = conf::parse(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        options.apply(&entries).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    flags.clone().over(options)
}

/// Everything that is open.
struct Open {
    nats: Nats,
    users: Arc<Users>,
    serving: Vec<JoinHandle<()>>,
    /// Kept so that it serves.
    _reports: Option<HttpServer>,
}

async fn run(flags: Flags, options: Options) -> Result<(), String> {
    let open = open(&options).await?;
    if let Some(path) = &options.log.pid_file {
        std::fs::write(path, std::process::id().to_string())
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    tracing::info!("Server is ready");
    wait(&flags, open).await.map_err(|error| format!("cannot wait for signals: {error}"))
}

async fn open(options: &Options) -> Result<Open, String> {
    let config = settings(options)?;
    let users = Arc::new(Users::new(&options.auth)?);
    let clients = bind(&options.listen, options, TOO_MANY_CONNECTIONS).await?;
    let websocket = match &options.websocket {
        Some(socket) => Some((bind(&socket.listen, options, TOO_MANY_CONNECTIONS).await?, socket)),
        None => None,
    };
    let address = clients.local_addr();
    let id = name_by_chance();
    let server = ServerInfo {
        server_name: options.name.clone().unwrap_or_else(|| id.clone()),
        server_id: id,
        version: PROTOCOL_OF,
        proto: 1,
        go: concat!("trine ", env!("CARGO_PKG_VERSION")),
        host: options.listen.host.clone(),
        port: address.port(),
        headers: true,
        max_payload: config.max_payload,
        jetstream: false,
        cluster: options.cluster.as_ref().and_then(|cluster| cluster.name.clone()),
    };
    tell(options, &server);
    let nats = Nats::new(Parts {
        bus: Bus::new(OsEntropy.next_u64()),
        login: users.clone(),
        config,
        server,
        clock: Arc::new(SystemClock),
        entropy: Arc::new(OsEntropy),
    });
    let reports = match &options.http {
        Some(listen) => Some(serve_reports(listen, &nats).await?),
        None => None,
    };
    let mut serving = Vec::new();
    if let Some((listener, socket)) = websocket {
        let tls = socket.tls.as_ref().filter(|_| !socket.no_tls).map(acceptor).transpose()?;
        let scheme = if tls.is_some() { "wss" } else { "ws" };
        tracing::info!("Listening for websocket clients on {scheme}://{}", listener.local_addr());
        serving.push(tokio::spawn(nats.clone().serve(listener, Entrance::WebSocket(tls))));
    }
    let entrance = entrance(options.tls.as_ref())?;
    tracing::info!("Listening for client connections on {address}");
    serving.push(tokio::spawn(nats.clone().serve(clients, entrance)));
    if options.tls.is_some() {
        tracing::info!("TLS required for client connections");
    }
    Ok(Open { nats, users, serving, _reports: reports })
}

fn tell(options: &Options, server: &ServerInfo) {
    tracing::info!("Starting nats-server");
    tracing::info!("  Version:  {} ({})", server.version, server.go);
    tracing::info!("  Name:     {}", server.server_name);
    tracing::info!("  ID:       {}", server.server_id);
    if options.jetstream {
        tracing::warn!("JetStream is not offered; what was set for it has no effect");
    }
    if options.cluster.as_ref().is_some_and(|cluster| !cluster.routes.is_empty()) {
        tracing::warn!("Routes are not offered by this name; start several nodes with `trine start`");
    }
}

fn settings(options: &Options) -> Result<ValidConfig, String> {
    let (limits, default) = (&options.limits, Config::default());
    let config = Config {
        max_payload: limits.max_payload.unwrap_or(default.max_payload),
        max_control_line: limits.max_control_line.unwrap_or(default.max_control_line),
        max_subscriptions: limits.max_subscriptions.unwrap_or(default.max_subscriptions),
        ping_interval: limits.ping_interval.unwrap_or(default.ping_interval),
        pings_out: limits.ping_max.unwrap_or(default.pings_out),
        auth_timeout: options.auth.timeout.unwrap_or(default.auth_timeout),
        lame_duck_grace: limits.lame_duck_grace.unwrap_or(default.lame_duck_grace),
        lame_duck_duration: limits.lame_duck_duration.unwrap_or(default.lame_duck_duration),
    };
    config.validate().map_err(|error| error.to_string())
}

/// Opens a port. Who names another host than loopback wants it so.
async fn bind(listen: &Listen, options: &Options, refusal: &'static [u8]) -> Result<Listener, String> {
    let most = options.limits.max_connections.unwrap_or(usize::MAX);
    let limits = Limits { max_connections: most, max_per_source: most, ..Limits::default() };
    let limits = limits.fitted_to_open_files();
    bind_within(listen, limits, refusal).await
}

async fn bind_within(listen: &Listen, limits: Limits, refusal: &'static [u8]) -> Result<Listener, String> {
    let address = resolve(listen).await?;
    if !address.ip().is_loopback() {
        tracing::warn!("Listening on {}, beyond loopback", address.ip());
    }
    let exposure = Exposure { tls: false, plain_text_allowed: true, no_users_allowed: true };
    Listeners::bind("nats", address, exposure, limits, refusal).map_err(|error| error.to_string())
}

async fn resolve(listen: &Listen) -> Result<SocketAddr, String> {
    let wrong = |error: io::Error| format!("{}: {error}", listen.host);
    let found = tokio::net::lookup_host((listen.host.as_str(), listen.port)).await.map_err(wrong)?;
    let mut found: Vec<SocketAddr> = found.collect();
    // A name with both is listened on where old clients look first.
    found.sort_by_key(SocketAddr::is_ipv6);
    found.first().copied().ok_or_else(|| format!("{}: no address", listen.host))
}

async fn serve_reports(listen: &Listen, nats: &Nats) -> Result<HttpServer, String> {
    let limits = HttpLimits::default();
    let listener = bind_within(listen, limits.of_listener(), TOO_MANY_READERS).await?;
    tracing::info!("Starting http monitor on {}", listener.local_addr());
    let site = Arc::new(Reports::new(nats.clone()));
    Ok(HttpServer::start(Arc::new(listener), None, site, limits, &Handle::current()))
}

fn entrance(tls: Option<&Tls>) -> Result<Entrance, String> {
    let Some(tls) = tls else { return Ok(Entrance::Plain) };
    let first = match tls.first {
        HandshakeFirst::No => TlsFirst::No,
        HandshakeFirst::Always => TlsFirst::Always,
        HandshakeFirst::Within(limit) => TlsFirst::Within(limit),
    };
    Ok(Entrance::Tls { acceptor: acceptor(tls)?, verify: tls.verify, first })
}

fn acceptor(tls: &Tls) -> Result<TlsAcceptor, String> {
    let client_ca = tls.ca_file.clone().filter(|_| tls.verify);
    if tls.verify && client_ca.is_none() {
        return Err("`verify` needs `ca_file`, to know whose certificates count".into());
    }
    let source =
        TlsSource::Files { certificate: tls.cert_file.clone(), key: tls.key_file.clone(), client_ca };
    let settings =
        TlsSettings { source, folder: Path::new(".").into(), names: Vec::new(), protocols: Vec::new() };
    TlsAcceptor::open(&settings).map_err(|error| error.to_string())
}

fn name_by_chance() -> String {
    let mut chance = [0; ID_BYTES];
    OsEntropy.fill(&mut chance);
    format!("N{}", data_encoding::BASE32_NOPAD.encode(&chance))
}

/// Waits for signals until everybody has left.
async fn wait(flags: &Flags, mut open: Open) -> io::Result<()> {
    let (mut interrupt, mut terminate) = (on_signal(Unix::interrupt())?, on_signal(Unix::terminate())?);
    let (mut reload, mut lame_duck) = (on_signal(Unix::hangup())?, on_signal(Unix::user_defined2())?);
    let mut reopen = on_signal(Unix::user_defined1())?;
    loop {
        tokio::select! {
            biased;
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            _ = lame_duck.recv() => {
                tracing::info!("Entering lame duck mode, stop accepting new clients");
                open.nats.lame_duck();
            }
            _ = reload.recv() => reread(flags, &open.users),
            // The log is opened for appending: there is nothing to do.
            _ = reopen.recv() => {}
            () = all_left(&mut open.serving) => break,
        }
    }
    tracing::info!("Initiating Shutdown...");
    open.nats.shut_down();
    let _ = tokio::time::timeout(STOP_LIMIT, all_left(&mut open.serving)).await;
    tracing::info!("Server Exiting..");
    Ok(())
}

async fn all_left(serving: &mut Vec<JoinHandle<()>>) {
    while let Some(last) = serving.last_mut() {
        // A panic in it was told of already.
        let _ = last.await;
        serving.pop();
    }
}

/// Takes the users of the file as it is now; nothing else changes at run time.
fn reread(flags: &Flags, users: &Users) {
    let outcome = read(flags).and_then(|options| users.replace(&options.auth));
    match outcome {
        Ok(()) => tracing::info!("Reloaded: authorization users"),
        Err(error) => tracing::error!("Failed to reload server configuration: {error}"),
    }
}
