//! Tickets: a one-time (or n-time) right to be admitted. The cluster stores
//! what it needs to verify a joiner's proof, never the secret itself; expiry
//! is judged by state time alone, so that all replicas agree.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use trine_types::NodeId;

/// Most tickets that may be open at once; more are refused.
pub const MAX_TICKETS: usize = 256;
/// Most uses of one ticket.
pub const MAX_USES: u32 = 50;
/// Longest life of a ticket, in ms (7 days).
pub const MAX_LIFE_MS: u64 = 7 * 24 * 3600 * 1000;

/// Which ticket: a hash of its secret, so that joiner and cluster can name it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct TicketId(pub [u8; 8]);

/// One open ticket.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TicketRow {
    /// The key that a joiner's proof is verified with (a hash of the secret).
    pub verifier: [u8; 32],
    /// State time after which it is void.
    pub not_after_ms: u64,
    /// How many more nodes it admits.
    pub uses_left: u32,
    /// Whom it has admitted: their retries get the same answer.
    pub used_by: Vec<NodeId>,
}

/// Why a ticket is not issued or not honoured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
pub enum TicketRefused {
    /// No such ticket: never issued, or removed after its expiry.
    #[error(
        "the ticket is not known here: it was never issued by this cluster, or it expired; issue a fresh one"
    )]
    Unknown,
    /// It was used up.
    #[error("the ticket has been used already; issue a fresh one with `trine ticket`")]
    Used,
    /// Its time is over.
    #[error("the ticket has expired; issue a fresh one with `trine ticket`")]
    Expired,
    /// Too many tickets are open.
    #[error("{MAX_TICKETS} tickets are open already; wait until some expire")]
    TooMany,
    /// Life or uses are out of bounds.
    #[error("a ticket lives 1 s to 7 days and admits 1 to {MAX_USES} nodes")]
    OutOfBounds,
    /// Another ticket has the same id (its secret's hash): draw another secret.
    #[error("the ticket's id is taken; try again")]
    Taken,
}

/// The open tickets.
pub type Tickets = BTreeMap<TicketId, TicketRow>;

/// Issues a ticket that is valid for `life_ms` of state time; returns when it
/// expires.
///
/// # Errors
/// [`TicketRefused`]; nothing is issued.
pub fn issue(
    tickets: &mut Tickets,
    id: TicketId,
    verifier: [u8; 32],
    life_ms: u64,
    uses: u32,
    now_ms: u64,
) -> Result<u64, TicketRefused> {
    prune(tickets, now_ms);
    let not_after_ms = now_ms.saturating_add(life_ms);
    if let Some(open) = tickets.get(&id) {
        // The same request again (its first answer was lost) is no collision.
        let same = open.verifier == verifier && open.used_by.is_empty();
        return if same { Ok(open.not_after_ms) } else { Err(TicketRefused::Taken) };
    }
    if !(1000..=MAX_LIFE_MS).contains(&life_ms) || !(1..=MAX_USES).contains(&uses) {
        return Err(TicketRefused::OutOfBounds);
    }
    if tickets.len() >= MAX_TICKETS {
        return Err(TicketRefused::TooMany);
    }
    tickets.insert(id, TicketRow { verifier, not_after_ms, uses_left: uses, used_by: Vec::new() });
    Ok(not_after_ms)
}

/// Whether the ticket would admit `node` now.
///
/// # Errors
/// Why it would not.
pub fn check(tickets: &Tickets, id: TicketId, node: &NodeId, now_ms: u64) -> Result<(), TicketRefused> {
    let ticket = tickets.get(&id).ok_or(TicketRefused::Unknown)?;
    if now_ms > ticket.not_after_ms {
        return Err(TicketRefused::Expired);
    }
    if ticket.uses_left == 0 && !ticket.used_by.contains(node) {
        return Err(TicketRefused::Used);
    }
    Ok(())
}

/// Burns one use for `node`. Using it again from the same node is free: its
/// first answer may have been lost.
///
/// # Errors
/// Why the ticket does not admit; nothing is burnt.
pub fn burn(tickets: &mut Tickets, id: TicketId, node: NodeId, now_ms: u64) -> Result<(), TicketRefused> {
    check(tickets, id, &node, now_ms)?;
    let ticket = tickets.get_mut(&id).ok_or(TicketRefused::Unknown)?;
    if !ticket.used_by.contains(&node) {
        ticket.uses_left -= 1;
        ticket.used_by.push(node);
    }
    Ok(())
}

/// Forgets tickets whose time is over.
pub fn prune(tickets: &mut Tickets, now_ms: u64) {
    tickets.retain(|_, ticket| now_ms <= ticket.not_after_ms);
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: TicketId = TicketId([7; 8]);
    const ANN: NodeId = NodeId([1; 32]);
    const BOB: NodeId = NodeId([2; 32]);

    fn with_one(uses: u32) -> Tickets {
        let mut tickets = Tickets::new();
        assert_eq!(issue(&mut tickets, ID, [9; 32], 5_000, uses, 1_000), Ok(6_000));
        tickets
    }

    #[test]
    fn a_ticket_admits_once() {
        let mut tickets = with_one(1);
        assert_eq!(burn(&mut tickets, ID, ANN, 2_000), Ok(()));
        assert_eq!(burn(&mut tickets, ID, ANN, 2_500), Ok(()), "her answer was lost");
        assert_eq!(burn(&mut tickets, ID, BOB, 2_500), Err(TicketRefused::Used));
    }

    #[test]
    fn a_ticket_expires_by_state_time() {
        let mut tickets = with_one(1);
        assert_eq!(check(&tickets, ID, &ANN, 6_000), Ok(()));
        assert_eq!(burn(&mut tickets, ID, ANN, 6_001), Err(TicketRefused::Expired));
        prune(&mut tickets, 6_001);
        assert_eq!(check(&tickets, ID, &ANN, 6_001), Err(TicketRefused::Unknown));
    }

    #[test]
    fn uses_are_counted() {
        let mut tickets = with_one(2);
        assert_eq!(burn(&mut tickets, ID, ANN, 2_000), Ok(()));
        assert_eq!(burn(&mut tickets, ID, BOB, 2_000), Ok(()));
        assert_eq!(burn(&mut tickets, ID, NodeId([3; 32]), 2_000), Err(TicketRefused::Used));
    }

    #[test]
    fn bounds_are_kept() {
        let mut tickets = Tickets::new();
        assert_eq!(issue(&mut tickets, ID, [0; 32], 10, 1, 0), Err(TicketRefused::OutOfBounds));
        assert_eq!(issue(&mut tickets, ID, [0; 32], 5_000, 0, 0), Err(TicketRefused::OutOfBounds));
        for n in 0..MAX_TICKETS {
            let id = TicketId((n as u64).to_be_bytes());
            assert!(issue(&mut tickets, id, [0; 32], 5_000, 1, 0).is_ok());
        }
        assert_eq!(issue(&mut tickets, ID, [0; 32], 5_000, 1, 0), Err(TicketRefused::TooMany));
        assert_eq!(issue(&mut tickets, ID, [0; 32], 5_000, 1, 9_000), Ok(14_000), "the old ones expired");
    }
}
