//! Files to other nodes, over the lane for large and patient traffic. The
//! receiver keeps what arrived under the content's hash, so that a copy that
//! broke goes on; a file appears under its name only when all of it is there
//! and verified. Nothing is written outside the inbox folder.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use trine_transport::{CallRefused, Endpoint, Handler, Lane, Service};
use trine_types::NodeId;

/// Calls with parts of files; of the mesh's range.
const COPY: Service = Service(0x62);

/// Folder in the data directory where files from other nodes arrive.
pub const INBOX_FOLDER: &str = "inbox";
/// Folder in it for what is not complete.
const PARTIAL_FOLDER: &str = ".partial";
/// Bytes of one part.
const PART_BYTES: usize = 1024 * 1024;
/// How long a part may take: also of a slow disk.
const PART_LIMIT: Duration = Duration::from_secs(30);
/// How long the other node may take to verify a whole file.
const VERIFY_LIMIT: Duration = Duration::from_mins(1);
/// How long one call of [`send`] goes on.
const TURN: Duration = Duration::from_secs(5);
/// What a disk keeps free.
const SPARE_BYTES: u64 = 256 * 1024 * 1024;

/// A file that somebody wants to send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Where it shall be, below the inbox folder.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// BLAKE3 of its content.
    pub hash: [u8; 32],
}

#[derive(Debug, Serialize, Deserialize)]
enum Ask {
    /// How much of it is there?
    Begin,
    /// Bytes from this place on.
    Part(u64, Vec<u8>),
    /// That was all: verify.
    End,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Reply {
    /// So many bytes are there.
    Have(u64),
    /// All is there and verified.
    Done,
    /// No, for this reason.
    Refused(String),
}

/// Why a copy did not go on. What arrived is kept there.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The file here cannot be read.
    #[error("{0} cannot be read: {1}")]
    Here(String, std::io::Error),
    /// The file is not what it was when the copy began.
    #[error("the file is changing: it is shorter than before")]
    Changed,
    /// The other node was not reached or broke off.
    #[error(transparent)]
    Call(#[from] trine_transport::CallError),
    /// The other node refuses.
    #[error("the node refuses: {0}")]
    Refused(String),
    /// The other node is of another version.
    #[error("the answer of the node is not understood")]
    NotUnderstood,
}

/// Sends `file` for some seconds; the result is how much is there, and whether
/// that is all of it, verified.
///
/// # Errors
/// [`CopyError`]; what arrived is kept.
pub async fn send(
    endpoint: &Endpoint,
    peer: NodeId,
    file: PathBuf,
    offer: Offer,
) -> Result<(u64, bool), CopyError> {
    let begun = Instant::now();
    let mut reply = ask(endpoint, peer, &offer, &Ask::Begin).await?;
    loop {
        let there = match reply {
            Reply::Done => return Ok((offer.bytes, true)),
            Reply::Refused(why) => return Err(CopyError::Refused(why)),
            Reply::Have(there) => there,
        };
        if begun.elapsed() > TURN {
            return Ok((there, false));
        }
        let next = if there >= offer.bytes {
            Ask::End
        } else {
            let source = file.clone();
            let read = tokio::task::spawn_blocking(move || read_part(&source, there)).await;
            let part = read
                .unwrap_or_else(|error| Err(std::io::Error::other(error)))
                .map_err(|error| CopyError::Here(file.display().to_string(), error))?;
            if part.is_empty() {
                return Err(CopyError::Changed);
            }
            Ask::Part(there, part)
        };
        reply = ask(endpoint, peer, &offer, &next).await?;
    }
}

fn read_part(file: &Path, from: u64) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(file)?;
    file.seek(SeekFrom::Start(from))?;
    let mut part = Vec::with_capacity(PART_BYTES);
    file.take(PART_BYTES as u64).read_to_end(&mut part)?;
    Ok(part)
}

async fn ask(endpoint: &Endpoint, peer: NodeId, offer: &Offer, ask: &Ask) -> Result<Reply, CopyError> {
    let body = postcard::to_stdvec(&(offer, ask)).map_err(|_| CopyError::NotUnderstood)?;
    let limit = if matches!(ask, Ask::Part(..)) { PART_LIMIT } else { VERIFY_LIMIT };
    let answer = endpoint.call(peer, Lane::Bulk, COPY, Bytes::from(body), limit).await?;
    postcard::from_bytes(&answer).map_err(|_| CopyError::NotUnderstood)
}

/// Takes files from other nodes into `data`'s inbox folder.
pub fn serve(endpoint: &Endpoint, data: &Path) {
    endpoint.serve(COPY, Arc::new(Inbox { folder: data.join(INBOX_FOLDER) }));
}

/// The receiving end.
#[derive(Debug, Clone)]
struct Inbox {
    folder: PathBuf,
}

impl Handler for Inbox {
    fn handle(&self, _: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, CallRefused>> {
        let inbox = self.clone();
        let work = move || {
            let (offer, ask) = postcard::from_bytes(&body).map_err(|_| CallRefused::Malformed)?;
            let reply = inbox.take(&offer, &ask).unwrap_or_else(|error| Reply::Refused(error.to_string()));
            postcard::to_stdvec(&reply).map(Bytes::from).map_err(|_| CallRefused::Unavailable)
        };
        tokio::task::spawn_blocking(work).map(|done| done.unwrap_or(Err(CallRefused::Unavailable))).boxed()
    }
}

/// Why the path of an offer is refused.
fn forbidden(why: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::PermissionDenied, why.to_owned())
}

impl Inbox {
    fn take(&self, offer: &Offer, ask: &Ask) -> std::io::Result<Reply> {
        let place = self.place(&offer.path)?;
        let partial = self.partial(offer)?;
        match ask {
            Ask::Begin => {
                if is_it(&place, offer)? {
                    return Ok(Reply::Done);
                }
                let there = partial.metadata().map_or(0, |known| known.len());
                self.room_for(offer.bytes.saturating_sub(there))?;
                Ok(Reply::Have(there))
            }
            Ask::Part(from, bytes) => {
                let mut file = OpenOptions::new().append(true).create(true).open(&partial)?;
                let there = file.metadata()?.len();
                if there != *from || there + bytes.len() as u64 > offer.bytes {
                    return Ok(Reply::Have(there.min(offer.bytes)));
                }
                file.write_all(bytes)?;
                Ok(Reply::Have(there + bytes.len() as u64))
            }
            Ask::End => {
                if !is_it(&partial, offer)? {
                    std::fs::remove_file(&partial)?;
                    let why = "what arrived is not what was announced; it was thrown away, send it again";
                    return Ok(Reply::Refused(why.to_owned()));
                }
                File::open(&partial)?.sync_all()?;
                if let Some(folder) = place.parent() {
                    std::fs::create_dir_all(folder)?;
                    self.inside(folder)?;
                    std::fs::rename(&partial, &place)?;
                    File::open(folder)?.sync_all()?;
                }
                Ok(Reply::Done)
            }
        }
    }

    /// Where the file shall be: only names, none of them hidden or special.
    fn place(&self, path: &str) -> std::io::Result<PathBuf> {
        let names: Vec<_> = Path::new(path).components().collect();
        let plain = |part: &Component<'_>| match part {
            Component::Normal(name) => !name.to_string_lossy().starts_with('.'),
            _ => false,
        };
        if names.is_empty() || !names.iter().all(plain) || path.ends_with('/') || path.contains('\0') {
            return Err(forbidden("the path must be a relative one of names without a leading dot"));
        }
        let place = self.folder.join(path);
        // A link in the inbox folder must not lead out of it.
        let existing = place.ancestors().skip(1).find(|folder| folder.exists());
        if let Some(existing) = existing.filter(|existing| existing.starts_with(&self.folder)) {
            self.inside(existing)?;
        }
        Ok(place)
    }

    fn inside(&self, folder: &Path) -> std::io::Result<()> {
        if folder.canonicalize()?.starts_with(self.folder.canonicalize()?) {
            return Ok(());
        }
        Err(forbidden("the path leads out of the inbox folder"))
    }

    fn partial(&self, offer: &Offer) -> std::io::Result<PathBuf> {
        let folder = self.folder.join(PARTIAL_FOLDER);
        std::fs::create_dir_all(&folder)?;
        self.inside(&folder)?;
        Ok(folder.join(format!("{}-{}", blake3::Hash::from_bytes(offer.hash).to_hex(), offer.bytes)))
    }

    fn room_for(&self, bytes: u64) -> std::io::Result<()> {
        let disk = rustix::fs::statvfs(&self.folder)?;
        if disk.f_bavail.saturating_mul(disk.f_frsize) < bytes.saturating_add(SPARE_BYTES) {
            return Err(std::io::Error::new(std::io::ErrorKind::StorageFull, "its disk has no room for it"));
        }
        Ok(())
    }
}

/// Whether the file holds exactly what was offered.
fn is_it(file: &Path, offer: &Offer) -> std::io::Result<bool> {
    match file.symlink_metadata() {
        Ok(known) if known.is_file() && known.len() == offer.bytes => Ok(hash_of(file)? == offer.hash),
        Ok(known) if known.is_dir() => Err(forbidden("there is a folder of that name")),
        Ok(_) => Ok(false),
        // An empty file has no parts.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && offer.bytes == 0 => {
            File::create(file)?;
            Ok(*blake3::hash(b"").as_bytes() == offer.hash)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// BLAKE3 of a file's content.
///
/// # Errors
/// It cannot be read.
pub fn hash_of(file: &Path) -> std::io::Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(file)?)?;
    Ok(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(path: &str, content: &[u8]) -> Offer {
        Offer { path: path.to_owned(), bytes: content.len() as u64, hash: *blake3::hash(content).as_bytes() }
    }

    fn inbox() -> (tempfile::TempDir, Inbox) {
        let data = tempfile::tempdir().expect("temporary folder");
        let inbox = Inbox { folder: data.path().join(INBOX_FOLDER) };
        (data, inbox)
    }

    #[test]
    fn a_broken_copy_goes_on_and_ends_verified() {
        let (_data, inbox) = inbox();
        let offer = offer("reports/may.txt", b"hello world");
        let take = |ask| inbox.take(&offer, &ask).expect("taken");
        assert_eq!(take(Ask::Begin), Reply::Have(0));
        assert_eq!(take(Ask::Part(0, b"hello".to_vec())), Reply::Have(5));
        assert_eq!(take(Ask::Part(0, b"hello".to_vec())), Reply::Have(5), "it came twice");
        assert_eq!(take(Ask::Begin), Reply::Have(5));
        assert_eq!(take(Ask::Part(5, b" world".to_vec())), Reply::Have(11));
        assert!(!inbox.folder.join("reports/may.txt").exists());
        assert_eq!(take(Ask::End), Reply::Done);
        assert_eq!(std::fs::read(inbox.folder.join("reports/may.txt")).expect("there"), b"hello world");
        assert_eq!(take(Ask::Begin), Reply::Done, "it is there already");
    }

    #[test]
    fn other_content_than_announced_is_thrown_away() {
        let (_data, inbox) = inbox();
        let offer = offer("a", b"expected");
        assert_eq!(inbox.take(&offer, &Ask::Part(0, b"surprise".to_vec())).expect("taken"), Reply::Have(8));
        assert!(matches!(inbox.take(&offer, &Ask::End).expect("judged"), Reply::Refused(_)));
        assert!(!inbox.folder.join("a").exists());
        assert_eq!(inbox.take(&offer, &Ask::Begin).expect("taken"), Reply::Have(0));
    }

    #[test]
    fn nothing_is_written_outside_the_inbox_folder() {
        let (data, inbox) = inbox();
        for path in ["", "/etc/passwd", "../a", "a/../../b", ".partial/x", "a/.b", "a/", "./a", "a\0b"] {
            assert!(inbox.take(&offer(path, b"x"), &Ask::Begin).is_err(), "{path:?}");
        }
        std::fs::create_dir_all(&inbox.folder).expect("made");
        std::os::unix::fs::symlink(data.path(), inbox.folder.join("out")).expect("linked");
        assert!(inbox.take(&offer("out/a", b"x"), &Ask::Begin).is_err());
        assert!(inbox.take(&offer("out/b/a", b"x"), &Ask::Begin).is_err());
    }
}
