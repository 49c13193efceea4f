//! Files of the suites that start a server, and what is refused.

use std::time::Duration;

use super::super::conf;
use super::{HandshakeFirst, Listen, Options};

fn read(text: &str) -> Result<Options, conf::ConfError> {
    let mut options = Options::default();
    options.apply(&conf::parse(text)?)?;
    Ok(options)
}

#[test]
fn a_file_with_tls_and_one_user() {
    let options = read(
        "listen: localhost:4545\ntls { cert_file: a, key_file: b\n ca_file: c, verify: true, \
         handshake_first: 300ms }\nauthorization { user: derek\n password: porkchop\n timeout: 1 }",
    )
    .expect("supported");
    assert_eq!(options.listen, Listen { host: "localhost".into(), port: 4545 });
    let tls = options.tls.expect("TLS");
    assert!(tls.verify && tls.first == HandshakeFirst::Within(Duration::from_millis(300)));
    assert_eq!(options.auth.users[0].name, "derek");
    assert_eq!(options.auth.timeout, Some(Duration::from_secs(1)));
}

#[test]
fn users_with_permissions_and_nkeys() {
    let options = read(
        "authorization { users = [ {user: a, password: b, permissions: {publish: {deny: [x, y.>]}, \
         subscribe: \"q.*\"}}, {nkey: UABC} ] }",
    )
    .expect("supported");
    assert!(options.auth.users[0].permissions.is_some());
    assert_eq!(options.auth.users[1].nkey.as_deref(), Some("UABC"));
}

#[test]
fn limits_and_what_has_no_effect() {
    let options =
        read("max_payload = 128KB\nping_interval: \"2m\"\nmax_conn: -1\njetstream: {strict: true}\nport: -1")
            .expect("supported");
    assert_eq!(options.limits.max_payload, Some(131_072));
    assert_eq!(options.limits.ping_interval, Some(Duration::from_mins(2)));
    assert_eq!((options.limits.max_connections, options.listen.port), (Some(usize::MAX), 0));
    assert!(options.jetstream);
}

#[test]
fn what_is_not_supported_is_named() {
    let of = |text: &str| read(text).expect_err("refused").to_string();
    assert_eq!(of("a: 1"), "line 1: `a` is not supported here; remove it");
    assert_eq!(of("\nport: x"), "line 2: `port` must be a port");
    assert!(of("operator: x").contains("`operator`"));
    assert!(of("websocket { port: 1 }").contains("no_tls"));
    assert!(of("tls { cert_file: a }").contains("key_file"));
    assert!(of("ping_interval: soon").contains("2s"));
}
