//! Broadcast over a partial view, for clusters that are too large for
//! connections between all: a machine without IO, clock or threads.
//!
//! Up to [`trine_types::limits::MAX_NODES`] nodes, which is what Trine is built
//! for, every node is connected to every other, and a message goes straight to
//! each: that is the bus, and this is not used. It stands here, simulated with
//! ten thousand members (`sim broadcast`), for the day on which clusters grow.
//! It has no bytes on a wire yet.
//!
//! Neighbours are kept as in `HyParView` (Leitão et al., DSN 2007): a small
//! symmetric active view, and a larger passive one from which lost neighbours
//! are replaced. Messages take a tree in it as in Plumtree (the same, SRDS
//! 2007): the whole message along the tree, its id along all other links, so
//! that who lost its place in the tree finds another.
//!
//! | file | what |
//! |---|---|
//! | [`message`] | what neighbours tell each other |
//! | [`views`] | the active and the passive view |
//! | [`tree`] | which links carry whole messages; what is missing |
//! | [`machine`] | [`Broadcast`]: events in, effects out |

pub mod machine;
pub mod message;
#[cfg(test)]
mod stories;
pub mod tree;
pub mod views;

pub use machine::{Broadcast, Effect};
pub use message::{Message, MessageId};
