//! Keys: a node's identity and the cluster's issuing key. Both are Ed25519
//! (RFC 8032) made from a 32-byte seed, which is what gets stored.

use std::fmt;

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use trine_types::{Entropy, NodeId};

/// A node's secret key. Its public half is the node's [`NodeId`].
pub struct Identity {
    seed: [u8; 32],
    pair: Ed25519KeyPair,
    id: NodeId,
}

impl Identity {
    /// A new key; done once in a node's life.
    #[must_use]
    pub fn generate(entropy: &dyn Entropy) -> Self {
        Self::from_seed(fresh_seed(entropy))
    }

    /// The key that was made from this seed before.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let (pair, public) = key_pair(&seed);
        Self { seed, pair, id: NodeId(public) }
    }

    /// The secret to store, readable by the node's user only.
    #[must_use]
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// The public half.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.id
    }

    /// Signs a message. Callers put a context of their own in front, so that
    /// a signature for one purpose is none for another.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        sign(&self.pair, message)
    }
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self::from_seed(self.seed)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The secret key that signs admission certificates. Held by the voters of
/// `meta` only.
pub struct IssuingKey {
    seed: [u8; 32],
    pair: Ed25519KeyPair,
    public: [u8; 32],
}

impl IssuingKey {
    /// A new key: at the cluster's creation and at each rotation.
    #[must_use]
    pub fn generate(entropy: &dyn Entropy) -> Self {
        Self::from_seed(fresh_seed(entropy))
    }

    /// The key that was made from this seed before.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let (pair, public) = key_pair(&seed);
        Self { seed, pair, public }
    }

    /// The secret to store.
    #[must_use]
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// The public half, by which every node verifies certificates.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.public
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        sign(&self.pair, message)
    }
}

impl fmt::Debug for IssuingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuingKey").field("public", &NodeId(self.public)).finish_non_exhaustive()
    }
}

/// Whether `signature` over `message` was made by the holder of `public`.
#[must_use]
pub fn verify(public: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    UnparsedPublicKey::new(&ED25519, public).verify(message, signature).is_ok()
}

fn fresh_seed(entropy: &dyn Entropy) -> [u8; 32] {
    let mut seed = [0; 32];
    entropy.fill(&mut seed);
    seed
}

fn key_pair(seed: &[u8; 32]) -> (Ed25519KeyPair, [u8; 32]) {
    let pair = Ed25519KeyPair::from_seed_unchecked(seed)
        .expect("every 32-byte seed makes an Ed25519 key (RFC 8032)");
    let mut public = [0; 32];
    public.copy_from_slice(pair.public_key().as_ref());
    (pair, public)
}

fn sign(pair: &Ed25519KeyPair, message: &[u8]) -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes.copy_from_slice(pair.sign(message).as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_key_of_rfc_8032_test_1() {
        let seed = data_encoding::HEXLOWER
            .decode(b"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
            .unwrap();
        let identity = Identity::from_seed(seed.try_into().unwrap());
        assert_eq!(
            data_encoding::HEXLOWER.encode(&identity.node_id().0),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
        let signature = identity.sign(b"");
        assert!(signature.starts_with(&[0xe5, 0x56, 0x43, 0x00]));
        assert!(verify(&identity.node_id().0, b"", &signature));
        assert!(!verify(&identity.node_id().0, b"other", &signature));
    }

    #[test]
    fn secrets_do_not_show() {
        let identity = Identity::from_seed([0xAB; 32]);
        assert!(!format!("{identity:?}").to_lowercase().contains("abab"));
    }
}
