//! Commands run by the tooling: output captured, a deadline on each, and an
//! error that says which command it was.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Lines that may wait between a command and us.
const LINES_WAITING: usize = 1_024;

/// Why a step of the tooling could not be carried out. Nothing is undone.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error("cannot run `{command}`: {source}")]
    Start { command: String, source: std::io::Error },
    #[error("`{command}` took longer than {limit:?} and was killed; its last lines:\n{tail}")]
    Late { command: String, limit: Duration, tail: String },
    #[error("`{command}` failed ({status}):\n{tail}")]
    Failed { command: String, status: String, tail: String },
    #[error("{what}: {source}")]
    File { what: String, source: std::io::Error },
    #[error("{0}")]
    Unexpected(String),
}

impl Trouble {
    /// For `map_err` on file and socket operations.
    pub(crate) fn at<E: Into<std::io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        move |error| Self::File { what: what.into(), source: error.into() }
    }
}

/// What a command did.
pub(crate) struct Finished {
    /// Exit code zero.
    pub(crate) success: bool,
    status: String,
    command: String,
    /// Both streams, in the order in which lines came.
    pub(crate) output: String,
}

impl Finished {
    /// The last `count` lines.
    pub(crate) fn tail(&self, count: usize) -> String {
        tail(&self.output, count)
    }

    /// The output, or an error when the command failed.
    pub(crate) fn required(self) -> Result<String, Trouble> {
        if self.success {
            return Ok(self.output);
        }
        let tail = self.tail(60);
        Err(Trouble::Failed { command: self.command, status: self.status, tail })
    }
}

fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// A command in the checkout, with nothing on its standard input.
pub(crate) fn command(program: impl AsRef<Path>, arguments: &[&str]) -> Command {
    let mut command = Command::new(program.as_ref());
    command.args(arguments).current_dir(root()).stdin(Stdio::null());
    command
}

/// Cargo, the one that runs us.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut cargo =
        command(std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from), arguments);
    // These are set for us by `cargo run` and would change the fingerprint of what we build.
    for name in ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_PKG_NAME", "CARGO_PKG_VERSION"] {
        cargo.env_remove(name);
    }
    cargo
}

/// Runs to the end or the deadline.
pub(crate) fn run(command: &mut Command, limit: Duration) -> Result<Finished, Trouble> {
    let name = describe(command);
    let start = |source| Trouble::Start { command: name.clone(), source };
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(start)?;
    let deadline = Instant::now() + limit;
    let (sender, lines) = sync_channel(LINES_WAITING);
    follow(child.stdout.take(), &sender);
    follow(child.stderr.take(), &sender);
    drop(sender);
    let mut output = String::new();
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                output.push_str(&line);
                output.push('\n');
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(Trouble::Late { command: name, limit, tail: tail(&output, 60) });
            }
        }
    }
    let status = child.wait().map_err(|source| Trouble::Start { command: name.clone(), source })?;
    Ok(Finished { success: status.success(), status: status.to_string(), command: name, output })
}

fn follow(stream: Option<impl Read + Send + 'static>, sender: &SyncSender<String>) {
    let Some(stream) = stream else { return };
    let sender = sender.clone();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            let text = String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned();
            if sender.send(text).is_err() {
                return;
            }
            line.clear();
        }
    });
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// The checkout that this binary was built from.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the workspace")
}

/// Where cargo builds, and where we keep what we install.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Names a binary that is used instead of building one.
const BINARY: &str = "TRINE_BINARY";

/// Builds the product as users who try it do, and says where it is.
pub(crate) fn product() -> Result<PathBuf, Trouble> {
    built("release")
}

/// The same, built as users who install it do: what is compared with other
/// systems is what would stand in their place.
pub(crate) fn installed() -> Result<PathBuf, Trouble> {
    built("dist")
}

fn built(profile: &str) -> Result<PathBuf, Trouble> {
    if let Some(given) = std::env::var_os(BINARY) {
        eprintln!("nothing is built: {BINARY} names {}", given.display());
        return Ok(given.into());
    }
    let mut cargo = cargo(&["build", "--quiet", "--profile", profile, "--package", "trine"]);
    run(&mut cargo, Duration::from_mins(30))?.required()?;
    Ok(target().join(profile).join("trine"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Trouble, command, run};

    #[test]
    fn output_of_both_streams_is_kept() {
        let finished =
            run(&mut command("sh", &["-c", "echo a; echo b >&2; exit 3"]), Duration::from_mins(1)).unwrap();
        assert!(!finished.success && finished.output.contains('a') && finished.output.contains('b'));
        assert!(matches!(finished.required(), Err(Trouble::Failed { .. })));
    }

    #[test]
    fn a_command_without_end_is_ended() {
        let late = run(&mut command("sleep", &["600"]), Duration::from_millis(50));
        assert!(matches!(late, Err(Trouble::Late { .. })));
    }
}
