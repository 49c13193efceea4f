//! The command line of `trine run`: parallel's options, as far as they are
//! known here. Its options come before the command; the command's own follow it.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use crate::cli::NodeTarget;

/// What `--help` ends with.
pub const AFTER: &str = "\
Examples:
  trine run gzip -9 {} ::: *.log --workdir .
  trine run -k --tag 'host {}' :::: names.txt
  cat urls.txt | trine run --joblog log --resume ./fetch.sh
  cat big.txt | trine run --pipe --block 1M wc -l
  trine run --every-node uptime
  trine run --trc {.}.gz gzip -9 {} ::: logs/*.log

Replacement strings: {} {.} {/} {//} {/.} {#} {%} {1} {2.} {-1}; without one, the
argument is put behind the command. The line is given to $SHELL on a node, with
arguments quoted. The exit code is the number of failed tasks, at most 101.";

/// `trine run`.
#[derive(Debug, Args, Clone, Default)]
#[command(after_help = AFTER)]
pub struct RunArgs {
    /// Where arguments come from.
    #[command(flatten)]
    pub input: InputArgs,
    /// Standard input as data.
    #[command(flatten)]
    pub pipe: PipeArgs,
    /// What is printed.
    #[command(flatten)]
    pub shown: ShownArgs,
    /// What is remembered.
    #[command(flatten)]
    pub log: LogArgs,
    /// How tasks are executed.
    #[command(flatten)]
    pub tasks: TaskArgs,
    /// What they find and leave.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Files that travel with tasks, and where output goes.
    #[command(flatten)]
    pub files: FileArgs,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeTarget,
    /// The command, then its arguments after ::: (or files with them after ::::).
    #[arg(value_name = "COMMAND [::: ARGS]", trailing_var_arg = true)]
    pub words: Vec<OsString>,
}

/// Where arguments come from.
#[derive(Debug, Args, Clone, Default)]
pub struct InputArgs {
    /// Read arguments from this file, one a line; may be repeated. - is standard input.
    #[arg(short = 'a', long = "arg-file", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Arguments end with a zero byte, not with a line.
    #[arg(short = '0', long = "null")]
    pub null: bool,
    /// Arguments end with this character.
    #[arg(short = 'd', long, value_name = "CHARACTER", conflicts_with = "null")]
    pub delimiter: Option<String>,
    /// Leave out arguments of white space alone.
    #[arg(short = 'r', long)]
    pub no_run_if_empty: bool,
    /// Up to so many arguments for each task.
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_args: Option<u32>,
    /// So many arguments for each task, 0 for none; with --pipe, records.
    #[arg(short = 'N', long, value_name = "N", conflicts_with = "max_args",
          value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub max_replace_args: Option<u32>,
    /// Cut each argument into {1}, {2} … at this text (\t is a tab).
    #[arg(short = 'C', long, value_name = "TEXT")]
    pub colsep: Option<String>,
    /// Take one argument from each source at a time instead of all combinations.
    #[arg(long)]
    pub link: bool,
}

/// Standard input as data.
#[derive(Debug, Args, Clone, Default)]
pub struct PipeArgs {
    /// Cut standard input into blocks, each the standard input of one task.
    #[arg(long)]
    pub pipe: bool,
    /// Size of a block, like 100k or 1M.
    #[arg(long, value_name = "SIZE", value_parser = trine_compute::parallel::blocks::parse_size)]
    pub block: Option<usize>,
    /// What a record starts with.
    #[arg(long, value_name = "TEXT")]
    pub recstart: Option<String>,
    /// What a record ends with [default: \n].
    #[arg(long, value_name = "TEXT")]
    pub recend: Option<String>,
    /// Leave out what marks records.
    #[arg(long, visible_alias = "rrs")]
    pub remove_rec_sep: bool,
    /// So many lines at the begin go before each block; `:` is 1.
    #[arg(long, value_name = "LINES")]
    pub header: Option<String>,
}

/// What is printed.
#[derive(Debug, Args, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own, as people type them")]
pub struct ShownArgs {
    /// Print output in the order of the arguments.
    #[arg(short = 'k', long)]
    pub keep_order: bool,
    /// Write the arguments and a tab before each line of output.
    #[arg(long)]
    pub tag: bool,
    /// Write this before each line of output; replacement strings are filled in.
    #[arg(long, visible_alias = "tag-string", value_name = "TEXT")]
    pub tagstring: Option<String>,
    /// Output of one task stays together (this is how it always is).
    #[arg(long)]
    pub group: bool,
    /// Taken for parallel's sake: whole lines, printed when the task ends.
    #[arg(long, visible_alias = "lb")]
    pub line_buffer: bool,
    /// Output as it is, without tags.
    #[arg(short = 'u', long)]
    pub ungroup: bool,
    /// Print the commands instead of running them.
    #[arg(long, visible_alias = "dryrun")]
    pub dry_run: bool,
    /// Print each command before its output.
    #[arg(short = 'v', long)]
    pub verbose: bool,
    /// Print commands on standard error when they are submitted.
    #[arg(short = 't', long = "trace")]
    pub trace: bool,
    /// Show progress and time left also where standard error is no terminal.
    #[arg(long, visible_aliases = ["eta", "progress"])]
    pub bar: bool,
    /// Show no progress.
    #[arg(long, conflicts_with = "bar")]
    pub no_bar: bool,
}

/// What is remembered.
#[derive(Debug, Args, Clone, Default)]
pub struct LogArgs {
    /// Write a line for each task that has ended, in parallel's format; +FILE appends.
    #[arg(long, value_name = "FILE")]
    pub joblog: Option<String>,
    /// Leave out tasks that are in the joblog.
    #[arg(long, requires = "joblog")]
    pub resume: bool,
    /// Leave out tasks that succeeded according to the joblog.
    #[arg(long, requires = "joblog")]
    pub resume_failed: bool,
    /// Run the commands that failed according to the joblog; takes no arguments.
    #[arg(long, requires = "joblog")]
    pub retry_failed: bool,
}

/// How tasks are executed.
#[derive(Debug, Args, Clone, Default)]
pub struct TaskArgs {
    /// Tasks at a time on a node with as many cores as this machine; 0 is 250, N%: of its cores.
    #[arg(short = 'j', long, visible_alias = "max-procs", short_alias = 'P', value_name = "N")]
    pub jobs: Option<String>,
    /// Try a task up to so many times.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1_000))]
    pub retries: Option<u32>,
    /// Kill a task after this time: seconds, 1.5h, or 200% of the median of those that succeeded on its node.
    #[arg(long, value_name = "TIME", value_parser = trine_compute::parallel::patience::parse)]
    pub timeout: Option<trine_compute::parallel::patience::Patience>,
    /// When to stop early: never, or soon|now,fail|success|done=N or N%.
    #[arg(long, visible_alias = "halt-on-error", value_name = "WHEN",
          value_parser = trine_compute::parallel::halt::parse)]
    pub halt: Option<trine_compute::parallel::halt::Rule>,
    /// Run the command once on each node (with arguments: each of them on each).
    #[arg(long, visible_aliases = ["nonall", "onall"])]
    pub every_node: bool,
    /// Print the job's number and leave it running.
    #[arg(long, visible_alias = "bg")]
    pub detach: bool,
    /// Priority; a greater one goes first.
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    pub priority: i32,
    /// Memory that each task may use, like 500M or 2G.
    #[arg(long, value_name = "SIZE", value_parser = parse_memory)]
    pub memory: Option<u64>,
    /// What each task takes of what nodes have by name (docs/jobs.md), like gpu=1; may be repeated.
    #[arg(long = "resource", value_name = "NAME=N", value_parser = parse_amount)]
    pub named: Vec<(String, u32)>,
    /// The job's name [default: the command].
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// What `trine plan --run` expects it to take.
    #[arg(skip)]
    pub predicted_ms: Option<u64>,
}

/// What tasks find and leave.
#[derive(Debug, Args, Clone, Default)]
pub struct PlaceArgs {
    /// Where tasks run: a folder of the nodes, . for this one's path, ... for an empty one for each task [default: ...].
    #[arg(long, visible_alias = "wd", value_name = "DIR")]
    pub workdir: Option<PathBuf>,
    /// An environment variable to take along (NAME), or to set (NAME=VALUE); may be repeated.
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Quote the command, too: its words mean nothing to the shell.
    #[arg(short = 'q', long)]
    pub quote: bool,
    /// What stands for the arguments, instead of {}.
    #[arg(short = 'I', value_name = "TEXT")]
    pub replace: Option<String>,
}

/// Files that travel with tasks, and where output goes.
#[derive(Debug, Args, Clone, Default)]
pub struct FileArgs {
    /// Send this file to the directory of each task, as {} (replacement strings are filled in); DIR/./FILE is FILE there.
    #[arg(long = "transferfile", visible_aliases = ["tf", "transfer-file"], value_name = "FILE")]
    pub transferfile: Vec<String>,
    /// The same as --transferfile {}.
    #[arg(long)]
    pub transfer: bool,
    /// Bring this file back from the directory of each task when it has ended.
    #[arg(long = "return", value_name = "FILE")]
    pub returned: Vec<String>,
    /// Send this file to each task.
    #[arg(long = "basefile", visible_alias = "bf", value_name = "FILE")]
    pub basefile: Vec<String>,
    /// Remove what was sent and returned from a --workdir afterwards (a task's own directory always goes).
    #[arg(long)]
    pub cleanup: bool,
    /// The same as --transferfile {} --return FILE --cleanup.
    #[arg(long, value_name = "FILE")]
    pub trc: Vec<String>,
    /// Put output into files below this folder instead of printing it; with replacement strings: into the file of that name.
    #[arg(long, visible_alias = "res", value_name = "DIR")]
    pub results: Option<String>,
}

impl FileArgs {
    /// Whether tasks are sent files, or return some.
    #[must_use]
    pub fn travel(&self) -> bool {
        let named = [&self.transferfile, &self.returned, &self.basefile, &self.trc];
        self.transfer || named.iter().any(|names| !names.is_empty())
    }
}

/// Reads `500M`, `2G`, `1000000`: powers of 1024 throughout.
///
/// # Errors
/// Which forms there are.
pub fn parse_memory(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no size; write bytes, or a number with K, M, G or T");
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let shift = match unit.to_ascii_uppercase().as_str() {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).filter(|bytes| *bytes > 0).ok_or_else(wrong)
}

/// An amount of something named, like `gpu=2`.
fn parse_amount(text: &str) -> Result<(String, u32), String> {
    let amount = text.split_once('=').and_then(|(name, count)| Some((name.to_owned(), count.parse().ok()?)));
    amount.ok_or_else(|| format!("`{text}` is no amount; write NAME=NUMBER, like gpu=1"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{RunArgs, parse_memory};

    #[derive(Debug, Parser)]
    struct Whole {
        #[command(flatten)]
        args: RunArgs,
    }

    fn words(line: &str) -> Vec<String> {
        let whole = Whole::try_parse_from(line.split_whitespace()).expect(line);
        whole.args.words.into_iter().map(|word| word.into_string().expect("text")).collect()
    }

    #[test]
    fn options_end_where_the_command_begins() {
        assert_eq!(words("run -k -j2 echo -n {} ::: -a b"), ["echo", "-n", "{}", ":::", "-a", "b"]);
        assert_eq!(words("run -k -- echo -n ::: a"), ["echo", "-n", ":::", "a"]);
        assert_eq!(words("run -0 ::: a"), [":::", "a"]);
        assert_eq!(words("run --tag --joblog l --resume wc -l"), ["wc", "-l"]);
        assert_eq!(words("run -P4 -I,, echo ,, ::: -k"), ["echo", ",,", ":::", "-k"]);
        for bad in ["run --foo x", "run --resume x", "run --halt bad x", "run -n0 x", "run --timeout x y"] {
            assert!(Whole::try_parse_from(bad.split_whitespace()).is_err(), "{bad}");
        }
    }

    #[test]
    fn memory_has_units_of_1024() {
        assert_eq!((parse_memory("2G"), parse_memory("1k")), (Ok(2 << 30), Ok(1024)));
        assert!(
            parse_memory("2X").is_err() && parse_memory("").is_err() && parse_memory("99999999T").is_err()
        );
    }
}
