//! The tasks of the mesh: one that follows which nodes there are, and one for
//! each of them that tells and sends.

mod flow;
mod peers;

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;
use trine_types::NodeId;

use crate::handle::Shared;

/// Starts to follow which nodes there are.
pub(crate) fn start(shared: &Arc<Shared>, peers: watch::Receiver<BTreeSet<NodeId>>) {
    tokio::spawn(peers::follow(shared.clone(), peers));
}
