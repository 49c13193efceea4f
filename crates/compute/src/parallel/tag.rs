//! Whose output a line is: `--tag` writes the arguments and a tab before it.

/// Writes a tag and a tab before each line of what passes.
#[derive(Debug, Clone)]
pub struct Tagger {
    tag: Option<Vec<u8>>,
    within: bool,
}

impl Tagger {
    /// At the begin of a line. Without a tag everything passes as it is.
    #[must_use]
    pub fn new(tag: Option<Vec<u8>>) -> Self {
        Self { tag, within: false }
    }

    /// The next piece of the output, with tags; they go to the end of `out`.
    /// What has no line end gets none.
    pub fn pass(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let Some(tag) = &self.tag else { return out.extend_from_slice(piece) };
        for line in piece.split_inclusive(|byte| *byte == b'\n') {
            if !self.within {
                out.extend_from_slice(tag);
                out.push(b'\t');
            }
            out.extend_from_slice(line);
            self.within = !line.ends_with(b"\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tagger;

    fn tagged(tag: &str, pieces: &[&str]) -> String {
        let (mut tagger, mut out) = (Tagger::new(Some(tag.into())), Vec::new());
        for piece in pieces {
            tagger.pass(piece.as_bytes(), &mut out);
        }
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn each_line_is_tagged_and_ends_stay() {
        assert_eq!(tagged("1", &["a\n\nb"]), "1\ta\n1\t\n1\tb");
        assert_eq!(tagged("1 2", &["a\n"]), "1 2\ta\n");
        assert_eq!(tagged("1", &["a", "b\n", "", "c"]), "1\tab\n1\tc");
        assert_eq!(tagged("1", &[""]), "");
        let mut out = Vec::new();
        Tagger::new(None).pass(b"a\nb", &mut out);
        assert_eq!(out, b"a\nb");
    }
}
