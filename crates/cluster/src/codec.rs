//! Bytes of the `meta` group: commands, queries and answers on the wire and in
//! the log, and rows in the state.
//!
//! ```text
//! message   [version 1][postcard]
//! row       key                          value
//!           [0x01]                       [version 1][ClusterRow]
//!           [0x02][number: u64 BE]       [version 1][NodeRow]
//!           [0x03][ticket id: 8]         [version 1][TicketRow]
//!           [0x04][node key: 32]         [version 1][RevokedRow]
//!           [0x05][group: u32 BE]        [version 1][Assignment]
//!           [0x06][issuing key: 32]      [version 1][IssuerRow]
//!           [0x07][user: name]           [version 1][UserRow]
//!           [0x08][token: name]          [version 1][TokenRow]
//!           [0x09][serial: u64 BE]       [version 1][AuditRow]
//! ```
//! The first byte of a key is never 0x00: those rows are replication's.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use trine_types::{GroupId, NodeId, NodeNumber};

use crate::state::MetaState;
use crate::tickets::TicketId;

const VERSION: u8 = 1;

const CLUSTER: u8 = 0x01;
const NODE: u8 = 0x02;
const TICKET: u8 = 0x03;
const REVOKED: u8 = 0x04;
const ASSIGNMENT: u8 = 0x05;
const ISSUER: u8 = 0x06;
const USER: u8 = 0x07;
const TOKEN: u8 = 0x08;
const AUDIT: u8 = 0x09;

/// The key of the one row that every change touches.
pub const CLUSTER_KEY: &[u8] = &[CLUSTER];

/// Bytes that are not what they should be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// Written by a newer version, or not by this room at all.
    #[error("format version {0:?} is not {VERSION}")]
    Version(Option<u8>),
    /// The body does not decode as what it should be.
    #[error("not a {0}")]
    Malformed(&'static str),
    /// A row under a key that means nothing.
    #[error("no row has a key like {0:02x?}")]
    UnknownRow(Vec<u8>),
}

/// Encodes any message or row value.
pub fn encode<T: Serialize>(value: &T) -> Bytes {
    let bytes =
        postcard::to_extend(value, vec![VERSION]).expect("maps and strings of known length always encode");
    Bytes::from(bytes)
}

/// Decodes what [`encode`] made; `what` names it in the error.
///
/// # Errors
/// [`DecodeError`]: another version, or not a `what`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<T, DecodeError> {
    match bytes.split_first() {
        Some((&VERSION, body)) => match postcard::take_from_bytes(body) {
            Ok((value, [])) => Ok(value),
            _ => Err(DecodeError::Malformed(what)),
        },
        other => Err(DecodeError::Version(other.map(|(version, _)| *version))),
    }
}

fn key(kind: u8, rest: &[u8]) -> Bytes {
    let mut key = BytesMut::with_capacity(1 + rest.len());
    key.put_u8(kind);
    key.put_slice(rest);
    key.freeze()
}

fn node_key(number: NodeNumber) -> Bytes {
    key(NODE, &number.0.to_be_bytes())
}

fn ticket_key(id: TicketId) -> Bytes {
    key(TICKET, &id.0)
}

fn revoked_key(id: &NodeId) -> Bytes {
    key(REVOKED, &id.0)
}

fn assignment_key(group: GroupId) -> Bytes {
    key(ASSIGNMENT, &group.0.to_be_bytes())
}

fn issuer_key(issuer: &[u8; 32]) -> Bytes {
    key(ISSUER, issuer)
}

/// One row to write (`Some`) or to remove (`None`).
pub type RowChange = (Bytes, Option<Bytes>);

/// The rows that differ between two states.
pub fn changes(before: &MetaState, after: &MetaState) -> Vec<RowChange> {
    let mut changes = Vec::new();
    if before.cluster != after.cluster {
        changes.push((key(CLUSTER, &[]), after.cluster.as_ref().map(encode)));
    }
    diff(&before.nodes, &after.nodes, |n| node_key(*n), &mut changes);
    diff(&before.tickets, &after.tickets, |id| ticket_key(*id), &mut changes);
    diff(&before.revoked, &after.revoked, revoked_key, &mut changes);
    diff(&before.assignments, &after.assignments, |group| assignment_key(*group), &mut changes);
    diff(&before.issuers, &after.issuers, issuer_key, &mut changes);
    diff(&before.users, &after.users, |name| key(USER, name.as_bytes()), &mut changes);
    diff(&before.tokens, &after.tokens, |name| key(TOKEN, name.as_bytes()), &mut changes);
    diff(&before.audit, &after.audit, |serial| key(AUDIT, &serial.to_be_bytes()), &mut changes);
    changes
}

fn diff<K: Ord, V: PartialEq + Serialize>(
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
    key: impl Fn(&K) -> Bytes,
    changes: &mut Vec<RowChange>,
) {
    changes.extend(before.keys().filter(|k| !after.contains_key(k)).map(|k| (key(k), None)));
    let fresh = after.iter().filter(|(k, v)| before.get(k) != Some(v));
    changes.extend(fresh.map(|(k, v)| (key(k), Some(encode(v)))));
}

/// Rebuilds the state from all its rows.
///
/// # Errors
/// [`DecodeError`]: a row that this version cannot have written.
pub fn decode_rows<'a>(
    rows: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<MetaState, DecodeError> {
    let mut state = MetaState::default();
    for (key, value) in rows {
        let unknown = || DecodeError::UnknownRow(key.to_vec());
        let (kind, rest) = key.split_first().ok_or_else(unknown)?;
        match *kind {
            CLUSTER if rest.is_empty() => state.cluster = Some(decode(value, "cluster row")?),
            NODE => {
                let number = rest.try_into().map_err(|_| unknown())?;
                state.nodes.insert(NodeNumber(u64::from_be_bytes(number)), decode(value, "node row")?);
            }
            TICKET => {
                let id = rest.try_into().map_err(|_| unknown())?;
                state.tickets.insert(TicketId(id), decode(value, "ticket row")?);
            }
            REVOKED => {
                let id = rest.try_into().map_err(|_| unknown())?;
                state.revoked.insert(NodeId(id), decode(value, "revocation row")?);
            }
            ASSIGNMENT => {
                let group = rest.try_into().map_err(|_| unknown())?;
                state
                    .assignments
                    .insert(GroupId(u32::from_be_bytes(group)), decode(value, "assignment row")?);
            }
            ISSUER => {
                let issuer = rest.try_into().map_err(|_| unknown())?;
                state.issuers.insert(issuer, decode(value, "issuer row")?);
            }
            USER => {
                let name = String::from_utf8(rest.to_vec()).map_err(|_| unknown())?;
                state.users.insert(name, decode(value, "user row")?);
            }
            TOKEN => {
                let name = String::from_utf8(rest.to_vec()).map_err(|_| unknown())?;
                state.tokens.insert(name, decode(value, "token row")?);
            }
            AUDIT => {
                let serial = rest.try_into().map_err(|_| unknown())?;
                state.audit.insert(u64::from_be_bytes(serial), decode(value, "audit row")?);
            }
            _ => return Err(unknown()),
        }
    }
    Ok(state)
}

#[cfg(test)]
mod tests;
