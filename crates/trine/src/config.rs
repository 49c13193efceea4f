//! What a node needs to be told: a TOML file, flags on top, checked once.
//! Everything behind [`Config::validate`] works with [`ValidConfig`] alone, so
//! that a bad value is refused by name before anything is opened.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use trine_compute::amounts::Amounts;
use trine_front::exposure::Exposed;
use trine_mesh::members::Profile;

use crate::cli::{ProcessArgs, StartArgs};
use crate::surfaces::{self, BeyondLoopback, Encryption, Surfaces};

mod tasks;

pub use tasks::{TaskLimits, ValidTasks};

/// Port of the Redis door, as every Redis client expects it.
pub const DEFAULT_REDIS_PORT: u16 = 6379;
/// Port of the NATS door, as every NATS client expects it.
pub const DEFAULT_NATS_PORT: u16 = 4222;
/// Port of the admin API.
pub const DEFAULT_ADMIN_PORT: u16 = 7070;
/// What is added to the Redis port for the port between nodes (Redis Cluster's
/// own convention for its bus).
pub const PEER_PORT_OFFSET: u16 = 10_000;
/// Largest number of partitions; more cost batching and memory for nothing.
pub const MAX_PARTITIONS: u16 = 1_024;
/// Longest node name, in bytes; it travels in every certificate.
pub const MAX_NAME_BYTES: usize = 63;

/// Settings as they stand in a file or on the command line; every field may
/// be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Directory for the key, the log and the state of this node. Default
    /// `trine-data` in the working directory. The log's fsyncs go here: a disk
    /// with a slow flush makes every write slow.
    pub data: Option<PathBuf>,
    /// Name for people, at most 63 bytes of `a-z 0-9 . -`. Default: host name.
    pub name: Option<String>,
    /// Address of the Redis door. Default `127.0.0.1:6379`. Beyond loopback it
    /// needs TLS and users.
    pub redis: Option<SocketAddr>,
    /// Address of the NATS door. Default `127.0.0.1:4222`. Beyond loopback it
    /// needs TLS and users.
    pub nats: Option<SocketAddr>,
    /// Address of the NATS door over WebSocket. Default: none.
    pub websocket: Option<SocketAddr>,
    /// Address of the admin API, which speaks HTTP. Default `127.0.0.1:7070`.
    /// Beyond loopback it needs TLS (`tls`); it always needs a credential.
    pub admin: Option<SocketAddr>,
    /// Address on which this node listens for other nodes. Default: loopback,
    /// Redis port + 10000; give a reachable one before a second machine joins.
    pub peer: Option<SocketAddr>,
    /// Address that other nodes are told, if it is not `peer`.
    pub advertise: Option<SocketAddr>,
    /// Partitions of the database, 1 to 1024, default 16; used only when this
    /// node creates the cluster. Two to four per node is a good number: fewer
    /// leave nodes idle, more make batches smaller.
    pub partitions: Option<u16>,
    /// Tags of this node, which others see: at most 16, names of at most 32
    /// letters, digits, `-`, `_` and `.`, values of at most 128 bytes. Default none.
    pub tags: Option<BTreeMap<String, String>>,
    /// Log filter for standard error, default `info`.
    pub log: Option<String>,
    /// How many threads work on what.
    #[serde(default)]
    pub threads: Threads,
    /// How large things may grow.
    #[serde(default)]
    pub limits: SizeLimits,
    /// How surfaces (`redis`, `nats`, `websocket`, `admin`) are encrypted:
    /// `auto` for a certificate that the node makes, or the PEM files
    /// `CERTIFICATE,KEY[,CLIENT_CA]`. Default: not at all.
    #[serde(default)]
    pub tls: Encryption,
    /// Surfaces that may be reached beyond loopback without TLS, or while the
    /// cluster has no users. Default: none.
    #[serde(default)]
    pub beyond_loopback: BeyondLoopback,
}

/// Threads, as they stand in a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Threads {
    /// For consensus, 1 to 64, default 2. If this and `front` are 1, one
    /// thread does both: for nodes that share a few cores.
    pub raft: Option<u16>,
    /// For client connections, 1 to 64; default: cores, at most 4.
    pub front: Option<u16>,
    /// For applying and long reads, 1 to 64; default: cores, at most 4.
    pub state: Option<u16>,
    /// Whether processors may sleep deeply while this node is busy: saves power,
    /// and each step of a request takes up to 100 µs longer. Default `false`,
    /// which takes effect where the node may write `/dev/cpu_dma_latency` (root).
    #[serde(default)]
    pub deep_idle: bool,
}

/// Threads, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidThreads {
    /// For consensus.
    pub raft: usize,
    /// For client connections.
    pub front: usize,
    /// For applying and long reads.
    pub state: usize,
    /// Whether processors may sleep deeply while this node is busy.
    pub deep_idle: bool,
}

/// How large things may grow, as it stands in a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SizeLimits {
    /// Bytes of one file of the write-ahead log, 1 to 1024 MiB, default 64.
    /// Smaller files free space sooner; larger ones sync fewer file lengths.
    pub log_segment_mib: Option<u32>,
    /// Open client connections, 1 to 100000, default 10000. Each costs a file
    /// descriptor and some KiB.
    pub max_clients: Option<u32>,
    /// What holds tasks in.
    pub tasks: TaskLimits,
    /// What this node has for tasks beside processors and memory, like
    /// `{ gpu = 2 }`: at most 8 names of at most 16 letters, digits, `-`, `_`
    /// and `.`. Default none. The master counts what tasks take of it.
    pub resources: Amounts,
}

/// How large things may grow, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidLimits {
    /// Size of a log segment in bytes.
    pub log_segment_bytes: u64,
    /// Open client connections.
    pub max_clients: usize,
    /// What holds tasks in.
    pub tasks: ValidTasks,
    /// What this node has for tasks, by name.
    pub resources: Amounts,
}

/// Settings that were checked: every value is present and in range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidConfig {
    /// Data directory.
    pub data: PathBuf,
    /// Name for people.
    pub name: String,
    /// Address of the Redis door.
    pub redis: SocketAddr,
    /// Address of the NATS door.
    pub nats: SocketAddr,
    /// Address of the NATS door over WebSocket.
    pub websocket: Option<SocketAddr>,
    /// Address of the admin API.
    pub admin: SocketAddr,
    /// Listening address for other nodes.
    pub peer: SocketAddr,
    /// Address told to other nodes; `None`: the one that was bound.
    pub advertise: Option<SocketAddr>,
    /// Partitions, if this node creates the cluster.
    pub partitions: u16,
    /// Version and tags, as other nodes see them.
    pub profile: Profile,
    /// Log filter.
    pub log: String,
    /// How many threads work on what.
    pub threads: ValidThreads,
    /// How large things may grow.
    pub limits: ValidLimits,
    /// How surfaces are encrypted, and what is allowed beyond loopback.
    pub surfaces: Surfaces,
}

/// Why the settings cannot be used. Nothing was opened or changed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {reason}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The file is not TOML, or has a key or type that is not known.
    #[error("configuration file {path}: {message}")]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Where and what, naming the key.
        message: String,
    },
    /// A value is not allowed.
    #[error("`{key}` = {value} is not allowed: {allowed}")]
    OutOfRange {
        /// The key in the file; the flag is `--key`.
        key: &'static str,
        /// What was given.
        value: String,
        /// What would be allowed.
        allowed: &'static str,
    },
    /// A surface may not listen where it was told to.
    #[error(transparent)]
    Exposed(#[from] Exposed),
    /// The tags are not allowed.
    #[error("`tags` ({shown}): {reason}")]
    Tags {
        /// Their names.
        shown: String,
        /// What is wrong.
        reason: String,
    },
}

impl Config {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML, or names something unknown.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Unreadable { path: path.into(), reason: error.to_string() })?;
        Self::from_text(&text, path)
    }

    fn from_text(text: &str, path: &Path) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| ConfigError::Syntax {
            path: path.into(),
            message: error.to_string().trim_end().to_owned(),
        })
    }

    /// The file named by `--config`, if any, with the flags on top.
    ///
    /// # Errors
    /// As [`Config::from_file`].
    pub fn from_args(args: &StartArgs) -> Result<Self, ConfigError> {
        let mut config = match &args.config {
            Some(path) => Self::from_file(path)?,
            None => Self::default(),
        };
        let StartArgs { data, name, redis, nats, websocket, admin, peer, .. } = args.clone();
        let StartArgs { advertise, partitions, process, tags, doors, .. } = args.clone();
        let ProcessArgs { log, threads, deep_idle, unsafe_tasks } = process;
        config.data = data.or(config.data);
        config.name = name.or(config.name);
        config.redis = redis.or(config.redis);
        config.nats = nats.or(config.nats);
        config.websocket = websocket.or(config.websocket);
        config.admin = admin.or(config.admin);
        config.peer = peer.or(config.peer);
        config.advertise = advertise.or(config.advertise);
        config.partitions = partitions.or(config.partitions);
        config.log = log.or(config.log);
        config.limits.tasks.unconfined |= unsafe_tasks;
        config.threads.deep_idle |= deep_idle;
        for tag in tags {
            let (name, value) = tag.split_once('=').unwrap_or((&tag, ""));
            config.tags.get_or_insert_default().insert(name.to_owned(), value.to_owned());
        }
        for given in [&mut config.threads.raft, &mut config.threads.front, &mut config.threads.state] {
            *given = threads.or(*given);
        }
        config.tls.extend(doors.tls);
        config.beyond_loopback.plain_text.extend(doors.allow_plain_text_beyond_loopback);
        config.beyond_loopback.no_users.extend(doors.allow_no_users_beyond_loopback);
        Ok(config)
    }

    /// Fills in defaults and checks every value.
    ///
    /// # Errors
    /// The first value that is not allowed, by its key.
    pub fn validate(self) -> Result<ValidConfig, ConfigError> {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let redis = self.redis.unwrap_or(SocketAddr::new(loopback, DEFAULT_REDIS_PORT));
        let nats = self.nats.unwrap_or(SocketAddr::new(loopback, DEFAULT_NATS_PORT));
        let admin = self.admin.unwrap_or(SocketAddr::new(loopback, DEFAULT_ADMIN_PORT));
        let peer = match self.peer {
            Some(peer) => peer,
            None => SocketAddr::new(loopback, default_peer_port(redis.port())?),
        };
        let cores = std::thread::available_parallelism().map_or(2, usize::from).min(4);
        let threads = |key, given: Option<u16>, default: usize| -> Result<usize, ConfigError> {
            let count = given.map_or(default, usize::from);
            in_range(key, count, (1..=64).contains(&count), "1 to 64")
        };
        let partitions = self.partitions.unwrap_or(16);
        let surfaces = Surfaces::new(self.tls, self.beyond_loopback)?;
        surfaces.exposure(surfaces::REDIS).check_transport(surfaces::REDIS, redis)?;
        surfaces.exposure(surfaces::ADMIN).check_transport(surfaces::ADMIN, admin)?;
        surfaces.exposure(surfaces::NATS).check_transport(surfaces::NATS, nats)?;
        if let Some(websocket) = self.websocket {
            surfaces.exposure(surfaces::WEBSOCKET).check_transport(surfaces::WEBSOCKET, websocket)?;
        }
        Ok(ValidConfig {
            data: self.data.unwrap_or_else(|| PathBuf::from(crate::admin::DEFAULT_DATA)),
            name: valid_name(self.name)?,
            redis,
            nats,
            websocket: self.websocket,
            admin,
            peer,
            advertise: valid_advertise(peer, self.advertise)?,
            partitions: in_range(
                "partitions",
                partitions,
                (1..=MAX_PARTITIONS).contains(&partitions),
                "1 to 1024",
            )?,
            profile: valid_tags(self.tags.unwrap_or_default())?,
            log: valid_filter(self.log)?,
            threads: ValidThreads {
                raft: threads("threads.raft", self.threads.raft, 2)?,
                front: threads("threads.front", self.threads.front, cores)?,
                state: threads("threads.state", self.threads.state, cores)?,
                deep_idle: self.threads.deep_idle,
            },
            limits: self.limits.validate()?,
            surfaces,
        })
    }
}

impl SizeLimits {
    fn validate(self) -> Result<ValidLimits, ConfigError> {
        let segment_mib = self.log_segment_mib.unwrap_or(64);
        let max_clients = self.max_clients.unwrap_or(10_000);
        Ok(ValidLimits {
            log_segment_bytes: u64::from(in_range(
                "limits.log_segment_mib",
                segment_mib,
                (1..=1024).contains(&segment_mib),
                "1 to 1024",
            )?) << 20,
            max_clients: in_range(
                "limits.max_clients",
                max_clients as usize,
                (1..=100_000).contains(&max_clients),
                "1 to 100000",
            )?,
            tasks: self.tasks.validate()?,
            resources: self.resources,
        })
    }
}

fn in_range<T: std::fmt::Display>(
    key: &'static str,
    value: T,
    is_allowed: bool,
    allowed: &'static str,
) -> Result<T, ConfigError> {
    if is_allowed {
        Ok(value)
    } else {
        Err(ConfigError::OutOfRange { key, value: value.to_string(), allowed })
    }
}

/// The port between nodes that goes with a Redis port.
///
/// # Errors
/// The sum is no port: `peer` must be given.
pub fn default_peer_port(redis_port: u16) -> Result<u16, ConfigError> {
    if redis_port == 0 {
        return Ok(0);
    }
    redis_port.checked_add(PEER_PORT_OFFSET).ok_or_else(|| ConfigError::OutOfRange {
        key: "redis",
        value: format!("port {redis_port}"),
        allowed: "the port between nodes is by default 10000 higher and must be at most 65535; give `peer` itself",
    })
}

fn valid_name(name: Option<String>) -> Result<String, ConfigError> {
    let Some(name) = name else { return Ok(host_name()) };
    let fits = !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.bytes().all(is_name_byte);
    in_range("name", name, fits, "1 to 63 characters out of a-z, A-Z, 0-9, '.', '-' and '_'")
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')
}

fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name: String = name.chars().filter(|c| u8::try_from(*c).is_ok_and(is_name_byte)).collect();
    match name.get(..name.len().min(MAX_NAME_BYTES)) {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => "node".to_owned(),
    }
}

fn valid_advertise(
    peer: SocketAddr,
    advertise: Option<SocketAddr>,
) -> Result<Option<SocketAddr>, ConfigError> {
    match advertise {
        Some(address) => {
            let fits = !address.ip().is_unspecified() && address.port() != 0;
            in_range("advertise", address, fits, "one address and port that other nodes can reach").map(Some)
        }
        None if peer.ip().is_unspecified() => Err(ConfigError::OutOfRange {
            key: "peer",
            value: peer.to_string(),
            allowed: "a wildcard address cannot be told to other nodes; set `advertise` too",
        }),
        None => Ok(None),
    }
}

fn valid_tags(tags: BTreeMap<String, String>) -> Result<Profile, ConfigError> {
    let shown = tags.keys().cloned().collect::<Vec<_>>().join(", ");
    Profile::new(env!("CARGO_PKG_VERSION"), tags)
        .map_err(|error| ConfigError::Tags { shown, reason: error.to_string() })
}

fn valid_filter(filter: Option<String>) -> Result<String, ConfigError> {
    let filter = filter.unwrap_or_else(|| "info".to_owned());
    let fits = filter.parse::<tracing_subscriber::EnvFilter>().is_ok();
    in_range(
        "log",
        filter,
        fits,
        "error, warn, info, debug or trace, or a list like `info,trine_storage=debug`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ValidConfig, ConfigError> {
        Config::from_text(text, Path::new("trine.toml"))?.validate()
    }

    #[test]
    fn empty_file_gives_the_documented_defaults() {
        let config = parse("").expect("all keys have defaults");
        assert_eq!(config.redis.to_string(), "127.0.0.1:6379");
        assert_eq!(config.nats.to_string(), "127.0.0.1:4222");
        assert_eq!(config.admin.to_string(), "127.0.0.1:7070");
        assert_eq!(config.peer.to_string(), "127.0.0.1:16379");
        assert_eq!((config.partitions, config.log.as_str()), (16, "info"));
    }

    #[test]
    fn unknown_key_is_named() {
        let error = parse("partitons = 3").expect_err("misspelt").to_string();
        assert!(error.contains("partitons") && error.contains("partitions"), "{error}");
    }

    #[test]
    fn values_out_of_range_name_their_key_and_range() {
        let cases = [
            ("partitions = 0", "partitions", "1 to 1024"),
            ("partitions = 1025", "partitions", "1 to 1024"),
            ("redis = \"0.0.0.0:6379\"", "redis", "--allow-plain-text-beyond-loopback redis"),
            ("tls.reddis = \"auto\"", "tls", "redis and websocket"),
            ("beyond_loopback.plain = []", "plain", "plain_text"),
            ("admin = \"0.0.0.0:7070\"", "admin", "--tls admin=auto"),
            ("nats = \"0.0.0.0:4222\"", "nats", "--tls nats=auto"),
            ("redis = \"127.0.0.1:60000\"", "redis", "peer"),
            ("peer = \"0.0.0.0:1\"", "peer", "advertise"),
            ("advertise = \"0.0.0.0:1\"", "advertise", "reach"),
            ("name = \"a b\"", "name", "characters"),
            ("tags = { \"a b\" = \"x\" }", "tags", "letters"),
            ("log = \"info,=,=\"", "log", "debug"),
            ("limits.log_segment_mib = 0", "limits.log_segment_mib", "1 to 1024"),
            ("threads.raft = 65", "threads.raft", "1 to 64"),
            ("limits.max_clients = 0", "limits.max_clients", "100000"),
            ("limits.tasks.user = \"root\"", "limits.tasks.user", "not root"),
            ("limits.tasks.user = \"no such user\"", "limits.tasks.user", "UID:GID"),
            ("limits.tasks.folder = \"here\"", "limits.tasks.folder", "absolute"),
            ("limits.resources = { 'a b' = 1 }", "resources", "no name of a resource"),
        ];
        for (text, key, allowed) in cases {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(key) && error.contains(allowed), "{text}: {error}");
        }
        let has = parse("limits.resources = { gpu = 2 }").expect("fine").limits.resources;
        assert_eq!(has.to_string(), "gpu=2");
    }

    #[test]
    fn flags_win_over_the_file() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("trine.toml");
        std::fs::write(&path, "name = \"file\"\npartitions = 4\n").expect("written");
        let tags = vec!["rack=7".into(), "spot".into()];
        let args = StartArgs { config: Some(path), name: Some("flag".into()), tags, ..StartArgs::default() };
        let config = Config::from_args(&args).and_then(Config::validate).expect("valid");
        assert_eq!((config.name.as_str(), config.partitions), ("flag", 4));
        assert_eq!(config.profile.tags["rack"], "7");
        assert_eq!(config.profile.tags["spot"], "");
    }
}
