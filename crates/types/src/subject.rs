//! The rules of subjects: which names messages may be published to, which
//! filters may be subscribed to, and which filter matches what. They are
//! NATS's: tokens separated by `.`; in a filter, the token `*` stands for any
//! one token and a last token `>` for one or more.
//!
//! `*` and `>` inside a longer token are ordinary characters.

/// Longest subject or filter, in bytes: what fits on one line of the NATS
/// protocol beside its other words.
pub const MAX_SUBJECT_BYTES: usize = 4096;

/// Most tokens of a subject or filter: bounds the depth of every tree of them.
pub const MAX_SUBJECT_TOKENS: usize = 256;

/// Begins the subjects on which the cluster tells what becomes of jobs. Only
/// nodes publish to them.
pub const JOB_EVENTS: &str = "_job.";

/// Whether only nodes may publish to `subject`.
#[must_use]
pub fn is_reserved(subject: &[u8]) -> bool {
    subject.starts_with(JOB_EVENTS.as_bytes())
}

const ANY: &[u8] = b"*";
const REST: &[u8] = b">";

/// The tokens of a subject or filter, in order.
pub fn tokens(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    name.split(|byte| *byte == b'.')
}

fn is_valid_token(token: &[u8]) -> bool {
    !token.is_empty() && !token.iter().any(|byte| byte.is_ascii_whitespace() || *byte == 0)
}

/// Whether `name` is a filter, and whether one that names exactly one subject.
fn inspect(name: &[u8]) -> Option<bool> {
    if name.len() > MAX_SUBJECT_BYTES {
        return None;
    }
    let (mut literal, mut ended) = (true, false);
    for (place, token) in tokens(name).enumerate() {
        if ended || place == MAX_SUBJECT_TOKENS || !is_valid_token(token) {
            return None;
        }
        ended = token == REST;
        literal &= !ended && token != ANY;
    }
    Some(literal)
}

/// Whether messages can be published to `name`: tokens without whitespace,
/// none of them empty or a wildcard.
#[must_use]
pub fn is_valid_subject(name: &[u8]) -> bool {
    inspect(name) == Some(true)
}

/// Whether `name` can be subscribed to: like a subject, but tokens may be
/// `*`, and the last one `>`.
#[must_use]
pub fn is_valid_filter(name: &[u8]) -> bool {
    inspect(name).is_some()
}

/// Whether the valid filter `filter` names exactly one subject.
#[must_use]
pub fn is_literal(filter: &[u8]) -> bool {
    tokens(filter).all(|token| token != ANY && token != REST)
}

/// Whether a message published to `subject` reaches a subscriber to `filter`.
/// Both must be valid.
#[must_use]
pub fn matches(filter: &[u8], subject: &[u8]) -> bool {
    let mut subject = tokens(subject);
    for wanted in tokens(filter) {
        match subject.next() {
            None => return false,
            Some(_) if wanted == REST => return true,
            Some(token) if wanted != ANY && wanted != token => return false,
            Some(_) => {}
        }
    }
    subject.next().is_none()
}

/// Whether every subject that `narrower` matches is matched by `wider` too.
/// Both must be valid filters.
#[must_use]
pub fn covers(wider: &[u8], narrower: &[u8]) -> bool {
    let mut narrower = tokens(narrower);
    for wide in tokens(wider) {
        match narrower.next() {
            Some(_) if wide == REST => return true,
            None | Some(REST) => return false,
            Some(narrow) if wide != ANY && wide != narrow => return false,
            Some(_) => {}
        }
    }
    narrower.next().is_none()
}

/// Whether some subject is matched by both filters. Both must be valid.
#[must_use]
pub fn overlaps(one: &[u8], other: &[u8]) -> bool {
    let (mut one, mut other) = (tokens(one), tokens(other));
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (None, Some(_)) | (Some(_), None) => return false,
            (Some(a), Some(b)) if a == REST || b == REST => return true,
            (Some(a), Some(b)) if a != ANY && b != ANY && a != b => return false,
            (Some(_), Some(_)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn subjects_and_filters_are_told_apart() {
        for fine in ["a", "a.b", "time.us.east", "_INBOX.x.1", "a.b*", "a.>b", "$SYS.x", "ä"] {
            assert!(is_valid_subject(fine.as_bytes()) && is_valid_filter(fine.as_bytes()), "{fine}");
        }
        for filter in ["*", ">", "a.*", "*.b", "a.>", "*.*.>"] {
            assert!(!is_valid_subject(filter.as_bytes()) && is_valid_filter(filter.as_bytes()), "{filter}");
        }
        for wrong in ["", ".", "a.", ".a", "a..b", "a b", "a\t", "a\r", "a.\n", ">.a", "a.>.b", "a\0"] {
            assert!(!is_valid_subject(wrong.as_bytes()) && !is_valid_filter(wrong.as_bytes()), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_too_long_or_too_deep_is_refused() {
        assert!(is_valid_subject(&[b'a'; MAX_SUBJECT_BYTES]));
        assert!(!is_valid_subject(&[b'a'; MAX_SUBJECT_BYTES + 1]));
        let deep = |tokens: usize| vec!["a"; tokens].join(".");
        assert!(is_valid_subject(deep(MAX_SUBJECT_TOKENS).as_bytes()));
        assert!(!is_valid_filter(deep(MAX_SUBJECT_TOKENS + 1).as_bytes()));
    }

    #[test]
    fn wildcards_match_as_in_nats() {
        let cases = [
            ("a.b", "a.b", true),
            ("a.b", "a.c", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            ("*.b", "a.b", true),
            (">", "a.b.c", true),
            ("a*", "ab", false),
        ];
        for (filter, subject, expected) in cases {
            assert_eq!(matches(filter.as_bytes(), subject.as_bytes()), expected, "{filter} {subject}");
        }
    }

    fn filter() -> impl Strategy<Value = String> {
        let token = prop_oneof![3 => "[ab]", 1 => Just("*".to_owned())];
        (prop::collection::vec(token, 0..4), any::<bool>())
            .prop_filter("not empty", |(tokens, rest)| !tokens.is_empty() || *rest)
            .prop_map(|(mut tokens, rest)| {
                tokens.extend(rest.then(|| ">".to_owned()));
                tokens.join(".")
            })
    }

    /// Every subject of up to five tokens over `a`, `b` and `c`, which is
    /// enough to tell the filters above apart.
    fn subjects() -> Vec<String> {
        let mut all: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
        let mut last = all.clone();
        for _ in 0..4 {
            last =
                last.iter().flat_map(|head| ["a", "b", "c"].map(|tail| format!("{head}.{tail}"))).collect();
            all.extend(last.iter().cloned());
        }
        all
    }

    proptest! {
        #[test]
        fn covering_and_overlapping_agree_with_matching(one in filter(), other in filter()) {
            let (one, other) = (one.as_bytes(), other.as_bytes());
            prop_assert!(is_valid_filter(one) && is_valid_filter(other));
            let (mut covered, mut overlapping) = (true, false);
            for subject in subjects() {
                let (first, second) = (matches(one, subject.as_bytes()), matches(other, subject.as_bytes()));
                covered &= first || !second;
                overlapping |= first && second;
            }
            prop_assert_eq!(covers(one, other), covered);
            prop_assert_eq!(overlaps(one, other), overlapping);
            prop_assert_eq!(overlaps(other, one), overlapping);
        }

        #[test]
        fn random_bytes_never_panic(one in prop::collection::vec(any::<u8>(), 0..20),
                                    other in prop::collection::vec(any::<u8>(), 0..20)) {
            let _ = (is_valid_subject(&one), matches(&one, &other), covers(&one, &other));
            prop_assert_eq!(overlaps(&one, &other), overlaps(&other, &one));
            prop_assert_eq!(is_valid_subject(&one), is_valid_filter(&one) && is_literal(&one));
        }
    }
}
