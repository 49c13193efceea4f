//! The order in which a node comes up: count the start, ask the peers whether
//! it may go on, and only then let it vote.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};
use trine_replication::{GroupError, Replication};
use trine_storage::Workers;
use trine_transport::{AdmissionCertificate, Endpoint, IssuingKey, Transport, Trust};
use trine_types::{Clock, Entropy, GroupId, NodeId, NodeNumber};

use crate::calls::{Ask, SERVICE, Told};
use crate::config::Settings;
use crate::context::{AskError, Context, MachineFactory, ask_over};
use crate::directory::{Directory, DirectoryError, Known, StartCount};
use crate::error::{Fatal, StartError};
use crate::handle::Cluster;
use crate::join::JoinDoor;
use crate::machine::MetaMachine;
use crate::membership;
use crate::nodes::{StartRefused, StartReport};
use crate::run::service::{Door, Doorbell};
use crate::run::{Agent, EVENTS, Outside};
use crate::state::FEATURE_LEVEL;

/// How long the peers have to object to a start.
const OBJECTION_LIMIT: Duration = Duration::from_millis(500);

/// What the cluster room stands on, as the binary (or the simulator) gives it.
pub struct Parts {
    /// The node's files; it belongs to a cluster.
    pub directory: Directory,
    /// What [`enter`] returned.
    pub start: StartCount,
    /// Where machines ask to join.
    pub transport: Arc<dyn Transport>,
    /// Calls to and from other nodes, over the same transport.
    pub endpoint: Endpoint,
    /// What the transport trusts; this room keeps it up to date.
    pub trust: watch::Sender<Trust>,
    /// The groups of this node.
    pub replication: Replication,
    /// Where blocking file work runs.
    pub workers: Workers,
    /// Wall-clock time, for certificates.
    pub clock: Arc<dyn Clock>,
    /// Secrets of tickets.
    pub entropy: Arc<dyn Entropy>,
    /// The machines of the groups other than `meta`.
    pub machines: MachineFactory,
    /// Where this node can be reached.
    pub doors: Doors,
    /// Tuning.
    pub settings: Settings,
}

/// Where a node can be reached, as it reports to `meta` at each start.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Doors {
    /// By its peers, best first.
    pub peers: Vec<SocketAddr>,
    /// By clients, by door (`redis`, …).
    pub clients: BTreeMap<String, SocketAddr>,
}

/// Counts this start and asks every known peer whether this process may be
/// the node: a copied or rolled-back directory is caught before it votes.
/// Call it after the transport is up and before replication starts.
///
/// # Errors
/// [`StartError`]: the process must stop.
pub async fn enter(
    directory: &Directory,
    endpoint: &Endpoint,
    entropy: &dyn Entropy,
) -> Result<StartCount, StartError> {
    let number = directory.membership().ok_or(DirectoryError::NoMember)?.number;
    let start = directory.count_start(entropy)?;
    endpoint.serve(SERVICE, Arc::new(Doorbell(start)));
    let known = directory.known()?;
    let ask = Ask::MayStart { number, incarnation: start.incarnation, boot: start.boot };
    let mut answers = FuturesUnordered::new();
    for peer in known.peers.values().filter(|peer| peer.id != endpoint.local()) {
        endpoint.set_addresses(peer.id, peer.addresses.clone());
        answers.push(ask_over(endpoint, peer.id, &ask, OBJECTION_LIMIT));
    }
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(Told::MustStop(refused)) => return Err(Fatal::Refused(refused).into()),
            // One that runs and agrees is enough: what it knows is in the log.
            Ok(Told::Yes) => break,
            Err(AskError::Revoked) => return Err(Fatal::Refused(StartRefused::NotANode(number)).into()),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(start)
}

fn first_peers(known: &Known, number: NodeNumber, id: NodeId) -> BTreeMap<NodeNumber, NodeId> {
    let mut peers: BTreeMap<_, _> = known.peers.iter().map(|(&number, peer)| (number, peer.id)).collect();
    peers.insert(number, id);
    peers
}

impl Cluster {
    /// Opens `meta`, starts to follow it, and lets machines join through this
    /// node. Returns before the node is known to be accepted; see
    /// [`Cluster::must_stop`].
    ///
    /// # Errors
    /// [`StartError`]: the process must stop.
    pub async fn start(parts: Parts) -> Result<Self, StartError> {
        let member = parts.directory.membership().ok_or(DirectoryError::NoMember)?.clone();
        let known = parts.directory.known()?;
        let issuing = parts.directory.issuing_seed()?.map(IssuingKey::from_seed);
        let (machine, meta) = MetaMachine::new();
        let id = parts.endpoint.local();
        let replication = parts.replication.clone();
        let context = Arc::new(Context {
            cluster: member.cluster,
            number: member.number,
            id,
            start: parts.start,
            endpoint: parts.endpoint.clone(),
            replication: parts.replication,
            workers: parts.workers,
            clock: parts.clock,
            entropy: parts.entropy,
            settings: parts.settings,
            machines: parts.machines,
            meta,
        });
        replication.peers(first_peers(&known, member.number, id));
        replication.hint(GroupId::META, known.voters.first().copied(), known.voters.clone());
        replication.open_group(GroupId::META, machine).await?;
        if member.founding.is_some() {
            match replication.initialize(GroupId::META, BTreeMap::from([(member.number, id)])).await {
                Ok(()) | Err(GroupError::AlreadyInitialized(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let (events, arriving) = mpsc::channel(EVENTS);
        let (fatal, must_stop) = watch::channel(None);
        parts.endpoint.serve(SERVICE, Arc::new(Door { context: context.clone(), events: events.clone() }));
        parts.transport.serve_joins(Arc::new(JoinDoor(context.clone())));
        let report = StartReport {
            number: member.number,
            incarnation: parts.start.incarnation,
            boot: parts.start.boot,
            addresses: parts.doors.peers,
            clients: parts.doors.clients,
            features: FEATURE_LEVEL,
            issuer: AdmissionCertificate::decode(&member.certificate).map_or([0; 32], |own| own.issuer),
        };
        let suspects = replication.suspects();
        let outside = Outside { trust: parts.trust, fatal, suspects };
        Agent::new(context.clone(), parts.directory, issuing, outside, report).spawn(arriving);
        Ok(Self::new(context, events, must_stop))
    }
}

/// The founder's own application, as it goes into the log at genesis.
pub(crate) fn founder(
    directory: &Directory,
    member: &crate::directory::Membership,
    founding: &crate::directory::Founding,
    report: &StartReport,
) -> crate::nodes::Applicant {
    let mut founder = membership::applicant(directory, &member.name);
    founder.zone.clone_from(&founding.zone);
    founder.weight = founding.weight;
    founder.addresses.clone_from(&report.addresses);
    founder
}
