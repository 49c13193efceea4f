//! Patterns of keys, as in KEYS, SCAN and rights: `*`, `?`, `[a-z]`, `[^a]`,
//! `\x`, on bytes, as Redis matches them. Linear in pattern times text,
//! whatever the pattern.

/// Whether all of `text` matches `pattern`.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    // Where to go on if what follows the last star does not match: the star
    // then takes one byte more. Earlier stars never need to be tried again.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if pattern.get(at) == Some(&b'*') {
            retry = Some((at + 1, from));
            at += 1;
            continue;
        }
        match text.get(from) {
            None => return at >= pattern.len(),
            Some(byte) => {
                if let Some(next) = one(pattern, at, *byte) {
                    (at, from) = (next, from + 1);
                    continue;
                }
            }
        }
        let Some((star, taken)) = retry else { return false };
        retry = Some((star, taken + 1));
        (at, from) = (star, taken + 1);
        if from > text.len() {
            return false;
        }
    }
}

/// Matches one byte against the pattern element at `at`; answers where the
/// next element starts.
fn one(pattern: &[u8], at: usize, byte: u8) -> Option<usize> {
    match pattern.get(at)? {
        b'?' => Some(at + 1),
        b'[' => class(pattern, at + 1, byte),
        b'\\' if at + 1 < pattern.len() => (pattern[at + 1] == byte).then_some(at + 2),
        literal => (*literal == byte).then_some(at + 1),
    }
}

/// Matches a byte against the class whose inside starts at `at`.
fn class(pattern: &[u8], mut at: usize, byte: u8) -> Option<usize> {
    let negated = pattern.get(at) == Some(&b'^');
    at += usize::from(negated);
    let mut matched = false;
    loop {
        match pattern.get(at) {
            // An open class ends with the pattern.
            None => return (matched != negated).then_some(at),
            Some(b']') => return (matched != negated).then_some(at + 1),
            Some(b'\\') if at + 1 < pattern.len() => {
                matched |= pattern[at + 1] == byte;
                at += 2;
            }
            Some(first) => {
                if let (Some(b'-'), Some(last)) = (pattern.get(at + 1), pattern.get(at + 2)) {
                    matched |= (*first.min(last)..=*first.max(last)).contains(&byte);
                    at += 3;
                } else {
                    matched |= *first == byte;
                    at += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::matches;

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("h\\*llo", "h*llo", true),
            ("h\\*llo", "hello", false),
            ("*a*b*c", "xxaxxbxxc", true),
            ("*a*b*c", "xxaxxbxx", false),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("[", "a", false),
            ("[a", "a", true),
            ("user:*:name", "user:1:2:name", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = "a*".repeat(200) + "b";
        assert!(!matches(pattern.as_bytes(), "a".repeat(2000).as_bytes()));
    }

    proptest! {
        #[test]
        fn never_panics(pattern in r"[a\[\]*?^\\-]{0,12}", text in "[a-c*]{0,12}") {
            let _ = matches(pattern.as_bytes(), text.as_bytes());
        }

        #[test]
        fn text_matches_itself_and_around_stars(text in "[a-z]{0,12}", cut in 0_usize..12) {
            let cut = cut.min(text.len());
            prop_assert!(matches(text.as_bytes(), text.as_bytes()));
            let starred = format!("{}*{}", &text[..cut], &text[cut..]);
            prop_assert!(matches(starred.as_bytes(), text.as_bytes()));
        }
    }
}
