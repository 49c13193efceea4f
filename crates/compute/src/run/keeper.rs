//! Throws away kept outputs that have been there for too long.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::handle::Shared;

/// How often the shelf is looked at; not at once, when a node has better to do.
/// In the simulator, whose nodes live shorter, the looks of threads that time
/// does not wait for would change what a seed does.
const EVERY: Duration = Duration::from_mins(10);

/// Runs until the node stops.
pub(super) async fn run(shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let mut ticks = interval_at(Instant::now() + EVERY, EVERY);
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
