//! A log replayed outside a cluster: what the entries of a group make of an
//! empty state. A released version's logs must come to the digest that they
//! came to then (`sim/golden`), or its replicas would part during an upgrade.

use std::io;
use std::sync::Arc;

use trine_storage::{Keyspace, LogEntry};

use crate::apply::ApplyCore;
use crate::engine::entry::from_log;
use crate::machine::Machine;

/// Applies `entries`, a group's whole log from its first entry on, to
/// `keyspace` and returns the digest of the rows. `run` entries at most make
/// one transaction; the digest does not depend on it.
///
/// # Errors
/// When an entry cannot be decoded or the keyspace refuses; it is then as the
/// run before left it.
///
/// # Panics
/// When `run` is 0.
pub fn replay(
    machine: Arc<dyn Machine>,
    keyspace: Arc<dyn Keyspace>,
    entries: Vec<LogEntry>,
    run: usize,
) -> io::Result<u64> {
    assert!(run > 0, "a run has an entry");
    let entries = entries.into_iter().map(from_log).collect::<io::Result<Vec<_>>>()?;
    let mut core = ApplyCore::open(machine, keyspace)?;
    let mut rest = &entries[..];
    while !rest.is_empty() {
        let (applied, _) = core.apply_run(&rest[..run.min(rest.len())])?;
        assert!(!applied.is_empty(), "a run applies its first entry");
        rest = &rest[applied.len()..];
    }
    Ok(core.applied.digest)
}
