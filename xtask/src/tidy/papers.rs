//! Documents that must keep up with the code.

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;
use super::tree::Tree;

const DEPENDENCIES: &str = "docs/dependencies.md";
const GLOSSARY: &str = "docs/glossary.md";

/// Words that DESIGN fixes; each is explained, once, in the glossary.
const VOCABULARY: &[&str] = &[
    "attempt",
    "block",
    "catalog",
    "check",
    "commit",
    "digest",
    "entry",
    "executor",
    "group",
    "incarnation",
    "index",
    "job",
    "key",
    "lane",
    "lease",
    "member",
    "namespace",
    "partition",
    "peer",
    "replica",
    "revision",
    "session",
    "slot",
    "snapshot",
    "stage",
    "stamp",
    "subject",
    "task",
    "term",
    "ticket",
    "transaction",
    "twin",
    "watch",
    "worker",
    "znode",
    "zxid",
];

/// Longest a page may be, in lines: what nobody finishes reading, nobody keeps.
const PAGES: &[(&str, usize)] = &[("ARCHITECTURE.md", 300), ("README.md", 120), ("CONTRIBUTING.md", 80)];

/// First cells of a Markdown table's rows with their line numbers.
fn first_cells(text: &str) -> Vec<(usize, String)> {
    let rows = text.lines().enumerate().filter(|(_, line)| line.starts_with('|'));
    rows.filter_map(|(number, line)| {
        let cell = line.trim_matches('|').split('|').next()?.trim().trim_matches(['`', '*']).to_owned();
        let body = !cell.is_empty() && !cell.chars().all(|character| matches!(character, '-' | ':' | ' '));
        body.then_some((number + 1, cell))
    })
    .collect()
}

/// Each outside dependency has one line that says why, and no line is stale.
pub(super) fn dependencies(tree: &Tree) -> Vec<Violation> {
    let declared: BTreeSet<&str> = tree
        .workspace
        .get("workspace")
        .and_then(|workspace| workspace.get("dependencies")?.as_table())
        .into_iter()
        .flatten()
        .filter(|(_, value)| value.get("path").is_none())
        .map(|(name, _)| name.as_str())
        .collect();
    let text = tree.documents.get(DEPENDENCIES).map_or("", String::as_str);
    let mut listed = BTreeMap::new();
    let mut found = Vec::new();
    for (line, name) in first_cells(text) {
        if listed.insert(name.clone(), line).is_some() {
            found.push(Violation::new(DEPENDENCIES, line, format!("{name} is listed twice")));
        }
    }
    let missing = declared.iter().filter(|name| !listed.contains_key(**name));
    found.extend(missing.map(|name| Violation::new(DEPENDENCIES, 1, format!("{name} has no line"))));
    let stale = listed.iter().filter(|(name, _)| *name != "crate" && !declared.contains(name.as_str()));
    found
        .extend(stale.map(|(name, line)| Violation::new(DEPENDENCIES, *line, format!("{name} is not used"))));
    found
}

/// The glossary explains each word of the field once, in order.
pub(super) fn glossary(tree: &Tree) -> Vec<Violation> {
    let text = tree.documents.get(GLOSSARY).map_or("", String::as_str);
    let words: Vec<_> = first_cells(text).into_iter().filter(|(_, word)| word != "word").collect();
    let mut found = Vec::new();
    for pair in words.windows(2) {
        if pair[0].1 >= pair[1].1 {
            let what = format!("\"{}\" stands before \"{}\"", pair[0].1, pair[1].1);
            found.push(Violation::new(GLOSSARY, pair[1].0, what));
        }
    }
    let missing = VOCABULARY.iter().filter(|word| !words.iter().any(|(_, known)| known == *word));
    found.extend(missing.map(|word| Violation::new(GLOSSARY, 1, format!("\"{word}\" is not explained"))));
    found
}

/// The pages that everybody reads exist and stay short.
pub(super) fn pages(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (path, most) in PAGES {
        match tree.documents.get(*path).map(|text| text.lines().count()) {
            None => found.push(Violation::new(path, 1, "missing")),
            Some(lines) if lines > *most => {
                found.push(Violation::new(path, lines, format!("{lines} lines; at most {most}")));
            }
            Some(_) => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::tree::Tree;
    use super::{VOCABULARY, dependencies, glossary, pages};

    #[test]
    fn unexplained_and_stale_dependencies_are_found() {
        let manifest =
            "[workspace.dependencies]\na = \"1\"\nb = { version = \"1\" }\nours = { path = \"x\" }";
        let table = "| crate | for |\n|---|---|\n| `a` | x |\n| c | y |\n| a | again |";
        let tree = Tree::of(&[("Cargo.toml", manifest), ("docs/dependencies.md", table)]);
        let found: Vec<_> = dependencies(&tree).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 3, "{found:?}");
    }

    #[test]
    fn unexplained_and_unsorted_words_are_found() {
        let all = format!("| {} | x |\n", VOCABULARY.join(" | x |\n| "));
        assert_eq!(glossary(&Tree::of(&[("docs/glossary.md", &all)])).len(), 0);
        let again = format!("{all}| attempt | again |\n");
        assert_eq!(glossary(&Tree::of(&[("docs/glossary.md", &again)])).len(), 1);
        assert_eq!(glossary(&Tree::of(&[])).len(), VOCABULARY.len());
    }

    #[test]
    fn missing_and_endless_pages_are_found() {
        let endless = "line\n".repeat(301);
        assert_eq!(pages(&Tree::of(&[("ARCHITECTURE.md", &endless), ("README.md", "x")])).len(), 2);
    }
}
