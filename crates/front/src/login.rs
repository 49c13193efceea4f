//! From what a connection shows to who it is: the seam between front doors,
//! which know protocols, and the room that knows users.
//!
//! A door asks [`Login::login`] when a connection shows a credential, and
//! [`Login::anonymous`] when it shows none. It keeps [`Login::changes`] and
//! asks [`Login::renew`] for each of its principals when that changes: rights
//! may be others then, and whoever is no longer welcome is cut off.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::watch;
use trine_types::Rights;

/// Longest user name, password or token that is looked at, in bytes.
pub const MAX_CREDENTIAL_BYTES: usize = 512;

/// The name of whoever shows no credential.
pub const DEFAULT_NAME: &str = "default";

/// What a connection shows.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user's name and password.
    Password {
        /// Who.
        user: String,
        /// The proof.
        password: String,
    },
    /// A token.
    Token(String),
    /// An Ed25519 key and its signature over a nonce that the door has drawn
    /// for this connection.
    Nkey {
        /// The public key.
        public: [u8; 32],
        /// What was to be signed.
        nonce: Vec<u8>,
        /// The signature.
        signature: [u8; 64],
    },
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Secrets stay out of logs.
        match self {
            Self::Password { user, .. } => {
                f.debug_struct("Password").field("user", user).finish_non_exhaustive()
            }
            Self::Token(_) => f.write_str("Token"),
            Self::Nkey { public, .. } => {
                f.debug_struct("Nkey").field("public", public).finish_non_exhaustive()
            }
        }
    }
}

/// Where a principal comes from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Account {
    /// No credential was shown, or none is needed.
    Default,
    /// A user, by the number that it got when it was added.
    User(u64),
    /// A token, likewise.
    Token(u64),
    /// A task of this node, by the number of its token.
    Task(u64),
    /// The owner of the node's data directory.
    Operator,
}

/// Who a connection is, and what it may do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Principal {
    /// The name of the user or token.
    pub name: Arc<str>,
    /// What it may do.
    pub rights: Arc<Rights>,
    /// Where it comes from.
    pub account: Account,
    /// Counts the times that the account's earlier logins were made void.
    pub epoch: u64,
}

impl Principal {
    /// Whoever shows no credential where none is needed: all data, no
    /// administration.
    #[must_use]
    pub fn open() -> Self {
        Self {
            name: Arc::from(DEFAULT_NAME),
            rights: Arc::new(Rights::data()),
            account: Account::Default,
            epoch: 0,
        }
    }
}

/// Why somebody is not let in. Nothing has changed, but that it was counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LoginRefused {
    /// There is no such user or token, it has expired or is switched off, or
    /// the proof is wrong: which of these is not said.
    #[error("wrong user name, password, token or key")]
    Wrong,
    /// Too many failed before. Not looked at; ask again after this time.
    #[error("too many failed logins: try again in {} ms", .0.as_millis())]
    Slowed(Duration),
    /// Too many logins wait already. Not looked at; ask again.
    #[error("too many logins at the same time: try again")]
    Busy,
    /// This node does not know the users yet. Ask again, or another node.
    #[error("this node does not know the cluster's users yet: try again")]
    NotReady,
}

/// Knows the users.
pub trait Login: Send + Sync + 'static {
    /// Who shows this credential, coming from `source`.
    fn login(&self, source: IpAddr, credential: Credential)
    -> BoxFuture<'_, Result<Principal, LoginRefused>>;

    /// Who a connection from `source` is before it shows anything; `None`: it
    /// must show a credential first.
    fn anonymous(&self, source: IpAddr) -> Option<Principal>;

    /// Changes whenever [`Login::renew`] may give another answer.
    fn changes(&self) -> watch::Receiver<u64>;

    /// The principal as it is now; `None`: cut it off.
    fn renew(&self, principal: &Principal) -> Option<Principal>;
}

/// No users: everybody is [`Principal::open`], and no credential is right.
#[derive(Debug)]
pub struct Open {
    changes: watch::Sender<u64>,
}

impl Default for Open {
    fn default() -> Self {
        Self { changes: watch::Sender::new(0) }
    }
}

impl Login for Open {
    fn login(
        &self,
        _source: IpAddr,
        _credential: Credential,
    ) -> BoxFuture<'_, Result<Principal, LoginRefused>> {
        Box::pin(std::future::ready(Err(LoginRefused::Wrong)))
    }

    fn anonymous(&self, _source: IpAddr) -> Option<Principal> {
        Some(Principal::open())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn renew(&self, principal: &Principal) -> Option<Principal> {
        Some(principal.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_printed() {
        let shown = format!(
            "{:?} {:?}",
            Credential::Password { user: "ann".into(), password: "hunter2".into() },
            Credential::Token("tt_secret".into())
        );
        assert!(shown.contains("ann") && !shown.contains("hunter2") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn without_users_everybody_has_the_data_and_nobody_is_admin() {
        let anonymous = Open::default().anonymous(IpAddr::from([127, 0, 0, 1])).expect("open");
        assert!(
            anonymous.rights.all_keys() && anonymous.rights.all_subjects() && !anonymous.rights.is_admin()
        );
    }
}
