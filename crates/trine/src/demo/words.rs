//! Master and workers: the words of the stored files are counted by processes
//! on all nodes, which read the files from the database and write what they
//! counted back. Midway one node is killed. The sums must equal what one
//! thread counts here, over the files themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde::Serialize;
use tokio::time::{Instant, timeout};
use trine_compute::record::encode_task;
use trine_compute::spec::Input;
use trine_compute::{JobSpec, Outcome, Output, TaskResult, TaskSpec, Work};
use trine_types::NodeNumber;

use super::input::Item;
use super::tally::Tally;
use super::{bytes_bar, count_bar, failover, millis, spinner};
use crate::cli::NodeTarget;
use crate::failure::Failure;
use crate::local::NodeProcess;
use crate::resp::{Client, Value};
use crate::run::client::{Api, Unanswered};
use crate::run::cost::{Account, Cost, WorkerCost};

/// What a task executes.
const SCRIPT: &str = include_str!("words.py");
/// About how many tasks the input is cut into.
const TASKS: u64 = 48;
/// Keys of what tasks counted begin so; the task's number follows.
const COUNTS: &str = "demo:words:";
/// How often a task is tried that failed, as one whose node lost the owner of
/// its data may.
const RETRIES: u32 = 10;
/// How long all of it may take.
const LIMIT: Duration = Duration::from_mins(5);

/// What the count showed.
#[derive(Debug, Clone, Default, Serialize)]
pub struct WordsReport {
    /// Tasks that the files were cut into.
    pub tasks: usize,
    /// Tasks with exactly one result, and that a success.
    pub succeeded: usize,
    /// Node that was killed, from 1.
    pub killed: u16,
    /// Results that were there when it was killed.
    pub results_at_kill: usize,
    /// Tasks whose result is not of their first attempt.
    pub again: usize,
    /// From submission until the last result.
    pub counted_ms: u64,
    /// Reading and adding what tasks counted.
    pub summed_ms: u64,
    /// One thread alone, over the same files.
    pub alone_ms: u64,
    /// Words in all.
    pub words: u64,
    /// Different words.
    pub distinct: usize,
    /// Words whose two counts are not the same.
    pub differing: usize,
    /// `T = T_a + T_c`, summed over tasks.
    pub cost: Cost,
    /// What each node's worker did.
    pub workers: Vec<WorkerRow>,
    /// From the restart of the killed node until its replicas were equal again.
    pub back_ms: Option<u64>,
}

/// What one worker did.
#[derive(Debug, Clone, Serialize)]
pub struct WorkerRow {
    /// Its node, from 1.
    pub node: u16,
    /// Tasks whose results count.
    pub tasks: u64,
    /// How busy it was over the time of the job.
    pub timeline: String,
}

/// Counts words on all nodes of the cluster below `folder`, kills one meanwhile.
///
/// # Errors
/// There is no Python, a task fails for good, or a node does not come back.
pub async fn show(items: &[Item], folder: &Path, nodes: &mut [NodeProcess]) -> Result<WordsReport, Failure> {
    let counting = timeout(LIMIT, count(items, folder, nodes)).await;
    let (mut report, summed) = counting
        .map_err(|_| Failure::new(format!("the word count did not end within {} s", LIMIT.as_secs())))??;
    let began = Instant::now();
    let alone = alone(items).await?;
    report.alone_ms = millis(began.elapsed());
    (report.words, report.distinct) = (summed.words(), summed.distinct());
    report.differing = summed.differing(&alone);
    let bar = spinner(&format!("restarting node {}", report.killed));
    let began = Instant::now();
    for node in nodes.iter_mut().filter(|node| node.spec.n == report.killed) {
        *node = NodeProcess::spawn(node.spec.clone(), None).await?;
        node.wait_ready().await?;
    }
    report.back_ms = failover::caught_up(nodes).await?.map(|_| millis(began.elapsed()));
    bar.finish_and_clear();
    eprintln!(
        "counted {} words on all nodes in {} ms, node {} killed midway; {} counts differ",
        report.words, report.counted_ms, report.killed, report.differing
    );
    Ok(report)
}

async fn count(
    items: &[Item],
    folder: &Path,
    nodes: &mut [NodeProcess],
) -> Result<(WordsReport, Tally), Failure> {
    let tasks = tasks(items);
    let bar = count_bar(tasks.len() as u64, "counting words on all nodes");
    let target = NodeTarget { data: Some(folder.to_owned()), socket: None };
    let mut api = Api::find(&target).await?;
    let began = Instant::now();
    let spec = JobSpec { name: "words".into(), retries: RETRIES, ..JobSpec::default() };
    let job = api.create(&spec).await?;
    // One half before the kill, one after it: so that it is midway for sure.
    let (before, after) = tasks.split_at(tasks.len().div_ceil(2));
    api.append(job, 0, records(before)).await?;
    let mut results = api.results(job);
    let mut found = Found::default();
    for node in nodes.iter() {
        let number = NodeNumber(node.admin()?.status().await?.number);
        found.names.insert(number, node.spec.n);
    }
    while found.count < before.len() / 2 {
        found.take(results.next().await?)?;
        bar.inc(1);
    }
    let mut report = WordsReport { tasks: tasks.len(), results_at_kill: found.count, ..Default::default() };
    let victim = found.busiest(nodes);
    report.killed = nodes[victim].spec.n;
    bar.set_message(format!("killing node {}, which counts", report.killed));
    nodes[victim].kill().await?;
    bar.set_message("counting words on the nodes left");
    api.append(job, before.len() as u64, records(after)).await?;
    match api.close(job).await {
        Ok(()) | Err(Unanswered::Refused(hyper::StatusCode::CONFLICT, _)) => {}
        Err(unanswered) => return Err(unanswered.into()),
    }
    while let Some(result) = results.next().await? {
        found.take(Some(result))?;
        bar.inc(1);
    }
    report.counted_ms = millis(began.elapsed());
    bar.set_message("summing up");
    let began = Instant::now();
    let door = nodes.iter().find(|node| node.spec.n != report.killed);
    let door = door.ok_or_else(|| Failure::new("no node is left"))?.spec.redis;
    let summed = sum(&mut Client::connect(door).await.map_err(Failure::new)?, tasks.len()).await?;
    report.summed_ms = millis(began.elapsed());
    bar.finish_and_clear();
    found.tell(&mut report);
    Ok((report, summed))
}

/// The tasks that count these files: each some keys, of about as many bytes.
fn tasks(items: &[Item]) -> Vec<TaskSpec> {
    let total: u64 = items.iter().map(|item| item.bytes).sum();
    let enough = total.div_ceil(TASKS).max(1);
    let (mut cut, mut keys, mut bytes) = (Vec::new(), Vec::new(), 0);
    for item in items {
        keys.push(item.key.as_slice());
        bytes += item.bytes;
        if bytes >= enough {
            cut.push(keys.join(&0));
            (keys, bytes) = (Vec::new(), 0);
        }
    }
    if !keys.is_empty() {
        cut.push(keys.join(&0));
    }
    let task = |(number, keys): (usize, Vec<u8>)| {
        let argv = ["python3", "-c", SCRIPT, &format!("{COUNTS}{number}")];
        let argv = argv.map(|word| word.as_bytes().to_vec()).to_vec();
        let stdin = Some(Input::Inline(keys.into()));
        TaskSpec { pin: None, work: Work::Process { argv, stdin, env: Vec::new() } }
    };
    cut.into_iter().enumerate().map(task).collect()
}

fn records(tasks: &[TaskSpec]) -> Bytes {
    let mut records = BytesMut::new();
    for task in tasks {
        encode_task(task, &mut records);
    }
    records.freeze()
}

/// The results so far.
#[derive(Default)]
struct Found {
    count: usize,
    again: usize,
    succeeded: BTreeSet<u64>,
    /// Which of the demo's nodes has which number in the cluster.
    names: BTreeMap<NodeNumber, u16>,
    by_node: BTreeMap<u16, usize>,
    account: Account,
}

impl Found {
    fn take(&mut self, result: Option<TaskResult>) -> Result<(), Failure> {
        let result = result.ok_or_else(|| Failure::new("the word count ended early"))?;
        self.count += 1;
        self.again += usize::from(result.attempt > 1);
        self.account.add(&result);
        let node = self.names.get(&result.node).copied().unwrap_or(0);
        *self.by_node.entry(node).or_default() += 1;
        if result.outcome.is_success() {
            self.succeeded.insert(result.index);
            return Ok(());
        }
        let said = match &result.stderr {
            Output::Inline(bytes) => String::from_utf8_lossy(bytes).trim_end().to_owned(),
            Output::Kept { .. } => String::new(),
        };
        let why = match &result.outcome {
            Outcome::NotStarted { why } => why.clone(),
            outcome => format!("{outcome:?}"),
        };
        Err(Failure::new(format!("task {} of the word count: {why}: {said}", result.index + 1))
            .hint("the tasks need python3 in the PATH of the nodes"))
    }

    /// The position of the node that has done most.
    fn busiest(&self, nodes: &[NodeProcess]) -> usize {
        let done = |node: &NodeProcess| self.by_node.get(&node.spec.n).copied();
        let best = nodes.iter().enumerate().max_by_key(|(_, node)| done(node).unwrap_or(0));
        best.map_or(0, |(position, _)| position)
    }

    fn tell(self, report: &mut WordsReport) {
        report.again = self.again;
        // A second result of a task would be one more than there are tasks.
        report.succeeded = self.succeeded.len() - (self.count - self.succeeded.len());
        report.cost = self.account.cost;
        let row = |worker: &WorkerCost| {
            let node = self.names.get(&NodeNumber(worker.node)).copied().unwrap_or(0);
            WorkerRow { node, tasks: worker.tasks, timeline: self.account.timeline(worker) }
        };
        report.workers = self.account.workers().map(row).collect();
    }
}

/// Adds up what the tasks wrote.
async fn sum(client: &mut Client, tasks: usize) -> Result<Tally, Failure> {
    let mut tally = Tally::default();
    for number in 0..tasks {
        let key = format!("{COUNTS}{number}");
        match client.command(&[b"GET", key.as_bytes()]).await.map_err(Failure::new)? {
            Value::Bulk(lines) => tally
                .sum(&lines)
                .map_err(|line| Failure::new(format!("task {} wrote {line:?}, no count", number + 1)))?,
            other => return Err(Failure::new(format!("GET {key} answered {other:?}"))),
        }
    }
    Ok(tally)
}

/// Counts on one thread.
async fn alone(items: &[Item]) -> Result<Tally, Failure> {
    let paths: Vec<(PathBuf, u64)> = items.iter().map(|item| (item.path.clone(), item.bytes)).collect();
    let bar = bytes_bar(paths.iter().map(|(_, bytes)| bytes).sum(), "counting on one thread");
    let counting = tokio::task::spawn_blocking(move || {
        let mut tally = Tally::default();
        for (path, bytes) in paths {
            let cannot = |error| Failure::new(format!("cannot read {}: {error}", path.display()));
            tally.count(&std::fs::read(&path).map_err(cannot)?);
            bar.inc(bytes);
        }
        bar.finish_and_clear();
        Ok(tally)
    });
    counting.await.map_err(Failure::new)?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(number: usize, bytes: u64) -> Item {
        Item { key: format!("k{number}").into_bytes(), path: PathBuf::new(), bytes }
    }

    #[test]
    fn every_file_is_in_one_task() {
        for sizes in [vec![0; 3], vec![1; 1_000], vec![1, 500, 2, 2, 7_000, 1], vec![9]] {
            let items: Vec<_> = sizes.into_iter().enumerate().map(|(at, bytes)| item(at, bytes)).collect();
            let tasks = tasks(&items);
            assert!(tasks.len() <= 49 && !tasks.is_empty(), "{}", tasks.len());
            let keys = tasks.iter().flat_map(|task| match &task.work {
                Work::Process { stdin: Some(Input::Inline(keys)), .. } => {
                    keys.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect::<Vec<_>>()
                }
                other => panic!("{other:?}"),
            });
            assert_eq!(keys.collect::<Vec<_>>(), items.into_iter().map(|it| it.key).collect::<Vec<_>>());
        }
    }
}
