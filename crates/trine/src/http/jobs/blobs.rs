//! Blobs over HTTP: large arguments in, kept output out, neither ever whole in
//! the node's memory.

use std::io;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use hyper::StatusCode;
use trine_compute::Compute;
use trine_compute::record::task::{hash, hex};
use trine_types::NodeNumber;

use super::super::site::{Asked, Reply};
use super::number;
use super::refusals::{invalid, missing};
use crate::admin::protocol::Refusal;

/// Largest blob.
const MAX_BLOB_BYTES: usize = 1024 * 1024 * 1024;
/// How long a client may take to send the next piece of it.
const PIECE_LIMIT: Duration = Duration::from_secs(30);

/// Puts a blob on this node's shelf, from where workers fetch it; answers its
/// BLAKE3. With a name in the path, it has to be that.
pub(super) async fn put(compute: &Compute, name: &str, asked: Asked) -> Result<Reply, Reply> {
    let wanted =
        if name.is_empty() { None } else { Some(hash(name).map_err(|error| invalid(error.to_string()))?) };
    let mut asked = asked.within(MAX_BLOB_BYTES, PIECE_LIMIT);
    let mut spill = compute.shelf().begin().map_err(|error| failed(&error))?;
    while let Some(piece) = asked.piece().await? {
        spill.write(piece).await.map_err(|error| failed(&error))?;
    }
    let bytes = spill.bytes();
    let made = spill.finish().await.map_err(|error| failed(&error))?;
    if wanted.is_some_and(|wanted| wanted != made) {
        return Err(invalid(format!("these bytes have the BLAKE3 {}", hex(&made))));
    }
    Ok(Reply::json(StatusCode::OK, &serde_json::json!({ "hash": hex(&made), "bytes": bytes })))
}

/// A blob, or the output that a task left at `node`.
pub(super) async fn get(compute: &Compute, name: &str, asked: &Asked) -> Result<Reply, Reply> {
    let wanted = hash(name).map_err(|error| invalid(error.to_string()))?;
    let node = number(asked, "node")?.map(NodeNumber);
    let mut reader = compute.blobs().read(wanted, node, 0);
    let first = match reader.next().await {
        Ok(first) => first.unwrap_or_default(),
        Err(_) => return Err(missing(format!("no node that can be reached has {name} any more"))),
    };
    let rest = stream::try_unfold(reader, async move |mut reader| match reader.next().await {
        Ok(None) => Ok(None),
        Ok(Some(piece)) => Ok(Some((piece, reader))),
        Err(error) => Err(io::Error::other(error)),
    });
    let pieces = stream::once(std::future::ready(Ok(first))).chain(rest);
    Ok(Reply::streamed("application/octet-stream", pieces.boxed()))
}

fn failed(error: &io::Error) -> Reply {
    let refusal = Refusal::new(format!("the node cannot keep it: {error}")).hint("ask another node");
    Reply::refusal(StatusCode::INTERNAL_SERVER_ERROR, &refusal)
}
