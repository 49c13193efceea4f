//! What can be asked of the `meta` group: commands that change it, queries
//! that read it, and their answers. All are encoded by [`crate::codec`].

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use trine_types::{ClusterId, GroupId, NodeId, NodeNumber, Rights};

use crate::nodes::{Applicant, StartRefused, StartReport};
use crate::state::EndorsedBy;
use crate::tickets::{TicketId, TicketRefused};
use crate::tokens::{NewSecret, TokenRefused};
use crate::users::{Based, UserRefused, UserSpec};

/// Something to put in the log of `meta`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Command {
    /// The cluster begins: its first node, its first issuing key.
    Genesis {
        /// Drawn at random by the founder.
        cluster: ClusterId,
        /// Number of database partitions, for good.
        partitions: u16,
        /// Public half of the issuing key.
        issuer: [u8; 32],
        /// The founder; it becomes number 1.
        founder: Applicant,
    },
    /// Somebody may join.
    IssueTicket {
        /// Names the ticket.
        id: TicketId,
        /// Verifies a joiner's proof.
        verifier: [u8; 32],
        /// How long it is valid, in ms of state time.
        life_ms: u64,
        /// How many nodes it admits.
        uses: u32,
    },
    /// Burns a ticket and makes its holder a node.
    Admit {
        /// The ticket whose secret the applicant has proven.
        ticket: TicketId,
        /// Who applies.
        applicant: Applicant,
    },
    /// A process of a node has started.
    Start(StartReport),
    /// Move everything away from a node, so that it can be removed.
    Leave {
        /// Which node.
        number: NodeNumber,
    },
    /// Take [`Command::Leave`] back.
    Stay {
        /// Which node.
        number: NodeNumber,
    },
    /// The node is no longer a node: its key is revoked.
    Remove {
        /// Which node.
        number: NodeNumber,
        /// Even if it still holds replicas.
        force: bool,
    },
    /// Wants other replicas for some groups.
    Assign {
        /// For each group: the revision that the change is based on, and who
        /// shall hold it. All or none.
        changes: Vec<(GroupId, u64, Vec<NodeNumber>)>,
    },
    /// A group's leader reports who votes in it.
    Settle {
        /// Which group.
        group: GroupId,
        /// The revision of the wish that this settles.
        revision: u64,
        /// Who votes.
        members: BTreeSet<NodeNumber>,
    },
    /// All members of these groups are lost for good: start them again, empty.
    Recreate {
        /// Which groups.
        groups: Vec<GroupId>,
    },
    /// New features may be used; no older binary may start from now on.
    RaiseLevel {
        /// The new level.
        to: u32,
    },
    /// From now on certificates are signed by this key; older ones stay valid
    /// until every node has a new one.
    RotateIssuer {
        /// Its public half.
        key: [u8; 32],
        /// The word of the key before it; `None` if that one is lost.
        endorsement: Option<EndorsedBy>,
    },
    /// Certificates signed by this key are no longer valid.
    RetireIssuer {
        /// Its public half.
        key: [u8; 32],
    },
    /// Adds or replaces a user.
    PutUser {
        /// Its name.
        name: String,
        /// What it is from now on.
        spec: UserSpec,
        /// What the change is based on.
        based: Based,
        /// Whether its logins so far become void.
        cut: bool,
    },
    /// Removes a user; its logins are void.
    RemoveUser {
        /// Its name.
        name: String,
    },
    /// Adds a token.
    AddToken {
        /// Its name.
        name: String,
        /// What its bearer may do.
        rights: Rights,
        /// What is kept of its secret.
        secret: NewSecret,
    },
    /// Gives a token another secret; the old one is void.
    RotateToken {
        /// Its name.
        name: String,
        /// What is kept of the new secret.
        secret: NewSecret,
    },
    /// Removes a token; its logins are void.
    RemoveToken {
        /// Its name.
        name: String,
    },
    /// A command that somebody asked for: the audit log tells of it.
    Audited {
        /// Who.
        who: String,
        /// What; not audited itself.
        command: Box<Command>,
    },
}

/// The answer to a [`Command`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// It is so.
    Done,
    /// A ticket is open until then.
    Ticket {
        /// State time of its expiry.
        not_after_ms: u64,
    },
    /// A token is good until then.
    Token {
        /// State time of its end; `None`: it has none.
        not_after_ms: Option<u64>,
    },
    /// The applicant is a node.
    Admitted {
        /// Its number.
        number: NodeNumber,
        /// Its name, perhaps with a number appended.
        name: String,
    },
    /// Nothing has changed.
    Refused(Refusal),
}

/// Why a command changed nothing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// `meta` holds nothing yet.
    #[error("the cluster is not created yet")]
    NotCreated,
    /// `meta` belongs to another cluster.
    #[error("there is a cluster already, with another id")]
    AlreadyCreated,
    /// The ticket does not admit.
    #[error(transparent)]
    Ticket(#[from] TicketRefused),
    /// The user is not changed.
    #[error(transparent)]
    User(#[from] UserRefused),
    /// The token is not changed.
    #[error(transparent)]
    Token(#[from] TokenRefused),
    /// The process must stop.
    #[error(transparent)]
    Start(#[from] StartRefused),
    /// The key was revoked: the machine needs a new one.
    #[error(
        "this node was removed from the cluster; start it with an empty data directory and a fresh ticket"
    )]
    Revoked,
    /// No room for another node.
    #[error("the cluster has {} nodes, which is the most it can have", trine_types::limits::MAX_NODES)]
    Full,
    /// No such node.
    #[error("there is no node {0}")]
    NoSuchNode(NodeNumber),
    /// The last active node cannot leave.
    #[error("{0} is the last node; a cluster without nodes holds nothing")]
    LastNode(NodeNumber),
    /// The node still holds replicas.
    #[error("{number} still holds {groups} groups")]
    StillHolds {
        /// Which node.
        number: NodeNumber,
        /// How many groups.
        groups: usize,
    },
    /// Somebody else changed the same row first: look again.
    #[error("the assignment has changed meanwhile")]
    Outdated,
    /// A value is out of bounds.
    #[error("{0}")]
    Bad(String),
    /// The state of `meta` does not decode.
    #[error("the state of meta does not decode: {0}")]
    Corrupt(String),
}

/// Something to read from `meta`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Query {
    /// Everything, if it has changed since `unless`.
    State {
        /// The revision that the asker has.
        unless: Option<u64>,
    },
    /// The key that verifies a joiner's proof; expiry is judged at admission.
    Verifier {
        /// Which ticket.
        ticket: TicketId,
    },
    /// Whether this node may have a certificate.
    Certifiable {
        /// The node's key.
        node: NodeId,
    },
    /// How many commands have changed anything.
    Revision,
}

/// The answer to [`Query::Certifiable`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Certifiable {
    /// The node's number.
    pub number: NodeNumber,
    /// Its name.
    pub name: String,
}
