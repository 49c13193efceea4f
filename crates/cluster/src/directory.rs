//! What a node keeps on its own disk outside the log: its key, its admission,
//! how often it was started, whom it knew last, and (voters of `meta` only)
//! the issuing key. Each is a small file that is replaced whole.
//!
//! ```text
//! node/format      [version]            newer than this binary: refused
//! node/identity    [1][StoredIdentity]  made at first start
//! node/membership  [1][Membership]      made by founding or joining
//! node/start       [1][StartCount]      grows by one per start, before anything is served
//! node/known       [1][Known]           peers, revocations: what the first dials need
//! node/issuing     [1][StoredSeed]      voters of meta only
//! ```

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use trine_storage::{Disk, NodeFile, NodeFileError};
use trine_types::{ClusterId, Entropy, Incarnation, NodeId, NodeNumber};

use crate::codec::{self, DecodeError};
use crate::nodes::BootId;

/// Format of the data directory that this binary writes and understands.
pub const DIRECTORY_FORMAT: u32 = 1;

const FORMAT: &str = "node/format";
const IDENTITY: &str = "node/identity";
const MEMBERSHIP: &str = "node/membership";
const START: &str = "node/start";
const KNOWN: &str = "node/known";
const ISSUING: &str = "node/issuing";

/// Why a data directory cannot be used. The node must not start.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The disk failed or a file is damaged.
    #[error(transparent)]
    File(#[from] NodeFileError),
    /// A file verifies but does not decode.
    #[error("{name}: {source}")]
    Content {
        /// Which file.
        name: &'static str,
        /// What does not decode.
        source: DecodeError,
    },
    /// Written by a newer binary.
    #[error(
        "the data directory has format {found}; this binary understands up to {DIRECTORY_FORMAT}: use a newer binary"
    )]
    NewerFormat {
        /// The directory's format.
        found: u32,
    },
    /// The directory belongs to another cluster than the one that is meant.
    #[error("the data directory belongs to cluster {found}, not to {wanted}: use another directory")]
    OtherCluster {
        /// Whose it is.
        found: ClusterId,
        /// Whose it should be.
        wanted: ClusterId,
    },
    /// The node is part of a cluster already.
    #[error("the data directory already belongs to cluster {0}")]
    AlreadyMember(ClusterId),
    /// There is no membership yet.
    #[error("the data directory belongs to no cluster yet: create one, or join one with a ticket")]
    NoMember,
}

/// A secret seed on disk.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StoredSeed([u8; 32]);

/// The node's admission: what it must know to speak to its peers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Membership {
    /// Which cluster.
    pub cluster: ClusterId,
    /// The node's number.
    pub number: NodeNumber,
    /// Its name.
    pub name: String,
    /// Its admission certificate, encoded.
    pub certificate: Vec<u8>,
    /// What the founder still has to put into the log; `None` for others.
    pub founding: Option<Founding>,
}

/// What the first node of a cluster decided.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Founding {
    /// Number of database partitions.
    pub partitions: u16,
    /// Its failure domain.
    pub zone: String,
    /// Its share of replicas.
    pub weight: u16,
}

/// One start of the directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct StartCount {
    /// How often it has been started.
    pub incarnation: Incarnation,
    /// Which process did so last.
    pub boot: BootId,
}

/// What was known of the cluster when this node last ran. `meta` is the truth;
/// this only makes the first dials possible, and keeps the revoked out.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Known {
    /// Where each node was.
    pub peers: BTreeMap<NodeNumber, KnownPeer>,
    /// Removed keys.
    pub revoked: Vec<NodeId>,
    /// Valid issuing keys.
    pub issuers: Vec<[u8; 32]>,
    /// Who voted in `meta`.
    pub voters: Vec<NodeNumber>,
}

/// Where a node was.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KnownPeer {
    /// Its key.
    pub id: NodeId,
    /// Its addresses.
    pub addresses: Vec<SocketAddr>,
}

/// The open files. One per data directory and process.
#[derive(Clone)]
pub struct Directory {
    disk: Arc<dyn Disk>,
    seed: [u8; 32],
    membership: Option<Membership>,
}

fn file(disk: &Arc<dyn Disk>, name: &str) -> NodeFile {
    NodeFile::new(disk.clone(), name)
}

fn read<T: DeserializeOwned>(disk: &Arc<dyn Disk>, name: &'static str) -> Result<Option<T>, DirectoryError> {
    let Some(bytes) = file(disk, name).read()? else { return Ok(None) };
    codec::decode(&bytes, "node file").map(Some).map_err(|source| DirectoryError::Content { name, source })
}

fn write<T: Serialize>(disk: &Arc<dyn Disk>, name: &str, value: &T) -> Result<(), DirectoryError> {
    Ok(file(disk, name).write(&codec::encode(value))?)
}

impl Directory {
    /// Reads the files; makes a key if there is none. Blocking.
    ///
    /// # Errors
    /// [`DirectoryError`]; nothing was started.
    pub fn open(disk: Arc<dyn Disk>, entropy: &dyn Entropy) -> Result<Self, DirectoryError> {
        match read::<u32>(&disk, FORMAT)? {
            Some(found) if found > DIRECTORY_FORMAT => return Err(DirectoryError::NewerFormat { found }),
            Some(_) => {}
            None => write(&disk, FORMAT, &DIRECTORY_FORMAT)?,
        }
        let seed = if let Some(stored) = read::<StoredSeed>(&disk, IDENTITY)? {
            stored.0
        } else {
            let mut seed = [0; 32];
            entropy.fill(&mut seed);
            write(&disk, IDENTITY, &StoredSeed(seed))?;
            seed
        };
        let membership = read(&disk, MEMBERSHIP)?;
        Ok(Self { disk, seed, membership })
    }

    /// The secret seed of the node's key.
    pub fn identity_seed(&self) -> [u8; 32] {
        self.seed
    }

    /// The node's admission, if it belongs to a cluster.
    pub fn membership(&self) -> Option<&Membership> {
        self.membership.as_ref()
    }

    /// Refuses a directory of another cluster than `wanted`.
    ///
    /// # Errors
    /// [`DirectoryError::OtherCluster`].
    pub fn expect_cluster(&self, wanted: ClusterId) -> Result<(), DirectoryError> {
        match &self.membership {
            Some(member) if member.cluster != wanted => {
                Err(DirectoryError::OtherCluster { found: member.cluster, wanted })
            }
            _ => Ok(()),
        }
    }

    /// Stores the admission. Blocking.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn store_membership(&mut self, membership: Membership) -> Result<(), DirectoryError> {
        write(&self.disk, MEMBERSHIP, &membership)?;
        self.membership = Some(membership);
        Ok(())
    }

    /// Counts this start, durably, and names this process. Blocking.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn count_start(&self, entropy: &dyn Entropy) -> Result<StartCount, DirectoryError> {
        let before = read::<StartCount>(&self.disk, START)?.unwrap_or_default();
        let incarnation = Incarnation(before.incarnation.0 + 1);
        let count = StartCount { incarnation, boot: BootId(entropy.next_u64()) };
        write(&self.disk, START, &count)?;
        Ok(count)
    }

    /// What was known of the cluster. Blocking.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn known(&self) -> Result<Known, DirectoryError> {
        Ok(read(&self.disk, KNOWN)?.unwrap_or_default())
    }

    /// Remembers what is known of the cluster. Blocking.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn store_known(&self, known: &Known) -> Result<(), DirectoryError> {
        write(&self.disk, KNOWN, known)
    }

    /// The secret seed of the issuing key, if this node keeps it. Blocking.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn issuing_seed(&self) -> Result<Option<[u8; 32]>, DirectoryError> {
        Ok(read::<StoredSeed>(&self.disk, ISSUING)?.map(|stored| stored.0))
    }

    /// Keeps the issuing key, or forgets it. Blocking.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn store_issuing_seed(&self, seed: Option<[u8; 32]>) -> Result<(), DirectoryError> {
        if let Some(seed) = seed {
            return write(&self.disk, ISSUING, &StoredSeed(seed));
        }
        let failed = |source| NodeFileError::Disk { name: ISSUING.to_owned(), source };
        match self.disk.remove(ISSUING) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => Ok(other.and_then(|()| self.disk.sync_dir("node")).map_err(failed)?),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use trine_storage::SimDisk;

    use super::*;

    /// Chance for tests: counts up.
    #[derive(Default)]
    pub(crate) struct Counting(std::sync::atomic::AtomicU64);

    impl Entropy for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            for chunk in bytes.chunks_mut(8) {
                let n = self.0.fetch_add(0x9E37_79B9_7F4A_7C15, std::sync::atomic::Ordering::Relaxed);
                chunk.copy_from_slice(&n.wrapping_add(0x1234_5678).to_le_bytes()[..chunk.len()]);
            }
        }
    }

    fn member(cluster: u8) -> Membership {
        Membership {
            cluster: ClusterId([cluster; 16]),
            number: NodeNumber(1),
            name: "one".into(),
            certificate: b"signed".to_vec(),
            founding: None,
        }
    }

    #[test]
    fn a_directory_comes_back_as_it_was_and_counts_its_starts() {
        let (disk, entropy) = (SimDisk::new(1), Counting::default());
        let mut first = Directory::open(disk.mount().expect("mount"), &entropy).expect("fresh");
        let seed = first.identity_seed();
        first.store_membership(member(1)).expect("stored");
        first.store_issuing_seed(Some([3; 32])).expect("stored");
        let one = first.count_start(&entropy).expect("counted");
        drop(first);
        disk.crash();
        let second = Directory::open(disk.mount().expect("mount"), &entropy).expect("again");
        assert_eq!((second.identity_seed(), second.membership()), (seed, Some(&member(1))));
        assert_eq!(second.issuing_seed().expect("read"), Some([3; 32]));
        let two = second.count_start(&entropy).expect("counted");
        assert_eq!((one.incarnation, two.incarnation), (Incarnation(1), Incarnation(2)));
        assert_ne!(one.boot, two.boot);
        second.store_issuing_seed(None).expect("forgotten");
        second.store_issuing_seed(None).expect("forgotten twice");
        assert_eq!(second.issuing_seed().expect("read"), None);
    }

    #[test]
    fn another_cluster_and_a_newer_format_are_refused() {
        let (disk, entropy) = (SimDisk::new(1), Counting::default());
        let mount = disk.mount().expect("mount");
        let mut directory = Directory::open(mount.clone(), &entropy).expect("fresh");
        assert!(directory.expect_cluster(ClusterId([9; 16])).is_ok(), "it has none yet");
        directory.store_membership(member(1)).expect("stored");
        let other = directory.expect_cluster(ClusterId([9; 16])).expect_err("another cluster");
        assert!(other.to_string().contains("belongs to cluster"), "{other}");
        write(&mount, FORMAT, &(DIRECTORY_FORMAT + 1)).expect("written");
        let newer = Directory::open(mount, &entropy).err().expect("a newer format");
        assert!(newer.to_string().contains("newer binary"), "{newer}");
    }
}
