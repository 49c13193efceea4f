//! Nodes as real processes on this machine, for tests of what several do.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use trine::local::{self, NodeProcess, NodeSpec};

#[allow(dead_code, reason = "not every test that starts clusters has tasks")]
pub(crate) mod lone;

/// Starts a cluster of `count` nodes with one partition, each with its data
/// below `root`. Replicas may still be on their way.
#[allow(dead_code, reason = "some start a single node")]
pub(crate) async fn cluster(root: &Path, count: usize) -> Vec<NodeProcess> {
    let ports = local::free_ports(count * 2).expect("free ports");
    let spec = |(ports, n): (&[u16], u16)| NodeSpec {
        partitions: Some(1),
        program: Some(env!("CARGO_BIN_EXE_trine").into()),
        ..NodeSpec::local(root, n, ports[0], ports[1])
    };
    let mut nodes = Vec::new();
    let specs = ports.chunks_exact(2).zip(1..).map(spec).collect();
    local::start_cluster(specs, &mut nodes).await.expect("the cluster starts");
    nodes
}

/// A folder that tasks may write to, whoever they run as: where nodes run as
/// root, their tasks do not.
#[allow(dead_code, reason = "not every test that starts clusters has tasks")]
pub(crate) fn open_folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary folder");
    open_to_tasks(dir.path());
    dir
}

/// Lets everybody write to it.
#[allow(dead_code, reason = "not every test that starts clusters has tasks")]
pub(crate) fn open_to_tasks(path: &Path) {
    let mode = if path.is_dir() { 0o777 } else { 0o666 };
    std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("ours");
}
