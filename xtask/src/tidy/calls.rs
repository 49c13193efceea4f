//! What production code may not say, because it hides a failure, a cycle of
//! locks, or a queue without an end.

use super::Violation;
use super::tree::Tree;

/// Violations at each place in library code where one of `patterns` starts.
fn banned(tree: &Tree, patterns: &[&str], what: &str) -> Vec<Violation> {
    let mut found = Vec::new();
    for source in tree.sources.iter().filter(|source| source.product) {
        for pattern in patterns {
            for line in source.production(pattern) {
                found.push(Violation::new(
                    &source.path,
                    line,
                    format!("{}: {what}", pattern.replace(' ', "")),
                ));
            }
        }
    }
    found
}

/// No `unwrap`; `expect` only with a sentence that says why it cannot fail.
pub(super) fn unwraps(tree: &Tree) -> Vec<Violation> {
    let unwraps = [". unwrap ( )", ". unwrap_unchecked (", ". unwrap_err ( )"];
    let mut found = banned(tree, &unwraps, "return the error, or expect(\"why it cannot fail\")");
    for source in tree.sources.iter().filter(|source| source.product) {
        for at in source.find(". expect (") {
            let token = &source.tokens[at + 3];
            let reason = token.text.starts_with('"') && token.text.split(' ').count() >= 3;
            // expect() on a parser or a test is someone's own method: it takes no sentence and returns no Option.
            if !source.tokens[at].test && !reason && token.text.starts_with('"') {
                let what = format!("expect({}) does not say why it cannot fail", token.text);
                found.push(Violation::new(&source.path, token.line, what));
            }
        }
    }
    found
}

/// Errors are enums that say whether state changed, never a bag or a string.
pub(super) fn errors(tree: &Tree) -> Vec<Violation> {
    let mut found = banned(tree, &["anyhow :", "Box < dyn Error"], "an error is an enum of its handle");
    found.extend(banned(tree, &["From < String > for"], "a string is not an error"));
    for source in tree.sources.iter().filter(|source| source.library) {
        for at in source.find("From < & str > for") {
            let target = &source.tokens[at + 6].text;
            if !source.tokens[at].test && target.ends_with("Error") {
                let what = format!("From<&str> for {target}: a string is not an error");
                found.push(Violation::new(&source.path, source.tokens[at].line, what));
            }
        }
    }
    found
}

/// A comment about a shared lock speaks of one of these.
const LOCK_WORDS: &[&str] = &["task", "thread", "mutex", "lock"];

/// A shared lock says, in a comment at its type, why no task can own the state.
pub(super) fn shared_locks(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for source in tree.sources.iter().filter(|source| source.product) {
        for lock in ["Mutex", "RwLock"] {
            for line in source.production(&format!("Arc < {lock} <")) {
                let comment = source.comment_at(line);
                if !LOCK_WORDS.iter().any(|word| comment.contains(word)) {
                    let what =
                        format!("Arc<{lock}<_>> without a comment that says why no task can own the state");
                    found.push(Violation::new(&source.path, line, what));
                }
            }
        }
    }
    found
}

/// Every queue has a bound with a name.
pub(super) fn unbounded(tree: &Tree) -> Vec<Violation> {
    let patterns =
        ["unbounded_channel", "UnboundedSender", "UnboundedReceiver", "mpsc : : channel ( )", "unbounded ("];
    banned(tree, &patterns, "every queue has a bound with a name")
}

/// Nothing half done is landed.
pub(super) fn unfinished(tree: &Tree) -> Vec<Violation> {
    let mut found = banned(tree, &["todo !", "unimplemented !", "dbg !"], "finish it or leave it out");
    for source in tree.sources.iter().filter(|source| source.package != "xtask") {
        for (number, line) in source.text.lines().enumerate() {
            let comment = line.split_once("//").map_or("", |(_, comment)| comment);
            if comment.contains("TODO") || comment.contains("FIXME") || comment.contains("XXX") {
                let what = "an issue remembers what is left; a comment does not";
                found.push(Violation::new(&source.path, number + 1, what));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::tree::Tree;
    use super::{errors, shared_locks, unbounded, unfinished, unwraps};

    fn library(text: &str) -> Tree {
        Tree::of(&[("crates/x/src/a.rs", text)])
    }

    #[test]
    fn unwraps_and_silent_expects_are_found() {
        let tree = library(
            "fn f() { a.unwrap(); b.expect(\"the map has it\"); c.expect(\"some\"); vec![d.unwrap()];
             e.unwrap_or(1); }
             #[cfg(test)] mod tests { fn g() { a.unwrap(); } }",
        );
        assert_eq!(unwraps(&tree).len(), 3);
        let sim = Tree::of(&[("sim/src/a.rs", "fn f() { a.unwrap(); }")]);
        assert_eq!(unwraps(&sim).len(), 0);
    }

    #[test]
    fn errors_without_a_shape_are_found() {
        assert_eq!(errors(&library("impl From<String> for E {}")).len(), 1);
        assert_eq!(
            errors(&library("impl From<&str> for FrontError {} impl From<&str> for Name {}")).len(),
            1
        );
        assert_eq!(errors(&library("fn f() -> anyhow::Result<()> {}")).len(), 1);
    }

    #[test]
    fn shared_locks_need_their_reason() {
        assert_eq!(shared_locks(&library("struct A { b: Arc<Mutex<u8>> }")).len(), 1);
        let reason = "struct A {\n // Read by every task of the node.\n b: Arc<Mutex<u8>> }";
        assert_eq!(shared_locks(&library(reason)).len(), 0);
    }

    #[test]
    fn queues_without_an_end_are_found() {
        let text = "fn f() { mpsc::unbounded_channel(); std::sync::mpsc::channel(); mpsc::channel(8); }";
        assert_eq!(unbounded(&library(text)).len(), 2);
    }

    #[test]
    fn half_done_work_is_found() {
        assert_eq!(unfinished(&library("fn f() { todo!() } // TODO: later")).len(), 2);
    }
}
