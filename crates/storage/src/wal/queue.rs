//! From the handles to the writer: operations in the order they were called,
//! bounded by what waits in bytes. Callers never wait for the disk here: the
//! lock is held only to push, or to take what is there.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use trine_types::GroupId;

use super::index::{GroupIndex, cost};
use super::{Done, LogEntry, LogPosition, WalError};

/// What a handle asks for.
pub(super) enum Change {
    Append(Vec<LogEntry>),
    Vote(Bytes),
    TruncateAfter(Option<u64>),
    Purge(LogPosition),
    Destroy,
}

impl Change {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Append(entries) => entries.iter().map(|entry| cost(&entry.payload)).sum(),
            Self::Vote(vote) => cost(vote),
            Self::TruncateAfter(_) | Self::Purge(_) | Self::Destroy => cost(&Bytes::new()),
        }
    }
}

/// One group's part that handles and writer share.
pub(super) struct Group {
    pub(super) id: GroupId,
    // Reads are synchronous and come from many tasks while the writer places
    // entries, so no task can own the index. Held for memory work only.
    index: Mutex<GroupIndex>,
}

impl Group {
    pub(super) fn new(id: GroupId) -> Self {
        Self::with_index(id, GroupIndex::new(id))
    }

    pub(super) fn with_index(id: GroupId, index: GroupIndex) -> Self {
        Self { id, index: Mutex::new(index) }
    }

    pub(super) fn index(&self) -> MutexGuard<'_, GroupIndex> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One queued operation.
pub(super) struct Operation {
    pub(super) group: Arc<Group>,
    /// The group's epoch after the operation took effect in memory.
    pub(super) epoch: u32,
    pub(super) change: Change,
    pub(super) done: Done,
}

#[derive(Default)]
struct Waiting {
    operations: VecDeque<Operation>,
    closed: bool,
    failed: Option<WalError>,
}

/// The queue. Lock order: a group's index, then the queue.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// Bytes of what waits, readable without the lock.
    bytes: AtomicUsize,
    limit: usize,
    thread_wakes: Condvar,
    task_wakes: Notify,
    room: Notify,
    failure: watch::Sender<Option<WalError>>,
}

impl Queue {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            waiting: Mutex::default(),
            bytes: AtomicUsize::new(0),
            limit,
            thread_wakes: Condvar::new(),
            task_wakes: Notify::new(),
            room: Notify::new(),
            failure: watch::Sender::new(None),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nothing can be pushed, if so.
    pub(super) fn refusal(&self) -> Option<WalError> {
        let waiting = self.lock();
        waiting.failed.clone().or(waiting.closed.then_some(WalError::Closed))
    }

    /// Queues `operation`; hands it back with the reason if that is not
    /// possible any more.
    pub(super) fn push(&self, operation: Operation) -> Result<(), (Operation, WalError)> {
        let bytes = operation.change.bytes();
        let mut waiting = self.lock();
        if let Some(error) = waiting.failed.clone().or(waiting.closed.then_some(WalError::Closed)) {
            return Err((operation, error));
        }
        waiting.operations.push_back(operation);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        drop(waiting);
        self.wake();
        Ok(())
    }

    fn wake(&self) {
        self.thread_wakes.notify_one();
        self.task_wakes.notify_one();
    }

    /// Takes operations of at most `max_bytes` (at least one if there is
    /// any). `None` once the queue is closed and empty.
    pub(super) fn take(&self, max_bytes: usize) -> Option<Vec<Operation>> {
        self.take_locked(&mut self.lock(), max_bytes)
    }

    fn take_locked(&self, waiting: &mut Waiting, max_bytes: usize) -> Option<Vec<Operation>> {
        let mut taken = Vec::with_capacity(waiting.operations.len().min(1024));
        let mut bytes = 0;
        while let Some(next) = waiting.operations.front() {
            let more = next.change.bytes();
            if !taken.is_empty() && bytes + more > max_bytes {
                break;
            }
            bytes += more;
            taken.extend(waiting.operations.pop_front());
        }
        if bytes > 0 {
            let before = self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            if before >= self.limit && before - bytes < self.limit {
                self.room.notify_waiters();
            }
        }
        (!taken.is_empty() || !waiting.closed).then_some(taken)
    }

    /// As [`Queue::take`], but the calling thread sleeps until there is
    /// something.
    pub(super) fn take_blocking(&self, max_bytes: usize) -> Option<Vec<Operation>> {
        let mut waiting = self.lock();
        while waiting.operations.is_empty() && !waiting.closed {
            waiting = self.thread_wakes.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        self.take_locked(&mut waiting, max_bytes)
    }

    /// As [`Queue::take`], but the calling task waits until there is
    /// something.
    pub(super) async fn take_async(&self, max_bytes: usize) -> Option<Vec<Operation>> {
        loop {
            match self.take(max_bytes) {
                Some(taken) if taken.is_empty() => self.task_wakes.notified().await,
                taken => return taken,
            }
        }
    }

    /// Waits until less than the limit is waiting.
    pub(super) async fn room(&self) {
        while self.bytes.load(Ordering::Relaxed) >= self.limit {
            let room = self.room.notified();
            if self.bytes.load(Ordering::Relaxed) < self.limit || self.refusal().is_some() {
                return;
            }
            room.await;
        }
    }

    /// Nothing is accepted from now on; what waits is still written.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.thread_wakes.notify_all();
        self.task_wakes.notify_one();
        self.room.notify_waiters();
    }

    /// Nothing is accepted or written from now on. Returns what waited.
    pub(super) fn fail(&self, error: &WalError) -> Vec<Operation> {
        let mut waiting = self.lock();
        waiting.failed = Some(error.clone());
        let dropped = waiting.operations.drain(..).collect();
        drop(waiting);
        self.bytes.store(0, Ordering::Relaxed);
        self.failure.send_replace(Some(error.clone()));
        self.room.notify_waiters();
        dropped
    }

    /// Resolves with the error once the log has failed; never if it is
    /// closed in order.
    pub(super) fn failed(&self) -> impl Future<Output = WalError> + Send + 'static {
        let mut failure = self.failure.subscribe();
        async move {
            match failure.wait_for(Option::is_some).await.map(|error| error.clone()) {
                Ok(Some(error)) => error,
                _ => std::future::pending().await,
            }
        }
    }
}
