//! What neighbours tell each other.

use bytes::Bytes;
use trine_types::NodeNumber;

/// Names a broadcast message: who sent it, and its how-manieth it was.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct MessageId {
    /// Who broadcasts.
    pub origin: NodeNumber,
    /// Counts its messages, from 1.
    pub serial: u64,
}

/// One message between two members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A new member asks a contact to let it in.
    Join,
    /// A new member looks for neighbours on a random walk.
    ForwardJoin {
        /// The new member.
        member: NodeNumber,
        /// Steps that are left.
        steps: u8,
    },
    /// Be my neighbour.
    Neighbour {
        /// The asker has none: it may not be refused.
        urgent: bool,
    },
    /// The answer.
    NeighbourReply {
        /// Whether the two are neighbours now.
        accepted: bool,
    },
    /// No longer neighbours.
    Disconnect,
    /// Members to know of, on a random walk; answered to its origin.
    Shuffle {
        /// Who began it.
        origin: NodeNumber,
        /// Steps that are left.
        steps: u8,
        /// Members that it knows.
        members: Vec<NodeNumber>,
    },
    /// Members to know of in exchange.
    ShuffleReply {
        /// Members that the sender knows.
        members: Vec<NodeNumber>,
    },
    /// A whole message.
    Push {
        /// Which.
        id: MessageId,
        /// Links that it has crossed.
        hops: u16,
        /// What it says.
        payload: Bytes,
    },
    /// The sender has this message.
    Have {
        /// Which.
        id: MessageId,
    },
    /// Send me this message, and later ones too.
    Graft {
        /// Which.
        id: MessageId,
    },
    /// Send me ids only: I get whole messages from elsewhere.
    Prune,
}
