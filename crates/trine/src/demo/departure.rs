//! When each node knew that another was gone: asked of every survivor from
//! before the kill on, timed on this process's clock.

use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::millis;
use crate::admin::client::AdminClient;
use crate::admin::protocol::{Answer, PeerEvent, PeerEvents, Request};
use crate::failure::Failure;
use crate::local::NodeProcess;

/// How long the survivors may take; far more than they should.
const LIMIT: Duration = Duration::from_secs(15);

/// When one node knew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Knew {
    /// The node, from 1.
    pub node: u16,
    /// Milliseconds from the kill on; absent: not in time.
    pub after_ms: Option<u64>,
}

/// Watchers of one node that is about to go.
pub struct Watchers {
    watching: JoinSet<Result<(u16, Option<Instant>), Failure>>,
}

impl Watchers {
    /// Watches the node at position `victim` through all others. Ready once
    /// every watch has begun.
    ///
    /// # Errors
    /// A node does not answer.
    pub async fn start(nodes: &[NodeProcess], victim: usize) -> Result<Self, Failure> {
        let number = nodes[victim].admin()?.status().await?.number;
        let mut watching = JoinSet::new();
        for node in nodes.iter().filter(|node| node.spec.n != nodes[victim].spec.n) {
            let mut client = node.admin()?;
            // Answered at once: that this node joined has happened already.
            let begun = events(&mut client, Some(0)).await?;
            let n = node.spec.n;
            watching.spawn(async move { Ok((n, until_failed(client, begun.last, number).await?)) });
        }
        Ok(Self { watching })
    }

    /// When each knew that the node was killed at `kill`.
    ///
    /// # Errors
    /// A node stopped answering.
    pub async fn finish(mut self, kill: Instant) -> Result<Vec<Knew>, Failure> {
        let mut all = Vec::new();
        while let Some(watched) = self.watching.join_next().await {
            let (node, at) = watched.map_err(Failure::new)??;
            let after_ms = at.map(|at| millis(at.saturating_duration_since(kill)));
            all.push(Knew { node, after_ms });
        }
        all.sort_by_key(|knew| knew.node);
        Ok(all)
    }
}

/// Waits until the node says that the member failed; `None`: not in time.
async fn until_failed(
    mut client: AdminClient,
    mut after: u64,
    number: u64,
) -> Result<Option<Instant>, Failure> {
    let failed = |event: &PeerEvent| event.number == number && event.event == "fail";
    let watch = async {
        loop {
            let happened = events(&mut client, Some(after)).await?;
            if happened.events.iter().any(failed) {
                return Ok(Instant::now());
            }
            after = happened.last;
        }
    };
    tokio::time::timeout(LIMIT, watch).await.map_or(Ok(None), |at| at.map(Some))
}

async fn events(client: &mut AdminClient, after: Option<u64>) -> Result<PeerEvents, Failure> {
    match client.ask(&Request::PeerEvents { after }).await? {
        Answer::PeerEvents(events) => Ok(events),
        other => Err(Failure::new(format!("the node answered something else: {other:?}"))),
    }
}
