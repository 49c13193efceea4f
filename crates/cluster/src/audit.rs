//! The audit log: who changed what of the cluster, and when by state time. It
//! is part of the state of `meta`, so it is as durable as what it tells of.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::command::Command;
use crate::state::MetaState;
use crate::users::Based;

/// So many actions are remembered; older ones make room.
pub const MAX_AUDIT: usize = 500;
/// Longest name of an actor and longest text of an action, in bytes.
pub const MAX_TEXT_BYTES: usize = 256;

/// One action.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AuditRow {
    /// State time.
    pub at_ms: u64,
    /// Who asked for it.
    pub who: String,
    /// What changed, in words; never a secret.
    pub what: String,
}

/// The actions, by their serial numbers.
pub type Audit = BTreeMap<u64, AuditRow>;

/// Notes an action.
pub fn note(audit: &mut Audit, at_ms: u64, who: &str, what: &str) {
    let serial = audit.last_key_value().map_or(1, |(last, _)| last + 1);
    audit.insert(serial, AuditRow { at_ms, who: cut(who), what: cut(what) });
    while audit.len() > MAX_AUDIT {
        audit.pop_first();
    }
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(MAX_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// What `command` will have changed of `state`, in words.
pub fn describe(state: &MetaState, command: &Command) -> String {
    let node = |number| match state.nodes.get(number) {
        Some(row) => format!("node {number} {}", row.name),
        None => format!("node {number}"),
    };
    match command {
        Command::IssueTicket { life_ms, uses, .. } => {
            format!("issued a ticket for {uses} nodes, good for {} s", life_ms / 1000)
        }
        Command::Leave { number } => format!("asked {} to leave", node(number)),
        Command::Stay { number } => format!("let {} stay", node(number)),
        Command::Remove { number, force: true } => format!("removed {} by force", node(number)),
        Command::Remove { number, force: false } => format!("removed {}", node(number)),
        Command::Recreate { groups } => format!("recreated {} lost groups, empty", groups.len()),
        Command::RaiseLevel { to } => format!("raised the feature level to {to}"),
        Command::RotateIssuer { .. } => "replaced the issuing key".to_owned(),
        Command::RetireIssuer { .. } => "retired an issuing key".to_owned(),
        Command::PutUser { name, based: Based::New, .. } => format!("added user {name}"),
        Command::PutUser { name, cut: true, .. } => format!("changed user {name} and voided its logins"),
        Command::PutUser { name, .. } => format!("changed user {name}"),
        Command::RemoveUser { name } => format!("removed user {name}"),
        Command::AddToken { name, .. } => format!("added token {name}"),
        Command::RotateToken { name, .. } => format!("replaced the secret of token {name}"),
        Command::RemoveToken { name } => format!("removed token {name}"),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_actions_make_room_and_numbers_go_on() {
        let mut audit = Audit::new();
        for n in 0..MAX_AUDIT as u64 + 7 {
            note(&mut audit, n, "ann", "did it");
        }
        assert_eq!(audit.len(), MAX_AUDIT);
        assert_eq!(audit.first_key_value().map(|(serial, _)| *serial), Some(8));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let mut audit = Audit::new();
        note(&mut audit, 1, "ann", &"ä".repeat(500));
        assert_eq!(audit[&1].what.len(), MAX_TEXT_BYTES);
        note(&mut audit, 1, "ann", &format!("x{}", "ä".repeat(500)));
        assert_eq!(audit[&2].what.len(), MAX_TEXT_BYTES - 1);
    }
}
