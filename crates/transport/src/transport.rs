//! The seam between Trine and the network: open a lane to a node, send and
//! receive frames, know who the peer is. Two twins stand behind it: TLS over
//! TCP (the product) and the simulated network (tests and the simulator).

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use trine_types::NodeId;

use crate::error::OpenError;
use crate::frame::{FrameReceiver, FrameSender, frame_queue};
use crate::join::{JoinError, JoinHandler};
use crate::lane::Lane;
use crate::signal::Closer;
use crate::ticket::Ticket;

/// A way to reach other nodes of the cluster. Whoever holds a [`Connection`]
/// knows that the peer proved its key and was admitted.
pub trait Transport: Send + Sync + 'static {
    /// The node that this transport speaks for.
    fn local(&self) -> NodeId;

    /// Opens a connection to `peer` for `lane`. Ready only after the peer
    /// accepted this node. Dropping the future abandons the attempt.
    fn open(&self, peer: NodeId, lane: Lane) -> BoxFuture<'static, Result<Connection, OpenError>>;

    /// The next connection that another node opened; `None` after shutdown.
    /// One task at a time may wait.
    fn accept(&self) -> BoxFuture<'static, Option<Connection>>;

    /// Says where `peer` can be reached, tried in this order. Replaces what
    /// was known; an empty list forgets the peer. The simulated network finds
    /// nodes by id and ignores it.
    fn set_addresses(&self, peer: NodeId, addresses: Vec<SocketAddr>);

    /// Lets `handler` judge machines that ask to join through this node,
    /// replacing an earlier one. Without one, joiners are refused.
    fn serve_joins(&self, handler: Arc<dyn JoinHandler>);

    /// Asks the contacts of `ticket`, in order, to let this node (which needs
    /// no certificate yet) join: sends `request` (at most
    /// [`crate::join::MAX_JOIN_BODY_BYTES`]) and gives back what the handler
    /// there replied. Dropping the future abandons the attempt; whether the
    /// ticket was used is then unknown.
    fn join(&self, ticket: Ticket, request: Bytes) -> BoxFuture<'static, Result<Bytes, JoinError>>;

    /// Stops listening and closes every connection.
    fn shutdown(&self);
}

/// One authenticated connection: frames in order, both ways.
#[derive(Debug)]
pub struct Connection {
    /// Who is at the other end, proven.
    pub peer: NodeId,
    /// What the connection is for.
    pub lane: Lane,
    /// Frames to the peer.
    pub sender: FrameSender,
    /// Frames from the peer.
    pub receiver: FrameReceiver,
    /// Closes the connection at once.
    pub closer: Closer,
}

impl Connection {
    /// Two ends in this process, for calls of a node to itself and for tests:
    /// the first end sees `second` as its peer and the other way round.
    #[must_use]
    pub fn pair(first: NodeId, second: NodeId, lane: Lane) -> (Self, Self) {
        let (closer_one, closer_two) = Closer::pair();
        let (sender_one, queue_one) = frame_queue(closer_one.clone());
        let (sender_two, queue_two) = frame_queue(closer_two.clone());
        let one = Self {
            peer: second,
            lane,
            sender: sender_one,
            receiver: FrameReceiver::new(queue_two, closer_one.clone()),
            closer: closer_one,
        };
        let two = Self {
            peer: first,
            lane,
            sender: sender_two,
            receiver: FrameReceiver::new(queue_one, closer_two.clone()),
            closer: closer_two,
        };
        (one, two)
    }
}
