//! Outputs that are too large for a result: files in a folder of the node,
//! named by their hash. Bounded: the oldest make room for new ones.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, ready};

/// Bytes of one answer.
const PART_BYTES: usize = 1024 * 1024;

/// What all kept outputs of a node may take.
pub const MAX_SHELF_BYTES: u64 = 8 * 1024 * 1024 * 1024;

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shelf {
    folder: Option<Arc<Path>>,
    serial: Arc<AtomicU64>,
}

impl Shelf {
    /// A shelf in `folder`, which is made.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        for entry in fs::read_dir(folder)?.flatten() {
            // What was being written when the node ended.
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(Self { folder: Some(folder.into()), serial: Arc::default() })
    }

    /// A node without files: outputs are cut at what a result takes.
    #[must_use]
    pub fn none() -> Self {
        Self { folder: None, serial: Arc::default() }
    }

    fn path(&self, hash: [u8; 32]) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(blake3::Hash::from_bytes(hash).to_hex().as_str()))
    }

    /// Whether it is here. One look at the file system, for tasks that share a
    /// blob.
    #[must_use]
    pub fn has(&self, hash: [u8; 32]) -> bool {
        self.path(hash).is_some_and(|path| path.is_file())
    }

    /// A part of an output from byte `from` on; nothing if it is not here, or
    /// ends there.
    pub fn read(&self, hash: [u8; 32], from: u64) -> BoxFuture<'static, Bytes> {
        let Some(path) = self.path(hash) else { return ready(Bytes::new()).boxed() };
        let read = move || -> io::Result<Bytes> {
            let file = fs::File::open(path)?;
            let left = file.metadata()?.len().saturating_sub(from);
            let mut part = vec![0; usize::try_from(left).unwrap_or(PART_BYTES).min(PART_BYTES)];
            file.read_exact_at(&mut part, from)?;
            Ok(part.into())
        };
        blocking(read).map(Result::unwrap_or_default).boxed()
    }

    /// A new output.
    ///
    /// # Errors
    /// There is no folder, or no file can be made in it.
    pub async fn begin(&self) -> io::Result<Spill> {
        let folder = self.folder.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!(".{serial}"));
        let made = path.clone();
        let file = blocking(move || File::create(made)).await?;
        Ok(Spill { shelf: self.clone(), path, file: Arc::new(file), hash: blake3::Hasher::new(), bytes: 0 })
    }

    /// Removes the oldest files until the rest fit.
    fn make_room(&self) -> io::Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for entry in fs::read_dir(folder)?.flatten() {
            let meta = entry.metadata()?;
            if !entry.file_name().as_encoded_bytes().starts_with(b".") {
                files.push((meta.modified()?, meta.len(), entry.path()));
            }
        }
        files.sort();
        let mut bytes: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, size, path) in files {
            if bytes <= MAX_SHELF_BYTES {
                break;
            }
            fs::remove_file(path)?;
            bytes -= size;
        }
        Ok(())
    }
}

/// Runs what waits for the disk where it holds nobody up.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// An output that is being written. Dropped, it leaves nothing.
#[derive(Debug)]
pub struct Spill {
    shelf: Shelf,
    path: PathBuf,
    file: Arc<File>,
    hash: blake3::Hasher,
    bytes: u64,
}

impl Spill {
    /// Adds to it.
    ///
    /// # Errors
    /// The disk is full, or fails.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        let (file, bytes) = (self.file.clone(), Bytes::copy_from_slice(bytes));
        blocking(move || (&*file).write_all(&bytes)).await
    }

    /// How much it is.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Puts it on the shelf; returns its hash.
    ///
    /// # Errors
    /// The disk is full, or fails.
    pub async fn finish(self) -> io::Result<[u8; 32]> {
        let hash = *self.hash.finalize().as_bytes();
        let (place, from) = (self.shelf.clone(), self.path.clone());
        let put = move || {
            if let Some(to) = place.path(hash) {
                fs::rename(from, to)?;
            }
            place.make_room()
        };
        blocking(put).await?;
        Ok(hash)
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        // An error: it was finished, and is elsewhere.
        let _ = fs::remove_file(&self.path);
    }
}
