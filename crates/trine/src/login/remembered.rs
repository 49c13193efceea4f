//! Passwords that were right, as keyed hashes that are of no use elsewhere:
//! the slow hash is paid once per password, not once per connection.

use std::collections::BTreeMap;

use trine_cluster::users::UserRow;

/// So many are remembered; the one that was used least recently makes room.
const CAPACITY: usize = 1_024;

/// One login that was right.
pub(super) type Proof = [u8; 32];

/// Stands for this password of this user as it is stored now: another
/// password, or another user of the same name, has another proof.
pub(super) fn proof(key: &[u8; 32], name: &str, row: &UserRow, password: &str) -> Proof {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&row.number.to_le_bytes()).update(&row.epoch.to_le_bytes());
    for kept in &row.spec.passwords {
        hasher.update(&kept.hash);
    }
    hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes()).update(password.as_bytes());
    *hasher.finalize().as_bytes()
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    used: BTreeMap<Proof, u64>,
    clock: u64,
}

impl Remembered {
    /// Whether it was right before.
    pub(super) fn knows(&mut self, proof: &Proof) -> bool {
        self.clock += 1;
        let used = self.used.get_mut(proof);
        used.map(|used| *used = self.clock).is_some()
    }

    /// It was right.
    pub(super) fn add(&mut self, proof: Proof) {
        if self.used.len() >= CAPACITY {
            let oldest = self.used.iter().min_by_key(|(_, used)| **used).map(|(proof, _)| *proof);
            oldest.and_then(|oldest| self.used.remove(&oldest));
        }
        self.clock += 1;
        self.used.insert(proof, self.clock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_memory_has_a_bound() {
        let mut remembered = Remembered::default();
        remembered.add([255; 32]);
        for n in 0..3 * CAPACITY as u64 {
            let mut proof = [0; 32];
            proof[..8].copy_from_slice(&n.to_le_bytes());
            remembered.add(proof);
            assert!(remembered.knows(&[255; 32]));
            assert!(remembered.used.len() <= CAPACITY);
        }
        assert!(!remembered.knows(&[254; 32]));
    }
}
