//! A file that describes a job of several stages, which come after each other:
//! what it may say, and where it is wrong, by line and key. Pure; see
//! [`super::submit`] for what is done with it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;
use trine_compute::amounts::Amounts;
use trine_compute::calendar;
use trine_compute::limits::MAX_JOBS_BEFORE;
use trine_compute::parallel::patience::{self, Patience};

use super::args::{RunArgs, parse_memory};
use crate::failure::Failure;

/// Most stages of one file.
const MAX_STAGES: usize = 1_000;
/// Most stages of a schedule: the last one names the others.
const MAX_SCHEDULED_STAGES: usize = MAX_JOBS_BEFORE + 1;
/// Thousandths of a processor.
const MILLI: f64 = 1_000.0;
/// Most processors of one task.
const MAX_CPU: f64 = 4_096.0;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    name: String,
    #[serde(default)]
    priority: i32,
    deadline: Option<Spanned<String>>,
    cron: Option<Spanned<String>>,
    timezone: Option<Spanned<String>>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    stages: BTreeMap<String, Spanned<StageText>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StageText {
    command: Spanned<String>,
    args: Option<Vec<String>>,
    args_file: Option<Spanned<String>>,
    #[serde(default)]
    after: Vec<Spanned<String>>,
    #[serde(default)]
    files: Vec<String>,
    cpu: Option<Spanned<f64>>,
    memory: Option<Spanned<String>>,
    resources: Option<Spanned<BTreeMap<String, u32>>>,
    #[serde(default)]
    retries: u32,
    timeout: Option<Spanned<String>>,
    workdir: Option<Spanned<String>>,
    #[serde(default)]
    env: BTreeMap<String, String>,
}

/// What a file says.
#[derive(Debug)]
pub struct Stages {
    /// How long the whole may take.
    pub deadline: Option<Duration>,
    /// When it is submitted, again and again, and in which time zone; `None`:
    /// now, once.
    pub cron: Option<(String, String)>,
    /// Each after those that it waits for.
    pub stages: Vec<Stage>,
}

/// One stage: a job of its own.
#[derive(Debug)]
pub struct Stage {
    /// Its name in the file.
    pub name: String,
    /// The stages that it waits for, by their places in [`Stages::stages`].
    pub after: Vec<usize>,
    /// The line for the shell.
    pub command: String,
    /// A task for each of these; `None`: one task.
    pub args: Option<Vec<Vec<u8>>>,
    /// A file with a line for each task.
    pub args_file: Option<String>,
    /// Thousandths of a processor of each task.
    pub cpu_milli: Option<u32>,
    /// Everything else, as options.
    pub run: RunArgs,
}

/// The text of a file, for lines of errors.
struct Place<'a> {
    file: &'a str,
    text: &'a str,
}

impl Place<'_> {
    fn wrong(&self, at: usize, key: &str, why: impl std::fmt::Display) -> Failure {
        let line = 1 + self.text.bytes().take(at).filter(|byte| *byte == b'\n').count();
        Failure::new(format!("{} line {line}, {key}: {why}", self.file)).usage()
    }
}

/// Reads the text of `file`.
///
/// # Errors
/// The first thing that is wrong, with its line and what to write.
pub fn read(file: &str, text: &str) -> Result<Stages, Failure> {
    let place = Place { file, text };
    let parsed: Text = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        place.wrong(at, "the file", error.message())
    })?;
    if parsed.stages.is_empty() || parsed.stages.len() > MAX_STAGES {
        return Err(place.wrong(0, "stages", format!("write 1 to {MAX_STAGES}, each as [stages.NAME]")));
    }
    let deadline = parsed.deadline.as_ref().map(|text| time(&place, "deadline", text)).transpose()?;
    let cron = cron(&place, &parsed)?;
    let order = order(&place, &parsed.stages)?;
    let position = |name: &str| order.iter().position(|other| *other == name);
    let mut stages = Vec::new();
    for name in &order {
        let stage = &parsed.stages[*name];
        let mut read = one(&place, &parsed, name, stage)?;
        read.after = stage.get_ref().after.iter().filter_map(|before| position(before.get_ref())).collect();
        stages.push(read);
    }
    Ok(Stages { deadline, cron, stages })
}

/// When the whole is due.
fn cron(place: &Place<'_>, parsed: &Text) -> Result<Option<(String, String)>, Failure> {
    let Some(text) = &parsed.cron else {
        let Some(zone) = &parsed.timezone else { return Ok(None) };
        return Err(place.wrong(zone.span().start, "timezone", "it is that of `cron`, which is missing"));
    };
    let zone = parsed.timezone.as_ref().map_or("UTC", |zone| zone.get_ref());
    let at = text.span().start;
    calendar::check(text.get_ref(), zone).map_err(|why| place.wrong(at, "cron", why))?;
    if parsed.stages.len() > MAX_SCHEDULED_STAGES {
        let why = format!("at most {MAX_SCHEDULED_STAGES} stages together with cron");
        return Err(place.wrong(at, "stages", why));
    }
    for (name, stage) in &parsed.stages {
        if !stage.get_ref().files.is_empty() {
            let why = "not together with cron: nodes keep what is sent for seven days only; \
                       put files where the nodes have them, and name that folder in `workdir`";
            return Err(place.wrong(stage.span().start, &format!("stages.{name}.files"), why));
        }
    }
    Ok(Some((text.get_ref().clone(), zone.to_owned())))
}

fn time(place: &Place<'_>, key: &str, text: &Spanned<String>) -> Result<Duration, Failure> {
    match patience::parse(text.get_ref()) {
        Ok(Patience::For(time)) => Ok(time),
        Ok(Patience::OfMedian(_)) => {
            Err(place.wrong(text.span().start, key, "write a time, like \"90s\" or \"2h\""))
        }
        Err(why) => Err(place.wrong(text.span().start, key, why)),
    }
}

/// The names of the stages, each behind those that it waits for.
fn order<'a>(
    place: &Place<'_>,
    stages: &'a BTreeMap<String, Spanned<StageText>>,
) -> Result<Vec<&'a str>, Failure> {
    for (name, stage) in stages {
        for before in &stage.get_ref().after {
            if !stages.contains_key(before.get_ref()) {
                let known = stages.keys().cloned().collect::<Vec<_>>().join(", ");
                let why = format!("there is no stage {:?}; there are {known}", before.get_ref());
                return Err(place.wrong(before.span().start, &format!("stages.{name}.after"), why));
            }
        }
    }
    let (mut order, mut left): (Vec<&str>, BTreeSet<&str>) =
        (Vec::new(), stages.keys().map(String::as_str).collect());
    while !left.is_empty() {
        let waits = |name: &str| {
            stages[name].get_ref().after.iter().any(|before| left.contains(before.get_ref().as_str()))
        };
        let ready: Vec<&str> = left.iter().copied().filter(|name| !waits(name)).collect();
        if ready.is_empty() {
            let names = left.iter().copied().collect::<Vec<_>>().join(", ");
            let at = left.first().map_or(0, |name| stages[*name].span().start);
            return Err(place.wrong(at, "after", format!("these stages wait for each other: {names}")));
        }
        left.retain(|name| !ready.contains(name));
        order.extend(ready);
    }
    Ok(order)
}

/// What each task takes of what nodes have by name.
fn named(
    place: &Place<'_>,
    key: &str,
    text: Option<&Spanned<BTreeMap<String, u32>>>,
) -> Result<Vec<(String, u32)>, Failure> {
    let Some(text) = text else { return Ok(Vec::new()) };
    let amounts = text.get_ref().clone();
    Amounts::try_from(amounts.clone()).map_err(|why| place.wrong(text.span().start, key, why))?;
    Ok(amounts.into_iter().collect())
}

fn one(place: &Place<'_>, file: &Text, name: &str, stage: &Spanned<StageText>) -> Result<Stage, Failure> {
    let (at, stage) = (stage.span().start, stage.get_ref());
    let key = |field: &str| format!("stages.{name}.{field}");
    if stage.command.get_ref().trim().is_empty() {
        let why = "write a line for the shell, like \"gzip -9 {}\"";
        return Err(place.wrong(stage.command.span().start, &key("command"), why));
    }
    if stage.args.is_some() && stage.args_file.is_some() {
        return Err(place.wrong(at, &key("args"), "write args or args_file, not both"));
    }
    let cpu_milli = stage.cpu.as_ref().map(|cpu| match *cpu.get_ref() {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within its bounds")]
        number if number > 0.0 && number <= MAX_CPU => Ok((number * MILLI).ceil() as u32),
        _ => Err(place.wrong(cpu.span().start, &key("cpu"), "write a number of processors, like 0.5 or 2.0")),
    });
    let memory = stage.memory.as_ref().map(|memory| {
        parse_memory(memory.get_ref()).map_err(|why| place.wrong(memory.span().start, &key("memory"), why))
    });
    if let Some(workdir) = stage.workdir.as_ref().filter(|path| !path.get_ref().starts_with('/')) {
        let why = "write an absolute path, which the nodes have";
        return Err(place.wrong(workdir.span().start, &key("workdir"), why));
    }
    let timeout = stage.timeout.as_ref().map(|text| {
        patience::parse(text.get_ref()).map_err(|why| place.wrong(text.span().start, &key("timeout"), why))
    });
    let mut run = RunArgs::default();
    let env = file.env.iter().chain(&stage.env);
    run.place.env = env.map(|(name, value)| format!("{name}={value}")).collect();
    run.place.workdir = stage.workdir.as_ref().map(|path| path.get_ref().into());
    run.files.basefile.clone_from(&stage.files);
    run.tasks.timeout = timeout.transpose()?;
    run.tasks.memory = memory.transpose()?;
    run.tasks.named = named(place, &key("resources"), stage.resources.as_ref())?;
    run.tasks.priority = file.priority;
    run.tasks.name = Some(format!("{}/{name}", file.name));
    // Parallel counts runs.
    run.tasks.retries = Some(stage.retries.saturating_add(1));
    run.tasks.detach = true;
    Ok(Stage {
        name: name.to_owned(),
        after: Vec::new(),
        command: stage.command.get_ref().clone(),
        args: stage.args.as_ref().map(|args| args.iter().map(|arg| arg.clone().into_bytes()).collect()),
        args_file: stage.args_file.as_ref().map(|path| path.get_ref().clone()),
        cpu_milli: cpu_milli.transpose()?,
        run,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
name = "nightly"
priority = 3
deadline = "2h"
env = { LANG = "C" }

[stages.report]
command = "cat *.csv | mail boss"
after = ["parse", "fetch"]

[stages.fetch]
command = "curl -sO {}"
args = ["a", "b"]
retries = 2

[stages.parse]
command = "./parse.sh"
after = ["fetch"]
files = ["parse.sh"]
cpu = 0.5
memory = "1G"
resources = { gpu = 2 }
timeout = "200%"
env = { LANG = "de" }
"#;

    #[test]
    fn stages_come_after_those_that_they_wait_for() {
        let read = read("n.toml", WHOLE).expect("a job");
        let names: Vec<_> =
            read.stages.iter().map(|stage| (stage.name.as_str(), stage.after.clone())).collect();
        assert_eq!(names, [("fetch", vec![]), ("parse", vec![0]), ("report", vec![1, 0])]);
        assert_eq!(read.deadline, Some(Duration::from_hours(2)));
        let [fetch, parse, _] = read.stages.as_slice() else { panic!("three") };
        assert_eq!(fetch.args, Some(vec![b"a".to_vec(), b"b".to_vec()]));
        let spec = super::super::plan::job(&parse.run, None).expect("a job");
        assert_eq!(
            (spec.name.as_str(), spec.when.timeout_percent, spec.priority),
            ("nightly/parse", Some(200), 3)
        );
        assert_eq!((spec.resources.memory_bytes, parse.cpu_milli), (1 << 30, Some(500)));
        assert_eq!(spec.resources.named.to_string(), "gpu=2");
        let lang: Vec<_> = spec.env.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(lang, ["C", "de"], "the later one counts");
        assert_eq!(super::super::plan::job(&fetch.run, None).expect("a job").retries, 2);
    }

    #[test]
    fn what_is_wrong_is_named_by_line_and_key() {
        let stage = |lines: &str| format!("name = \"x\"\n[stages.a]\ncommand = \"a\"\n{lines}\n");
        let table = [
            (stage("timeout = \"x\""), "f.toml line 4, stages.a.timeout: `x` is no time limit"),
            (stage("\nmemory = \"2X\""), "f.toml line 5, stages.a.memory: `2X` is no size"),
            (stage("resources = { 'a b' = 1 }"), "line 4, stages.a.resources: `a b` is no name"),
            (stage("cpu = 0.0"), "line 4, stages.a.cpu: write a number"),
            (stage("after = [\"b\"]"), "line 4, stages.a.after: there is no stage \"b\"; there are a"),
            (stage("after = [\"a\"]"), "these stages wait for each other: a"),
            (stage("workdir = \"x\""), "line 4, stages.a.workdir: write an absolute path"),
            (stage("args = []\nargs_file = \"x\""), "stages.a.args: write args or args_file"),
            (stage("comand = \"x\""), "line 4, the file: unknown field `comand`, expected one of `command`"),
            (stage("retries = -1"), "line 4, the file: invalid value"),
            ("name = \"x\"\nstages = {}".to_owned(), "stages: write 1 to 1000"),
            (
                "name = \"x\"\ndeadline = \"50%\"\n[stages.a]\ncommand = \"a\"".to_owned(),
                "line 2, deadline: write a time",
            ),
            (
                "name = \"x\"\n[stages.a]\ncommand = \" \"".to_owned(),
                "line 3, stages.a.command: write a line",
            ),
            (
                "name = \"x\"\ncron = \"* *\"\n[stages.a]\ncommand = \"a\"".to_owned(),
                "line 2, cron: `* *` is no schedule",
            ),
            (
                "name = \"x\"\ntimezone = \"UTC\"\n[stages.a]\ncommand = \"a\"".to_owned(),
                "line 2, timezone: it is that of `cron`",
            ),
            (
                "name = \"x\"\ncron = \"@daily\"\n[stages.a]\ncommand = \"a\"\nfiles = [\"f\"]".to_owned(),
                "stages.a.files: not together with cron",
            ),
            ("[stages.a]\ncommand = \"a\"".to_owned(), "missing field `name`"),
        ];
        for (text, expected) in table {
            let said = read("f.toml", &text).expect_err("wrong").to_string();
            assert!(said.contains(expected), "{said}\n{expected}");
        }
    }
}
