//! The commands of cluster-aware clients.

use super::{Action, NO_KEYS, Spec, flag};

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "cluster",
        arity: -2,
        flags: flag::LOADING | flag::STALE,
        keys: NO_KEYS,
        action: Action::Walk,
        merge: None,
        group: "cluster",
        since: "3.0.0",
        summary: "Describes nodes, slots and partitions",
    },
    Spec {
        name: "readonly",
        arity: 1,
        flags: flag::LOADING | flag::STALE | flag::FAST,
        keys: NO_KEYS,
        action: Action::Session,
        merge: None,
        group: "cluster",
        since: "3.0.0",
        summary: "Accepted for cluster clients; reads are linearizable anyway",
    },
    Spec {
        name: "readwrite",
        arity: 1,
        flags: flag::LOADING | flag::STALE | flag::FAST,
        keys: NO_KEYS,
        action: Action::Session,
        merge: None,
        group: "cluster",
        since: "3.0.0",
        summary: "Undoes READONLY",
    },
];
