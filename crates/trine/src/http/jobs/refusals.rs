//! What is said when jobs cannot be had as asked.

use hyper::StatusCode;
use trine_compute::command;
use trine_compute::error::ComputeError;

use super::super::site::{Reply, status_of};
use crate::admin::protocol::{Refusal, RefusalKind};

/// The request makes no sense.
pub(super) fn invalid(why: impl Into<String>) -> Reply {
    let refusal = Refusal::new(why.into()).hint("docs/jobs.md describes it").kind(RefusalKind::Invalid);
    Reply::refusal(StatusCode::BAD_REQUEST, &refusal)
}

/// There is nothing of that name.
pub(super) fn missing(what: impl Into<String>) -> Reply {
    Reply::refusal(StatusCode::NOT_FOUND, &Refusal::new(what.into()))
}

/// How many tasks the job has, where that was the trouble.
pub(super) fn has_tasks(error: &ComputeError) -> Option<u64> {
    match error {
        ComputeError::Refused(command::Refusal::Outdated { tasks, .. }) => Some(*tasks),
        _ => None,
    }
}

/// The cluster says no, or nothing.
#[expect(clippy::needless_pass_by_value, reason = "errors are mapped with it")]
pub(super) fn refused(error: ComputeError) -> Reply {
    let kind = match &error {
        ComputeError::Refused(refusal) => match refusal {
            command::Refusal::NoSuchJob(_) => RefusalKind::NotFound,
            command::Refusal::Bad(_) => RefusalKind::Invalid,
            command::Refusal::NotUnderstood(_) | command::Refusal::Corrupt(_) => RefusalKind::Failed,
            _ => RefusalKind::Conflict,
        },
        ComputeError::Range(_) => RefusalKind::Invalid,
        ComputeError::Nowhere => RefusalKind::NotFound,
        ComputeError::NotUnderstood(_) => RefusalKind::Failed,
        _ => RefusalKind::Unavailable,
    };
    let refusal = Refusal::new(error.to_string()).kind(kind);
    Reply::refusal(status_of(&refusal), &refusal)
}
