//! The tidy test: the house rules of ARCHITECTURE.md as code. A rule that
//! nobody enforces is deleted, so each one stands here as one small function
//! over the parsed tree, beside tests that show it catching a violation.
//!
//! | file | rules |
//! |---|---|
//! | [`tree`] | the checkout, parsed once |
//! | [`layers`] | tiers and edges between crates, one home per heavy dependency, no features |
//! | [`bounds`] | sizes of files, functions and structs |
//! | [`words`] | banned names, `//!` on every file, a `lib.rs` without logic |
//! | [`calls`] | what production code may not say |
//! | [`chance`] | where time, randomness and hash order may enter; biased selects; where tasks start |
//! | [`trials`] | what tests may not do |
//! | [`papers`] | documents that must keep up with the code |

use std::fmt;
use std::path::Path;

mod bounds;
mod calls;
mod chance;
mod layers;
mod papers;
mod tree;
mod trials;
mod words;

use tree::Tree;

/// One place that breaks one rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Violation {
    path: String,
    line: usize,
    what: String,
}

impl Violation {
    fn new(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

type Rule = fn(&Tree) -> Vec<Violation>;

const RULES: &[(&str, Rule)] = &[
    ("edges", layers::edges),
    ("homes", layers::homes),
    ("features", layers::features),
    ("workspace", layers::workspace),
    ("file-size", bounds::files),
    ("function-size", bounds::functions),
    ("struct-size", bounds::structs),
    ("vocabulary-size", bounds::vocabulary),
    ("names", words::names),
    ("module-doc", words::module_docs),
    ("lib", words::lib_without_logic),
    ("unwrap", calls::unwraps),
    ("errors", calls::errors),
    ("shared-locks", calls::shared_locks),
    ("unbounded", calls::unbounded),
    ("unfinished", calls::unfinished),
    ("clock", chance::clock),
    ("randomness", chance::randomness),
    ("hash-order", chance::hash_order),
    ("biased", chance::biased),
    ("tasks", chance::tasks),
    ("ignored", trials::ignored),
    ("sleeping", trials::sleeping),
    ("retrying", trials::retrying),
    ("dependencies", papers::dependencies),
    ("glossary", papers::glossary),
    ("pages", papers::pages),
];

/// Every violation in the checkout at `root`, each with its rule's name.
pub(crate) fn violations(root: &Path) -> Result<Vec<(&'static str, Violation)>, tree::TreeError> {
    let tree = Tree::load(root)?;
    let found = RULES.iter().flat_map(|(name, rule)| {
        let mut found = rule(&tree);
        found.sort();
        found.into_iter().map(|violation| (*name, violation))
    });
    Ok(found.collect())
}

/// Names of all rules.
pub(crate) fn rule_names() -> impl Iterator<Item = &'static str> {
    RULES.iter().map(|(name, _)| *name)
}

/// Prints what [`violations`] finds; true when there is nothing to say.
pub(crate) fn report(root: &Path) -> bool {
    match violations(root) {
        Ok(found) => {
            for (rule, violation) in &found {
                println!("{violation} [{rule}]");
            }
            println!("tidy: {} rules, {} violations", RULES.len(), found.len());
            found.is_empty()
        }
        Err(error) => {
            eprintln!("tidy: {error}");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{RULES, report};

    #[test]
    fn rules_have_distinct_names() {
        let names: std::collections::BTreeSet<_> = RULES.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), RULES.len());
    }

    #[test]
    fn this_checkout_is_tidy() {
        assert!(report(crate::command::root()), "see the violations above");
    }
}
