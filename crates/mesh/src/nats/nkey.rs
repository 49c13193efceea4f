//! Signatures of NATS's users. The keys themselves, [`trine_types::nkey`], are
//! in the vocabulary: the cluster keeps them.

use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD};

/// A signature; libraries write it in any of the four kinds of base64.
pub fn signature(text: &str) -> Option<[u8; 64]> {
    let kinds = [&BASE64URL_NOPAD, &BASE64URL, &BASE64, &BASE64_NOPAD];
    kinds.iter().find_map(|kind| kind.decode(text.as_bytes()).ok())?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::signature;

    #[test]
    fn signatures_in_any_base64() {
        let raw = [0xfb; 64];
        let expected = Some(raw);
        assert_eq!(signature(&data_encoding::BASE64.encode(&raw)), expected);
        assert_eq!(signature(&data_encoding::BASE64URL_NOPAD.encode(&raw)), expected);
        assert_eq!(signature("AAAA"), None);
    }
}
