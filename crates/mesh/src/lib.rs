//! The mesh: every node talks to every node, without a centre. Messages
//! between programs and nodes, by subject.
//!
//! Invariants:
//! - Messages of one sender reach one receiver in the order in which they were
//!   published; nothing is promised between senders.
//! - A message is delivered at most once to each subscription, to one member
//!   of each queue group, and crosses each link between nodes at most once:
//!   what came from another node is never passed on.
//! - Who cannot keep up slows its publishers down, for a bounded time; then it
//!   is cut off, and never the publisher.
//! - Nothing here is durable, and nothing here decides who owns anything.
//!
//! | file | what |
//! |---|---|
//! | [`members`] | who is there: SWIM and Lifeguard |
//! | [`message`] | messages, borrowed and kept |
//! | [`sublist`] | which subscriptions a subject matches |
//! | [`nats`] | the front door for clients of the NATS protocol |
//! | [`broadcast`] | to all over a partial view, for clusters larger than Trine's; simulated only |
//! | [`bus`] | subscriptions, publishers, receivers and their bounded outboxes |
//! | [`link`] | what two nodes tell each other, and how messages cross |
//! | `run` | the tasks: who is there, one flow to each other node |
//! | [`direct`] | messages to one node by its id |
//! | [`handle`] | [`Mesh`], what other rooms hold |
//! | [`planted`] | bugs that the simulator must catch |
//!
//! The rules of subjects are [`trine_types::subject`].

pub mod broadcast;
pub mod bus;
pub mod direct;
pub mod handle;
pub mod link;
pub mod members;
pub mod message;
pub mod nats;
pub mod planted;
mod run;
pub mod sublist;

pub use bus::outbox::{Outbox, OutboxClosed};
pub use bus::publisher::{Published, Publisher};
pub use bus::receiver::{Brake, HOLD_LIMIT, Receiver, Room, STALL_LIMIT};
pub use bus::subscriber::Subscriber;
pub use bus::{Attachment, Bus, SubId, SubscribeError};
pub use direct::DirectError;
pub use handle::{Mesh, Parts};
pub use message::{Kept, MAX_MESSAGE_BYTES, Message};
