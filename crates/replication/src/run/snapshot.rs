//! Receiving a snapshot: its chunks go into a keyspace of the next generation;
//! with the last one the replica switches to it.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use trine_storage::{Batch, Keyspace};
use trine_transport::CallRefused;
use trine_types::NodeId;

use crate::engine::snapshot::SnapshotData;
use crate::engine::wire::{ChunkHead, encode_reply};
use crate::engine::{SnapshotMeta, Types, Vote};
use crate::node::{Local, Node};

/// A snapshot that is being received.
pub(crate) struct Incoming {
    from: NodeId,
    transfer: u64,
    next: u64,
    generation: u64,
    keyspace: Arc<dyn Keyspace>,
}

type Rows = Vec<(Bytes, Bytes)>;

/// Takes one chunk and reports on `done`.
pub(crate) async fn take_chunk(
    node: Arc<Node>,
    local: Arc<Local>,
    from: NodeId,
    head: ChunkHead,
    rows: Rows,
    done: mpsc::Sender<Result<Bytes, CallRefused>>,
) {
    let taken = chunk(&node, &local, from, head, rows).await;
    let reply = node.replicas.check(taken).map_err(|error| {
        tracing::warn!(group = %local.replica.group, %error, "a chunk of a snapshot was refused");
        CallRefused::Unavailable
    });
    // The sender may be gone.
    let _ = done.send(reply).await;
}

async fn begin(node: &Node, local: &Local, from: NodeId, transfer: u64) -> std::io::Result<Incoming> {
    let (replicas, group) = (node.replicas.clone(), local.replica.group);
    let job = move || {
        let current = replicas.pointer(group)?.generation;
        replicas.sweep(group, Some(current))?;
        let generation = current + 1;
        replicas.keyspace(group, generation).map(|keyspace| (generation, keyspace))
    };
    let (generation, keyspace) = node.workers.run(job).await.map_err(std::io::Error::other)??;
    Ok(Incoming { from, transfer, next: 0, generation, keyspace })
}

async fn chunk(
    node: &Node,
    local: &Local,
    from: NodeId,
    head: ChunkHead,
    rows: Rows,
) -> std::io::Result<Bytes> {
    let mut slot = local.incoming.lock().await;
    if head.number == 0 {
        *slot = Some(begin(node, local, from, head.transfer).await?);
    }
    let incoming = slot
        .as_mut()
        .filter(|incoming| {
            (incoming.from, incoming.transfer, incoming.next) == (from, head.transfer, head.number)
        })
        .ok_or_else(|| std::io::Error::other("a chunk that does not follow the last one"))?;
    incoming.next += 1;
    let keyspace = incoming.keyspace.clone();
    let commit = move || {
        let mut batch = Batch::new();
        for (key, value) in rows {
            batch.put(key, value);
        }
        keyspace.commit(batch)
    };
    let committed = node.workers.run(commit).await.map_err(std::io::Error::other)?;
    committed.map_err(std::io::Error::other)?;
    let Some((vote, meta)) = head.finish else { return Ok(Bytes::new()) };
    let generation = incoming.generation;
    *slot = None;
    install(local, vote, meta, generation).await
}

async fn install(local: &Local, vote: Vote, meta: SnapshotMeta, generation: u64) -> std::io::Result<Bytes> {
    let snapshot = openraft::alias::SnapshotOf::<Types, SnapshotData> {
        meta,
        snapshot: SnapshotData::Received { generation },
    };
    let response = local.raft.install_full_snapshot(vote, snapshot).await.map_err(std::io::Error::other)?;
    encode_reply(&response)
}
