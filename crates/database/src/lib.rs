//! The distributed database: strings and keys over partitions, taken by any
//! node, spoken to by Redis clients.
//!
//! Invariants:
//! - The rules are pure: time comes with the command, never from a clock; a
//!   read never decides by the wall clock whether a key has expired.
//!   atomic. MGET, MSET, DEL, UNLINK, EXISTS, TOUCH, DBSIZE and FLUSH over
//!   several partitions are atomic per partition only.
//! - Replies of a connection come in the order of its commands. Its reads see
//!   its earlier writes; on different partitions pipelined commands may run
//!   at the same time.
//! - Everything has a bound: arguments, values, keys, commands in flight,
//!   replies that wait, rows per step.
//!
//! | file | what |
//! |---|---|
//! | [`resp`] | the protocol: values, requests, encoding |
//! | [`table`] | the commands |
//! | [`slots`] | keys to slots to partitions |
//! | [`rows`], [`space`] | how a database lies in rows |
//! | [`rules`] | what commands do |
//! | [`codec`], [`machine`] | what travels to a partition, and what runs there |
//! | [`plan`] | which partitions execute what of a command |
//! | [`groups`] | the seam to the partitions |
//! | [`handle`], `run` | [`Database`], its tasks |
//! | [`session`], [`clients`] | connections |
//! | [`access`], [`acl`], `logins` | who may run what on which keys; ACL's words for it |
//! | [`transactions`] | MULTI, EXEC, WATCH on one partition |
//! | [`walks`], [`topology`], [`describe`], [`settings`], [`info`], [`measure`] | SCAN, CLUSTER, COMMAND, CONFIG, INFO |
//! | [`memory`] | partitions in memory, the twin of [`groups`] |
//! | [`replicated`] | partitions on replication |
//! | [`planted`] | bugs that the simulator must catch |

pub mod access;
pub mod acl;
pub mod args;
pub mod clients;
pub mod codec;
pub mod config;
pub mod describe;
pub mod error;
pub mod groups;
pub mod handle;
pub mod info;
mod logins;
pub mod machine;
pub mod measure;
pub mod memory;
pub mod plan;
pub mod planted;
pub mod replicated;
pub mod resp;
pub mod rows;
#[allow(clippy::missing_errors_doc, reason = "rules refuse as Redis does; Refusal says when")]
pub mod rules;
mod run;
pub mod session;
pub mod settings;
pub mod slots;
pub mod space;
pub mod table;
pub mod topology;
pub mod transactions;
pub mod walks;

pub use config::Config;
pub use groups::{Answered, Groups, Timing};
pub use handle::{Database, Parts};
pub use replicated::{ReplicatedGroups, partition_machine};
pub use run::TOO_MANY_CONNECTIONS;
pub use session::ConnectionState;
pub use topology::Topology;
