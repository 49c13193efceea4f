//! Which files the demo stores: those below `--input`, or the Rust sources
//! that the build just used. Sorted by path, so that two runs store the same.

use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::cli::DemoArgs;
use crate::failure::Failure;

/// A file to store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its key: the path below the input folder.
    pub key: Vec<u8>,
    /// Where it is.
    pub path: PathBuf,
    /// Its size when it was found.
    pub bytes: u64,
}

/// Collects files up to the limits of `args`.
///
/// # Errors
/// There are none.
pub fn collect(args: &DemoArgs) -> Result<Vec<Item>, Failure> {
    let (root, only_rust) = match &args.input {
        Some(root) => (root.clone(), false),
        None => (cargo_sources()?, true),
    };
    let max_bytes = u64::from(args.max_mib) << 20;
    let items = walk(&root, only_rust, args.max_files as usize, max_bytes);
    if items.is_empty() {
        return Err(Failure::new(format!("no files to store below {}", root.display()))
            .hint("name a folder with files with --input DIR"));
    }
    let bytes: u64 = items.iter().map(|item| item.bytes).sum();
    eprintln!("input: {} files, {} MiB, below {}", items.len(), bytes >> 20, root.display());
    Ok(items)
}

fn walk(root: &Path, only_rust: bool, max_files: usize, max_bytes: u64) -> Vec<Item> {
    let mut items = Vec::new();
    let mut total = 0;
    for entry in WalkDir::new(root).sort_by_file_name().into_iter().filter_map(Result::ok) {
        let is_wanted = entry.file_type().is_file()
            && (!only_rust || entry.path().extension().is_some_and(|extension| extension == "rs"));
        let Some(bytes) = entry.metadata().ok().map(|it| it.len()).filter(|_| is_wanted) else { continue };
        if bytes > trine_types::limits::MAX_VALUE_BYTES as u64 {
            continue;
        }
        if items.len() == max_files || total + bytes > max_bytes {
            break;
        }
        total += bytes;
        let below = entry.path().strip_prefix(root).unwrap_or(entry.path());
        let key = below.as_os_str().as_encoded_bytes().to_vec();
        items.push(Item { key, path: entry.into_path(), bytes });
    }
    items
}

fn cargo_sources() -> Result<PathBuf, Failure> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    let sources = home.map(|home| home.join("registry").join("src")).filter(|path| path.is_dir());
    sources.ok_or_else(|| {
        Failure::new("there is no Cargo registry with sources here")
            .hint("name a folder with files with --input DIR")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_and_order_is_fixed() {
        let dir = tempfile::tempdir().expect("temporary folder");
        std::fs::create_dir(dir.path().join("b")).expect("made");
        for name in ["b/x.rs", "a.rs", "c.txt"] {
            std::fs::write(dir.path().join(name), [0; 10]).expect("written");
        }
        let keys = |only_rust, files, bytes| -> Vec<_> {
            let items = walk(dir.path(), only_rust, files, bytes);
            items.into_iter().map(|item| String::from_utf8(item.key).expect("text")).collect()
        };
        assert_eq!(keys(false, 10, 100), ["a.rs", "b/x.rs", "c.txt"]);
        assert_eq!(keys(true, 10, 100), ["a.rs", "b/x.rs"]);
        assert_eq!(keys(false, 1, 100), ["a.rs"]);
        assert_eq!(keys(false, 10, 25), ["a.rs", "b/x.rs"]);
    }
}
