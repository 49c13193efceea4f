//! The task that tells surfaces when somebody may have to be cut off: users or
//! tokens have changed, or a token has come to its end.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;
use trine_cluster::MetaState;
use trine_types::Clock;

use super::Shared;

/// Longest wait before the ends of tokens are looked at again: wall clocks
/// jump, timers do not.
const LOOK_AT_LEAST: Duration = Duration::from_mins(1);

/// Runs until the node's view of `meta` or its logins end.
pub(super) async fn follow(
    shared: Weak<Shared>,
    mut meta: watch::Receiver<Arc<MetaState>>,
    clock: Arc<dyn Clock>,
) {
    let mut before = meta.borrow_and_update().clone();
    let mut looked_ms = clock.wall_ms();
    loop {
        let next = next_end(&before, looked_ms);
        let wait = match next {
            Some(end) => Duration::from_millis(end.saturating_sub(clock.wall_ms())).min(LOOK_AT_LEAST),
            // Nothing ends by itself: only a change wakes this.
            None => Duration::MAX,
        };
        let changed = tokio::select! {
            biased;
            changed = meta.changed() => changed.map(|()| true),
            () = pause(wait) => Ok(false),
        };
        let Ok(changed) = changed else { return };
        let Some(shared) = shared.upgrade() else { return };
        let now = meta.borrow_and_update().clone();
        let now_ms = clock.wall_ms();
        let differs = changed && (now.users != before.users || now.tokens != before.tokens);
        let ended = next_end(&before, looked_ms).is_some_and(|end| end <= now_ms);
        if differs || ended {
            shared.changes.send_modify(|count| *count += 1);
        }
        (before, looked_ms) = (now, now_ms);
    }
}

/// Runs until the tokens of tasks or these logins end: who has logged in with a
/// token whose task has ended is cut off.
pub(super) async fn follow_tasks(shared: Weak<Shared>, mut ended: watch::Receiver<u64>) {
    while ended.changed().await.is_ok() {
        let Some(shared) = shared.upgrade() else { return };
        shared.changes.send_modify(|count| *count += 1);
    }
}

async fn pause(wait: Duration) {
    if wait == Duration::MAX {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(wait).await;
}

/// When the next token after `now_ms` ends.
fn next_end(meta: &MetaState, now_ms: u64) -> Option<u64> {
    meta.tokens.values().filter_map(|row| row.not_after_ms).filter(|end| *end > now_ms).min()
}
