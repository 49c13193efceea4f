//! The systems that are compared, each driven over a line-based conversation
//! with `xtask/compute-load`, and what their packages are.

use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::cost;
use super::nodes::Nodes;
use super::works::{Figure, Part, Work};
use crate::command::{Trouble, command, root, run, target};

/// Pause between two looks at the memory.
const LOOK: Duration = Duration::from_millis(300);
/// Longest that a system may take to start.
const START_LIMIT: Duration = Duration::from_mins(2);
/// Longest that one work may take; the load program gives up a little before.
const WORK_LIMIT: Duration = Duration::from_secs(110);
/// Longest that it may take to end.
const END_LIMIT: Duration = Duration::from_secs(20);
/// Answers that may wait.
const ANSWERS: usize = 16;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum System {
    Trine,
    Ray,
    Dask,
    Celery,
    Pool,
    Parallel,
    Xargs,
}

impl System {
    pub(crate) const PYTHON: [Self; 5] = [Self::Trine, Self::Ray, Self::Dask, Self::Celery, Self::Pool];
    pub(super) const COMMANDS: [Self; 3] = [Self::Trine, Self::Parallel, Self::Xargs];

    /// What it is called on the page.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Trine => "Trine",
            Self::Ray => "Ray",
            Self::Dask => "Dask distributed",
            Self::Celery => "Celery with Redis",
            Self::Pool => "ProcessPoolExecutor",
            Self::Parallel => "GNU parallel",
            Self::Xargs => "xargs",
        }
    }

    /// What the load program calls it, and the package that it needs.
    fn name(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Trine => ("trine", Some("cloudpickle")),
            Self::Ray => ("ray", Some("ray")),
            Self::Dask => ("dask", Some("distributed")),
            Self::Celery => ("celery", Some("celery[redis]")),
            Self::Pool => ("pool", None),
            Self::Parallel => ("parallel", None),
            Self::Xargs => ("xargs", None),
        }
    }
}

/// A Python environment of its own, into which packages come as they are needed.
pub(super) struct Packages {
    python: PathBuf,
}

impl Packages {
    /// The environment, made if it is not there.
    pub(super) fn open() -> Result<Self, Trouble> {
        let home = target().join("xtask/peers-compute");
        let python = home.join("bin/python");
        if !python.exists() {
            let home = home.display().to_string();
            run(&mut command("python3", &["-m", "venv", "--clear", &home]), Duration::from_mins(5))?
                .required()?;
        }
        // Every interpreter of the environment imports the client and the functions.
        let find = "import sysconfig; print(sysconfig.get_path('purelib'))";
        let packages = run(&mut command(&python, &["-c", find]), Duration::from_mins(1))?.required()?;
        let known = Path::new(packages.trim()).join("trine-compute-load.pth");
        let paths = [root().join("clients/python"), root().join("xtask/compute-load")];
        let text = paths.map(|path| path.display().to_string()).join("\n");
        std::fs::write(&known, text).map_err(Trouble::at(known.display().to_string()))?;
        Ok(Self { python })
    }

    /// Installs what a system needs; why it cannot be had.
    pub(super) fn install(&self, system: System) -> Result<(), String> {
        let Some(package) = system.name().1 else { return Ok(()) };
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", package];
        let done = run(&mut command(&self.python, &install), Duration::from_mins(5));
        let done = done.and_then(crate::command::Finished::required);
        let first = |error: Trouble| error.to_string().lines().last().unwrap_or_default().to_owned();
        done.map(drop).map_err(|error| format!("cannot be installed: {}", first(error)))
    }

    /// Name and version of all that was compared.
    pub(super) fn versions(&self) -> String {
        let freeze = ["-m", "pip", "list", "--format", "freeze", "--disable-pip-version-check"];
        let listed = run(&mut command(&self.python, &freeze), Duration::from_mins(1)).map(|done| done.output);
        let wanted = ["ray==", "distributed==", "celery==", "cloudpickle=="];
        let listed = listed.unwrap_or_default();
        let lines = listed.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name)));
        lines.collect::<Vec<_>>().join(", ").replace("==", " ")
    }
}

/// A system that is up.
pub(super) struct Loaded {
    child: Child,
    words: Option<ChildStdin>,
    answers: Receiver<String>,
    /// Whose cost is counted beside the load program's: the nodes of Trine.
    others: Vec<u32>,
}

impl Loaded {
    /// Starts a system, or its client.
    pub(super) fn start(
        packages: &Packages,
        system: System,
        nodes: Option<&Nodes>,
        part: Part,
    ) -> Result<Self, String> {
        let mut start = Command::new(&packages.python);
        start.arg(root().join("xtask/compute-load/load.py")).arg(system.name().0);
        start.arg("--part").arg(part.divisor().to_string());
        let others = nodes.map(Nodes::pids).unwrap_or_default();
        if let Some(nodes) = nodes {
            let [first, .., last] = nodes.all.as_slice() else { return Err("too few nodes".to_owned()) };
            let token = std::fs::read_to_string(first.data.join("admin.token"));
            start.arg("--token").arg(token.map_err(|error| error.to_string())?.trim());
            start.arg("--address").arg(&first.admin);
            start.arg("--victim").arg(last.pid().to_string());
        }
        let spawned = start.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = spawned.map_err(|error| error.to_string())?;
        let (sender, answers) = sync_channel(ANSWERS);
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                let lines = BufReader::new(stdout).lines().map_while(Result::ok);
                lines.map_while(|line| sender.send(line).ok()).for_each(drop);
            });
        }
        Ok(Self { words: child.stdin.take(), child, answers, others })
    }

    fn roots(&self) -> Vec<u32> {
        self.others.iter().copied().chain([self.child.id()]).collect()
    }

    fn tell(&mut self, word: &str) -> Result<(), String> {
        let words = self.words.as_mut().ok_or("it takes no words")?;
        writeln!(words, "{word}").map_err(|error| error.to_string())
    }

    fn answer(&self, limit: Duration, mut look: impl FnMut()) -> Result<Value, String> {
        let deadline = Instant::now() + limit;
        loop {
            match self.answers.recv_timeout(LOOK) {
                Ok(line) => {
                    let answer: Value = serde_json::from_str(&line).map_err(|_| line)?;
                    return match answer["error"].as_str() {
                        Some(error) => Err(error.to_owned()),
                        None => Ok(answer),
                    };
                }
                Err(RecvTimeoutError::Disconnected) => return Err("it has ended".to_owned()),
                Err(RecvTimeoutError::Timeout) if Instant::now() >= deadline => {
                    return Err(format!("no answer within {limit:?}"));
                }
                Err(RecvTimeoutError::Timeout) => look(),
            }
        }
    }

    /// Has it do one work.
    pub(super) fn perform(&mut self, work: Work) -> Result<Figure, String> {
        self.tell(work.key())?;
        self.answer(START_LIMIT, || {})?;
        let roots = self.roots();
        let (before, mut peak) = (cost::processor_ms(&roots), 0.0_f64);
        self.tell("go")?;
        let told = self.answer(WORK_LIMIT, || peak = peak.max(cost::memory_mb(&roots)))?;
        let spent = cost::processor_ms(&roots).saturating_sub(before);
        let mut figure = Figure::told(&told).ok_or_else(|| format!("it said {told}"))?;
        figure.cost(spent, peak.max(cost::memory_mb(&roots)));
        if work == Work::Idle && !self.others.is_empty() {
            figure.node_mb = self.others.iter().map(|pid| cost::own_memory_mb(&[*pid])).reduce(f64::max);
        }
        if work == Work::Idle {
            figure.peak_mb = cost::memory_mb(&roots) - cost::own_memory_mb(&[self.child.id()]);
        }
        Ok(figure)
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        self.words = None;
        let ended = crate::servers::wait_for(END_LIMIT, || !matches!(self.child.try_wait(), Ok(None)));
        if !ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// 2,000 times `true`, by one of the programs that do that.
pub(super) fn processes(
    system: System,
    nodes: Option<&Nodes>,
    trine: &Path,
    part: Part,
) -> Result<Figure, String> {
    let count = Work::Processes.tasks(part);
    let run_it = match (system, nodes.and_then(|nodes| nodes.all.first())) {
        (System::Trine, Some(node)) => {
            format!("{} run --data {} -j 2 -- true '{{}}'", trine.display(), node.data.display())
        }
        (System::Parallel, _) => "parallel -j 6 true".to_owned(),
        (System::Xargs, _) => "xargs -P 6 -n 1 true".to_owned(),
        _ => return Err("it executes no processes".to_owned()),
    };
    let mut shell = command("sh", &["-c", &format!("seq {count} | {run_it}")]);
    let nodes = nodes.map(Nodes::pids).unwrap_or_default();
    let before = cost::waited_for_ms() + cost::processor_ms(&nodes);
    let begin = Instant::now();
    run(&mut shell, WORK_LIMIT)
        .and_then(crate::command::Finished::required)
        .map_err(|error| error.to_string())?;
    let wall = begin.elapsed().as_secs_f64();
    let spent = (cost::waited_for_ms() + cost::processor_ms(&nodes)).saturating_sub(before);
    let mut figure = Figure { wall, tasks: count, ..Figure::default() };
    figure.cost(spent, 0.0);
    Ok(figure)
}
