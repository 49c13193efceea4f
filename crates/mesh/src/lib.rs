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
//! The subject rules are [`trine_types::subject`].
