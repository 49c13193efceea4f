//! The connections of this node, as CLIENT LIST shows them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use trine_front::Principal;

use crate::resp::Protocol;

/// What a connection says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// CLIENT SETNAME.
    pub name: Bytes,
    /// CLIENT SETINFO LIB-NAME.
    pub library: Bytes,
    /// CLIENT SETINFO LIB-VER.
    pub version: Bytes,
}

/// One connection, as others see it.
#[derive(Debug)]
pub struct Client {
    /// Unique on this node since its start.
    pub id: u64,
    /// Where it comes from.
    pub address: String,
    /// Where it arrived.
    pub local: String,
    since_ms: u64,
    last_ms: AtomicU64,
    db: AtomicU8,
    protocol: AtomicU8,
    // Written by the connection's task, read by CLIENT LIST of another: a
    // task that owned it would be a task per connection more.
    names: Mutex<Names>,
    last_command: Mutex<&'static str>,
    killed: AtomicBool,
    kill: Notify,
    // Written by a login or by the task that follows the users, read by the
    // connection's task when the flag says so.
    principal: Mutex<Option<Principal>>,
    renewed: AtomicBool,
}

impl Client {
    /// Notes what it did last and when.
    pub fn note(&self, command: &'static str, db: u8, protocol: Protocol) {
        *self.last_command.lock().unwrap_or_else(PoisonError::into_inner) = command;
        self.db.store(db, Ordering::Relaxed);
        self.protocol.store(if protocol == Protocol::Three { 3 } else { 2 }, Ordering::Relaxed);
    }

    /// Notes that it sent something.
    pub fn heard_at(&self, now_ms: u64) {
        self.last_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Its names.
    pub fn names(&self) -> Names {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes its names.
    pub fn rename(&self, change: impl FnOnce(&mut Names)) {
        change(&mut self.names.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Who it is; `None`: it has not logged in.
    pub fn principal(&self) -> Option<Principal> {
        self.principal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// It is somebody else from its next command on.
    pub fn become_principal(&self, principal: Option<Principal>) {
        *self.principal.lock().unwrap_or_else(PoisonError::into_inner) = principal;
        self.renewed.store(true, Ordering::Release);
    }

    /// Whether it has become somebody else since this was asked last.
    pub(crate) fn take_renewed(&self) -> bool {
        self.renewed.load(Ordering::Relaxed) && self.renewed.swap(false, Ordering::Acquire)
    }

    /// Asks its task to close it.
    pub fn kill(&self) {
        self.killed.store(true, Ordering::Relaxed);
        self.kill.notify_one();
    }

    /// Returns when it is to be closed.
    pub async fn killed(&self) {
        while !self.killed.load(Ordering::Relaxed) {
            self.kill.notified().await;
        }
    }

    /// One line of CLIENT LIST, without the line break.
    pub fn describe(&self, now_ms: u64) -> String {
        let names = self.names();
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let seconds = |since_ms: u64| now_ms.saturating_sub(since_ms) / 1000;
        format!(
            "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags=N db={} sub=0 psub=0 ssub=0 multi=-1 \
             qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r cmd={} \
             user={} redir=-1 resp={} lib-name={} lib-ver={}",
            self.id,
            self.address,
            self.local,
            text(&names.name),
            seconds(self.since_ms),
            seconds(self.last_ms.load(Ordering::Relaxed)),
            self.db.load(Ordering::Relaxed),
            *self.last_command.lock().unwrap_or_else(PoisonError::into_inner),
            self.principal().map_or_else(|| "(none)".to_owned(), |principal| principal.name.to_string()),
            self.protocol.load(Ordering::Relaxed),
            text(&names.library),
            text(&names.version),
        )
    }
}

/// All connections of a node.
#[derive(Debug, Default)]
pub struct Clients {
    next_id: AtomicU64,
    // A connection leaves from the drop of its task, which cannot wait.
    connected: Mutex<BTreeMap<u64, Arc<Client>>>,
}

impl Clients {
    /// A new connection.
    pub fn connect(self: &Arc<Self>, address: String, local: String, now_ms: u64) -> Connected {
        let client = Arc::new(Client {
            id: self.next_id.fetch_add(1, Ordering::Relaxed) + 1,
            address,
            local,
            since_ms: now_ms,
            last_ms: AtomicU64::new(now_ms),
            db: AtomicU8::new(0),
            protocol: AtomicU8::new(2),
            names: Mutex::default(),
            last_command: Mutex::new("NULL"),
            killed: AtomicBool::new(false),
            kill: Notify::new(),
            principal: Mutex::new(None),
            renewed: AtomicBool::new(false),
        });
        let mut connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        connected.insert(client.id, Arc::clone(&client));
        drop(connected);
        Connected { client, clients: Arc::clone(self) }
    }

    /// All of them, by id.
    pub fn all(&self) -> Vec<Arc<Client>> {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// How many there were since the start.
    pub fn ever(&self) -> u64 {
        self.next_id.load(Ordering::Relaxed)
    }
}

/// A connection that is in the list until this is dropped.
#[derive(Debug)]
pub struct Connected {
    /// The connection.
    pub client: Arc<Client>,
    clients: Arc<Clients>,
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut connected = self.clients.connected.lock().unwrap_or_else(PoisonError::into_inner);
        connected.remove(&self.client.id);
    }
}
