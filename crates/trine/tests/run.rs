//! `trine run` beside the real GNU parallel: the same command lines, the same
//! output. Where parallel is not installed, its part is NOT RUN.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Whether GNU parallel is installed (moreutils has another program of that name).
fn has_parallel() -> bool {
    let version = Command::new("parallel").arg("--version").output();
    let found = version.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).starts_with("GNU parallel"));
    if !found {
        eprintln!("NOT RUN: GNU parallel is not installed");
    }
    found
}

/// Runs a program with these words in a folder, with this input.
fn run(program: &str, words: &[&str], folder: &Path, input: &[u8]) -> Output {
    let mut command = Command::new(program);
    command.args(words).current_dir(folder).env("SHELL", "/bin/bash").env("PARALLEL_HOME", folder);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // Who does not read its input closes it.
    let _ = child.stdin.take().expect("piped").write_all(input);
    child.wait_with_output().expect("it ends")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Command lines of both programs, and their standard input.
const LINES: &[(&[&str], &str)] = &[
    (
        &[
            "echo", ":::", "a b", "c'd", "e\"f", "$x", "*", "", "ä", "-x", "~", "a=b", "#b", "{}", "a\\b",
            "'", "''",
        ],
        "",
    ),
    (
        &[
            "echo",
            "{}",
            "{.}",
            "{/}",
            "{//}",
            "{/.}",
            "{#}",
            ":::",
            "a/b/c.d.e",
            "/x",
            "x.",
            ".x",
            "a/b/",
            "/",
            "",
            "../x",
            "a b/c d.e f",
            "a.b.",
        ],
        "",
    ),
    (
        &["echo", "{1}", "{2}", "{1.}", "{2/}", "{1//}", "{2/.}", ":::", "a.b/c.d", "e", ":::", "1/2.x", "3"],
        "",
    ),
    (&["echo", "{3}", "{1}", ":::", "a", ":::", "b"], ""),
    (&["echo", "{-1}", "{-2}", "{+1}", ":::", "a", ":::", "b"], ""),
    (&["echo", ":::", "a", "b", ":::+", "1", "2", ":::", "X", "Y"], ""),
    (&["echo", ":::", "a", "b", "c", ":::+", "1", "2"], ""),
    (&["--link", "echo", ":::", "a", "b", "c", ":::", "1", "2"], ""),
    (&["echo", ":::"], ""),
    (&[":::", "echo a b", "echo \"c d\"; echo e"], ""),
    (&[":::", "a b", ":::", "c d"], ""),
    (&["echo", "{}{}", "\"{}\"", "'{}'", "pre{}post", ":::", "a b"], ""),
    (&["-n2", "echo", ":::", "1", "2", "3", "4", "5"], ""),
    (&["-n2", "echo", "a{}b{/.}c", ":::", "1.a", "2.b", "3.c"], ""),
    (&["-n2", "echo", ":::", "a", "b", ":::", "1", "2"], ""),
    (&["-n2", ":::", "a b", "c d"], ""),
    (&["-N2", "echo", "{1}", "and", "{2}", ":::", "1", "2", "3", "4", "5"], ""),
    (&["-N2", "echo", "{1}", "{2}", "{3}", ":::", "a", "b", "c", ":::", "1", "2"], ""),
    (&["-N0", "echo", "hi", ":::", "1", "2"], ""),
    (&["-q", "echo", "$x", "{}", "|", "wc", ":::", "a b"], ""),
    (&["-q", "echo", "a b{}c d", "$HOME{.}", ":::", "x y"], ""),
    (&["-I", ",,", "echo", ",,", "{}", ":::", "1"], ""),
    (&["-C", ",", "echo", "{2}", "{1}", ":::", "a,b", "c,d"], ""),
    (&["-C", " ", "echo", "{2}", "{}", "{1.}", ":::", "a.c b", "c"], ""),
    (&["--colsep", "\\t", "echo", "{2}", ":::", "a\tb"], ""),
    (&["--tag", "echo", ":::", "a", "b c"], ""),
    (&["--tagstring", "x{}y", "echo", ":::", "a", "b c"], ""),
    (&["echo", "{#}", ":::", "a"], ""),
    (&["echo"], "a\n\nb c\n d \nlast"),
    (&["-0", "echo"], "a\0\0b\nc\0"),
    (&["-d", ",", "echo"], "a,b,c\n"),
    (&["-r", "echo"], "a\n\n \nb\n"),
    (&["echo"], ""),
    (&[], "echo a\necho \"b c\" | wc\n"),
    (&["-a", "one", "echo"], ""),
    (&["-a", "one", "-a", "two", "echo"], ""),
    (&["-a", "one", "echo", ":::", "x", "y"], ""),
    (&["echo", ":::", "x", "y", "::::", "one"], ""),
    (&["echo", ":::", "x", "y", "::::+", "one"], ""),
    (&["echo", "::::", "one", "two"], ""),
    (&["echo", "::::", "-"], "1\n2\n"),
    (&["-a", "-", "echo", ":::", "x"], "1\n2\n"),
    (&["--joblog", "earlier", "--resume", "echo", ":::", "a", "b", "c", "d", "e", "f"], ""),
    (&["--joblog", "earlier", "--resume-failed", "echo", ":::", "a", "b", "c", "d", "e", "f"], ""),
    (&["--joblog", "earlier", "--retry-failed"], ""),
];

const EARLIER: &str = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n\
    1\t:\t1.0\t0.0\t0\t0\t1\t0\tx 1\n1\t:\t1.0\t0.0\t0\t0\t0\t0\tx 1\n2\t:\t1.0\t0.0\t0\t0\t0\t0\tx\n\
    3\t:\t1.0\t0.0\t0\t0\t0\t9\tx 3\n4\t:\t1.0\t0.0\t0\t0\t-1\t15\tx 4\n";

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary folder");
    let files = [("one", "1\n2\n"), ("two", "3\n4\n"), ("earlier", EARLIER), ("will-cite", "")];
    for (name, content) in files {
        std::fs::write(dir.path().join(name), content).expect("written");
    }
    dir
}

#[test]
fn the_same_commands_come_from_the_same_words() {
    if !has_parallel() {
        return;
    }
    let dir = folder();
    for (words, input) in LINES {
        let oracle: Vec<&str> = ["-k", "--dry-run"].iter().chain(*words).copied().collect();
        let ours: Vec<&str> = ["run"].iter().chain(&oracle).copied().collect();
        let expected = run("parallel", &oracle, dir.path(), input.as_bytes());
        let got = run(env!("CARGO_BIN_EXE_trine"), &ours, dir.path(), input.as_bytes());
        assert_eq!(text(&got.stdout), text(&expected.stdout), "{words:?}: {}", text(&got.stderr));
        assert!(got.status.success() && expected.status.success(), "{words:?}");
    }
}

#[test]
fn what_is_not_known_is_refused_with_a_way_out() {
    let dir = folder();
    let refused = |words: &[&str]| {
        let words: Vec<&str> = ["run", "--dry-run"].iter().chain(words).copied().collect();
        let out = run(env!("CARGO_BIN_EXE_trine"), &words, dir.path(), b"");
        assert_eq!(out.status.code(), Some(2), "{words:?}");
        text(&out.stderr)
    };
    assert!(refused(&["echo", "{= s/a/b/ =}", ":::", "a"]).contains("Perl"));
    assert!(refused(&["-C", "a+", "echo", ":::", "a"]).contains("patterns"));
    assert!(refused(&["--pipe", "cat", ":::", "a"]).contains("standard input"));
    assert!(refused(&["--halt", "bad", "echo"]).contains("now,fail=1"));
    assert!(refused(&["--nosuch", "echo"]).contains("--nosuch"));
}
