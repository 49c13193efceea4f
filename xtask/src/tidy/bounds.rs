//! Sizes that one reader can hold in mind.

use std::collections::BTreeSet;

use syn::spanned::Spanned;
use syn::visit::Visit;

use super::Violation;
use super::tree::{Source, Tree};

const FILE_LINES: usize = 800;
const FUNCTION_LINES: usize = 70;
const STRUCT_FIELDS: usize = 15;
const VOCABULARY_LINES: usize = 1_500;

/// No file over 800 lines, its tests included.
pub(super) fn files(tree: &Tree) -> Vec<Violation> {
    let long = tree.sources.iter().filter(|source| source.text.lines().count() > FILE_LINES);
    long.map(|source| {
        let lines = source.text.lines().count();
        Violation::new(&source.path, 1, format!("{lines} lines; a file has at most {FILE_LINES}"))
    })
    .collect()
}

/// No production function over 70 lines of code (blank lines and comments are free).
pub(super) fn functions(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for source in &tree.sources {
        let production = source.tokens.iter().filter(|token| !token.test);
        let code: BTreeSet<usize> = production.map(|token| token.line).collect();
        let mut bodies = Bodies(Vec::new());
        bodies.visit_file(&source.syntax);
        for (name, first, last) in bodies.0 {
            let lines = code.range(first..=last).count();
            if lines > FUNCTION_LINES {
                let what = format!("fn {name} has {lines} lines; at most {FUNCTION_LINES}");
                found.push(Violation::new(&source.path, first, what));
            }
        }
    }
    found
}

struct Bodies(Vec<(String, usize, usize)>);

impl Bodies {
    fn note(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let last = block.span().end().line;
        self.0.push((signature.ident.to_string(), block.span().start().line, last));
    }
}

impl<'ast> Visit<'ast> for Bodies {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.note(&item.sig, &item.block);
        syn::visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.note(&item.sig, &item.block);
        syn::visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.note(&item.sig, block);
        }
        syn::visit::visit_trait_item_fn(self, item);
    }
}

/// No struct, and no variant of an enum, with more than 15 fields.
pub(super) fn structs(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for source in &tree.sources {
        let mut wide = Wide { source, found: &mut found };
        wide.visit_file(&source.syntax);
    }
    found
}

struct Wide<'a> {
    source: &'a Source,
    found: &'a mut Vec<Violation>,
}

impl Wide<'_> {
    fn note(&mut self, name: &syn::Ident, fields: &syn::Fields) {
        if fields.len() > STRUCT_FIELDS {
            let what = format!("{name} has {} fields; at most {STRUCT_FIELDS}", fields.len());
            self.found.push(Violation::new(&self.source.path, name.span().start().line, what));
        }
    }
}

impl<'ast> Visit<'ast> for Wide<'_> {
    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.note(&item.ident, &item.fields);
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        self.note(&variant.ident, &variant.fields);
    }
}

/// `types` stays a vocabulary: at most 1,500 lines in all.
pub(super) fn vocabulary(tree: &Tree) -> Vec<Violation> {
    let ours = tree.sources.iter().filter(|source| source.package == "types");
    let lines: usize = ours.map(|source| source.text.lines().count()).sum();
    let over = lines > VOCABULARY_LINES;
    let what = format!("types has {lines} lines; at most {VOCABULARY_LINES}");
    over.then(|| Violation::new("crates/types/src/lib.rs", 1, what)).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::super::tree::Tree;
    use super::{files, functions, structs, vocabulary};

    #[test]
    fn long_files_are_found() {
        let fine = "// a line\n".repeat(800);
        assert_eq!(files(&Tree::of(&[("crates/x/src/a.rs", &fine)])).len(), 0);
        let long = "// a line\n".repeat(801);
        assert_eq!(files(&Tree::of(&[("crates/x/src/a.rs", &long)])).len(), 1);
    }

    #[test]
    fn long_functions_are_found_wherever_they_stand() {
        let body = |lines: usize| format!("{{\n{}}}", "go();\n\n// note\n".repeat(lines));
        let tree = |lines| {
            let text = format!(
                "fn a() {0}\nimpl X {{ fn b() {0} }}\ntrait Y {{ fn c() {0} }}\nfn d() {{ fn e() {0} }}",
                body(lines)
            );
            Tree::of(&[("crates/x/src/a.rs", text.as_str())])
        };
        assert_eq!(functions(&tree(60)).len(), 0);
        assert_eq!(functions(&tree(71)).len(), 5);
        let test = format!("#[test]\nfn a() {}", body(71));
        assert_eq!(functions(&Tree::of(&[("crates/x/src/a.rs", &test)])).len(), 0);
    }

    #[test]
    fn wide_structs_and_variants_are_found() {
        let fields: String = (0..16).map(|n| format!("f{n}: u8")).collect::<Vec<_>>().join(", ");
        let text = format!("struct A {{ {fields} }} enum B {{ C {{ {fields} }}, D }} struct E {{ a: u8 }}");
        assert_eq!(structs(&Tree::of(&[("crates/x/src/a.rs", &text)])).len(), 2);
    }

    #[test]
    fn a_growing_vocabulary_is_found() {
        let half = "// a line\n".repeat(751);
        let tree = Tree::of(&[("crates/types/src/a.rs", &half), ("crates/types/src/b.rs", &half)]);
        assert_eq!(vocabulary(&tree).len(), 1);
    }
}
