//! How `trine db` comes in: with the user or token that it is given, or, on
//! the node's own machine, with the pass that the node's admin socket gives to
//! whoever runs the node.

use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use trine_front::tls::TlsDialler;

use crate::admin::client::AdminClient;
use crate::cli::{DbTarget, LoginArgs};
use crate::commands::logins::unseen;
use crate::failure::Failure;
use crate::resp::{Client, Value};

/// Where the Redis door is if nothing says so.
const DEFAULT_DOOR: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 6379);
/// Name of the user who logs in.
const USER: &str = "TRINE_USER";
/// The user's password.
const PASSWORD: &str = "TRINE_PASSWORD";
/// The token that logs in.
const TOKEN: &str = "TRINE_TOKEN";

/// What is shown to the door.
enum Shown {
    Nothing,
    User { name: String, password: String },
    Token(String),
}

/// What the node on this machine says about its door.
struct Local {
    door: SocketAddr,
    token: String,
}

/// A connection that may be used.
///
/// # Errors
/// No door there, or it does not let in who asks.
pub(super) async fn open(target: &DbTarget) -> Result<Client, Failure> {
    let shown = shown(&target.who)?;
    let local = local(target).await?;
    let address = target.connect.or(local.as_ref().map(|local| local.door)).unwrap_or(DEFAULT_DOOR);
    let mut client = connect(target, address).await?;
    let reply = match &shown {
        Shown::Nothing => {
            if !needs_login(&mut client).await? {
                return Ok(client);
            }
            // The pass goes to no other door than the one that the node itself named.
            let Some(local) = local.filter(|local| local.door == address) else { return Err(stranger()) };
            client.command(&[b"AUTH", local.token.as_bytes()]).await
        }
        Shown::User { name, password } => {
            client.command(&[b"AUTH", name.as_bytes(), password.as_bytes()]).await
        }
        Shown::Token(token) => client.command(&[b"AUTH", token.as_bytes()]).await,
    };
    match reply.map_err(Failure::new)? {
        Value::Simple(_) => Ok(client),
        Value::Error(text) => Err(refused(text)),
        other => Err(Failure::new(format!("the door answered something unexpected: {other:?}"))),
    }
}

async fn connect(target: &DbTarget, address: SocketAddr) -> Result<Client, Failure> {
    let Some(trusted) = &target.ca else {
        return Client::connect(address).await.map_err(|error| {
            Failure::new(error)
                .hint("start a node with `trine start` or `trine dev`, or name one with --connect ADDR")
        });
    };
    let dialler = TlsDialler::open(trusted).map_err(Failure::new)?;
    let client = Client::connect_encrypted(address, &dialler, target.tls_name.as_deref()).await;
    client.map_err(|error| {
        Failure::new(error)
            .hint("does the door speak TLS, and is its certificate, or its authority's, in the file of --ca?")
    })
}

/// What a refusal of the door means for whoever typed the command.
pub(super) fn refused(text: String) -> Failure {
    let kind = text.split(' ').next().unwrap_or_default();
    match kind {
        "NOAUTH" => stranger(),
        "WRONGPASS" => Failure::new("nothing was done: the user, the password or the token is wrong")
            .hint("`trine user ls` and `trine token ls` on a node's machine list who may log in"),
        "NOPERM" => Failure::new(format!("nothing was done: {}", &text[kind.len()..].trim_start()))
            .hint("log in as somebody else with --user NAME, or give more rights with `trine user rotate`"),
        _ => Failure::new(text),
    }
}

fn stranger() -> Failure {
    Failure::new("nothing was done: the cluster has users, and this connection has not logged in").hint(
        "--user NAME (the password is asked for, or in TRINE_PASSWORD), --token-file FILE or TRINE_TOKEN; \
         on the node's own machine, as the user who runs it: --data DIR",
    )
}

/// Whether a connection that has shown nothing gets nothing.
async fn needs_login(client: &mut Client) -> Result<bool, Failure> {
    let reply = client.command(&[b"PING"]).await.map_err(|error| {
        Failure::new(error).hint("a door that speaks TLS needs --ca FILE, with the certificates to trust")
    });
    match reply? {
        Value::Error(text) if text.starts_with("NOAUTH") => Ok(true),
        _ => Ok(false),
    }
}

/// The node on this machine. Not finding one matters only to who named it.
async fn local(target: &DbTarget) -> Result<Option<Local>, Failure> {
    let named = target.node.data.is_some() || target.node.socket.is_some();
    let pass = match AdminClient::find(&target.node) {
        Ok(mut client) => client.pass().await,
        Err(failure) => Err(failure),
    };
    match pass {
        Ok(pass) => {
            let door = pass.doors.redis.parse().map_err(Failure::new)?;
            Ok(Some(Local { door: near(door), token: pass.token }))
        }
        Err(failure) if named => Err(failure),
        Err(_) => Ok(None),
    }
}

/// A door that listens on all addresses is reached over loopback.
fn near(door: SocketAddr) -> SocketAddr {
    let ip = match door.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, door.port())
}

fn shown(who: &LoginArgs) -> Result<Shown, Failure> {
    if let Some(file) = &who.token_file {
        let token = std::fs::read_to_string(file)
            .map_err(|error| Failure::new(format!("{} cannot be read: {error}", file.display())))?;
        return Ok(Shown::Token(token.trim().to_owned()));
    }
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    match (who.user.clone(), set(TOKEN)) {
        (None, Some(token)) => Ok(Shown::Token(token)),
        (user, _) => match user.or_else(|| set(USER)) {
            Some(name) => Ok(Shown::User { name, password: set(PASSWORD).map_or_else(typed, Ok)? }),
            None => Ok(Shown::Nothing),
        },
    }
}

fn typed() -> Result<String, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new("no password was given").hint(format!("put it into {PASSWORD}")).usage());
    }
    unseen("Password: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_what_to_do() {
        for (text, part) in [
            ("NOAUTH Authentication required.", "--user NAME"),
            ("WRONGPASS invalid username-password pair or user is disabled.", "trine user ls"),
            ("NOPERM this user has no permissions to run the 'get' command", "trine user rotate"),
        ] {
            let failure = refused(text.to_owned());
            assert!(failure.what().starts_with("nothing was done: "), "{failure}");
            assert!(failure.advice().is_some_and(|advice| advice.contains(part)), "{failure}");
        }
        assert_eq!(refused("ERR x".to_owned()).to_string(), "ERR x");
    }

    #[test]
    fn a_door_on_all_addresses_is_near() {
        for (door, reached) in
            [("0.0.0.0:7", "127.0.0.1:7"), ("[::]:7", "[::1]:7"), ("10.0.0.1:7", "10.0.0.1:7")]
        {
            assert_eq!(near(door.parse().expect("an address")), reached.parse().expect("an address"));
        }
    }
}
