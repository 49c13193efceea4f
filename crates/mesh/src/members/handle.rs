//! [`Peers`]: what other rooms and the binary hold to see the members.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use trine_types::NodeId;

use super::run::Order;
use super::view::View;

/// This node's view of its peers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Peers {
    view: watch::Receiver<Arc<View>>,
    failed: watch::Receiver<BTreeSet<NodeId>>,
    orders: mpsc::Sender<Order>,
}

impl Peers {
    pub(super) fn new(
        view: watch::Receiver<Arc<View>>,
        failed: watch::Receiver<BTreeSet<NodeId>>,
        orders: mpsc::Sender<Order>,
    ) -> Self {
        Self { view, failed, orders }
    }

    /// How everybody is and what happened, now and whenever it changes.
    #[must_use]
    pub fn view(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    /// Who is believed to have failed, now and whenever it changes.
    #[must_use]
    pub fn failed(&self) -> watch::Receiver<BTreeSet<NodeId>> {
        self.failed.clone()
    }

    /// Says goodbye to all others; returns when that is on its way. This node
    /// then no longer takes part, until its process is started again.
    pub async fn leave(&self) {
        let (done, gone) = oneshot::channel();
        // If nobody takes it, the task has ended already.
        if self.orders.send(Order::Leave(done)).await.is_ok() {
            let _ = gone.await;
        }
    }
}
