//! What is said of tasks that have ended: their output, tagged and in order if
//! that was asked for, the joblog, the progress bar, the exit code. Output that
//! must wait for its turn is held in memory up to a bound, then in a file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use http_body_util::BodyExt;
use indicatif::ProgressBar;
use trine_compute::parallel::halt::{Ended, Tally};
use trine_compute::parallel::joblog::Row;
use trine_compute::parallel::tag::Tagger;
use trine_compute::record::task::hex;
use trine_compute::record::{Decoder, decode_result, encode_result};
use trine_compute::{Outcome, Output, TaskResult};
use trine_types::NodeNumber;

use super::client::{Api, Ask};
use super::parcel::{self, Splitter};
use super::plan::Filed;
use crate::failure::Failure;

/// Output that waits for its turn in memory; what is more waits in a file.
pub const MAX_HELD_BYTES: usize = 64 * 1024 * 1024;

/// What is known of a task until it ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pending {
    /// Its number, from 1.
    pub sequence: u64,
    /// The command line.
    pub command: Vec<u8>,
    /// What goes before each line of its output.
    pub tag: Option<Vec<u8>>,
    /// Bytes of its standard input.
    pub sent: u64,
    /// What it takes of the window.
    pub weight: u32,
    /// Files that it returns.
    pub returned: Vec<PathBuf>,
    /// Where its output goes instead.
    pub results: Option<Filed>,
}

/// How results are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Style {
    /// In the order of submission.
    pub keep_order: bool,
    /// The command goes before its output.
    pub verbose: bool,
    /// One JSON object for each task.
    pub json: bool,
}

/// Shows what became of tasks.
#[derive(Debug)]
pub struct Printer {
    style: Style,
    api: Api,
    bar: ProgressBar,
    joblog: Option<File>,
    tally: Tally,
    next: u64,
    held: Held,
    incomplete: bool,
    /// What separates output from returned files.
    mark: Option<String>,
}

/// Where the output of a task goes.
#[derive(Debug)]
enum Sink {
    Terminal,
    Files {
        out: File,
        err: File,
    },
    /// It is said elsewhere.
    Nowhere,
}

impl Printer {
    /// Nothing has ended yet.
    #[must_use]
    pub fn new(style: Style, api: Api, bar: ProgressBar, joblog: Option<File>, tally: Tally) -> Self {
        Self { style, api, bar, joblog, tally, next: 0, held: Held::default(), incomplete: false, mark: None }
    }

    /// Tasks return files behind this mark.
    #[must_use]
    pub fn returning(self, mark: Option<String>) -> Self {
        Self { mark, ..self }
    }

    /// The bar.
    pub fn bar(&self) -> &ProgressBar {
        &self.bar
    }

    /// A task has ended. What is to be shown now is shown.
    ///
    /// # Errors
    /// Standard output or the joblog cannot be written.
    pub async fn ended(
        &mut self,
        pending: Option<Pending>,
        result: TaskResult,
        total: u64,
    ) -> Result<(), Failure> {
        let Some(ended) = ended(&result.outcome) else {
            return self.turn(result.index, None).await;
        };
        self.tally.ended(ended, total);
        self.bar.inc(1);
        if self.tally.failed() > 0 {
            self.bar.set_message(format!("{} failed", self.tally.failed()));
        }
        if let (Some(log), Some(pending)) = (&mut self.joblog, &pending) {
            let line = row(pending, &result, ended).line();
            log.write_all(&line)
                .map_err(|error| Failure::new(format!("cannot write the joblog: {error}")))?;
        }
        self.turn(result.index, Some((pending, result))).await
    }

    /// The exit code after `total` tasks.
    #[must_use]
    pub fn exit_code(&self, total: u64) -> u8 {
        self.tally.exit_code(total).max(u8::from(self.incomplete))
    }

    /// Shows what still waits for its turn: those before it will not come.
    ///
    /// # Errors
    /// As [`Printer::ended`].
    pub async fn finish(&mut self) -> Result<(), Failure> {
        while let Some((pending, result)) = self.held.first()? {
            self.show(pending, result).await?;
        }
        Ok(())
    }

    async fn turn(
        &mut self,
        index: u64,
        shown: Option<(Option<Pending>, TaskResult)>,
    ) -> Result<(), Failure> {
        if !self.style.keep_order {
            return match shown {
                Some((pending, result)) => self.show(pending, result).await,
                None => Ok(()),
            };
        }
        self.held.put(index, shown)?;
        while let Some(shown) = self.held.take(self.next)? {
            self.next += 1;
            if let Some((pending, result)) = shown {
                self.show(pending, result).await?;
            }
        }
        Ok(())
    }

    async fn show(&mut self, pending: Option<Pending>, result: TaskResult) -> Result<(), Failure> {
        let mut sink = match pending.as_ref().and_then(|pending| Some((pending, pending.results.as_ref()?))) {
            Some((pending, filed)) => files(filed, pending.sequence)
                .map_err(|error| Failure::new(format!("cannot write results: {error}")))?,
            None if self.style.json => Sink::Nowhere,
            None => Sink::Terminal,
        };
        if self.style.json {
            let line = report(pending.as_ref(), &result, self.mark.as_deref()).to_string() + "\n";
            self.write(false, line.as_bytes())?;
        }
        if let (true, false, Some(pending)) = (self.style.verbose, self.style.json, &pending) {
            self.write(false, &[pending.command.as_slice(), b"\n"].concat())?;
        }
        // Files have no tags, as parallel's have none.
        let tagged = pending.as_ref().filter(|pending| pending.results.is_none());
        let tag = tagged.and_then(|pending| pending.tag.clone());
        let files = self.output((&result.stdout, result.node, false), tag.clone(), &mut sink).await?;
        let returned = pending.as_ref().map_or(&[][..], |pending| &pending.returned);
        if !returned.is_empty() {
            self.bring(files, returned, result.index)?;
        }
        self.output((&result.stderr, result.node, true), tag, &mut sink).await?;
        match trouble(pending.as_ref(), &result).filter(|_| !self.style.json) {
            Some(line) => self.write(true, line.as_bytes()),
            None => Ok(()),
        }
    }

    /// Puts the files that a task returned where they belong.
    fn bring(&mut self, files: Option<File>, returned: &[PathBuf], index: u64) -> Result<(), Failure> {
        let missing = match files.map(|files| parcel::unpack(files, returned, Path::new("."))) {
            None => returned.to_vec(),
            Some(Ok(missing)) => missing,
            Some(Err(error)) => {
                self.incomplete = true;
                let what = format!("trine: files of task {} cannot be written: {error}\n", index + 1);
                return self.write(true, what.as_bytes());
            }
        };
        for path in missing {
            self.incomplete = true;
            let what = format!("trine: task {} did not return {}\n", index + 1, path.display());
            self.write(true, what.as_bytes())?;
        }
        Ok(())
    }

    /// Shows an output; the files behind it, if there are.
    async fn output(
        &mut self,
        (output, node, errors): (&Output, NodeNumber, bool),
        tag: Option<Vec<u8>>,
        sink: &mut Sink,
    ) -> Result<Option<File>, Failure> {
        let mark = self.mark.as_deref().filter(|_| !errors);
        if matches!(sink, Sink::Nowhere) && mark.is_none() {
            return Ok(None);
        }
        let mut passing = Passing { splitter: mark.map(Splitter::new), tagger: Tagger::new(tag), errors };
        let (hash, cut) = match output {
            Output::Inline(bytes) => {
                let text = passing.pass(bytes).map_err(|error| cannot_hold(&error))?;
                self.sink(sink, errors, &text)?;
                let (text, files) = passing.finish().map_err(|error| cannot_hold(&error))?;
                self.sink(sink, errors, &text)?;
                return Ok(files);
            }
            Output::Kept { hash, cut, .. } => (hash, *cut),
        };
        let path = format!("/v1/blobs/{}?node={}", hex(hash), node.0);
        let mut body = match self.api.ask(&Ask::get(&path)).await {
            Ok(response) => response.into_body(),
            Err(unanswered) => return self.lost(hash, &Failure::from(unanswered)).map(|()| None),
        };
        let mut seen = blake3::Hasher::new();
        while let Some(frame) = body.frame().await {
            match frame.map(hyper::body::Frame::into_data) {
                Ok(Ok(data)) => {
                    seen.update(&data);
                    let text = passing.pass(&data).map_err(|error| cannot_hold(&error))?;
                    self.sink(sink, errors, &text)?;
                }
                Ok(Err(_)) => {}
                Err(error) => return self.lost(hash, &Failure::new(error)).map(|()| None),
            }
        }
        let (text, files) = passing.finish().map_err(|error| cannot_hold(&error))?;
        self.sink(sink, errors, &text)?;
        if seen.finalize().as_bytes() != hash {
            return self.lost(hash, &Failure::new("what came is something else")).map(|()| None);
        }
        if cut {
            self.write(true, b"trine: this output is not whole: the task wrote more than a node keeps\n")?;
        }
        Ok(files)
    }

    fn sink(&self, sink: &mut Sink, errors: bool, text: &[u8]) -> Result<(), Failure> {
        let written = match sink {
            Sink::Terminal => return self.write(errors, text),
            Sink::Nowhere => Ok(()),
            Sink::Files { err, .. } if errors => err.write_all(text),
            Sink::Files { out, .. } => out.write_all(text),
        };
        written.map_err(|error| Failure::new(format!("cannot write results: {error}")))
    }

    /// Output that a node kept cannot be had.
    fn lost(&mut self, hash: &[u8; 32], failure: &Failure) -> Result<(), Failure> {
        self.incomplete = true;
        let hash = hex(hash);
        self.write(true, format!("trine: output {hash} cannot be had: {}\n", failure.what()).as_bytes())
    }

    fn write(&self, errors: bool, text: &[u8]) -> Result<(), Failure> {
        if text.is_empty() {
            return Ok(());
        }
        let written = self.bar.suspend(|| {
            if errors {
                io::stderr().write_all(text)
            } else {
                let mut out = io::stdout().lock();
                out.write_all(text).and_then(|()| out.flush())
            }
        });
        written.map_err(|error| Failure::new(format!("cannot write the output: {error}")))
    }
}

/// An output on its way: files behind it are taken off, lines get tags.
struct Passing {
    splitter: Option<Splitter>,
    tagger: Tagger,
    errors: bool,
}

impl Passing {
    fn pass(&mut self, piece: &[u8]) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        let Some(splitter) = self.splitter.as_mut().filter(|_| !self.errors) else {
            self.tagger.pass(piece, &mut text);
            return Ok(text);
        };
        let mut plain = Vec::new();
        splitter.pass(piece, &mut plain)?;
        self.tagger.pass(&plain, &mut text);
        Ok(text)
    }

    fn finish(mut self) -> io::Result<(Vec<u8>, Option<File>)> {
        let (mut plain, mut text) = (Vec::new(), Vec::new());
        let files = self.splitter.map(|splitter| splitter.finish(&mut plain)).transpose()?.flatten();
        self.tagger.pass(&plain, &mut text);
        Ok((text, files))
    }
}

/// The files of `--results`, as parallel names them.
fn files(filed: &Filed, sequence: u64) -> io::Result<Sink> {
    let beside = |path: &Path, end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let (folder, [out, err, number]) = match filed {
        Filed::Folder(folder) => {
            (Some(folder.as_path()), ["stdout", "stderr", "seq"].map(|name| folder.join(name)))
        }
        Filed::File(path) => (path.parent(), [path.clone(), beside(path, ".err"), beside(path, ".seq")]),
    };
    if let Some(folder) = folder {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(number, sequence.to_string())?;
    Ok(Sink::Files { out: File::create(out)?, err: File::create(err)? })
}

/// How a task ended, in parallel's terms; `None` if it was not to end.
#[must_use]
pub fn ended(outcome: &Outcome) -> Option<Ended> {
    let (exit, signal) = match outcome {
        Outcome::Exited { code } => (i32::from(*code), 0),
        Outcome::Signaled { signal } => (0, *signal),
        Outcome::TimedOut => (-1, 15),
        Outcome::Killed { .. } => (-1, 9),
        // As a shell says that there is no such command, and ssh that there is no host.
        Outcome::NotStarted { .. } | Outcome::NotStaged { .. } => (127, 0),
        Outcome::Lost => (255, 0),
        Outcome::Value => (0, 0),
        Outcome::Raised => (1, 0),
        Outcome::Cancelled => return None,
    };
    Some(Ended { exit, signal })
}

fn row(pending: &Pending, result: &TaskResult, ended: Ended) -> Row {
    Row {
        sequence: pending.sequence,
        host: format!("n{}", result.node.0),
        start_ms: result.started_ms,
        runtime_ms: result.stamps.executed / 1_000,
        sent: pending.sent,
        received: result.stdout.len(),
        ended,
        command: pending.command.clone(),
    }
}

/// What is to be said of an end that is not the command's own doing.
fn trouble(pending: Option<&Pending>, result: &TaskResult) -> Option<String> {
    let what = match &result.outcome {
        Outcome::TimedOut => "was killed because it timed out".to_owned(),
        Outcome::Killed { reason } => format!("was killed: {reason}"),
        Outcome::NotStarted { why } | Outcome::NotStaged { why } => format!("was not started: {why}"),
        Outcome::Lost => "was lost with its nodes, too often to try again".to_owned(),
        _ => return None,
    };
    let sequence = pending.map_or(result.index + 1, |pending| pending.sequence);
    let command = pending.map(|pending| format!(": {}", String::from_utf8_lossy(&pending.command)));
    Some(format!("trine: task {sequence} on n{} {what}{}\n", result.node.0, command.unwrap_or_default()))
}

fn report(pending: Option<&Pending>, result: &TaskResult, mark: Option<&str>) -> serde_json::Value {
    let ended = ended(&result.outcome).unwrap_or(Ended { exit: -1, signal: 0 });
    let marker = mark.map(|mark| parcel::marker(mark).into_bytes());
    let text = |bytes: &[u8]| {
        let files = marker
            .as_ref()
            .and_then(|marker| bytes.windows(marker.len()).position(|window| window == marker.as_slice()));
        String::from_utf8_lossy(&bytes[..files.unwrap_or(bytes.len())]).into_owned()
    };
    let output = |output: &Output| match output {
        Output::Inline(bytes) => serde_json::json!(text(bytes)),
        Output::Kept { hash, bytes, cut } => {
            serde_json::json!({"hash": hex(hash), "bytes": bytes, "cut": cut})
        }
    };
    serde_json::json!({
        "task": pending.map_or(result.index + 1, |pending| pending.sequence),
        "command": pending.map(|pending| text(&pending.command)),
        "node": result.node.0,
        "attempt": result.attempt,
        "exit": ended.exit,
        "signal": ended.signal,
        "outcome": result.outcome,
        "started_ms": result.started_ms,
        "stdout": output(&result.stdout),
        "stderr": output(&result.stderr),
        "stamps": result.stamps,
    })
}

type Shown = Option<(Option<Pending>, TaskResult)>;

/// Results that wait for those before them.
#[derive(Debug, Default)]
struct Held {
    waiting: BTreeMap<u64, Place>,
    bytes: usize,
    file: Option<File>,
}

#[derive(Debug)]
enum Place {
    /// Nothing is to be shown.
    Nothing,
    Memory(Option<Pending>, Box<TaskResult>, usize),
    /// In the file, from here, so long.
    File(Option<Pending>, u64, usize),
}

impl Held {
    fn put(&mut self, index: u64, shown: Shown) -> Result<(), Failure> {
        let place = match shown {
            None => Place::Nothing,
            Some((pending, result)) => {
                let inline = |output: &Output| match output {
                    Output::Inline(bytes) => bytes.len(),
                    Output::Kept { .. } => 0,
                };
                let bytes = inline(&result.stdout) + inline(&result.stderr);
                if self.bytes + bytes > MAX_HELD_BYTES {
                    let (from, length) = self.spill(&result).map_err(|error| cannot_hold(&error))?;
                    Place::File(pending, from, length)
                } else {
                    self.bytes += bytes;
                    Place::Memory(pending, Box::new(result), bytes)
                }
            }
        };
        self.waiting.insert(index, place);
        Ok(())
    }

    /// What was put under this index, if it was.
    fn take(&mut self, index: u64) -> Result<Option<Shown>, Failure> {
        let Some(place) = self.waiting.remove(&index) else { return Ok(None) };
        Ok(Some(match place {
            Place::Nothing => None,
            Place::Memory(pending, result, bytes) => {
                self.bytes -= bytes;
                Some((pending, *result))
            }
            Place::File(pending, from, length) => Some((pending, self.unspill(from, length)?)),
        }))
    }

    /// The first that is to be shown.
    fn first(&mut self) -> Result<Option<(Option<Pending>, TaskResult)>, Failure> {
        while let Some(index) = self.waiting.keys().next().copied() {
            if let Some(Some(shown)) = self.take(index)? {
                return Ok(Some(shown));
            }
        }
        Ok(None)
    }

    fn spill(&mut self, result: &TaskResult) -> io::Result<(u64, usize)> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile()?),
        };
        let mut record = BytesMut::new();
        encode_result(result, &mut record);
        let from = file.seek(SeekFrom::End(0))?;
        file.write_all(&record)?;
        Ok((from, record.len()))
    }

    fn unspill(&mut self, from: u64, length: usize) -> Result<TaskResult, Failure> {
        let mut record = vec![0; length];
        let file = self.file.as_mut().ok_or_else(|| Failure::new("held output is gone"))?;
        file.seek(SeekFrom::Start(from))
            .and_then(|_| file.read_exact(&mut record))
            .map_err(|error| cannot_hold(&error))?;
        let mut decoder = Decoder::default();
        decoder.feed(&record);
        let record = decoder.next_record().map_err(Failure::new)?;
        let record = record.ok_or_else(|| Failure::new("held output is not whole"))?;
        decode_result(record).map_err(Failure::new)
    }
}

fn cannot_hold(error: &io::Error) -> Failure {
    Failure::new(format!("cannot hold output until its turn: {error}"))
        .hint("make room in TMPDIR, or leave out --keep-order")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use trine_compute::Stamps;

    use super::*;

    fn result(index: u64, bytes: usize) -> TaskResult {
        TaskResult {
            index,
            attempt: 1,
            node: NodeNumber(2),
            outcome: Outcome::Exited { code: 3 },
            stdout: Output::Inline(Bytes::from(vec![b'x'; bytes])),
            stderr: Output::default(),
            value: Output::default(),
            started_ms: 1_500,
            stamps: Stamps { executed: 2_500_999, ..Stamps::default() },
        }
    }

    #[test]
    fn what_waits_goes_to_a_file_and_comes_back() {
        let (mut held, bytes) = (Held::default(), 1024 * 1024);
        let count = MAX_HELD_BYTES as u64 / bytes as u64 + 2;
        for index in 0..count {
            held.put(index, Some((None, result(index, bytes)))).expect("held");
        }
        held.put(count + 1, None).expect("held");
        assert!(held.file.is_some(), "the last two do not fit");
        for index in 0..count {
            let shown = held.take(index).expect("read").expect("there");
            assert_eq!(shown, Some((None, result(index, bytes))));
        }
        assert_eq!((held.take(count).expect("read"), held.bytes), (None, 0));
        assert_eq!(held.first().expect("read"), None);
    }

    #[test]
    fn a_line_of_the_joblog_says_where_and_how_long() {
        let pending = Pending { sequence: 7, command: b"exit 3".to_vec(), weight: 1, ..Pending::default() };
        let result = result(6, 2);
        let ended = ended(&result.outcome).expect("ended");
        let line = row(&pending, &result, ended).line();
        assert_eq!(String::from_utf8_lossy(&line), "7\tn2\t1.500\t     2.500\t0\t2\t3\t0\texit 3\n");
    }

    #[test]
    fn ends_that_are_not_the_commands_own_are_told() {
        let told = |outcome| trouble(None, &TaskResult { outcome, ..result(0, 0) });
        assert_eq!(told(Outcome::Exited { code: 1 }), None);
        let line = told(Outcome::Killed { reason: "used 3 GB of 2 GB".to_owned() });
        assert_eq!(line.as_deref(), Some("trine: task 1 on n2 was killed: used 3 GB of 2 GB\n"));
        assert_eq!(ended(&Outcome::TimedOut), Some(Ended { exit: -1, signal: 15 }));
        assert_eq!(ended(&Outcome::Cancelled), None);
    }
}
