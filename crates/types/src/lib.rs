//! The vocabulary that every room of Trine shares: who a node is, which group
//! a command belongs to, how large anything may grow, and the seam through
//! which time and randomness enter.
//!
//! Invariants, stated as what is absent: no async, no IO, no clock of its own,
//! no randomness of its own, nothing that only one room needs.
//!
//! | file | what |
//! |---|---|
//! | [`glob`] | patterns of keys |
//! | [`id`] | node, cluster, group and incarnation ids |
//! | [`limits`] | the named bounds of the whole product |
//! | [`nkey`] | users' public keys as text |
//! | [`planted`] | the switch for bugs that the simulator must catch |
//! | [`rights`], [`rule`] | what a principal may do, and one line of it |
//! | [`seam`] | [`Clock`] and [`Entropy`], the only door for time and chance |
//! | [`subject`] | names that messages are published to, and filters over them |

pub mod glob;
pub mod id;
pub mod limits;
pub mod nkey;
pub mod planted;
pub mod rights;
pub mod rule;
pub mod seam;
pub mod subject;

pub use id::{ClusterId, GroupId, Incarnation, NodeId, NodeNumber};
pub use rights::Rights;
pub use rule::Rule;
pub use seam::{Clock, Entropy};
