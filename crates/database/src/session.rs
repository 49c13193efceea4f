//! The state of a connection, and the commands that are about it.

use std::sync::Arc;

use bytes::Bytes;

use trine_front::Principal;

use crate::access;
use crate::args::{Options, integer, integer_arg, is, quoted};
use crate::clients::{Client, Clients, Connected, Names};
use crate::codec::Command;
use crate::describe::{exactly, help};
use crate::error::{Outcome, Refusal};
use crate::resp::{Protocol, Value};
use crate::rules::keys::database_number;
use crate::table::{self, Spec, flag};
use crate::transactions::Collected;

/// The version of Redis whose commands and replies these are.
pub const REDIS_VERSION: &str = "7.0.15";

/// Which replies a connection wants (CLIENT REPLY).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Replies {
    /// All.
    #[default]
    On,
    /// None.
    Off,
    /// Not this one nor the next one, then all.
    SkipThisAndNext,
    /// Not this one, then all.
    SkipThis,
}

/// What a connection has chosen since it came.
#[derive(Debug)]
pub struct ConnectionState {
    connected: Connected,
    /// The database that SELECT chose.
    pub db: u8,
    /// The version of the protocol that HELLO chose.
    pub protocol: Protocol,
    /// Which replies it wants.
    pub replies: Replies,
    /// It asked to be closed after the replies.
    pub closing: bool,
    /// What it collects for EXEC.
    pub transaction: Collected,
    /// Who it is.
    principal: Option<Principal>,
    /// It may run every command on every key: nothing is to be checked.
    free: bool,
    /// The protocol to go back to if the login that HELLO began fails.
    protocol_before: Option<Protocol>,
}

impl ConnectionState {
    /// A connection that has just come in.
    pub fn new(connected: Connected, principal: Option<Principal>) -> Self {
        let mut state = Self {
            connected,
            db: 0,
            protocol: Protocol::Two,
            replies: Replies::On,
            closing: false,
            transaction: Collected::default(),
            principal: None,
            free: false,
            protocol_before: None,
        };
        state.client().become_principal(principal);
        state.settle();
        state
    }

    /// Takes notice of a login that has ended and of changed rights.
    pub(crate) fn settle(&mut self) {
        if !self.client().take_renewed() {
            return;
        }
        self.principal = self.client().principal();
        self.free = self
            .principal
            .as_ref()
            .is_some_and(|principal| principal.rights.all_commands() && principal.rights.all_keys());
        if let Some(before) = self.protocol_before.take()
            && self.principal.is_none()
        {
            self.protocol = before;
        }
    }

    /// May this connection run the command on its keys?
    ///
    /// # Errors
    /// As Redis refuses.
    pub(crate) fn may_run(&self, spec: &Spec, argv: &[Bytes]) -> Result<(), Refusal> {
        if self.free {
            return Ok(());
        }
        match &self.principal {
            Some(principal) => access::check(&principal.rights, spec, argv),
            None if spec.has(flag::NO_AUTH) => Ok(()),
            None => Err(Refusal::NotLoggedIn),
        }
    }

    /// May this connection still run every command that it has queued?
    ///
    /// # Errors
    /// It may not; the transaction is gone.
    pub(crate) fn may_execute(&mut self) -> Result<(), Refusal> {
        let may = |command: &Command| self.may_run(table::resolve(&command.argv)?, &command.argv);
        if self.free || self.transaction.commands().iter().all(|command| may(command).is_ok()) {
            return Ok(());
        }
        self.transaction.clear();
        Err(Refusal::RightsChanged)
    }

    /// Who it is.
    pub fn principal(&self) -> Option<&Principal> {
        self.principal.as_ref()
    }

    /// The connection as others see it.
    pub fn client(&self) -> &Arc<Client> {
        &self.connected.client
    }

    /// Whether the reply to the command that was just begun is to be sent.
    pub fn wants_reply(&mut self) -> bool {
        match self.replies {
            Replies::On => true,
            Replies::Off => false,
            // This is the reply to CLIENT REPLY SKIP itself.
            Replies::SkipThisAndNext => {
                self.replies = Replies::SkipThis;
                false
            }
            Replies::SkipThis => {
                self.replies = Replies::On;
                false
            }
        }
    }

    fn reset(&mut self) {
        self.db = 0;
        self.protocol = Protocol::Two;
        self.replies = Replies::On;
        self.transaction.clear();
        self.client().rename(|names| names.name = Bytes::new());
    }
}

/// Runs a command that concerns the connection alone.
///
/// # Errors
/// As Redis refuses.
pub fn run(
    state: &mut ConnectionState,
    clients: &Clients,
    now_ms: u64,
    name: &str,
    argv: &[Bytes],
) -> Outcome {
    match name {
        "ping" if argv.len() > 2 => Err(Refusal::Arity("ping".into())),
        "ping" => Ok(argv.get(1).map_or(Value::Simple("PONG".into()), |text| Value::Bulk(text.clone()))),
        "echo" => Ok(Value::Bulk(argv[1].clone())),
        "select" => {
            state.db = database_number(&argv[1])?;
            Ok(Value::OK)
        }
        "client" => client(state, clients, now_ms, argv),
        "reset" => {
            state.reset();
            Ok(Value::Simple("RESET".into()))
        }
        "quit" => {
            state.closing = true;
            Ok(Value::OK)
        }
        "readonly" | "readwrite" => Ok(Value::OK),
        "time" => Ok(Value::Array(vec![
            Value::bulk((now_ms / 1000).to_string()),
            Value::bulk((now_ms % 1000 * 1000).to_string()),
        ])),
        "lolwut" => Ok(Value::bulk(format!("Trine, with the commands of Redis ver. {REDIS_VERSION}\n"))),
        _ => Err(Refusal::Unreadable("it is not about a connection")),
    }
}

/// What HELLO asks for.
pub(crate) struct Hello {
    /// User and password, if it is to log in.
    pub(crate) login: Option<(Bytes, Bytes)>,
    name: Option<Bytes>,
    protocol: Protocol,
}

/// `HELLO [version [AUTH user password] [SETNAME name]]`
///
/// # Errors
/// As Redis refuses.
pub(crate) fn parse_hello(state: &ConnectionState, argv: &[Bytes]) -> Result<Hello, Refusal> {
    let mut protocol = state.protocol;
    let (mut name, mut login) = (None, None);
    if let Some(version) = argv.get(1) {
        protocol = match integer(version) {
            None => return Err(Refusal::Text("ERR Protocol version is not an integer or out of range")),
            Some(2) => Protocol::Two,
            Some(3) => Protocol::Three,
            Some(_) => return Err(Refusal::Text("NOPROTO unsupported protocol version")),
        };
    }
    let mut options = Options::new(argv, 2);
    while let Some(option) = options.next() {
        if is(option, "AUTH") && options.left() >= 2 {
            login = Some((options.value()?.clone(), options.value()?.clone()));
        } else if is(option, "SETNAME") && options.left() >= 1 {
            let value = options.value()?;
            check_name(value)?;
            name = Some(value.clone());
        } else {
            let option = quoted(option, 64);
            return Err(Refusal::Acl(format!("Syntax error in HELLO option '{option}'")));
        }
    }
    Ok(Hello { login, name, protocol })
}

/// Does what HELLO asks for, but for the login.
pub(crate) fn greet(state: &mut ConnectionState, hello: Hello) -> Value {
    let Hello { login, name, protocol } = hello;
    if login.is_some() {
        state.protocol_before = Some(state.protocol);
    }
    state.protocol = protocol;
    if let Some(name) = name {
        state.client().rename(|names| names.name = name);
    }
    let version = if protocol == Protocol::Three { 3 } else { 2 };
    Value::Map(vec![
        (Value::text("server"), Value::text("redis")),
        (Value::text("version"), Value::text(REDIS_VERSION)),
        (Value::text("proto"), Value::Integer(version)),
        (Value::text("id"), Value::unsigned(state.client().id)),
        (Value::text("mode"), Value::text("cluster")),
        (Value::text("role"), Value::text("master")),
        (Value::text("modules"), Value::Array(Vec::new())),
    ])
}

fn check_name(name: &[u8]) -> Result<(), Refusal> {
    if name.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        return Ok(());
    }
    Err(Refusal::Text("ERR Client names cannot contain spaces, newlines or special characters."))
}

const HELP: &[&str] = &[
    "GETNAME",
    "    Answer the name of this connection.",
    "ID",
    "    Answer the id of this connection.",
    "INFO",
    "    Describe this connection.",
    "KILL <ip:port> | KILL (ID <id> | ADDR <ip:port> | LADDR <ip:port> | SKIPME (YES|NO)) ...",
    "    Close connections of this node.",
    "LIST [ID <id> ...]",
    "    Describe the connections of this node.",
    "NO-EVICT (ON|OFF)",
    "    Accepted: connections are never evicted.",
    "NO-TOUCH (ON|OFF)",
    "    Accepted: reads change nothing anyway.",
    "REPLY (ON|OFF|SKIP)",
    "    Choose which replies are sent.",
    "SETINFO (LIB-NAME|LIB-VER) <value>",
    "    Say which library this is.",
    "SETNAME <name>",
    "    Name this connection.",
];

fn client(state: &mut ConnectionState, clients: &Clients, now_ms: u64, argv: &[Bytes]) -> Outcome {
    let upper = argv[1].to_ascii_uppercase();
    match &upper[..] {
        b"ID" => exactly(argv, 2, "client|id").map(|()| Value::unsigned(state.client().id)),
        b"GETNAME" => {
            exactly(argv, 2, "client|getname")?;
            let name = state.client().names().name;
            Ok(if name.is_empty() { Value::Nil } else { Value::Bulk(name) })
        }
        b"SETNAME" => {
            exactly(argv, 3, "client|setname")?;
            check_name(&argv[2])?;
            state.client().rename(|names| names.name = argv[2].clone());
            Ok(Value::OK)
        }
        b"SETINFO" => {
            exactly(argv, 4, "client|setinfo")?;
            Ok(set_info(state.client(), &argv[2], &argv[3]))
        }
        b"INFO" => {
            exactly(argv, 2, "client|info")?;
            Ok(Value::bulk(state.client().describe(now_ms) + "\n"))
        }
        b"LIST" => list(clients, now_ms, argv),
        b"KILL" => kill(state, clients, argv),
        b"REPLY" => {
            exactly(argv, 3, "client|reply")?;
            state.replies = match &argv[2] {
                choice if is(choice, "ON") => Replies::On,
                choice if is(choice, "OFF") => Replies::Off,
                choice if is(choice, "SKIP") => Replies::SkipThisAndNext,
                _ => return Err(Refusal::Syntax),
            };
            Ok(Value::OK)
        }
        b"NO-EVICT" => on_or_off(argv, "client|no-evict"),
        b"NO-TOUCH" => on_or_off(argv, "client|no-touch"),
        b"TRACKING" if argv.get(2).is_some_and(|choice| is(choice, "OFF")) => Ok(Value::OK),
        b"TRACKING" => Err(Refusal::Text("ERR Client tracking is not supported")),
        b"GETREDIR" => exactly(argv, 2, "client|getredir").map(|()| Value::Integer(-1)),
        b"HELP" => Ok(help("CLIENT", HELP)),
        _ => Err(Refusal::UnknownSubcommand(quoted(&argv[1], 64), "CLIENT")),
    }
}

fn on_or_off(argv: &[Bytes], name: &'static str) -> Outcome {
    exactly(argv, 3, name)?;
    if is(&argv[2], "ON") || is(&argv[2], "OFF") { Ok(Value::OK) } else { Err(Refusal::Syntax) }
}

fn set_info(client: &Client, attribute: &[u8], value: &Bytes) -> Value {
    let set: fn(&mut Names, Bytes) = if is(attribute, "LIB-NAME") {
        |names, value| names.library = value
    } else if is(attribute, "LIB-VER") {
        |names, value| names.version = value
    } else {
        return Value::error(format!("ERR Unrecognized option '{}'", quoted(attribute, 64)));
    };
    if check_name(value).is_err() {
        let attribute = quoted(attribute, 64).to_ascii_lowercase();
        return Value::error(format!(
            "ERR {attribute} cannot contain spaces, newlines or special characters."
        ));
    }
    client.rename(|names| set(names, value.clone()));
    Value::OK
}

fn list(clients: &Clients, now_ms: u64, argv: &[Bytes]) -> Outcome {
    let wanted: Option<Vec<i64>> = match argv.get(2) {
        None => None,
        Some(option) if is(option, "ID") && argv.len() > 3 => {
            let ids: Option<Vec<_>> = argv[3..].iter().map(|id| integer(id)).collect();
            Some(ids.ok_or(Refusal::Text("ERR Invalid client ID"))?)
        }
        Some(option) if is(option, "TYPE") && argv.len() == 4 => match &argv[3] {
            kind if is(kind, "NORMAL") => None,
            kind if is_client_type(kind) => Some(Vec::new()),
            kind => return Ok(Value::error(format!("ERR Unknown client type '{}'", quoted(kind, 64)))),
        },
        Some(_) => return Err(Refusal::Syntax),
    };
    let is_wanted =
        |id: u64| wanted.as_ref().is_none_or(|ids| ids.iter().any(|wanted| *wanted == id.cast_signed()));
    let lines = clients.all().into_iter().filter(|client| is_wanted(client.id));
    Ok(Value::bulk(lines.map(|client| client.describe(now_ms) + "\n").collect::<String>()))
}

fn kill(state: &mut ConnectionState, clients: &Clients, argv: &[Bytes]) -> Outcome {
    if let [_, _, address] = argv {
        let found = clients.all().into_iter().find(|client| client.address.as_bytes() == &address[..]);
        let found = found.ok_or(Refusal::Text("ERR No such client"))?;
        close(state, &found);
        return Ok(Value::OK);
    }
    let (mut chosen, mut spare_me, mut filtered) = (clients.all(), true, false);
    let mut options = Options::new(argv, 2);
    while let Some(option) = options.next() {
        let value = options.value()?;
        filtered = true;
        if is(option, "ID") {
            let id = integer_arg(value).ok().filter(|id| *id > 0);
            let id = id.ok_or(Refusal::Text("ERR client-id should be greater than 0"))?;
            chosen.retain(|client| client.id == id.cast_unsigned());
        } else if is(option, "ADDR") {
            chosen.retain(|client| client.address.as_bytes() == &value[..]);
        } else if is(option, "USER") {
            chosen.retain(|_| &value[..] == b"default");
        } else if is(option, "TYPE") && is_client_type(value) {
            chosen.retain(|_| is(value, "NORMAL"));
        } else if is(option, "TYPE") {
            return Ok(Value::error(format!("ERR Unknown client type '{}'", quoted(value, 64))));
        } else if is(option, "LADDR") {
            chosen.retain(|client| client.local.as_bytes() == &value[..]);
        } else if is(option, "SKIPME") && (is(value, "YES") || is(value, "NO")) {
            spare_me = is(value, "YES");
        } else {
            return Err(Refusal::Syntax);
        }
    }
    if !filtered {
        return Err(Refusal::Arity("client|kill".into()));
    }
    chosen.retain(|client| !(spare_me && client.id == state.client().id));
    for client in &chosen {
        close(state, client);
    }
    Ok(Value::count(chosen.len()))
}

fn is_client_type(name: &[u8]) -> bool {
    ["NORMAL", "MASTER", "SLAVE", "REPLICA", "PUBSUB"].into_iter().any(|known| is(name, known))
}

/// Closes a connection; one that closes itself gets its reply first.
fn close(state: &mut ConnectionState, client: &Client) {
    if client.id == state.client().id {
        state.closing = true;
    } else {
        client.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::stories::{shown, split};
    use crate::table;

    struct Desk {
        clients: Arc<Clients>,
        state: ConnectionState,
    }

    impl Desk {
        fn new() -> Self {
            let clients = Arc::new(Clients::default());
            let connected = clients.connect("127.0.0.1:5000".into(), "127.0.0.1:6379".into(), 1000);
            Self { clients, state: ConnectionState::new(connected, Some(Principal::open())) }
        }

        fn ask(&mut self, line: &str) -> String {
            let argv = split(line);
            let outcome = table::resolve(&argv).and_then(|spec| match spec.name {
                "hello" => parse_hello(&self.state, &argv).map(|hello| greet(&mut self.state, hello)),
                name => run(&mut self.state, &self.clients, 5000, name, &argv),
            });
            shown(&crate::error::reply(outcome))
        }
    }

    #[test]
    fn greetings_choose_protocol_and_name() {
        let mut desk = Desk::new();
        assert!(desk.ask("HELLO 3 SETNAME me").contains("Integer(3)"));
        assert_eq!((desk.state.protocol, desk.ask("CLIENT GETNAME").as_str()), (Protocol::Three, "me"));
        assert_eq!(desk.ask("HELLO 4"), "-NOPROTO unsupported protocol version");
        assert_eq!(desk.ask("HELLO abc"), "-ERR Protocol version is not an integer or out of range");
        assert_eq!(desk.ask("HELLO 3 AUTH x"), "-ERR Syntax error in HELLO option 'AUTH'");
        assert_eq!(desk.ask("RESET"), "+RESET");
        assert_eq!((desk.state.protocol, desk.ask("CLIENT GETNAME").as_str()), (Protocol::Two, "(nil)"));
    }

    #[test]
    fn databases_are_chosen_within_bounds() {
        let mut desk = Desk::new();
        assert_eq!(desk.ask("SELECT 15"), "+OK");
        assert_eq!(desk.state.db, 15);
        assert_eq!(desk.ask("SELECT 16"), "-ERR DB index is out of range");
        assert_eq!(desk.ask("SELECT abc"), "-ERR value is not an integer or out of range");
        assert_eq!(desk.state.db, 15);
    }

    #[test]
    fn connections_are_named_listed_and_killed() {
        let mut desk = Desk::new();
        let other = desk.clients.connect("127.0.0.1:5001".into(), "127.0.0.1:6379".into(), 1000);
        assert_eq!(
            desk.ask("CLIENT SETNAME \"a b\""),
            "-ERR Client names cannot contain spaces, newlines or special characters."
        );
        assert_eq!(desk.ask("CLIENT SETNAME me"), "+OK");
        assert_eq!(desk.ask("CLIENT SETINFO LIB-NAME redis-py"), "+OK");
        let list = desk.ask("CLIENT LIST");
        assert_eq!(list.lines().count(), 2);
        assert!(list.contains("id=1 addr=127.0.0.1:5000 laddr=127.0.0.1:6379 fd=-1 name=me age=4"), "{list}");
        assert!(list.contains("lib-name=redis-py"));
        assert_eq!(desk.ask("CLIENT KILL ID 2"), ":1");
        assert!(futures::FutureExt::now_or_never(other.client.killed()).is_some());
        drop(other);
        assert_eq!(desk.ask("CLIENT KILL 127.0.0.1:5001"), "-ERR No such client");
        assert_eq!(desk.ask("CLIENT KILL ID 1"), ":0");
        assert_eq!(desk.ask("CLIENT KILL ID 1 SKIPME no"), ":1");
        assert!(desk.state.closing);
        assert_eq!(desk.ask("CLIENT FOO"), "-ERR unknown subcommand 'FOO'. Try CLIENT HELP.");
    }

    #[test]
    fn replies_can_be_declined() {
        let mut desk = Desk::new();
        desk.ask("CLIENT REPLY SKIP");
        assert!(!desk.state.wants_reply() && !desk.state.wants_reply() && desk.state.wants_reply());
        desk.ask("CLIENT REPLY OFF");
        assert!(!desk.state.wants_reply() && !desk.state.wants_reply());
        assert_eq!(desk.ask("CLIENT REPLY foo"), "-ERR syntax error");
    }
}
