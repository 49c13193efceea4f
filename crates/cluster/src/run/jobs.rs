//! What the agent has done in the background: each job is one step that may
//! fail and be tried again, or be repeated after a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use trine_replication::GroupError;
use trine_transport::{AdmissionCertificate, Endorsement, IssuingKey};
use trine_types::{GroupId, NodeId, NodeNumber};

use super::Outcome;
use crate::calls::{Ask, Told};
use crate::command::{Certifiable, Command, Query, Refusal};
use crate::context::{AskError, Context};
use crate::directory::Directory;
use crate::error::{ClusterError, Fatal};
use crate::membership;
use crate::nodes::{StartRefused, StartReport};
use crate::state::EndorsedBy;

/// How long a removed node has to hear of it; well under the two seconds
/// within which it must be cut off.
const FAREWELL_LIMIT: Duration = Duration::from_millis(300);

type Step = Result<Outcome, String>;

/// Answers, if anybody still waits.
pub(super) fn tell(reply: oneshot::Sender<Told>, told: Told) {
    // The asker may have gone away; then nobody needs the answer.
    let _ = reply.send(told);
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Proposes a change of `meta`; the next look sees whether it took effect.
pub(super) async fn change(context: Arc<Context>, command: Command) -> Step {
    tracing::debug!(?command, "proposed to meta");
    context.propose(&command).await.map(|_| Outcome::Done).map_err(text)
}

pub(super) async fn genesis(context: Arc<Context>, command: Command) -> Step {
    context.propose(&command).await.map(|_| Outcome::Founded).map_err(text)
}

pub(super) async fn report(context: Arc<Context>, report: StartReport) -> Step {
    match context.propose(&Command::Start(report)).await {
        Ok(_) => Ok(Outcome::Started),
        Err(ClusterError::Refused(Refusal::Start(refused))) => Ok(Outcome::MustStop(Fatal::Refused(refused))),
        Err(error) => Err(text(error)),
    }
}

pub(super) async fn renew(context: Arc<Context>) -> Step {
    let meta = context.meta_now().await.map_err(text)?;
    let certificate = context.certificate_for(&meta, context.id).await.map_err(text)?;
    let issuer = AdmissionCertificate::decode(&certificate).map_err(text)?.issuer;
    if meta.newest_issuer() != Some(issuer) {
        return Err("the voters do not keep the newest issuing key yet".to_owned());
    }
    Ok(Outcome::Certificate(certificate))
}

pub(super) async fn open(context: Arc<Context>, group: GroupId) -> Step {
    let machine = (context.machines)(group).ok_or_else(|| format!("this binary does not know {group}"))?;
    settle_local(context.replication.open_group(group, machine).await)
}

pub(super) async fn initialise(context: Arc<Context>, group: GroupId) -> Step {
    let members = BTreeMap::from([(context.number, context.id)]);
    match context.replication.initialize(group, members).await {
        Err(GroupError::AlreadyInitialized(_)) => Ok(Outcome::Done),
        other => settle_local(other),
    }
}

/// Drops a replica, after asking `meta` once more: what is known here may be
/// old, and the group may have come back.
pub(super) async fn destroy(context: Arc<Context>, group: GroupId) -> Step {
    let meta = context.meta_now().await.map_err(text)?;
    if meta.assignments.get(&group).is_none_or(|row| row.hosts(context.number) || !row.settled()) {
        return Err("meta has changed its mind".to_owned());
    }
    tracing::info!(%group, "moved away; the replica here is dropped");
    settle_local(context.replication.destroy_group(group).await)
}

fn settle_local(result: Result<(), GroupError>) -> Step {
    match result {
        Ok(()) => Ok(Outcome::Done),
        Err(GroupError::Storage(reason)) => Ok(Outcome::MustStop(Fatal::Storage(reason))),
        Err(error) => Err(text(error)),
    }
}

pub(super) async fn change_members(
    context: Arc<Context>,
    group: GroupId,
    voters: BTreeSet<NodeNumber>,
    learners: BTreeSet<NodeNumber>,
) -> Step {
    let peers = context.meta().peers();
    let keys = |numbers: BTreeSet<NodeNumber>| -> BTreeMap<NodeNumber, NodeId> {
        numbers.into_iter().filter_map(|n| Some((n, *peers.get(&n)?))).collect()
    };
    tracing::debug!(%group, ?voters, ?learners, "changing members");
    let changed = context.replication.change_members(group, keys(voters), keys(learners)).await;
    changed.map(|()| Outcome::Changed).map_err(text)
}

pub(super) async fn transfer(context: Arc<Context>, group: GroupId, to: NodeNumber) -> Step {
    tracing::debug!(%group, %to, "handing over");
    context.replication.transfer_leader(group, to).await.map(|()| Outcome::Done).map_err(text)
}

/// Gives the issuing key to nodes that vote in `meta`, or are about to.
pub(super) async fn hand_out_key(context: Arc<Context>, key: Arc<IssuingKey>, to: Vec<NodeNumber>) -> Step {
    let meta = context.meta();
    let mut keyed = Vec::new();
    let mut reason = "no such nodes".to_owned();
    for number in to {
        let Some(row) = meta.nodes.get(&number) else { continue };
        match context.ask(row.id, &Ask::KeepIssuingKey { seed: *key.seed() }).await {
            Ok(Told::Yes) => keyed.push(number),
            Ok(Told::No(why)) => reason = format!("{number}: {why}"),
            Ok(_) => reason = format!("{number}: not understood"),
            Err(error) => reason = format!("{number}: {error}"),
        }
    }
    if keyed.is_empty() { Err(reason) } else { Ok(Outcome::Keyed(keyed)) }
}

/// Tells a removed node to stop, before its connections are cut: it would
/// otherwise try for ever to come back.
pub(super) async fn farewell(context: Arc<Context>, node: NodeId) -> Step {
    // It may be off, or gone already.
    let _ = context.ask_within(node, &Ask::Farewell, FAREWELL_LIMIT).await;
    Ok(Outcome::Cut(node))
}

/// Asks around while nobody leads `meta`, as far as is known here: whether
/// this node was removed while it was cut off.
pub(super) async fn inquire(context: Arc<Context>) -> Step {
    let meta = context.meta();
    for row in meta.nodes.values().filter(|row| row.id != context.id) {
        if let Err(AskError::Revoked) = context.ask(row.id, &Ask::Who).await {
            return Ok(Outcome::MustStop(StartRefused::NotANode(context.number).into()));
        }
    }
    Err("nobody objects".to_owned())
}

/// Asks the other voters of `meta` for the newest issuing key; makes a new one
/// when all of them answer that they have lost it too.
pub(super) async fn fetch_key(context: Arc<Context>) -> Step {
    let meta = context.meta();
    for number in meta.replicas_of(GroupId::META) {
        let Some(row) = meta.nodes.get(&number).filter(|row| row.id != context.id) else { continue };
        if let Told::IssuingKey(seed) = context.ask(row.id, &Ask::GiveIssuingKey).await.map_err(text)?
            && Some(IssuingKey::from_seed(seed).public()) == meta.newest_issuer()
        {
            return Ok(Outcome::Key(seed));
        }
    }
    rotate_key(context, None).await
}

/// Makes a new issuing key and has every certificate signed afresh by it.
pub(super) async fn rotate_key(context: Arc<Context>, old: Option<Arc<IssuingKey>>) -> Step {
    let key = IssuingKey::generate(&*context.entropy);
    tracing::info!("a new issuing key replaces the old one");
    let endorsement = old.map(|old| {
        let Endorsement { by, of, signature } = Endorsement::give(&old, key.public());
        EndorsedBy { by, of, signature: signature.to_vec() }
    });
    context.propose(&Command::RotateIssuer { key: key.public(), endorsement }).await.map_err(text)?;
    Ok(Outcome::Key(*key.seed()))
}

/// Keeps the issuing key, durably before the answer.
pub(super) async fn keep_key(
    context: Arc<Context>,
    directory: Directory,
    seed: [u8; 32],
    reply: oneshot::Sender<Told>,
) -> Step {
    match context.workers.run(move || directory.store_issuing_seed(Some(seed))).await {
        Ok(Ok(())) => tell(reply, Told::Yes),
        Ok(Err(error)) => tell(reply, Told::No(text(error))),
        Err(error) => tell(reply, Told::No(text(error))),
    }
    Ok(Outcome::Done)
}

/// Signs a certificate if `meta`, asked at its leader, still admits the node.
pub(super) async fn sign(
    context: Arc<Context>,
    key: Arc<IssuingKey>,
    node: NodeId,
    reply: oneshot::Sender<Told>,
) -> Step {
    let told = match context.query::<Option<Certifiable>>(&Query::Certifiable { node }).await {
        Ok(Some(Certifiable { number, name })) => {
            let (now_ms, settings) = (context.clock.wall_ms(), &context.settings);
            let signed = membership::certify(&key, context.cluster, node, (number, &name), now_ms, settings);
            let words = context.meta().endorsements(&key.public());
            Told::Certificate(signed.endorsed(words).encode())
        }
        Ok(None) => Told::No("it is not a node of this cluster".to_owned()),
        Err(error) => Told::No(text(error)),
    };
    tell(reply, told);
    Ok(Outcome::Done)
}

/// Goes on with a group whose other members are lost for good.
pub(super) async fn recover(
    context: Arc<Context>,
    group: GroupId,
    lost: BTreeSet<NodeNumber>,
    reply: oneshot::Sender<Told>,
) -> Step {
    tracing::warn!(%group, ?lost, "going on without lost members");
    let told = match context.replication.recover_without(group, &lost).await {
        Ok(()) => Told::Yes,
        Err(error) => Told::No(text(error)),
    };
    tell(reply, told);
    Ok(Outcome::Done)
}
