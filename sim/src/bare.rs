//! The bare node: the product's log, state store twin, transport twin and
//! replication, with one group of registers. Everything above replication is
//! absent, so that its failures have few possible causes.

pub mod machine;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use trine_replication::{Config, Parts, ProposeError, Replication, Role};
use trine_storage::{Driver, GroupLog, StateStore, Wal, WalConfig, Workers};
use trine_transport::{Endpoint, EndpointConfig};
use trine_types::{GroupId, Incarnation, NodeId, NodeNumber};

use crate::door::{Answer, Door, Request};
use crate::failure::{Failure, Property};
use crate::hardware::Hardware;
use crate::random::mix;
use crate::scenario::load;
use crate::system::{EntryView, NodeParts, Observe, ReplicaView, Running, System};
use crate::world::World;

/// The one group of bare nodes.
const GROUP: GroupId = GroupId(1);
/// Node numbers that may ever exist in a world.
const MOST_NODES: u64 = 16;
/// How long a cluster may take to form, and a change of members to end.
const FORM_MS: u64 = 10_000;
const CHANGE_MS: u64 = 30_000;

/// Makes bare nodes.
#[derive(Debug, Clone, Copy)]
pub struct Bare;

/// A running bare node.
#[derive(Clone)]
pub struct BareDoor {
    replication: Replication,
    log: GroupLog,
}

pub(crate) fn key_of(number: NodeNumber) -> NodeId {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&mix(number.0).to_le_bytes());
    key[8..16].copy_from_slice(&number.0.to_le_bytes());
    NodeId(key)
}

fn keys_of(numbers: impl IntoIterator<Item = NodeNumber>) -> BTreeMap<NodeNumber, NodeId> {
    numbers.into_iter().map(|number| (number, key_of(number))).collect()
}

async fn start(parts: NodeParts) -> Result<Running<BareDoor>, String> {
    let disk = parts.hardware.disk.mount().map_err(|error| error.to_string())?;
    let wal = Wal::open(disk, WalConfig::small(), Driver::Task { sync_latency: parts.sync_latency })
        .map_err(|error| error.to_string())?;
    let endpoint = Endpoint::new(parts.transport, parts.entropy.clone(), EndpointConfig::default());
    let state: Arc<dyn StateStore> = Arc::new(parts.hardware.state);
    let replication = Replication::start(Parts {
        number: parts.number,
        incarnation: Incarnation(parts.incarnation),
        endpoint,
        wal: wal.clone(),
        state,
        workers: Workers::inline(),
        clock: parts.clock,
        entropy: parts.entropy,
        config: Config::small(),
    })
    .await
    .map_err(|error| error.to_string())?;
    replication.peers(keys_of((1..=MOST_NODES).map(NodeNumber)));
    replication.open_group(GROUP, Arc::new(machine::Registers)).await.map_err(|error| error.to_string())?;
    let door = BareDoor { replication, log: wal.group(GROUP) };
    let watched = door.clone();
    let exit = async move {
        tokio::select! {
            biased;
            error = wal.failed() => error.to_string(),
            reason = stopped(watched) => reason,
        }
    };
    Ok(Running { door, exit: exit.boxed() })
}

/// Resolves when the replica has stopped.
async fn stopped(door: BareDoor) -> String {
    loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if let Some(reason) = door.replication.status().into_iter().find_map(|group| group.stopped) {
            return format!("its replica stopped: {reason}");
        }
    }
}

impl Door for BareDoor {
    fn execute(&self, request: Request) -> BoxFuture<'static, Answer> {
        let command: Bytes = machine::encode(&request);
        if request.only_reads() {
            let query = self.replication.query(GROUP, command);
            return async move {
                match query.await {
                    Ok(reply) => machine::decode_answer(&reply.body),
                    Err(error) => Answer::Refused(error.to_string()),
                }
            }
            .boxed();
        }
        let proposal = self.replication.propose(GROUP, command);
        async move {
            match proposal.await {
                Ok(reply) => machine::decode_answer(&reply.body),
                Err(error @ (ProposeError::OutcomeUnknown(_) | ProposeError::ShutDown)) => {
                    Answer::Unknown(error.to_string())
                }
                Err(error) => Answer::Refused(error.to_string()),
            }
        }
        .boxed()
    }
}

impl Observe for BareDoor {
    fn replicas(&self) -> Vec<ReplicaView> {
        self.replication.status().into_iter().map(view).collect()
    }

    fn log(&self, _group: GroupId, from: u64, to: u64) -> Vec<EntryView> {
        log_view(&self.log, from, to)
    }
}

/// What invariants see of a group.
pub fn view(status: trine_replication::GroupStatus) -> ReplicaView {
    ReplicaView {
        group: status.group,
        leads: status.role == Role::Leader,
        term: status.term,
        voters: status.voters.into_keys().collect(),
        learners: status.learners.into_keys().collect(),
        last_index: status.last_index,
        committed: status.committed,
        applied: status.applied,
        digest: (status.digest, status.applied),
    }
}

/// What invariants see of a log.
pub fn log_view(log: &GroupLog, from: u64, to: u64) -> Vec<EntryView> {
    let entries = log.read(from, to, usize::MAX).unwrap_or_default();
    let hash = |payload: &Bytes| payload.iter().fold(0, |hash, byte| mix(hash ^ u64::from(*byte)));
    entries
        .iter()
        .map(|entry| EntryView { index: entry.at.index, term: entry.at.term, hash: hash(&entry.payload) })
        .collect()
}

/// The node that leads the newest term.
fn leader(world: &World<Bare>) -> Option<NodeNumber> {
    let all = world.replicas().into_iter();
    let led = all.flat_map(|(node, replicas)| replicas.into_iter().map(move |replica| (node, replica)));
    led.filter(|(_, replica)| replica.leads).max_by_key(|(_, replica)| replica.term).map(|(node, _)| node)
}

impl System for Bare {
    type Door = BareDoor;

    fn identity(number: NodeNumber, _hardware: &Hardware) -> NodeId {
        key_of(number)
    }

    fn form(world: &mut World<Self>, count: u64) -> Result<(), Failure> {
        let members: Vec<_> = (1..=count).map(NodeNumber).collect();
        for number in &members {
            world.add_host(*number);
        }
        let all = members.len();
        if !world.run_until(FORM_MS, |world| world.doors.nodes().len() == all)? {
            return Err(world.failure(Property::Heals, "the nodes did not come up"));
        }
        let doors = world.doors.clone();
        let begun = world.finish(FORM_MS, Property::Heals, "the first members", async move {
            let members = keys_of(members);
            let begin = |door: BareDoor| async move { door.replication.initialize(GROUP, members).await };
            doors.visit(NodeNumber(1), begin).await
        })?;
        if !matches!(begun, Some(Ok(()))) {
            return Err(world.failure(Property::Scenario, format!("initialize: {begun:?}")));
        }
        let mut client = world.client(999);
        let request = Request::Set { key: "form".to_owned(), value: 1 };
        let first = async move { load::insist(&mut client, request).await };
        world.finish(FORM_MS, Property::Heals, "the first write", first)?;
        Ok(())
    }

    fn change(world: &mut World<Self>, add: &[NodeNumber], remove: &[NodeNumber]) -> Result<(), Failure> {
        let mut wanted = world.numbers();
        for number in add {
            world.add_host(*number);
        }
        wanted.extend(add);
        wanted.retain(|number| !remove.contains(number));
        let until_ms = world.time.now_ms() + CHANGE_MS;
        let mut last = String::from("no leader was seen");
        loop {
            if world.time.now_ms() > until_ms {
                let detail = format!("members did not become {wanted:?}: {last}");
                return Err(world.failure(Property::Scenario, detail));
            }
            world.run_for(20)?;
            let Some(leader) = leader(world) else { continue };
            let (doors, members) = (world.doors.clone(), keys_of(wanted.iter().copied()));
            let change = move |door: BareDoor| async move {
                door.replication.change_members(GROUP, members, BTreeMap::new()).await
            };
            let visit = async move { doors.visit(leader, change).await };
            let what = format!("change_members at {leader}");
            match world.finish(CHANGE_MS, Property::Scenario, &what, visit)? {
                Some(Ok(())) => break,
                outcome => last = format!("{leader}: {outcome:?}"),
            }
        }
        world.trace.note(format_args!("members are {wanted:?}"));
        world.run_for(300)?; // those who left do not know that yet
        for number in remove {
            world.remove_host(*number);
        }
        Ok(())
    }

    fn boot(&self, parts: NodeParts) -> BoxFuture<'static, Result<Running<BareDoor>, String>> {
        start(parts).boxed()
    }
}
