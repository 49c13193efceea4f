//! openraft behind one door: the types that it is instantiated with, its
//! options, its log, its state machine, its network, its timers. No other
//! file of Trine names openraft, and nothing of it is public.

use std::fmt;

use bytes::Bytes;
use openraft::impls::{InlineBatch, OneshotResponder, leader_id_std};
use openraft::{AnyError, EntryPayload, OptionalSend, RaftTypeConfig};
use serde::{Deserialize, Serialize};
use trine_types::NodeId;

use crate::session::Outcome;

pub(crate) mod acks;
pub(crate) mod entry;
pub(crate) mod log;
pub(crate) mod network;
pub(crate) mod options;
pub(crate) mod runtime;
pub(crate) mod snapshot;
pub(crate) mod state;
#[cfg(test)]
mod suite;
pub(crate) mod wire;

pub(crate) use runtime::GridRuntime;
pub(crate) use state::ReplicaState;

/// What this crate instantiates openraft with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Types;

impl RaftTypeConfig for Types {
    type D = Command;
    type R = Outcomes;
    type NodeId = u64;
    type Node = Member;
    type Term = u64;
    // One leader per term, as in the paper: an entry's id is (term, index).
    type LeaderId = leader_id_std::LeaderId<u64, u64>;
    type Vote = openraft::Vote<Self::LeaderId>;
    type Payload = EntryPayload<Command, u64, Member>;
    type Entry = openraft::Entry<<Self::LeaderId as openraft::vote::RaftLeaderId>::Committed, Self::Payload>;
    type AsyncRuntime = GridRuntime;
    type Responder<T>
        = OneshotResponder<Self, T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = AnyError;
}

pub(crate) type Raft = openraft::Raft<Types, ReplicaState>;
pub(crate) type LogId = openraft::alias::LogIdOf<Types>;
pub(crate) type Vote = openraft::alias::VoteOf<Types>;
pub(crate) type Entry = openraft::alias::EntryOf<Types>;
pub(crate) type StoredMembership = openraft::alias::StoredMembershipOf<Types>;
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<Types>;
pub(crate) type Membership = openraft::Membership<u64, Member>;

/// An encoded [`crate::batch::Batch`].
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<u8>", into = "Vec<u8>")]
pub(crate) struct Command(pub(crate) Bytes);

// openraft wants serde of it; the log and the wire have their own encoding.
impl From<Vec<u8>> for Command {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<Command> for Vec<u8> {
    fn from(command: Command) -> Self {
        command.0.into()
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What applying one entry gave: an outcome per command, part by part.
/// It goes from the state machine to the proposer and never into bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "()", into = "()")]
pub(crate) struct Outcomes(pub(crate) Vec<Vec<Outcome>>);

impl From<()> for Outcomes {
    fn from((): ()) -> Self {
        Self::default()
    }
}

impl From<Outcomes> for () {
    fn from(_: Outcomes) {}
}

/// What a membership entry says about a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    /// The key that the node proves in every handshake.
    pub(crate) key: NodeId,
}
