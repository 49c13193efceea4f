//! From the options of `trine run` to decisions: templates, sources, what each
//! task is. Nothing is read or sent here.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use trine_compute::amounts::Amounts;
use trine_compute::parallel::blocks::{self, Cut};
use trine_compute::parallel::halt::{On, Rule, Threshold};
use trine_compute::parallel::patience::Patience;
use trine_compute::parallel::sources::{self, From as SourceFrom, Source};
use trine_compute::parallel::template::{Arg, Line, Template};
use trine_compute::spec::Input;
use trine_compute::{Halt, HaltOn, JobSpec, Resources, TaskSpec, When, Work};
use trine_types::NodeNumber;

use super::args::{FileArgs, InputArgs, PipeArgs, RunArgs, TaskArgs};
use super::parcel::{self, Parcel, Place};
use crate::failure::Failure;

/// Where the number of a task's slot is found by the shell of a task.
const SLOT_VARIABLE: &str = "TRINE_SLOT";
/// Puts the slot's number between the parts of a line, and runs it.
const SLOT_SCRIPT: &str = "s=$1 l=$2; shift 2; for p do l=$l$TRINE_SLOT$p; done; exec \"$s\" -c \"$l\"";
/// Shells that read lines as they are quoted here.
const SHELLS: &[&str] = &["sh", "bash", "dash", "zsh", "ksh", "mksh", "ash"];
/// Longest name that a job gets from its command.
const NAME_CHARACTERS: usize = 60;
/// What `-j 0` stands for: as many as a machine without special settings takes.
const MANY_AT_A_TIME: u32 = 250;

/// What is to be done.
#[derive(Debug)]
pub struct Plan {
    /// Where the arguments come from; none with `--pipe`.
    pub sources: Vec<Source>,
    /// How standard input is cut, with `--pipe`.
    pub cut: Option<Cut>,
    /// Makes each task of its arguments.
    pub maker: Maker,
    /// How the input is cut into arguments.
    pub lines: Lines,
    /// Run each task on each of these; nothing: anywhere.
    pub nodes: Vec<(NodeNumber, String)>,
}

/// How input is cut into arguments.
#[derive(Debug, Clone)]
pub struct Lines {
    /// What ends an argument.
    pub separator: u8,
    /// Leave out arguments of white space alone.
    pub skip_blank: bool,
    /// Cut arguments into columns.
    pub columns: Option<Vec<u8>>,
    /// Arguments of one task.
    pub each: usize,
    /// Sources go along with each other.
    pub link: bool,
}

/// Makes tasks.
#[derive(Debug)]
pub struct Maker {
    template: Template,
    tag: Option<Template>,
    shell: Vec<u8>,
    files: Files,
}

/// The files of tasks, as names with holes.
#[derive(Debug, Default)]
struct Files {
    base: Vec<Vec<u8>>,
    sent: Vec<(&'static str, Template)>,
    returned: Vec<Template>,
    cleanup: bool,
    results: Option<(Vec<u8>, Template)>,
}

impl Files {
    fn sent(&self, sequence: u64, args: &[Arg]) -> Vec<(&'static str, Vec<u8>)> {
        let base = self.base.iter().map(|name| ("--basefile", name.clone()));
        base.chain(self.sent.iter().map(|(option, name)| (*option, filled(name, sequence, args)))).collect()
    }
}

/// A task before it is submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// Its number, from 1.
    pub sequence: u64,
    /// The command line.
    pub line: Line,
    /// What is written before its output.
    pub tag: Option<Vec<u8>>,
    /// Its standard input.
    pub input: Option<Bytes>,
    /// The only node that may run it.
    pub node: Option<NodeNumber>,
    /// Names of files that are sent with it, each with its option,
    pub sent: Vec<(&'static str, Vec<u8>)>,
    /// of those that it returns,
    pub returned: Vec<Vec<u8>>,
    /// and where its output goes, if not to standard output.
    pub results: Option<Filed>,
}

/// Files that take the output of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filed {
    /// `stdout`, `stderr` and `seq` in this folder.
    Folder(PathBuf),
    /// This one, and beside it those with `.err` and `.seq` behind its name.
    File(PathBuf),
}

impl Prepared {
    /// What travels with it.
    ///
    /// # Errors
    /// A name that leads out of a task's directory.
    pub fn parcel(&self, cleanup: bool) -> Result<Parcel, Failure> {
        let usage = |why: String| Failure::new(why).usage();
        let sent = self.sent.iter().map(|(option, name)| Place::of(option, name));
        let returned = self.returned.iter().map(|name| Place::of("--return", name).map(|place| place.there));
        Ok(Parcel {
            sent: sent.collect::<Result<_, _>>().map_err(usage)?,
            returned: returned.collect::<Result<_, _>>().map_err(usage)?,
            cleanup,
        })
    }

    /// The command as people see it.
    #[must_use]
    pub fn command(&self) -> Vec<u8> {
        self.line.with_slot(b"{%}")
    }

    /// What it takes in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let line: usize = self.line.parts.iter().map(Vec::len).sum();
        line + self.input.as_ref().map_or(0, Bytes::len) + self.tag.as_ref().map_or(0, Vec::len)
    }
}

impl Maker {
    /// The task of these arguments, or of this block of standard input.
    #[must_use]
    pub fn prepare(&self, sequence: u64, args: &[Arg], input: Option<Bytes>) -> Prepared {
        Prepared {
            sequence,
            line: self.template.fill(sequence, args),
            tag: self.tag.as_ref().map(|tag| tag.fill(sequence, args).with_slot(b"{%}")),
            input,
            node: None,
            sent: self.files.sent(sequence, args),
            returned: self.files.returned.iter().map(|name| filled(name, sequence, args)).collect(),
            results: self.files.results.as_ref().map(|(text, template)| {
                let name = filled(template, sequence, args);
                if !template.has_holes() {
                    Filed::Folder(parcel::results_folder(text, args))
                } else if name.ends_with(b"/") {
                    Filed::Folder(PathBuf::from(OsString::from_vec(name)))
                } else {
                    Filed::File(PathBuf::from(OsString::from_vec(name)))
                }
            }),
        }
    }

    /// Whether the files of tasks are removed from a folder that they share.
    #[must_use]
    pub fn cleans_up(&self) -> bool {
        self.files.cleanup
    }

    /// Whether tasks return files.
    #[must_use]
    pub fn has_returned(&self) -> bool {
        !self.files.returned.is_empty()
    }

    /// What is submitted for it.
    #[must_use]
    pub fn task(&self, prepared: &Prepared) -> TaskSpec {
        let word = |text: &str| text.as_bytes().to_vec();
        let argv = match prepared.line.parts.as_slice() {
            [whole] => vec![self.shell.clone(), word("-c"), whole.clone()],
            parts => {
                let script = SLOT_SCRIPT.replace("TRINE_SLOT", SLOT_VARIABLE);
                let mut argv =
                    vec![word("/bin/sh"), word("-c"), word(&script), word("sh"), self.shell.clone()];
                argv.extend_from_slice(parts);
                argv
            }
        };
        let env = vec![("PARALLEL_SEQ".to_owned(), prepared.sequence.to_string())];
        let stdin = prepared.input.clone().map(Input::Inline);
        TaskSpec { pin: prepared.node, work: Work::Process { argv, stdin, env } }
    }
}

impl Plan {
    /// What the options say. `nodes` are those of `--every-node`.
    ///
    /// # Errors
    /// Options that contradict each other, or that are not known here.
    pub fn new(args: &RunArgs, nodes: Vec<(NodeNumber, String)>) -> Result<Self, Failure> {
        let words = args.words.iter().cloned().map(OsString::into_vec).collect();
        let (command, given) = sources::split(words);
        let mut sources: Vec<Source> = args.input.files.iter().map(|path| file_source(path)).collect();
        sources.extend(given);
        let cut = cut(&args.pipe, &args.input)?;
        let usage = |what: &str, hint: &str| Err(Failure::new(what).hint(hint).usage());
        if cut.is_some() && !sources.is_empty() {
            return usage("--pipe takes standard input and no arguments", "leave out ::: and -a");
        }
        let is_filter = cut.is_some() || (args.tasks.every_node && sources.is_empty());
        if is_filter && command.is_empty() {
            return usage("the command is missing", "name one, as in `trine run --pipe wc -l`");
        }
        let standard_input = |source: &&Source| source.from == SourceFrom::File(b"-".to_vec());
        if sources.iter().filter(standard_input).count() > 1 {
            return usage("standard input can be one source only", "put one of them into a file");
        }
        if !is_filter && sources.is_empty() && !args.log.retry_failed {
            sources.push(Source { from: SourceFrom::File(b"-".to_vec()), linked: false });
        }
        let maker = maker(args, &command, is_filter)?;
        Ok(Self { sources, cut, maker, lines: lines(&args.input)?, nodes })
    }
}

/// A template that is no command: slots are the nodes' and not known yet.
fn filled(template: &Template, sequence: u64, args: &[Arg]) -> Vec<u8> {
    template.fill(sequence, args).with_slot(b"{%}")
}

impl Plan {
    /// A task for each of these arguments, or one without any.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn of(args: &RunArgs, command: &str, given: Option<Vec<Vec<u8>>>) -> Result<Self, Failure> {
        let maker = maker(args, &[command.as_bytes().to_vec()], given.is_none())?;
        let source = |words| Source { from: SourceFrom::Words(words), linked: false };
        let (sources, lines) = (given.map(source).into_iter().collect(), lines(&args.input)?);
        Ok(Self { sources, cut: None, maker, lines, nodes: Vec::new() })
    }
}

fn file_source(path: &Path) -> Source {
    Source { from: SourceFrom::File(path.as_os_str().as_bytes().to_vec()), linked: false }
}

fn maker(args: &RunArgs, command: &[Vec<u8>], is_filter: bool) -> Result<Maker, Failure> {
    let whole = args.place.replace.as_deref().unwrap_or("{}").as_bytes();
    if whole.is_empty() {
        return Err(Failure::new("-I needs a text").usage());
    }
    let quoted = args.place.quote;
    let template = if is_filter {
        Template::filter(command, whole, quoted)
    } else {
        Template::command(command, whole, quoted)
    };
    let template = template.map_err(|error| Failure::new(error).usage())?;
    let tag = match (&args.shown.tagstring, args.shown.tag) {
        _ if args.shown.ungroup => None,
        (Some(text), _) => Some(text.as_bytes()),
        (None, true) => Some(whole),
        (None, false) => None,
    };
    let tag = tag.map(|text| Template::plain(text, whole)).transpose();
    let tag = tag.map_err(|error| Failure::new(error).usage())?;
    let files = files(&args.files, whole, args.tasks.detach)?;
    Ok(Maker { template, tag, shell: shell(), files })
}

fn files(args: &FileArgs, whole: &[u8], detached: bool) -> Result<Files, Failure> {
    let template =
        |text: &str| Template::plain(text.as_bytes(), whole).map_err(|error| Failure::new(error).usage());
    let mut files = Files { cleanup: args.cleanup || !args.trc.is_empty(), ..Files::default() };
    files.base.extend(args.basefile.iter().map(|name| name.clone().into_bytes()));
    for name in &args.transferfile {
        files.sent.push(("--transferfile", template(name)?));
    }
    if args.transfer || !args.trc.is_empty() {
        files.sent.push((
            "--transferfile",
            Template::plain(whole, whole).map_err(|error| Failure::new(error).usage())?,
        ));
    }
    for name in args.returned.iter().chain(&args.trc) {
        files.returned.push(template(name)?);
    }
    if let Some(name) = &args.results {
        if [".csv", ".tsv", ".json"].iter().any(|end| name.ends_with(end)) {
            return Err(Failure::new(format!("--results {name}: tables are not written here"))
                .hint("name a folder, or take --json")
                .usage());
        }
        files.results = Some((name.clone().into_bytes(), template(name)?));
    }
    if detached && (!files.returned.is_empty() || files.results.is_some()) {
        return Err(Failure::new(
            "--return, --trc and --results put files here, and --detach does not wait for them",
        )
        .hint("leave out --detach, or take output later with `trine job logs`")
        .usage());
    }
    Ok(files)
}

/// The shell that parallel would take.
fn shell() -> Vec<u8> {
    let named = ["PARALLEL_SHELL", "SHELL"].iter().find_map(std::env::var_os).map(PathBuf::from);
    let known = named.filter(|path| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| SHELLS.contains(&name))
    });
    known.unwrap_or_else(|| PathBuf::from("/bin/sh")).into_os_string().into_vec()
}

fn lines(args: &InputArgs) -> Result<Lines, Failure> {
    let separator = match &args.delimiter {
        _ if args.null => 0,
        None => b'\n',
        Some(text) => match unescaped(text).as_slice() {
            [one] => *one,
            _ => {
                return Err(Failure::new(format!("--delimiter `{text}` is not one character"))
                    .hint("write one, as in -d , or -d '\\t'")
                    .usage());
            }
        },
    };
    let columns = args.colsep.as_deref().map(column_separator).transpose()?;
    let each = args.max_args.or(args.max_replace_args).unwrap_or(1) as usize;
    Ok(Lines { separator, skip_blank: args.no_run_if_empty, columns, each, link: args.link })
}

fn column_separator(text: &str) -> Result<Vec<u8>, Failure> {
    let plain = unescaped(text);
    if plain.is_empty() || text.len() > 1 && text.contains(['*', '+', '?', '[', '(', '|', '^', '$', '.']) {
        return Err(Failure::new(format!("--colsep `{text}`: patterns are not known here"))
            .hint("name the very text that separates columns, as in -C , or -C '\\t'")
            .usage());
    }
    Ok(plain)
}

fn cut(args: &PipeArgs, input: &InputArgs) -> Result<Option<Cut>, Failure> {
    if !args.pipe {
        let needs =
            [args.block.is_some(), args.recstart.is_some(), args.recend.is_some(), args.remove_rec_sep];
        if needs.contains(&true) || args.header.is_some() {
            return Err(Failure::new("--block, --recstart, --recend, --rrs and --header need --pipe").usage());
        }
        return Ok(None);
    }
    let text = |text: &Option<String>| text.as_deref().map(unescaped);
    // Whoever says how a record starts has not said that it ends with a line.
    let end = match (text(&args.recend), &args.recstart) {
        (Some(end), _) => end,
        (None, Some(_)) => Vec::new(),
        (None, None) => b"\n".to_vec(),
    };
    let header_lines = match args.header.as_deref() {
        None => 0,
        Some(":") => 1,
        Some(number) => {
            number.parse().ok().filter(|lines| (1..=10_000).contains(lines)).ok_or_else(|| {
                Failure::new(format!("--header `{number}` is neither : nor a number of lines")).usage()
            })?
        }
    };
    let records = input.max_replace_args.or(input.max_args).map(|records| records.max(1) as usize);
    Ok(Some(Cut {
        start: text(&args.recstart).unwrap_or_default(),
        end,
        records,
        bytes: args.block.unwrap_or(blocks::DEFAULT_BLOCK_BYTES),
        strip: args.remove_rec_sep,
        header_lines,
    }))
}

/// `\n`, `\t`, `\r`, `\0` and `\\` as what they mean.
fn unescaped(text: &str) -> Vec<u8> {
    let (mut out, mut characters) = (Vec::new(), text.chars());
    while let Some(character) = characters.next() {
        let meant = match (character, characters.as_str().chars().next()) {
            ('\\', Some('n')) => '\n',
            ('\\', Some('t')) => '\t',
            ('\\', Some('r')) => '\r',
            ('\\', Some('0')) => '\0',
            ('\\', Some('\\')) => '\\',
            _ => {
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
        };
        characters.next();
        out.extend_from_slice(meant.encode_utf8(&mut [0; 4]).as_bytes());
    }
    out
}

/// The job of these options. `total`: how many tasks there are, if it is known.
///
/// # Errors
/// An option that is not known here.
pub fn job(args: &RunArgs, total: Option<u64>) -> Result<JobSpec, Failure> {
    let (timeout_ms, timeout_percent) = match args.tasks.timeout {
        None => (None, None),
        Some(Patience::For(time)) => (Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)), None),
        Some(Patience::OfMedian(percent)) => (None, Some(percent)),
    };
    let cpu_milli = args.tasks.jobs.as_deref().map_or(Ok(1_000), cpu_milli)?;
    Ok(JobSpec {
        name: name(args),
        priority: args.tasks.priority,
        // Parallel counts runs, a job counts repetitions.
        retries: args.tasks.retries.unwrap_or(0).saturating_sub(1),
        timeout_ms,
        when: When { timeout_percent, ..When::default() },
        halt: halt(&args.tasks, total),
        resources: Resources {
            cpu_milli,
            memory_bytes: args.tasks.memory.unwrap_or(0),
            named: Amounts::try_from(std::collections::BTreeMap::from_iter(args.tasks.named.clone()))
                .map_err(|why| Failure::new(format!("--resource: {why}")).usage())?,
        },
        env: environment(&args.place.env)?,
        workdir: args
            .place
            .workdir
            .as_deref()
            .filter(|path| *path != Path::new("..."))
            .map(workdir)
            .transpose()?,
        predicted_ms: args.tasks.predicted_ms,
        ..JobSpec::default()
    })
}

fn name(args: &RunArgs) -> String {
    let given = args.tasks.name.clone();
    given.unwrap_or_else(|| {
        let words: Vec<_> = args.words.iter().map(|word| word.to_string_lossy()).collect();
        let command: Vec<&str> =
            words.iter().map(AsRef::as_ref).take_while(|word| !word.starts_with(":::")).collect();
        command.join(" ").chars().take(NAME_CHARACTERS).collect()
    })
}

fn halt(tasks: &TaskArgs, total: Option<u64>) -> Option<Halt> {
    let Rule::When { now, on, threshold } = tasks.halt.unwrap_or_default() else { return None };
    let on = match on {
        On::Fail => HaltOn::Failures,
        On::Success => HaltOn::Successes,
        On::Done => HaltOn::Done,
    };
    let count = match threshold {
        Threshold::Count(count) => count,
        percent @ Threshold::Percent(_) => percent.of(total?),
    };
    Some(Halt { on, count, now })
}

/// Whether the number of tasks must be known before the first is submitted.
#[must_use]
pub fn needs_total(args: &RunArgs) -> bool {
    matches!(args.tasks.halt, Some(Rule::When { threshold: Threshold::Percent(_), .. }))
}

/// `-j N` as a part of a processor, by the processors of this machine.
fn cpu_milli(text: &str) -> Result<u32, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let cores = u32::try_from(cores).unwrap_or(u32::MAX).min(4_096);
    let wrong = || {
        Failure::new(format!("-j `{text}` is neither a number, +N, nor a percentage"))
            .hint("as in -j 8, -j 0 for as many as a node takes, -j 50%")
            .usage()
    };
    let number = |text: &str| text.parse::<u32>().ok().filter(|number| (1..=100_000).contains(number));
    let at_a_time = if text == "0" {
        MANY_AT_A_TIME.into()
    } else if let Some(percent) = text.strip_suffix('%') {
        (u64::from(cores) * u64::from(number(percent).ok_or_else(wrong)?)).div_ceil(100)
    } else if let Some(more) = text.strip_prefix('+') {
        u64::from(cores + number(more).ok_or_else(wrong)?)
    } else {
        number(text).ok_or_else(wrong)?.into()
    };
    Ok(u32::try_from(u64::from(cores) * 1_000 / at_a_time.max(1)).unwrap_or(u32::MAX).max(1))
}

fn environment(given: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let pair = |text: &String| match text.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => match std::env::var(text) {
            Ok(value) => Ok((text.clone(), value)),
            Err(_) => Err(Failure::new(format!("--env {text}: there is no such variable here"))
                .hint("set it, or give --env NAME=VALUE")
                .usage()),
        },
    };
    given.iter().map(pair).collect()
}

fn workdir(path: &Path) -> Result<String, Failure> {
    let cannot = |error| Failure::new(format!("--workdir {}: {error}", path.display())).usage();
    let absolute = std::path::absolute(path).map_err(cannot)?;
    absolute.into_os_string().into_string().map_err(|_| Failure::new("--workdir is no text").usage())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Whole {
        #[command(flatten)]
        args: RunArgs,
    }

    fn args(line: &str) -> RunArgs {
        Whole::try_parse_from(line.split_whitespace()).expect(line).args
    }

    fn plan(line: &str) -> Result<Plan, Failure> {
        Plan::new(&args(line), Vec::new())
    }

    #[test]
    fn a_task_is_a_line_for_a_shell() {
        let plan = plan("run --tag echo {} x{#} ::: a").expect("a plan");
        let prepared = plan.maker.prepare(3, &[b"a b".to_vec()], None);
        assert_eq!(
            (prepared.command(), prepared.tag.clone()),
            (b"echo 'a b' x3".to_vec(), Some(b"a b".to_vec()))
        );
        let Work::Process { argv, env, stdin } = plan.maker.task(&prepared).work else { panic!("a process") };
        assert_eq!(argv[1..], [b"-c".to_vec(), b"echo 'a b' x3".to_vec()]);
        assert_eq!((env, stdin), (vec![("PARALLEL_SEQ".to_owned(), "3".to_owned())], None));
    }

    #[test]
    fn a_slot_is_put_in_on_the_node() {
        let plan = plan("run echo a{%}b {} ::: a").expect("a plan");
        let prepared = plan.maker.prepare(1, &[b"x'y".to_vec()], None);
        let Work::Process { argv, .. } = plan.maker.task(&prepared).work else { panic!("a process") };
        let mut command = std::process::Command::new("/bin/sh");
        let words = argv[1..].iter().map(|word| OsString::from_vec(word.clone()));
        let out = command.args(words).env("TRINE_SLOT", "7").output().expect("a shell");
        assert_eq!(String::from_utf8_lossy(&out.stdout), "a7b x'y\n");
    }

    #[test]
    fn contradictions_are_refused_with_a_way_out() {
        for bad in [
            "run --pipe cat ::: a",
            "run --pipe",
            "run --every-node",
            "run --block 1M cat",
            "run -C a+ echo",
            "run -d ab echo",
            "run -a - echo :::: -",
            "run --pipe --header x cat",
        ] {
            assert!(plan(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn options_reach_the_job() {
        let spec =
            job(&args("run --retries 3 --timeout 1.5 --halt now,fail=2 --memory 1G -j0 echo {} ::: a"), None);
        let spec = spec.expect("a job");
        assert_eq!((spec.retries, spec.timeout_ms), (2, Some(1_500)));
        assert_eq!(spec.halt, Some(Halt { on: HaltOn::Failures, count: 2, now: true }));
        assert_eq!((Ok(spec.resources.cpu_milli), spec.resources.memory_bytes), (cpu_milli("250"), 1 << 30));
        assert_eq!((spec.name.as_str(), spec.check()), ("echo {}", Ok(())));
        let percent = args("run --halt soon,fail=30% echo ::: a");
        assert!(needs_total(&percent));
        assert_eq!(job(&percent, Some(6)).expect("a job").halt.map(|halt| halt.count), Some(2));
        let cores = u32::try_from(std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
        assert_eq!(cpu_milli("1"), Ok(cores.expect("few") * 1_000));
        assert_eq!((cpu_milli("100%"), cpu_milli("x").is_err()), (Ok(1_000), true));
        let spec = job(&args("run --timeout 200% echo ::: a"), None).expect("a job");
        assert_eq!((spec.timeout_ms, spec.when.timeout_percent), (None, Some(200)));
    }

    #[test]
    fn files_are_named_for_each_task() {
        let plan = plan("run --bf {}base --trc {.}.out --results r/{#} wc {} ::: x").expect("a plan");
        let prepared = plan.maker.prepare(2, &[b"d/a.c".to_vec()], None);
        let parcel = prepared.parcel(plan.maker.cleans_up()).expect("inside");
        let there: Vec<_> = parcel.sent.iter().map(|place| place.there.display().to_string()).collect();
        assert_eq!((there, parcel.cleanup), (vec!["{}base".to_owned(), "d/a.c".to_owned()], true));
        assert_eq!(parcel.returned, [PathBuf::from("d/a.out")]);
        assert_eq!(prepared.results, Some(Filed::File(PathBuf::from("r/2"))));
        let outside = plan.maker.prepare(1, &[b"/etc/x".to_vec()], None);
        assert!(outside.parcel(false).is_err());
        for bad in ["run --return x --detach a ::: b", "run --results r.csv a ::: b"] {
            assert!(super::tests::plan(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_records_start_with_says_that_they_do_not_end_with_a_line() {
        let cut = |line: &str| plan(line).expect("a plan").cut.expect("a cut");
        assert_eq!(cut("run --pipe --recstart > cat").end, b"");
        assert_eq!(cut("run --pipe --recstart > --recend \\n cat").end, b"\n");
        assert_eq!(cut("run --pipe -N3 --header : cat").records, Some(3));
    }
}
