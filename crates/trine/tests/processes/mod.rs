//! Nodes as real processes on this machine, for tests of what several do.

use std::path::Path;

use trine::local::{self, NodeProcess, NodeSpec};

/// Starts a cluster of `count` nodes with one partition, each with its data
/// below `root`. Replicas may still be on their way.
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
