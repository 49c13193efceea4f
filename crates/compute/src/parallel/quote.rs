//! An argument as one word of a POSIX shell. The very form that parallel
//! writes, so that logs and dry runs of both can be compared.

/// `word` so that a shell reads it back as it is.
#[must_use]
pub fn quote(word: &[u8]) -> Vec<u8> {
    if word.is_empty() {
        return b"''".to_vec();
    }
    if word.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_+-./".contains(byte)) {
        return word.to_vec();
    }
    let mut out = Vec::with_capacity(word.len() + 2);
    let pieces: Vec<&[u8]> = word.split(|byte| *byte == b'\'').collect();
    let last = pieces.len() - 1;
    for (at, piece) in pieces.into_iter().enumerate() {
        if at > 0 {
            out.extend_from_slice(b"\"'\"");
        }
        // Nothing at an end needs no quotes.
        if !piece.is_empty() || (at > 0 && at < last) {
            out.push(b'\'');
            out.extend_from_slice(piece);
            out.push(b'\'');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::quote;

    fn text(word: &str) -> String {
        String::from_utf8(quote(word.as_bytes())).expect("text")
    }

    #[test]
    fn words_are_quoted_as_parallel_does() {
        let table = [
            ("a", "a"),
            ("-x", "-x"),
            ("a/b+c_d.e-9", "a/b+c_d.e-9"),
            ("", "''"),
            ("a b", "'a b'"),
            ("c'd", r#"'c'"'"'d'"#),
            ("a'", r#"'a'"'""#),
            ("'", r#""'""#),
            ("''", r#""'"''"'""#),
            ("'a'", r#""'"'a'"'""#),
            ("e\"f", "'e\"f'"),
            ("$x", "'$x'"),
            ("a=b", "'a=b'"),
            ("x\ny", "'x\ny'"),
            ("ä", "'ä'"),
            ("%", "'%'"),
        ];
        for (word, quoted) in table {
            assert_eq!(text(word), quoted, "{word:?}");
        }
    }

    /// What a shell makes of one quoted word; `None` if it is not one word.
    fn unquote(quoted: &[u8]) -> Option<Vec<u8>> {
        let (mut out, mut inside) = (Vec::new(), None);
        for byte in quoted {
            match inside {
                Some(quote) if *byte == quote => inside = None,
                Some(b'"') if b"$`\\".contains(byte) => return None,
                Some(_) => out.push(*byte),
                None if b"'\"".contains(byte) => inside = Some(*byte),
                None if byte.is_ascii_alphanumeric() || b"_+-./".contains(byte) => out.push(*byte),
                None => return None,
            }
        }
        inside.is_none().then_some(out)
    }

    proptest! {
        #[test]
        fn a_shell_reads_back_what_was_quoted(word in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(unquote(&quote(&word)), Some(word));
        }
    }
}
