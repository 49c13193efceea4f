//! Whether every node has what an engine needs, before it is brought up: a
//! small task on each asks for it, by the same way as the engine's own.

use std::collections::{BTreeMap, BTreeSet};

use bytes::BytesMut;
use trine_compute::record::encode_task;
use trine_compute::{JobSpec, Outcome, Output, Resources, TaskResult, TaskSpec};
use trine_types::NodeNumber;

use super::kind::Kind;
use crate::admin::protocol::NodeReport;
use crate::failure::Failure;
use crate::run::client::Api;

/// How long a node may take to answer; importing an engine takes seconds.
const LIMIT_MS: u64 = 60_000;

/// Prints the versions of Python and of a package, or says what is missing.
const PROBE: &str = r#"
import importlib.metadata, os, shutil, sys
package = sys.argv[1]
try:
    version = importlib.metadata.version(package)
except importlib.metadata.PackageNotFoundError:
    sys.exit("%s has no package %s: run `%s -m pip install %s` there" % (sys.executable, package, sys.executable, package))
if package == "pyspark" and not (shutil.which("java") or os.environ.get("JAVA_HOME")):
    sys.exit("there is no program java: Spark needs it")
if package == "ray" and not os.path.exists(os.path.join(os.path.dirname(sys.executable), "ray")):
    sys.exit("there is no program ray beside %s" % sys.executable)
if package == "ray" and tuple(map(int, version.split(".")[:2])) < (2, 52):
    sys.exit("ray %s knows no tokens, so that anybody could use it: run `%s -m pip install -U ray` there" % (version, sys.executable))
print("%s %s on Python %d.%d" % (package, version, *sys.version_info[:2]))
"#;

/// Asks every node that can be reached.
///
/// # Errors
/// Which node lacks what, or has another version than others.
pub(super) async fn every_node(
    api: &mut Api,
    kind: Kind,
    python: &str,
    nodes: &[NodeReport],
) -> Result<(), Failure> {
    let asked: Vec<&NodeReport> = nodes.iter().filter(|node| node.reachable).collect();
    let spec = JobSpec {
        name: format!("engine-{kind}-check"),
        timeout_ms: Some(LIMIT_MS),
        backups: false,
        resources: Resources::NONE,
        ..JobSpec::default()
    };
    let job = api.create(&spec).await?;
    let mut records = BytesMut::new();
    for node in &asked {
        let probe = TaskSpec::process([python, "-c", PROBE, kind.package()]);
        encode_task(&TaskSpec { pin: Some(NodeNumber(node.number)), ..probe }, &mut records);
    }
    api.append(job, 0, records.freeze()).await?;
    api.close(job).await?;
    let (mut results, mut found) = (api.results(job), BTreeMap::new());
    while let Some(result) = results.next().await? {
        let node = usize::try_from(result.index).ok().and_then(|index| asked.get(index));
        let name = node.map_or_else(|| result.node.to_string(), |node| node.name.clone());
        found.insert(name.clone(), has(kind, &name, &result)?);
    }
    let versions: BTreeSet<&String> = found.values().collect();
    if versions.len() > 1 {
        let all: Vec<String> = found.iter().map(|(name, version)| format!("{name} has {version}")).collect();
        return Err(Failure::new(format!("the nodes differ: {}", all.join(", ")))
            .hint("install the same versions on all of them"));
    }
    Ok(())
}

/// The versions that a node has.
fn has(kind: Kind, node: &str, result: &TaskResult) -> Result<String, Failure> {
    let text = |output: &Output| match output {
        Output::Inline(bytes) => String::from_utf8_lossy(bytes).trim().to_owned(),
        Output::Kept { .. } => String::new(),
    };
    let why = match &result.outcome {
        Outcome::Exited { code: 0 } => return Ok(text(&result.stdout)),
        Outcome::NotStarted { why } => why.clone(),
        Outcome::TimedOut => format!("no answer within {} s", LIMIT_MS / 1_000),
        Outcome::Exited { .. } => text(&result.stderr),
        other => format!("the check ended with {other:?}"),
    };
    let package = kind.package();
    Err(Failure::new(format!("{kind} cannot run on node {node}: {why}")).hint(format!(
        "make the same environment on every node, as with `python3 -m venv DIR && DIR/bin/pip install \
         {package}`, and name it with --env DIR"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_the_engine_is_named() {
        let result = |outcome, stderr: &'static str| TaskResult {
            index: 0,
            attempt: 1,
            node: NodeNumber(2),
            outcome,
            stdout: Output::Inline("distributed 1 on Python 3.11\n".into()),
            stderr: Output::Inline(stderr.into()),
            value: Output::default(),
            started_ms: 0,
            stamps: trine_compute::Stamps::default(),
        };
        let fine = has(Kind::Dask, "node2", &result(Outcome::Exited { code: 0 }, ""));
        assert_eq!(fine.as_deref(), Ok("distributed 1 on Python 3.11"));
        let missing = Outcome::NotStarted { why: "no program /x/bin/python on this node".into() };
        let missing = has(Kind::Dask, "node2", &result(missing, "")).expect_err("missing");
        assert!(missing.to_string().contains("node node2: no program /x/bin/python"), "{missing}");
        let package = has(Kind::Ray, "node3", &result(Outcome::Exited { code: 1 }, "no package ray"));
        assert!(package.expect_err("missing").to_string().contains("node3: no package ray"));
    }
}
