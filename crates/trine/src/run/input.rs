//! Reads arguments or data and makes tasks of them, on a thread of its own:
//! files and standard input may block. Holds one argument, or one block, at a
//! time of the first source, and the others whole.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::PathBuf;

use bytes::Bytes;
use std::os::unix::ffi::OsStringExt;
use trine_compute::parallel::joblog::Earlier;
use trine_compute::parallel::sources::{
    Batches, Combinations, Cutter, From as SourceFrom, MAX_HELD_ARGS, Row, Source, link,
};
use trine_compute::parallel::template::{Arg, Line};
use trine_compute::parallel::{blocks, sources};

use super::plan::{Lines, Plan, Prepared};
use crate::failure::Failure;

/// Bytes that are read at once.
const READ_BYTES: usize = 64 * 1024;

/// What an earlier run leaves to be done.
#[derive(Debug, Clone, Default)]
pub enum Before {
    /// Everything is to be done.
    #[default]
    Nothing,
    /// `--resume`.
    Ran(Earlier),
    /// `--resume-failed`.
    Succeeded(Earlier),
    /// `--retry-failed`: only the commands in it.
    Failed(Earlier),
}

impl Before {
    fn leaves_out(&self, sequence: u64) -> bool {
        match self {
            Self::Nothing | Self::Failed(_) => false,
            Self::Ran(earlier) => earlier.ran(sequence),
            Self::Succeeded(earlier) => earlier.succeeded(sequence),
        }
    }
}

/// Gives each task; a break ends it.
pub type Give<'a> = &'a mut dyn FnMut(Prepared) -> ControlFlow<()>;

/// Makes all tasks of a plan, in order.
///
/// # Errors
/// Input that cannot be read, or an argument that is too long.
pub fn produce(plan: &Plan, before: &Before, give: Give<'_>) -> Result<(), Failure> {
    let mut giving = Giving { plan, before, give, sequence: 0 };
    if let Before::Failed(earlier) = before {
        for (sequence, command) in earlier.failed() {
            let prepared = Prepared {
                sequence,
                line: Line { parts: vec![command.to_vec()] },
                ..plan.maker.prepare(sequence, &[], None)
            };
            if (giving.give)(prepared).is_break() {
                break;
            }
        }
        return Ok(());
    }
    if let Some(cut) = &plan.cut {
        return giving.blocks(blocks::Cutter::new(cut.clone()));
    }
    if plan.sources.is_empty() {
        // On every node, with no arguments.
        let _ = giving.task(&[], None);
        return Ok(());
    }
    giving.arguments()
}

struct Giving<'a> {
    plan: &'a Plan,
    before: &'a Before,
    give: Give<'a>,
    sequence: u64,
}

impl Giving<'_> {
    fn task(&mut self, args: &[Arg], input: Option<Bytes>) -> ControlFlow<()> {
        if self.plan.nodes.is_empty() {
            return self.one(args, input, None);
        }
        let plan = self.plan;
        plan.nodes.iter().try_for_each(|node| self.one(args, input.clone(), Some(node)))
    }

    fn one(
        &mut self,
        args: &[Arg],
        input: Option<Bytes>,
        node: Option<&(trine_types::NodeNumber, String)>,
    ) -> ControlFlow<()> {
        self.sequence += 1;
        if self.before.leaves_out(self.sequence) {
            return ControlFlow::Continue(());
        }
        let mut prepared = self.plan.maker.prepare(self.sequence, args, input);
        if let Some((number, name)) = node {
            prepared.node = Some(*number);
            prepared.tag = prepared.tag.map(|tag| on_node(name, &tag));
        }
        (self.give)(prepared)
    }

    fn blocks(&mut self, mut cutter: blocks::Cutter) -> Result<(), Failure> {
        let (mut input, mut buffer, mut found) = (io::stdin().lock(), vec![0; READ_BYTES], Vec::new());
        loop {
            let count = input.read(&mut buffer).map_err(|error| unreadable("standard input", &error))?;
            if count == 0 {
                break;
            }
            cutter.feed(&buffer[..count], &mut found).map_err(Failure::new)?;
            for block in found.drain(..) {
                if self.task(&[], Some(block.into())).is_break() {
                    return Ok(());
                }
            }
        }
        cutter.finish(&mut found).map_err(Failure::new)?;
        let _ = found.drain(..).try_for_each(|block| self.task(&[], Some(block.into())));
        Ok(())
    }

    fn arguments(&mut self) -> Result<(), Failure> {
        let lines = &self.plan.lines;
        let (first, others) = sources_of(&self.plan.sources, lines)?;
        let (mut batches, mut combinations) = (Batches::new(lines.each), Combinations::new(others));
        let mut take = |giving: &mut Self, row: Row| {
            combinations.begin(row);
            while let Some(row) = combinations.take() {
                if let Some(args) = batches.push(row) {
                    giving.task(&args, None)?;
                }
            }
            ControlFlow::Continue(())
        };
        let flow = match first {
            First::Rows(rows) => rows.into_iter().try_for_each(|row| take(self, row)),
            First::Stream(name) => stream(&name, lines, |arg| take(self, row(arg, lines)))?,
        };
        if flow.is_continue()
            && let Some(args) = batches.finish()
        {
            let _ = self.task(&args, None);
        }
        Ok(())
    }
}

fn on_node(name: &str, tag: &[u8]) -> Vec<u8> {
    if tag.is_empty() { name.as_bytes().to_vec() } else { [name.as_bytes(), b" ", tag].concat() }
}

/// The source that may be without end.
enum First {
    Rows(Vec<Row>),
    Stream(Vec<u8>),
}

/// Brings linked sources together, and reads all but the first.
fn sources_of(sources: &[Source], lines: &Lines) -> Result<(First, Vec<Vec<Row>>), Failure> {
    let mut groups: Vec<Vec<&Source>> = Vec::new();
    for source in sources {
        match groups.last_mut() {
            Some(group) if source.linked || lines.link => group.push(source),
            _ => groups.push(vec![source]),
        }
    }
    let mut rest = groups.into_iter();
    let first = match rest.next().as_deref() {
        Some([Source { from: SourceFrom::File(name), .. }]) => First::Stream(name.clone()),
        Some(group) => First::Rows(rows(group, lines)?),
        None => First::Rows(Vec::new()),
    };
    let others = rest.map(|group| rows(&group, lines)).collect::<Result<_, _>>()?;
    Ok((first, others))
}

fn rows(group: &[&Source], lines: &Lines) -> Result<Vec<Row>, Failure> {
    let mut rows: Option<Vec<Row>> = None;
    for source in group {
        let args = read(source, lines)?;
        rows = Some(match rows {
            None => args.into_iter().map(|arg| row(arg, lines)).collect(),
            Some(rows) => link(rows, args, lines.link),
        });
    }
    Ok(rows.unwrap_or_default())
}

fn read(source: &Source, lines: &Lines) -> Result<Vec<Arg>, Failure> {
    let name = match &source.from {
        SourceFrom::Words(words) => return Ok(words.clone()),
        SourceFrom::File(name) => name,
    };
    let mut args = Vec::new();
    let flow = stream(name, lines, |arg| {
        args.push(arg);
        if args.len() > MAX_HELD_ARGS { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    if flow.is_break() {
        let what = format!("{} has more than {MAX_HELD_ARGS} arguments", text(name));
        return Err(Failure::new(what).hint("name it as the first source, which may be of any length"));
    }
    Ok(args)
}

fn row(arg: Arg, lines: &Lines) -> Row {
    let Some(separator) = &lines.columns else { return vec![arg] };
    let (mut columns, mut rest) = (Vec::new(), arg.as_slice());
    while let Some(at) = rest.windows(separator.len()).position(|window| window == separator) {
        columns.push(rest[..at].to_vec());
        rest = &rest[at + separator.len()..];
    }
    columns.push(rest.to_vec());
    columns
}

/// Reads the arguments of a file, or of standard input, one after another.
fn stream(
    name: &[u8],
    lines: &Lines,
    mut take: impl FnMut(Arg) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, Failure> {
    let open = || -> io::Result<Box<dyn BufRead>> {
        if name == b"-" {
            return Ok(Box::new(BufReader::new(io::stdin())));
        }
        let file = File::open(PathBuf::from(std::ffi::OsString::from_vec(name.to_vec())))?;
        Ok(Box::new(BufReader::with_capacity(READ_BYTES, file)))
    };
    let cannot = |error| unreadable(&text(name), &error);
    let (mut input, mut cutter) = (open().map_err(cannot)?, Cutter::new(lines.separator, lines.skip_blank));
    let mut found = Vec::new();
    loop {
        let bytes = input.fill_buf().map_err(cannot)?;
        let count = bytes.len();
        let cut: Result<(), sources::ArgTooLong> = cutter.feed(bytes, &mut found);
        cut.map_err(|error| Failure::new(format!("{}: {error}", text(name))))?;
        input.consume(count);
        if count == 0 {
            cutter.finish(&mut found);
        }
        for arg in found.drain(..) {
            if take(arg).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        if count == 0 {
            return Ok(ControlFlow::Continue(()));
        }
    }
}

fn text(name: &[u8]) -> String {
    if name == b"-" { "standard input".to_owned() } else { String::from_utf8_lossy(name).into_owned() }
}

fn unreadable(name: &str, error: &io::Error) -> Failure {
    Failure::new(format!("cannot read {name}: {error}"))
        .hint("tasks that were submitted before are cancelled")
}
