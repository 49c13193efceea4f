//! Public keys of users as NATS writes them: `U…`, base32 of a byte for the
//! kind, the Ed25519 key and a CRC-16 of both.

use data_encoding::BASE32_NOPAD;

/// First byte of a user's public key: what base32 writes as `U`.
const USER: u8 = 20 << 3;

/// The public key of a user; `None` if `text` is none.
#[must_use]
pub fn public_key(text: &str) -> Option<[u8; 32]> {
    let raw = BASE32_NOPAD.decode(text.as_bytes()).ok()?;
    let (body, check) = raw.split_at_checked(33)?;
    let (kind, key) = body.split_first()?;
    if *kind != USER || crc16(body).to_le_bytes() != check {
        return None;
    }
    key.try_into().ok()
}

/// The text of a user's public key.
#[must_use]
pub fn text(public: &[u8; 32]) -> String {
    let mut raw = vec![USER];
    raw.extend_from_slice(public);
    let check = crc16(&raw);
    raw.extend_from_slice(&check.to_le_bytes());
    BASE32_NOPAD.encode(&raw)
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    let shift = |crc: u16, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
    bytes.iter().fold(0, |crc, byte| (0..8).fold(crc ^ (u16::from(*byte) << 8), shift))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{crc16, public_key, text};

    #[test]
    fn a_key_of_a_suite_reads_and_writes() {
        const KEY: &str = "UAFHG6FUD2UU4SDFVAFUL5LDFO2XM4WYM76UNXTPJYJK7EEMYRBHT2VE";
        let public = public_key(KEY).expect("a user's key");
        assert_eq!(text(&public), KEY);
        assert_eq!(public_key(&KEY.replace("UAF", "UAG")), None);
        assert_eq!(public_key(&"1".repeat(56)), None);
    }

    #[test]
    fn a_key_that_was_not_copied_whole_is_none() {
        let key = text(&[7; 32]);
        assert!(key.starts_with('U') && key.len() == 56);
        for bad in ["", "U", &key[1..], &key.replace('A', "B"), &key.replacen('U', "A", 1)] {
            assert_eq!(public_key(bad), None, "{bad}");
        }
        assert_eq!(crc16(b"123456789"), 0x31c3);
    }

    proptest! {
        #[test]
        fn keys_survive_their_text(public: [u8; 32]) {
            prop_assert_eq!(public_key(&text(&public)), Some(public));
        }
    }
}
