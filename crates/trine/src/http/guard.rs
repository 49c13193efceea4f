//! Who may ask. A request carries a credential (`Authorization: Bearer`);
//! guards say whose it is. The node's own guard is its token file, which the
//! user who runs the node can read and nobody else; the other asks the
//! cluster's users and tokens.
//!
//! A wrong credential costs its sender [`WRONG_PAUSE`], and only
//! [`WRONG_AT_ONCE`] of them are judged at once: whoever guesses gets a few
//! guesses a second in all, and a right credential never waits behind them.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use futures::future::BoxFuture;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use tokio::sync::Semaphore;
use trine_front::login::{Credential, Login, LoginRefused};
use trine_types::{Entropy, Rights, Rule};

/// Name of the token file in a data directory.
pub const TOKEN_NAME: &str = "admin.token";
/// How long the sender of a wrong credential waits for the answer.
pub const WRONG_PAUSE: Duration = Duration::from_millis(500);
/// Senders of wrong credentials who wait at once; more are turned away.
pub const WRONG_AT_ONCE: usize = 4;
/// Longest credential that is looked at, in bytes.
pub const MAX_CREDENTIAL_BYTES: usize = 1024;
/// Random bytes of a token.
const TOKEN_BYTES: usize = 32;

/// Whoever a credential belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// A name for the log of admin actions.
    pub name: String,
    /// What it may do.
    pub rights: Rights,
}

/// Knows credentials. Several guards may stand at one door.
pub trait Guard: Send + Sync + 'static {
    /// Whose credential it is, if this guard knows it and it gives the right
    /// to administer or to use jobs. Takes the same time whatever part of it is
    /// wrong.
    ///
    /// # Errors
    /// [`Denied::Wrong`] if it does not know it; [`Denied::TooMany`] if it
    /// does not look at it now.
    fn admit<'a>(&'a self, credential: &'a str, source: IpAddr) -> BoxFuture<'a, Result<Caller, Denied>>;
}

/// Why a request was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It carries no credential, or not in a form that is understood.
    #[error("this needs a credential")]
    Missing,
    /// Nobody knows the credential.
    #[error("the credential is wrong or gives no right to administer or to use jobs")]
    Wrong,
    /// Too many wrong ones are being judged.
    #[error("too many wrong credentials at once")]
    TooMany,
}

/// The guards of a door.
pub struct Gate {
    guards: Vec<Arc<dyn Guard>>,
    wrong: Semaphore,
}

impl Gate {
    /// Whoever any of `guards` knows is let in.
    #[must_use]
    pub fn new(guards: Vec<Arc<dyn Guard>>) -> Self {
        Self { guards, wrong: Semaphore::new(WRONG_AT_ONCE) }
    }

    /// Who asks.
    ///
    /// # Errors
    /// [`Denied`]; a wrong credential only after [`WRONG_PAUSE`].
    pub async fn admit(&self, headers: &HeaderMap, source: IpAddr) -> Result<Caller, Denied> {
        let credential = bearer(headers).ok_or(Denied::Missing)?;
        if credential.len() <= MAX_CREDENTIAL_BYTES {
            for guard in &self.guards {
                match guard.admit(credential, source).await {
                    Err(Denied::Missing | Denied::Wrong) => {}
                    decided => return decided,
                }
            }
        }
        let Ok(_waiting) = self.wrong.try_acquire() else { return Err(Denied::TooMany) };
        tracing::warn!(%source, "a wrong credential on the admin API");
        tokio::time::sleep(WRONG_PAUSE).await;
        Err(Denied::Wrong)
    }
}

/// The credential of `Authorization: Bearer …`, if there is exactly one.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, None) = (values.next()?.to_str().ok()?, values.next()) else { return None };
    let (scheme, credential) = value.split_once(' ')?;
    let credential = credential.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !credential.is_empty()).then_some(credential)
}

/// The node's token file.
pub struct NodeToken {
    // Hashes compare in constant time, and the token itself is not kept.
    hash: blake3::Hash,
}

impl NodeToken {
    /// Reads the token in `data`, or makes it. One that others could read is
    /// replaced.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(data: &Path, entropy: &dyn Entropy) -> io::Result<Self> {
        let path = token_path(data);
        let token = match read_private(&path)? {
            Some(token) => token,
            None => write_new(&path, entropy)?,
        };
        Ok(Self { hash: blake3::hash(token.as_bytes()) })
    }
}

impl Guard for NodeToken {
    fn admit<'a>(&'a self, credential: &'a str, _source: IpAddr) -> BoxFuture<'a, Result<Caller, Denied>> {
        let known = blake3::hash(credential.as_bytes()) == self.hash;
        let caller = Caller { name: TOKEN_NAME.to_owned(), rights: Rights::everything() };
        Box::pin(std::future::ready(if known { Ok(caller) } else { Err(Denied::Wrong) }))
    }
}

/// The tokens and users (`NAME:PASSWORD`) of the cluster, those that have the
/// right to administer or to use jobs.
pub struct ClusterTokens {
    login: Arc<dyn Login>,
}

impl ClusterTokens {
    /// Asks `login`, which slows whoever guesses.
    pub fn new(login: Arc<dyn Login>) -> Self {
        Self { login }
    }
}

impl Guard for ClusterTokens {
    fn admit<'a>(&'a self, credential: &'a str, source: IpAddr) -> BoxFuture<'a, Result<Caller, Denied>> {
        Box::pin(async move {
            let shown = match credential.split_once(':') {
                Some((user, password)) => {
                    Credential::Password { user: user.to_owned(), password: password.to_owned() }
                }
                None => Credential::Token(credential.to_owned()),
            };
            match self.login.login(source, shown).await {
                Ok(principal) if has_business(&principal.rights) => {
                    Ok(Caller { name: principal.name.to_string(), rights: (*principal.rights).clone() })
                }
                Ok(_) | Err(LoginRefused::Wrong) => Err(Denied::Wrong),
                Err(LoginRefused::Slowed(_) | LoginRefused::Busy | LoginRefused::NotReady) => {
                    Err(Denied::TooMany)
                }
            }
        })
    }
}

/// Whether there is anything that rights like these allow to ask here.
fn has_business(rights: &Rights) -> bool {
    let jobs = |rule: &Rule| matches!(rule, Rule::Everything | Rule::Data | Rule::Jobs(_));
    rights.is_admin() || rights.allowed().any(jobs)
}

/// Where the token of the node in `data` is.
#[must_use]
pub fn token_path(data: &Path) -> PathBuf {
    data.join(TOKEN_NAME)
}

/// The token in the file; `None` if there is none, it is damaged, or others
/// could read it.
fn read_private(path: &Path) -> io::Result<Option<String>> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found?,
    };
    if !found.is_file() {
        let what = format!("{} is no file: remove it", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    if found.permissions().mode() & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "others could read the admin token: a new one is made");
        return Ok(None);
    }
    let token = fs::read_to_string(path)?.trim().to_owned();
    let whole = token.len() == TOKEN_BYTES * 2 && token.bytes().all(|byte| byte.is_ascii_hexdigit());
    Ok(whole.then_some(token))
}

/// Writes a new token beside the old one and then in its place, so that a
/// reader never sees a part of it.
fn write_new(path: &Path, entropy: &dyn Entropy) -> io::Result<String> {
    let mut random = [0; TOKEN_BYTES];
    entropy.fill(&mut random);
    let token = HEXLOWER.encode(&random);
    let fresh = path.with_extension("token.new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(format!("{token}\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    Ok(token)
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use tokio::time::Instant;

    use super::*;
    use crate::seams::OsEntropy;

    const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn with(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(value).expect("visible characters"));
        headers
    }

    fn token_in(data: &Path) -> String {
        fs::read_to_string(token_path(data)).expect("made").trim().to_owned()
    }

    #[test]
    fn the_token_is_its_owners_alone_and_stays() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let first = NodeToken::open(dir.path(), &OsEntropy).expect("made");
        let mode = fs::metadata(token_path(dir.path())).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = NodeToken::open(dir.path(), &OsEntropy).expect("read");
        assert_eq!(first.hash, again.hash);

        fs::set_permissions(token_path(dir.path()), fs::Permissions::from_mode(0o644)).expect("ours");
        let known_to_others = token_in(dir.path());
        NodeToken::open(dir.path(), &OsEntropy).expect("made anew");
        assert_ne!(token_in(dir.path()), known_to_others);

        fs::write(token_path(dir.path()), "half").expect("ours");
        NodeToken::open(dir.path(), &OsEntropy).expect("made anew");
        assert_eq!(token_in(dir.path()).len(), TOKEN_BYTES * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_credentials_wait_and_right_ones_do_not() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let token = NodeToken::open(dir.path(), &OsEntropy).expect("made");
        let gate = Gate::new(vec![Arc::new(token)]);
        let begin = Instant::now();
        let (wrong, right) = (with("Bearer wrong"), with(&format!("bearer {}", token_in(dir.path()))));
        let guesses = (0..WRONG_AT_ONCE + 3).map(|_| gate.admit(&wrong, SOURCE));
        let admitted = async {
            let admitted = gate.admit(&right, SOURCE).await;
            (admitted, begin.elapsed())
        };
        let (guesses, (admitted, after)) = tokio::join!(futures::future::join_all(guesses), admitted);
        let node = Caller { name: TOKEN_NAME.to_owned(), rights: Rights::everything() };
        assert_eq!(admitted, Ok(node));
        assert_eq!(after, Duration::ZERO);
        assert_eq!(begin.elapsed().as_millis(), WRONG_PAUSE.as_millis());
        let count = |denied| guesses.iter().filter(|guess| **guess == Err(denied)).count();
        assert_eq!((count(Denied::Wrong), count(Denied::TooMany)), (WRONG_AT_ONCE, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_bearer_credential_is_none() {
        let gate = Gate::new(Vec::new());
        for value in ["", "Bearer", "Bearer ", "Basic YTpi", "token"] {
            assert_eq!(gate.admit(&with(value), SOURCE).await, Err(Denied::Missing), "{value}");
        }
        let mut two = with("Bearer a");
        two.append(AUTHORIZATION, HeaderValue::from_static("Bearer b"));
        assert_eq!(gate.admit(&two, SOURCE).await, Err(Denied::Missing));
        assert_eq!(gate.admit(&HeaderMap::new(), SOURCE).await, Err(Denied::Missing));
        let long = "x".repeat(MAX_CREDENTIAL_BYTES + 1);
        assert_eq!(gate.admit(&with(&format!("Bearer {long}")), SOURCE).await, Err(Denied::Wrong));
    }
}
