//! A row's key with its first bytes in place, so that comparing two keys
//! rarely follows a pointer: a search through a tree of keys is otherwise a
//! miss of the processor's cache for each step. Pure.

use bytes::Bytes;

/// See the module. Ordered as the bytes of the key are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RowKey {
    /// The first bytes, so that number order is byte order; zeros follow a
    /// shorter key.
    head: [u64; 2],
    pub(super) key: Bytes,
}

impl RowKey {
    pub(super) fn new(key: Bytes) -> Self {
        let mut head = [0; 16];
        let length = key.len().min(16);
        head[..length].copy_from_slice(&key[..length]);
        let head = u128::from_be_bytes(head);
        let low = u64::try_from(head & u128::from(u64::MAX)).unwrap_or_default();
        Self { head: [u64::try_from(head >> 64).unwrap_or_default(), low], key }
    }

    /// A key to look up.
    pub(super) fn probe(key: &[u8]) -> Self {
        Self::new(Bytes::copy_from_slice(key))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in crate::state) fn key() -> impl Strategy<Value = Vec<u8>> {
        // Few bytes, and lengths around that of the head, so that keys meet.
        prop::collection::vec(prop::sample::select(vec![0_u8, 1, 255]), 0..3).prop_flat_map(|tail| {
            prop::sample::select(vec![0_usize, 7, 8, 14, 16]).prop_map(move |zeros| {
                let mut key = vec![0; zeros];
                key.extend_from_slice(&tail);
                key
            })
        })
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_the_bytes(one in key(), two in key()) {
            prop_assert_eq!(RowKey::probe(&one).cmp(&RowKey::probe(&two)), one.cmp(&two));
        }
    }
}
