//! Endorsements: an issuing key's word for its successor. A node that was off
//! while the key was replaced knows only the old one, and would refuse all who
//! have a certificate of the new one, for ever; with the endorsements that
//! certificates carry it can tell that the new key is the cluster's.
//!
//! ```text
//! | by 32 | of 32 | signature 64 |
//! ```
//!
//! Whoever has the old key could sign certificates with it as well, so that an
//! endorsement gives nobody more than the old key did; it counts as long as
//! the old key is valid.

use bytes::BufMut;

use crate::certificate::take;
use crate::identity::{IssuingKey, verify};

/// Most endorsements that a certificate carries.
pub const MAX_ENDORSEMENTS: usize = 4;
/// Size of an encoded endorsement.
pub(crate) const ENDORSEMENT_BYTES: usize = 32 + 32 + 64;

const CONTEXT: &[u8] = b"trine issuing key v1\0";

/// A key's word that another one follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endorsement {
    /// Public half of the old key.
    pub by: [u8; 32],
    /// Public half of the new one.
    pub of: [u8; 32],
    /// By the old key; checked when it is used.
    pub signature: [u8; 64],
}

impl Endorsement {
    /// The word of `key` for the key whose public half is `successor`.
    #[must_use]
    pub fn give(key: &IssuingKey, successor: [u8; 32]) -> Self {
        Self { by: key.public(), of: successor, signature: key.sign(&signed_bytes(&successor)) }
    }

    /// Whether the old key really said so.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        verify(&self.by, &signed_bytes(&self.of), &self.signature)
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_slice(&self.by);
        out.put_slice(&self.of);
        out.put_slice(&self.signature);
    }

    pub(crate) fn take(bytes: &mut &[u8]) -> Option<Self> {
        Some(Self { by: take(bytes)?, of: take(bytes)?, signature: take(bytes)? })
    }
}

fn signed_bytes(successor: &[u8; 32]) -> Vec<u8> {
    [CONTEXT, successor].concat()
}
