//! Submits tasks of a job that is over once more, as a new job: the node still
//! has them as they were submitted.

use std::collections::BTreeSet;

use bytes::BytesMut;
use trine_compute::command::JobView;
use trine_compute::limits::{MAX_RANGE_BYTES, MAX_TASKS_PER_RANGE};
use trine_compute::record::{Decoder, Record, encode};
use trine_compute::{JobId, JobSpec, When};

use super::client::{Api, Ask};
use crate::failure::Failure;

/// Tasks that are sent together.
const AT_ONCE: usize = MAX_TASKS_PER_RANGE / 4;

/// Submits all tasks but these; the new job and how many, `None` if there are
/// no others.
pub(super) async fn submit(
    api: &mut Api,
    job: &JobView,
    without: &BTreeSet<u64>,
) -> Result<Option<(JobId, u64)>, Failure> {
    if without.len() as u64 == job.progress.tasks {
        return Ok(None);
    }
    // What it came after is over, and its time may be; the prediction was for all of them.
    let spec = JobSpec { when: When::default(), predicted_ms: None, ..job.spec.clone() };
    let again = api.create(&spec).await?;
    let (mut from, mut sent) = (0, 0);
    let (mut batch, mut count) = (BytesMut::new(), 0);
    while from < job.progress.tasks {
        let records = tasks(api, job.id, from).await?;
        if records.is_empty() {
            return Err(Failure::new(format!(
                "job {} has {} tasks, but only {from} can be read",
                job.id, job.progress.tasks
            )));
        }
        for record in records {
            if !without.contains(&from) {
                encode(&record.head, &[&record.body], &mut batch);
                count += 1;
            }
            from += 1;
            if count >= AT_ONCE
                || batch.len() >= MAX_RANGE_BYTES / 4
                || (from == job.progress.tasks && count > 0)
            {
                api.append(again, sent, batch.split().freeze()).await?;
                sent += count as u64;
                count = 0;
            }
        }
    }
    api.close(again).await?;
    Ok(Some((again, sent)))
}

/// Some tasks from this one on, as they were submitted.
async fn tasks(api: &mut Api, job: JobId, from: u64) -> Result<Vec<Record>, Failure> {
    let body = api.bytes(&Ask::get(&format!("/v1/jobs/{job}/tasks?from={from}"))).await?;
    let (mut decoder, mut records) = (Decoder::default(), Vec::new());
    decoder.feed(&body);
    while let Some(record) = decoder.next_record().map_err(Failure::new)? {
        records.push(record);
    }
    decoder.finish().map_err(Failure::new)?;
    Ok(records)
}
