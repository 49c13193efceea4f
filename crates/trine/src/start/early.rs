//! What a node says before it knows its cluster. The admin socket and the
//! admin API are there from the first moment on; what they answer changes once
//! the node is whole.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use futures::future::BoxFuture;
use tokio::time::Instant;
use trine_cluster::Cluster;
use trine_mesh::members::Peers;
use trine_replication::Replication;
use trine_types::NodeNumber;

use crate::admin::protocol::{Answer, Doors, Refusal, RefusalKind, Request, StatusReport};
use crate::admin::server::Control;
use crate::control;
use crate::http::api::Measured;
use crate::http::metrics::Family;
use crate::http::site::{Asked, Reply, Site};
use crate::node::Entered;

/// Nodes that are named of those that are waited for.
const NAMED: usize = 5;

/// Answers in two stages: the second one replaces the first.
pub(super) struct Staged<T: ?Sized> {
    first: Arc<T>,
    then: OnceLock<Arc<T>>,
}

impl<T: ?Sized> Staged<T> {
    pub(super) fn new(first: Arc<T>) -> Self {
        Self { first, then: OnceLock::new() }
    }

    /// From now on `then` answers.
    pub(super) fn go_on(&self, then: Arc<T>) {
        // There is one second stage: it is set once.
        let _ = self.then.set(then);
    }

    fn now(&self) -> &T {
        self.then.get().unwrap_or(&self.first)
    }
}

impl Control for Staged<dyn Control> {
    fn answer<'a>(&'a self, who: &'a str, request: Request) -> BoxFuture<'a, Result<Answer, Refusal>> {
        self.now().answer(who, request)
    }
}

impl Site for Staged<dyn Site> {
    fn answer(&self, asked: Asked) -> BoxFuture<'_, Reply> {
        self.now().answer(asked)
    }
}

/// Nothing is counted yet.
pub(super) struct Uncounted;

impl Measured for Uncounted {
    fn families(&self) -> Vec<Family> {
        Vec::new()
    }
}

/// Answers for a node that waits to hear of its cluster.
pub(super) struct EarlyControl {
    cluster: Cluster,
    replication: Replication,
    peers: Peers,
    name: String,
    others: BTreeMap<NodeNumber, Vec<SocketAddr>>,
    doors: Doors,
    started: Instant,
}

impl EarlyControl {
    pub(super) fn new(entered: &Entered, doors: Doors) -> Self {
        Self {
            cluster: entered.cluster.clone(),
            replication: entered.replication.clone(),
            peers: entered.peers.clone(),
            name: entered.name.clone(),
            others: entered.others.clone(),
            doors,
            started: Instant::now(),
        }
    }

    /// What it waits for, and whom it asks; `None`: for itself only, which
    /// takes a moment.
    pub(super) fn waits(&self) -> Option<String> {
        let known = self.cluster.meta().borrow().partitions() > 0;
        (!known && !self.others.is_empty()).then(|| waits_for(&self.others))
    }

    fn status(&self) -> StatusReport {
        let cluster = &self.cluster;
        let groups = self.replication.status();
        let mut problems: Vec<_> = self.waits().into_iter().collect();
        problems.extend(control::problems_of_groups(&groups));
        let suspects = self.replication.suspects();
        let unheard = |number: &&NodeNumber| suspects.borrow().contains(number);
        StatusReport {
            cluster: cluster.id().to_string(),
            number: cluster.number().0,
            id: cluster.node_id().to_string(),
            name: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            incarnation: cluster.incarnation().0,
            uptime_ms: crate::demo::millis(self.started.elapsed()),
            doors: self.doors.clone(),
            ready: false,
            nodes: self.others.len() + 1,
            unreachable: self.others.keys().filter(unheard).map(|number| number.0).collect(),
            partitions: 0,
            tolerates: 0,
            problems,
        }
    }
}

impl Control for EarlyControl {
    fn answer<'a>(&'a self, _who: &'a str, request: Request) -> BoxFuture<'a, Result<Answer, Refusal>> {
        Box::pin(async move {
            Ok(match request {
                Request::Status {} => Answer::Status(Box::new(self.status())),
                Request::Groups {} => Answer::Groups(control::groups(&self.replication.status())),
                Request::Peers {} => {
                    let view = self.peers.view().borrow().clone();
                    Answer::Peers(crate::peer::reports(&view))
                }
                _ => {
                    let starting = || "this node is starting".to_owned();
                    return Err(Refusal::new(self.waits().unwrap_or_else(starting))
                        .hint("start the other nodes, or look whether they can be reached; then ask again")
                        .kind(RefusalKind::Unavailable));
                }
            })
        })
    }
}

fn waits_for(others: &BTreeMap<NodeNumber, Vec<SocketAddr>>) -> String {
    let name = |(number, addresses): (&NodeNumber, &Vec<SocketAddr>)| match addresses.first() {
        Some(address) => format!("{number} at {address}"),
        None => number.to_string(),
    };
    let mut named: Vec<_> = others.iter().take(NAMED).map(name).collect();
    if others.len() > NAMED {
        named.push(format!("{} more", others.len() - NAMED));
    }
    format!(
        "this node has not heard from its cluster yet, of which nothing is on its disk: it waits for {}",
        named.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_who_is_waited_for() {
        let address = |n: u16| SocketAddr::from(([10, 0, 0, 1], n));
        let others = (2..9).map(|n| (NodeNumber(n.into()), vec![address(n)])).collect();
        let text = waits_for(&others);
        assert!(
            text.contains("n2 at 10.0.0.1:2, n3 at") && text.ends_with("n6 at 10.0.0.1:6, 2 more"),
            "{text}"
        );
    }
}
