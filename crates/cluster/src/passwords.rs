//! Passwords as they are stored: argon2id (RFC 9106) with a salt for each, at
//! the costs that each was made with. Pure and slow on purpose: callers run it
//! where blocking work runs, never in `apply`.

use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};

/// Memory that one guess costs, in KiB; with [`PASSES`] what OWASP recommends.
pub const MEMORY_KIB: u32 = 19 * 1024;
/// Passes over that memory.
pub const PASSES: u32 = 2;
/// Longest password, in bytes.
pub const MAX_PASSWORD_BYTES: usize = 512;
/// Length of a salt.
pub const SALT_BYTES: usize = 16;

/// What is kept of a password.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PasswordHash {
    /// Drawn at random for this password.
    pub salt: [u8; SALT_BYTES],
    /// Memory that it was made with, in KiB.
    pub memory_kib: u32,
    /// Passes that it was made with.
    pub passes: u32,
    /// The result.
    pub hash: [u8; 32],
}

impl PasswordHash {
    /// Hashes a password; `None`: it is empty or too long.
    #[must_use]
    pub fn make(password: &[u8], salt: [u8; SALT_BYTES]) -> Option<Self> {
        if password.is_empty() {
            return None;
        }
        let hash = derive(password, &salt, MEMORY_KIB, PASSES)?;
        Some(Self { salt, memory_kib: MEMORY_KIB, passes: PASSES, hash })
    }

    /// Whether it was made from this password. Takes the same time whatever
    /// part differs.
    #[must_use]
    pub fn is_of(&self, password: &[u8]) -> bool {
        let derived = derive(password, &self.salt, self.memory_kib, self.passes);
        derived.is_some_and(|derived| blake3::Hash::from(derived) == blake3::Hash::from(self.hash))
    }

    /// What a login for a user that does not exist is compared with, so that
    /// it takes as long as one that does.
    #[must_use]
    pub fn of_nobody() -> Self {
        Self { salt: [0; SALT_BYTES], memory_kib: MEMORY_KIB, passes: PASSES, hash: [0; 32] }
    }
}

fn derive(password: &[u8], salt: &[u8], memory_kib: u32, passes: u32) -> Option<[u8; 32]> {
    if password.len() > MAX_PASSWORD_BYTES || memory_kib > 4 * MEMORY_KIB || passes > 4 * PASSES {
        return None;
    }
    let params = Params::new(memory_kib, passes, 1, None).ok()?;
    let mut hash = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password, salt, &mut hash)
        .ok()?;
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_knows_its_password_and_no_other() {
        let hash = PasswordHash::make(b"correct horse", [7; SALT_BYTES]).expect("acceptable");
        assert!(hash.is_of(b"correct horse") && !hash.is_of(b"correct horsf") && !hash.is_of(b""));
        let salted = PasswordHash::make(b"correct horse", [8; SALT_BYTES]).expect("acceptable");
        assert_ne!(hash.hash, salted.hash);
        assert!(!PasswordHash::of_nobody().is_of(b"correct horse"));
    }

    #[test]
    fn passwords_and_costs_have_bounds() {
        assert_eq!(PasswordHash::make(b"", [0; SALT_BYTES]), None);
        assert_eq!(PasswordHash::make(&[b'x'; MAX_PASSWORD_BYTES + 1], [0; SALT_BYTES]), None);
        let costly = PasswordHash { memory_kib: u32::MAX, ..PasswordHash::of_nobody() };
        assert!(!costly.is_of(b"any"), "a row cannot make a login cost all memory");
    }
}
