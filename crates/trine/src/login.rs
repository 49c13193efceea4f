//! The cluster's users behind the front doors' seam: a credential becomes a
//! principal, guessing is slowed, and whoever was removed is found out.
//!
//! A password is hashed on a thread of its own, one at a time for each of
//! [`AT_ONCE`]; what was right before is remembered (as a keyed hash, in
//! bounded memory), so that a program that connects often pays once.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use data_encoding::HEXLOWER;
use futures::future::BoxFuture;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use trine_cluster::passwords::PasswordHash;
use trine_cluster::tokens::{self, TokenSecret};
use trine_cluster::users::{DEFAULT_USER, UserRow};
use trine_cluster::{Cluster, MetaState};
use trine_compute::tokens::TaskTokens;
use trine_front::login::{Account, MAX_CREDENTIAL_BYTES};
use trine_front::slowdown::{self, Pace, Slowdown};
use trine_front::{Credential, Login, LoginRefused, Principal};
use trine_storage::Workers;
use trine_types::{Clock, Entropy, Rights};

mod follow;
mod remembered;

use remembered::Remembered;

/// Passwords that are hashed at once: each costs 19 MiB and some 20 ms.
const AT_ONCE: usize = 1;
/// Logins that may wait for that; more are refused at once.
const MAX_WAITING: usize = 512;
/// Longest that a login which nobody is known for waits until this node knows
/// all users that there were when it came.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(1);
/// Such logins that ask the leader at the same time; others wait for them.
const ASKING_AT_ONCE: usize = 1;
/// Whose tasks have no user.
const OPERATOR: &str = "operator";
/// What the text of this process's own pass begins with.
const PASS_PREFIX: &str = "trine_node_";

/// What is remembered of earlier logins.
struct Past {
    sources: Slowdown<IpAddr>,
    users: Slowdown<String>,
    right: Remembered,
}

struct Shared {
    cluster: Cluster,
    workers: Workers,
    clock: Arc<dyn Clock>,
    /// Makes what is remembered useless elsewhere.
    key: [u8; 32],
    // Connections of many tasks ask; each holds it for a lookup.
    past: Mutex<Past>,
    hashing: Semaphore,
    waiting: AtomicUsize,
    asking: Semaphore,
    changes: watch::Sender<u64>,
}

/// The users of the cluster. Cheap to clone.
#[derive(Clone)]
pub struct Logins {
    shared: Arc<Shared>,
    open_to_all: bool,
    tasks: Option<TaskTokens>,
}

impl Logins {
    /// The users as `cluster` knows them; passwords are hashed on `workers`.
    pub fn new(cluster: Cluster, workers: Workers, clock: Arc<dyn Clock>, entropy: &dyn Entropy) -> Self {
        let mut key = [0; 32];
        entropy.fill(&mut key);
        let past = Past {
            sources: Slowdown::new(Pace::SOURCE),
            users: Slowdown::new(Pace::USER),
            right: Remembered::default(),
        };
        let shared = Arc::new(Shared {
            cluster,
            workers,
            clock,
            key,
            past: Mutex::new(past),
            hashing: Semaphore::new(AT_ONCE),
            waiting: AtomicUsize::new(0),
            asking: Semaphore::new(ASKING_AT_ONCE),
            changes: watch::Sender::new(0),
        });
        tokio::spawn(follow::follow(Arc::downgrade(&shared), shared.cluster.meta(), shared.clock.clone()));
        Self { shared, open_to_all: false, tasks: None }
    }

    /// The same for a surface that serves anyone while there are no users,
    /// beyond loopback too, if `allowed`.
    #[must_use]
    pub fn open_to_all(&self, allowed: bool) -> Self {
        Self { open_to_all: allowed, ..self.clone() }
    }

    /// The same, and tasks of this node log in with `tokens`.
    #[must_use]
    pub fn with_tasks(self, tokens: Option<TaskTokens>) -> Self {
        if let Some(tokens) = &tokens {
            tokio::spawn(follow::follow_tasks(Arc::downgrade(&self.shared), tokens.ended()));
        }
        Self { tasks: tokens, ..self }
    }

    /// The task that shows this, with the rights of whose it is.
    fn find_task(&self, meta: &MetaState, text: &str) -> Option<Principal> {
        let holder = self.tasks.as_ref()?.find(text)?;
        of_task(meta, &holder.user, holder.number, self.shared.clock.wall_ms())
    }

    /// Whether the cluster has users.
    pub fn has_users(&self) -> bool {
        !self.meta().users.is_empty()
    }

    /// A token of the [`operator`], which this process takes and no other: for
    /// whoever may use the admin socket.
    pub fn pass(&self) -> String {
        let secret = blake3::derive_key("trine 2026 pass of a process", &self.shared.key);
        format!("{PASS_PREFIX}{}", HEXLOWER.encode(&secret))
    }

    fn is_pass(&self, text: &str) -> bool {
        // Hashes compare in constant time.
        text.starts_with(PASS_PREFIX) && blake3::hash(text.as_bytes()) == blake3::hash(self.pass().as_bytes())
    }

    fn meta(&self) -> Arc<MetaState> {
        self.shared.cluster.meta().borrow().clone()
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        self.shared.past.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn check(&self, source: IpAddr, credential: Credential) -> Result<Principal, LoginRefused> {
        if matches!(&credential, Credential::Token(text) if self.is_pass(text)) {
            return Ok(operator());
        }
        let source = slowdown::source(source);
        let meta = self.meta();
        if meta.cluster.is_none() {
            return Err(LoginRefused::NotReady);
        }
        self.may_try(source)?;
        if let Some(found) = self.find(&meta, source, &credential).await? {
            return Ok(found);
        }
        // Counted before anything is waited for: who guesses does not guess on meanwhile.
        let refused = self.failed(source, &credential);
        // Whoever was added a moment ago may not have reached this node.
        let latest = self.latest().await.filter(|now| now.users != meta.users || now.tokens != meta.tokens);
        let Some(latest) = latest else { return Err(refused) };
        let found = self.find(&latest, source, &credential).await?.ok_or(refused)?;
        self.past().sources.forgive(&source);
        Ok(found)
    }

    /// Everything that was acknowledged before this call, if it is to be had.
    async fn latest(&self) -> Option<Arc<MetaState>> {
        let asking = async {
            let _turn = self.shared.asking.acquire().await.ok()?;
            self.shared.cluster.caught_up().await.ok()
        };
        tokio::time::timeout(CATCH_UP_LIMIT, asking).await.ok().flatten()
    }

    /// Whose credential it is, by what is known in `meta`.
    async fn find(
        &self,
        meta: &MetaState,
        source: IpAddr,
        credential: &Credential,
    ) -> Result<Option<Principal>, LoginRefused> {
        Ok(match credential {
            Credential::Password { user, password } => {
                return self.check_password(meta, source, (user, password)).await;
            }
            Credential::Token(text) if text.starts_with(trine_compute::tokens::PREFIX) => {
                self.find_task(meta, text)
            }
            Credential::Token(text) => {
                let secret = TokenSecret::parse(text);
                let now_ms = self.shared.clock.wall_ms();
                secret.and_then(|secret| tokens::find(&meta.tokens, &secret, now_ms)).map(of_token)
            }
            Credential::Nkey { public, nonce, signature } => {
                let user = meta.users.iter().find(|(_, row)| row.spec.nkeys.contains(public));
                let user = user.filter(|(_, row)| row.spec.enabled);
                user.filter(|_| trine_transport::verify(public, nonce, signature)).map(of_user)
            }
        })
    }

    async fn check_password(
        &self,
        meta: &MetaState,
        source: IpAddr,
        (user, password): (&String, &String),
    ) -> Result<Option<Principal>, LoginRefused> {
        if user.len() > MAX_CREDENTIAL_BYTES || password.len() > MAX_CREDENTIAL_BYTES {
            return Ok(None);
        }
        let row = meta.users.get_key_value(user).filter(|(_, row)| row.spec.enabled);
        if let Some(open) = row.filter(|(_, row)| row.spec.open) {
            return Ok(Some(of_user(open)));
        }
        let proof = row.map(|(name, row)| remembered::proof(&self.shared.key, name, row, password));
        if let (Some(row), Some(proof)) = (row, proof)
            && self.past().right.knows(&proof)
        {
            return Ok(Some(of_user(row)));
        }
        let wait = self.past().users.wait(user, Instant::now());
        if !wait.is_zero() {
            return Err(LoginRefused::Slowed(wait));
        }
        let _waiting = Waiting::enter(&self.shared.waiting).ok_or(LoginRefused::Busy)?;
        let _turn = self.shared.hashing.acquire().await.map_err(|_| LoginRefused::NotReady)?;
        // While this one waited, others of the same source may have failed,
        // and the same program may have come in by another connection.
        self.may_try(source)?;
        if let (Some(row), Some(proof)) = (row, proof)
            && self.past().right.knows(&proof)
        {
            return Ok(Some(of_user(row)));
        }
        let hashes =
            row.map_or_else(|| vec![PasswordHash::of_nobody()], |(_, row)| row.spec.passwords.clone());
        let shown = password.clone();
        let is_right = move || hashes.iter().any(|hash| hash.is_of(shown.as_bytes()));
        let is_right = self.shared.workers.run(is_right).await.map_err(|_| LoginRefused::NotReady)?;
        let (Some(row), Some(proof), true) = (row, proof, is_right) else { return Ok(None) };
        let mut past = self.past();
        past.users.forget(user);
        past.right.add(proof);
        Ok(Some(of_user(row)))
    }

    fn may_try(&self, source: IpAddr) -> Result<(), LoginRefused> {
        let wait = self.past().sources.wait(&source, Instant::now());
        if wait.is_zero() { Ok(()) } else { Err(LoginRefused::Slowed(wait)) }
    }

    fn failed(&self, source: IpAddr, credential: &Credential) -> LoginRefused {
        let now = Instant::now();
        let mut past = self.past();
        past.sources.failed(source, now);
        if let Credential::Password { user, .. } = credential
            && user.len() <= MAX_CREDENTIAL_BYTES
        {
            past.users.failed(user.clone(), now);
        }
        LoginRefused::Wrong
    }
}

fn of_user((name, row): (&String, &UserRow)) -> Principal {
    Principal {
        name: Arc::from(name.as_str()),
        rights: Arc::new(row.spec.rights.clone()),
        account: Account::User(row.number),
        epoch: row.epoch,
    }
}

fn of_token((name, row): (&String, &tokens::TokenRow)) -> Principal {
    Principal {
        name: Arc::from(name.as_str()),
        rights: Arc::new(row.rights.clone()),
        account: Account::Token(row.number),
        epoch: row.epoch,
    }
}

/// A task of `user`: what its owner may do, but nothing of administration.
fn of_task(meta: &MetaState, user: &str, number: u64, now_ms: u64) -> Option<Principal> {
    let rights = match (meta.users.get(user), meta.tokens.get(user)) {
        (Some(row), _) => row.spec.enabled.then(|| row.spec.rights.clone())?,
        (None, Some(row)) => row.is_good(now_ms).then(|| row.rights.clone())?,
        (None, None) if user == OPERATOR || meta.users.is_empty() => Rights::data(),
        (None, None) => return None,
    };
    let rights = if rights.is_admin() { Rights::data() } else { rights };
    Some(Principal {
        name: Arc::from(user),
        rights: Arc::new(rights),
        account: Account::Task(number),
        epoch: 0,
    })
}

/// One of the logins that wait.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Option<Self> {
        let waiting = count.fetch_add(1, Ordering::Relaxed);
        let entered = Self(count);
        (waiting < MAX_WAITING).then_some(entered)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Login for Logins {
    fn login(
        &self,
        source: IpAddr,
        credential: Credential,
    ) -> BoxFuture<'_, Result<Principal, LoginRefused>> {
        Box::pin(self.check(source, credential))
    }

    fn anonymous(&self, source: IpAddr) -> Option<Principal> {
        let meta = self.meta();
        if let Some(user) = meta.users.get_key_value(DEFAULT_USER) {
            let open = user.1.spec.enabled && user.1.spec.open;
            return open.then(|| of_user(user));
        }
        let known = meta.cluster.is_some() && meta.users.is_empty();
        let near = trine_front::exposure::is_local(source) || self.open_to_all;
        (known && near).then(Principal::open)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    fn renew(&self, principal: &Principal) -> Option<Principal> {
        let meta = self.meta();
        let renewed = match principal.account {
            Account::Operator => return Some(principal.clone()),
            Account::Default => return meta.users.is_empty().then(|| principal.clone()),
            Account::User(number) => {
                let row = meta.users.get_key_value(&*principal.name);
                row.filter(|(_, row)| row.number == number && row.spec.enabled).map(of_user)
            }
            Account::Task(number) => {
                let good = self.tasks.as_ref().is_some_and(|tasks| tasks.is_good(number));
                let now_ms = self.shared.clock.wall_ms();
                good.then(|| of_task(&meta, &principal.name, number, now_ms)).flatten()
            }
            Account::Token(number) => {
                let row = meta.tokens.get_key_value(&*principal.name);
                let now_ms = self.shared.clock.wall_ms();
                row.filter(|(_, row)| row.number == number && row.is_good(now_ms)).map(of_token)
            }
        };
        renewed.filter(|renewed| renewed.epoch == principal.epoch)
    }
}

/// Whoever may do everything at this node: the owner of its data directory.
#[must_use]
pub fn operator() -> Principal {
    Principal {
        name: Arc::from(OPERATOR),
        rights: Arc::new(Rights::everything()),
        account: Account::Operator,
        epoch: 0,
    }
}
