//! The command line's grammar. What the flags mean to a node is in
//! [`crate::config`]; what the commands do is in one file each.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use trine_front::TlsSource;

use crate::engine::EngineCommand;
use crate::run::args::RunArgs;
use crate::run::job::JobCommand;
use crate::run::pilot::PlanArgs;
use crate::talk::shell::TalkCommand;

mod logins;

pub use logins::{AuditArgs, TokenCommand, UserArgs, UserCommand};

const ABOUT: &str = "One binary that turns machines into a distributed system.";
const AFTER: &str = "\
Start here:
  trine demo                     three nodes, real input, a kill under load, a verdict
  trine dev                      three nodes that keep running; prints where to connect
  trine start                    one node; the first makes a cluster
  trine ticket | ssh HOST trine start --join -    add a machine

Data goes to standard output, everything else to standard error.";

/// Everything that can be typed.
#[derive(Debug, Parser)]
#[command(name = "trine", version, about = ABOUT, after_help = AFTER, propagate_version = true)]
pub struct Cli {
    /// Print machine-readable JSON on standard output.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start three nodes, store real files, kill a leader under load, and give a verdict.
    Demo(DemoArgs),
    /// Run a local cluster of several processes until Ctrl-C.
    Dev(DevArgs),
    /// Run one node; the first creates a cluster, others join with a ticket.
    Start(Box<StartArgs>),
    /// Print a one-time ticket with which one machine may join.
    Ticket(TicketArgs),
    /// What this node is, whether it serves, and what failures the cluster survives.
    Status(NodeTarget),
    /// The nodes of the cluster and which of them are reachable.
    Nodes(NodeTarget),
    /// The groups of this node: leader, voters, learners, log and applied index, digest.
    Groups(NodeTarget),
    /// The members of the cluster, and messages to them and to whoever listens.
    #[command(subcommand)]
    Peer(PeerCommand),
    /// Change the set of nodes.
    #[command(subcommand)]
    Node(NodeCommand),
    /// Give up nodes that are lost for good, after a majority of a group was lost.
    Recover(RecoverArgs),
    /// Users: who may log in, and what they may do.
    #[command(subcommand)]
    User(UserCommand),
    /// Tokens: secrets with rights of their own, for programs.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Who changed what of the cluster, and when.
    Audit(AuditArgs),
    /// Read and write keys.
    #[command(subcommand)]
    Db(DbCommand),
    /// Run a command for each argument, on all nodes, in the words of GNU parallel.
    Run(Box<RunArgs>),
    /// Predict how long a command takes on 1, 2, 4 … nodes, from a few of its tasks.
    Plan(Box<PlanArgs>),
    /// Jobs: submit, look at, wait for and cancel them.
    #[command(subcommand)]
    Job(JobCommand),
    /// Dask, Ray or Spark on all nodes, supervised.
    #[command(subcommand)]
    Engine(EngineCommand),
    /// Starts the processes of tasks, shut in with them; a node starts it by itself.
    #[command(hide = true)]
    Launcher,
}

/// Members, what happens to them, and messages.
#[derive(Debug, Subcommand)]
pub enum PeerCommand {
    /// Every member: state, address, round trip, load, version, incarnation, tags.
    Ls(NodeTarget),
    /// Print joins, suspicions, goodbyes and failures as they happen, until Ctrl-C.
    Watch(NodeTarget),
    /// Messages.
    #[command(flatten)]
    Talk(TalkCommand),
}

/// Changes of the set of nodes.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Remove a node for good: its key is revoked, its replicas move elsewhere.
    Remove(RemoveArgs),
}

/// Key commands.
#[derive(Debug, Subcommand)]
pub enum DbCommand {
    /// Print the value of a key; exit code 1 if there is none.
    Get {
        /// The key.
        key: String,
        /// Which door.
        #[command(flatten)]
        door: DbTarget,
    },
    /// Set a key.
    Set {
        /// The key.
        key: String,
        /// The value; `-` reads it from standard input.
        value: String,
        /// Which door.
        #[command(flatten)]
        door: DbTarget,
    },
    /// Delete keys; prints how many existed.
    Del {
        /// The keys.
        #[arg(required = true)]
        keys: Vec<String>,
        /// Which door.
        #[command(flatten)]
        door: DbTarget,
    },
}

/// Which database door to use.
#[derive(Debug, Args)]
pub struct DbTarget {
    /// Redis address of any node [default: that of the node on this machine, or 127.0.0.1:6379].
    #[arg(long, value_name = "ADDR")]
    pub connect: Option<SocketAddr>,
    /// The door speaks TLS: trust the certificates in this PEM file; that of a node is DATA/tls/certificate.pem.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// What the door's certificate is for, if that is not its address.
    #[arg(long, value_name = "NAME", requires = "ca")]
    pub tls_name: Option<String>,
    /// Database number.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=15))]
    pub db: u16,
    /// Print the time of the operation and its two parts.
    #[arg(long, help = "Print T = T_r + T_c: processing at the owner, passing between nodes")]
    pub timing: bool,
    /// Who asks, where users must log in.
    #[command(flatten)]
    pub who: LoginArgs,
    /// Which node lets whoever runs it in without a login.
    #[command(flatten)]
    pub node: NodeTarget,
}

/// What a command shows to a door. A secret is never an argument: other users
/// of a machine see those.
#[derive(Debug, Args)]
pub struct LoginArgs {
    /// Log in as this user, with the password in `TRINE_PASSWORD` or typed [default: `TRINE_USER`].
    #[arg(long, value_name = "NAME", conflicts_with = "token_file")]
    pub user: Option<String>,
    /// Log in with the token in this file [default: the token in `TRINE_TOKEN`].
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// Which running node on this machine to ask.
#[derive(Debug, Args, Clone, Default)]
pub struct NodeTarget {
    /// The node's data directory [default: ./trine-data, then the nodes of ./trine-dev].
    #[arg(long, value_name = "DIR", conflicts_with = "socket")]
    pub data: Option<PathBuf>,
    /// The node's admin socket (DATA/admin.sock).
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

/// How a node's process runs.
#[derive(Debug, Args, Default, Clone)]
pub struct ProcessArgs {
    /// What to log on standard error (error, warn, info, debug, or per module) [default: info].
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// Threads for each of consensus, clients and state; 1: one for consensus and clients together [default: by the number of cores].
    #[arg(long, value_name = "N")]
    pub threads: Option<u16>,
    /// Let processors sleep deeply while this node is busy: saves power, but each step of a request may take 100 µs longer.
    #[arg(long)]
    pub deep_idle: bool,
    /// Execute tasks even if nothing keeps them from this node's data and keys
    /// (neither root, to give them users of their own, nor Landlock).
    #[arg(long)]
    pub unsafe_tasks: bool,
}

/// `trine start`.
#[derive(Debug, Args, Default, Clone)]
pub struct StartArgs {
    /// TOML file with any of the settings below; flags win over the file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where this node keeps its key, log and state [default: ./trine-data].
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The node's name, for people [default: the host's name].
    #[arg(long)]
    pub name: Option<String>,
    /// Address of the Redis door; beyond loopback it needs --tls and users [default: 127.0.0.1:6379].
    #[arg(long, value_name = "ADDR")]
    pub redis: Option<SocketAddr>,
    /// Address of the NATS door; beyond loopback it needs --tls and users [default: 127.0.0.1:4222].
    #[arg(long, value_name = "ADDR")]
    pub nats: Option<SocketAddr>,
    /// Address of the NATS door over WebSocket [default: none].
    #[arg(long, value_name = "ADDR")]
    pub websocket: Option<SocketAddr>,
    /// Address of the admin API (HTTP); beyond loopback only with TLS [default: 127.0.0.1:7070].
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<SocketAddr>,
    /// Address on which other nodes reach this one [default: 127.0.0.1, Redis port + 10000].
    #[arg(long, value_name = "ADDR")]
    pub peer: Option<SocketAddr>,
    /// Address that is told to other nodes, if it differs from --peer (NAT, wildcard).
    #[arg(long, value_name = "ADDR")]
    pub advertise: Option<SocketAddr>,
    /// Join a cluster: @FILE holds the ticket, or - for standard input.
    #[arg(long, value_name = "@FILE|-")]
    pub join: Option<String>,
    /// Number of partitions, fixed when the cluster is created [default: 16].
    #[arg(long, value_name = "N")]
    pub partitions: Option<u16>,
    /// How the process runs.
    #[command(flatten)]
    pub process: ProcessArgs,
    /// Encryption, and what may be done beyond loopback.
    #[command(flatten)]
    pub doors: DoorArgs,
    /// A tag that other nodes see in `trine peer ls`; may be repeated.
    #[arg(long = "tag", value_name = "NAME=VALUE")]
    pub tags: Vec<String>,
    /// Die with this process (used by dev and demo).
    #[arg(long, hide = true, value_name = "PID")]
    pub parent: Option<u32>,
}

/// How network surfaces are protected; a surface is `redis`, `nats`,
/// `websocket` or `admin`.
#[derive(Debug, Args, Default, Clone)]
pub struct DoorArgs {
    /// Encrypt a surface: `redis=auto` with a certificate that the node makes
    /// (DATA/tls/certificate.pem, for clients to trust), or
    /// `redis=CERTIFICATE,KEY[,CLIENT_CA]` with PEM files.
    #[arg(long, value_name = "SURFACE=auto|FILES", value_parser = crate::surfaces::parse_tls)]
    pub tls: Vec<(String, TlsSource)>,
    /// Let a surface be reached beyond loopback without TLS: anyone on the way
    /// can then read and change what is sent.
    #[arg(long, value_name = "SURFACE", value_delimiter = ',')]
    pub allow_plain_text_beyond_loopback: Vec<String>,
    /// Let a surface be reached beyond loopback while the cluster has no
    /// users: anyone can then read and change the data.
    #[arg(long, value_name = "SURFACE", value_delimiter = ',')]
    pub allow_no_users_beyond_loopback: Vec<String>,
}

/// `trine dev`.
#[derive(Debug, Args, Clone)]
pub struct DevArgs {
    /// How many nodes to run.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub nodes: u16,
    /// Where the nodes keep their data, one folder each.
    #[arg(long, value_name = "DIR", default_value = "trine-dev")]
    pub data: PathBuf,
    /// Redis port of node 1; node n listens on this + 10*(n-1).
    #[arg(long, value_name = "PORT", default_value_t = 6379, value_parser = clap::value_parser!(u16).range(1..))]
    pub redis_port: u16,
    /// Port between nodes of node 1; node n uses this + 10*(n-1) [default: Redis port + 10000].
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub peer_port: Option<u16>,
    /// Port of the NATS door of node 1; node n uses this + 10*(n-1).
    #[arg(long, value_name = "PORT", default_value_t = 4222, value_parser = clap::value_parser!(u16).range(1..))]
    pub nats_port: u16,
    /// Port of the admin API of node 1; node n uses this + 10*(n-1).
    #[arg(long, value_name = "PORT", default_value_t = 7070, value_parser = clap::value_parser!(u16).range(1..))]
    pub admin_port: u16,
    /// Number of partitions when the cluster is created [default: 1 per node].
    #[arg(long, value_name = "N")]
    pub partitions: Option<u16>,
    /// Execute tasks even if nothing keeps them from the nodes' data and keys.
    #[arg(long)]
    pub unsafe_tasks: bool,
}

/// `trine demo`.
#[derive(Debug, Args, Clone)]
pub struct DemoArgs {
    /// Folder whose files are stored [default: the Rust sources in the Cargo registry].
    #[arg(long, value_name = "DIR")]
    pub input: Option<PathBuf>,
    /// At most this many files.
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_files: u32,
    /// At most this many MiB in all.
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub max_mib: u32,
    /// Seconds of load before and after the kill.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub load: u32,
}

/// `trine ticket`.
#[derive(Debug, Args)]
pub struct TicketArgs {
    /// How long the ticket is good for, like 90s, 30m, 12h or 2d.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_duration)]
    pub valid: Duration,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeTarget,
}

/// `trine node remove`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// The node: its number (n3 or 3), name, or the first characters of its id.
    pub name: String,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeTarget,
}

/// `trine recover`.
#[derive(Debug, Args)]
pub struct RecoverArgs {
    /// Nodes that will never come back (number, name or start of the id).
    #[arg(long, value_name = "NODE", required = true, num_args = 1..)]
    pub i_lost: Vec<String>,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeTarget,
}

/// Longest duration that the command line takes.
const MAX_DURATION: Duration = Duration::from_hours(366 * 24);

/// Parses `90s`, `30m`, `12h`, `2d`.
///
/// # Errors
/// Says which forms are understood.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time; write a number and a unit, like 90s, 30m, 12h or 2d");
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "s" => Some(number),
        "m" => number.checked_mul(60),
        "h" => number.checked_mul(3_600),
        "d" => number.checked_mul(86_400),
        _ => return Err(wrong()),
    };
    match seconds.map(Duration::from_secs) {
        Some(duration) if !duration.is_zero() && duration <= MAX_DURATION => Ok(duration),
        _ => Err(format!("`{text}` is out of range; from 1s to 366d")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_have_a_unit_and_a_range() {
        assert_eq!(parse_duration("30m"), Ok(Duration::from_mins(30)));
        for bad in ["", "5", "h", "5w", "0s", "367d", "99999999999999999999d", "18446744073709551615d"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn global_json_goes_anywhere() {
        let cli = Cli::try_parse_from(["trine", "nodes", "--json"]).expect("valid");
        assert!(cli.json);
        let cli = Cli::try_parse_from(["trine", "recover", "--i-lost", "n2", "n3", "--yes"]).expect("valid");
        assert!(matches!(cli.command, Command::Recover(args) if args.i_lost.len() == 2));
    }
}
