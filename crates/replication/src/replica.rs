//! What the tasks of one node know about a group's local replica: which rows
//! to read, how far it is, whether it had to stop; and the one keyspace that
//! says which generation of each replica's rows counts.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use tokio::sync::watch;
use trine_storage::{Batch, Keyspace, StateError, StateStore};
use trine_types::GroupId;

use crate::apply::AppliedRow;

/// Marks that a replica remembers until their verdict.
const REMEMBERED_MARKS: usize = 8;

/// The shared side of one local replica. The state machine writes it, readers
/// and the liveness task read it.
pub(crate) struct Replica {
    pub(crate) group: GroupId,
    // Swapped when a snapshot is installed; readers take it synchronously, so
    // a task that owned it would cost every read two wake-ups.
    keyspace: RwLock<Arc<dyn Keyspace>>,
    applied: watch::Sender<AppliedRow>,
    applied_index: watch::Sender<u64>,
    /// The latest mark that was passed, to be reported to the leader.
    mark: watch::Sender<Option<(u64, u64)>>,
    // Written at marks (once a minute) and read at verdicts.
    marks: Mutex<VecDeque<(u64, u64)>>,
    stopped: watch::Sender<Option<String>>,
}

impl Replica {
    pub(crate) fn new(group: GroupId, keyspace: Arc<dyn Keyspace>, applied: AppliedRow) -> Self {
        Self {
            group,
            keyspace: RwLock::new(keyspace),
            applied: watch::Sender::new(applied),
            applied_index: watch::Sender::new(applied.last.map_or(0, |last| last.index)),
            mark: watch::Sender::new(None),
            marks: Mutex::default(),
            stopped: watch::Sender::new(None),
        }
    }

    pub(crate) fn keyspace(&self) -> Arc<dyn Keyspace> {
        self.keyspace.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn switch(&self, keyspace: Arc<dyn Keyspace>) {
        *self.keyspace.write().unwrap_or_else(PoisonError::into_inner) = keyspace;
    }

    pub(crate) fn applied(&self) -> AppliedRow {
        *self.applied.borrow()
    }

    pub(crate) fn watch_applied(&self) -> watch::Receiver<AppliedRow> {
        self.applied.subscribe()
    }

    pub(crate) fn watch_index(&self) -> watch::Receiver<u64> {
        self.applied_index.subscribe()
    }

    pub(crate) fn note_applied(&self, applied: AppliedRow) {
        self.applied.send_replace(applied);
        let index = applied.last.map_or(0, |last| last.index);
        self.applied_index.send_if_modified(|known| std::mem::replace(known, index) != index);
    }

    pub(crate) fn watch_mark(&self) -> watch::Receiver<Option<(u64, u64)>> {
        self.mark.subscribe()
    }

    pub(crate) fn note_mark(&self, index: u64, digest: u64) {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        if marks.len() >= REMEMBERED_MARKS {
            marks.pop_front();
        }
        marks.push_back((index, digest));
        drop(marks);
        self.mark.send_replace(Some((index, digest)));
    }

    /// Compares this replica's digest at `index` with the majority's. `Err`
    /// says why the replica has to stop.
    pub(crate) fn judge(&self, index: u64, majority: Option<u64>) -> Result<(), String> {
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let own = marks.iter().find(|(at, _)| *at == index).map(|(_, digest)| *digest);
        drop(marks);
        let reason = match (own, majority) {
            (_, None) => format!("no majority of the replicas agreed on the state at entry {index}"),
            (Some(own), Some(majority)) if own != majority => format!(
                "the state at entry {index} differs from the majority's ({own:016x}, not {majority:016x})"
            ),
            _ => return Ok(()),
        };
        self.note_stopped(reason.clone());
        Err(reason)
    }

    pub(crate) fn note_stopped(&self, reason: String) {
        tracing::error!(group = %self.group, reason, "a replica stops and keeps its state aside");
        self.stopped.send_replace(Some(reason));
    }

    pub(crate) fn stopped(&self) -> Option<String> {
        self.stopped.borrow().clone()
    }
}

/// The keyspace that names the generation of each replica that counts.
const REPLICAS_KEYSPACE: &str = "replicas";

/// What is known about a replica's rows on this node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pointer {
    /// Which keyspace of the group counts.
    pub(crate) generation: u64,
    /// Whether the replica was found to differ and must not be used.
    pub(crate) aside: bool,
}

/// The replicas' keyspaces. Calls block.
#[derive(Clone)]
pub(crate) struct Replicas {
    store: Arc<dyn StateStore>,
    pointers: Arc<dyn Keyspace>,
    /// How the store failed first.
    failure: watch::Sender<Option<StateError>>,
}

impl Replicas {
    pub(crate) fn open(store: Arc<dyn StateStore>) -> io::Result<Self> {
        let pointers = store.keyspace(REPLICAS_KEYSPACE).map_err(io::Error::other)?;
        Ok(Self { store, pointers, failure: watch::Sender::new(None) })
    }

    /// Hands `result` on, and remembers if the store failed: whoever works on
    /// state calls it with what comes out.
    pub(crate) fn check<T>(&self, result: io::Result<T>) -> io::Result<T> {
        let error = result.as_ref().err().and_then(|error| error.get_ref()?.downcast_ref::<StateError>());
        if let Some(failed @ StateError::Failed(_)) = error {
            self.failure.send_if_modified(|first| {
                let is_first = first.is_none();
                first.get_or_insert_with(|| failed.clone());
                is_first
            });
        }
        result
    }

    /// Resolves once the store has failed.
    pub(crate) fn failed(&self) -> impl Future<Output = StateError> + Send + 'static {
        let mut failure = self.failure.subscribe();
        async move {
            match failure.wait_for(Option::is_some).await.map(|error| error.clone()) {
                Ok(Some(error)) => error,
                // Replication is gone and cannot fail any more.
                _ => std::future::pending().await,
            }
        }
    }

    fn name(group: GroupId, generation: u64) -> String {
        format!("g{}-{generation}", group.0)
    }

    /// The pointer of a group; the default for one that was never here.
    pub(crate) fn pointer(&self, group: GroupId) -> io::Result<Pointer> {
        let Some(row) = self.pointers.get(&group.0.to_be_bytes()).map_err(io::Error::other)? else {
            return Ok(Pointer::default());
        };
        let (generation, aside) = row
            .split_first_chunk::<8>()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a short row in keyspace replicas"))?;
        Ok(Pointer { generation: u64::from_be_bytes(*generation), aside: aside == [1] })
    }

    fn put(&self, group: GroupId, pointer: Pointer) -> io::Result<()> {
        let mut row = pointer.generation.to_be_bytes().to_vec();
        row.push(u8::from(pointer.aside));
        let mut batch = Batch::new();
        batch.put(Bytes::copy_from_slice(&group.0.to_be_bytes()), row);
        self.pointers.commit(batch).map_err(io::Error::other)
    }

    pub(crate) fn point_to(&self, group: GroupId, generation: u64) -> io::Result<()> {
        self.put(group, Pointer { generation, aside: false })
    }

    pub(crate) fn set_aside(&self, group: GroupId, generation: u64) -> io::Result<()> {
        self.put(group, Pointer { generation, aside: true })?;
        self.flush()
    }

    pub(crate) fn keyspace(&self, group: GroupId, generation: u64) -> io::Result<Arc<dyn Keyspace>> {
        self.store.keyspace(&Self::name(group, generation)).map_err(io::Error::other)
    }

    pub(crate) fn delete(&self, group: GroupId, generation: u64) -> io::Result<()> {
        self.store.delete(&Self::name(group, generation)).map_err(io::Error::other)
    }

    /// Deletes every keyspace of the group but the one that counts.
    pub(crate) fn sweep(&self, group: GroupId, keep: Option<u64>) -> io::Result<()> {
        let prefix = format!("g{}-", group.0);
        let kept = keep.map(|generation| Self::name(group, generation));
        for name in self.store.list().map_err(io::Error::other)? {
            if name.starts_with(&prefix) && Some(&name) != kept.as_ref() {
                self.store.delete(&name).map_err(io::Error::other)?;
            }
        }
        Ok(())
    }

    /// Forgets the group wholly.
    pub(crate) fn destroy(&self, group: GroupId) -> io::Result<()> {
        let mut batch = Batch::new();
        batch.delete(Bytes::copy_from_slice(&group.0.to_be_bytes()));
        self.pointers.commit(batch).map_err(io::Error::other)?;
        self.sweep(group, None)?;
        self.flush()
    }

    pub(crate) fn flush(&self) -> io::Result<()> {
        self.store.flush().map_err(io::Error::other)
    }
}
