//! The cluster: the `meta` group, which every node follows, and what every
//! node does because of it.
//!
//! Invariants:
//! - Only what is in the log of `meta` decides who belongs and who holds what;
//!   everything else (who answers, who leads) only chooses the moment.
//! - A node's number, once given, never means another node.
//! - A login is void once its user or token is removed, replaced or expired.
//! - A ticket admits no more nodes than it says, whatever is retried.
//! - Two processes with one identity: at most one goes on.
//! - A change of a group's members is in flight until its leader settles it;
//!   a replica is destroyed only when `meta` says that it is in none.
//!
//! | file | what |
//! |---|---|
//! | [`nodes`] | admitted nodes: names, addresses, incarnations |
//! | [`tickets`] | tickets: issue, burn, expiry |
//! | [`users`], [`passwords`] | who may log in, by which proofs, with which rights |
//! | [`tokens`] | secrets with rights of their own |
//! | [`audit`] | who changed what |
//! | [`assignments`] | who should hold a group, who does |
//! | [`placement`] | who should, as a pure function |
//! | [`state`] | everything `meta` knows, and the rules that change it |
//! | [`command`], [`codec`] | commands, queries, answers, rows and their bytes |
//! | [`controller`] | what the cluster should change next |
//! | [`reconcile`] | what one node must do to follow `meta` |
//! | [`directory`], [`membership`] | the node's files; founding, joining, certificates |
//! | [`machine`] | the rules as the machine of group `meta` |
//! | [`start`] | the order in which a node comes up |
//! | `run` | the agent: one task per node that follows `meta` |
//! | [`handle`] | [`Cluster`], what other rooms hold |
//! | [`logins`] | the same: changing who may log in |
//! | [`status`], [`recover`] | what people see; going on after a lost majority |
//! | [`calls`], `join`, `context` | what nodes ask each other |
//! | [`config`], [`error`] | settings and errors |

pub mod assignments;
pub mod audit;
pub mod calls;
pub mod codec;
pub mod command;
pub mod config;
mod context;
pub mod controller;
pub mod directory;
pub mod error;
pub mod handle;
mod join;
pub mod logins;
pub mod machine;
pub mod membership;
pub mod nodes;
pub mod passwords;
pub mod placement;
pub mod reconcile;
pub mod recover;
mod run;
pub mod start;
pub mod state;
pub mod status;
#[cfg(test)]
mod stories;
pub mod tickets;
pub mod tokens;
pub mod users;

pub use config::{ClusterConfig, Settings};
pub use context::MachineFactory;
pub use directory::{Directory, DirectoryError};
pub use error::{ClusterError, Fatal, StartError};
pub use handle::Cluster;
pub use start::{Doors, Parts, enter};
pub use state::MetaState;
