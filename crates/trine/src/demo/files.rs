//! Stores every file through one node and reads all back through others,
//! comparing BLAKE3 hashes. Several connections, each with a window of
//! commands in flight, as a real bulk client would do it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use indicatif::ProgressBar;
use serde::Serialize;
use tokio::time::Instant;

use super::input::Item;
use super::{bytes_bar, millis};
use crate::failure::Failure;
use crate::resp::{Client, Value};

/// Connections that store or read at once.
const CONNECTIONS: usize = 8;
/// Commands in flight on one connection.
const WINDOW: usize = 32;
/// Bytes in flight on one connection; one larger value may be alone.
const WINDOW_BYTES: u64 = 1 << 20;
/// How often a refused command is sent again. Setting a key twice to the same
/// value changes nothing.
const ROUNDS: u32 = 5;
/// Pause before a refused command is sent again.
const PAUSE: Duration = Duration::from_millis(200);

/// A stored file.
#[derive(Debug, Clone)]
pub struct StoredItem {
    /// Its key.
    pub key: Vec<u8>,
    /// Its size.
    pub bytes: u64,
    /// BLAKE3 of what was sent.
    pub hash: blake3::Hash,
}

/// What was stored.
#[derive(Debug)]
pub struct Stored {
    /// All files.
    pub items: Arc<Vec<StoredItem>>,
    /// Figures.
    pub report: StoreReport,
}

/// Figures of storing.
#[derive(Debug, Clone, Serialize)]
pub struct StoreReport {
    /// Files.
    pub files: usize,
    /// Bytes of their values.
    pub bytes: u64,
    /// Time it took.
    pub took_ms: u64,
    /// Commands that were sent again because they were refused.
    pub sent_again: usize,
}

/// Figures of reading back through one node.
#[derive(Debug, Clone, Serialize)]
pub struct ReadReport {
    /// Node, from 1.
    pub node: usize,
    /// Files read.
    pub files: usize,
    /// Files that were missing or differed.
    pub different: usize,
    /// Time it took.
    pub took_ms: u64,
}

/// Stores all items through `door`.
///
/// # Errors
/// The node cannot be reached or keeps refusing.
pub async fn store(items: Vec<Item>, door: SocketAddr) -> Result<Stored, Failure> {
    let total = items.iter().map(|item| item.bytes).sum();
    let bar = bytes_bar(total, "storing through node 1");
    let began = Instant::now();
    let parts = deal(items).into_iter().map(|part| store_part(part, door, bar.clone()));
    let parts = try_join_all(parts).await?;
    bar.finish_and_clear();
    let sent_again = parts.iter().map(|(_, again)| again).sum();
    let items: Vec<StoredItem> = parts.into_iter().flat_map(|(items, _)| items).collect();
    let bytes = items.iter().map(|item| item.bytes).sum();
    let report = StoreReport { files: items.len(), bytes, took_ms: millis(began.elapsed()), sent_again };
    eprintln!("stored {} files, {} MiB, in {} ms", report.files, report.bytes >> 20, report.took_ms);
    Ok(Stored { items: Arc::new(items), report })
}

/// Neighbours go to different connections, so that sizes even out.
fn deal<T>(items: Vec<T>) -> Vec<Vec<T>> {
    let mut parts: Vec<Vec<T>> = (0..CONNECTIONS).map(|_| Vec::new()).collect();
    for (at, item) in items.into_iter().enumerate() {
        parts[at % CONNECTIONS].push(item);
    }
    parts
}

async fn store_part(
    items: Vec<Item>,
    door: SocketAddr,
    bar: ProgressBar,
) -> Result<(Vec<StoredItem>, usize), Failure> {
    let mut client = Client::connect(door).await.map_err(Failure::new)?;
    let mut stored = Vec::with_capacity(items.len());
    let mut again = 0;
    for window in windows(&items, |item| item.bytes) {
        let mut values = Vec::with_capacity(window.len());
        for item in window {
            let cannot = |error| Failure::new(format!("cannot read {}: {error}", item.path.display()));
            values.push(std::fs::read(&item.path).map_err(cannot)?);
        }
        let mut open: Vec<usize> = (0..window.len()).collect();
        for round in 0.. {
            for &at in &open {
                client.queue(&[b"SET", &window[at].key, &values[at]]);
            }
            client.flush().await.map_err(Failure::new)?;
            let (refused, reason) = refused(&mut client, &open).await?;
            open = refused;
            if open.is_empty() {
                break;
            }
            if round == ROUNDS {
                return Err(Failure::new(format!("node 1 keeps refusing writes: {reason}")));
            }
            again += open.len();
            tokio::time::sleep(PAUSE).await;
        }
        for (item, value) in window.iter().zip(&values) {
            let (key, bytes) = (item.key.clone(), value.len() as u64);
            stored.push(StoredItem { key, bytes, hash: blake3::hash(value) });
            bar.inc(item.bytes);
        }
    }
    Ok((stored, again))
}

/// Which of the commands in flight were refused, and one reason.
async fn refused(client: &mut Client, open: &[usize]) -> Result<(Vec<usize>, String), Failure> {
    let mut refused = Vec::new();
    let mut reason = String::new();
    for &at in open {
        match client.reply().await.map_err(Failure::new)? {
            Value::Simple(_) => {}
            Value::Error(text) => {
                refused.push(at);
                reason = text;
            }
            other => return Err(Failure::new(format!("SET answered {other:?}"))),
        }
    }
    Ok((refused, reason))
}

/// Cuts a list into windows that stay below both bounds.
fn windows<T>(mut items: &[T], bytes: impl Fn(&T) -> u64) -> Vec<&[T]> {
    let mut windows = Vec::new();
    while !items.is_empty() {
        let mut total = 0;
        let fits = |item: &T| {
            total += bytes(item);
            total <= WINDOW_BYTES
        };
        let count = items.iter().take(WINDOW).map(fits).take_while(|fits| *fits).count().max(1);
        let (window, rest) = items.split_at(count);
        windows.push(window);
        items = rest;
    }
    windows
}

/// Reads all files through every one of `doors` (nodes 2, 3, ...).
///
/// # Errors
/// A node cannot be reached.
pub async fn read_back(stored: &Stored, doors: &[SocketAddr]) -> Result<Vec<ReadReport>, Failure> {
    let mut reports = Vec::new();
    for (door, node) in doors.iter().zip(2..) {
        let bar = bytes_bar(stored.report.bytes, &format!("reading back through node {node}"));
        let began = Instant::now();
        let parts = deal(stored.items.iter().cloned().collect());
        let parts = parts.into_iter().map(|part| read_part(part, *door, bar.clone()));
        let different = try_join_all(parts).await?.into_iter().sum();
        bar.finish_and_clear();
        let report =
            ReadReport { node, files: stored.items.len(), different, took_ms: millis(began.elapsed()) };
        eprintln!(
            "read {} files through node {node} in {} ms, {different} differ",
            report.files, report.took_ms
        );
        reports.push(report);
    }
    Ok(reports)
}

async fn read_part(items: Vec<StoredItem>, door: SocketAddr, bar: ProgressBar) -> Result<usize, Failure> {
    let mut client = Client::connect(door).await.map_err(Failure::new)?;
    let mut different = 0;
    for window in windows(&items, |item| item.bytes) {
        for item in window {
            client.queue(&[b"GET", &item.key]);
        }
        client.flush().await.map_err(Failure::new)?;
        for item in window {
            let is_same = match client.reply().await.map_err(Failure::new)? {
                Value::Bulk(value) => blake3::hash(&value) == item.hash,
                Value::Nil => false,
                other => return Err(Failure::new(format!("GET answered {other:?}"))),
            };
            different += usize::from(!is_same);
            bar.inc(item.bytes);
        }
    }
    Ok(different)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_keep_both_bounds_and_lose_nothing() {
        let sizes = [WINDOW_BYTES * 3, 1, WINDOW_BYTES, 5, 5];
        let cut: Vec<usize> = windows(&sizes, |size| *size).into_iter().map(<[u64]>::len).collect();
        assert_eq!(cut, [1, 1, 1, 2]);
        let many = vec![1_u64; WINDOW * 2 + 1];
        let cut: Vec<usize> = windows(&many, |size| *size).into_iter().map(<[u64]>::len).collect();
        assert_eq!(cut, [WINDOW, WINDOW, 1]);
    }
}
