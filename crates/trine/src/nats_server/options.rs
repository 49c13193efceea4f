//! What the alias is told to do: flags and a configuration file, as one
//! checked structure. Keys that nats-server knows and we do not are refused by
//! name; those that only tune what we do not have are listed and accepted.

use std::path::PathBuf;
use std::time::Duration;

use super::conf::{ConfError, Entry, Value};
use super::users::Permissions;

/// Port that clients of NATS try.
const DEFAULT_PORT: u16 = 4222;

/// All of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Options {
    /// Where clients come in.
    pub(super) listen: Listen,
    /// Where the reports are served.
    pub(super) http: Option<Listen>,
    /// Name for people; made up if missing.
    pub(super) name: Option<String>,
    /// Log and files.
    pub(super) log: Log,
    /// Who may come in.
    pub(super) auth: Auth,
    /// Encryption for clients.
    pub(super) tls: Option<Tls>,
    /// The same protocol over WebSocket.
    pub(super) websocket: Option<WebSocket>,
    /// Bounds.
    pub(super) limits: Limits,
    /// Other servers.
    pub(super) cluster: Option<Cluster>,
    /// JetStream was asked for; it is not offered.
    pub(super) jetstream: bool,
}

/// An address; port 0 is any free one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listen {
    /// Name or address of the host.
    pub(super) host: String,
    /// Port.
    pub(super) port: u16,
}

impl Default for Listen {
    fn default() -> Self {
        Self { host: "127.0.0.1".into(), port: DEFAULT_PORT }
    }
}

/// Log and files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Log {
    /// File instead of standard error.
    pub(super) file: Option<PathBuf>,
    /// Also what developers want to know.
    pub(super) debug: bool,
    /// Also what is said on the wire.
    pub(super) trace: bool,
    /// File that gets the process id.
    pub(super) pid_file: Option<PathBuf>,
}

/// Who may come in.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Auth {
    /// Users; nobody needs a name if there are none and no token.
    pub(super) users: Vec<User>,
    /// One token for everybody.
    pub(super) token: Option<String>,
    /// Longest wait for credentials.
    pub(super) timeout: Option<Duration>,
    /// What users without permissions of their own may do.
    pub(super) default_permissions: Option<Permissions>,
    /// Who does not say a name is this user.
    pub(super) no_auth_user: Option<String>,
}

/// One user.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct User {
    /// Name.
    pub(super) name: String,
    /// Password, plain or a bcrypt hash.
    pub(super) password: String,
    /// Public nkey instead of the two.
    pub(super) nkey: Option<String>,
    /// What it may do; everything if missing.
    pub(super) permissions: Option<Permissions>,
}

/// When TLS begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum HandshakeFirst {
    /// After INFO.
    #[default]
    No,
    /// Before anything.
    Always,
    /// Before anything, unless the client waits as long for INFO.
    Within(Duration),
}

/// Encryption.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tls {
    /// Certificate chain.
    pub(super) cert_file: PathBuf,
    /// Its key.
    pub(super) key_file: PathBuf,
    /// Whose certificates clients may show.
    pub(super) ca_file: Option<PathBuf>,
    /// Clients must show one.
    pub(super) verify: bool,
    /// Longest handshake.
    pub(super) timeout: Option<Duration>,
    /// When it begins.
    pub(super) first: HandshakeFirst,
}

/// The same protocol over WebSocket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct WebSocket {
    /// Where.
    pub(super) listen: Listen,
    /// Not encrypted.
    pub(super) no_tls: bool,
    /// Encrypted so.
    pub(super) tls: Option<Tls>,
}

/// Other servers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cluster {
    /// Name of the cluster.
    pub(super) name: Option<String>,
    /// Where other servers come in.
    pub(super) listen: Option<Listen>,
    /// Addresses of others.
    pub(super) routes: Vec<String>,
}

/// Bounds; what is missing has the door's default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// Largest message in bytes.
    pub(super) max_payload: Option<usize>,
    /// Longest line in bytes.
    pub(super) max_control_line: Option<usize>,
    /// Bytes that may wait for one client.
    pub(super) max_pending: Option<usize>,
    /// Connections at the same time.
    pub(super) max_connections: Option<usize>,
    /// Subscriptions of one connection.
    pub(super) max_subscriptions: Option<usize>,
    /// Silence after which a client is asked for a sign of life.
    pub(super) ping_interval: Option<Duration>,
    /// Unanswered questions after which it is cut off.
    pub(super) ping_max: Option<u32>,
    /// How long closing connections takes in lame duck mode.
    pub(super) lame_duck_duration: Option<Duration>,
    /// How long nothing is closed before.
    pub(super) lame_duck_grace: Option<Duration>,
}

/// Keys that tune what we do not have; accepted, with no effect.
const WITHOUT_EFFECT: &[&str] = &[
    "jetstream",
    "store_dir",
    "logtime",
    "logfile_size_limit",
    "connect_error_reports",
    "reconnect_error_reports",
    "disable_sublist_cache",
    "write_deadline",
    "system_account",
];

impl Options {
    /// Takes in everything of a file.
    ///
    /// # Errors
    /// The first thing that is not understood, with its line.
    pub(super) fn apply(&mut self, entries: &[Entry]) -> Result<(), ConfError> {
        entries.iter().try_for_each(|entry| self.apply_one(entry))
    }

    fn apply_one(&mut self, entry: &Entry) -> Result<(), ConfError> {
        let key = entry.key.to_ascii_lowercase();
        match key.as_str() {
            "host" | "net" | "addr" => self.listen.host = entry.text()?,
            "port" => self.listen.port = entry.port()?,
            "listen" => self.listen = entry.listen(&self.listen.host)?,
            "http" | "monitor_port" | "http_port" => {
                self.http = Some(entry.listen(&self.listen.host)?);
            }
            "server_name" => self.name = Some(entry.text()?),
            "debug" => self.log.debug = entry.switch()?,
            "trace" => self.log.trace = entry.switch()?,
            "log_file" | "logfile" => self.log.file = Some(entry.text()?.into()),
            "pidfile" | "pid_file" => self.log.pid_file = Some(entry.text()?.into()),
            "authorization" => self.auth.apply(entry)?,
            "no_auth_user" => self.auth.no_auth_user = Some(entry.text()?),
            "tls" => self.tls = Some(Tls::of(entry)?),
            "websocket" | "ws" => self.websocket = Some(WebSocket::of(entry)?),
            "cluster" => self.cluster = Some(Cluster::of(entry)?),
            known if WITHOUT_EFFECT.contains(&known) => self.jetstream |= known == "jetstream",
            other => return self.limits.apply(other, entry),
        }
        Ok(())
    }
}

impl Limits {
    fn apply(&mut self, key: &str, entry: &Entry) -> Result<(), ConfError> {
        match key {
            "max_payload" => self.max_payload = Some(entry.size()?),
            "max_control_line" => self.max_control_line = Some(entry.size()?),
            "max_pending" => self.max_pending = Some(entry.size()?),
            "max_connections" | "max_conn" => self.max_connections = Some(entry.size()?),
            "max_subscriptions" | "max_subs" => self.max_subscriptions = Some(entry.size()?),
            "ping_interval" => self.ping_interval = Some(entry.duration()?),
            "ping_max" => self.ping_max = Some(u32::try_from(entry.size()?).unwrap_or(u32::MAX)),
            "lame_duck_duration" => self.lame_duck_duration = Some(entry.duration()?),
            "lame_duck_grace_period" => self.lame_duck_grace = Some(entry.duration()?),
            _ => return entry.unknown(),
        }
        Ok(())
    }
}

impl Auth {
    fn apply(&mut self, entry: &Entry) -> Result<(), ConfError> {
        let mut single = User::default();
        for inner in entry.map()? {
            match inner.key.to_ascii_lowercase().as_str() {
                "user" | "username" => single.name = inner.text()?,
                "pass" | "password" => single.password = inner.text()?,
                "token" => self.token = Some(inner.text()?),
                "timeout" => self.timeout = Some(inner.duration()?),
                "default_permissions" => self.default_permissions = Some(Permissions::of(inner)?),
                "permissions" => single.permissions = Some(Permissions::of(inner)?),
                "users" => {
                    for user in inner.list()? {
                        self.users.push(User::of(user, inner.line)?);
                    }
                }
                _ => return inner.unknown(),
            }
        }
        if !single.name.is_empty() {
            self.users.push(single);
        }
        Ok(())
    }
}

impl User {
    fn of(value: &Value, line: usize) -> Result<Self, ConfError> {
        let Value::Map(entries) = value else {
            return Err(ConfError { line, what: "a user is a map".into() });
        };
        let mut user = Self::default();
        for entry in entries {
            match entry.key.to_ascii_lowercase().as_str() {
                "user" | "username" => user.name = entry.text()?,
                "pass" | "password" => user.password = entry.text()?,
                "nkey" => user.nkey = Some(entry.text()?),
                "permissions" => user.permissions = Some(Permissions::of(entry)?),
                _ => return entry.unknown(),
            }
        }
        Ok(user)
    }
}

impl Tls {
    fn of(entry: &Entry) -> Result<Self, ConfError> {
        let mut tls = Self::default();
        for inner in entry.map()? {
            match inner.key.to_ascii_lowercase().as_str() {
                "cert_file" => tls.cert_file = inner.text()?.into(),
                "key_file" => tls.key_file = inner.text()?.into(),
                "ca_file" => tls.ca_file = Some(inner.text()?.into()),
                "verify" => tls.verify = inner.switch()?,
                "timeout" => tls.timeout = Some(inner.duration()?),
                "handshake_first" | "first" | "immediate" => tls.first = inner.handshake_first()?,
                _ => return inner.unknown(),
            }
        }
        if tls.cert_file.as_os_str().is_empty() || tls.key_file.as_os_str().is_empty() {
            return entry.error("TLS needs `cert_file` and `key_file`");
        }
        Ok(tls)
    }
}

impl WebSocket {
    fn of(entry: &Entry) -> Result<Self, ConfError> {
        let mut socket = Self::default();
        for inner in entry.map()? {
            match inner.key.to_ascii_lowercase().as_str() {
                "host" | "net" => socket.listen.host = inner.text()?,
                "port" => socket.listen.port = inner.port()?,
                "listen" => socket.listen = inner.listen(&socket.listen.host)?,
                "no_tls" => socket.no_tls = inner.switch()?,
                "tls" => socket.tls = Some(Tls::of(inner)?),
                // What is sent is not compressed, which is always allowed.
                "compression" | "handshake_timeout" => {}
                _ => return inner.unknown(),
            }
        }
        if socket.tls.is_none() && !socket.no_tls {
            return entry.error("a WebSocket needs `tls`, or `no_tls: true` in so many words");
        }
        Ok(socket)
    }
}

impl Cluster {
    fn of(entry: &Entry) -> Result<Self, ConfError> {
        let mut cluster = Self::default();
        let mut listen = Listen { port: 0, ..Listen::default() };
        for inner in entry.map()? {
            match inner.key.to_ascii_lowercase().as_str() {
                "name" => cluster.name = Some(inner.text()?),
                "host" | "net" => listen.host = inner.text()?,
                "port" => listen.port = inner.port()?,
                "listen" => listen = inner.listen(&listen.host)?,
                "routes" => {
                    for route in inner.list()? {
                        let Value::Text(route) = route else { return inner.error("a route is a URL") };
                        cluster.routes.push(route.clone());
                    }
                }
                _ => return inner.unknown(),
            }
        }
        cluster.listen = Some(listen);
        Ok(cluster)
    }
}

/// Reading one kind of value, or saying which line has another.
impl Entry {
    pub(super) fn error<T>(&self, what: &str) -> Result<T, ConfError> {
        Err(ConfError { line: self.line, what: what.into() })
    }

    fn wants<T>(&self, what: &str) -> Result<T, ConfError> {
        self.error(&format!("`{}` must be {what}", self.key))
    }

    pub(super) fn unknown<T>(&self) -> Result<T, ConfError> {
        self.error(&format!("`{}` is not supported here; remove it", self.key))
    }

    pub(super) fn text(&self) -> Result<String, ConfError> {
        match &self.value {
            Value::Text(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            _ => self.wants("a text"),
        }
    }

    fn switch(&self) -> Result<bool, ConfError> {
        match self.value {
            Value::Switch(on) => Ok(on),
            _ => self.wants("true or false"),
        }
    }

    pub(super) fn map(&self) -> Result<&[Entry], ConfError> {
        match &self.value {
            Value::Map(entries) => Ok(entries),
            _ => self.wants("a map in braces"),
        }
    }

    fn list(&self) -> Result<&[Value], ConfError> {
        match &self.value {
            Value::List(values) => Ok(values),
            _ => self.wants("a list in brackets"),
        }
    }

    fn size(&self) -> Result<usize, ConfError> {
        match self.value {
            Value::Number(number) if number >= 0 => Ok(usize::try_from(number).unwrap_or(usize::MAX)),
            // Minus one is how nats-server writes: no limit.
            Value::Number(-1) => Ok(usize::MAX),
            _ => self.wants("a number"),
        }
    }

    fn port(&self) -> Result<u16, ConfError> {
        match self.value {
            Value::Number(number) => match port(number) {
                Some(port) => Ok(port),
                None => self.wants("a port"),
            },
            _ => self.wants("a port"),
        }
    }

    /// A port, or `host:port`.
    fn listen(&self, host: &str) -> Result<Listen, ConfError> {
        if let Value::Text(text) = &self.value {
            return match address(text) {
                Some(listen) => Ok(listen),
                None => self.wants("host:port"),
            };
        }
        Ok(Listen { host: host.into(), port: self.port()? })
    }

    fn duration(&self) -> Result<Duration, ConfError> {
        let found = match &self.value {
            Value::Number(seconds) => u64::try_from(*seconds).ok().map(Duration::from_secs),
            Value::Text(text) => duration(text),
            _ => None,
        };
        found.map_or_else(|| self.wants("a time, such as 2s or 500ms"), Ok)
    }

    fn handshake_first(&self) -> Result<HandshakeFirst, ConfError> {
        Ok(match &self.value {
            Value::Switch(true) => HandshakeFirst::Always,
            Value::Switch(false) => HandshakeFirst::No,
            Value::Text(auto) if auto == "auto" => HandshakeFirst::Within(Duration::from_millis(50)),
            _ => HandshakeFirst::Within(self.duration()?),
        })
    }
}

/// A port as nats-server writes it: -1 is any free one.
pub(super) fn port(number: i64) -> Option<u16> {
    if number == -1 { Some(0) } else { u16::try_from(number).ok() }
}

/// `host:port`, or a URL around it.
pub(super) fn address(text: &str) -> Option<Listen> {
    let bare = text.split_once("://").map_or(text, |(_, bare)| bare);
    let bare = bare.rsplit_once('@').map_or(bare, |(_, bare)| bare).trim_end_matches('/');
    let (host, digits) = bare.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some(Listen { host: host.into(), port: port(digits.parse().ok()?)? })
}

/// `2s`, `500ms`, `1.5m`, `1h`.
fn duration(text: &str) -> Option<Duration> {
    let end = text.find(|next: char| !next.is_ascii_digit() && next != '.')?;
    let (number, unit) = text.split_at(end);
    let number: f64 = number.parse().ok()?;
    let factor = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * factor).ok()
}

#[cfg(test)]
mod tests;
