//! Whose output a line is: `--tag` writes the arguments and a tab before it.

/// Each line of `output` after `tag` and a tab. What has no line end gets none.
#[must_use]
pub fn tagged(tag: &[u8], output: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(output.len() + output.len() / 16 + tag.len() + 1);
    for line in output.split_inclusive(|byte| *byte == b'\n') {
        out.extend_from_slice(tag);
        out.push(b'\t');
        out.extend_from_slice(line);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::tagged;

    #[test]
    fn each_line_is_tagged_and_ends_stay() {
        assert_eq!(tagged(b"1", b"a\n\nb"), b"1\ta\n1\t\n1\tb");
        assert_eq!(tagged(b"1 2", b"a\n"), b"1 2\ta\n");
        assert_eq!(tagged(b"1", b""), b"");
    }
}
