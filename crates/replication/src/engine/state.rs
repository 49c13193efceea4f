//! openraft's state machine over a keyspace. The rules are in
//! [`crate::apply`]; here is where they run (on the node's workers, or in place
//! if there is little to do), how
//! entries become runs, and how a snapshot replaces the whole state.
//!
//! A replica's rows are in keyspace `g{group}-{generation}`; the row of the
//! group in keyspace `replicas` says which generation counts. A snapshot is
//! written to the next generation, flushed, and then that one row is switched
//! and flushed: a crash at any point leaves either the old or the new state.

use std::io;
use std::sync::Arc;

use futures::{FutureExt, Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{OptionalSend, RaftSnapshotBuilder};
use trine_storage::{Batch, Keyspace, View, Workers};

use super::snapshot::{SnapshotData, next_chunk};
use super::{Entry, LogId, SnapshotMeta, StoredMembership, Types};
use crate::apply::{AppliedRow, ApplyCore, Event, read_membership};
use crate::replica::{Replica, Replicas};

type Snapshot = openraft::alias::SnapshotOf<Types, SnapshotData>;

/// Entries of one transaction at most; and their bytes, unless a single entry
/// is larger. Bounds memory and how long readers see an old state.
const RUN_ENTRIES: usize = 256;
const RUN_BYTES: usize = 4 << 20;
/// A run of at most so many bytes is applied in place: about a hundred
/// commands, less work than to hand them to a thread and back.
const SHORT_RUN_BYTES: usize = 64 << 10;

/// See the module.
pub(crate) struct ReplicaState {
    /// Away while a worker applies.
    core: Option<ApplyCore>,
    generation: u64,
    replica: Arc<Replica>,
    replicas: Replicas,
    workers: Workers,
}

impl ReplicaState {
    pub(crate) fn new(
        core: ApplyCore,
        generation: u64,
        replica: Arc<Replica>,
        replicas: Replicas,
        workers: Workers,
    ) -> Self {
        Self { core: Some(core), generation, replica, replicas, workers }
    }

    fn core(&self) -> io::Result<&ApplyCore> {
        self.core.as_ref().ok_or_else(|| io::Error::other("an earlier apply did not return"))
    }

    /// Applies the first run of `entries`; returns how many it took.
    async fn run(&mut self, entries: Vec<EntryResponder<Types>>) -> io::Result<Vec<EntryResponder<Types>>> {
        let mut core = self.core.take().ok_or_else(|| io::Error::other("an earlier apply did not return"))?;
        let is_short =
            !core.keyspace().may_wait() && entries.iter().map(cost).sum::<usize>() <= SHORT_RUN_BYTES;
        let (entries, mut responders): (Vec<Entry>, Vec<_>) = entries.into_iter().unzip();
        let job = move || {
            let result = core.apply_run(&entries);
            if result.is_ok()
                && let Some(last) = core.applied.last
            {
                core.machine().applied(core.keyspace(), last.index);
            }
            (core, entries, result)
        };
        let ran = if is_short { self.workers.run_short(job).await } else { self.workers.run(job).await };
        let (core, mut entries, result) = ran.map_err(io::Error::other)?;
        let (results, events) = result?;
        let applied = core.applied;
        self.core = Some(core);
        let left_entries = entries.split_off(results.len());
        let left_responders = responders.split_off(results.len());
        self.replica.note_applied(applied);
        for event in events {
            match event {
                Event::Mark { index, digest } => self.replica.note_mark(index, digest),
                Event::Verdict { index, digest } => {
                    if let Err(reason) = self.replica.judge(index, digest) {
                        self.replicas.set_aside(self.replica.group, self.generation)?;
                        return Err(io::Error::other(reason));
                    }
                }
            }
        }
        for (responder, outcomes) in responders.into_iter().zip(results) {
            if let Some(responder) = responder {
                responder.send(outcomes);
            }
        }
        Ok(left_entries.into_iter().zip(left_responders).collect())
    }

    async fn switch_to(&mut self, generation: u64, meta: &SnapshotMeta) -> io::Result<()> {
        let old = self.generation;
        let machine = self.core()?.machine().clone();
        let (replicas, group) = (self.replicas.clone(), self.replica.group);
        let expected = meta.last_log_id;
        let job = move || {
            let keyspace = replicas.keyspace(group, generation)?;
            let core = ApplyCore::open(machine, keyspace)?;
            if core.applied.last != expected {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the snapshot's rows are not those of its position",
                ));
            }
            replicas.flush()?;
            replicas.point_to(group, generation)?;
            replicas.flush()?;
            replicas.delete(group, old)?;
            if let Some(last) = core.applied.last {
                core.machine().applied(core.keyspace(), last.index);
            }
            Ok(core)
        };
        let core = self.workers.run(job).await.map_err(io::Error::other)??;
        self.generation = generation;
        self.replica.switch(core.keyspace().clone());
        self.replica.note_applied(core.applied);
        self.core = Some(core);
        Ok(())
    }

    async fn copy_rows(&mut self, view: Arc<dyn View>) -> io::Result<u64> {
        let generation = self.generation + 1;
        let (replicas, group) = (self.replicas.clone(), self.replica.group);
        let job = move || {
            let keyspace = replicas.keyspace(group, generation)?;
            keyspace.clear().map_err(io::Error::other)?;
            let mut after: Option<bytes::Bytes> = None;
            loop {
                let (rows, last) = next_chunk(&*view, after.as_deref()).map_err(io::Error::other)?;
                after = rows.last().map(|(key, _)| key.clone());
                let mut batch = Batch::new();
                for (key, value) in rows {
                    batch.put(key, value);
                }
                keyspace.commit(batch).map_err(io::Error::other)?;
                if last {
                    return Ok(generation);
                }
            }
        };
        self.workers.run(job).await.map_err(io::Error::other)?
    }

    async fn apply_all<S>(&mut self, entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin,
    {
        let mut entries = entries.fuse();
        let mut waiting: Vec<EntryResponder<Types>> = Vec::new();
        let mut bytes = 0;
        loop {
            let next = if waiting.is_empty() {
                entries.next().await
            } else {
                entries.next().now_or_never().flatten()
            };
            let full = match next {
                Some(entry) => {
                    let entry = entry?;
                    bytes += cost(&entry);
                    waiting.push(entry);
                    waiting.len() >= RUN_ENTRIES || bytes >= RUN_BYTES
                }
                None if waiting.is_empty() => return Ok(()),
                None => true,
            };
            if full {
                while !waiting.is_empty() {
                    waiting = self.run(waiting).await?;
                }
                bytes = 0;
            }
        }
    }

    async fn install(&mut self, meta: &SnapshotMeta, snapshot: SnapshotData) -> io::Result<()> {
        let generation = match snapshot {
            SnapshotData::Received { generation } => generation,
            SnapshotData::Rows(view) => self.copy_rows(view).await?,
        };
        self.switch_to(generation, meta).await
    }
}

fn cost(entry: &EntryResponder<Types>) -> usize {
    match &entry.0.payload {
        openraft::EntryPayload::Normal(command) => command.0.len(),
        _ => 0,
    }
}

fn snapshot_of(keyspace: &dyn Keyspace) -> io::Result<Snapshot> {
    let view = keyspace.view();
    let meta = SnapshotMeta {
        last_log_id: AppliedRow::read(&*view)?.last,
        last_membership: read_membership(&*view)?,
    };
    Ok(Snapshot { meta, snapshot: SnapshotData::Rows(view) })
}

impl RaftStateMachine<Types> for ReplicaState {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let core = self.core()?;
        Ok((core.applied.last, core.membership.clone()))
    }

    async fn apply<S>(&mut self, entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let applied = self.apply_all(entries).await;
        self.replicas.check(applied)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { replica: self.replica.clone(), replicas: self.replicas.clone() }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        let installed = self.install(meta, snapshot).await;
        self.replicas.check(installed)
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let core = self.core()?;
        if core.applied.last.is_none() {
            return Ok(None);
        }
        self.replicas.check(snapshot_of(&**core.keyspace())).map(Some)
    }
}

/// Takes a view of whatever is applied when it is asked.
pub(crate) struct Builder {
    replica: Arc<Replica>,
    replicas: Replicas,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        self.replicas.check(snapshot_of(&*self.replica.keyspace()))
    }
}
