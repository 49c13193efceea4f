//! What tests may not do: be skipped, wait for luck, or try again.

use super::Violation;
use super::tree::Tree;

/// A test that is ignored is not a test.
pub(super) fn ignored(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for source in &tree.sources {
        for at in source.find("# [ ignore") {
            let line = source.tokens[at].line;
            found.push(Violation::new(&source.path, line, "#[ignore]: run it or delete it"));
        }
    }
    found
}

/// Tests wait for events, with a deadline. Sleeping is allowed on a paused
/// clock, where it costs no time and decides nothing by luck.
pub(super) fn sleeping(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for source in &tree.sources {
        let paused = ["start_paused", "time : : pause"];
        let paused = paused.iter().any(|pattern| source.find(pattern).next().is_some());
        for (pattern, always) in [("thread : : sleep", true), ("time : : sleep", false), ("sleep (", false)] {
            for at in source.find(pattern) {
                let token = &source.tokens[at];
                // `fn sleep(` and `.sleep(` declare or call something of our own.
                let before = at.checked_sub(1).map_or("", |before| source.tokens[before].text.as_str());
                let own = matches!(before, "fn" | "." | ":") && pattern == "sleep (";
                if token.test && !own && (always || !paused) {
                    let what = "a test waits for an event with a deadline, or on a paused clock";
                    found.push(Violation::new(&source.path, token.line, what));
                }
            }
        }
    }
    found
}

/// A test that needs a second try has found a bug.
pub(super) fn retrying(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for source in &tree.sources {
        for pattern in ["# [ flaky", "# [ retry", "# [ test_retry", "# [ rerun"] {
            for at in source.find(pattern) {
                let line = source.tokens[at].line;
                found.push(Violation::new(
                    &source.path,
                    line,
                    "a test that needs a second try has found a bug",
                ));
            }
        }
    }
    let settings = tree.documents.iter().filter(|(path, _)| path.ends_with("nextest.toml"));
    let retrying = settings.filter(|(_, text)| text.contains("retries"));
    found.extend(retrying.map(|(path, _)| Violation::new(path, 1, "no retries")));
    found
}

#[cfg(test)]
mod tests {
    use super::super::tree::Tree;
    use super::{ignored, retrying, sleeping};

    fn library(text: &str) -> Tree {
        Tree::of(&[("crates/x/src/a.rs", text)])
    }

    #[test]
    fn skipped_tests_are_found() {
        assert_eq!(ignored(&library("#[test] #[ignore = \"slow\"] fn f() {}")).len(), 1);
    }

    #[test]
    fn sleeping_tests_are_found() {
        assert_eq!(sleeping(&library("#[test] fn f() { std::thread::sleep(x); }")).len(), 1);
        assert_eq!(
            sleeping(&library("#[tokio::test] async fn f() { tokio::time::sleep(x).await; }")).len(),
            1
        );
        let paused = "#[tokio::test(start_paused = true)] async fn f() { tokio::time::sleep(x).await; }";
        assert_eq!(sleeping(&library(paused)).len(), 0);
        assert_eq!(sleeping(&library("async fn f() { tokio::time::sleep(x).await; }")).len(), 0);
    }

    #[test]
    fn second_tries_are_found() {
        assert_eq!(retrying(&library("#[flaky] #[test] fn f() {}")).len(), 1);
        assert_eq!(retrying(&Tree::of(&[(".config/nextest.toml", "retries = 3")])).len(), 1);
    }
}
