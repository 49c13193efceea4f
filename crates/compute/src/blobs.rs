//! Blobs: large arguments and kept outputs, each a file on the shelf of some
//! node, named by its BLAKE3. A worker brings those of a task to its own shelf
//! before the task begins, so that a blob travels to each node at most once.
//! What a task leaves is on a second shelf, too, before its result is told.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use trine_transport::Lane;
use trine_types::NodeNumber;

use crate::body::Ran;
use crate::codec;
use crate::error::ComputeError;
use crate::handle::{RESULTS_PATIENCE, Shared};
use crate::messages::{Ask, SERVICE, Told};
use crate::run::shelf::{Piece, Shelf};
use crate::spec::Output;

/// Largest blob that a node takes from another one.
pub const MAX_BLOB_BYTES: u64 = 1024 * 1024 * 1024;

/// Nodes that are asked to keep a second copy, one after the other, before the
/// only one has to do.
const COPY_ATTEMPTS: usize = 3;
/// How long a second copy may take to begin.
const COPY_LIMIT: Duration = Duration::from_secs(10);
/// What a second copy travels with at least, in bytes a second.
const COPY_RATE: u64 = 8 * 1024 * 1024;

/// The blobs of all nodes, from this one. Cheap to clone.
#[derive(Clone)]
pub struct Blobs {
    shared: Arc<Shared>,
}

impl Blobs {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Reads a blob from byte `from` on: at `first` if that has it, else
    /// wherever it is, even when its holder is lost on the way.
    #[must_use]
    pub fn read(&self, hash: [u8; 32], first: Option<NodeNumber>, from: u64) -> Reader {
        Reader { blobs: self.clone(), hash, holder: first, at: from, total: None }
    }

    /// A part of a blob at `holder`.
    async fn part(&self, holder: NodeNumber, hash: [u8; 32], from: u64) -> Option<Piece> {
        if holder == self.shared.number {
            return self.shared.shelf.read(hash, from).await;
        }
        let id = self.shared.meta.borrow().nodes.get(&holder).map(|node| node.id)?;
        let ask = codec::encode(&Ask::Kept { hash, from });
        let answer = self.shared.endpoint.call(id, Lane::Bulk, SERVICE, ask, RESULTS_PATIENCE).await;
        match codec::decode::<Told>(&answer.ok()?, "answer") {
            Ok(Told::Kept(piece)) => piece,
            _ => None,
        }
    }

    /// All nodes but this one: those that do not answer lately last.
    fn others(&self) -> Vec<NodeNumber> {
        let suspects = self.shared.replication.suspects();
        let (suspects, meta) = (suspects.borrow(), self.shared.meta.borrow());
        let mut others: Vec<_> =
            meta.nodes.keys().copied().filter(|node| *node != self.shared.number).collect();
        others.sort_by_key(|node| suspects.contains(node));
        others
    }

    /// Brings blobs to this node's shelf.
    ///
    /// # Errors
    /// Which one is nowhere, or cannot be kept here.
    pub async fn bring(&self, hashes: &[[u8; 32]]) -> Result<(), String> {
        for hash in hashes {
            let name = blake3::Hash::from_bytes(*hash);
            match self.copy(*hash, None).await {
                Ok(()) => {}
                Err(Uncopied::Nowhere) => {
                    return Err(format!("no node has the blob {name} any more: send it again"));
                }
                Err(Uncopied::Why(why)) => return Err(format!("the blob {name} cannot be had: {why}")),
            }
        }
        Ok(())
    }

    /// Puts a blob on this node's shelf, from `first` if that has it.
    pub(crate) async fn copy(&self, hash: [u8; 32], first: Option<NodeNumber>) -> Result<(), Uncopied> {
        if self.shared.shelf.has(hash) {
            return Ok(());
        }
        let why = |error: &dyn std::fmt::Display| Uncopied::Why(error.to_string());
        let mut reader = self.read(hash, first, 0);
        let mut piece = reader.next().await.map_err(|_| Uncopied::Nowhere)?;
        let mut spill = self.shared.shelf.begin().map_err(|error| why(&error))?;
        while let Some(bytes) = piece {
            spill.write(bytes).await.map_err(|error| why(&error))?;
            if spill.bytes() > MAX_BLOB_BYTES {
                return Err(Uncopied::Why(format!("it has more than {MAX_BLOB_BYTES} bytes")));
            }
            piece = reader.next().await.map_err(|error| why(&error))?;
        }
        let made = spill.finish().await.map_err(|error| why(&error))?;
        if made == hash { Ok(()) } else { Err(Uncopied::Why("what came is something else".to_owned())) }
    }

    /// Sees to it that another node has what a task left here, too.
    pub(crate) async fn secure(&self, ran: &Ran) {
        for output in [&ran.stdout, &ran.stderr, &ran.value] {
            if let Output::Kept { hash, bytes, .. } = output
                && !self.second(*hash, *bytes).await
            {
                let hash = blake3::Hash::from_bytes(*hash);
                tracing::warn!(%hash, "no other node keeps a copy of a large output");
            }
        }
    }

    /// Whether another node has a copy now, or there is none to have it.
    async fn second(&self, hash: [u8; 32], bytes: u64) -> bool {
        let mut others = self.others();
        if others.is_empty() {
            return true;
        }
        let suspects = self.shared.replication.suspects().borrow().clone();
        let healthy = others.iter().filter(|node| !suspects.contains(node)).count();
        // Spread over the others by what nobody chooses.
        others[..healthy].rotate_left(usize::from(hash[0]) % healthy.max(1));
        let limit = COPY_LIMIT + Duration::from_secs(bytes / COPY_RATE);
        for node in others.into_iter().take(COPY_ATTEMPTS) {
            let id = self.shared.meta.borrow().nodes.get(&node).map(|node| node.id);
            let Some(id) = id else { continue };
            let ask = codec::encode(&Ask::Copy { hash });
            let answer = self.shared.endpoint.call(id, Lane::Request, SERVICE, ask, limit).await;
            let told = answer.ok().and_then(|answer| codec::decode::<Told>(&answer, "answer").ok());
            if matches!(told, Some(Told::Copied(true))) {
                return true;
            }
        }
        false
    }
}

/// Why a blob is not on this shelf.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Uncopied {
    /// No node has it.
    Nowhere,
    /// It did not come, or cannot be kept.
    Why(String),
}

/// See [`Blobs::read`].
pub struct Reader {
    blobs: Blobs,
    hash: [u8; 32],
    holder: Option<NodeNumber>,
    at: u64,
    total: Option<u64>,
}

impl Reader {
    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// [`ComputeError::Nowhere`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, ComputeError> {
        if self.total.is_some_and(|total| self.at >= total) {
            return Ok(None);
        }
        let here = self.blobs.shared.number;
        let rest = [here].into_iter().chain(self.blobs.others());
        for node in self.holder.into_iter().chain(rest.filter(|node| Some(*node) != self.holder)) {
            let Some(piece) = self.blobs.part(node, self.hash, self.at).await else { continue };
            if self.total.is_some_and(|total| total != piece.total) {
                continue;
            }
            self.at += piece.bytes.len() as u64;
            (self.holder, self.total) = (Some(node), Some(piece.total));
            return Ok(Some(piece.bytes).filter(|bytes| !bytes.is_empty()));
        }
        Err(ComputeError::Nowhere)
    }
}

/// All of a blob that is on the shelf; `None` if it is not, or is damaged.
pub(crate) async fn whole(shelf: &Shelf, hash: [u8; 32]) -> Option<Bytes> {
    let mut all = BytesMut::new();
    loop {
        let piece = shelf.read(hash, all.len() as u64).await?;
        all.extend_from_slice(&piece.bytes);
        if piece.bytes.is_empty() || all.len() as u64 >= piece.total {
            break;
        }
    }
    (*blake3::hash(&all).as_bytes() == hash).then(|| all.freeze())
}
