//! Everything between the disk and the database: files, identity, membership,
//! network, and then the node.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;
use trine_cluster::membership::{self, MembershipError};
use trine_cluster::{ClusterConfig, Directory, Doors, Settings};
use trine_compute::body::Hands;
use trine_storage::{Disk, Driver, FjallConfig, FjallStore, RealDisk, WalConfig, Workers};
use trine_transport::{
    AdmissionCertificate, EndpointConfig, JoinError, Ticket, TlsConfig, TlsTransport, Transport, Trust,
};
use trine_types::{Clock, Entropy};

use super::hands;
use crate::config::ValidConfig;
use crate::failure::Failure;
use crate::node::{About, Entered, Node, NodeParts, Tuning};
use crate::private::make_private;
use crate::seams::{OsEntropy, SystemClock};
use crate::topology::REDIS_DOOR;

/// How often joining is tried when the contact goes away in the middle; asking
/// again with the same key is safe.
const JOIN_TRIES: u32 = 3;
/// Folder of the state store in the data directory.
const STATE_FOLDER: &str = "state";
/// File that counts the starts of a node: once it is there, so is the log.
const START_FILE: &str = "node/start";

/// Brings the node up, as far as that goes without knowing the cluster;
/// returns the node and where it listens for its peers.
///
/// # Errors
/// Something of that cannot be used, or the cluster refuses this node.
pub(super) async fn bring_up(
    config: &ValidConfig,
    ticket: Option<Ticket>,
    (redis, http): (SocketAddr, SocketAddr),
    doors: Vec<(String, SocketAddr)>,
) -> Result<(Entered, SocketAddr), Failure> {
    let (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>) = (Arc::new(SystemClock), Arc::new(OsEntropy));
    let settings = ClusterConfig::default().validate().map_err(Failure::new)?;
    make_private(&config.data)?;
    let disk = RealDisk::open(&config.data);
    let disk: Arc<dyn Disk> = Arc::new(disk.map_err(|error| cannot_use(&config.data, &error))?);
    let unusable = |error: &dyn std::fmt::Display| cannot_use(&config.data, error);
    let mut directory = Directory::open(disk.clone(), &*entropy).map_err(|error| unusable(&error))?;
    let has_run = config.data.join(START_FILE).exists();
    membership::renew_by_own_key(&mut directory, &*clock, &settings).map_err(|error| unusable(&error))?;
    let trusted = membership::trust(&directory).map_err(|error| unusable(&error))?;
    let (trust, trusting) = shared_trust(trusted);
    let identity = membership::identity(&directory);
    let transport = TlsTransport::bind(TlsConfig::new(config.peer), &identity, trusting, clock.clone());
    let transport = transport.map_err(|error| {
        Failure::new(format!("cannot listen for other nodes on {}: {error}", config.peer))
            .hint("choose another address with --peer ADDR")
    })?;
    let peer = transport.address();
    let transport: Arc<dyn Transport> = Arc::new(transport);
    belong(config, &mut directory, &transport, ticket, (&*clock, &*entropy, &settings)).await?;
    trust.send_replace(membership::trust(&directory).map_err(|error| unusable(&error))?);
    let number = directory.membership().map(|member| member.number).unwrap_or_default();
    let hands = hands::of_node(config, number, (redis, http), &doors, entropy.clone()).await?;
    let state = FjallStore::open(&config.data.join(STATE_FOLDER), FjallConfig::default());
    let workers = Workers::threads(config.threads.state);
    let parts = NodeParts {
        directory,
        disk,
        driver: Driver::Thread,
        state: Arc::new(state.map_err(|error| unusable(&error))?),
        transport,
        trust,
        workers: workers.map_err(|error| no_threads(&error))?,
        hashing: Workers::threads(1).map_err(|error| no_threads(&error))?,
        clock,
        entropy,
        doors: Doors {
            peers: vec![config.advertise.unwrap_or(peer)],
            clients: doors.into_iter().chain([(REDIS_DOOR.to_owned(), redis)]).collect(),
        },
        open_to_all: config.surfaces.exposure(crate::surfaces::REDIS).no_users_allowed,
        resident_bytes,
        about: About { profile: config.profile.clone(), load },
        tuning: tuning(config, redis, has_run, settings, hands),
    };
    let entered = Node::enter(parts).await.map_err(Failure::new)?;
    Ok((entered, peer))
}

fn no_threads(error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot start threads: {error}"))
}

fn tuning(
    config: &ValidConfig,
    redis: SocketAddr,
    has_run: bool,
    settings: Settings,
    hands: Hands,
) -> Tuning {
    Tuning {
        wal: WalConfig {
            segment_bytes: config.limits.log_segment_bytes,
            must_exist: has_run,
            ..WalConfig::default()
        },
        endpoint: EndpointConfig::default(),
        replication: trine_replication::Config::default(),
        cluster: settings,
        database: trine_database::Config {
            max_clients: config.limits.max_clients,
            port: redis.port(),
            ..trine_database::Config::default()
        },
        hands,
    }
}

/// The cluster room changes trust in place; the transport reads it for every
/// handshake and shares it. Both ends end together.
fn shared_trust(trust: Trust) -> (watch::Sender<Trust>, watch::Receiver<Arc<Trust>>) {
    let (shared, reading) = watch::channel(Arc::new(trust.clone()));
    let (writing, mut written) = watch::channel(trust);
    tokio::spawn(async move {
        while written.changed().await.is_ok() {
            shared.send_replace(Arc::new(written.borrow_and_update().clone()));
        }
    });
    (writing, reading)
}

/// Resident memory of this process, 0 where `/proc` does not say.
pub(crate) fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = resident.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

/// Load of this machine over the last minute, in hundredths of what its cores
/// can do; 0 where `/proc` does not say.
fn load() -> u16 {
    let average = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let average: f64 = average.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0.0);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let share = average * 100.0 / f64::from(u32::try_from(cores).unwrap_or(u32::MAX));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what fits")]
    let hundredths = share.clamp(0.0, f64::from(u16::MAX)) as u16;
    hundredths
}

fn cannot_use(data: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("cannot use the data directory {}: {error}", data.display()))
}

/// Makes the directory a node's, if it is not: with a ticket it joins, without
/// one it founds a cluster.
async fn belong(
    config: &ValidConfig,
    directory: &mut Directory,
    transport: &Arc<dyn Transport>,
    ticket: Option<Ticket>,
    (clock, entropy, settings): (&dyn Clock, &dyn Entropy, &Settings),
) -> Result<(), Failure> {
    let applicant = membership::applicant(directory, &config.name);
    let Some(ticket) = ticket else {
        if directory.membership().is_some() {
            return Ok(());
        }
        membership::found(directory, &applicant, config.partitions, (clock, entropy), settings)
            .map_err(Failure::new)?;
        tracing::info!(
            partitions = config.partitions,
            "made a new cluster; add machines with `trine ticket`"
        );
        return Ok(());
    };
    directory.expect_cluster(ticket.cluster).map_err(|error| {
        Failure::new(error)
            .hint("give this node a directory of its own with --data DIR, or start it without --join")
    })?;
    if directory.membership().is_some() && is_certified(directory, clock.wall_ms()) {
        tracing::info!("this node belongs to the cluster already; the ticket is not used");
        return Ok(());
    }
    if ticket.is_expired(clock.wall_ms()) {
        return Err(Failure::new("the ticket has expired").hint("print a new one with `trine ticket`"));
    }
    for tried in 1.. {
        match membership::join(directory, transport, ticket.clone(), applicant.clone()).await {
            Ok(()) => break,
            Err(MembershipError::Join(JoinError::Interrupted)) if tried < JOIN_TRIES => {}
            Err(error) => {
                return Err(Failure::new(format!("cannot join: {error}"))
                    .hint("print a new ticket with `trine ticket` on a node of the cluster"));
            }
        }
    }
    tracing::info!("joined the cluster");
    Ok(())
}

/// Whether the certificate on disk is valid now.
fn is_certified(directory: &Directory, now_ms: u64) -> bool {
    let certificate =
        directory.membership().and_then(|it| AdmissionCertificate::decode(&it.certificate).ok());
    certificate.is_some_and(|certificate| certificate.admission.not_after_ms > now_ms)
}
