//! Standard input cut into blocks at the borders of records (`--pipe`): each
//! block is what one task reads. A border is where a record ends (`--recend`,
//! a line end by default) and the next one starts (`--recstart`).

use std::collections::VecDeque;

/// Largest block: it is the standard input of one task.
pub const MAX_BLOCK_BYTES: usize = 4 * 1024 * 1024 - 64 * 1024;

/// Size of a block when nothing else is said.
pub const DEFAULT_BLOCK_BYTES: usize = 1024 * 1024;

/// How input is cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// What a record starts with.
    pub start: Vec<u8>,
    /// What a record ends with.
    pub end: Vec<u8>,
    /// So many records in each block; `None`: as many as fit.
    pub records: Option<usize>,
    /// How large a block is; one record may be larger.
    pub bytes: usize,
    /// Leave out `start` and `end`.
    pub strip: bool,
    /// So many lines at the begin go before each block.
    pub header_lines: usize,
}

impl Default for Cut {
    fn default() -> Self {
        Self {
            start: Vec::new(),
            end: b"\n".to_vec(),
            records: None,
            bytes: DEFAULT_BLOCK_BYTES,
            strip: false,
            header_lines: 0,
        }
    }
}

/// A record that no task can be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a block is larger than {MAX_BLOCK_BYTES} bytes: its records have no border that --recstart and --recend find, or -N is too large"
)]
pub struct RecordTooLong;

/// Cuts bytes, as they come, into blocks.
#[derive(Debug)]
pub struct Cutter {
    cut: Cut,
    // How large a block may be: it grows with the longest record.
    bytes: usize,
    header: Vec<u8>,
    header_left: usize,
    open: VecDeque<u8>,
}

impl Cutter {
    /// Nothing has been read yet.
    #[must_use]
    pub fn new(cut: Cut) -> Self {
        let (bytes, header_left) = (cut.bytes.clamp(1, MAX_BLOCK_BYTES), cut.header_lines);
        Self { cut, bytes, header: Vec::new(), header_left, open: VecDeque::new() }
    }

    /// Takes the next bytes, gives the blocks that are complete.
    ///
    /// # Errors
    /// [`RecordTooLong`].
    pub fn feed(&mut self, mut bytes: &[u8], out: &mut Vec<Vec<u8>>) -> Result<(), RecordTooLong> {
        while self.header_left > 0 && !bytes.is_empty() {
            let end = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
            let (line, rest) = bytes.split_at(end);
            self.header.extend_from_slice(line);
            self.header_left -= usize::from(line.ends_with(b"\n"));
            bytes = rest;
        }
        self.open.extend(bytes);
        while let Some(length) = self.block(false)? {
            self.give(length, out);
        }
        Ok(())
    }

    /// The end of the input ends the last block.
    ///
    /// # Errors
    /// [`RecordTooLong`].
    pub fn finish(mut self, out: &mut Vec<Vec<u8>>) -> Result<(), RecordTooLong> {
        while let Some(length) = self.block(true)? {
            self.give(length, out);
        }
        Ok(())
    }

    /// How long the next block is, if it is complete.
    fn block(&mut self, at_end: bool) -> Result<Option<usize>, RecordTooLong> {
        let open: &[u8] = self.open.make_contiguous();
        if open.is_empty() {
            return Ok(None);
        }
        if let Some(records) = self.cut.records {
            let length = self.cut.nth_border(open, records);
            return match length {
                Some(length) if length <= MAX_BLOCK_BYTES => Ok(Some(length)),
                None if open.len() <= MAX_BLOCK_BYTES => Ok(at_end.then_some(open.len())),
                _ => Err(RecordTooLong),
            };
        }
        loop {
            if open.len() < self.bytes || (at_end && open.len() == self.bytes) {
                return Ok(at_end.then_some(open.len()));
            }
            if let Some(length) = self.cut.last_border(&open[..self.bytes]) {
                return Ok(Some(length));
            }
            if self.bytes >= MAX_BLOCK_BYTES {
                return Err(RecordTooLong);
            }
            // As parallel does it: by a third, and it stays so.
            self.bytes = ((self.bytes * 13).div_ceil(10) + 1).min(MAX_BLOCK_BYTES);
        }
    }

    fn give(&mut self, length: usize, out: &mut Vec<Vec<u8>>) {
        let block: Vec<u8> = self.open.drain(..length).collect();
        let block = if self.cut.strip { self.cut.stripped(&block) } else { block };
        out.push([self.header.as_slice(), &block].concat());
    }
}

impl Cut {
    fn border(&self) -> Vec<u8> {
        [self.end.as_slice(), &self.start].concat()
    }

    /// Where the last record begins that does not begin at 0, which is as long
    /// as a block may be.
    fn last_border(&self, bytes: &[u8]) -> Option<usize> {
        let border = self.border();
        if border.is_empty() {
            return Some(bytes.len());
        }
        let mut candidates = (0..=bytes.len().checked_sub(border.len())?).rev();
        let found = candidates.find(|at| bytes[*at..].starts_with(&border))?;
        let at = found + self.end.len();
        (at > 0).then_some(at)
    }

    /// The end of so many records: each has at least one byte beside its border.
    fn nth_border(&self, bytes: &[u8], records: usize) -> Option<usize> {
        let border = self.border();
        if border.is_empty() {
            return (bytes.len() >= records).then_some(records);
        }
        let mut from = 0;
        for _ in 0..records {
            let rest = bytes.get(from + 1..)?;
            let found =
                (0..=rest.len().checked_sub(border.len())?).find(|at| rest[*at..].starts_with(&border))?;
            from += 1 + found + self.end.len();
        }
        Some(from)
    }

    /// Without what marks the borders.
    fn stripped(&self, block: &[u8]) -> Vec<u8> {
        let (mut out, mut rest) = (Vec::with_capacity(block.len()), block);
        while !rest.is_empty() {
            let marks = [&self.end, &self.start].into_iter();
            if let Some(mark) = marks.filter(|mark| !mark.is_empty()).find(|mark| rest.starts_with(mark)) {
                rest = &rest[mark.len()..];
            } else {
                out.push(rest[0]);
                rest = &rest[1..];
            }
        }
        out
    }
}

/// Reads a size as `--block` takes it: `10M` are powers of 1024, `10m` of 1000.
///
/// # Errors
/// Which forms there are, or that it is too large.
pub fn parse_size(text: &str) -> Result<usize, String> {
    let wrong =
        || format!("`{text}` is no size; write bytes, or a number with k, m (thousands) or K, M (1024)");
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let factor: u32 = match unit {
        "" => 1,
        "k" => 1_000,
        "K" => 1_024,
        "m" => 1_000_000,
        "M" => 1_048_576,
        "g" => 1_000_000_000,
        "G" => 1_073_741_824,
        _ => return Err(wrong()),
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let part: u64 =
        if part.is_empty() { 0 } else { part.get(..3).unwrap_or(part).parse().map_err(|_| wrong())? };
    let scale = [1, 10, 100, 1_000][number.split_once('.').map_or(0, |(_, part)| part.len().min(3))];
    let bytes = whole
        .checked_mul(factor.into())
        .and_then(|bytes| bytes.checked_add(part * u64::from(factor) / scale));
    let bytes =
        bytes.and_then(|bytes| usize::try_from(bytes).ok()).filter(|bytes| *bytes > 0).ok_or_else(wrong)?;
    if bytes > MAX_BLOCK_BYTES {
        return Err(format!(
            "`{text}` is too large: a block is at most {MAX_BLOCK_BYTES} bytes, since it travels as one task"
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(cut: Cut, pieces: &[&[u8]]) -> Vec<String> {
        let (mut cutter, mut out) = (Cutter::new(cut), Vec::new());
        for piece in pieces {
            cutter.feed(piece, &mut out).expect("short records");
        }
        cutter.finish(&mut out).expect("short records");
        out.into_iter().map(|block| String::from_utf8(block).expect("text")).collect()
    }

    fn by_bytes(bytes: usize, start: &str, end: &str) -> Cut {
        Cut { start: start.into(), end: end.into(), bytes, ..Cut::default() }
    }

    fn by_count(records: usize, start: &str, end: &str) -> Cut {
        Cut { records: Some(records), ..by_bytes(100, start, end) }
    }

    /// Each line was seen of parallel 20221122.
    #[test]
    fn blocks_end_where_parallel_ends_them() {
        let table: &[(Cut, &str, &[&str])] = &[
            (
                by_bytes(10, "", "\n"),
                "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n",
                &["1\n2\n3\n4\n5\n", "6\n7\n8\n9\n", "10\n11\n12\n"],
            ),
            (by_bytes(4, "", ","), "a,bb,ccc,dddd,eeeee", &["a,", "bb,", "ccc,", "dddd,", "eeeee"]),
            (by_bytes(6, ">", ""), ">a\nx\n>b\nyy\n>c\n", &[">a\nx\n", ">b\nyy\n", ">c\n"]),
            (
                by_bytes(10, ">", ""),
                "junk\n>a\nx\n>b\nyy\n>c\n>d\n",
                &["junk\n", ">a\nx\n", ">b\nyy\n>c\n", ">d\n"],
            ),
            (by_bytes(4, "", ""), "abcdefghij", &["abcd", "efgh", "ij"]),
            (by_bytes(4, "a", "\n"), "ab\nxx\nac\nad\n", &["ab\nxx\n", "ac\nad\n"]),
            (by_bytes(5, "", ",,"), ",,,a,,,,b,,cc,,ddd,,e", &[",,,", "a,,,,", "b,,", "cc,,", "ddd,,", "e"]),
            (by_bytes(3, "", "\n"), "1\n\n\n\n2\n3\n\n4", &["1\n\n", "\n\n", "2\n", "3\n\n", "4"]),
            (
                by_bytes(4, "", ","),
                "dddddd,e,f,g,h,i,j,k,l,m,n,o,p",
                &["dddddd,", "e,f,g,", "h,i,j,", "k,l,m,", "n,o,p"],
            ),
            (by_bytes(4, "", "aa"), "baaaabaaab", &["baaa", "abaa", "ab"]),
            (by_bytes(4, "aa", ""), "baaaabaaab", &["ba", "a", "aaba", "aab"]),
            (by_count(2, "", "\n"), "1\n2\n3\n4\n5\n", &["1\n2\n", "3\n4\n", "5\n"]),
            (by_count(1, "", "\n"), "1\n\n\n2\n", &["1\n", "\n\n", "2\n"]),
            (by_count(1, ">", ""), ">a\nx\n>b\nyy\n>c\n", &[">a\nx\n", ">b\nyy\n", ">c\n"]),
            (by_count(1, ">", "\n"), ">a\nx>y\n>b\nyy\n>c\n", &[">a\nx>y\n", ">b\nyy\n", ">c\n"]),
            (by_count(1, "a", ","), "ab,b,a,ac,ad", &["ab,b,", "a,", "ac,", "ad"]),
            (by_count(1, "", ",,"), ",,,a,,,,b", &[",,,", "a,,", ",,b"]),
            (by_count(3, "", ""), "abcd", &["abc", "d"]),
            (by_count(1, "", "ab"), "aababab", &["aab", "abab"]),
            (by_count(1, "a", ""), "xaaba", &["x", "a", "ab", "a"]),
            (by_count(2, "a", ""), "xaaba", &["xa", "aba"]),
            (Cut { strip: true, ..by_bytes(100, "", ",") }, "a,b,c,d", &["abcd"]),
            (Cut { strip: true, ..by_count(2, "", ",") }, "a,b,c,d,e", &["ab", "cd", "e"]),
            (Cut { strip: true, ..by_count(1, ">", "") }, ">a\n>b\n", &["a\n", "b\n"]),
            (
                Cut { header_lines: 1, ..by_bytes(4, "", "\n") },
                "H\n1\n2\n3\n4\n",
                &["H\n1\n2\n", "H\n3\n4\n"],
            ),
            (by_bytes(4, "", "\n"), "", &[]),
        ];
        for (cut, input, blocks) in table {
            assert_eq!(run(cut.clone(), &[input.as_bytes()]), *blocks, "{cut:?} {input:?}");
        }
    }

    #[test]
    fn sizes_are_read_as_parallel_reads_them() {
        for (text, bytes) in [("1", 1), ("1k", 1_000), ("1K", 1_024), ("1.5k", 1_500), ("2M", 2_097_152)] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "x", "0", "1x", "k", "-1", "4G", "99999999999999999999"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_has_no_border_is_refused() {
        let (mut cutter, mut out) = (Cutter::new(Cut::default()), Vec::new());
        let refused = cutter.feed(&vec![b'x'; MAX_BLOCK_BYTES + 1], &mut out);
        assert_eq!((refused, out.len()), (Err(RecordTooLong), 0));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_where_input_is_broken_does_not_matter(
            input in "[a>,\n]{0,80}",
            at in 0_usize..80,
            bytes in 1_usize..20,
            records in proptest::option::of(1_usize..4),
            start in "[>a]{0,2}",
            end in "[,\n]{0,2}",
        ) {
            let cut = Cut { records, ..by_bytes(bytes, &start, &end) };
            let (head, tail) = input.as_bytes().split_at(at.min(input.len()));
            let whole = run(cut.clone(), &[input.as_bytes()]);
            prop_assert_eq!(whole.concat(), input.clone());
            prop_assert_eq!(run(cut, &[head, tail]), whole);
        }
    }
}
