//! Who may know whom. The tables are the architecture: an edge that is not
//! here needs a decision, not a patch.

use super::Violation;
use super::tree::Tree;

/// Every crate and what else of ours it may use. `types` is free for all.
/// A crate appears in the tree when work on it starts; its place is here before.
const EDGES: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("histogram", &[]),
    ("transport", &[]),
    ("front", &[]),
    ("storage", &[]),
    ("replication", &["storage", "transport"]),
    ("cluster", &["replication", "storage", "transport"]),
    ("mesh", SUBSTRATE),
    ("database", SUBSTRATE),
    ("compute", &["cluster", "front", "mesh", "replication", "storage", "transport"]),
    ("coordination", SUBSTRATE),
    ("discovery", &["cluster", "front", "mesh", "replication", "storage", "transport"]),
    ("files", &["cluster", "front", "mesh", "replication", "storage", "transport"]),
    ("s3", &["cluster", "files", "front", "replication", "storage", "transport"]),
    (
        "sql",
        &[
            "cluster",
            "compute",
            "database",
            "discovery",
            "files",
            "front",
            "replication",
            "storage",
            "transport",
        ],
    ),
    ("balancer", &["cluster", "discovery", "front", "replication", "storage", "transport"]),
    ("trine", EVERYTHING),
    ("sim", EVERYTHING),
    ("xtask", &[]),
];

const SUBSTRATE: &[&str] = &["cluster", "front", "replication", "storage", "transport"];
const EVERYTHING: &[&str] = &["*"];

/// A heavy dependency and the only rooms that may name it: replacing it then
/// is one room's work.
const HOMES: &[(&str, &[&str])] = &[
    ("argon2", &["cluster"]),
    ("fjall", &["storage"]),
    ("imbl", &["storage"]),
    ("openraft", &["replication"]),
    ("openraft-rt", &["replication"]),
    ("s3s", &["s3"]),
    ("datafusion", &["sql"]),
    ("datafusion-distributed", &["sql"]),
    ("clap", &["trine", "sim", "xtask"]),
    ("toml", &["trine", "xtask"]),
    ("rustls", &["transport", "front"]),
    ("tokio-rustls", &["transport", "front"]),
    ("rcgen", &["front"]),
    ("ring", &["transport"]),
    ("hyper", &["trine"]),
    ("hyper-util", &["trine"]),
    ("http-body-util", &["trine"]),
    ("prometheus-client", &["trine"]),
    ("schemars", &["trine"]),
    ("bcrypt", &["trine"]),
    ("landlock", &["compute"]),
    ("mimalloc", &["trine"]),
    ("tokio-tungstenite", &["mesh"]),
    ("indicatif", &["trine", "sim"]),
];

/// Dependencies that nobody may use, with what stands in for them.
const REFUSED: &[(&str, &str)] = &[
    ("anyhow", "each handle has its own error enum"),
    ("eyre", "each handle has its own error enum"),
    ("lazy_static", "std::sync::LazyLock, and only for constants"),
    ("once_cell", "std::sync::LazyLock, and only for constants"),
    ("crossbeam-channel", "tokio's bounded channels"),
    ("async-trait", "futures::future::BoxFuture in the signature"),
];

/// Every dependency between our crates is in [`EDGES`].
pub(super) fn edges(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (name, package) in &tree.packages {
        let Some((_, allowed)) = EDGES.iter().find(|(known, _)| known == name) else {
            found.push(Violation::new(&package.path, 1, format!("crate {name} has no place in the house")));
            continue;
        };
        for dependency in package.dependencies() {
            let ours = match dependency.strip_prefix("trine-") {
                Some(room) => room,
                None if matches!(dependency, "trine" | "sim" | "xtask") => dependency,
                None => continue,
            };
            let free = ours == "types" || *allowed == EVERYTHING || allowed.contains(&ours);
            if !free && ours != name {
                found.push(Violation::new(&package.path, 1, format!("{name} may not use {ours}")));
            }
        }
    }
    found
}

/// Heavy dependencies stay in their room; refused ones stay out.
pub(super) fn homes(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (name, package) in &tree.packages {
        for dependency in package.dependencies() {
            if let Some((_, homes)) = HOMES.iter().find(|(heavy, _)| *heavy == dependency)
                && !homes.contains(&name.as_str())
            {
                let what = format!("{dependency} lives in {} only", homes.join(", "));
                found.push(Violation::new(&package.path, 1, what));
            }
            if let Some((_, instead)) = REFUSED.iter().find(|(refused, _)| *refused == dependency) {
                found.push(Violation::new(&package.path, 1, format!("no {dependency}: {instead}")));
            }
        }
    }
    found
}

/// No cargo features of our own until someone is blocked: each doubles what
/// has to be tested.
pub(super) fn features(tree: &Tree) -> Vec<Violation> {
    let with = tree.packages.values().filter(|package| package.manifest.contains_key("features"));
    with.map(|package| Violation::new(&package.path, 1, "cargo features are not used here")).collect()
}

/// Versions, lints and edition come from the root manifest.
pub(super) fn workspace(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for package in tree.packages.values() {
        let inherits = |table: Option<&toml::Value>| {
            table.and_then(|value| value.get("workspace")).and_then(toml::Value::as_bool) == Some(true)
        };
        if !inherits(package.manifest.get("lints")) {
            found.push(Violation::new(&package.path, 1, "say [lints] workspace = true"));
        }
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(table) = package.manifest.get(section).and_then(toml::Value::as_table) else { continue };
            for (name, value) in table {
                if !inherits(Some(value)) {
                    let what = format!("{name}: take it from [workspace.dependencies]");
                    found.push(Violation::new(&package.path, 1, what));
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::tree::Tree;
    use super::{edges, features, homes, workspace};

    fn manifest(name: &str, rest: &str) -> Tree {
        Tree::of(&[(&format!("crates/{name}/Cargo.toml"), rest)])
    }

    #[test]
    fn a_room_may_not_look_up_or_sideways() {
        let using = |room: &str, other: &str| {
            edges(&manifest(room, &format!("[dependencies]\n{other}.workspace = true"))).len()
        };
        assert_eq!(using("cluster", "trine-replication"), 0);
        assert_eq!(using("storage", "trine-types"), 0);
        assert_eq!(using("trine", "trine-database"), 0);
        assert_eq!(using("storage", "trine-transport"), 1);
        assert_eq!(using("replication", "trine-cluster"), 1);
        assert_eq!(using("database", "trine-mesh"), 1);
        assert_eq!(using("attic", "bytes"), 1);
    }

    #[test]
    fn development_and_target_dependencies_count() {
        let development = "[dev-dependencies]\ntrine-cluster.workspace = true";
        assert_eq!(edges(&manifest("storage", development)).len(), 1);
        let target = "[target.'cfg(unix)'.dependencies]\ntrine-cluster.workspace = true";
        assert_eq!(edges(&manifest("storage", target)).len(), 1);
    }

    #[test]
    fn heavy_dependencies_stay_at_home() {
        let with = |room: &str, other: &str| {
            homes(&manifest(room, &format!("[dependencies]\n{other}.workspace = true"))).len()
        };
        assert_eq!(with("storage", "fjall"), 0);
        assert_eq!(with("database", "fjall"), 1);
        assert_eq!(with("cluster", "openraft"), 1);
        assert_eq!(with("trine", "anyhow"), 1);
    }

    #[test]
    fn features_and_local_versions_are_found() {
        assert_eq!(features(&manifest("types", "[features]\nfast = []")).len(), 1);
        assert_eq!(workspace(&manifest("types", "[lints]\nworkspace = true")).len(), 0);
        assert_eq!(workspace(&manifest("types", "[dependencies]\nbytes = \"1\"")).len(), 2);
    }
}
