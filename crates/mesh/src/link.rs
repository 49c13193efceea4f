//! Links: how two nodes tell each other what they want, and carry messages.
//!
//! A link is two one-way flows, each a row of calls on the request lane. A
//! flow carries, in one order, changes of what its sender wants and messages
//! that its receiver wanted: so a request never overtakes the interest in its
//! reply. What is acknowledged too slowly fills the sender's outbox, which
//! holds its publishers. A flow that breaks starts over with everything that
//! its sender wants; messages that were under way then are lost.
//!
//! | file | what |
//! |---|---|
//! | [`codec`] | frames |
//! | [`interest`] | which changes of interest still count, on both sides |
//! | `outgoing` | what waits for the other node |
//! | `incoming` | what came from it |

pub mod codec;
mod incoming;
pub mod interest;
mod outgoing;
#[cfg(test)]
mod stories;

pub(crate) use incoming::{Incoming, answer};
pub(crate) use outgoing::{Batch, Outgoing, Todo};
