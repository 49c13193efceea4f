//! What nodes ask each other outside the log, as [`SERVICE`]: who runs there,
//! sign a certificate, keep the issuing key, report replicas, recover a group.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use trine_transport::Service;
use trine_types::{GroupId, Incarnation, NodeId, NodeNumber};

use crate::nodes::{BootId, StartRefused};
use crate::status::ReplicaReport;

/// The service under which a node answers these calls.
pub const SERVICE: Service = Service(0x20);

/// How long others have to hear of something before they are told to the user
/// as not knowing it (1 s): several elections, and short for who waits.
pub const KNOWN_LIMIT: Duration = Duration::from_secs(1);

/// A question to another node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Ask {
    /// Which process are you?
    Who,
    /// May this process of mine start? Asked before it votes anywhere.
    MayStart {
        /// Who asks.
        number: NodeNumber,
        /// Which start of its data directory.
        incarnation: Incarnation,
        /// Which process.
        boot: BootId,
    },
    /// Sign a certificate for this node. Answered by voters of `meta`.
    Sign {
        /// The node's key.
        node: NodeId,
    },
    /// Keep this issuing key: you are about to vote in `meta`.
    KeepIssuingKey {
        /// The secret half.
        seed: [u8; 32],
    },
    /// Give me the issuing key: I vote in `meta` and have lost it.
    GiveIssuingKey,
    /// Which replicas are open with you?
    Replicas,
    /// You were removed: stop. Sent before the connections are cut.
    Farewell,
    /// Go on with this group without these members, which are lost for good.
    Recover {
        /// Which group.
        group: GroupId,
        /// Who is lost.
        lost: BTreeSet<NodeNumber>,
    },
    /// Say yes once you know `meta` as far as this, or no after
    /// [`KNOWN_LIMIT`].
    Known {
        /// A revision of `meta`.
        revision: u64,
    },
}

/// The answer to an [`Ask`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Told {
    /// To [`Ask::Who`].
    Process {
        /// Which start of its data directory.
        incarnation: Incarnation,
        /// Which process.
        boot: BootId,
    },
    /// It may, as far as the asked node knows; it keeps the key; it has
    /// recovered the group; it knows that much.
    Yes,
    /// To [`Ask::MayStart`]: it must stop.
    MustStop(StartRefused),
    /// To [`Ask::Sign`].
    Certificate(Vec<u8>),
    /// To [`Ask::GiveIssuingKey`].
    IssuingKey([u8; 32]),
    /// To [`Ask::Replicas`].
    Replicas(Vec<ReplicaReport>),
    /// It cannot or must not, for this reason.
    No(String),
}
