//! Users and tokens over real processes: who was added a moment ago is let in
//! everywhere, and the command line logs in.

use std::path::Path;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use trine::local::{self, NodeSpec};
use trine::resp::{Client, Value};

use self::processes::cluster;

mod processes;

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

#[tokio::test]
async fn key_commands_log_in() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let nodes = cluster(&dir.path().join("ours"), 2).await;
    let (data, door) = (nodes[1].spec.data.to_str().expect("text"), nodes[1].spec.redis.to_string());
    let nobody = Shell { folder: dir.path(), variables: &[] };
    let (code, _, error) =
        nobody.run(&["user", "add", "ann", "--password-stdin", "--data", data], "pw\n").await;
    assert_eq!(code, Some(0), "{error}");
    let reading = ["--allow", "read:*", "--allow", "command:@read", "--data", data];
    let (_, token, _) = nobody.run(&[&["token", "add", "reader"][..], &reading].concat(), "").await;

    // Whoever runs the node needs nothing else, and no address either.
    let (code, out, error) = nobody.run(&["db", "set", "k", "v", "--data", data], "").await;
    assert_eq!((code, out.as_str()), (Some(0), "OK\n"), "{error}");
    // The pass is shown to the door of that node and to no other.
    let other = nodes[0].spec.redis.to_string();
    for more in [&["--connect", &door][..], &["--connect", &other, "--data", data]] {
        let (code, out, error) = nobody.run(&[&["db", "get", "k"], more].concat(), "").await;
        assert_eq!((code, out.as_str()), (Some(1), ""), "{error}");
        assert!(error.contains("has not logged in") && error.contains("TRINE_TOKEN"), "{error}");
    }

    let get = ["db", "get", "k", "--connect", &door];
    let ann = Shell { variables: &[("TRINE_PASSWORD", "pw")], ..nobody };
    let (_, out, error) = ann.run(&[&get[..], &["--user", "ann", "--timing"]].concat(), "").await;
    assert!(out == "v\n" && error.contains("T_r"), "{error}");
    let all = Shell { variables: &[("TRINE_USER", "ann"), ("TRINE_PASSWORD", "pw")], ..nobody };
    assert_eq!(all.run(&get, "").await.1, "v\n");
    let wrong = Shell { variables: &[("TRINE_USER", "ann"), ("TRINE_PASSWORD", "no")], ..nobody };
    let (code, _, error) = wrong.run(&get, "").await;
    assert!(code == Some(1) && error.contains("is wrong"), "{error}");
    let (code, _, error) = nobody.run(&[&get[..], &["--user", "ann"]].concat(), "").await;
    assert!(code == Some(2) && error.contains("TRINE_PASSWORD"), "{error}");

    let file = dir.path().join("token");
    std::fs::write(&file, &token).expect("written");
    let with = ["--token-file", file.to_str().expect("text")];
    assert_eq!(nobody.run(&[&get[..], &with].concat(), "").await.1, "v\n");
    let bearer = Shell { variables: &[("TRINE_TOKEN", token.trim())], ..nobody };
    assert_eq!(bearer.run(&get, "").await.1, "v\n");
    let (code, _, error) = bearer.run(&["db", "set", "k", "w", "--connect", &door], "").await;
    assert!(code == Some(1) && error.contains("--user NAME") && error.contains("'set'"), "{error}");
}

#[tokio::test]
async fn key_commands_speak_tls() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let ports = local::free_ports(2).expect("free ports");
    let more = vec!["--tls".to_owned(), "redis=auto".to_owned()];
    let spec = NodeSpec {
        partitions: Some(1),
        program: Some(env!("CARGO_BIN_EXE_trine").into()),
        more,
        ..NodeSpec::local(dir.path(), 1, ports[0], ports[1])
    };
    let (data, door) = (spec.data.clone(), spec.redis.to_string());
    let mut nodes = Vec::new();
    local::start_cluster(vec![spec], &mut nodes).await.expect("the node starts");
    let shell = Shell { folder: dir.path(), variables: &[] };
    let trusted = data.join("tls/certificate.pem");
    let tls = ["--connect", &door, "--ca", trusted.to_str().expect("text")];
    let (code, _, error) = shell.run(&[&["db", "set", "k", "v"], &tls[..]].concat(), "").await;
    assert_eq!(code, Some(0), "{error}");
    let (_, out, error) = shell.run(&[&["db", "get", "k"], &tls[..]].concat(), "").await;
    assert_eq!(out, "v\n", "{error}");
    let (code, _, error) = shell.run(&["db", "get", "k", "--connect", &door], "").await;
    assert!(code != Some(0) && error.contains("--ca FILE"), "{error}");
    let wrong = [&["db", "get", "k"], &tls[..], &["--tls-name", "other.example"]].concat();
    let (code, _, error) = shell.run(&wrong, "").await;
    assert!(code != Some(0) && error.contains("certificate"), "{error}");
}

#[tokio::test]
async fn jobs_are_run_over_tls_and_named_resources_are_found() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let ports = local::free_ports(2).expect("free ports");
    let config = dir.path().join("node.toml");
    std::fs::write(&config, "limits.resources = { gpu = 1 }\n").expect("written");
    let more = ["--tls", "admin=auto", "--config", config.to_str().expect("text")];
    let spec = NodeSpec {
        partitions: Some(1),
        program: Some(env!("CARGO_BIN_EXE_trine").into()),
        more: more.map(str::to_owned).to_vec(),
        ..NodeSpec::local(dir.path(), 1, ports[0], ports[1])
    };
    let trusted = spec.data.join("tls/certificate.pem");
    let data = spec.data.to_str().expect("text").to_owned();
    let mut nodes = Vec::new();
    local::start_cluster(vec![spec], &mut nodes).await.expect("the node starts");
    let run = ["run", "--data", &data, "--resource", "gpu=1", "--", "echo", ":::", "a"];
    let variables = [("TRINE_CA_FILE", trusted.to_str().expect("text"))];
    let shell = Shell { folder: dir.path(), variables: &variables };
    let (code, out, error) = shell.run(&run, "").await;
    assert_eq!((code, out.as_str()), (Some(0), "a\n"), "{error}");
    let nobody = Shell { folder: dir.path(), variables: &[("TRINE_CA_FILE", "/no/such/file")] };
    let (code, _, error) = nobody.run(&run, "").await;
    assert!(code == Some(2) && error.contains("TRINE_CA_FILE"), "{error}");
}
