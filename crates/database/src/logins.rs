//! AUTH, HELLO and ACL: the commands by which a connection becomes somebody,
//! and by which administrators say who that may be.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use trine_front::login::{Account as Source, MAX_CREDENTIAL_BYTES};
use trine_front::{Credential, Login, LoginRefused, Principal};

use crate::access::{CATEGORIES, members};
use crate::acl::{self, Accounts, MAX_ARGUMENTS};
use crate::args::quoted;
use crate::clients::{Client, Clients};
use crate::describe::{exactly, help};
use crate::error::Refusal;
use crate::handle::Begun;
use crate::plan::Reply;
use crate::resp::Value;
use crate::session::{self, ConnectionState};

const WRONG_PASSWORD: Refusal =
    Refusal::Text("WRONGPASS invalid username-password pair or user is disabled.");
const NO_PASSWORD: Refusal = Refusal::Text(
    "ERR AUTH <password> called without any password configured for the default user. \
     Are you sure your configuration is correct?",
);
const HELLO_FIRST: Refusal = Refusal::Text(
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> \
     <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
);

/// The user of AUTH with one argument.
const DEFAULT_USER: &str = "default";
/// What the text of a token begins with.
const TOKEN: &[u8] = b"trine_";

/// Who knows the users, and who changes them.
#[derive(Clone)]
pub(crate) struct Doorkeeper {
    pub(crate) login: Arc<dyn Login>,
    pub(crate) accounts: Arc<dyn Accounts>,
}

fn done(value: Value) -> Begun {
    Begun::Done(Reply::Value(value))
}

impl Doorkeeper {
    /// `AUTH [user] password`, `AUTH [default] token`
    pub(crate) fn auth(&self, state: &ConnectionState, argv: &[Bytes]) -> Result<Begun, Refusal> {
        let source = source(state);
        let credential = match argv {
            [_, token] if token.starts_with(TOKEN) => Credential::Token(text(token)?),
            [_, password] => {
                if self.login.anonymous(source).is_some() {
                    return Err(NO_PASSWORD);
                }
                Credential::Password { user: DEFAULT_USER.to_owned(), password: text(password)? }
            }
            [_, user, password] => named(user, password)?,
            _ => return Err(Refusal::Syntax),
        };
        Ok(self.begin(state, credential, Value::OK))
    }

    /// HELLO, with or without AUTH.
    pub(crate) fn hello(&self, state: &mut ConnectionState, argv: &[Bytes]) -> Result<Begun, Refusal> {
        let hello = session::parse_hello(state, argv)?;
        let Some((user, password)) = hello.login.clone() else {
            if state.principal().is_none() {
                return Err(HELLO_FIRST);
            }
            return Ok(done(session::greet(state, hello)));
        };
        let credential = named(&user, &password)?;
        let greeting = session::greet(state, hello);
        Ok(self.begin(state, credential, greeting))
    }

    /// Logs in, after everything before it, and answers `welcome`.
    fn begin(&self, state: &ConnectionState, credential: Credential, welcome: Value) -> Begun {
        let (login, client, source) = (self.login.clone(), state.client().clone(), source(state));
        // The default user, where it needs no password, takes any.
        if matches!(&credential, Credential::Password { user, .. } if user == DEFAULT_USER)
            && let Some(anyone) = login.anonymous(source)
        {
            client.become_principal(Some(anyone));
            return done(welcome);
        }
        Begun::Later(Box::pin(async move {
            match log_in(&*login, &client, source, credential).await {
                Ok(()) => welcome,
                Err(refused) => refused.into(),
            }
        }))
    }

    /// `ACL WHOAMI|CAT|LIST|USERS|GETUSER|SETUSER|DELUSER|HELP`
    pub(crate) fn acl(&self, state: &ConnectionState, argv: &[Bytes]) -> Result<Begun, Refusal> {
        let sub = String::from_utf8_lossy(&argv[1]).to_ascii_lowercase();
        let who = state.principal().ok_or(Refusal::NotLoggedIn)?;
        match sub.as_str() {
            "whoami" => {
                exactly(argv, 2, "acl|whoami")?;
                return Ok(done(Value::bulk(who.name.to_string())));
            }
            "cat" => return categories(argv).map(done),
            "help" => return Ok(done(help("ACL", HELP))),
            "list" | "users" | "getuser" | "setuser" | "deluser" => {}
            _ => return Err(Refusal::UnknownSubcommand(quoted(&argv[1], 64), "ACL")),
        }
        if !who.rights.is_admin() {
            return Err(Refusal::NotPermitted(format!("acl|{sub}")));
        }
        if argv.len() > MAX_ARGUMENTS {
            return Err(Refusal::TooLarge("ACL takes at most 256 arguments"));
        }
        match sub.as_str() {
            "list" => {
                exactly(argv, 2, "acl|list")?;
                let lines = self.accounts.all();
                let lines = lines.iter().map(|(name, account)| Value::bulk(acl::line(name, account)));
                Ok(done(Value::Array(lines.collect())))
            }
            "users" => {
                exactly(argv, 2, "acl|users")?;
                let names = self.accounts.all().into_iter().map(|(name, _)| Value::bulk(name));
                Ok(done(Value::Array(names.collect())))
            }
            "getuser" => {
                exactly(argv, 3, "acl|getuser")?;
                let mut all = self.accounts.all().into_iter();
                let found = all.find(|(name, _)| name.as_bytes() == &argv[2][..]);
                Ok(done(found.map_or(Value::Nil, |(_, account)| acl::describe(&account))))
            }
            "setuser" => self.set_user(who, argv),
            _ => self.remove_users(who, argv),
        }
    }

    fn set_user(&self, who: &Principal, argv: &[Bytes]) -> Result<Begun, Refusal> {
        let name = argv.get(2).ok_or(Refusal::Arity("acl|setuser".into()))?;
        let setting = self.accounts.set(who.name.to_string(), text(name)?, argv[3..].to_vec());
        Ok(Begun::Later(Box::pin(async move { setting.await.map_or_else(Value::from, |()| Value::OK) })))
    }

    fn remove_users(&self, who: &Principal, argv: &[Bytes]) -> Result<Begun, Refusal> {
        if argv.len() < 3 {
            return Err(Refusal::Arity("acl|deluser".into()));
        }
        let names = argv[2..].iter().map(text).collect::<Result<Vec<_>, _>>()?;
        if names.iter().any(|name| name == DEFAULT_USER) {
            return Err(Refusal::Text("ERR The 'default' user cannot be removed"));
        }
        let removing = self.accounts.remove(who.name.to_string(), names);
        Ok(Begun::Later(Box::pin(async move { removing.await.map_or_else(Value::from, Value::count) })))
    }

    /// RESET: the connection is who it was when it came.
    pub(crate) fn forget(&self, state: &ConnectionState) {
        state.client().become_principal(self.newcomer(source(state)));
    }

    /// Who a connection is that has just come.
    pub(crate) fn newcomer(&self, source: IpAddr) -> Option<Principal> {
        self.login.anonymous(source)
    }

    /// Users or tokens have changed: connections get their new rights, and
    /// whoever is no longer welcome is cut off.
    pub(crate) fn recheck(&self, clients: &Clients) {
        for client in clients.all() {
            let Some(before) = client.principal() else { continue };
            match self.login.renew(&before) {
                Some(now) if now == before => {}
                Some(now) => client.become_principal(Some(now)),
                // It has shown nothing, so there is nothing to revoke: it may
                // log in.
                None if before.account == Source::Default => client.become_principal(None),
                None => client.kill(),
            }
        }
    }
}

async fn log_in(
    login: &dyn Login,
    client: &Client,
    source: IpAddr,
    credential: Credential,
) -> Result<(), Refusal> {
    let principal = match login.login(source, credential).await {
        Ok(principal) => principal,
        Err(refused) => {
            // Whoever it was before, it stays; the connection looks again.
            client.become_principal(client.principal());
            return Err(match refused {
                LoginRefused::Wrong => WRONG_PASSWORD,
                later => Refusal::TryAgain(later.to_string()),
            });
        }
    };
    client.become_principal(Some(principal.clone()));
    // It may have been revoked before it stood in the list of clients.
    if login.renew(&principal).is_none() {
        client.become_principal(None);
        return Err(WRONG_PASSWORD);
    }
    Ok(())
}

fn source(state: &ConnectionState) -> IpAddr {
    let address = state.client().address.parse::<std::net::SocketAddr>();
    // A connection within the process has no address.
    address.map_or(IpAddr::from([127, 0, 0, 1]), |address| address.ip())
}

/// What `user secret` shows. Libraries that are given a secret alone name the
/// default user, in HELLO always.
fn named(user: &Bytes, secret: &Bytes) -> Result<Credential, Refusal> {
    if &user[..] == DEFAULT_USER.as_bytes() && secret.starts_with(TOKEN) {
        return text(secret).map(Credential::Token);
    }
    Ok(Credential::Password { user: text(user)?, password: text(secret)? })
}

fn text(bytes: &Bytes) -> Result<String, Refusal> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= MAX_CREDENTIAL_BYTES);
    text.map(str::to_owned).ok_or(WRONG_PASSWORD)
}

fn categories(argv: &[Bytes]) -> Result<Value, Refusal> {
    let Some(category) = argv.get(2) else {
        return Ok(Value::Array(CATEGORIES.iter().map(|category| Value::text(category)).collect()));
    };
    exactly(argv, 3, "acl|cat")?;
    let lower = String::from_utf8_lossy(category).to_ascii_lowercase();
    if !CATEGORIES.contains(&lower.as_str()) {
        return Err(Refusal::Acl(format!("Unknown category '{}'", quoted(category, 64))));
    }
    Ok(Value::Array(members(&lower).map(Value::text).collect()))
}

const HELP: &[&str] = &[
    "CAT [<category>]",
    "    Answer the categories, or the commands of one.",
    "DELUSER <username> [<username> ...]",
    "    Remove users; their connections are cut.",
    "GETUSER <username>",
    "    Describe a user.",
    "LIST",
    "    Describe the users in the words of SETUSER.",
    "SETUSER <username> [<rule> ...]",
    "    Add or change a user; the right to administer is given by `trine user`.",
    "USERS",
    "    Answer the names of the users.",
    "WHOAMI",
    "    Answer the name of this connection's user.",
];
