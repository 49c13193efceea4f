//! Names say what a thing is. A file says why it exists.

use syn::visit::Visit;

use super::Violation;
use super::tree::Tree;

/// Names that say nothing, and so attract everything.
const BANNED: &[&str] =
    &["common", "util", "utils", "helper", "helpers", "manager", "managers", "base", "misc", "stuff"];

/// No crate, folder, file, module or type has a banned word in its name.
pub(super) fn names(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for source in &tree.sources {
        let path = source.path.trim_end_matches(".rs");
        for word in path.split('/').flat_map(|part| part.split(['_', '-'])) {
            if BANNED.contains(&word) {
                found.push(Violation::new(&source.path, 1, format!("\"{word}\" in a path says nothing")));
            }
        }
        let mut declared = Declared(Vec::new());
        declared.visit_file(&source.syntax);
        for ident in declared.0 {
            for word in words(&ident.to_string()) {
                if BANNED.contains(&word.as_str()) {
                    let what = format!("\"{word}\" in {ident} says nothing");
                    found.push(Violation::new(&source.path, ident.span().start().line, what));
                }
            }
        }
    }
    found
}

/// `JobManager` and `job_manager` into `job`, `manager`.
fn words(name: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    for character in name.chars() {
        if character == '_' || character.is_uppercase() {
            out.push(String::new());
        }
        if character != '_'
            && let Some(word) = out.last_mut()
        {
            word.extend(character.to_lowercase());
        }
    }
    out
}

struct Declared(Vec<syn::Ident>);

impl<'ast> Visit<'ast> for Declared {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        match item {
            syn::Item::Mod(inner) => self.0.push(inner.ident.clone()),
            syn::Item::Struct(inner) => self.0.push(inner.ident.clone()),
            syn::Item::Enum(inner) => self.0.push(inner.ident.clone()),
            syn::Item::Trait(inner) => self.0.push(inner.ident.clone()),
            syn::Item::Type(inner) => self.0.push(inner.ident.clone()),
            _ => {}
        }
        syn::visit::visit_item(self, item);
    }
}

/// Every file starts with `//!`: why it exists.
pub(super) fn module_docs(tree: &Tree) -> Vec<Violation> {
    let without = tree.sources.iter().filter(|source| {
        let inner = |attribute: &syn::Attribute| matches!(attribute.style, syn::AttrStyle::Inner(_));
        !source.syntax.attrs.iter().any(|attribute| inner(attribute) && attribute.path().is_ident("doc"))
    });
    without.map(|source| Violation::new(&source.path, 1, "no //! that says why this file exists")).collect()
}

/// `lib.rs` is a map: modules, re-exports, constants and nothing that runs.
pub(super) fn lib_without_logic(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for source in tree.sources.iter().filter(|source| source.path.ends_with("src/lib.rs")) {
        for item in &source.syntax.items {
            let what = match item {
                syn::Item::Fn(inner) => format!("fn {} in lib.rs: a map holds no logic", inner.sig.ident),
                syn::Item::Impl(_) => "impl in lib.rs: a map holds no logic".to_owned(),
                _ => continue,
            };
            let line = syn::spanned::Spanned::span(item).start().line;
            found.push(Violation::new(&source.path, line, what));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::tree::Tree;
    use super::{lib_without_logic, module_docs, names};

    #[test]
    fn empty_names_are_found_in_paths_modules_and_types() {
        let tree = Tree::of(&[
            ("crates/x/src/utils.rs", ""),
            ("crates/common/src/lib.rs", "mod run;"),
            (
                "crates/x/src/a.rs",
                "struct JobManager; mod helpers {} trait Base {} struct Base32; fn base() {}",
            ),
        ]);
        let found: Vec<_> = names(&tree).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 5, "{found:?}");
    }

    #[test]
    fn a_file_without_a_reason_is_found() {
        let tree =
            Tree::of(&[("crates/x/src/a.rs", "//! Why."), ("crates/x/src/b.rs", "/// Not this.\nfn f() {}")]);
        assert_eq!(module_docs(&tree).len(), 1);
    }

    #[test]
    fn logic_in_a_map_is_found() {
        let tree = Tree::of(&[("crates/x/src/lib.rs", "mod a; pub use a::A; fn f() {} impl A {}")]);
        assert_eq!(lib_without_logic(&tree).len(), 2);
    }
}
