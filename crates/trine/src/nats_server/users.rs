//! The users that a nats-server configuration names, behind the seam that
//! every front door asks.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use futures::future::BoxFuture;
use tokio::sync::watch;
use trine_front::login::{Account, Credential, Login, LoginRefused, Principal};
use trine_types::{Rights, Rule, nkey};

use super::conf::{ConfError, Entry, Value};
use super::options::Auth;

/// What everybody is called where nobody is named.
const TOKEN_NAME: &str = "token";

/// Subjects that may be published and subscribed to.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Permissions {
    publish: Option<Subjects>,
    subscribe: Option<Subjects>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Subjects {
    allow: Option<Vec<String>>,
    deny: Vec<String>,
}

impl Permissions {
    /// Reads `{publish: …, subscribe: …}`.
    pub(super) fn of(entry: &Entry) -> Result<Self, ConfError> {
        let mut permissions = Self::default();
        for inner in entry.map()? {
            match inner.key.to_ascii_lowercase().as_str() {
                "pub" | "publish" | "import" => permissions.publish = Some(Subjects::of(inner)?),
                "sub" | "subscribe" | "export" => permissions.subscribe = Some(Subjects::of(inner)?),
                _ => return inner.unknown(),
            }
        }
        Ok(permissions)
    }

    fn rights(&self) -> Rights {
        let (mut allow, mut deny) = (Vec::new(), Vec::new());
        let publish = |subject: &str| Rule::Publish(subject.to_owned());
        let subscribe = |text: &str| match text.split_once(' ') {
            Some((filter, queue)) => Rule::Subscribe(filter.to_owned(), Some(queue.trim().to_owned())),
            None => Rule::Subscribe(text.to_owned(), None),
        };
        for (subjects, rule) in
            [(&self.publish, &publish as &dyn Fn(&str) -> Rule), (&self.subscribe, &subscribe)]
        {
            let all = || vec![rule(">")];
            let Some(subjects) = subjects else {
                allow.extend(all());
                continue;
            };
            allow.extend(
                subjects
                    .allow
                    .as_ref()
                    .map_or_else(all, |texts| texts.iter().map(|text| rule(text)).collect()),
            );
            deny.extend(subjects.deny.iter().map(|text| rule(text)));
        }
        Rights::new(allow, deny)
    }
}

impl Subjects {
    /// A subject, several, or `{allow: …, deny: …}`.
    fn of(entry: &Entry) -> Result<Self, ConfError> {
        let Value::Map(entries) = &entry.value else {
            return Ok(Self { allow: Some(texts(entry)?), deny: Vec::new() });
        };
        let mut subjects = Self::default();
        for inner in entries {
            match inner.key.to_ascii_lowercase().as_str() {
                "allow" => subjects.allow = Some(texts(inner)?),
                "deny" => subjects.deny = texts(inner)?,
                _ => return inner.unknown(),
            }
        }
        Ok(subjects)
    }
}

fn texts(entry: &Entry) -> Result<Vec<String>, ConfError> {
    let Value::List(values) = &entry.value else { return Ok(vec![entry.text()?]) };
    values
        .iter()
        .map(|value| match value {
            Value::Text(text) => Ok(text.clone()),
            _ => entry.error("a list of subjects holds texts"),
        })
        .collect()
}

/// Everybody who may come in.
#[derive(Debug)]
pub(super) struct Users {
    // Read by every login, replaced when the file is read again: a task that
    // owned it would make each login wait for a wake-up.
    known: RwLock<Arc<Known>>,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Known {
    by_name: BTreeMap<String, (String, Principal)>,
    by_key: BTreeMap<[u8; 32], Principal>,
    token: Option<String>,
    anonymous: Option<Principal>,
    /// Nobody needs a credential, and any is as good.
    open: bool,
}

impl Known {
    fn of(auth: &Auth) -> Result<Self, String> {
        let mut known = Self { token: auth.token.clone(), ..Self::default() };
        for (number, user) in (1..).zip(&auth.users) {
            let permissions = user.permissions.as_ref().or(auth.default_permissions.as_ref());
            let rights = permissions.map_or_else(Rights::data, Permissions::rights);
            let name = user.nkey.as_deref().unwrap_or(&user.name);
            let principal = Principal {
                name: name.into(),
                rights: Arc::new(rights),
                account: Account::User(number),
                epoch: 0,
            };
            if let Some(key) = &user.nkey {
                let public =
                    nkey::public_key(key).ok_or(format!("{key:?} is not the public nkey of a user"))?;
                known.by_key.insert(public, principal);
            } else {
                known.by_name.insert(user.name.clone(), (user.password.clone(), principal));
            }
        }
        known.open = auth.users.is_empty() && auth.token.is_none();
        known.anonymous = match &auth.no_auth_user {
            Some(name) => {
                let (_, principal) =
                    known.by_name.get(name).ok_or(format!("no_auth_user {name:?} is no user"))?;
                Some(principal.clone())
            }
            None => known.open.then(Principal::open),
        };
        Ok(known)
    }

    fn all(&self) -> impl Iterator<Item = &Principal> {
        self.by_name.values().map(|(_, principal)| principal).chain(self.by_key.values())
    }
}

impl Users {
    /// The users of a configuration.
    pub(super) fn new(auth: &Auth) -> Result<Self, String> {
        Ok(Self { known: RwLock::new(Arc::new(Known::of(auth)?)), changes: watch::Sender::new(0) })
    }

    /// Others from now on; who is none of them is cut off.
    pub(super) fn replace(&self, auth: &Auth) -> Result<(), String> {
        let known = Arc::new(Known::of(auth)?);
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        self.changes.send_modify(|version| *version += 1);
        Ok(())
    }

    fn known(&self) -> Arc<Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Login for Users {
    fn login(
        &self,
        _source: IpAddr,
        credential: Credential,
    ) -> BoxFuture<'_, Result<Principal, LoginRefused>> {
        let known = self.known();
        Box::pin(async move {
            if known.open {
                return Ok(Principal::open());
            }
            match credential {
                Credential::Password { user, password } => {
                    let Some((expected, principal)) = known.by_name.get(&user) else {
                        return Err(LoginRefused::Wrong);
                    };
                    let right = is_password(expected.clone(), password).await;
                    right.then(|| principal.clone()).ok_or(LoginRefused::Wrong)
                }
                Credential::Token(token) => {
                    let expected = known.token.clone().ok_or(LoginRefused::Wrong)?;
                    let right = is_password(expected, token).await;
                    let principal = Principal { name: TOKEN_NAME.into(), ..Principal::open() };
                    right.then_some(principal).ok_or(LoginRefused::Wrong)
                }
                Credential::Nkey { public, nonce, signature } => {
                    let principal = known.by_key.get(&public).ok_or(LoginRefused::Wrong)?;
                    let right = trine_transport::identity::verify(&public, &nonce, &signature);
                    right.then(|| principal.clone()).ok_or(LoginRefused::Wrong)
                }
            }
        })
    }

    fn anonymous(&self, _source: IpAddr) -> Option<Principal> {
        self.known().anonymous.clone()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn renew(&self, principal: &Principal) -> Option<Principal> {
        let known = self.known();
        if principal.account == Account::Default {
            let fits = if &*principal.name == TOKEN_NAME { known.token.is_some() } else { known.open };
            return fits.then(|| principal.clone());
        }
        known.all().find(|other| other.name == principal.name).cloned()
    }
}

/// Whether `given` is the password; `expected` is it, or a bcrypt hash of it.
async fn is_password(expected: String, given: String) -> bool {
    if !expected.starts_with("$2") {
        return is_same(expected.as_bytes(), given.as_bytes());
    }
    // A hash is slow on purpose: other connections go on meanwhile.
    let checked = tokio::task::spawn_blocking(move || bcrypt::verify(given, &expected));
    matches!(checked.await, Ok(Ok(true)))
}

/// Compares without telling by the time how much is right.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |seen, (a, b)| seen | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use trine_front::login::{Credential, Login, LoginRefused};
    use trine_types::rights::Subscribing;

    use super::Users;
    use crate::nats_server::conf;
    use crate::nats_server::options::Options;

    const SOURCE: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn users(text: &str) -> Users {
        let mut options = Options::default();
        options.apply(&conf::parse(text).expect("well formed")).expect("supported");
        Users::new(&options.auth).expect("consistent")
    }

    fn password(user: &str, password: &str) -> Credential {
        Credential::Password { user: user.into(), password: password.into() }
    }

    #[tokio::test]
    async fn plain_and_hashed_passwords() {
        // The hash is nats-server's own example, of the word in the next line.
        let hash = bcrypt::hash("T0pS3cr3t", 4).expect("a hash");
        let users = users(&format!(
            "authorization {{ users = [{{user: a, pass: b}}, {{user: c, pass: \"{hash}\"}}] }}"
        ));
        assert!(users.anonymous(SOURCE).is_none());
        assert!(users.login(SOURCE, password("a", "b")).await.is_ok());
        assert!(users.login(SOURCE, password("c", "T0pS3cr3t")).await.is_ok());
        for (user, given) in [("a", "c"), ("a", ""), ("c", "x"), ("d", "b")] {
            assert_eq!(users.login(SOURCE, password(user, given)).await, Err(LoginRefused::Wrong));
        }
        assert_eq!(users.login(SOURCE, Credential::Token("b".into())).await, Err(LoginRefused::Wrong));
    }

    #[tokio::test]
    async fn without_users_everybody_comes_in() {
        let users = users("");
        assert!(users.anonymous(SOURCE).is_some());
        assert!(users.login(SOURCE, password("any", "thing")).await.is_ok());
    }

    #[tokio::test]
    async fn permissions_become_rights() {
        let users = users(
            "authorization { users = [{user: a, pass: b, permissions: {publish: {deny: \"x.>\"}, \
             subscribe: [\"q.*\", \"r g\"]}}] }",
        );
        let rights = users.login(SOURCE, password("a", "b")).await.expect("right").rights;
        assert!(rights.may_publish(b"y") && !rights.may_publish(b"x.y"));
        assert_eq!(rights.may_subscribe(b"q.1", None), Subscribing::Whole);
        assert_eq!(rights.may_subscribe(b"x", None), Subscribing::Refused);
        assert_eq!(rights.may_subscribe(b"r", None), Subscribing::Refused);
        assert_eq!(rights.may_subscribe(b"r", Some(b"g")), Subscribing::Whole);
    }

    #[tokio::test]
    async fn reading_again_cuts_off_who_is_gone() {
        let users = users("authorization { users = [{user: a, pass: b}, {user: c, pass: d}] }");
        let stays = users.login(SOURCE, password("a", "b")).await.expect("right");
        let goes = users.login(SOURCE, password("c", "d")).await.expect("right");
        let mut options = Options::default();
        options
            .apply(&conf::parse("authorization {user: a, pass: b}").expect("well formed"))
            .expect("supported");
        users.replace(&options.auth).expect("consistent");
        assert!(users.renew(&stays).is_some() && users.renew(&goes).is_none());
    }
}
