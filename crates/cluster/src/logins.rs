//! Changing who may log in, through [`Cluster`]. Secrets are hashed here, at
//! the node that was asked; the log carries hashes only.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::timeout;
use trine_types::{NodeNumber, Rights};

use crate::calls::{Ask, KNOWN_LIMIT, Told};
use crate::command::{Answer, Command, Refusal};
use crate::error::ClusterError;
use crate::handle::Cluster;
use crate::tokens::{NewSecret, TokenSecret};
use crate::users::{Based, UserRow, UserSpec};

/// A token as it is shown once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IssuedToken {
    /// The secret, to be shown to whoever asked for it and then forgotten.
    pub secret: TokenSecret,
    /// State time of its end, if it has one.
    pub not_after_ms: Option<u64>,
}

impl Cluster {
    /// Adds a user, and waits until the other nodes know it: from then on none
    /// of them lets anybody in without a login. The result names those that
    /// did not say so within [`KNOWN_LIMIT`].
    ///
    /// # Errors
    /// [`ClusterError`]; a refusal says what is wrong.
    pub async fn add_user(&self, name: &str, spec: UserSpec) -> Result<Vec<NodeNumber>, ClusterError> {
        self.put_user(name, spec, Based::New, false).await?;
        Ok(self.behind().await)
    }

    /// Which nodes do not know, after [`KNOWN_LIMIT`], what was acknowledged
    /// before this call.
    async fn behind(&self) -> Vec<NodeNumber> {
        let Ok(Ok(meta)) = timeout(KNOWN_LIMIT, self.caught_up()).await else {
            return self.context().meta().nodes.keys().copied().collect();
        };
        let ask = Ask::Known { revision: meta.revision() };
        let others = meta.nodes.values().filter(|node| node.number != self.number());
        let answers = others.map(|node| async {
            let answer = self.context().ask_within(node.id, &ask, KNOWN_LIMIT).await;
            (!matches!(answer, Ok(Told::Yes))).then_some(node.number)
        });
        join_all(answers).await.into_iter().flatten().collect()
    }

    /// Makes the user, as it was seen in `row`, another. With `cut`, its
    /// logins so far become void.
    ///
    /// # Errors
    /// [`ClusterError`]; refused if somebody else changed it first.
    pub async fn change_user(
        &self,
        name: &str,
        row: &UserRow,
        spec: UserSpec,
        cut: bool,
    ) -> Result<(), ClusterError> {
        let based = Based::On { number: row.number, revision: row.revision };
        self.put_user(name, spec, based, cut).await
    }

    async fn put_user(
        &self,
        name: &str,
        spec: UserSpec,
        based: Based,
        cut: bool,
    ) -> Result<(), ClusterError> {
        self.act(Command::PutUser { name: name.to_owned(), spec, based, cut }).await.map(drop)
    }

    /// Removes a user; its connections are cut.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn remove_user(&self, name: &str) -> Result<(), ClusterError> {
        self.act(Command::RemoveUser { name: name.to_owned() }).await.map(drop)
    }

    /// Adds a token with these rights, good for `life` or without end.
    ///
    /// # Errors
    /// [`ClusterError`]; if the outcome is unknown, the secret is lost and the
    /// token should be removed.
    pub async fn add_token(
        &self,
        name: &str,
        rights: Rights,
        life: Option<Duration>,
    ) -> Result<IssuedToken, ClusterError> {
        self.issue(life, |secret| Command::AddToken { name: name.to_owned(), rights, secret }).await
    }

    /// Gives a token another secret; whoever holds the old one is cut off.
    ///
    /// # Errors
    /// As [`Cluster::add_token`].
    pub async fn rotate_token(
        &self,
        name: &str,
        life: Option<Duration>,
    ) -> Result<IssuedToken, ClusterError> {
        self.issue(life, |secret| Command::RotateToken { name: name.to_owned(), secret }).await
    }

    async fn issue(
        &self,
        life: Option<Duration>,
        command: impl FnOnce(NewSecret) -> Command,
    ) -> Result<IssuedToken, ClusterError> {
        let secret = TokenSecret::generate(&*self.context().entropy);
        let life_ms = life.map(|life| u64::try_from(life.as_millis()).unwrap_or(u64::MAX));
        match self.act(command(NewSecret { verifier: secret.verifier(), life_ms })).await? {
            Answer::Token { not_after_ms } => Ok(IssuedToken { secret, not_after_ms }),
            other => Err(Refusal::Bad(format!("meta gave another answer: {other:?}")).into()),
        }
    }

    /// Removes a token; whoever holds it is cut off.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn remove_token(&self, name: &str) -> Result<(), ClusterError> {
        self.act(Command::RemoveToken { name: name.to_owned() }).await.map(drop)
    }
}
