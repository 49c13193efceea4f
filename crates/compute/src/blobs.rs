//! Blobs: large arguments and kept outputs, each a file on the shelf of some
//! node, named by its BLAKE3. A worker brings those of a task to its own shelf
//! before the task begins, so that a blob travels to each node at most once.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use trine_transport::Lane;
use trine_types::NodeNumber;

use crate::codec;
use crate::error::ComputeError;
use crate::handle::{RESULTS_PATIENCE, Shared};
use crate::messages::{Ask, SERVICE, Told};
use crate::run::shelf::Shelf;

/// Largest blob that a node takes from another one.
pub const MAX_BLOB_BYTES: u64 = 1024 * 1024 * 1024;

/// The blobs of all nodes, from this one. Cheap to clone.
#[derive(Clone)]
pub struct Blobs {
    shared: Arc<Shared>,
}

impl Blobs {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// A part of a blob at `holder`, from byte `from` on; nothing at its end.
    ///
    /// # Errors
    /// [`ComputeError::NotThere`].
    pub async fn part(&self, holder: NodeNumber, hash: [u8; 32], from: u64) -> Result<Bytes, ComputeError> {
        if holder == self.shared.number {
            return Ok(self.shared.shelf.read(hash, from).await);
        }
        let missing = ComputeError::NotThere(holder);
        let id = self.shared.meta.borrow().nodes.get(&holder).map(|node| node.id);
        let Some(id) = id else { return Err(missing) };
        let ask = codec::encode(&Ask::Kept { hash, from });
        let answer = self.shared.endpoint.call(id, Lane::Bulk, SERVICE, ask, RESULTS_PATIENCE).await;
        match answer.map(|answer| codec::decode::<Told>(&answer, "answer")) {
            Ok(Ok(Told::Kept(part))) => Ok(part),
            _ => Err(missing),
        }
    }

    /// Who has the blob, and its first part: `at` if given, else this node,
    /// else any other.
    pub async fn find(&self, hash: [u8; 32], at: Option<NodeNumber>) -> Option<(NodeNumber, Bytes)> {
        let here = self.shared.number;
        let others: Vec<_> = self.shared.meta.borrow().nodes.keys().copied().collect();
        let asked = at.into_iter().chain([here]).chain(others.into_iter().filter(|node| *node != here));
        for node in asked {
            match self.part(node, hash, 0).await {
                Ok(part) if !part.is_empty() => return Some((node, part)),
                _ => {}
            }
        }
        None
    }

    /// Brings blobs to this node's shelf.
    ///
    /// # Errors
    /// Which one is nowhere, or cannot be kept here.
    pub async fn bring(&self, hashes: &[[u8; 32]]) -> Result<(), String> {
        for hash in hashes {
            if self.shared.shelf.has(*hash) {
                continue;
            }
            let name = blake3::Hash::from_bytes(*hash);
            let Some((holder, first)) = self.find(*hash, None).await else {
                return Err(format!("no node has the blob {name} any more: send it again"));
            };
            self.copy(*hash, holder, first)
                .await
                .map_err(|why| format!("the blob {name} of node {holder} cannot be had: {why}"))?;
        }
        Ok(())
    }

    async fn copy(&self, hash: [u8; 32], holder: NodeNumber, first: Bytes) -> Result<(), String> {
        let mut spill = self.shared.shelf.begin().await.map_err(|error| error.to_string())?;
        let mut part = first;
        while !part.is_empty() {
            spill.write(&part).await.map_err(|error| error.to_string())?;
            if spill.bytes() > MAX_BLOB_BYTES {
                return Err(format!("it has more than {MAX_BLOB_BYTES} bytes"));
            }
            part = self.part(holder, hash, spill.bytes()).await.map_err(|error| error.to_string())?;
        }
        let made = spill.finish().await.map_err(|error| error.to_string())?;
        if made == hash { Ok(()) } else { Err("what came is something else".to_owned()) }
    }
}

/// All of a blob that is on the shelf; `None` if it is not, or is damaged.
pub(crate) async fn whole(shelf: &Shelf, hash: [u8; 32]) -> Option<Bytes> {
    let mut all = BytesMut::new();
    loop {
        let part = shelf.read(hash, all.len() as u64).await;
        if part.is_empty() {
            break;
        }
        all.extend_from_slice(&part);
    }
    (*blake3::hash(&all).as_bytes() == hash).then(|| all.freeze())
}
