//! The errors of this room, one enum per handle. Each variant says whether
//! anything may have happened at the peer and what the caller should do next.

use bytes::Bytes;
use trine_types::limits::MAX_FRAME_BYTES;

/// Why a connection could not be opened. Nothing was sent to any service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// No address is known for the peer: wait until the cluster knows one.
    #[error("no address is known for this node")]
    UnknownAddress,
    /// Nobody answered at any known address, or not in time: try again later.
    #[error("the node cannot be reached: {0}")]
    Unreachable(UnreachableCause),
    /// The other side proved another key or did not prove itself.
    #[error("the node at this address is not the one expected: {0}")]
    WrongPeer(&'static str),
    /// The peer refused this node: retrying does not help until that changes.
    #[error("the node refused the connection: {0}")]
    Refused(RefusalReason),
    /// This transport was shut down.
    #[error("the transport is shut down")]
    ShutDown,
}

/// Why nobody could be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnreachableCause {
    /// The connection attempt failed with this kind of error.
    #[error("{0}")]
    Io(std::io::ErrorKind),
    /// No answer within the time limit.
    #[error("no answer in time")]
    TimedOut,
    /// The peer broke the connection before it was up.
    #[error("the connection broke before it was up")]
    Broken,
}

/// Why a node does not let another one in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RefusalReason {
    /// The admission certificate is missing, damaged or not signed by a known
    /// issuing key.
    #[error("the admission certificate does not verify")]
    BadCertificate,
    /// The certificate is for another key than the handshake proved.
    #[error("the admission certificate belongs to another key")]
    OtherKey,
    /// The certificate is of another cluster.
    #[error("the admission certificate is of another cluster")]
    OtherCluster,
    /// The certificate is not valid yet or no longer.
    #[error("the admission certificate is outside its time of validity")]
    Expired,
    /// The cluster revoked the node.
    #[error("the node was removed from the cluster")]
    Revoked,
    /// The first message was not a greeting of this protocol version.
    #[error("the greeting is not of this protocol version")]
    BadGreeting,
    /// Too many connections or handshakes at once: try again later.
    #[error("too many connections at once")]
    Busy,
}

/// Why a call did not return a reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The peer could not be reached, or a recent attempt failed and the next
    /// is not due. The request was not sent: try another node, or later.
    #[error("not sent: {0}")]
    NotSent(#[source] OpenError),
    /// The connection broke after the request was queued for sending: it may
    /// or may not have been executed.
    #[error("the connection broke before the reply: outcome unknown")]
    Broken,
    /// No reply before the deadline: it may or may not have been executed.
    #[error("no reply before the deadline: outcome unknown")]
    TimedOut,
    /// Too many calls wait for this peer already. The request was not sent:
    /// slow down.
    #[error("not sent: too many calls are waiting for this node")]
    Busy,
    /// The request does not fit in a frame. It was not sent.
    #[error("not sent: {0} bytes are over the limit of {MAX_FRAME_BYTES} for one message")]
    TooLarge(usize),
    /// The service at the peer refused; see [`CallRefused`].
    #[error("refused: {0}")]
    Refused(#[from] CallRefused),
    /// This node is shutting down. The request was not sent, or its outcome
    /// is unknown.
    #[error("this node is shutting down")]
    ShutDown,
}

impl CallError {
    /// Whether the peer certainly did not see the request.
    #[must_use]
    pub const fn was_not_sent(&self) -> bool {
        matches!(self, Self::NotSent(_) | Self::Busy | Self::TooLarge(_))
    }
}

/// A handler's answer that it did not do what was asked. State is unchanged
/// unless the service defines otherwise for [`CallRefused::Rejected`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallRefused {
    /// Nobody serves this service at the peer (yet): try again later.
    #[error("the node does not serve this")]
    UnknownService,
    /// The handler cannot take it now: try again later or elsewhere.
    #[error("the node cannot take this now")]
    Unavailable,
    /// The request was not understood: a bug or a newer version.
    #[error("the node did not understand the request")]
    Malformed,
    /// Refused for a reason that the service encodes itself.
    #[error("the service refused ({} bytes of detail)", .0.len())]
    Rejected(Bytes),
}
