//! Throws away kept outputs that have been there for too long.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::handle::Shared;

/// How often the shelf is looked at.
const EVERY: Duration = Duration::from_mins(10);

/// Runs until the node stops.
pub(super) async fn run(shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            _ = ticks.tick() => {}
        }
        let now = UNIX_EPOCH + Duration::from_millis(shared.clock.wall_ms());
        if let Err(error) = shared.shelf.expire(now).await {
            tracing::warn!(%error, "kept outputs that are old cannot be removed");
        }
    }
}
