//! Forgets jobs that have been over for long, on the node that leads group
//! `jobs`: whoever submits and never cleans up does not fill the group.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use trine_types::GroupId;

use crate::codec;
use crate::command::{Answer, Command};
use crate::handle::Shared;
use crate::limits::KEPT_FOR;
use crate::spec::JobId;
use crate::state;

/// How often a leader looks.
const EVERY: Duration = Duration::from_mins(1);

/// Jobs that are looked at in one round.
const LOOKED_AT: usize = 2_048;

/// Runs until the node stops.
pub(super) async fn run(shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let mut from = JobId(0);
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            () = sleep(EVERY) => {}
        }
        if shared.replication.leader(GroupId::JOBS) != Some(shared.number) {
            from = JobId(0);
            continue;
        }
        let Some(rows) = shared.applied.borrow().as_ref().map(|applied| applied.state.view()) else {
            continue;
        };
        let kept_ms = u64::try_from(KEPT_FOR.as_millis()).unwrap_or(u64::MAX);
        let before_ms = shared.clock.wall_ms().saturating_sub(kept_ms);
        match state::ended_before(&*rows, from, before_ms, LOOKED_AT) {
            Ok((old, next)) => {
                from = next;
                for job in old {
                    forget(&shared, job).await;
                }
            }
            Err(refusal) => tracing::error!(%refusal, "jobs that are over cannot be read"),
        }
    }
}

/// An error leaves the job for a later round.
async fn forget(shared: &Shared, job: JobId) {
    let command = codec::encode(&Command::Forget { job });
    while let Ok(reply) = shared.replication.propose(GroupId::JOBS, command.clone()).await {
        if !matches!(codec::decode(&reply.body, "answer"), Ok(Answer::Forgotten { more: true })) {
            tracing::info!(%job, "a job that was over for long is forgotten");
            return;
        }
    }
}
