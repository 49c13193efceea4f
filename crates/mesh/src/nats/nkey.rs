//! Keys as NATS writes them: one byte for the kind, the key, a CRC-16, all in
//! base32. Only users' public keys are of interest here; seeds never come.
//!
//! ```text
//! UAFHG6FU…    'U' = 20 << 3 | key (32 bytes) | CRC-16/XMODEM, least byte first
//! ```

use data_encoding::{BASE32_NOPAD, BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD};

/// First byte of a user's public key.
const USER: u8 = 20 << 3;

/// Length of such a key in base32.
const ENCODED: usize = 56;

/// The public key of a user; `None` if this is none.
pub fn public_key(text: &str) -> Option<[u8; 32]> {
    if text.len() != ENCODED {
        return None;
    }
    let raw = BASE32_NOPAD.decode(text.as_bytes()).ok()?;
    let (body, check) = raw.split_at_checked(33)?;
    let check = u16::from_le_bytes(check.try_into().ok()?);
    if body[0] != USER || crc16(body) != check {
        return None;
    }
    body[1..].try_into().ok()
}

/// The text of a user's public key.
pub fn text(public: &[u8; 32]) -> String {
    let mut raw = Vec::with_capacity(35);
    raw.push(USER);
    raw.extend_from_slice(public);
    raw.extend_from_slice(&crc16(&raw).to_le_bytes());
    BASE32_NOPAD.encode(&raw)
}

/// A signature; libraries write it in any of the four kinds of base64.
pub fn signature(text: &str) -> Option<[u8; 64]> {
    let kinds = [&BASE64URL_NOPAD, &BASE64URL, &BASE64, &BASE64_NOPAD];
    kinds.iter().find_map(|kind| kind.decode(text.as_bytes()).ok())?.try_into().ok()
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{crc16, public_key, signature, text};

    const KEY: &str = "UAFHG6FUD2UU4SDFVAFUL5LDFO2XM4WYM76UNXTPJYJK7EEMYRBHT2VE";

    #[test]
    fn a_key_of_a_suite_reads_and_writes() {
        let public = public_key(KEY).expect("a user's key");
        assert_eq!(text(&public), KEY);
        assert_eq!(public_key(&KEY.replace("UAF", "UAG")), None);
        assert_eq!(public_key("UAFHG6"), None);
        assert_eq!(public_key(&"1".repeat(56)), None);
    }

    #[test]
    fn the_crc_is_the_one_of_xmodem() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
    }

    #[test]
    fn signatures_in_any_base64() {
        let raw = [0xfb; 64];
        let expected = Some(raw);
        assert_eq!(signature(&data_encoding::BASE64.encode(&raw)), expected);
        assert_eq!(signature(&data_encoding::BASE64URL_NOPAD.encode(&raw)), expected);
        assert_eq!(signature("AAAA"), None);
    }

    proptest! {
        #[test]
        fn round_trip(public: [u8; 32]) {
            prop_assert_eq!(public_key(&text(&public)), Some(public));
        }
    }
}
