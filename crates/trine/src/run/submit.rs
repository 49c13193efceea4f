//! `trine job submit --from FILE`: each stage of the file becomes a job that
//! waits in the log for those before it. If one cannot be submitted, those that
//! were are cancelled.

use std::path::Path;

use tokio::sync::mpsc;
use trine_compute::{JobId, Schedule};
use trine_types::Clock;

use super::args::RunArgs;
use super::client::Api;
use super::input::Before;
use super::plan::{self, Plan};
use super::stages::{self, Stage, Stages};
use super::{Reading, Submitter, TOLD, forget};
use crate::cli::NodeTarget;
use crate::failure::Failure;
use crate::seams::SystemClock;

/// Largest file that describes a job.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// Submits what the file describes, and prints the jobs.
///
/// # Errors
/// The file is wrong, no node answers, or a stage is refused.
pub async fn run(file: &Path, node: &NodeTarget, json: bool) -> Result<u8, Failure> {
    let name = file.display().to_string();
    let cannot = |error| Failure::new(format!("cannot read {name}: {error}")).usage();
    if std::fs::metadata(file).map_err(cannot)?.len() > MAX_FILE_BYTES {
        return Err(Failure::new(format!("{name} is larger than {} MiB", MAX_FILE_BYTES >> 20)).usage());
    }
    let stages = stages::read(&name, &std::fs::read_to_string(file).map_err(cannot)?)?;
    // Everything that may be wrong is looked at before anything is submitted.
    let mut plans = Vec::new();
    for stage in &stages.stages {
        plans.push(planned(stage)?);
    }
    let mut api = Api::find(node).await?;
    let mut made = Vec::new();
    if let Err(failure) = all(&mut api, &stages, plans, &mut made).await {
        for job in &made {
            // What was wrong is said below.
            let _ = api.cancel(*job).await;
        }
        return Err(failure);
    }
    let jobs = stages.stages.iter().zip(&made);
    if json {
        let row = |(stage, job): (&Stage, &JobId)| serde_json::json!({"stage": stage.name, "job": job.0});
        println!("{}", serde_json::json!({"jobs": jobs.map(row).collect::<Vec<_>>()}));
    } else {
        jobs.for_each(|(stage, job)| println!("{job}\t{}", stage.name));
    }
    Ok(0)
}

fn planned(stage: &Stage) -> Result<Plan, Failure> {
    let args = match &stage.args_file {
        None => stage.args.clone(),
        Some(path) => {
            let cannot = |error| {
                Failure::new(format!("stages.{}.args_file: cannot read {path}: {error}", stage.name)).usage()
            };
            let lines = std::fs::read(path).map_err(cannot)?;
            let lines = lines.strip_suffix(b"\n").unwrap_or(&lines).split(|byte| *byte == b'\n');
            Some(lines.map(<[u8]>::to_vec).collect())
        }
    };
    for name in &stage.run.files.basefile {
        std::fs::metadata(name).map_err(|error| {
            Failure::new(format!("stages.{}.files: cannot read {name}: {error}", stage.name)).usage()
        })?;
    }
    Plan::of(&stage.run, &stage.command, args)
}

async fn all(api: &mut Api, stages: &Stages, plans: Vec<Plan>, made: &mut Vec<JobId>) -> Result<(), Failure> {
    let deadline = stages.deadline.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    // That of a schedule counts from each due time on.
    let from = if stages.cron.is_some() { 0 } else { SystemClock.wall_ms() };
    let deadline_ms = deadline.map(|time| from.saturating_add(time));
    for (stage, plan) in stages.stages.iter().zip(plans) {
        let is_last = made.len() + 1 == stages.stages.len();
        let mut spec = plan::job(&stage.run, None)?;
        spec.when.deadline_ms = deadline_ms;
        // The last one is the schedule: it is closed when all of it is there.
        spec.when.schedule = stages.cron.as_ref().map(|(text, zone)| {
            if is_last {
                Schedule::Cron { text: text.clone(), zone: zone.clone(), parts: made.clone() }
            } else {
                Schedule::Part
            }
        });
        spec.when.after = stage.after.iter().filter_map(|before| made.get(*before).copied()).collect();
        if let Some(cpu_milli) = stage.cpu_milli {
            spec.resources.cpu_milli = cpu_milli;
        }
        let job = api.create(&spec).await?;
        made.push(job);
        tasks(api, job, &stage.run, plan).await?;
    }
    Ok(())
}

async fn tasks(api: &Api, job: JobId, args: &RunArgs, plan: Plan) -> Result<(), Failure> {
    let mut reading = Reading::start(args, plan, Before::Nothing)?;
    let submitter = Submitter::new(api.clone(), job, args, (false, None));
    let (tell, heard) = mpsc::channel(TOLD);
    tokio::try_join!(submitter.all(&mut reading, tell), forget(heard)).map(drop)
}
