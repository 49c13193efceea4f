//! What every task of this room holds: who this node is, the rooms below, and
//! the three ways to ask: `meta` by its log, `meta` by reading, another node.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::sync::watch;
use trine_replication::{Machine, Replication};
use trine_storage::Workers;
use trine_transport::{CallError, Endpoint, Lane, OpenError, RefusalReason};
use trine_types::{Clock, ClusterId, Entropy, GroupId, NodeId, NodeNumber};

use crate::calls::{Ask, SERVICE, Told};
use crate::codec::{self, DecodeError};
use crate::command::{Answer, Command, Query, Refusal};
use crate::config::Settings;
use crate::directory::StartCount;
use crate::error::ClusterError;
use crate::state::MetaState;
use crate::status::ReplicaReport;

/// Gives the machine of a group that is to be opened here; `None` for a group
/// that this binary does not know.
pub type MachineFactory = Arc<dyn Fn(GroupId) -> Option<Arc<dyn Machine>> + Send + Sync>;

/// See the module.
pub(crate) struct Context {
    pub(crate) cluster: ClusterId,
    pub(crate) number: NodeNumber,
    pub(crate) id: NodeId,
    pub(crate) start: StartCount,
    pub(crate) endpoint: Endpoint,
    pub(crate) replication: Replication,
    pub(crate) workers: Workers,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) settings: Settings,
    pub(crate) machines: MachineFactory,
    pub(crate) meta: watch::Receiver<Arc<MetaState>>,
}

impl Context {
    /// `meta` as this node's replica has it.
    pub(crate) fn meta(&self) -> Arc<MetaState> {
        self.meta.borrow().clone()
    }

    /// Puts a command into the log of `meta`; a refusal is an error.
    pub(crate) async fn propose(&self, command: &Command) -> Result<Answer, ClusterError> {
        let reply = self.replication.propose(GroupId::META, codec::encode(command)).await?;
        match codec::decode(&reply.body, "answer")? {
            Answer::Refused(refusal) => Err(refusal.into()),
            answer => Ok(answer),
        }
    }

    /// Reads `meta` at its leader.
    pub(crate) async fn query<T: DeserializeOwned>(&self, query: &Query) -> Result<T, ClusterError> {
        let reply = self.replication.query(GroupId::META, codec::encode(query)).await?;
        let answer: Result<T, Refusal> = codec::decode(&reply.body, "answer")?;
        Ok(answer?)
    }

    /// All of `meta`, read at its leader.
    pub(crate) async fn meta_now(&self) -> Result<MetaState, ClusterError> {
        let rows: Option<crate::machine::Rows> = self.query(&Query::State { unless: None }).await?;
        let rows = rows.unwrap_or_default();
        Ok(codec::decode_rows(rows.iter().map(|(key, value)| (&key[..], &value[..])))?)
    }

    /// Asks another node (or this one).
    pub(crate) async fn ask(&self, node: NodeId, ask: &Ask) -> Result<Told, AskError> {
        self.ask_within(node, ask, self.settings.values().call_timeout).await
    }

    /// The same with another deadline.
    pub(crate) async fn ask_within(
        &self,
        node: NodeId,
        ask: &Ask,
        limit: Duration,
    ) -> Result<Told, AskError> {
        ask_over(&self.endpoint, node, ask, limit).await
    }

    /// A certificate for `node`, signed by any voter of `meta`.
    pub(crate) async fn certificate_for(
        &self,
        meta: &MetaState,
        node: NodeId,
    ) -> Result<Vec<u8>, ClusterError> {
        let mut signers: Vec<NodeId> = meta
            .replicas_of(GroupId::META)
            .iter()
            .filter_map(|number| meta.nodes.get(number).map(|row| row.id))
            .collect();
        // Nobody is asked sooner than the node itself, if it may sign.
        signers.sort_by_key(|signer| *signer != self.id);
        let mut last = "meta has no voters".to_owned();
        for signer in signers {
            match self.ask(signer, &Ask::Sign { node }).await {
                Ok(Told::Certificate(certificate)) => return Ok(certificate),
                Ok(Told::No(reason)) => last = format!("{}: {reason}", signer.short()),
                Err(error) => last = format!("{}: {error}", signer.short()),
                Ok(_) => last = format!("{}: not understood", signer.short()),
            }
        }
        Err(ClusterError::NoIssuer(last))
    }

    /// What is open here, for others to read.
    pub(crate) fn replicas(&self) -> Vec<ReplicaReport> {
        self.replication.status().into_iter().map(report).collect()
    }
}

/// Asks a node over an endpoint.
pub(crate) async fn ask_over(
    endpoint: &Endpoint,
    node: NodeId,
    ask: &Ask,
    limit: Duration,
) -> Result<Told, AskError> {
    match endpoint.call(node, Lane::Control, SERVICE, codec::encode(ask), limit).await {
        Ok(reply) => Ok(codec::decode(&reply, "answer")?),
        Err(CallError::NotSent(OpenError::Refused(RefusalReason::Revoked))) => Err(AskError::Revoked),
        Err(error) => Err(AskError::Call(error)),
    }
}

/// Why a node did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// It says that this node was removed from the cluster.
    #[error("it says that this node was removed from the cluster")]
    Revoked,
    /// It could not be asked.
    #[error(transparent)]
    Call(CallError),
    /// Its answer is not understood.
    #[error(transparent)]
    Answer(#[from] DecodeError),
}

fn report(status: trine_replication::GroupStatus) -> ReplicaReport {
    ReplicaReport {
        group: status.group,
        role: role_name(&status).to_owned(),
        leader: status.leader,
        term: status.term,
        voters: status.voters.into_keys().collect(),
        learners: status.learners.into_keys().collect(),
        last_index: status.last_index,
        committed: status.committed,
        applied: status.applied,
        digest: status.digest,
        digest_index: status.applied,
        hibernating: status.hibernating,
    }
}

fn role_name(status: &trine_replication::GroupStatus) -> &'static str {
    use trine_replication::Role;
    match status.role {
        Role::Leader => "leader",
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Learner => "learner",
        Role::Stopped => "stopped",
    }
}
