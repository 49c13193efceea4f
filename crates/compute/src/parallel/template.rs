//! Replacement strings: `{} {.} {/} {//} {/.} {#} {%} {1} {2.} {-1/}`, and what
//! a command line becomes with the arguments of one task. Parallel gives the
//! line to a shell: what the user wrote is left to it, arguments are quoted.

use super::quote::quote;

/// Largest position that `{N}` may name.
const MAX_POSITION: i32 = 100_000;

/// One argument.
pub type Arg = Vec<u8>;

/// How a template treats what it puts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Arguments are quoted, the rest is the shell's (the default).
    Shell,
    /// Each word is quoted as a whole after the arguments are in it (`-q`).
    Words,
    /// Nothing is quoted: tags, and arguments that are commands themselves.
    Plain,
}

/// A command line with holes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    words: Vec<Vec<Piece>>,
    style: Style,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Args(Form),
    Arg(i32, Form),
    Sequence,
    Slot,
}

/// Which part of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Whole,
    NoExtension,
    Name,
    Folder,
    Stem,
}

/// A command line of one task. It is in parts where it names the slot (`{%}`),
/// which only the worker knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The parts; between two of them belongs the slot's number.
    pub parts: Vec<Vec<u8>>,
}

impl Line {
    /// The whole line with `slot` for its holes.
    #[must_use]
    pub fn with_slot(&self, slot: &[u8]) -> Vec<u8> {
        self.parts.join(slot)
    }
}

/// A replacement string that there is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTemplate {
    /// `{= … =}` holds Perl.
    #[error(
        "`{{= … =}}` holds Perl, which is not executed here; use {{.}} {{/}} {{//}} {{/.}}, or do it in the command"
    )]
    Perl,
}

impl Template {
    /// The template of a command. Without a replacement string the arguments
    /// come behind it; without words the arguments are commands themselves.
    /// `whole` is the string that stands for the arguments: `{}`, or what `-I`
    /// says.
    ///
    /// # Errors
    /// [`BadTemplate`].
    pub fn command(words: &[Vec<u8>], whole: &[u8], quote_words: bool) -> Result<Self, BadTemplate> {
        if words.is_empty() {
            return Ok(Self { words: vec![vec![Piece::Args(Form::Whole)]], style: Style::Plain });
        }
        let mut template = Self::parse(words, whole, if quote_words { Style::Words } else { Style::Shell })?;
        if !template.has_holes() {
            template.words.push(vec![Piece::Args(Form::Whole)]);
        }
        Ok(template)
    }

    /// The template of a command that reads its input: nothing is put behind it.
    ///
    /// # Errors
    /// [`BadTemplate`].
    pub fn filter(words: &[Vec<u8>], whole: &[u8], quote_words: bool) -> Result<Self, BadTemplate> {
        Self::parse(words, whole, if quote_words { Style::Words } else { Style::Shell })
    }

    /// The template of a tag, or of a file's name.
    ///
    /// # Errors
    /// [`BadTemplate`].
    pub fn plain(text: &[u8], whole: &[u8]) -> Result<Self, BadTemplate> {
        Self::parse(&[text.to_vec()], whole, Style::Plain)
    }

    fn parse(words: &[Vec<u8>], whole: &[u8], style: Style) -> Result<Self, BadTemplate> {
        let words = words.iter().map(|word| pieces(word, whole)).collect::<Result<_, _>>()?;
        Ok(Self { words, style })
    }

    /// Whether a task's arguments, number or slot occur in it.
    #[must_use]
    pub fn has_holes(&self) -> bool {
        self.words.iter().flatten().any(|piece| !matches!(piece, Piece::Text(_)))
    }

    /// The line of task number `sequence`, which counts from 1.
    #[must_use]
    pub fn fill(&self, sequence: u64, args: &[Arg]) -> Line {
        let mut parts = vec![Vec::new()];
        for (at, word) in self.words.iter().enumerate() {
            if at > 0 {
                push(&mut parts, b" ");
            }
            if self.style == Style::Words {
                let mut inner = vec![Vec::new()];
                fill_word(word, sequence, args, false, &mut inner);
                append(&mut parts, inner.iter().map(|part| quote(part)));
            } else {
                fill_word(word, sequence, args, self.style == Style::Shell, &mut parts);
            }
        }
        Line { parts }
    }
}

fn fill_word(word: &[Piece], sequence: u64, args: &[Arg], quoted: bool, parts: &mut Vec<Vec<u8>>) {
    let value = |arg: &Arg, form: Form| {
        let part = form.of(arg);
        if quoted { quote(part) } else { part.to_vec() }
    };
    for piece in word {
        match piece {
            Piece::Text(text) => push(parts, text),
            Piece::Args(form) => {
                let values: Vec<_> = args.iter().map(|arg| value(arg, *form)).collect();
                push(parts, &values.join(&b" "[..]));
            }
            Piece::Arg(position, form) => {
                if let Some(arg) = at(args, *position) {
                    push(parts, &value(arg, *form));
                }
            }
            Piece::Sequence => push(parts, sequence.to_string().as_bytes()),
            Piece::Slot => parts.push(Vec::new()),
        }
    }
}

fn push(parts: &mut [Vec<u8>], bytes: &[u8]) {
    if let Some(last) = parts.last_mut() {
        last.extend_from_slice(bytes);
    }
}

fn append(parts: &mut Vec<Vec<u8>>, more: impl Iterator<Item = Vec<u8>>) {
    for (at, part) in more.enumerate() {
        if at > 0 {
            parts.push(Vec::new());
        }
        push(parts, &part);
    }
}

/// The argument at a position from 1, or from the end if it is negative.
fn at(args: &[Arg], position: i32) -> Option<&Arg> {
    let distance = usize::try_from(position.unsigned_abs()).ok()?.checked_sub(1)?;
    if position > 0 { args.get(distance) } else { args.iter().rev().nth(distance) }
}

/// Cuts a word into text and replacement strings.
fn pieces(word: &[u8], whole: &[u8]) -> Result<Vec<Piece>, BadTemplate> {
    let (mut found, mut text, mut rest) = (Vec::new(), Vec::new(), word);
    while !rest.is_empty() {
        let hole = if rest.starts_with(whole) {
            Some((Piece::Args(Form::Whole), whole.len()))
        } else if rest.starts_with(b"{=") {
            return Err(BadTemplate::Perl);
        } else {
            // With -I, `{}` means nothing.
            hole(rest).filter(|(piece, _)| *piece != Piece::Args(Form::Whole))
        };
        if let Some((piece, length)) = hole {
            if !text.is_empty() {
                found.push(Piece::Text(std::mem::take(&mut text)));
            }
            found.push(piece);
            rest = &rest[length..];
        } else {
            text.push(rest[0]);
            rest = &rest[1..];
        }
    }
    if !text.is_empty() {
        found.push(Piece::Text(text));
    }
    Ok(found)
}

/// The replacement string that `rest` begins with, and its length.
fn hole(rest: &[u8]) -> Option<(Piece, usize)> {
    let inner = rest.strip_prefix(b"{")?;
    let end = inner.iter().position(|byte| *byte == b'}')?;
    let (inner, length) = (std::str::from_utf8(&inner[..end]).ok()?, end + 2);
    let piece = match inner {
        "#" => Piece::Sequence,
        "%" => Piece::Slot,
        _ => {
            let digits = inner.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(inner.len());
            let (position, form) = inner.split_at(digits);
            let form = match form {
                "" => Form::Whole,
                "." => Form::NoExtension,
                "/" => Form::Name,
                "//" => Form::Folder,
                "/." => Form::Stem,
                _ => return None,
            };
            if position.is_empty() {
                Piece::Args(form)
            } else {
                let known = |position: &i32| *position != 0 && position.abs() <= MAX_POSITION;
                Piece::Arg(position.parse().ok().filter(known)?, form)
            }
        }
    };
    Some((piece, length))
}

impl Form {
    fn of(self, arg: &[u8]) -> &[u8] {
        match self {
            Self::Whole => arg,
            Self::NoExtension => without_extension(arg),
            Self::Name => name(arg),
            Self::Folder => folder(arg),
            Self::Stem => without_extension(name(arg)),
        }
    }
}

/// Without the last dot and what follows it, if none of that is a slash.
fn without_extension(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|byte| b"./".contains(byte)) {
        Some(at) if path[at] == b'.' => &path[..at],
        _ => path,
    }
}

fn name(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(path, |at| &path[at + 1..])
}

/// As `dirname` says it.
fn folder(path: &[u8]) -> &[u8] {
    let trimmed = |path: &[u8]| path.iter().rposition(|byte| *byte != b'/').map_or(0, |at| at + 1);
    let inner = &path[..trimmed(path)];
    let above = match inner.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => &inner[..trimmed(&inner[..slash])],
        None if inner.is_empty() && !path.is_empty() => return b"/",
        None => return b".",
    };
    if above.is_empty() { b"/" } else { above }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::quote::quote;
    use super::{Arg, Template};

    fn args(args: &[&str]) -> Vec<Arg> {
        args.iter().map(|arg| arg.as_bytes().to_vec()).collect()
    }

    fn filled(words: &[&str], values: &[&str]) -> String {
        let template = Template::command(&args(words), b"{}", false).expect("a template");
        String::from_utf8(template.fill(7, &args(values)).with_slot(b"3")).expect("text")
    }

    /// Each line was seen of parallel 20221122 with `--dry-run`.
    #[test]
    fn paths_are_taken_apart_as_parallel_does() {
        let words = ["{}", "{.}", "{/}", "{//}", "{/.}"];
        let table = [
            ("a/b/c.d.e", "a/b/c.d.e a/b/c.d c.d.e a/b c.d"),
            ("a.b/c", "a.b/c a.b/c c a.b c"),
            ("/x", "/x /x x / x"),
            ("x.", "x. x x. . x"),
            (".x", ".x '' .x . ''"),
            ("/a/.b", "/a/.b /a/ .b /a ''"),
            ("a/b/", "a/b/ a/b/ '' a ''"),
            ("/", "/ / '' / ''"),
            ("", "'' '' '' . ''"),
            ("../x", "../x ../x x .. x"),
            ("a b/c d.e f", "'a b/c d.e f' 'a b/c d' 'c d.e f' 'a b' 'c d'"),
            ("a.b.", "a.b. a.b a.b. . a.b"),
        ];
        for (arg, line) in table {
            assert_eq!(filled(&words, &[arg]), line, "{arg:?}");
        }
    }

    #[test]
    fn arguments_go_where_parallel_puts_them() {
        let table: &[(&[&str], &[&str], &str)] = &[
            (&["echo"], &["a b"], "echo 'a b'"),
            (&["echo"], &["a", "1"], "echo a 1"),
            (&["echo", "{}{}", "\"{}\"", "pre{}post"], &["a b"], "echo 'a b''a b' \"'a b'\" pre'a b'post"),
            (&["echo", "{1.}", "{2/}", "{1//}", "{2/.}"], &["a.b/c.d", "1/2.x"], "echo a.b/c 2.x a.b 2"),
            (&["echo", "{3}", "{1}"], &["a", "b"], "echo  a"),
            (&["echo", "{-1}", "{-2}", "{+1}"], &["a", "b"], "echo b a {+1}"),
            (&["echo", "{#}"], &["a"], "echo 7"),
            (&["echo", "{%}"], &["a"], "echo 3"),
            (&["echo", "{2}"], &["a"], "echo "),
            (&["echo", "hi"], &[], "echo hi "),
            (&["echo", "a{}b{/.}c"], &["1.a", "2.b"], "echo a1.a 2.bb1 2c"),
            (&["echo", "{1.}", "{ 1}", "{1..}", "{a}"], &["x.y"], "echo x { 1} {1..} {a}"),
            (&[], &["echo a b"], "echo a b"),
            (&[], &["a b", "c d"], "a b c d"),
        ];
        for (words, values, line) in table {
            assert_eq!(filled(words, values), *line, "{words:?}");
        }
    }

    #[test]
    fn options_change_what_is_a_hole_and_what_is_quoted() {
        let command = |words: &[&str], whole: &str, quoted| {
            let template = Template::command(&args(words), whole.as_bytes(), quoted).expect("a template");
            String::from_utf8(template.fill(1, &args(&["a b"])).with_slot(b"3")).expect("text")
        };
        assert_eq!(command(&["echo", ",,", "{}"], ",,", false), "echo 'a b' {}");
        assert_eq!(command(&["echo", "$x", "{}", "|", "wc"], "{}", true), "echo '$x' 'a b' '|' wc");
        assert_eq!(command(&["echo", "x {}c d"], "{}", true), "echo 'x a bc d'");
        let tag = Template::plain(b"x{}y", b"{}").expect("a template");
        assert_eq!(tag.fill(1, &args(&["b c"])).with_slot(b""), b"xb cy");
        let filter = Template::filter(&args(&["wc", "-l"]), b"{}", false).expect("a template");
        assert_eq!(filter.fill(1, &[]).with_slot(b""), b"wc -l");
        let perl = Template::command(&args(&["echo {= s/a/b/ =}"]), b"{}", false).expect_err("Perl");
        assert!(perl.to_string().contains("{= … =}"), "{perl}");
    }

    #[test]
    fn a_slot_is_a_hole_that_stays() {
        let template = Template::command(&args(&["echo", "a{%}b", "{}", "{%}"]), b"{}", false);
        let line = template.expect("a template").fill(1, &args(&["x"]));
        let parts = [b"echo a".to_vec(), b"b x ".to_vec(), Vec::new()];
        assert_eq!(line.parts, parts);
    }

    proptest! {
        #[test]
        fn any_command_takes_any_argument(
            words in proptest::collection::vec("[a{}./#%0-9 $'-]{0,8}", 1..4),
            values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..12), 0..4),
        ) {
            let words: Vec<Vec<u8>> = words.into_iter().map(String::into_bytes).collect();
            let template = Template::command(&words, b"{}", false).expect("no Perl");
            let line = template.fill(1, &values).with_slot(b"1");
            if words.iter().all(|word| !word.contains(&b'{')) {
                let mut expected = words.clone();
                expected.push(values.iter().map(|value| quote(value)).collect::<Vec<_>>().join(&b" "[..]));
                prop_assert_eq!(line, expected.join(&b" "[..]));
            }
        }
    }
}
