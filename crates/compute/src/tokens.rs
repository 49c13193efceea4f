//! What tasks log in with: for each that runs a secret of its own, good at the
//! doors of its node as long as it runs. Nothing of it leaves the node: the
//! doors that a task is told are its node's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use data_encoding::HEXLOWER;
use tokio::sync::watch;
use tokio::time::{Duration, Instant};
use trine_types::Entropy;

/// The variable of a task's environment that holds its own.
pub const TOKEN_VARIABLE: &str = "TRINE_TOKEN";
/// What the text of each begins with.
pub const PREFIX: &str = "trine_task_";
/// Longest that one is good, however long its task runs.
pub const MAX_LIFE: Duration = Duration::from_hours(30 * 24);

struct Live {
    number: u64,
    user: String,
    /// `None`: the interpreter that has it has nothing to do.
    until: Option<Instant>,
    /// Whether somebody has logged in with it.
    used: bool,
}

struct Shared {
    // Doors ask and tasks end on many threads; held for a lookup.
    live: Mutex<(u64, BTreeMap<[u8; 32], Live>)>,
    entropy: Arc<dyn Entropy>,
    ended: watch::Sender<u64>,
}

impl Shared {
    fn live(&self) -> MutexGuard<'_, (u64, BTreeMap<[u8; 32], Live>)> {
        // Whoever panicked held only a table.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tokens of a node's tasks. Cheap to clone.
#[derive(Clone)]
pub struct TaskTokens {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for TaskTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not even their number is anybody's business.
        f.write_str("TaskTokens")
    }
}

/// Whose a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Which token.
    pub number: u64,
    /// Whose task holds it.
    pub user: String,
}

/// A token; void when dropped.
pub struct TaskToken {
    text: String,
    key: [u8; 32],
    shared: Arc<Shared>,
}

impl std::fmt::Debug for TaskToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Secrets stay out of logs.
        f.write_str("TaskToken")
    }
}

fn key(text: &str) -> [u8; 32] {
    // Hashed, so that the time of a lookup tells nothing about secrets.
    *blake3::hash(text.as_bytes()).as_bytes()
}

impl TaskTokens {
    /// None yet.
    #[must_use]
    pub fn new(entropy: Arc<dyn Entropy>) -> Self {
        let ended = watch::Sender::new(0);
        Self { shared: Arc::new(Shared { live: Mutex::default(), entropy, ended }) }
    }

    /// One for a task of `user`, which may run for `life`.
    #[must_use]
    pub fn issue(&self, user: &str, life: Option<Duration>) -> TaskToken {
        let token = self.prepare(user);
        token.wake(life);
        token
    }

    /// One for an interpreter that has nothing to do yet.
    #[must_use]
    pub fn prepare(&self, user: &str) -> TaskToken {
        let mut secret = [0; 24];
        self.shared.entropy.fill(&mut secret);
        let text = format!("{PREFIX}{}", HEXLOWER.encode(&secret));
        let key = key(&text);
        let mut live = self.shared.live();
        live.0 += 1;
        let number = live.0;
        live.1.insert(key, Live { number, user: user.to_owned(), until: None, used: false });
        drop(live);
        TaskToken { text, key, shared: self.shared.clone() }
    }

    /// Whose this is, if it is good.
    #[must_use]
    pub fn find(&self, text: &str) -> Option<Holder> {
        let mut live = self.shared.live();
        let found = live.1.get_mut(&key(text))?;
        found.until.filter(|until| *until > Instant::now())?;
        found.used = true;
        Some(Holder { number: found.number, user: found.user.clone() })
    }

    /// Whether the token of this number is still good.
    #[must_use]
    pub fn is_good(&self, number: u64) -> bool {
        let now = Instant::now();
        let live = self.shared.live();
        live.1.values().any(|live| live.number == number && live.until.is_some_and(|until| until > now))
    }

    /// Changes when one has become void that somebody has logged in with.
    #[must_use]
    pub fn ended(&self) -> watch::Receiver<u64> {
        self.shared.ended.subscribe()
    }
}

impl TaskToken {
    /// What the task is told.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Good from now on, for at most `life`.
    pub fn wake(&self, life: Option<Duration>) {
        let until = Instant::now() + life.unwrap_or(MAX_LIFE).min(MAX_LIFE);
        self.change(|live| live.until = Some(until));
    }

    /// Void until it is woken.
    pub fn rest(&self) {
        self.change(|live| live.until = None);
        self.tell();
    }

    fn change(&self, change: impl FnOnce(&mut Live)) {
        if let Some(live) = self.shared.live().1.get_mut(&self.key) {
            change(live);
        }
    }

    fn tell(&self) {
        let mut used = false;
        self.change(|live| used = std::mem::take(&mut live.used));
        if used {
            self.shared.ended.send_modify(|count| *count += 1);
        }
    }
}

impl Drop for TaskToken {
    fn drop(&mut self) {
        let gone = self.shared.live().1.remove(&self.key);
        if gone.is_some_and(|live| live.used) {
            self.shared.ended.send_modify(|count| *count += 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counting(Mutex<u8>);

    impl Entropy for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            let mut count = self.0.lock().expect("one thread");
            *count += 1;
            bytes.fill(*count);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_good_while_its_task_runs() {
        let tokens = TaskTokens::new(Arc::new(Counting(Mutex::default())));
        let mut ended = tokens.ended();
        let first = tokens.issue("ann", None);
        let second = tokens.issue("bob", Some(Duration::from_secs(5)));
        let ann = tokens.find(first.text()).expect("good");
        assert_eq!(ann.user, "ann");
        assert_eq!(tokens.find("trine_task_00"), None);
        let text = first.text().to_owned();
        drop(first);
        assert_eq!((tokens.find(&text), tokens.is_good(ann.number)), (None, false));
        assert!(ended.has_changed().expect("there"));
        ended.mark_unchanged();

        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!(tokens.find(second.text()), None);
        second.wake(None);
        assert!(tokens.find(second.text()).is_some());
        second.rest();
        assert_eq!(tokens.find(second.text()), None);
        assert!(ended.has_changed().expect("there"));
        ended.mark_unchanged();
        // Nobody has used it since.
        drop(second);
        assert!(!ended.has_changed().expect("there"));
    }
}
