//! Follows which nodes there are: a link to each, none to the others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use trine_types::NodeId;

use super::flow::run_flow;
use crate::handle::Shared;
use crate::link::{Incoming, Outgoing};

/// Ends its task when dropped.
struct Flow(JoinHandle<()>);

impl Drop for Flow {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs until the mesh shuts down or nobody says any more which nodes there are.
pub(super) async fn follow(shared: Arc<Shared>, mut peers: watch::Receiver<BTreeSet<NodeId>>) {
    let mut flows: BTreeMap<NodeId, Flow> = BTreeMap::new();
    let mut stopped = shared.stopped.subscribe();
    loop {
        let mut wanted = peers.borrow_and_update().clone();
        wanted.remove(&shared.endpoint.local());
        let gone: Vec<NodeId> = flows.keys().filter(|peer| !wanted.contains(*peer)).copied().collect();
        for peer in gone {
            flows.remove(&peer);
            shared.remove_link(peer);
            shared.bus.unlink(peer);
        }
        for peer in wanted {
            flows.entry(peer).or_insert_with(|| begin(&shared, peer));
        }
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => break,
            changed = peers.changed() => if changed.is_err() {
                break;
            },
        }
    }
    for peer in flows.into_keys() {
        shared.remove_link(peer);
        shared.bus.unlink(peer);
    }
}

fn begin(shared: &Arc<Shared>, peer: NodeId) -> Flow {
    let outgoing = Arc::new(Outgoing::new());
    let incoming = Arc::new(Incoming::new(peer, shared.bus.clone(), Instant::now()));
    shared.bus.link(peer, outgoing.clone());
    shared.add_link(peer, outgoing.clone(), incoming.clone());
    Flow(tokio::spawn(run_flow(shared.clone(), peer, outgoing, incoming)))
}
