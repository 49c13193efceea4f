//! What a line of the admin socket holds. The same types are what `--json`
//! prints, so their field names are an interface: add, never rename. What is
//! about users and tokens is in [`super::logins`].

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::talk::words::{TalkAnswer, TalkRequest};

use super::logins::{AuditReport, Proofs, Rules, SecretReport, TokenReport, UserReport};

/// Longest request line, in bytes.
pub const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// What can be asked of a running node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// What this node is and whether it serves.
    Status {},
    /// The nodes of the cluster.
    Nodes {},
    /// The groups of which this node has a replica.
    Groups {},
    /// The members of the cluster, as this node sees them.
    Peers {},
    /// What happened to members after this event, or from now on; answered
    /// when something did, or after a while.
    PeerEvents {
        /// Serial of an event.
        #[serde(default)]
        after: Option<u64>,
    },
    /// A credential for this process's doors, for whoever may use this socket.
    Pass {},
    /// A join ticket, good for this long.
    Ticket {
        /// Seconds.
        valid_s: u64,
    },
    /// Remove a node for good.
    RemoveNode {
        /// Number, name or start of the id.
        node: String,
    },
    /// The users.
    Users {},
    /// Add a user.
    AddUser {
        /// Its name.
        name: String,
        /// By which it logs in.
        #[serde(default)]
        proofs: Proofs,
        /// What it may do.
        #[serde(default)]
        rules: Rules,
    },
    /// Give a user other proofs or other rights, and cut its connections.
    RotateUser {
        /// Its name.
        name: String,
        /// Other proofs; none: they stay.
        #[serde(default)]
        proofs: Proofs,
        /// Other rights; none: they stay.
        #[serde(default)]
        rules: Rules,
    },
    /// Remove a user and cut its connections.
    RemoveUser {
        /// Its name.
        name: String,
    },
    /// The tokens.
    Tokens {},
    /// Add a token.
    AddToken {
        /// Its name.
        name: String,
        /// Seconds that it is good for; none: without end.
        life_s: Option<u64>,
        /// What its bearer may do.
        #[serde(default)]
        rules: Rules,
    },
    /// Give a token another secret and cut its connections.
    RotateToken {
        /// Its name.
        name: String,
        /// Seconds that it is good for; none: without end.
        life_s: Option<u64>,
    },
    /// Remove a token and cut its connections.
    RemoveToken {
        /// Its name.
        name: String,
    },
    /// Who changed what, the last actions first.
    Audit {
        /// So many at most.
        last: usize,
    },
    /// What giving up these nodes would mean.
    RecoverPlan {
        /// Numbers, names or starts of ids.
        lost: Vec<String>,
    },
    /// Give up these nodes.
    Recover {
        /// Numbers, names or starts of ids.
        lost: Vec<String>,
    },
    /// Messages and files between nodes.
    Talk {
        /// What about them.
        talk: TalkRequest,
    },
}

/// What a node answers when it did what was asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// To [`Request::Status`].
    Status(Box<StatusReport>),
    /// To [`Request::Nodes`].
    Nodes(Vec<NodeReport>),
    /// To [`Request::Groups`].
    Groups(Vec<GroupReport>),
    /// To [`Request::Peers`].
    Peers(Vec<PeerReport>),
    /// To [`Request::PeerEvents`].
    PeerEvents(PeerEvents),
    /// To [`Request::Pass`].
    Pass(PassReport),
    /// To [`Request::Ticket`].
    Ticket(TicketReport),
    /// To [`Request::RemoveNode`].
    Removed(RemovedReport),
    /// To [`Request::Users`], and the one user that was added or changed.
    Users(Vec<UserReport>),
    /// To [`Request::Tokens`].
    Tokens(Vec<TokenReport>),
    /// To [`Request::AddToken`] and [`Request::RotateToken`].
    Secret(SecretReport),
    /// To [`Request::RemoveUser`] and [`Request::RemoveToken`].
    Gone {
        /// What was removed.
        name: String,
    },
    /// To [`Request::Audit`].
    Audit(Vec<AuditReport>),
    /// To [`Request::RecoverPlan`] and [`Request::Recover`].
    Recovery(RecoveryReport),
    /// To [`Request::Talk`].
    Talk(TalkAnswer),
}

/// Why a node did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Refusal {
    /// What is wrong.
    pub message: String,
    /// What the user can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What kind of refusal it is, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<RefusalKind>,
}

/// Kinds of refusals, as far as a program would act differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// What was asked makes no sense; asking again is no use.
    Invalid,
    /// Who asked may not.
    Denied,
    /// There is no such thing.
    NotFound,
    /// It would break something as things stand.
    Conflict,
    /// Not now: no majority, no leader, overload. Asking later may help.
    Unavailable,
    /// The node failed at it.
    Failed,
}

impl Refusal {
    /// A refusal without advice.
    #[must_use]
    pub fn new(message: impl std::fmt::Display) -> Self {
        Self { message: message.to_string(), hint: None, kind: None }
    }

    /// Adds advice.
    #[must_use]
    pub fn hint(mut self, hint: impl std::fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Says which kind it is.
    #[must_use]
    pub fn kind(mut self, kind: RefusalKind) -> Self {
        self.kind = Some(kind);
        self
    }
}

/// One line back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Line {
    /// Done.
    Ok(Answer),
    /// Not done.
    Error(Refusal),
}

/// What a node is, and whether it serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatusReport {
    /// Cluster id.
    pub cluster: String,
    /// This node's number.
    pub number: u64,
    /// This node's id (public key).
    pub id: String,
    /// This node's name.
    pub name: String,
    /// Version of the program.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// How often this data directory was started.
    pub incarnation: u64,
    /// Milliseconds since the start.
    pub uptime_ms: u64,
    /// Where it listens.
    pub doors: Doors,
    /// Whether every group that this node knows of has a leader.
    pub ready: bool,
    /// Nodes of the cluster, this one included.
    pub nodes: usize,
    /// Nodes that this one does not hear from.
    pub unreachable: Vec<u64>,
    /// Partitions of the database.
    pub partitions: u16,
    /// How many more nodes may fail before some data cannot be reached.
    pub tolerates: usize,
    /// What should worry the operator, in words; empty is good.
    pub problems: Vec<String>,
}

/// Where a node listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Doors {
    /// Address of the Redis door.
    pub redis: String,
    /// Address of the NATS door.
    pub nats: String,
    /// Address of the admin API.
    pub admin: String,
    /// Address for other nodes.
    pub peer: String,
}

/// A node as another one sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeReport {
    /// Number.
    pub number: u64,
    /// Id (public key).
    pub id: String,
    /// Name.
    pub name: String,
    /// Addresses for other nodes.
    pub peer: Vec<String>,
    /// Address of the Redis door, if told.
    pub redis: Option<String>,
    /// Whether the asked node hears from it.
    pub reachable: bool,
    /// Whether it is the asked node itself.
    pub asked: bool,
    /// Groups of which it is a voter.
    pub voter_of: usize,
}

/// A group replica as its node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupReport {
    /// Name, as `meta` or `partition-3`.
    pub group: String,
    /// This replica's role.
    pub role: String,
    /// Number of the leader's node, if known.
    pub leader: Option<u64>,
    /// Raft term.
    pub term: u64,
    /// Numbers of the voters.
    pub voters: Vec<u64>,
    /// Numbers of the learners.
    pub learners: Vec<u64>,
    /// Index of the last entry in the log.
    pub log: u64,
    /// Index of the last committed entry.
    pub committed: u64,
    /// Index of the last applied entry.
    pub applied: u64,
    /// Digest of the state at `digest_at`, as hexadecimal.
    pub digest: String,
    /// Index at which the digest holds.
    pub digest_at: u64,
    /// Whether the group is idle and its ticker parked.
    pub hibernating: bool,
}

/// A member as the asked node sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PeerReport {
    /// Number.
    pub number: u64,
    /// Id (public key).
    pub id: String,
    /// Name.
    pub name: String,
    /// Whether it is the asked node itself.
    pub asked: bool,
    /// `alive`, `suspect`, `failed`, `left`, or `unheard` at first.
    pub state: String,
    /// Address for other nodes.
    pub address: Option<String>,
    /// Smoothed round trip of probes, in microseconds.
    pub rtt_us: Option<u64>,
    /// Load over the last minute, as a share of its cores.
    pub load: Option<f64>,
    /// Version of its program.
    pub version: Option<String>,
    /// How often its data directory was started.
    pub incarnation: u64,
    /// How often this process refuted that it is gone.
    pub refuted: u32,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// What happened to members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeerEvents {
    /// In order.
    pub events: Vec<PeerEvent>,
    /// Events after the one that was named, but no longer remembered.
    pub missed: u64,
    /// Serial of the newest event: what to ask for next.
    pub last: u64,
}

/// One thing that happened to a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeerEvent {
    /// Counts the events that the asked process has seen, from 1.
    pub serial: u64,
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// `join`, `suspect`, `alive-again`, `leave` or `fail`.
    pub event: String,
    /// The member's number.
    pub number: u64,
    /// Its name.
    pub name: String,
    /// How often its data directory was started.
    pub incarnation: u64,
    /// How often this process of it refuted that it is gone.
    pub refuted: u32,
}

/// A credential of the operator, until this process ends.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PassReport {
    /// The token that the doors of this node take.
    pub token: String,
    /// Where it listens.
    pub doors: Doors,
}

impl std::fmt::Debug for PassReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Secrets stay out of logs and error messages.
        f.debug_struct("PassReport").field("doors", &self.doors).finish_non_exhaustive()
    }
}

/// A join ticket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TicketReport {
    /// The one line of text.
    pub ticket: String,
    /// Until when it is good, milliseconds since the Unix epoch.
    pub not_after_ms: u64,
}

/// A node that was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RemovedReport {
    /// Its number, which is never used again.
    pub number: u64,
    /// Its name.
    pub name: String,
}

/// What giving up nodes means, or meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RecoveryReport {
    /// Numbers of the nodes given up.
    pub lost: Vec<u64>,
    /// Groups that lost their majority.
    pub groups: Vec<RecoveryOfGroup>,
    /// Whether it was done, or is only a plan.
    pub done: bool,
}

/// A group that lost its majority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RecoveryOfGroup {
    /// Name.
    pub group: String,
    /// Voters before.
    pub voters: Vec<u64>,
    /// Voters that remain.
    pub remaining: Vec<u64>,
    /// Last entry that the asked replica has in its log.
    pub log: u64,
    /// Last entry that it knows to be acknowledged.
    pub committed: u64,
    /// In words: what may be missing.
    pub may_miss: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_to_do() {
        let line = serde_json::to_string(&Request::Ticket { valid_s: 60 }).expect("encodes");
        assert_eq!(line, r#"{"do":"ticket","valid_s":60}"#);
        assert_eq!(
            serde_json::from_str::<Request>(r#"{"do":"status"}"#).expect("decodes"),
            Request::Status {}
        );
    }

    #[test]
    fn unknown_requests_and_fields_are_refused() {
        for line in [r#"{"do":"dance"}"#, r#"{"do":"ticket"}"#, r#"{"do":"status","x":1}"#, "[]", "1"] {
            assert!(serde_json::from_str::<Request>(line).is_err(), "{line}");
        }
    }
}
