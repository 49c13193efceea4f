//! Command lines that need no shell: a program and words, nothing that a shell
//! would look at. Starting a shell first costs more than most of what such
//! tasks do.

/// Shells whose words are read here.
const SHELLS: &[&str] = &["sh", "bash", "dash", "ash"];

/// Names that a shell of [`SHELLS`] may not look up in `PATH`: its keywords and
/// builtins. Missing are `true` and `false`, which are the same as programs.
const OWN_NAMES: &[&str] = &[
    "!",
    ".",
    ":",
    "[",
    "[[",
    "alias",
    "bg",
    "bind",
    "break",
    "builtin",
    "caller",
    "case",
    "cd",
    "chdir",
    "command",
    "compgen",
    "complete",
    "compopt",
    "continue",
    "coproc",
    "declare",
    "dirs",
    "disown",
    "do",
    "done",
    "echo",
    "elif",
    "else",
    "enable",
    "esac",
    "eval",
    "exec",
    "exit",
    "export",
    "fc",
    "fg",
    "fi",
    "for",
    "function",
    "getopts",
    "hash",
    "help",
    "history",
    "if",
    "in",
    "jobs",
    "kill",
    "let",
    "local",
    "logout",
    "mapfile",
    "popd",
    "printf",
    "pushd",
    "pwd",
    "read",
    "readarray",
    "readonly",
    "return",
    "select",
    "set",
    "shift",
    "shopt",
    "source",
    "suspend",
    "test",
    "then",
    "time",
    "times",
    "trap",
    "type",
    "typeset",
    "ulimit",
    "umask",
    "unalias",
    "unset",
    "until",
    "wait",
    "while",
];

/// Programs that would show what a shell adds to the environment.
const LOOKERS: &[&str] = &["env", "printenv"];

/// The program and its arguments, if `argv` only has a shell start them and
/// nothing in `env` (names of variables) tells that shell to do more.
#[must_use]
pub fn without_shell<'a>(argv: &[Vec<u8>], env: impl IntoIterator<Item = &'a str>) -> Option<Vec<Vec<u8>>> {
    let [shell, option, line] = argv else { return None };
    let name = shell.rsplit(|byte| *byte == b'/').next()?;
    let known = SHELLS.iter().any(|known| known.as_bytes() == name);
    let tampered = env.into_iter().any(|name| name == "BASH_ENV" || name.starts_with("BASH_FUNC_"));
    if !known || tampered || option != b"-c" {
        return None;
    }
    let words = words(line)?;
    let program = words.first()?;
    let is = |names: &[&str]| names.iter().any(|name| name.as_bytes() == program);
    (!program.is_empty() && !is(OWN_NAMES) && !is(LOOKERS)).then_some(words)
}

/// The words of a line that consists of nothing but words; `None`: it may not.
fn words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (mut words, mut word): (Vec<Vec<u8>>, Option<Vec<u8>>) = (Vec::new(), None);
    let mut bytes = line.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' | b'\t' => words.extend(word.take()),
            b'\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match bytes.next()? {
                        b'\'' => break,
                        inside => word.push(inside),
                    }
                }
            }
            // As an argument is quoted that contains a single quote.
            b'"' => {
                let word = word.get_or_insert_default();
                loop {
                    match bytes.next()? {
                        b'"' => break,
                        b'$' | b'`' | b'\\' | b'!' => return None,
                        inside => word.push(inside),
                    }
                }
            }
            b'_' | b'-' | b'.' | b'/' | b'+' | b',' | b':' | b'@' | b'%' => {
                word.get_or_insert_default().push(byte);
            }
            // Before the program it is an assignment.
            b'=' if !words.is_empty() => word.get_or_insert_default().push(byte),
            _ if byte.is_ascii_alphanumeric() => word.get_or_insert_default().push(byte),
            _ => return None,
        }
    }
    words.extend(word);
    Some(words)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::quote::quote;
    use super::without_shell;

    fn plain(line: &str) -> Option<Vec<String>> {
        let argv = ["/bin/bash", "-c", line].map(|word| word.as_bytes().to_vec());
        let words = without_shell(&argv, ["PATH"])?;
        Some(words.into_iter().map(|word| String::from_utf8(word).expect("text")).collect())
    }

    #[test]
    fn what_a_shell_would_look_at_is_left_to_it() {
        for line in [
            "", "  ", "echo a", "a; b", "a|b", "a & b", "a > b", "a $x", "a `b`", "a *", "a ?", "a [b]",
            "~/a", "a ~", "x=1 a", "a #b", "a {b,c}", "a\nb", "a \"$x\"", "a 'b", "a \"b", "a \\b", "! a",
            "if a", "'' a", "env", "(a)", "a !b", "cd /tmp", "a ä",
        ] {
            assert_eq!(plain(line), None, "{line:?}");
        }
    }

    #[test]
    fn words_alone_need_no_shell() {
        let table: [(&str, &[&str]); 5] = [
            ("true 7", &["true", "7"]),
            ("gzip -9  a/b.txt", &["gzip", "-9", "a/b.txt"]),
            ("./x 'a b' '' c=d", &["./x", "a b", "", "c=d"]),
            (r#"x 'c'"'"'d'"#, &["x", "c'd"]),
            ("'my program' 1", &["my program", "1"]),
        ];
        for (line, words) in table {
            assert_eq!(plain(line).expect(line), words, "{line:?}");
        }
    }

    #[test]
    fn another_shell_or_one_that_is_told_more_does_it_itself() {
        let argv = |shell: &str| [shell, "-c", "true"].map(|word| word.as_bytes().to_vec());
        assert!(without_shell(&argv("sh"), []).is_some());
        assert_eq!(without_shell(&argv("/usr/bin/zsh"), []), None);
        assert_eq!(without_shell(&argv("/bin/bash"), ["BASH_ENV"]), None);
        assert_eq!(without_shell(&argv("/bin/bash"), ["BASH_FUNC_true%%"]), None);
        assert_eq!(without_shell(&argv("/bin/bash")[..2], []), None);
    }

    proptest! {
        #[test]
        fn quoted_arguments_arrive_as_they_are(arguments in proptest::collection::vec("[ -~]{0,12}", 0..4)) {
            let quoted: Vec<String> =
                arguments.iter().map(|word| String::from_utf8(quote(word.as_bytes())).expect("text")).collect();
            let line = format!("program {}", quoted.join(" "));
            // A backslash, `$` or the like between double quotes is not ours to read.
            if let Some(words) = plain(&line) {
                prop_assert_eq!(&words[1..], &arguments[..]);
            }
        }
    }
}
