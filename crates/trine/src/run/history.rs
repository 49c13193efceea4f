//! What `trine plan --run` predicted, beside what came of it: kept with the
//! jobs themselves.

use std::fmt::Write as _;

use trine_compute::JobSpec;
use trine_compute::command::{JobView, Progress};

use super::client::{Api, Ask};
use super::job::seconds;
use crate::admin::report::table;
use crate::cli::NodeTarget;
use crate::failure::Failure;

/// Jobs of one answer.
const PAGE: usize = 1_000;

/// By how many percent the prediction was too long; nothing if there is none,
/// or the job did not run to its end.
#[allow(clippy::cast_precision_loss, reason = "milliseconds, below 2^53")]
pub(super) fn off(spec: &JobSpec, progress: &Progress) -> Option<f64> {
    let (predicted, ended) = (spec.predicted_ms?, progress.ended_ms?);
    let took = ended.saturating_sub(progress.created_ms).max(1);
    let whole = progress.done == progress.tasks;
    whole.then(|| (predicted as f64 / took as f64 - 1.0) * 100.0)
}

/// The middle one of the errors, whichever way they went.
fn median(jobs: &[JobView]) -> Option<f64> {
    let mut errors: Vec<f64> =
        jobs.iter().filter_map(|job| off(&job.spec, &job.progress)).map(f64::abs).collect();
    errors.sort_by(f64::total_cmp);
    errors.get(errors.len() / 2).copied()
}

/// Prints the jobs that were planned, newest first, and how far off the
/// predictions were.
///
/// # Errors
/// No node answers.
pub(super) async fn show(target: &NodeTarget, json: bool) -> Result<u8, Failure> {
    let mut api = Api::find(target).await?;
    let (mut planned, mut before) = (Vec::<JobView>::new(), None);
    loop {
        let path = match before {
            None => format!("/v1/jobs?limit={PAGE}"),
            Some(before) => format!("/v1/jobs?limit={PAGE}&before={before}"),
        };
        let page: Vec<JobView> = api.json(&Ask::get(&path)).await?;
        before = page.last().map(|job| job.id);
        let last = page.len() < PAGE;
        planned.extend(page.into_iter().filter(|job| job.spec.predicted_ms.is_some()));
        if last {
            break;
        }
    }
    let text = if json {
        let rows: Vec<_> = planned.iter().map(as_json).collect();
        format!("{}\n", serde_json::json!({"jobs": rows, "median_error_percent": median(&planned)}))
    } else {
        as_table(&planned)
    };
    std::io::Write::write_all(&mut std::io::stdout().lock(), text.as_bytes()).map_err(Failure::new)?;
    Ok(0)
}

fn took(progress: &Progress) -> Option<u64> {
    progress.ended_ms.map(|end| end.saturating_sub(progress.created_ms))
}

fn as_json(JobView { id, spec, progress }: &JobView) -> serde_json::Value {
    serde_json::json!({
        "job": id, "name": spec.name, "tasks": progress.tasks, "predicted_ms": spec.predicted_ms,
        "took_ms": took(progress), "off_percent": off(spec, progress),
    })
}

fn as_table(planned: &[JobView]) -> String {
    let heading = ["JOB", "TASKS", "PREDICTED", "TOOK", "OFF", "NAME"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for JobView { id, spec, progress } in planned {
        let dash = || "-".to_owned();
        rows.push(vec![
            id.to_string(),
            progress.tasks.to_string(),
            spec.predicted_ms.map_or_else(dash, seconds),
            took(progress).map_or_else(dash, seconds),
            off(spec, progress).map_or_else(dash, |off| format!("{off:+.0} %")),
            spec.name.clone(),
        ]);
    }
    let mut out = table(&rows);
    match median(planned) {
        Some(median) => {
            let _ = writeln!(out, "median error: {median:.0} %");
        }
        None => out += "no job that was planned has ended: `trine plan --run` plans and runs one\n",
    }
    out
}

#[cfg(test)]
mod tests {
    use trine_compute::JobId;
    use trine_compute::Waited;
    use trine_compute::command::Phase;

    use super::*;

    fn job(id: u64, predicted_ms: Option<u64>, ended_ms: Option<u64>) -> JobView {
        let progress = Progress {
            phase: Phase::Over,
            tasks: 1,
            done: 1,
            failed: 0,
            created_ms: 1_000,
            ended_ms,
            why: None,
            schedule: None,
            bytes: 0,
            halt: None,
            submitted: Waited::default(),
            committed: Waited::default(),
            revision: id,
        };
        JobView { id: JobId(id), spec: JobSpec { predicted_ms, ..JobSpec::default() }, progress }
    }

    #[test]
    fn predictions_stand_beside_what_came_of_them() {
        let jobs =
            [job(3, Some(900), Some(2_000)), job(2, Some(3_000), Some(3_000)), job(1, Some(500), None)];
        assert_eq!(median(&jobs).map(f64::round), Some(50.0));
        let shown = as_table(&jobs);
        for expected in ["-10 %", "+50 %", "0.900 s", "median error: 50 %"] {
            assert!(shown.contains(expected), "{expected}: {shown}");
        }
        assert!(as_table(&[]).contains("trine plan --run"));
        assert_eq!(off(&JobSpec::default(), &jobs[0].progress), None);
    }
}
