//! The command lines of the clients' suites.

use super::{Asked, SignalKind, read};
use crate::nats_server::options::{Listen, Options};

fn of(line: &str) -> Result<Asked, String> {
    read(line.split_whitespace().map(str::to_owned))
}

fn options(line: &str) -> Options {
    let Ok(Asked::Serve(flags)) = of(line) else { panic!("it serves") };
    flags.over(Options::default()).expect("consistent")
}

#[test]
fn as_the_rust_client_starts_it() {
    let options = options("--store_dir /tmp/x -p -1 -l /tmp/log -P /tmp/pid");
    assert_eq!(options.listen.port, 0);
    assert_eq!(options.log.file, Some("/tmp/log".into()));
    assert_eq!(options.log.pid_file, Some("/tmp/pid".into()));
}

#[test]
fn as_the_python_client_starts_it() {
    let options = options("-p 4222 -m 8222 -a 127.0.0.1 --user foo --pass bar -js -sd=/tmp/x -DV");
    assert_eq!(options.listen, Listen { host: "127.0.0.1".into(), port: 4222 });
    assert_eq!(options.http, Some(Listen { host: "127.0.0.1".into(), port: 8222 }));
    assert_eq!(
        (options.auth.users[0].name.as_str(), options.auth.users[0].password.as_str()),
        ("foo", "bar")
    );
    assert!(options.jetstream && options.log.debug && options.log.trace);
}

#[test]
fn a_cluster() {
    let line =
        "--routes nats://127.0.0.1:1,nats://127.0.0.1:2 --cluster nats://127.0.0.1:3 --cluster_name c -n a";
    let cluster = options(line).cluster.expect("a cluster");
    assert_eq!(cluster.routes, ["nats://127.0.0.1:1", "nats://127.0.0.1:2"]);
    assert_eq!(cluster.listen, Some(Listen { host: "127.0.0.1".into(), port: 3 }));
}

#[test]
fn signals_and_what_is_wrong() {
    assert_eq!(of("--signal ldm=12"), Ok(Asked::Signal(SignalKind::LameDuck, 12)));
    assert!(of("--signal nap=12").is_err_and(|error| error.contains("nap")));
    assert!(of("--colour").is_err());
    assert!(of("-p x").is_err_and(|error| error.contains("not a port")));
    assert!(of("serve").is_err_and(|error| error.contains("unrecognized")));
}
