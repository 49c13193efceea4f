//! Admission certificates: the cluster's word that a key is one of its nodes.
//!
//! ```text
//! | version 1 u8 | cluster 16 | node 32 | number u64 | roles u32 |
//! | not before u64 ms | not after u64 ms | issuer 32 |
//! | name length u8 | name UTF-8, at most 64 | signature 64 |     little-endian
//! | count u8, at most 4 | endorsements 128 each |
//! ```
//!
//! The signature (Ed25519) covers a context string and all that stands before
//! it. Endorsements prove themselves.

use bytes::{Buf, BufMut};
use trine_types::{ClusterId, NodeId, NodeNumber};

use crate::endorsement::{ENDORSEMENT_BYTES, Endorsement, MAX_ENDORSEMENTS};
use crate::identity::{IssuingKey, verify};

/// Longest name of a node, in bytes.
pub const MAX_NAME_BYTES: usize = 64;

/// Longest encoded certificate, in bytes.
pub const MAX_CERTIFICATE_BYTES: usize =
    1 + 16 + 32 + 8 + 4 + 8 + 8 + 32 + 1 + MAX_NAME_BYTES + 64 + 1 + MAX_ENDORSEMENTS * ENDORSEMENT_BYTES;

const VERSION: u8 = 1;
const CONTEXT: &[u8] = b"trine admission certificate v1\0";

/// What a certificate says, before it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The cluster that admits.
    pub cluster: ClusterId,
    /// The key that is admitted.
    pub node: NodeId,
    /// The node's number.
    pub number: NodeNumber,
    /// The node's name; at most [`MAX_NAME_BYTES`] bytes.
    pub name: String,
    /// What the node may do: bits whose meaning `cluster` defines.
    pub roles: u32,
    /// Valid from, in ms of wall clock since the Unix epoch.
    pub not_before_ms: u64,
    /// Valid until, in the same unit.
    pub not_after_ms: u64,
}

/// A signed [`Admission`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmissionCertificate {
    /// What it says.
    pub admission: Admission,
    /// Public half of the key that signed it.
    pub issuer: [u8; 32],
    signature: [u8; 64],
    endorsements: Vec<Endorsement>,
}

/// The bytes are no certificate that this version reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an admission certificate of a known version")]
pub struct NotACertificate;

impl AdmissionCertificate {
    /// Signs `admission`. A name over [`MAX_NAME_BYTES`] is cut (at a
    /// character), so that every certificate made can be encoded.
    #[must_use]
    pub fn issue(mut admission: Admission, key: &IssuingKey) -> Self {
        let mut end = admission.name.len().min(MAX_NAME_BYTES);
        while !admission.name.is_char_boundary(end) {
            end -= 1;
        }
        admission.name.truncate(end);
        let mut certificate =
            Self { admission, issuer: key.public(), signature: [0; 64], endorsements: Vec::new() };
        certificate.signature = key.sign(&certificate.signed_bytes());
        certificate
    }

    /// The same with the words of earlier keys for the issuer, and for each
    /// other; the newest first. More than [`MAX_ENDORSEMENTS`] are left out.
    #[must_use]
    pub fn endorsed(mut self, mut endorsements: Vec<Endorsement>) -> Self {
        endorsements.truncate(MAX_ENDORSEMENTS);
        self.endorsements = endorsements;
        self
    }

    /// What earlier keys say about the issuer.
    #[must_use]
    pub fn endorsements(&self) -> &[Endorsement] {
        &self.endorsements
    }

    /// Whether the signature is by [`AdmissionCertificate::issuer`]. Whether
    /// that issuer, the time and the node are to be trusted is
    /// [`crate::Trust::admit`]'s question.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        verify(&self.issuer, &self.signed_bytes(), &self.signature)
    }

    /// The bytes, at most [`MAX_CERTIFICATE_BYTES`].
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MAX_CERTIFICATE_BYTES);
        self.put_unsigned(&mut out);
        out.put_slice(&self.signature);
        out.put_u8(u8::try_from(self.endorsements.len()).unwrap_or(u8::MAX));
        for endorsement in &self.endorsements {
            endorsement.put(&mut out);
        }
        out
    }

    /// Reads a certificate; the signature is not checked yet.
    ///
    /// # Errors
    /// [`NotACertificate`] for anything that [`AdmissionCertificate::encode`]
    /// would not have made, trailing bytes included.
    pub fn decode(bytes: &[u8]) -> Result<Self, NotACertificate> {
        decode(bytes).ok_or(NotACertificate)
    }

    fn put_unsigned(&self, out: &mut Vec<u8>) {
        let admission = &self.admission;
        out.put_u8(VERSION);
        out.put_slice(&admission.cluster.0);
        out.put_slice(&admission.node.0);
        out.put_u64_le(admission.number.0);
        out.put_u32_le(admission.roles);
        out.put_u64_le(admission.not_before_ms);
        out.put_u64_le(admission.not_after_ms);
        out.put_slice(&self.issuer);
        out.put_u8(u8::try_from(admission.name.len()).unwrap_or(u8::MAX));
        out.put_slice(admission.name.as_bytes());
    }

    fn signed_bytes(&self) -> Vec<u8> {
        let mut out = CONTEXT.to_vec();
        self.put_unsigned(&mut out);
        out
    }
}

fn decode(mut bytes: &[u8]) -> Option<AdmissionCertificate> {
    if bytes.try_get_u8().ok()? != VERSION {
        return None;
    }
    let cluster = ClusterId(take(&mut bytes)?);
    let node = NodeId(take(&mut bytes)?);
    let number = NodeNumber(bytes.try_get_u64_le().ok()?);
    let roles = bytes.try_get_u32_le().ok()?;
    let not_before_ms = bytes.try_get_u64_le().ok()?;
    let not_after_ms = bytes.try_get_u64_le().ok()?;
    let issuer = take(&mut bytes)?;
    let name_len = usize::from(bytes.try_get_u8().ok()?);
    if name_len > MAX_NAME_BYTES {
        return None;
    }
    let (name, mut bytes) = bytes.split_at_checked(name_len)?;
    let name = String::from_utf8(name.to_vec()).ok()?;
    let signature = take(&mut bytes)?;
    let count = usize::from(bytes.try_get_u8().ok()?);
    if count > MAX_ENDORSEMENTS || bytes.len() != count * ENDORSEMENT_BYTES {
        return None;
    }
    let endorsements = (0..count).map(|_| Endorsement::take(&mut bytes)).collect::<Option<_>>()?;
    let admission = Admission { cluster, node, number, name, roles, not_before_ms, not_after_ms };
    Some(AdmissionCertificate { admission, issuer, signature, endorsements })
}

/// The next `N` bytes.
pub(crate) fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn admission(node: NodeId) -> Admission {
        Admission {
            cluster: ClusterId([5; 16]),
            node,
            number: NodeNumber(3),
            name: "node-3".into(),
            roles: 1,
            not_before_ms: 1_000,
            not_after_ms: 2_000,
        }
    }

    proptest! {
        #[test]
        fn round_trip(
            (cluster, node) in (any::<[u8; 16]>(), any::<[u8; 32]>()),
            (number, roles) in (any::<u64>(), any::<u32>()),
            (from, to) in (any::<u64>(), any::<u64>()),
            name in "\\PC{0,90}",
            endorsements in 0..7_u8,
        ) {
            let key = IssuingKey::from_seed([1; 32]);
            let admission = Admission {
                cluster: ClusterId(cluster), node: NodeId(node), number: NodeNumber(number),
                name, roles, not_before_ms: from, not_after_ms: to,
            };
            let words = (0..endorsements).map(|of| Endorsement::give(&key, [of; 32])).collect();
            let certificate = AdmissionCertificate::issue(admission, &key).endorsed(words);
            let bytes = certificate.encode();
            prop_assert!(bytes.len() <= MAX_CERTIFICATE_BYTES && certificate.is_signed());
            prop_assert_eq!(AdmissionCertificate::decode(&bytes), Ok(certificate));
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..900)) {
            let _ = AdmissionCertificate::decode(&bytes);
        }

        #[test]
        fn any_changed_byte_is_noticed(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let key = IssuingKey::from_seed([1; 32]);
            let mut bytes = AdmissionCertificate::issue(admission(NodeId([2; 32])), &key).encode();
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            let intact = AdmissionCertificate::decode(&bytes)
                .is_ok_and(|changed| changed.is_signed() && changed.issuer == key.public());
            prop_assert!(!intact);
        }
    }
}
