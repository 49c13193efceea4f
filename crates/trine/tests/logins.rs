//! Users and tokens over real processes: who was added a moment ago is let in
//! everywhere, and the command line logs in.

use std::path::Path;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use trine::local::{self, NodeProcess, NodeSpec};
use trine::resp::{Client, Value};

async fn cluster(root: &Path, count: usize) -> Vec<NodeProcess> {
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

/// The program as somebody runs it in `folder` with these variables.
struct Shell<'a> {
    folder: &'a Path,
    variables: &'a [(&'a str, &'a str)],
}

impl Shell<'_> {
    /// Exit code, standard output and standard error.
    async fn run(&self, args: &[&str], input: &str) -> (Option<i32>, String, String) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_trine"))
            .args(args)
            .current_dir(self.folder)
            .envs(self.variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary runs");
        let mut stdin = child.stdin.take().expect("piped");
        // A program that refuses early does not read its input.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = child.wait_with_output().await.expect("it ran");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }
}

#[tokio::test]
async fn who_was_added_a_moment_ago_is_let_in_at_every_node() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let nodes = cluster(dir.path(), 3).await;
    let shell = Shell { folder: dir.path(), variables: &[] };
    let data = nodes[0].spec.data.to_str().expect("text");
    for round in 0..4 {
        let name = format!("token{round}");
        let (_, token, error) = shell.run(&["token", "add", &name, "--data", data], "").await;
        let (user, mut replies) = (format!("user{round}"), Vec::new());
        for node in &nodes {
            let mut client = Client::connect(node.spec.redis).await.expect("the door is open");
            replies.push(client.command(&[b"AUTH", token.trim().as_bytes()]).await.expect("answers"));
        }
        let add = ["user", "add", &user, "--password-stdin", "--data", data];
        let (_, _, more) = shell.run(&add, "secret\n").await;
        for node in &nodes {
            let mut client = Client::connect(node.spec.redis).await.expect("the door is open");
            replies.push(client.command(&[b"AUTH", user.as_bytes(), b"secret"]).await.expect("answers"));
        }
        assert_eq!(replies, vec![Value::Simple("OK".into()); 6], "round {round}: {error}{more}");
    }
    let mut client = Client::connect(nodes[1].spec.redis).await.expect("the door is open");
    let reply = client.command(&[b"AUTH", b"user0", b"wrong"]).await.expect("answers");
    assert!(matches!(&reply, Value::Error(text) if text.starts_with("WRONGPASS")), "{reply:?}");
}
