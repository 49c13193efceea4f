//! Ids. A node has two: its [`NodeId`] is the public key that it proves in
//! every handshake; its [`NodeNumber`] is the small integer that the `meta`
//! group gave it at admission, which is what Raft counts votes by.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};

/// How many base32 characters of a [`NodeId`] people get to see.
const SHORT_ID_CHARS: usize = 8;

/// A node's identity: its Ed25519 public key (32 bytes), made at first start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub struct NodeId(pub [u8; 32]);

impl NodeId {
    /// The first characters of the base32 form: enough to tell nodes of one
    /// cluster apart on a screen, not enough to authenticate anything.
    #[must_use]
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(SHORT_ID_CHARS);
        text
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({})", self.short())
    }
}

/// The text was not 52 base32 characters that stand for 32 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseIdError {
    /// What kind of id was expected.
    pub expected: &'static str,
}

impl fmt::Display for ParseIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a {}: expected its full base32 form", self.expected)
    }
}

impl std::error::Error for ParseIdError {}

fn parse_base32<const N: usize>(text: &str, expected: &'static str) -> Result<[u8; N], ParseIdError> {
    let upper = text.trim().to_ascii_uppercase();
    let bytes = BASE32_NOPAD.decode(upper.as_bytes()).map_err(|_| ParseIdError { expected })?;
    bytes.try_into().map_err(|_| ParseIdError { expected })
}

impl FromStr for NodeId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_base32(text, "node id").map(Self)
    }
}

/// The number that the `meta` group gave a node at admission. Never reused,
/// never zero; the first node of a cluster is 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default, Debug)]
pub struct NodeNumber(pub u64);

impl fmt::Display for NodeNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

/// A cluster's identity, random at creation (16 bytes). Two data directories
/// with different cluster ids never talk to each other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub struct ClusterId(pub [u8; 16]);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterId({self})")
    }
}

impl FromStr for ClusterId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_base32(text, "cluster id").map(Self)
    }
}

/// A replicated state machine: `meta`, a service, or one database partition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default, Debug)]
pub struct GroupId(pub u32);

impl GroupId {
    /// Nodes, certificates, tickets, placement: the group every node follows.
    pub const META: Self = Self(0);
    /// Jobs, their tasks and results; its leader is the master.
    pub const JOBS: Self = Self(1);
    /// Group ids from here on are database partitions.
    const FIRST_PARTITION: u32 = 0x1_0000;

    /// The group of database partition `partition`.
    #[must_use]
    pub const fn partition(partition: u16) -> Self {
        Self(Self::FIRST_PARTITION + partition as u32)
    }

    /// The partition number, if this group is a database partition.
    #[must_use]
    pub fn as_partition(self) -> Option<u16> {
        self.0.checked_sub(Self::FIRST_PARTITION).and_then(|p| u16::try_from(p).ok())
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (*self, self.as_partition()) {
            (Self::META, _) => f.write_str("meta"),
            (Self::JOBS, _) => f.write_str("jobs"),
            (_, Some(partition)) => write!(f, "partition-{partition}"),
            (Self(other), None) => write!(f, "group-{other}"),
        }
    }
}

/// How often this data directory has been started, counted from 1. A message
/// of an older incarnation is from a process that is dead.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default, Debug)]
pub struct Incarnation(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_id_survives_its_text_form() {
        let id = NodeId(std::array::from_fn(|i| u8::try_from(i * 7 % 251).unwrap_or(0)));
        assert_eq!(id.to_string().parse::<NodeId>(), Ok(id));
        assert!(id.to_string().starts_with(&id.short()));
    }

    #[test]
    fn wrong_text_says_what_was_expected() {
        let error = "zzz".parse::<ClusterId>().expect_err("three characters are no cluster id");
        assert!(error.to_string().contains("cluster id"), "{error}");
    }

    #[test]
    fn partitions_and_their_groups_map_both_ways() {
        assert_eq!(GroupId::partition(15).as_partition(), Some(15));
        assert_eq!(GroupId::META.as_partition(), None);
        assert_eq!(GroupId::partition(3).to_string(), "partition-3");
        assert_eq!((GroupId::JOBS.as_partition(), GroupId::JOBS.to_string()), (None, "jobs".to_owned()));
    }
}
