//! The tasks of replication: they are spawned and select only here.
//!
//! | file | task |
//! |---|---|
//! | [`front`] | per group: proposals of this node, batches of the leader |
//! | [`reader`] | per group: queries of this node, ReadIndex rounds of the leader |
//! | [`door`] | the way into a front; no task of its own |
//! | [`append`] | per append stream: a leader's messages into the replica, in order |
//! | [`liveness`] | per node: beats, suspicion, parking of tickers, clock skew |
//! | [`maintenance`] | per node: purge behind flushed state, marks and verdicts |
//! | [`server`] | handlers of what other nodes call; no task of its own |
//! | [`snapshot`] | chunks of a snapshot into the next generation |
//! | [`members`] | changes of members and leaders |

use std::sync::Arc;

use tokio::sync::watch;
use trine_types::GroupId;

use crate::node::{Hint, Node, Route};

pub(crate) mod append;
pub(crate) mod door;
pub(crate) mod front;
pub(crate) mod liveness;
pub(crate) mod maintenance;
pub(crate) mod members;
pub(crate) mod proposer;
pub(crate) mod reader;
pub(crate) mod server;
pub(crate) mod snapshot;
pub(crate) mod target;

/// Events that may wait for a group's front or reader; more are refused.
const QUEUE: usize = 16_384;

/// Starts the tasks through which this node reaches a group.
pub(crate) fn start_route(node: &Arc<Node>, group: GroupId) -> Arc<Route> {
    let (front, front_inbox) = door::door(QUEUE);
    let (reader, reader_inbox) = door::door(QUEUE);
    let (local, hint) = (watch::Sender::new(None), watch::Sender::new(Hint::default()));
    let finder = || target::Finder::new(node.clone(), group, local.subscribe(), hint.subscribe());
    node.runtime.spawn(front::run(front::Front::new(node, group, finder()), front_inbox));
    node.runtime.spawn(reader::run(reader::Reader::new(node, group, finder()), reader_inbox));
    Arc::new(Route { front, reader, local, hint })
}
