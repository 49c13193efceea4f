//! One node with tasks, as the user of the test or as an ordinary one.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use trine::local::{self, NodeProcess, NodeSpec};

use super::{open_folder, open_to_tasks};

/// An ordinary user that every system has.
const NOBODY: u32 = 65_534;

/// One node, with tasks.
pub(crate) struct Alone {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) node: NodeProcess,
}

impl Alone {
    /// A node as the user of this test, or as nobody.
    pub(crate) async fn start(as_nobody: bool) -> Self {
        Self::start_in(open_folder(), as_nobody, "").await
    }

    /// The same in `dir`, after a line of shell in a mount namespace of its own,
    /// with `dir/trine.toml` as its configuration.
    pub(crate) async fn start_after(dir: tempfile::TempDir, line: &str) -> Self {
        let (config, data) = (dir.path().join("trine.toml"), dir.path().display());
        let inner =
            format!("{line}; exec {} \"$@\" --config {}", env!("CARGO_BIN_EXE_trine"), config.display());
        std::fs::write(format!("{data}/inside"), inner).expect("written");
        let outer = format!("#!/bin/sh\nexec unshare --mount sh {data}/inside \"$@\"\n");
        Self::start_in(dir, false, &outer).await
    }

    async fn start_in(dir: tempfile::TempDir, as_nobody: bool, script: &str) -> Self {
        let ports = local::free_ports(2).expect("free ports");
        let mut spec = NodeSpec {
            partitions: Some(1),
            program: Some(env!("CARGO_BIN_EXE_trine").into()),
            ..NodeSpec::local(dir.path(), 1, ports[0], ports[1])
        };
        if as_nobody {
            let text = format!(
                "#!/bin/sh\nexec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups {} \"$@\"\n",
                env!("CARGO_BIN_EXE_trine")
            );
            trine::private::make_private(&spec.data).expect("made");
            chown(&spec.data, Some(NOBODY), Some(NOBODY)).expect("root may");
            spec.program = Some(program(dir.path(), &text));
        } else if !script.is_empty() {
            spec.program = Some(program(dir.path(), script));
        }
        let mut nodes = Vec::new();
        local::start_cluster(vec![spec], &mut nodes).await.expect("the node starts");
        Self { dir, node: nodes.remove(0) }
    }

    /// Each way that can be tried here.
    pub(crate) async fn both() -> Vec<Self> {
        let own = Self::start(false).await;
        println!("confinement: {}", own.confinement());
        if !rustix::process::geteuid().is_root() {
            println!("NOT RUN as another user: only root can start nodes as somebody else");
            return vec![own];
        }
        let fenced = Self::start(true).await;
        println!("confinement: {}", fenced.confinement());
        vec![own, fenced]
    }

    /// What the node has said about it.
    pub(crate) fn confinement(&self) -> String {
        let log = std::fs::read_to_string(self.data().join("trine.log")).expect("its log");
        let line = log.lines().find(|line| line.contains("executing tasks"));
        line.unwrap_or_else(|| panic!("no confinement works here: {log}")).to_owned()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.node.spec.data.clone()
    }

    /// A folder that tasks may write to.
    pub(crate) fn share(&self) -> PathBuf {
        let share = self.dir.path().join("share");
        if std::fs::create_dir(&share).is_ok() {
            open_to_tasks(&share);
        }
        share
    }

    pub(crate) fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trine"));
        command.arg("run").arg("--data").arg(self.data()).args(words);
        command.env("SHELL", "/bin/sh").stdin(Stdio::null()).output().expect("starts")
    }

    /// One task: this script.
    pub(crate) fn one(&self, options: &[&str], script: &str) -> Output {
        // What is appended, the argument, is a comment.
        let script = format!("{script} #");
        let words: Vec<&str> = options.iter().copied().chain([script.as_str(), ":::", "1"]).collect();
        self.run(&words)
    }

    pub(crate) async fn stop(self) {
        local::stop_all(&mut [self.node]).await;
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A script that everybody may execute.
fn program(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("program");
    std::fs::write(&path, text).expect("written");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("ours");
    path
}
