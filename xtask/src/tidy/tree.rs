//! The checkout, read and parsed once, so that a rule is a question about
//! tokens, items and manifests and never about files.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::process::Command;

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::Visit;

/// Why the checkout could not be read; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TreeError {
    #[error("{path}: {source}")]
    Read { path: String, source: io::Error },
    #[error("git ls-files: {0}")]
    Git(io::Error),
    #[error("{path}:{line}: not Rust: {what}")]
    Rust { path: String, line: usize, what: String },
    #[error("{path}: not TOML: {what}")]
    Toml { path: String, what: String },
}

/// Everything that rules look at.
pub(crate) struct Tree {
    /// Every crate of the workspace, by folder name.
    pub(crate) packages: BTreeMap<String, Package>,
    /// Every Rust file, by path.
    pub(crate) sources: Vec<Source>,
    /// The root manifest.
    pub(crate) workspace: toml::Table,
    /// Markdown and other text files, by path.
    pub(crate) documents: BTreeMap<String, String>,
}

/// A crate of the workspace.
pub(crate) struct Package {
    /// `crates/types/Cargo.toml`
    pub(crate) path: String,
    pub(crate) manifest: toml::Table,
}

impl Package {
    /// Names in all dependency tables, development included.
    pub(crate) fn dependencies(&self) -> BTreeSet<&str> {
        let mut tables = vec![&self.manifest];
        if let Some(targets) = self.manifest.get("target").and_then(toml::Value::as_table) {
            tables.extend(targets.values().filter_map(toml::Value::as_table));
        }
        let sections = ["dependencies", "dev-dependencies", "build-dependencies"];
        tables
            .iter()
            .flat_map(|table| sections.iter().filter_map(|section| table.get(*section)?.as_table()))
            .flat_map(|table| table.keys().map(String::as_str))
            .collect()
    }
}

/// A Rust file.
pub(crate) struct Source {
    /// Relative to the root, with `/`.
    pub(crate) path: String,
    /// Folder name of its crate.
    pub(crate) package: String,
    /// Under `crates/*/src`.
    pub(crate) product: bool,
    /// The same, but not the binary's.
    pub(crate) library: bool,
    pub(crate) text: String,
    pub(crate) syntax: syn::File,
    pub(crate) tokens: Vec<Token>,
}

/// One token, or one delimiter of a group.
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
    /// Compiled for tests only.
    pub(crate) test: bool,
}

impl Source {
    /// Indexes of tokens where `pattern` (words separated by spaces; operators
    /// one character each) starts, e.g. `". unwrap ("`.
    pub(crate) fn find<'a>(&'a self, pattern: &str) -> impl Iterator<Item = usize> + use<'a> {
        let words: Vec<String> = pattern.split(' ').map(str::to_owned).collect();
        let last = (self.tokens.len() + 1).saturating_sub(words.len());
        (0..last).filter(move |start| {
            words.iter().zip(&self.tokens[*start..]).all(|(word, token)| *word == token.text)
        })
    }

    /// Lines of production code (not tests) where `pattern` starts.
    pub(crate) fn production<'a>(&'a self, pattern: &str) -> impl Iterator<Item = usize> + use<'a> {
        self.find(pattern).filter(|at| !self.tokens[*at].test).map(|at| self.tokens[at].line)
    }

    /// The comment on `line` and on the comment lines right above it.
    pub(crate) fn comment_at(&self, line: usize) -> String {
        let lines: Vec<&str> = self.text.lines().take(line).collect();
        let (own, above) = lines.split_last().unwrap_or((&"", &[]));
        let own = own.split_once("//").map(|(_, comment)| comment);
        let above = above.iter().rev().map(|text| text.trim_start());
        let above = above.take_while(|text| text.starts_with("//") || text.starts_with("#["));
        above.chain(own).collect::<Vec<_>>().join(" ")
    }

    /// `run` for `crates/x/src/run.rs`.
    pub(crate) fn stem(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs")
    }
}

impl Tree {
    /// Reads what git knows or would add below `root`.
    pub(crate) fn load(root: &Path) -> Result<Self, TreeError> {
        let listed = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(root)
            .output()
            .map_err(TreeError::Git)?;
        if !listed.status.success() {
            let what = String::from_utf8_lossy(&listed.stderr).trim().to_owned();
            return Err(TreeError::Git(io::Error::other(what)));
        }
        let mut files = BTreeMap::new();
        for path in String::from_utf8_lossy(&listed.stdout).split('\0') {
            let ending = Path::new(path).extension().and_then(|ending| ending.to_str());
            if !matches!(ending, Some("rs" | "toml" | "md")) || !root.join(path).exists() {
                continue;
            }
            let text = std::fs::read_to_string(root.join(path))
                .map_err(|source| TreeError::Read { path: path.to_owned(), source })?;
            files.insert(path.to_owned(), text);
        }
        Self::parse(files)
    }

    /// Parses files given by path.
    pub(crate) fn parse(files: BTreeMap<String, String>) -> Result<Self, TreeError> {
        let mut tree = Self {
            packages: BTreeMap::new(),
            sources: Vec::new(),
            workspace: toml::Table::new(),
            documents: BTreeMap::new(),
        };
        for (path, text) in files {
            if path == "Cargo.toml" {
                tree.workspace = parse_toml(&path, &text)?;
            } else if let Some(folder) = path.strip_suffix("/Cargo.toml") {
                let name = folder.rsplit('/').next().unwrap_or(folder).to_owned();
                let manifest = parse_toml(&path, &text)?;
                tree.packages.insert(name, Package { path, manifest });
            } else if Path::new(&path).extension().is_some_and(|ending| ending == "rs") {
                tree.sources.push(parse_rust(path, text)?);
            } else {
                tree.documents.insert(path, text);
            }
        }
        tree.mark_test_files();
        Ok(tree)
    }

    /// A file declared as `#[cfg(test)] mod name;` is a test file as a whole.
    fn mark_test_files(&mut self) {
        let mut folders = BTreeSet::new();
        for source in &self.sources {
            for item in &source.syntax.items {
                let syn::Item::Mod(module) = item else { continue };
                if module.content.is_none() && module.attrs.iter().any(is_test_attribute) {
                    folders.insert(module_folder(&source.path) + &module.ident.to_string());
                }
            }
        }
        for source in &mut self.sources {
            let stem = source.path.trim_end_matches(".rs").trim_end_matches("/mod");
            let inside = folders.iter().any(|folder| {
                stem == folder || stem.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
            });
            if inside {
                source.tokens.iter_mut().for_each(|token| token.test = true);
            }
        }
    }

    /// A tree for a rule's own tests; a file under `crates/` gets a doc line
    /// and its crate a manifest unless given.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
        Self::parse(files.collect()).unwrap()
    }
}

/// Where the child modules of the file at `path` live, with a trailing `/`.
fn module_folder(path: &str) -> String {
    let stem = path.trim_end_matches(".rs");
    let (folder, name) = stem.rsplit_once('/').unwrap_or(("", stem));
    if matches!(name, "lib" | "main" | "mod") { format!("{folder}/") } else { format!("{stem}/") }
}

fn parse_toml(path: &str, text: &str) -> Result<toml::Table, TreeError> {
    text.parse()
        .map_err(|error: toml::de::Error| TreeError::Toml { path: path.to_owned(), what: error.to_string() })
}

fn parse_rust(path: String, text: String) -> Result<Source, TreeError> {
    let broken = |error: syn::Error| TreeError::Rust {
        path: path.clone(),
        line: error.span().start().line,
        what: error.to_string(),
    };
    let syntax = syn::parse_file(&text).map_err(broken)?;
    let stream: TokenStream = text.parse().map_err(|error: proc_macro2::LexError| broken(error.into()))?;
    let mut tokens = Vec::new();
    flatten(stream, &mut tokens);
    let mut tests = TestLines::default();
    tests.visit_file(&syntax);
    let whole = path.contains("/tests/") || path.ends_with("/tests.rs") || path.contains("/benches/");
    for token in &mut tokens {
        token.test = whole || tests.0.iter().any(|(first, last)| (*first..=*last).contains(&token.line));
    }
    let mut parts = path.split('/');
    let first = parts.next().unwrap_or_default();
    let package = if first == "crates" { parts.next().unwrap_or_default() } else { first }.to_owned();
    let product = first == "crates" && parts.next() == Some("src");
    let library = product && package != "trine";
    Ok(Source { path, package, product, library, text, syntax, tokens })
}

fn flatten(stream: TokenStream, out: &mut Vec<Token>) {
    let token = |text: &str, span: proc_macro2::Span| Token {
        text: text.to_owned(),
        line: span.start().line,
        test: false,
    };
    for tree in stream {
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                out.push(token(open, group.span_open()));
                flatten(group.stream(), out);
                out.push(token(close, group.span_close()));
            }
            TokenTree::Ident(ident) => out.push(token(&ident.to_string(), ident.span())),
            TokenTree::Punct(punct) => out.push(token(&punct.as_char().to_string(), punct.span())),
            TokenTree::Literal(literal) => out.push(token(&literal.to_string(), literal.span())),
        }
    }
}

/// First and last line of every item that only tests compile.
#[derive(Default)]
struct TestLines(Vec<(usize, usize)>);

impl TestLines {
    fn note(&mut self, attributes: &[syn::Attribute], item: &impl Spanned) {
        if attributes.iter().any(is_test_attribute) {
            let span = item.span();
            self.0.push((span.start().line, span.end().line));
        }
    }
}

impl<'ast> Visit<'ast> for TestLines {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        match item {
            syn::Item::Mod(inner) => self.note(&inner.attrs, inner),
            syn::Item::Fn(inner) => self.note(&inner.attrs, inner),
            syn::Item::Impl(inner) => self.note(&inner.attrs, inner),
            syn::Item::Use(inner) => self.note(&inner.attrs, inner),
            syn::Item::Struct(inner) => self.note(&inner.attrs, inner),
            syn::Item::Macro(inner) => {
                self.note(&inner.attrs, inner);
                // proptest! holds nothing but tests.
                if inner.mac.path.is_ident("proptest") {
                    self.0.push((inner.span().start().line, inner.span().end().line));
                }
            }
            _ => {}
        }
        syn::visit::visit_item(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.note(&item.attrs, item);
        syn::visit::visit_impl_item_fn(self, item);
    }
}

/// `#[test]`, `#[tokio::test]`, `#[cfg(test)]`, `#[cfg(any(test, ...))]`.
fn is_test_attribute(attribute: &syn::Attribute) -> bool {
    if attribute.path().segments.last().is_some_and(|segment| segment.ident == "test") {
        return true;
    }
    let syn::Meta::List(list) = &attribute.meta else { return false };
    attribute.path().is_ident("cfg") && !list.tokens.to_string().contains("not (") && {
        let mut tokens = Vec::new();
        flatten(list.tokens.clone(), &mut tokens);
        tokens.iter().any(|token| token.text == "test")
    }
}

#[cfg(test)]
mod tests {
    use super::Tree;

    #[test]
    fn test_code_is_told_from_production_code() {
        let tree = Tree::of(&[
            ("crates/x/src/lib.rs", "mod a; #[cfg(test)] mod stories;"),
            ("crates/x/src/a.rs", "fn f() { x.go(); }\n#[cfg(test)]\nmod tests {\n fn g() { x.go(); }\n}"),
            ("crates/x/src/stories.rs", "fn f() { x.go(); }"),
            ("crates/x/src/stories/late.rs", "fn f() { x.go(); }"),
            ("crates/x/tests/a.rs", "fn f() { x.go(); }"),
        ]);
        let found: Vec<_> = tree
            .sources
            .iter()
            .flat_map(|source| source.production(". go (").map(|line| (source.path.as_str(), line)))
            .collect();
        assert_eq!(found, [("crates/x/src/a.rs", 1)]);
    }

    #[test]
    fn a_comment_counts_on_its_line_or_right_above() {
        let text = "// why\nfn f() {}\nfn g() {} // because\n\nfn h() {}";
        let tree = Tree::of(&[("crates/x/src/a.rs", text)]);
        let comment = |line| tree.sources[0].comment_at(line);
        assert!(comment(2).contains("why"));
        assert!(comment(3).contains("because") && !comment(3).contains("why"));
        assert_eq!(comment(5), "");
    }
}
