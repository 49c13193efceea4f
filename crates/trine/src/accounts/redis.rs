//! The cluster's users behind the seam of the Redis door's ACL command.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use trine_cluster::users::{UserRow, UserSpec};
use trine_cluster::{Cluster, ClusterError};
use trine_database::acl::{self, Account, Accounts, Password};
use trine_database::error::Refusal;
use trine_storage::Workers;
use trine_types::{Entropy, Rights};

/// See the module.
#[derive(Clone)]
pub struct RedisAccounts {
    cluster: Cluster,
    hashing: Workers,
    entropy: Arc<dyn Entropy>,
}

impl RedisAccounts {
    /// The users of `cluster`; passwords are hashed on `hashing`.
    pub fn new(cluster: Cluster, hashing: Workers, entropy: Arc<dyn Entropy>) -> Self {
        Self { cluster, hashing, entropy }
    }

    async fn change(self, who: String, name: String, rules: Vec<Bytes>) -> Result<(), Refusal> {
        let cluster = self.cluster.by(&who);
        let row = cluster.meta().borrow().users.get(&name).cloned();
        let mut spec = row.as_ref().map(|row| row.spec.clone()).unwrap_or_default();
        let mut account = account(&spec);
        let passwords = acl::apply(&mut account, &rules)?;
        (spec.enabled, spec.rights) = (account.on, account.rights);
        for password in passwords {
            self.change_password(&mut spec, password).await?;
        }
        spec.open = account.nopass;
        let put = match &row {
            None => cluster.add_user(&name, spec).await.map(drop),
            Some(row) => cluster.change_user(&name, row, spec, false).await,
        };
        put.map_err(|error| refusal(&error))
    }

    async fn change_password(&self, spec: &mut UserSpec, change: Password) -> Result<(), Refusal> {
        match change {
            Password::Clear => spec.passwords.clear(),
            Password::Add(password) => {
                let hash = super::hash(password, &self.hashing, &*self.entropy).await;
                spec.passwords.push(hash.map_err(|refused| Refusal::Acl(refused.message))?);
            }
            Password::Remove(password) => {
                let kept = std::mem::take(&mut spec.passwords);
                let before = kept.len();
                let without = move || {
                    kept.into_iter().filter(|hash| !hash.is_of(password.as_bytes())).collect::<Vec<_>>()
                };
                let left = self.hashing.run(without).await;
                spec.passwords = left.map_err(|lost| Refusal::TryAgain(lost.to_string()))?;
                if spec.passwords.len() == before {
                    return Err(Refusal::Acl(
                        "Error in ACL SETUSER modifier '<': The password you are trying to remove from the user \
                         does not exist"
                            .to_owned(),
                    ));
                }
            }
        }
        Ok(())
    }
}

fn account(spec: &UserSpec) -> Account {
    Account {
        on: spec.enabled,
        nopass: spec.open,
        passwords: spec.passwords.len(),
        rights: spec.rights.clone(),
    }
}

fn refusal(error: &ClusterError) -> Refusal {
    match error {
        ClusterError::Refused(refused) => Refusal::Acl(refused.to_string()),
        later => Refusal::TryAgain(later.to_string()),
    }
}

/// The user that everybody is as long as there are no users.
fn everybody() -> Account {
    Account { on: true, nopass: true, passwords: 0, rights: Rights::data() }
}

impl Accounts for RedisAccounts {
    fn all(&self) -> Vec<(String, Account)> {
        let meta = self.cluster.meta().borrow().clone();
        let row = |(name, row): (&String, &UserRow)| (name.clone(), account(&row.spec));
        let mut all: Vec<_> = meta.users.iter().map(row).collect();
        if all.is_empty() {
            all.push((trine_cluster::users::DEFAULT_USER.to_owned(), everybody()));
        }
        all
    }

    fn set(&self, who: String, name: String, rules: Vec<Bytes>) -> BoxFuture<'static, Result<(), Refusal>> {
        Box::pin(self.clone().change(who, name, rules))
    }

    fn remove(&self, who: String, names: Vec<String>) -> BoxFuture<'static, Result<usize, Refusal>> {
        let cluster = self.cluster.by(&who);
        Box::pin(async move {
            let mut removed = 0;
            for name in names {
                match cluster.remove_user(&name).await {
                    Ok(()) => removed += 1,
                    Err(ClusterError::Refused(_)) => {}
                    Err(error) => return Err(refusal(&error)),
                }
            }
            Ok(removed)
        })
    }
}
