//! Where arguments come from: `::: a b`, `:::: FILE`, `-a FILE`, standard
//! input; several sources are combined, the last one varies fastest. Only the
//! first source may be without end; the others are held in memory.

use super::template::Arg;

/// Longest argument, in bytes. Linux takes no longer one either.
pub const MAX_ARG_BYTES: usize = 128 * 1024 - 1;

/// Most arguments of all sources but the first together.
pub const MAX_HELD_ARGS: usize = 10_000_000;

/// One source, as it stands on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// What it gives.
    pub from: From,
    /// Whether it goes along with the source before it (`:::+`) instead of
    /// being combined with it.
    pub linked: bool,
}

/// What a source gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// These.
    Words(Vec<Arg>),
    /// The lines of a file; `-` is standard input.
    File(Vec<u8>),
}

/// Takes the sources off a command line: what comes before the first `:::`
/// is the command.
#[must_use]
pub fn split(words: Vec<Vec<u8>>) -> (Vec<Vec<u8>>, Vec<Source>) {
    let (mut command, mut sources) = (Vec::new(), Vec::new());
    let mut now: Option<(bool, bool, Vec<Arg>)> = None;
    for word in words {
        let marker = match word.as_slice() {
            b":::" => Some((false, false)),
            b":::+" => Some((false, true)),
            b"::::" => Some((true, false)),
            b"::::+" => Some((true, true)),
            _ => None,
        };
        match (marker, &mut now) {
            (Some((files, linked)), now) => {
                sources.extend(now.take().into_iter().flat_map(close));
                *now = Some((files, linked, Vec::new()));
            }
            (None, Some((_, _, args))) => args.push(word),
            (None, None) => command.push(word),
        }
    }
    sources.extend(now.into_iter().flat_map(close));
    (command, sources)
}

fn close((files, linked, args): (bool, bool, Vec<Arg>)) -> Vec<Source> {
    if files {
        // `:::: A B` are two sources.
        return args.into_iter().map(|name| Source { from: From::File(name), linked }).collect();
    }
    vec![Source { from: From::Words(args), linked }]
}

/// Cuts bytes, as they come, into arguments.
#[derive(Debug, Clone)]
pub struct Cutter {
    separator: u8,
    skip_blank: bool,
    open: Vec<u8>,
}

/// An argument that no program can be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an argument is longer than {MAX_ARG_BYTES} bytes; send data with --pipe, or use another --delimiter"
)]
pub struct ArgTooLong;

impl Cutter {
    /// Arguments end with `separator`; those of white space alone are left out
    /// if `skip_blank`.
    #[must_use]
    pub fn new(separator: u8, skip_blank: bool) -> Self {
        Self { separator, skip_blank, open: Vec::new() }
    }

    /// Takes the next bytes, gives the arguments that they end.
    ///
    /// # Errors
    /// [`ArgTooLong`].
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<Arg>) -> Result<(), ArgTooLong> {
        for piece in bytes.split_inclusive(|byte| *byte == self.separator) {
            let ended = piece.last() == Some(&self.separator);
            let text = if ended { &piece[..piece.len() - 1] } else { piece };
            if self.open.len() + text.len() > MAX_ARG_BYTES {
                return Err(ArgTooLong);
            }
            self.open.extend_from_slice(text);
            if ended {
                let arg = std::mem::take(&mut self.open);
                self.give(arg, out);
            }
        }
        Ok(())
    }

    /// The end of the input ends the last argument.
    pub fn finish(&mut self, out: &mut Vec<Arg>) {
        let arg = std::mem::take(&mut self.open);
        if !arg.is_empty() {
            self.give(arg, out);
        }
    }

    fn give(&self, arg: Arg, out: &mut Vec<Arg>) {
        if !(self.skip_blank && arg.iter().all(u8::is_ascii_whitespace)) {
            out.push(arg);
        }
    }
}

/// Arguments that go together.
pub type Row = Vec<Arg>;

/// Adds a linked source to `rows`: each row gets its next argument. What has
/// no partner is left out (`:::+`), or the shorter side begins again
/// (`--link`).
#[must_use]
pub fn link(rows: Vec<Row>, args: Vec<Arg>, again: bool) -> Vec<Row> {
    let join = |(mut row, arg): (Row, Arg)| {
        row.push(arg);
        row
    };
    if !again || rows.is_empty() || args.is_empty() {
        return rows.into_iter().zip(args).map(join).collect();
    }
    let count = rows.len().max(args.len());
    rows.into_iter().cycle().zip(args.into_iter().cycle()).take(count).map(join).collect()
}

/// Every combination of a row of the first source with one of each other, the
/// last varying fastest.
#[derive(Debug)]
pub struct Combinations {
    others: Vec<Vec<Row>>,
    first: Option<Row>,
    at: Vec<usize>,
}

impl Combinations {
    /// Combines with these.
    #[must_use]
    pub fn new(others: Vec<Vec<Row>>) -> Self {
        let at = vec![0; others.len()];
        Self { others, first: None, at }
    }

    /// The next row of the first source. All combinations of the one before
    /// must have been taken.
    pub fn begin(&mut self, row: Row) {
        self.at.fill(0);
        self.first = self.others.iter().all(|rows| !rows.is_empty()).then_some(row);
    }

    /// The next combination with that row.
    pub fn take(&mut self) -> Option<Row> {
        let mut row = self.first.clone()?;
        for (rows, at) in self.others.iter().zip(&self.at) {
            row.extend_from_slice(&rows[*at]);
        }
        for place in (0..self.at.len()).rev() {
            self.at[place] += 1;
            if self.at[place] < self.others[place].len() {
                return Some(row);
            }
            self.at[place] = 0;
        }
        self.first = None;
        Some(row)
    }
}

/// Puts several rows together for one task (`-n`, `-N`).
#[derive(Debug, Clone)]
pub struct Batches {
    of: usize,
    open: Vec<Row>,
}

impl Batches {
    /// So many rows each; 0: one row each, whose arguments are not used.
    #[must_use]
    pub fn new(of: usize) -> Self {
        Self { of, open: Vec::new() }
    }

    /// Takes a row; gives the arguments of a task if it is complete.
    pub fn push(&mut self, row: Row) -> Option<Vec<Arg>> {
        if self.of == 0 {
            return Some(Vec::new());
        }
        self.open.push(row);
        if self.open.len() < self.of { None } else { self.finish() }
    }

    /// The arguments of the last task, if some are left.
    pub fn finish(&mut self) -> Option<Vec<Arg>> {
        let rows = std::mem::take(&mut self.open);
        (!rows.is_empty()).then(|| rows.into_iter().flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn args(words: &str) -> Vec<Arg> {
        words.split_whitespace().map(|word| word.as_bytes().to_vec()).collect()
    }

    fn lines(rows: &[Vec<Arg>]) -> String {
        let text = |row: &Vec<Arg>| String::from_utf8(row.join(&b" "[..])).expect("text");
        rows.iter().map(text).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn sources_end_the_command() {
        let (command, sources) = split(args("echo -n ::: a b :::+ 1 2 :::: f g ::::+ h"));
        assert_eq!(command, args("echo -n"));
        let file = |name: &str, linked| Source { from: From::File(name.into()), linked };
        let words = |words, linked| Source { from: From::Words(args(words)), linked };
        let expected =
            [words("a b", false), words("1 2", true), file("f", false), file("g", false), file("h", true)];
        assert_eq!(sources, expected);
        assert_eq!(split(args("wc")), (args("wc"), Vec::new()));
        assert_eq!(split(args(":::")).1, [words("", false)]);
    }

    fn cut(separator: u8, skip_blank: bool, pieces: &[&[u8]]) -> Vec<Arg> {
        let (mut cutter, mut out) = (Cutter::new(separator, skip_blank), Vec::new());
        for piece in pieces {
            cutter.feed(piece, &mut out).expect("short");
        }
        cutter.finish(&mut out);
        out
    }

    /// Each line was seen of parallel 20221122.
    #[test]
    fn input_is_cut_as_parallel_does() {
        let text = |args: Vec<Arg>| -> Vec<String> {
            args.into_iter().map(|arg| String::from_utf8(arg).expect("text")).collect()
        };
        assert_eq!(text(cut(b'\n', false, &[b"a\n\nb ", b"c\n d \nlast"])), ["a", "", "b c", " d ", "last"]);
        assert_eq!(text(cut(0, false, &[b"a\0\0b\nc\0"])), ["a", "", "b\nc"]);
        assert_eq!(text(cut(b',', false, &[b"a,b,c\n"])), ["a", "b", "c\n"]);
        assert_eq!(text(cut(b'\n', true, &[b"a\n\n \nb\n"])), ["a", "b"]);
        assert_eq!(text(cut(b'\n', false, &[b""])), [""; 0]);
        let long = vec![b'x'; MAX_ARG_BYTES + 1];
        assert_eq!(Cutter::new(b'\n', false).feed(&long, &mut Vec::new()), Err(ArgTooLong));
    }

    fn combined(first: &str, others: &[&str]) -> String {
        let rows = |words: &&str| args(words).into_iter().map(|arg| vec![arg]).collect();
        let mut all = Combinations::new(others.iter().map(rows).collect());
        let mut found = Vec::new();
        for arg in args(first) {
            all.begin(vec![arg]);
            found.extend(std::iter::from_fn(|| all.take()));
        }
        lines(&found)
    }

    #[test]
    fn the_last_source_varies_fastest() {
        assert_eq!(combined("a b", &["1 2"]), "a 1,a 2,b 1,b 2");
        assert_eq!(combined("a", &["1 2", "x y"]), "a 1 x,a 1 y,a 2 x,a 2 y");
        assert_eq!(combined("a b", &[]), "a,b");
        assert_eq!(combined("a b", &["1", ""]), "");
    }

    #[test]
    fn linked_sources_go_along() {
        let rows = |words| args(words).into_iter().map(|arg| vec![arg]).collect::<Vec<_>>();
        assert_eq!(lines(&link(rows("a b c"), args("1 2"), false)), "a 1,b 2");
        assert_eq!(lines(&link(rows("a b c"), args("1 2"), true)), "a 1,b 2,c 1");
        assert_eq!(lines(&link(rows("a"), args("1 2"), true)), "a 1,a 2");
        assert!(link(rows("a"), Vec::new(), true).is_empty());
    }

    #[test]
    fn rows_are_put_together() {
        let batch = |of, words: &str| {
            let mut batches = Batches::new(of);
            let mut found: Vec<_> =
                args(words).into_iter().filter_map(|arg| batches.push(vec![arg])).collect();
            found.extend(batches.finish());
            lines(&found)
        };
        assert_eq!(batch(1, "1 2 3"), "1,2,3");
        assert_eq!(batch(2, "1 2 3 4 5"), "1 2,3 4,5");
        assert_eq!(batch(0, "1 2"), ",");
    }

    proptest! {
        #[test]
        fn where_input_is_broken_does_not_matter(
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'a'), any::<u8>()], 0..60),
            at in 0_usize..60,
        ) {
            let at = at.min(text.len());
            let (head, tail) = text.split_at(at);
            prop_assert_eq!(cut(b'\n', false, &[head, tail]), cut(b'\n', false, &[&text]));
            let joined: Vec<u8> = cut(b'\n', false, &[&text]).join(&b"\n"[..]);
            let trimmed = text.strip_suffix(b"\n").unwrap_or(&text);
            prop_assert_eq!(joined, trimmed);
        }

        #[test]
        fn there_are_as_many_combinations_as_the_product(counts in proptest::collection::vec(0_usize..5, 1..4)) {
            let words: Vec<String> = counts.iter().map(|count| "x ".repeat(*count)).collect();
            let others: Vec<&str> = words[1..].iter().map(String::as_str).collect();
            let found = combined(&words[0], &others);
            let count = if found.is_empty() { 0 } else { found.split(',').count() };
            prop_assert_eq!(count, counts.iter().product::<usize>());
        }
    }
}
