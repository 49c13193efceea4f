//! Outputs that are too large for a result: files in a folder of the node,
//! named by their hash. Bounded: the oldest make room for new ones, and none
//! stays longer than [`KEPT_FOR`]. Beside each lie the checksums of its parts,
//! so that a damaged one is found before a byte of it leaves the node; it is
//! thrown away then, and read from where its copy is.
//!
//! ```text
//! HASH          the bytes
//! HASH.sums     [length u64 LE]([CRC32C of a part u32 LE])…   a part: 1 MiB, the last one less
//! .N            one that is being written
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::mem::take;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::{Buf, Bytes, BytesMut};
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

/// Bytes of one part, which is also one answer.
const PART_BYTES: usize = 1024 * 1024;

/// Bytes that are checked at once: they stay in the processor's cache.
const CHECKED_BYTES: usize = 64 * 1024;

/// Ends the names of files with checksums.
const SUMS: &str = ".sums";

/// How long an output is kept.
pub const KEPT_FOR: Duration = Duration::from_hours(7 * 24);

/// What all kept outputs of a node may take.
pub const MAX_SHELF_BYTES: u64 = 8 * 1024 * 1024 * 1024;
/// What is free after room was made: to find the oldest, all are looked at.
const FREED_BYTES: u64 = MAX_SHELF_BYTES / 32;

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shelf {
    folder: Option<Arc<Path>>,
    serial: Arc<AtomicU64>,
    /// What the files take, or more: exact after each look at all of them.
    taken: Arc<AtomicU64>,
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
        let shelf = Self { folder: Some(folder.into()), serial: Arc::default(), taken: Arc::default() };
        shelf.make_room(MAX_SHELF_BYTES)?;
        Ok(shelf)
    }

    /// A node without files: outputs are cut at what a result takes.
    #[must_use]
    pub fn none() -> Self {
        Self { folder: None, serial: Arc::default(), taken: Arc::default() }
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

    /// The bytes of an output from byte `from` on to the end of their part;
    /// `None` if it is not here, or is damaged.
    pub fn read(&self, hash: [u8; 32], from: u64) -> BoxFuture<'static, Option<Piece>> {
        self.undamaged(hash, move |kept| kept.piece(from))
    }

    /// All of an output as a file to read from, checked; `None` if it is not
    /// here, or is damaged.
    pub fn lend(&self, hash: [u8; 32]) -> BoxFuture<'static, Option<File>> {
        self.undamaged(hash, Kept::checked)
    }

    /// What `ask` gets of it, unless it is damaged: then it is thrown away.
    fn undamaged<T: Send + 'static>(
        &self,
        hash: [u8; 32],
        ask: impl FnOnce(Kept) -> io::Result<T> + Send + 'static,
    ) -> BoxFuture<'static, Option<T>> {
        let Some(path) = self.path(hash) else { return ready(None).boxed() };
        let answer = move || {
            let answer = Kept::open(&path).and_then(ask);
            if let Err(error) = &answer
                && error.kind() == io::ErrorKind::InvalidData
            {
                tracing::warn!(path = %path.display(), %error, "a kept output is damaged: it is thrown away");
                remove(&path)?;
            }
            answer
        };
        blocking(answer).map(Result::ok).boxed()
    }

    /// A new output.
    ///
    /// # Errors
    /// There is no folder for it.
    pub fn begin(&self) -> io::Result<Spill> {
        let folder = self.folder.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!(".{serial}"));
        let written = Written { path, file: None, hash: blake3::Hasher::new(), bytes: 0, sums: Vec::new() };
        let (written, pending) = (Some(written), None);
        Ok(Spill { shelf: self.clone(), written, pending, gathered: BytesMut::new(), bytes: 0 })
    }

    /// Removes what is older than [`KEPT_FOR`] at `now`.
    ///
    /// # Errors
    /// The disk fails.
    pub async fn expire(&self, now: SystemTime) -> io::Result<()> {
        let place = self.clone();
        let expire = move || {
            let old = |written: &SystemTime| now.duration_since(*written).is_ok_and(|age| age > KEPT_FOR);
            let mut late = place.files()?.into_iter().filter(|(written, ..)| old(written));
            late.try_for_each(|(.., path)| remove(&path))
        };
        blocking(expire).await
    }

    /// Removes the oldest files until the rest fit.
    fn make_room(&self, most: u64) -> io::Result<()> {
        let mut files = self.files()?;
        files.sort();
        let mut bytes: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, size, path) in files {
            if bytes <= most {
                break;
            }
            remove(&path)?;
            bytes -= size;
        }
        self.taken.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Notes that so many bytes have come, and makes room if there is none.
    fn took(&self, bytes: u64) -> io::Result<()> {
        let before = self.taken.fetch_add(bytes, Ordering::Relaxed);
        let full = before.saturating_add(bytes) > MAX_SHELF_BYTES;
        if full { self.make_room(MAX_SHELF_BYTES - FREED_BYTES) } else { Ok(()) }
    }

    /// When each output was written, what it takes, and where it is.
    fn files(&self) -> io::Result<Vec<(SystemTime, u64, PathBuf)>> {
        let Some(folder) = &self.folder else { return Ok(Vec::new()) };
        let mut files = Vec::new();
        for entry in fs::read_dir(folder)?.flatten() {
            let name = entry.file_name();
            let name = name.as_encoded_bytes();
            if !name.starts_with(b".") && !name.ends_with(SUMS.as_bytes()) {
                // It may have been removed meanwhile.
                let Ok(meta) = entry.metadata() else { continue };
                files.push((meta.modified()?, meta.len(), entry.path()));
            }
        }
        Ok(files)
    }
}

/// Bytes of an output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// How long all of it is.
    pub total: u64,
    /// These; none at its end.
    #[serde(with = "crate::binary")]
    pub bytes: Bytes,
}

fn sums_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(SUMS);
    name.into()
}

fn remove(path: &Path) -> io::Result<()> {
    // Without them nobody reads the rest, should the second removal fail.
    for path in [&sums_of(path), path] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// A kept output with its checksums.
struct Kept {
    file: File,
    total: u64,
    sums: Bytes,
}

impl Kept {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let mut sums = Bytes::from(fs::read(sums_of(path))?);
        let total = sums.try_get_u64_le().map_err(|_| damaged("its checksums are cut"))?;
        if file.metadata()?.len() != total {
            return Err(damaged("it is not as long as it was"));
        }
        Ok(Self { file, total, sums })
    }

    /// How long a part is.
    fn length(&self, part: u64) -> usize {
        let (begin, size) = (part * PART_BYTES as u64, PART_BYTES as u64);
        usize::try_from(size.min(self.total.saturating_sub(begin))).unwrap_or(PART_BYTES)
    }

    fn compare(&self, part: u64, sum: u32) -> io::Result<()> {
        let at = usize::try_from(part * 4).map_err(|_| damaged("its checksums are cut"))?;
        let kept = self.sums.get(at..at + 4).ok_or_else(|| damaged("its checksums are cut"))?;
        if sum.to_le_bytes() == kept { Ok(()) } else { Err(damaged("a checksum differs")) }
    }

    fn piece(self, from: u64) -> io::Result<Piece> {
        if from >= self.total {
            return Ok(Piece { total: self.total, bytes: Bytes::new() });
        }
        let part = from / PART_BYTES as u64;
        let begin = part * PART_BYTES as u64;
        let mut bytes = vec![0; self.length(part)];
        self.file.read_exact_at(&mut bytes, begin)?;
        self.compare(part, crc32c::crc32c(&bytes))?;
        let skipped = usize::try_from(from - begin).unwrap_or_default();
        Ok(Piece { total: self.total, bytes: Bytes::from(bytes).slice(skipped..) })
    }

    fn checked(self) -> io::Result<File> {
        let mut piece = vec![0; CHECKED_BYTES];
        for part in 0..self.total.div_ceil(PART_BYTES as u64) {
            let (mut sum, mut done, length) = (0, 0, self.length(part));
            while done < length {
                let piece = &mut piece[..CHECKED_BYTES.min(length - done)];
                self.file.read_exact_at(piece, part * PART_BYTES as u64 + done as u64)?;
                sum = crc32c::crc32c_append(sum, piece);
                done += piece.len();
            }
            self.compare(part, sum)?;
        }
        Ok(self.file)
    }
}

fn damaged(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Runs what waits for the disk where it holds nobody up.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// An output that is being written. Dropped, it leaves nothing.
#[derive(Debug)]
pub struct Spill {
    shelf: Shelf,
    /// `None`: a part is on its way, or the disk has failed.
    written: Option<Written>,
    /// That part: whoever no longer waits for it finds it here later.
    pending: Option<JoinHandle<io::Result<Written>>>,
    /// What is not written yet, less than a part: hashing and writing a part at
    /// once, on a thread that may wait for the disk, is several times as fast as
    /// doing so piece by piece.
    gathered: BytesMut,
    bytes: u64,
}

impl Spill {
    /// Adds to it; dropped before it returns, it has added all or nothing.
    ///
    /// # Errors
    /// The disk is full, or fails, now or with what was added before.
    pub async fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        let length = bytes.len() as u64;
        if self.gathered.len() + bytes.len() < PART_BYTES {
            self.gathered.extend_from_slice(&bytes);
            self.bytes += length;
            return Ok(());
        }
        let mut written = self.written().await?;
        let much = if self.gathered.is_empty() {
            bytes
        } else {
            self.gathered.extend_from_slice(&bytes);
            take(&mut self.gathered).freeze()
        };
        self.bytes += length;
        self.pending = Some(tokio::task::spawn_blocking(move || written.add(&much).map(|()| written)));
        Ok(())
    }

    /// What is in the file, once the part on its way is, too.
    async fn written(&mut self) -> io::Result<Written> {
        if let Some(pending) = &mut self.pending {
            let written = pending.await;
            self.pending = None;
            self.written = Some(written.map_err(io::Error::other)??);
        }
        self.written.take().ok_or_else(|| io::Error::other("an earlier part of it could not be written"))
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
    pub async fn finish(mut self) -> io::Result<[u8; 32]> {
        let mut written = self.written().await?;
        let (gathered, place) = (take(&mut self.gathered), self.shelf.clone());
        let put = move || {
            written.add(&gathered)?;
            let hash = *written.hash.finalize().as_bytes();
            if let Some(to) = place.path(hash) {
                written.put(&to)?;
            }
            place.took(written.bytes)?;
            Ok(hash)
        };
        blocking(put).await
    }
}

/// What of an output is in a file: its own, until it has its name.
#[derive(Debug)]
struct Written {
    path: PathBuf,
    file: Option<File>,
    hash: blake3::Hasher,
    bytes: u64,
    /// Of whole parts; the last one's grows.
    sums: Vec<u32>,
}

impl Written {
    fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut file = match self.file.take() {
            Some(file) => file,
            // Tasks that are lent it could open it again as what its mode allows.
            None => {
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&self.path)?
            }
        };
        self.hash.update(bytes);
        self.sum(bytes);
        file.write_all(bytes)?;
        self.file = Some(file);
        Ok(())
    }

    fn sum(&mut self, mut rest: &[u8]) {
        while !rest.is_empty() {
            let filled = usize::try_from(self.bytes % PART_BYTES as u64).unwrap_or_default();
            if filled == 0 {
                self.sums.push(0);
            }
            let (now, later) = rest.split_at(rest.len().min(PART_BYTES - filled));
            if let Some(sum) = self.sums.last_mut() {
                *sum = crc32c::crc32c_append(*sum, now);
            }
            self.bytes += now.len() as u64;
            rest = later;
        }
    }

    /// Gives it its name. The bytes come last: whoever sees them finds the
    /// checksums.
    fn put(&self, to: &Path) -> io::Result<()> {
        let mut sums = self.bytes.to_le_bytes().to_vec();
        sums.extend(self.sums.iter().flat_map(|sum| sum.to_le_bytes()));
        let beside = sums_of(&self.path);
        fs::write(&beside, sums)?;
        fs::rename(beside, sums_of(to))?;
        fs::rename(&self.path, to)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        // An error: it is elsewhere, or never was.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    async fn put(shelf: &Shelf, bytes: &[u8]) -> [u8; 32] {
        let mut spill = shelf.begin().expect("begun");
        for piece in bytes.chunks(300_000) {
            spill.write(Bytes::copy_from_slice(piece)).await.expect("written");
        }
        spill.finish().await.expect("kept")
    }

    async fn all(shelf: &Shelf, hash: [u8; 32]) -> Option<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            let piece = shelf.read(hash, all.len() as u64).await?;
            if piece.bytes.is_empty() {
                assert_eq!(piece.total, all.len() as u64);
                return Some(all);
            }
            all.extend_from_slice(&piece.bytes);
        }
    }

    #[tokio::test]
    async fn what_is_damaged_is_not_given() {
        let folder = tempfile::tempdir().expect("a folder");
        let shelf = Shelf::open(folder.path()).expect("opened");
        for length in [0, 1, PART_BYTES, PART_BYTES + 1, 5 * PART_BYTES / 2] {
            let bytes: Vec<u8> = (0..251).cycle().take(length).collect();
            let hash = put(&shelf, &bytes).await;
            assert!(all(&shelf, hash).await == Some(bytes.clone()), "{length} bytes");
            let mut lent = Vec::new();
            shelf.lend(hash).await.expect("it is here").read_to_end(&mut lent).expect("readable");
            assert!(lent == bytes, "{length} bytes");
            let Some(last) = length.checked_sub(1) else { continue };
            let file = File::options().write(true).open(shelf.path(hash).expect("a path")).expect("a file");
            file.write_all_at(&[!bytes[last]], last as u64).expect("damaged");
            if length % 2 == 0 {
                assert!(shelf.lend(hash).await.is_none(), "{length} bytes");
            } else {
                assert_eq!(all(&shelf, hash).await, None, "{length} bytes");
            }
            assert!(!shelf.has(hash), "it was thrown away");
        }
    }

    #[tokio::test]
    async fn the_old_go_by_time_and_for_room() {
        let folder = tempfile::tempdir().expect("a folder");
        let shelf = Shelf::open(folder.path()).expect("opened");
        let hashes = [put(&shelf, &[1; 1_000]).await, put(&shelf, &[2; 1_000]).await];
        let written = |hash| fs::metadata(shelf.path(hash).expect("a path")).expect("there").modified();
        let newest = written(hashes[0]).expect("a time") + Duration::from_mins(1);
        let file = File::options().write(true).open(shelf.path(hashes[1]).expect("a path")).expect("a file");
        file.set_modified(newest).expect("set");
        shelf.make_room(1_500).expect("made");
        assert_eq!(hashes.map(|hash| shelf.has(hash)), [false, true]);
        shelf.expire(newest + KEPT_FOR).await.expect("expired");
        assert!(shelf.has(hashes[1]), "not older than it may be");
        shelf.expire(newest + KEPT_FOR + Duration::from_secs(1)).await.expect("expired");
        assert!(!shelf.has(hashes[1]));
        assert_eq!(fs::read_dir(folder.path()).expect("read").count(), 0, "no checksums are left");
    }
}
