//! What a node says about itself to its peers: the version of its program and
//! the tags that its configuration gives it. Static while it runs, so that it
//! crosses the network once, when a ping shows that its sender has another.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Longest profile in bytes, encoded: it must fit beside everything else in
/// one small message.
pub const MAX_PROFILE_BYTES: usize = 1_024;
/// Most tags of a node.
pub const MAX_TAGS: usize = 16;
/// Longest name of a tag, in bytes.
pub const MAX_TAG_NAME_BYTES: usize = 32;
/// Longest value of a tag, in bytes; 16 tags of the longest name and value
/// would not fit, so the sum is bounded as well.
pub const MAX_TAG_VALUE_BYTES: usize = 128;

/// What a node says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Version of its program.
    pub version: String,
    /// Tags, for people and for placement by people.
    pub tags: BTreeMap<String, String>,
}

/// Why tags cannot be used. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTags {
    /// Too many of them.
    #[error("{0} tags are more than {MAX_TAGS}")]
    TooMany(usize),
    /// A name is not acceptable.
    #[error("the tag name {0:?} is not 1 to {MAX_TAG_NAME_BYTES} letters, digits, '-', '_' or '.'")]
    Name(String),
    /// A value is not acceptable.
    #[error("the value of tag {0:?} is longer than {MAX_TAG_VALUE_BYTES} bytes or has control characters")]
    Value(String),
    /// All together are too long.
    #[error("all tags together take {0} bytes; at most {MAX_PROFILE_BYTES}")]
    TooLong(usize),
}

impl Profile {
    /// A profile of checked tags.
    ///
    /// # Errors
    /// [`BadTags`]
    pub fn new(version: &str, tags: BTreeMap<String, String>) -> Result<Self, BadTags> {
        if tags.len() > MAX_TAGS {
            return Err(BadTags::TooMany(tags.len()));
        }
        for (name, value) in &tags {
            let named = (1..=MAX_TAG_NAME_BYTES).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
            if !named {
                return Err(BadTags::Name(name.clone()));
            }
            if value.len() > MAX_TAG_VALUE_BYTES || value.chars().any(char::is_control) {
                return Err(BadTags::Value(name.clone()));
            }
        }
        let profile = Self { version: version.to_owned(), tags };
        let bytes = profile.encode().len();
        if bytes > MAX_PROFILE_BYTES { Err(BadTags::TooLong(bytes)) } else { Ok(profile) }
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).unwrap_or_default()
    }

    /// A profile from its bytes; nothing if they are of another version.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}

/// A profile's fingerprint (FNV-1a), never 0: 0 says that none is known.
#[must_use]
pub fn hash(profile: &[u8]) -> u32 {
    let mix = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    profile.iter().fold(0x811c_9dc5, mix).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn tags_are_checked_by_name() {
        let good = Profile::new("0.1.0", tags(&[("rack", "r 7"), ("disk.kind", "nvme")])).expect("good");
        assert_eq!(Profile::decode(&good.encode()), Some(good));
        assert_eq!(Profile::new("", tags(&[("a b", "")])), Err(BadTags::Name("a b".into())));
        assert_eq!(Profile::new("", tags(&[("a", "\n")])), Err(BadTags::Value("a".into())));
        let long = "x".repeat(MAX_TAG_VALUE_BYTES);
        let many: BTreeMap<String, String> = (0..10).map(|n| (format!("t{n}"), long.clone())).collect();
        assert!(matches!(Profile::new("", many), Err(BadTags::TooLong(_))));
        let many = (0..=MAX_TAGS).map(|n| (format!("t{n}"), String::new())).collect();
        assert_eq!(Profile::new("", many), Err(BadTags::TooMany(MAX_TAGS + 1)));
    }
}
