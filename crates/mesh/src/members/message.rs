//! What members tell each other. Who says it is known from the connection.

use serde::{Deserialize, Serialize};
use trine_types::NodeNumber;

use super::life::{Belief, Life};

/// Fresh beliefs in one message, at most.
pub const MAX_FRESH: usize = 12;
/// Older beliefs that one message repeats, at most: what was missed is learnt.
pub const MAX_REPEATED: usize = 2;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The sender's life.
    pub life: Life,
    /// The sender's load, in hundredths of what its cores can do.
    pub load: u16,
    /// What it wants.
    pub kind: Kind,
    /// What it believes of others.
    pub updates: Vec<Update>,
}

/// What a message is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Are you there? Answered by [`Kind::Ack`].
    Ping {
        /// The sender's number of this probe.
        probe: u32,
        /// What the sender believes of the receiver, which may contradict.
        you: Belief,
        /// Hash of what the sender knows of the receiver's profile.
        knows: u32,
    },
    /// I am.
    Ack {
        /// As in the ping.
        probe: u32,
        /// The sender's profile, if the ping's sender has another one.
        profile: Option<Vec<u8>>,
    },
    /// Is it there? It does not answer me.
    PingFor {
        /// The asker's number of the probe.
        probe: u32,
        /// Who does not answer.
        target: NodeNumber,
        /// How long to wait for it, in milliseconds.
        wait_ms: u16,
    },
    /// It answered me.
    AckFor {
        /// The asker's number.
        probe: u32,
    },
    /// I am there, but it does not answer me either.
    NackFor {
        /// The asker's number.
        probe: u32,
    },
    /// Nothing: the message carries beliefs only.
    Gossip,
}

/// What the sender believes of a third member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// Of whom.
    pub member: NodeNumber,
    /// What.
    pub belief: Belief,
    /// If it is suspected: who got no answer.
    pub by: Vec<NodeNumber>,
}
