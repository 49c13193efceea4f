//! Where time, randomness and hash order may enter, so that a seed replays a
//! whole cluster exactly: through seams and the runtime's paused timers.

use super::Violation;
use super::tree::{Source, Tree};

/// The binary implements the seams on the real thing in files of these names.
const SEAMS: &[&str] = &["clock", "entropy", "seams"];

fn is_seam(source: &Source) -> bool {
    source.package == "trine" && SEAMS.contains(&source.stem())
}

fn outside_seams<'a>(tree: &'a Tree, patterns: &'a [&'a str], what: &'a str) -> Vec<Violation> {
    let sources = tree.sources.iter().filter(|source| source.product && !is_seam(source));
    sources
        .flat_map(|source| {
            patterns.iter().flat_map(move |pattern| {
                source.production(pattern).map(move |line| {
                    Violation::new(&source.path, line, format!("{}: {what}", pattern.replace(' ', "")))
                })
            })
        })
        .collect()
}

/// Wall clock through `trine_types::Clock`, monotonic time through tokio's.
pub(super) fn clock(tree: &Tree) -> Vec<Violation> {
    let patterns = ["SystemTime : : now", "std : : time : : Instant", "thread : : sleep"];
    let mut found = outside_seams(tree, &patterns, "time enters through Clock or tokio's timers");
    for source in tree.sources.iter().filter(|source| source.product && !is_seam(source)) {
        let imported = source.syntax.items.iter().any(|item| {
            let syn::Item::Use(item) = item else { return false };
            imports(&item.tree, &["std", "time", "Instant"])
        });
        if imported {
            found.push(Violation::new(&source.path, 1, "std's Instant: use tokio::time::Instant"));
        }
    }
    found
}

/// Does a use tree bring in exactly `path`?
fn imports(tree: &syn::UseTree, path: &[&str]) -> bool {
    match (tree, path) {
        (syn::UseTree::Path(inner), [first, rest @ ..]) => inner.ident == first && imports(&inner.tree, rest),
        (syn::UseTree::Group(group), _) => group.items.iter().any(|item| imports(item, path)),
        (syn::UseTree::Name(name), [last]) => name.ident == last,
        (syn::UseTree::Rename(name), [last]) => name.ident == last,
        _ => false,
    }
}

/// Randomness through `trine_types::Entropy`.
pub(super) fn randomness(tree: &Tree) -> Vec<Violation> {
    let patterns = [
        "rand : : rng (",
        "rand : : random",
        ": thread_rng (",
        "OsRng",
        "SysRng",
        "from_os_rng (",
        "getrandom :",
        "SystemRandom : : new",
        "RandomState",
    ];
    outside_seams(tree, &patterns, "randomness enters through Entropy")
}

/// `HashMap` and `HashSet` only where a comment at their import says that
/// they are never iterated (or that order does not matter, and why).
pub(super) fn hash_order(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for source in tree.sources.iter().filter(|source| source.library) {
        for name in ["HashMap", "HashSet"] {
            let Some(line) = source.production(name).next() else { continue };
            let comment = source.comment_at(line);
            if !comment.contains("iterated") && !comment.contains("order") {
                let what = format!("{name}: use a BTree, or say here why it is never iterated");
                found.push(Violation::new(&source.path, line, what));
            }
        }
    }
    found
}

/// A select that is not biased picks by OS randomness.
pub(super) fn biased(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for source in tree.sources.iter().filter(|source| source.package != "xtask") {
        for at in source.find("select ! {") {
            if source.tokens.get(at + 3).is_none_or(|token| token.text != "biased") {
                let line = source.tokens[at].line;
                found.push(Violation::new(&source.path, line, "select! without biased; picks by chance"));
            }
        }
    }
    found
}

/// Tasks start in `run.rs`, `run/` or a seam's twin, so that who runs is one
/// file's worth of reading per room.
pub(super) fn tasks(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for source in tree.sources.iter().filter(|source| source.library) {
        let mut parts = source.path.trim_end_matches(".rs").split('/');
        if parts.any(|part| matches!(part, "run" | "simulated" | "tls")) {
            continue;
        }
        for pattern in
            ["tokio : : spawn", "tokio : : select", "task : : spawn", "spawn_blocking", "thread : : spawn"]
        {
            for line in source.production(pattern) {
                let what =
                    format!("{}: tasks start and select in run.rs or run/ only", pattern.replace(' ', ""));
                found.push(Violation::new(&source.path, line, what));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::tree::Tree;
    use super::{biased, clock, hash_order, randomness, tasks};

    fn library(text: &str) -> Tree {
        Tree::of(&[("crates/x/src/a.rs", text)])
    }

    #[test]
    fn the_clock_on_the_wall_is_found() {
        assert_eq!(clock(&library("fn f() { SystemTime::now(); std::time::Instant::now(); }")).len(), 2);
        assert_eq!(clock(&library("use std::{io, time::{Duration, Instant}};")).len(), 1);
        assert_eq!(clock(&library("use tokio::time::Instant; fn f() { Instant::now(); }")).len(), 0);
        let seam = Tree::of(&[("crates/trine/src/clock.rs", "fn f() { SystemTime::now(); }")]);
        assert_eq!(clock(&seam).len(), 0);
    }

    #[test]
    fn chance_is_found() {
        assert_eq!(randomness(&library("fn f() { rand::rng().next(); getrandom::fill(x); }")).len(), 2);
        assert_eq!(randomness(&library("fn f(e: &dyn Entropy) { e.next_u64(); }")).len(), 0);
    }

    #[test]
    fn hash_maps_need_their_reason() {
        assert_eq!(hash_order(&library("use std::collections::HashMap;")).len(), 1);
        assert_eq!(
            hash_order(&library("// Looked up, never iterated.\nuse std::collections::HashMap;")).len(),
            0
        );
    }

    #[test]
    fn unbiased_selects_are_found_in_tests_too() {
        assert_eq!(biased(&library("fn f() { tokio::select! { a = b => {} } }")).len(), 1);
        assert_eq!(biased(&library("fn f() { tokio::select! { biased; a = b => {} } }")).len(), 0);
        assert_eq!(biased(&library("#[test] fn f() { select! { a = b => {} } }")).len(), 1);
    }

    #[test]
    fn tasks_outside_run_are_found() {
        assert_eq!(tasks(&library("fn f() { tokio::spawn(x); }")).len(), 1);
        assert_eq!(tasks(&Tree::of(&[("crates/x/src/run.rs", "fn f() { tokio::spawn(x); }")])).len(), 0);
        assert_eq!(tasks(&Tree::of(&[("crates/x/src/run/a.rs", "fn f() { tokio::spawn(x); }")])).len(), 0);
    }
}
