//! Starts the binary through a link called `nats-server`, for suites of Rust
//! clients that expect a crate of this name with these functions. Nothing but
//! std, so that it is built in no time.

use std::io::{BufRead, BufReader, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Names the link that is started.
const PROGRAM: &str = "NATS_SERVER";

/// Longest wait for a server to listen.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Between two looks at its log.
const LOOK_EVERY: Duration = Duration::from_millis(10);

static STARTED: AtomicUsize = AtomicUsize::new(0);

/// A server; ends with it.
pub struct Server {
    configuration: String,
    port: Option<String>,
    more: Vec<String>,
    folder: PathBuf,
    child: Child,
}

/// Several servers that know of each other.
pub struct Cluster {
    /// They.
    pub servers: Vec<Server>,
}

/// The configurations of a cluster's servers: one for all, or one each.
pub trait IntoConfig<'a> {
    /// One for each.
    fn into_config(self) -> [&'a str; 3];
}

impl<'a> IntoConfig<'a> for &'a str {
    fn into_config(self) -> [&'a str; 3] {
        [self; 3]
    }
}

impl<'a> IntoConfig<'a> for [&'a str; 3] {
    fn into_config(self) -> [&'a str; 3] {
        self
    }
}

fn program() -> Command {
    Command::new(std::env::var_os(PROGRAM).unwrap_or_else(|| "nats-server".into()))
}

fn launch(configuration: &str, port: Option<&str>, more: &[String], folder: &PathBuf) -> Child {
    let _ = std::fs::remove_file(folder.join("log"));
    let mut command = program();
    command.arg("--store_dir").arg(folder.join("store"));
    command.args(["-p", port.unwrap_or("-1")]).args(more);
    command.arg("-l").arg(folder.join("log")).arg("-P").arg(folder.join("pid"));
    if !configuration.is_empty() {
        command.args(["-c", configuration]);
    }
    command.spawn().unwrap_or_else(|error| panic!("cannot start nats-server: {error}"))
}

fn start(configuration: &str, port: Option<&str>, more: Vec<String>) -> Server {
    let number = STARTED.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("trine-conformance-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for its log");
    let child = launch(configuration, port, &more, &folder);
    Server { configuration: configuration.into(), port: port.map(str::to_owned), more, folder, child }
}

/// A server with a configuration file, on any port.
pub fn run_server(configuration: &str) -> Server {
    start(configuration, None, Vec::new())
}

/// A server on this port.
pub fn run_server_with_port(configuration: &str, port: Option<&str>) -> Server {
    start(configuration, port, Vec::new())
}

/// A server without a configuration, on any port.
pub fn run_basic_server() -> Server {
    run_server("")
}

/// Three servers that know of each other.
pub fn run_cluster<'a>(configuration: impl IntoConfig<'a>) -> Cluster {
    let free = || TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let reserved = [free(), free(), free()];
    let ports = reserved.map(|listener| listener.local_addr().expect("bound").port());
    let mut servers = Vec::new();
    for (index, (configuration, own)) in configuration.into_config().into_iter().zip(ports).enumerate() {
        let others = ports.iter().filter(|port| **port != own);
        let routes: Vec<String> = others.map(|port| format!("nats://127.0.0.1:{port}")).collect();
        let more = [
            ("--routes", routes.join(",")),
            ("--cluster", format!("nats://127.0.0.1:{own}")),
            ("--cluster_name", "cluster".into()),
            ("-n", format!("node{}", index + 1)),
        ];
        let more = more.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
        servers.push(start(configuration, None, more));
    }
    let cluster = Cluster { servers };
    for server in &cluster.servers {
        server.client_port();
    }
    cluster
}

/// Whether nobody listens there.
pub fn is_port_available(port: usize) -> bool {
    u16::try_from(port).is_ok_and(|port| TcpListener::bind(("127.0.0.1", port)).is_ok())
}

/// Asks it to take no more clients and to close those that it has.
pub fn set_lame_duck_mode(server: &Server) {
    let signal = format!("ldm={}", server.client_pid());
    let sent = program().args(["--signal", &signal]).status().expect("it can be asked");
    assert!(sent.success(), "the signal was not sent");
}

impl Cluster {
    /// Where a client of the first one connects.
    pub fn client_url(&self) -> String {
        self.servers[0].client_url()
    }
}

impl Server {
    /// Ends it and starts it again on the same port.
    pub fn restart(&mut self) {
        let port = self.port.clone().expect("only a server with a fixed port can be found again");
        self.end();
        self.child = launch(&self.configuration, Some(&port), &self.more, &self.folder);
    }

    /// Where a client connects.
    pub fn client_url(&self) -> String {
        let info = self.info();
        let scheme = if info.contains("\"tls_required\":true") { "tls" } else { "nats" };
        format!("{scheme}://localhost:{}", port_in(&info))
    }

    /// The port for clients.
    pub fn client_port(&self) -> u16 {
        port_in(&self.info())
    }

    /// Where a client with this user and password connects.
    pub fn client_url_with(&self, user: &str, password: &str) -> String {
        self.client_url().replacen("://", &format!("://{user}:{password}@"), 1)
    }

    /// Where a client with this token connects.
    pub fn client_url_with_token(&self, token: &str) -> String {
        self.client_url().replacen("://", &format!("://{token}@"), 1)
    }

    /// Its process.
    pub fn client_pid(&self) -> usize {
        self.client_addr();
        wait_for(|| std::fs::read_to_string(self.folder.join("pid")).ok()?.trim().parse().ok())
    }

    /// The line that it greets clients with.
    fn info(&self) -> String {
        let stream = TcpStream::connect(self.client_addr()).expect("it listens");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).expect("it greets");
        line
    }

    /// Where it says in its log that it listens.
    fn client_addr(&self) -> String {
        const SAYS: &str = "client connections on ";
        wait_for(|| {
            let log = match std::fs::read_to_string(self.folder.join("log")) {
                Err(error) if error.kind() == ErrorKind::NotFound => return None,
                log => log.expect("its log can be read"),
            };
            let line = log.lines().find_map(|line| line.split_once(SAYS))?;
            log.ends_with('\n').then(|| line.1.trim().replace("0.0.0.0", "localhost"))
        })
    }

    fn end(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn port_in(info: &str) -> u16 {
    let digits = info.split_once("\"port\":").expect("it says its port").1;
    let end = digits.find(|next: char| !next.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().expect("a port")
}

fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "the server does not say where it listens");
        std::thread::sleep(LOOK_EVERY);
    }
}
