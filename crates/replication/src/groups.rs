//! Opening, beginning, closing and destroying this node's replicas.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::RaftError;
use trine_types::{GroupId, NodeId, NodeNumber};

use crate::apply::ApplyCore;
use crate::engine::acks::Acks;
use crate::engine::log::{LogStore, durable};
use crate::engine::network::Network;
use crate::engine::options::options;
use crate::engine::{Member, Raft, ReplicaState};
use crate::error::GroupError;
use crate::machine::Machine;
use crate::node::{Local, Node};
use crate::replica::{Pointer, Replica};
use crate::run::members::rewrite_members;

fn storage(error: &(impl std::fmt::Display + ?Sized)) -> GroupError {
    GroupError::Storage(error.to_string())
}

/// The rows of a replica as they were left, and the state machine over them.
async fn open_state(
    node: &Arc<Node>,
    group: GroupId,
    machine: Arc<dyn Machine>,
) -> Result<(Pointer, ApplyCore), GroupError> {
    let replicas = node.replicas.clone();
    let job = move || -> io::Result<(Pointer, ApplyCore)> {
        let pointer = replicas.pointer(group)?;
        replicas.sweep(group, Some(pointer.generation))?;
        let keyspace = replicas.keyspace(group, pointer.generation)?;
        let core = ApplyCore::open(machine, keyspace)?;
        if let Some(last) = core.applied.last {
            core.machine().applied(core.keyspace(), last.index);
        }
        Ok((pointer, core))
    };
    let (pointer, core) =
        node.workers.run(job).await.map_err(|error| storage(&error))?.map_err(|error| storage(&error))?;
    if pointer.aside { Err(GroupError::Aside(group)) } else { Ok((pointer, core)) }
}

/// See [`crate::Replication::open_group`].
pub(crate) async fn open(
    node: Arc<Node>,
    group: GroupId,
    machine: Arc<dyn Machine>,
) -> Result<(), GroupError> {
    let _one_at_a_time = node.opening.lock().await;
    if node.local(group).is_some() {
        return Ok(());
    }
    let (pointer, core) = open_state(&node, group, machine.clone()).await?;
    let log = node.wal.group(group);
    let purged = log.bounds().purged.map_or(0, |at| at.index);
    let applied = core.applied.last.map_or(0, |last| last.index);
    if applied < purged {
        // Never seen by a replica that only crashed: logs are purged behind
        // flushed state. The state store was lost or is from another time.
        let reason = format!("the state ends at entry {applied}, the log begins after {purged}");
        return Err(GroupError::Storage(reason));
    }
    let replica = Arc::new(Replica::new(group, core.keyspace().clone(), core.applied));
    let state = ReplicaState::new(
        core,
        pointer.generation,
        replica.clone(),
        node.replicas.clone(),
        node.workers.clone(),
    );
    let acks = Arc::new(Acks::default());
    let network = Network {
        endpoint: node.endpoint.clone(),
        group,
        workers: node.workers.clone(),
        config: node.config.clone(),
        serial: node.serial.clone(),
        acks: acks.clone(),
    };
    let config = options(group, node.number, &node.config).map_err(|error| storage(&error))?;
    let raft = Raft::new(node.number.0, Arc::new(config), network, LogStore::new(log.clone()), state)
        .await
        .map_err(|error| GroupError::Stopped(group, error.to_string()))?;
    let local = Local {
        raft,
        replica,
        machine,
        log,
        acks,
        parked: AtomicBool::new(false),
        handed_over: AtomicU64::new(0),
        streams: std::sync::Mutex::default(),
        incoming: tokio::sync::Mutex::new(None),
    };
    node.route(group).local.send_replace(Some(Arc::new(local)));
    Ok(())
}

/// See [`crate::Replication::initialize`].
pub(crate) async fn initialize(
    node: Arc<Node>,
    group: GroupId,
    members: BTreeMap<NodeNumber, NodeId>,
) -> Result<(), GroupError> {
    let local = node.local(group).ok_or(GroupError::NoReplica(group))?;
    let members: BTreeMap<u64, Member> =
        members.into_iter().map(|(number, key)| (number.0, Member { key })).collect();
    match local.raft.initialize(members).await {
        Ok(()) => Ok(()),
        Err(RaftError::APIError(_)) => Err(GroupError::AlreadyInitialized(group)),
        Err(RaftError::Fatal(fatal)) => Err(GroupError::Stopped(group, fatal.to_string())),
    }
}

/// See [`crate::Replication::close_group`].
pub(crate) async fn close(node: Arc<Node>, group: GroupId) {
    let Some(route) = node.known_route(group) else { return };
    if let Some(local) = route.local.send_replace(None) {
        // An error: it had stopped before.
        let _ = local.raft.shutdown().await;
    }
}

/// See [`crate::Replication::destroy_group`].
pub(crate) async fn destroy(node: Arc<Node>, group: GroupId) -> Result<(), GroupError> {
    close(node.clone(), group).await;
    let _one_at_a_time = node.opening.lock().await;
    let log = node.wal.group(group);
    // The log first: a state without a log is a prefix of what was committed
    // and does no harm; a purged log without its state could not be replayed.
    durable(|done| log.destroy(done)).await.map_err(|error| storage(&error))?;
    let replicas = node.replicas.clone();
    let destroyed = node.workers.run(move || replicas.destroy(group)).await;
    destroyed.map_err(|error| storage(&error))?.map_err(|error| storage(&error))
}

/// See [`crate::Replication::recover_without`].
pub(crate) async fn recover_without(
    node: Arc<Node>,
    group: GroupId,
    lost: BTreeSet<NodeNumber>,
) -> Result<(), GroupError> {
    let local = node.local(group).ok_or(GroupError::NoReplica(group))?;
    let machine = local.machine.clone();
    let membership = {
        let metrics = local.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.membership().clone()
    };
    drop(local);
    close(node.clone(), group).await;
    rewrite_members(&node, group, &lost, &membership).await?;
    open(node, group, machine).await
}
